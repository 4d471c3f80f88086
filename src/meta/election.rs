//! Who leads a partition, and what follows for its ISR and ELR.
//!
//! The rules are those of Kafka's `PartitionChangeBuilder` with eligible leader replicas (KIP-966), with three
//! differences. A replica of the ELR leads only where none of the ISR can, since the ISR would be given up for it. The
//! last one that has everything stays in the ELR even if it may have lost records, where Kafka notes it apart as the
//! last known leader: nobody has more than it. And an ELR that is not needed any more is empty at once, not with the
//! next change.
//!
//! What holds the ELR up is on the data's side: while the ISR is below [`LeaderRules::isr_floor`] no high watermark
//! moves, so whoever leaves the ISR then has everything that was ever shown or acknowledged to all.
//!
//! *Owns*: the choice of leaders, and the epochs of every change. *Never*: changes the image. *Runs on*: core 0.

use super::controller::{MetaError, refuse};
use super::fleet::Fleet;
use super::image::{Image, Topic};
use super::partition_state::{PartitionParts, PartitionState};
use super::record::MetaRecord;
use crate::base::bug::{self, Bug};
use crate::base::ids::{LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex};
use crate::config::{Overrides, Settings, TopicSettings};
use crate::wire::errors::ErrorCode;

/// What a topic's settings say of its leaders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderRules {
    pub min_isr: usize,
    /// Whether somebody may lead who lacks records, when nobody else can.
    pub unclean: bool,
}

impl LeaderRules {
    pub fn of(topic: &Topic, settings: &Settings) -> LeaderRules {
        let own = ["min.insync.replicas", "unclean.leader.election.enable"];
        if own.iter().any(|name| topic.settings.contains_key(*name)) {
            return LeaderRules::of_overrides(&topic.settings, settings);
        }
        LeaderRules::new(settings.min_insync_replicas, settings.unclean_leader_election_enable)
    }

    /// As a topic with these settings of its own has them.
    pub fn of_overrides(overrides: &Overrides, settings: &Settings) -> LeaderRules {
        let settings = TopicSettings::in_force(settings, overrides);
        LeaderRules::new(settings.min_insync_replicas, settings.unclean_leader_election_enable)
    }

    fn new(min_isr: i32, unclean: bool) -> LeaderRules {
        LeaderRules { min_isr: usize::try_from(min_isr).unwrap_or(1), unclean }
    }

