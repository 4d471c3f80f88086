//! The controller's care for the brokers: registrations, heartbeats and leases, in-sync sets, and who votes.
//!
//! What brokers ask is planned (`meta::brokers`, `meta::isr`) and proposed at once, beside the orders of `control`: a
//! lease must not wait until a topic's files are made. Registrations and heartbeats are answered when their records are
//! proposed, since what counts is what the brokers find in the metadata; in-sync sets are answered when committed.
//!
//! Which brokers vote `meta::voters` says; one that is to vote follows the quorum without a vote before. All others follow
//! without the quorum (`following`).
//!
//! *Owns*: leases, and answers that wait for a commit. *Never*: acts where this broker is not the controller.
//! *Runs on*: core 0 of the controller.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::ids::{BrokerEpoch, NodeId};
use crate::base::time::{Instant, Now};
use crate::broker::control::{self, Control};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::message::{IsrAnswer, TopicPartition};
use crate::broker::shard::{DeadlineKey, Shard};
use crate::config::Settings;
use crate::meta::brokers::{Heartbeat, HeartbeatAnswer, Registration};
use crate::meta::controller::MetaError;
use crate::meta::fleet::Fleet;
use crate::meta::isr::IsrChange;
use crate::meta::liveness::{LeaseTimes, Liveness};
use crate::meta::voters::{VotePlan, may_learn, plan_learner, plan_voters};
use crate::meta::{self, Broker, MetaRecord, PartitionState};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::alter_partition::{self, AlterPartitionResponse, PartitionData, TopicData};

#[derive(Debug)]
pub struct Brokers {
    liveness: Liveness,
    /// Nodes that messages of the quorum did not reach lately.
    unreached: BTreeSet<NodeId>,
    /// Members of the quorum that came back without their log.
    emptied: BTreeSet<NodeId>,
    /// What the deadline of the leases is set to.
    due: Option<Instant>,
    /// When it is looked at who leads.
    balance_due: Option<Instant>,
    /// Answers on in-sync sets, by the place in the quorum's log they wait for.
    waiting: VecDeque<(u64, IsrAsker, Vec<IsrOutcome>)>,
}

/// Who is told what became of an in-sync set.
#[derive(Clone, Copy, Debug)]
pub enum IsrAsker {
    Here,
    Peer(Asker),
}

#[derive(Debug)]
struct IsrOutcome {
    change: IsrChange,
    result: Result<PartitionState, ErrorCode>,
}

impl Brokers {
    pub fn new(settings: &Settings) -> Brokers {
        let session_ms = u64::from(settings.broker_session_timeout_ms);
        let beat_ms = u64::from(settings.broker_heartbeat_interval_ms);
        let times = LeaseTimes { session_ms, suspected_ms: (beat_ms + beat_ms / 2).min(session_ms) };
        Brokers {
            liveness: Liveness::new(times),
            unreached: BTreeSet::new(),
            emptied: BTreeSet::new(),
            due: None,
            balance_due: None,
            waiting: VecDeque::new(),
        }
    }
}

fn not_controller() -> MetaError {
    let code = ErrorCode::NotController;
    MetaError { code, message: code.message().into() }
}

fn the_controller(shard: &mut Shard) -> Result<&mut Control, MetaError> {
    shard.control.as_mut().filter(|control| control.quorum.is_controller()).ok_or_else(not_controller)
}

pub(in crate::broker) fn is_controller(shard: &mut Shard) -> bool {
    the_controller(shard).is_ok()
}

/// Refuses what a broker sends that has registered anew since, or not at all.
pub(in crate::broker) fn check_epoch(shard: &mut Shard, node: NodeId, epoch: BrokerEpoch) -> Result<(), MetaError> {
    let me = shard.node();
    let control = the_controller(shard)?;
    meta::brokers::check_epoch(Fleet::of(control.quorum.planned(), me), node, epoch).map(|_| ())
}