    /// With fewer than so many in sync the high watermark stands still.
    pub fn isr_floor(self, replicas: usize) -> usize {
        self.min_isr.min(replicas)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Election {
    /// Whoever leads goes on, if it can.
    Online,
    /// The first replica leads, if it can.
    Preferred,
    /// As online; and somebody who lacks records leads before nobody does.
    Unclean,
}

/// Checks an election that somebody asks for, as `ReplicationControlManager.electLeader` does.
pub fn plan_election(
    fleet: Fleet<'_>,
    topic: &str,
    partition: PartitionIndex,
    election: Election,
    settings: &Settings,
) -> Result<Vec<MetaRecord>, MetaError> {
    let (topic, before) = partition_of(fleet.image, topic, partition)?;
    let is_needed = match election {
        Election::Preferred => before.leader() != Some(before.preferred_leader()),
        Election::Online | Election::Unclean => before.leader().is_none(),
    };
    if !is_needed {
        return refuse(ErrorCode::ElectionNotNeeded, "The partition has the leader it should have.");
    }
    let draft = Draft { election, ..Draft::of(before) };
    match draft.finish(Electorate::of(fleet), LeaderRules::of(topic, settings)) {
        Some(state) if state.leader() != before.leader() => Ok(vec![changed(topic, partition, state)]),
        _ if election == Election::Preferred => {
            let message = format!("Broker {} is not in sync, or not there.", before.preferred_leader());
            refuse(ErrorCode::PreferredLeaderNotAvailable, message)
        }
        _ => refuse(ErrorCode::EligibleLeadersNotAvailable, "No broker that has the partition is there."),
    }
}

/// Leaders for partitions that have none and could have one: also what a controller looks at first, since the one
/// before it may not have come to it.
pub fn plan_leaderless(fleet: Fleet<'_>, settings: &Settings) -> Vec<MetaRecord> {
    let leaderless = |state: &PartitionState| state.leader().is_none();
    changes(Electorate::of(fleet), |topic| LeaderRules::of(topic, settings), leaderless, |_| {})
}

/// What follows where the rules of topics change to these: an ELR that the ISR does not need any more is none, since
/// the high watermark moves again.
pub(super) fn follow_rules(fleet: Fleet<'_>, rules: impl Fn(&Topic) -> LeaderRules) -> Vec<MetaRecord> {
    let eligible = |state: &PartitionState| state.elr().next().is_some();
    changes(Electorate::of(fleet), rules, eligible, |_| {})
}

/// Partitions as they are when `node` is to lead nothing and to be in no ISR. `has_lost`: it may lack records that it
/// had, so that it is not eligible either.
pub(super) fn leave(fleet: Fleet<'_>, node: NodeId, has_lost: bool, settings: &Settings) -> Vec<MetaRecord> {
    let electorate = Electorate { without: Some(node), ..Electorate::of(fleet) };
    let concerned = |state: &PartitionState| state.in_isr(node) || (has_lost && state.in_elr(node));
    changes(
        electorate,
        |topic| LeaderRules::of(topic, settings),
        concerned,
        |draft| {
            draft.target.isr.retain(|member| *member != node);
            draft.lost = has_lost.then_some(node);
        },
    )
}

/// Partitions as they are when `node` may lead what nobody leads.
pub(super) fn arrive(fleet: Fleet<'_>, node: NodeId, settings: &Settings) -> Vec<MetaRecord> {
    let electorate = Electorate { with: Some(node), ..Electorate::of(fleet) };
    let leaderless = |state: &PartitionState| state.leader().is_none() && state.has_replica(node);
    changes(electorate, |topic| LeaderRules::of(topic, settings), leaderless, |_| {})
}

/// Edits every partition concerned, and says what follows.
fn changes(
    electorate: Electorate<'_>,
    rules: impl Fn(&Topic) -> LeaderRules,
    concerned: impl Fn(&PartitionState) -> bool,
    edit: impl Fn(&mut Draft<'_>),
) -> Vec<MetaRecord> {
    let mut records = Vec::new();
    for topic in electorate.fleet.image.topics_by_id() {
        let mut states = topic.states().filter(|(_, state)| concerned(state)).peekable();
        if states.peek().is_none() {
            continue;
        }
        let rules = rules(topic);
        for (partition, before) in states {
            let mut draft = Draft::of(before);
            edit(&mut draft);
            records.extend(draft.finish(electorate, rules).map(|state| changed(topic, partition, state)));
        }
    }
    records
}

pub(super) fn changed(topic: &Topic, partition: PartitionIndex, state: PartitionState) -> MetaRecord {
    MetaRecord::PartitionChanged { topic: topic.id, partition, state }
}

pub(super) fn partition_of<'a>(
    image: &'a Image,
    topic: &str,
    partition: PartitionIndex,
) -> Result<(&'a Topic, &'a PartitionState), MetaError> {
    let Some(found) = image.topic(topic) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("There is no topic '{topic}'."));
    };
    match found.state(partition) {
        Some(state) => Ok((found, state)),
        None => refuse(ErrorCode::UnknownTopicOrPartition, format!("Topic '{topic}' has no partition {partition}.")),
    }
}

/// Who may lead.
#[derive(Clone, Copy)]
pub(super) struct Electorate<'a> {
    fleet: Fleet<'a>,
    /// About to go, though the image does not know yet.
    without: Option<NodeId>,
    /// About to be there.
    with: Option<NodeId>,
}

impl<'a> Electorate<'a> {
    pub fn of(fleet: Fleet<'a>) -> Electorate<'a> {
        Electorate { fleet, without: None, with: None }
    }

    fn may_lead(self, node: NodeId) -> bool {
        self.without != Some(node) && (self.with == Some(node) || self.fleet.is_active(node))
    }
}

/// A change of one partition, until everything that follows from it is clear.
pub(super) struct Draft<'a> {
    before: &'a PartitionState,
    /// Replicas, ISR, those being added and removed: as they are wanted. The rest follows.
    pub target: PartitionParts,
    pub election: Election,
    /// A replica that may lack records it had.
    pub lost: Option<NodeId>,
}

impl<'a> Draft<'a> {
    pub fn of(before: &'a PartitionState) -> Draft<'a> {
        Draft { before, target: before.parts(), election: Election::Online, lost: None }
    }

    /// The state afterwards, if it is another.
    pub fn finish(mut self, electorate: Electorate<'_>, rules: LeaderRules) -> Option<PartitionState> {
        self.complete_move();
        self.note_eligible(rules);
        self.elect(electorate, rules);
        // Who was elected from outside the ISR may be the one that was awaited.
        if self.complete_move() {
            self.trim_eligible(rules);
            self.elect(electorate, rules);
        }
        self.numbered()
    }

    /// `PartitionReassignmentReplicas.maybeCompleteReassignment`: all that are added are in sync, so that those that
    /// are removed can go.
    fn complete_move(&mut self) -> bool {
        let target = &mut self.target;
        if target.adding.is_empty() && target.removing.is_empty() {
            return false;
        }
        let stays = |node: &NodeId| !target.removing.contains(node);
        let isr: Vec<NodeId> = target.isr.iter().copied().filter(stays).collect();
        if isr.is_empty() || !target.adding.iter().all(|node| isr.contains(node)) {
            return false;
        }
        target.replicas.retain(stays);
        target.elr.retain(stays);
        target.isr = isr;
        target.adding.clear();
        target.removing.clear();
        true
    }

    /// `maybePopulateTargetElr`.
    fn note_eligible(&mut self, rules: LeaderRules) {
        let target = &mut self.target;
        for node in self.before.isr() {
            if !target.elr.contains(&node) {
                target.elr.push(node);
            }
        }
        let had_all = target.elr.clone();
        target.elr.retain(|node| Some(*node) != self.lost);
        if target.isr.is_empty() && target.elr.is_empty() {
            target.elr = had_all;
        }
        self.trim_eligible(rules);
    }

    /// Nobody is eligible beside an ISR that is large enough, or without being a replica out of sync.
    fn trim_eligible(&mut self, rules: LeaderRules) {
        let target = &mut self.target;
        if target.isr.len() >= rules.isr_floor(target.replicas.len()) {
            target.elr.clear();
        }
        target.elr.retain(|node| target.replicas.contains(node) && !target.isr.contains(node));
    }

    fn elect(&mut self, electorate: Electorate<'_>, rules: LeaderRules) {
        let target = &mut self.target;
        let can = |node: &NodeId| target.isr.contains(node) && electorate.may_lead(*node);
        let preferred = target.replicas.first().copied().filter(|_| self.election == Election::Preferred);
        let in_sync = preferred.filter(can).or(target.leader.filter(can));
        let in_sync = in_sync.or_else(|| target.replicas.iter().copied().find(can));
        if in_sync.is_some() {
            target.leader = in_sync;
            return;
        }
        let mut there = target.replicas.iter().copied().filter(|node| electorate.may_lead(*node));
        if let Some(eligible) = there.clone().find(|node| target.elr.contains(node)) {
            target.elr.append(&mut target.isr);
            target.isr = vec![eligible];
            target.leader = Some(eligible);
            return self.trim_eligible(rules);
        }
        target.leader = there
            .next()
            .filter(|_| rules.unclean || self.election == Election::Unclean || bug::on(Bug::ElectOutsideIsr));
        if let Some(unclean) = target.leader {
            target.isr = vec![unclean];
            target.elr.clear();
        }
    }

    fn numbered(mut self) -> Option<PartitionState> {
        let sound = |parts: &PartitionParts| PartitionState::new(parts).expect("a draft keeps to what a state may be");
        let (before, target) = (self.before, &mut self.target);
        if sound(target) == *before {
            return None;
        }
        let drops_replica = !before.replicas().iter().all(|node| target.replicas.contains(node));
        if target.leader != before.leader() || drops_replica {
            target.leader_epoch = LeaderEpoch(next(before.leader_epoch().0));
        }
        target.partition_epoch = PartitionEpoch(next(before.partition_epoch().0));
        Some(sound(target))
    }
}

fn next(epoch: i32) -> i32 {
    epoch.checked_add(1).expect("31 bits of epochs are not used up")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cluster, nodes, only_change, parts};
    use super::*;