/// A broker registers. `is_new`: it has nothing of the quorum's log. Who has something, but not in the directory of
/// before, has lost the log that it voted with.
pub(in crate::broker) fn register(
    shard: &mut Shard,
    wish: &Registration,
    is_new: bool,
    now: Now,
    effects: &mut Effects,
) -> Result<BrokerEpoch, MetaError> {
    let (me, settings) = (shard.node(), shard.config.settings.clone());
    register_first(shard, wish.id, now)?;
    let control = the_controller(shard)?;
    let has_lease = control.brokers.liveness.has_lease(wish.id, now.mono);
    let fleet = Fleet::of(control.quorum.planned(), me);
    let is_new = is_new || fleet.image.broker(wish.id).is_some_and(|before| !before.may_have_had(wish.directory));
    let (epoch, records) = meta::brokers::plan_register(fleet, wish, has_lease, &settings)?;
    if is_new && wish.id != me && control.quorum.status().voters.contains(&wish.id) {
        // Once it is registered it votes, whoever is the controller then: so its vote goes first.
        control.brokers.emptied.insert(wish.id);
        tend(shard, now, effects);
        let message = format!("Node {} has lost the log that it votes with: it loses its vote first.", wish.id);
        return Err(MetaError { code: ErrorCode::RequestTimedOut, message });
    }
    if !records.is_empty() {
        tracing::info!("node {} registers as a broker, with epoch {epoch}", wish.id);
    }
    control.propose_all(records)?;
    control.brokers.liveness.on_heartbeat(wish.id, epoch, now.mono);
    if is_new && wish.id != me && is_member(control, wish.id) {
        control.brokers.emptied.insert(wish.id);
    }
    tend(shard, now, effects);
    Ok(epoch)
}

/// A broker that was alone has all partitions, and leads them: it is in the metadata before the first other is.
fn register_first(shard: &mut Shard, other: NodeId, now: Now) -> Result<(), MetaError> {
    let mine = shard.registration();
    let control = the_controller(shard)?;
    if control.quorum.planned().has_brokers() || other == mine.id {
        return Ok(());
    }
    let epoch = BrokerEpoch(control.quorum.planned().broker_epoch().0 + 1);
    let broker = Broker { fenced: false, ..mine.broker(epoch) };
    control.propose_all(vec![MetaRecord::BrokerRegistered(broker)])?;
    control.brokers.liveness.on_heartbeat(mine.id, epoch, now.mono);
    Ok(())
}

/// A broker says that it is there, and what it wants.
pub(in crate::broker) fn heartbeat(
    shard: &mut Shard,
    beat: &Heartbeat,
    now: Now,
    effects: &mut Effects,
) -> Result<HeartbeatAnswer, MetaError> {
    let (me, settings) = (shard.node(), shard.config.settings.clone());
    let control = the_controller(shard)?;
    let fleet = Fleet::of(control.quorum.planned(), me);
    let (answer, records) = meta::brokers::plan_heartbeat(fleet, beat, &settings)?;
    control.propose_all(records)?;
    control.brokers.liveness.on_heartbeat(beat.id, beat.epoch, now.mono);
    tend(shard, now, effects);
    Ok(answer)
}

/// Plans in-sync sets. Each partition is named once; what it is said of a second time is refused.
pub(in crate::broker) fn alter_isr(
    shard: &mut Shard,
    changes: Vec<IsrChange>,
    asker: IsrAsker,
    now: Now,
    effects: &mut Effects,
) {
    let (me, settings) = (shard.node(), shard.config.settings.clone());
    let Ok(control) = the_controller(shard) else {
        let refused = |change| IsrOutcome { change, result: Err(ErrorCode::NotController) };
        return answer(shard, asker, changes.into_iter().map(refused).collect(), effects);
    };
    let (mut records, mut outcomes, mut named) = (Vec::new(), Vec::new(), BTreeSet::new());
    for change in changes {
        let fleet = Fleet::of(control.quorum.planned(), me);
        let result = if named.insert((change.topic, change.partition)) {
            let planned = meta::isr::plan_alter_partition(fleet, &change, &settings);
            planned.map_err(|error| error.code).map(|(state, more)| {
                records.extend(more);
                state
            })
        } else {
            Err(ErrorCode::InvalidRequest)
        };
        outcomes.push(IsrOutcome { change, result });
    }
    match control.propose_all(records) {
        Ok(None) => answer(shard, asker, outcomes, effects),
        Ok(Some(seq)) => control.brokers.waiting.push_back((seq, asker, outcomes)),
        Err(error) => {
            outcomes.iter_mut().for_each(|outcome| outcome.result = Err(error.code));
            answer(shard, asker, outcomes, effects);
        }
    }
    control::settle(shard, now, effects);
}

fn answer(shard: &mut Shard, asker: IsrAsker, outcomes: Vec<IsrOutcome>, effects: &mut Effects) {
    match asker {
        IsrAsker::Here => {
            let answers = outcomes.into_iter().map(|IsrOutcome { change, result }| IsrAnswer {
                of: TopicPartition { topic: change.topic, partition: change.partition },
                epoch: change.partition_epoch,
                code: result.err().unwrap_or(ErrorCode::None),
            });
            shard.answer_isr(answers.collect(), effects);
        }
        IsrAsker::Peer(asker) => {
            let reply = alter_partition_response(&outcomes);
            shard.reply(alter_partition::API.key, asker, &reply, effects);
        }
    }
}

fn alter_partition_response(outcomes: &[IsrOutcome]) -> AlterPartitionResponse {
    let mut topics: BTreeMap<_, Vec<PartitionData>> = BTreeMap::new();
    for IsrOutcome { change, result } in outcomes {
        let mut row = PartitionData { partition_index: change.partition.0, ..PartitionData::default() };
        match result {
            Ok(state) => {
                row.leader_id = state.leader().map_or(-1, |leader| leader.0);
                row.leader_epoch = state.leader_epoch().0;
                row.isr = state.isr().map(|node| node.0).collect();
                row.partition_epoch = state.partition_epoch().0;
            }
            Err(code) => row.error_code = code.code(),
        }
        topics.entry(change.topic).or_default().push(row);
    }
    let topics = topics.into_iter().map(|(topic_id, partitions)| TopicData { topic_id, partitions });
    AlterPartitionResponse { topics: topics.collect(), ..AlterPartitionResponse::default() }
}

/// Everything up to `seq` is committed.
pub(in crate::broker) fn on_committed(shard: &mut Shard, seq: u64, effects: &mut Effects) {
    while let Some(control) = shard.control.as_mut() {
        let is_due = |waiting: &mut (u64, IsrAsker, Vec<IsrOutcome>)| waiting.0 <= seq;
        let Some((_, asker, outcomes)) = control
            .brokers
            .waiting
            .front_mut()
            .is_some_and(is_due)
            .then(|| control.brokers.waiting.pop_front().expect("just seen"))
        else {
            return;
        };
        answer(shard, asker, outcomes, effects);
    }
}

/// This broker became the controller, or is it no more.
pub(in crate::broker) fn on_controller(shard: &mut Shard, me: bool, now: Now, effects: &mut Effects) {
    let (node, settings) = (shard.node(), shard.config.settings.clone());
    let Some(control) = shard.control.as_mut() else { return };
    if me {
        let active = control.quorum.planned().brokers().filter(|broker| !broker.fenced);
        let leases: Vec<_> = active.map(|broker| (broker.id, broker.epoch)).collect();
        control.brokers.liveness.on_controller(leases.into_iter(), now.mono);
        for node in &control.brokers.unreached {
            control.brokers.liveness.on_hint(*node, now.mono);
        }
        // The controller before may not have come to it. It is refused only while the office is handed over.
        let records = meta::election::plan_leaderless(Fleet::of(control.quorum.planned(), node), &settings);
        let _ = control.propose_all(records);
        balance_later(shard, now);
        return watch_leases(shard);
    }
    for (_, asker, mut outcomes) in std::mem::take(&mut control.brokers.waiting) {
        outcomes.iter_mut().for_each(|outcome| outcome.result = Err(ErrorCode::NotController));
        answer(shard, asker, outcomes, effects);
    }
}

/// Messages of the quorum reached another node, or did not.
pub(in crate::broker) fn on_reached(shard: &mut Shard, node: NodeId, reached: bool, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    if reached {
        control.brokers.unreached.remove(&node);
        return;
    }
    control.quorum.on_unreachable(node, &mut control.out);
    if control.brokers.unreached.insert(node) && control.quorum.is_controller() {
        control.brokers.liveness.on_hint(node, now.mono);
    }
    watch_leases(shard);
    control::settle(shard, now, effects);
}

/// Gossip suspects a broker. It still has the time for one more heartbeat.
pub(in crate::broker) fn on_suspected(shard: &mut Shard, node: NodeId, now: Now) {
    if let Ok(control) = the_controller(shard) {
        control.brokers.liveness.on_hint(node, now.mono);
        watch_leases(shard);
    }
}

/// Brokers whose lease is over lead nothing any more.
pub(in crate::broker) fn on_leases_due(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let (me, settings) = (shard.node(), shard.config.settings.clone());
    let own = shard.registered().map(|broker| broker.epoch);
    shard.control.iter_mut().for_each(|control| control.brokers.due = None);
    let Ok(control) = the_controller(shard) else { return };
    // Whoever looks is there.
    own.into_iter().for_each(|epoch| control.brokers.liveness.on_heartbeat(me, epoch, now.mono));
    for node in control.brokers.liveness.expired(now.mono) {
        let records = meta::brokers::plan_fence(Fleet::of(control.quorum.planned(), me), node, &settings);
        let is_leaving = control.quorum.planned().broker(node).is_some_and(|broker| broker.shutting_down);
        if !records.is_empty() && !is_leaving {
            tracing::warn!("broker {node} is not heard of any more: others lead its partitions");
        }
        // While the office is handed over the next controller sees to it.
        let _ = control.propose_all(records);
    }
    tend(shard, now, effects);
}