    /// Of a partition on 1, 2 and 3, of which those `gone` are fenced: who leads then, and ISR and ELR.
    fn check(
        isr: &[i32],
        elr: &[i32],
        gone: &[i32],
        election: Election,
        expect: Result<(i32, &[i32], &[i32]), ErrorCode>,
    ) {
        let settings = Settings { min_insync_replicas: 2, ..Settings::default() };
        let mut image = cluster(3, &[parts(&[1, 2, 3], isr, elr)]);
        for id in nodes(gone) {
            image.apply(&MetaRecord::BrokerFenced { id }).expect("there");
        }
        match (plan_election(Fleet::of(&image, NodeId(1)), "t", PartitionIndex(0), election, &settings), expect) {
            (Ok(records), Ok((leader, isr, elr))) => {
                let after = only_change(&records);
                assert_eq!((after.leader, after.isr, after.elr), (Some(NodeId(leader)), nodes(isr), nodes(elr)));
                assert_eq!((after.leader_epoch.0, after.partition_epoch.0), (6, 7));
            }
            (Err(error), Err(code)) => assert_eq!(error.code, code, "{error}"),
            (got, expect) => panic!("{isr:?} {elr:?}: {got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn leaders_are_elected_or_not_as_in_kafka() {
        use Election::{Preferred, Unclean};
        use ErrorCode::{ElectionNotNeeded, EligibleLeadersNotAvailable, PreferredLeaderNotAvailable};
        check(&[2, 1], &[], &[], Preferred, Ok((1, &[1, 2], &[])));
        check(&[1, 2], &[], &[], Preferred, Err(ElectionNotNeeded));
        check(&[2, 3], &[], &[], Preferred, Err(PreferredLeaderNotAvailable));
        check(&[2, 1], &[], &[], Unclean, Err(ElectionNotNeeded));
        check(&[], &[3, 2], &[], Unclean, Ok((2, &[2], &[3])));
        check(&[], &[3], &[3], Unclean, Ok((1, &[1], &[])));
        check(&[], &[1], &[1, 2, 3], Unclean, Err(EligibleLeadersNotAvailable));
        check(&[], &[1], &[1], Preferred, Err(PreferredLeaderNotAvailable));
    }

    #[test]
    fn an_unclean_leader_is_elected_by_itself_where_the_topic_says_so() {
        for (unclean, leaders) in [("false", None), ("true", Some(NodeId(2)))] {
            let mut image = cluster(2, &[parts(&[1, 2], &[1], &[])]);
            let settings = Overrides::from([("unclean.leader.election.enable".into(), unclean.into())]);
            let id = super::super::testing::TOPIC;
            image.apply(&MetaRecord::TopicSettingsChanged { id, settings }).expect("there");
            let records = leave(Fleet::of(&image, NodeId(2)), NodeId(1), false, &Settings::default());
            assert_eq!(only_change(&records).leader, leaders);
        }
    }
}