/// Partitions are led by the first of their replicas again that are in sync (`auto.leader.rebalance.enable`).
pub(in crate::broker) fn on_balance_due(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let (me, settings) = (shard.node(), shard.config.settings.clone());
    shard.control.iter_mut().for_each(|control| control.brokers.balance_due = None);
    let Ok(control) = the_controller(shard) else { return };
    if settings.auto_leader_rebalance_enable {
        let records = meta::balance::plan_balance_leaders(Fleet::of(control.quorum.planned(), me), &settings);
        if !records.is_empty() {
            tracing::info!("{} partitions are led by the first of their replicas again", records.len());
        }
        // While the office is handed over the next controller sees to it.
        let _ = control.propose_all(records);
    }
    balance_later(shard, now);
    control::settle(shard, now, effects);
}

fn balance_later(shard: &mut Shard, now: Now) {
    let interval_ms = 1000 * u64::from(shard.config.settings.leader_imbalance_check_interval_seconds);
    let Some(Control { brokers, .. }) = shard.control.as_mut() else { return };
    let due = now.mono.after_ms(interval_ms);
    if let Some(before) = brokers.balance_due.replace(due) {
        shard.deadlines.clear(before, DeadlineKey::BalanceLeaders);
    }
    shard.deadlines.set(due, DeadlineKey::BalanceLeaders);
}

/// A change of the quorum's members is committed: the next need not wait for a heartbeat.
pub(in crate::broker) fn on_members_changed(shard: &mut Shard) {
    if let Ok(control) = the_controller(shard) {
        control.tend_members();
    }
}

/// Sees to the quorum's members, and to when the next lease is over.
fn tend(shard: &mut Shard, now: Now, effects: &mut Effects) {
    if let Ok(control) = the_controller(shard) {
        control.tend_members();
    }
    watch_leases(shard);
    control::settle(shard, now, effects);
}

fn watch_leases(shard: &mut Shard) {
    let Some(Control { brokers, .. }) = shard.control.as_mut() else { return };
    let due = brokers.liveness.next_deadline();
    if let Some(before) = brokers.due.filter(|before| Some(*before) != due) {
        shard.deadlines.clear(before, DeadlineKey::Leases);
    }
    brokers.due = due;
    due.into_iter().for_each(|due| shard.deadlines.set(due, DeadlineKey::Leases));
}

/// Has another voter be the controller. False: this one is not, or there is no other.
pub(in crate::broker) fn hand_over(shard: &mut Shard, now: Now, effects: &mut Effects) -> bool {
    let Ok(control) = the_controller(shard) else { return false };
    if control.quorum.status().voters.len() < 2 {
        return false;
    }
    control.quorum.hand_over(&mut control.out);
    control::settle(shard, now, effects);
    true
}

fn is_member(control: &Control, node: NodeId) -> bool {
    let status = control.quorum.status();
    status.voters.contains(&node) || status.learners.contains(&node)
}

impl Control {
    /// Proposes what there is to propose; answers where it is in the quorum's log.
    pub(in crate::broker) fn propose_all(&mut self, records: Vec<MetaRecord>) -> Result<Option<u64>, MetaError> {
        if records.is_empty() {
            return Ok(None);
        }
        self.quorum.propose(records, &mut self.out).map(Some).map_err(|_| not_controller())
    }

    /// One step towards a quorum in which one votes or three do, and that nobody else follows. What is refused now, since
    /// another change is under way, is tried again when that is committed, or with the next heartbeat.
    fn tend_members(&mut self) {
        let status = self.quorum.status();
        let is_member = |node: NodeId| status.voters.contains(&node) || status.learners.contains(&node);
        self.brokers.emptied.retain(|node| is_member(*node));
        if let Some(node) = self.brokers.emptied.first().copied() {
            let _ = self.quorum.remove_member(node, &mut self.out);
            return;
        }
        let is_wanted = |node: &NodeId| may_learn(*node, &status, self.quorum.planned());
        if let Some(node) = status.learners.iter().copied().find(|node| !is_wanted(node)) {
            let _ = self.quorum.remove_member(node, &mut self.out);
            return;
        }
        if let Some(node) = plan_learner(&status, self.quorum.planned()) {
            let _ = self.quorum.add_learner(node, &mut self.out);
            return;
        }
        match plan_voters(&status, self.quorum.planned()) {
            Some(VotePlan::Give(node)) if self.quorum.add_voter(node, &mut self.out).is_ok() => {
                tracing::info!("node {node} takes part in deciding on metadata from now on");
            }
            Some(VotePlan::Take(node)) if self.quorum.add_learner(node, &mut self.out).is_ok() => {
                tracing::info!("node {node} follows what is decided on metadata: of two brokers one decides");
            }
            Some(_) | None => {}
        }
    }
}
