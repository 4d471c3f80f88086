//! Core 0's control of metadata: orders come in from every core, are decided against the image, committed by the
//! quorum, applied by every core, and only then answered.
//!
//! What is committed is applied in its order, whoever proposed it; nothing that comes after a topic's deletion is applied
//! with it. So when a deletion is answered its directories are gone, and a topic of the same name can be created without
//! meeting its remains. One group of orders is under way at a time.
//!
//! *Owns*: this broker's part in the quorum, and the order of changes. *Never*: answers before every core has applied.
//! *Runs on*: core 0.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;

use bytes::Bytes;

use crate::base::disk::DiskResult;
use crate::base::ids::{CoreId, DirectoryId, NodeId, PartitionIndex, ProducerId, TopicId};
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::slab::Key;
use crate::base::time::Now;
use crate::broker::brokers::{self, Brokers};
use crate::broker::cluster::ControllerAt;
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicName, TopicOutcome, VoterChange};
use crate::broker::quotas::{MutationQuota, Quotas};
use crate::broker::replaying::Replaying;
use crate::broker::shard::{DeadlineKey, Shard, ShardConfig};
use crate::config::Settings;
use crate::meta::MetaRecord;
use crate::meta::brokers::plan_unregister;
use crate::meta::configs;
use crate::meta::controller::{self, MetaError, NewTopic};
use crate::meta::election;
use crate::meta::fleet::Fleet;
use crate::meta::quota;
use crate::meta::reassign;
use crate::meta::{Broker, Image, MetaEvent, MetaOp, MetaOut, NotController, Quorum};
use crate::wire::errors::ErrorCode;

/// The owner number of the quorum's files; partitions count up from 0 and never get there.
const META_OWNER: u32 = u32::MAX;

/// How soon a full disk is asked again.
const RETRY_MS: u64 = 1_000;

/// Sets the quorum's random numbers apart from the shard's.
const QUORUM_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug)]
pub struct Control {
    pub(in crate::broker) quorum: Quorum,
    pub(in crate::broker) brokers: Brokers,
    queue: VecDeque<Order>,
    stage: Stage,
    /// Committed, and not yet on its way to the cores.
    committed: VecDeque<MetaRecord>,
    /// The place in the quorum's log up to which `committed` goes.
    committed_seq: u64,
    /// Where the last records are in the quorum's log that this controller proposed for orders.
    proposed_seq: u64,
    /// Decided, and not yet answered.
    undecided: Option<Group>,
    /// Counts what was sent to the cores.
    rounds: u64,
    /// Until the journals of the run before are empty.
    replaying: Option<Box<Replaying>>,
    pub(in crate::broker) out: MetaOut,
}

#[derive(Debug)]
struct Order {
    from: CoreId,
    job: Key,
    order: ControlOrder,
}

#[derive(Debug)]
enum Stage {
    /// What the broker starts with is known once this is committed.
    Loading {
        seq: u64,
    },
    /// The journals are read before the first records of a start are applied.
    Replaying,
    /// Ready for what is committed next, and for the next group of orders.
    Idle,
    Applying {
        cores_left: u16,
        /// The first records of a start: when they are applied the broker is ready.
        boot: bool,
    },
    /// The first records of a start are applied: nobody needs the journals of the run before.
    Emptying,
    Closing,
}

/// Orders that are decided together.
#[derive(Debug, Default)]
struct Group {
    /// Where the last of its records is in the quorum's log.
    seq: u64,
    outcomes: Vec<(CoreId, Key, ControlOutcome)>,
}

impl Control {
    /// Up to where in the quorum's log this broker has the metadata.
    pub(in crate::broker) fn version(&self) -> u64 {
        self.quorum.version()
    }

    pub(in crate::broker) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing)
    }

    /// Whether every core has put into effect what is known to be committed.
    pub(in crate::broker) fn has_applied_all(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.committed.is_empty()
    }

    pub fn boot(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let mut out = MetaOut::default();
        let me = shard.node();
        // Nodes that draw the same election timeouts would stand against each other for ever.
        let rng = Rng::new(shard.config.seed ^ QUORUM_SEED ^ u64::from(me.0.unsigned_abs()) << 32);
        let directory = DirectoryId::begun_by(shard.config.incarnation);
        let quorum = Quorum::open(META_OWNER, PathBuf::from("meta"), (me, directory), rng, &mut out);
        shard.control = Some(Control {
            quorum,
            brokers: Brokers::new(&shard.config.settings),
            queue: VecDeque::new(),
            stage: Stage::Loading { seq: u64::MAX },
            committed: VecDeque::new(),
            committed_seq: 0,
            proposed_seq: 0,
            undecided: None,
            rounds: 0,
            replaying: None,
            out,
        });
        settle(shard, now, effects);
    }

    pub fn on_disk(shard: &mut Shard, op: MetaOp, result: DiskResult, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        control.quorum.on_disk(op, result, &mut control.out);
        settle(shard, now, effects);
    }

    pub fn on_order(shard: &mut Shard, from: CoreId, job: Key, order: ControlOrder, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        let refused = match &shard.offline {
            Some(_) => Some(ErrorCode::KafkaStorageError),
            None => (control.queue.len() >= limits::CONTROL_ORDERS_QUEUED_MAX).then_some(ErrorCode::RequestTimedOut),
        };
        if let Some(error) = refused {
            let outcome = ControlOutcome::Failed(error);
            return shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
        }
        control.queue.push_back(Order { from, job, order });
        go_on(shard, now, effects);
        settle(shard, now, effects);
    }

    /// A core has put what it was sent into effect.
    pub fn on_applied(shard: &mut Shard, sequence: u64, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        let Stage::Applying { cores_left, boot } = &mut control.stage else { return };
        assert!(control.rounds == sequence, "one round is applied at a time");
        *cores_left -= 1;
        if *cores_left > 0 {
            return;
        }
        if *boot {
            control.stage = Stage::Emptying;
            return shard.empty_journals(now, effects);
        }
        control.stage = Stage::Idle;
        go_on(shard, now, effects);
        settle(shard, now, effects);
        shard.let_clients_in(now, effects);
    }

    /// Another node's quorum says something.
    pub fn on_quorum_messages(shard: &mut Shard, from: NodeId, messages: &[Bytes], now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        for message in messages {
            if let Err(error) = control.quorum.on_message(from, message, &mut control.out) {
                tracing::warn!("node {from} sends {error}");
            }
        }
        settle(shard, now, effects);
    }

    /// Time has passed for the quorum.
    pub fn on_quorum_timeout(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        control.quorum.on_timeout(now.mono, &mut control.out);
        // Leadership that was on its way to another node may have stayed here.
        go_on(shard, now, effects);
        settle(shard, now, effects);
    }

    pub fn replaying(&mut self) -> Option<&mut Replaying> {
        self.replaying.as_deref_mut()
    }

    /// The data directory takes no more writes: what was not begun is refused.
    pub fn on_directory_offline(shard: &mut Shard, effects: &mut Effects) {
        refuse_all(shard, ErrorCode::KafkaStorageError, effects);
    }

    pub fn on_retry(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        if shard.offline.is_some() {
            // What found no space will not be written any more.
            return give_up(shard, ErrorCode::KafkaStorageError, effects);
        }
        control.quorum.retry(&mut control.out);
        settle(shard, now, effects);
    }

    /// Ends in `Shard::check_stopped` once the quorum is closed.
    pub fn close(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        control.stage = Stage::Closing;
        control.quorum.close(&mut control.out);
        settle(shard, now, effects);
    }
}

/// Carries out what the quorum asks for and says.
pub(in crate::broker) fn settle(shard: &mut Shard, now: Now, effects: &mut Effects) {
    loop {
        let Some(control) = shard.control.as_mut() else { return };
        for (op, disk_op) in control.out.disk.drain(..) {
            let token = shard.partitions.meta_token(op);
            effects.push(Effect::Disk { token, op: disk_op });
        }
        let (messages, events) = (mem::take(&mut control.out.messages), mem::take(&mut control.out.events));
        let steps = mem::take(&mut control.out.steps);
        if !messages.is_empty() {
            shard.send_quorum_messages(messages, now, effects);
        }
        if !steps.is_empty() {
            shard.tell_steps(steps, now, effects);
        }
        let Some(control) = shard.control.as_mut() else { return };
        if events.is_empty() {
            if let Some(due) = control.quorum.next_deadline(now.mono) {
                shard.deadlines.set(due, DeadlineKey::Quorum);
            }
            return shard.watch_following(now);
        }
        for event in events {
            on_event(shard, event, now, effects);
        }
    }
}

fn on_event(shard: &mut Shard, event: MetaEvent, now: Now, effects: &mut Effects) {
    match event {
        MetaEvent::Loaded { records } => on_loaded(shard, records, now, effects),
        MetaEvent::Committed { seq, records } => on_committed(shard, seq, records, now, effects),
        MetaEvent::Controller { leader, term, me } => on_controller(shard, (leader, term, me), now, effects),
        MetaEvent::Full { message } => {
            tracing::error!(
                "changes of metadata wait: there is no space for them ({message}); reads and writes of records go on"
            );
            shard.deadlines.set(now.mono.after_ms(RETRY_MS), DeadlineKey::MetaRetry);
        }
        MetaEvent::Failed { message } => {
            let message = format!("the metadata log cannot be used, changes not yet answered may be lost: {message}");
            effects.push(Effect::Fatal { message });
        }
        MetaEvent::Closed => {
            shard.control = None;
            shard.check_stopped(now, effects);
        }
    }
}

fn on_loaded(shard: &mut Shard, records: Vec<MetaRecord>, now: Now, effects: &mut Effects) {
    let joins = !shard.config.settings.seeds.is_empty();
    let me = shard.node();
    let Some(control) = shard.control.as_mut() else { return };
    control.committed.extend(records);
    let quorum = &mut control.quorum;
    let directory = quorum.directory();
    // Whoever lost its directory hears of the broker that it was, and has nothing of what that one kept.
    let before = quorum.committed().broker(me).filter(|before| before.may_have_had(directory));
    let before = (directory, before.map(|before| before.epoch));
    let is_joining = joins && !quorum.has_cluster();
    let seq = match controller::plan_cluster(quorum.planned(), &shard.config.settings, &mut shard.rng) {
        Err(error) => return effects.push(Effect::Fatal { message: error.to_string() }),
        // The first snapshot of whoever it joins.
        Ok(_) if is_joining => 1,
        Ok(new) if !quorum.has_cluster() => quorum.found(new, &mut control.out),
        Ok(new) if new.is_empty() => 0,
        // A broker of before that stopped before the cluster had its id.
        Ok(new) => quorum.propose(new, &mut control.out).expect("it stands alone"),
    };
    control.stage = Stage::Loading { seq };
    shard.start_membership(is_joining, before, now, effects);
    go_on(shard, now, effects);
}

fn on_committed(shard: &mut Shard, seq: u64, records: Vec<MetaRecord>, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    assert!(seq > control.committed_seq);
    control.committed_seq = seq;
    if records.is_empty() {
        // Of several changes of members each waits for the one before.
        brokers::on_members_changed(shard);
    }
    let Some(control) = shard.control.as_mut() else { return };
    control.committed.extend(records);
    brokers::on_committed(shard, seq, effects);
    go_on(shard, now, effects);
}

/// Somebody else decides now, or nobody: what was proposed here may be committed or not, and who asked must look.
fn on_controller(shard: &mut Shard, (leader, term, me): (Option<NodeId>, u64, bool), now: Now, effects: &mut Effects) {
    match leader {
        Some(leader) => tracing::debug!("node {leader} decides on metadata, in term {term}"),
        None => tracing::debug!("nobody decides on metadata, in term {term}"),
    }
    let at = match leader {
        Some(leader) if leader == shard.node() => ControllerAt::Here,
        Some(leader) => ControllerAt::Node(leader),
        None => ControllerAt::Unknown,
    };
    // Also where it seems to be known: what was told before may be on its way yet.
    for core in 0..shard.config.cores {
        shard.send(CoreId(core), ShardMessage::Controller(at), effects);
    }
    brokers::on_controller(shard, me, now, effects);
    shard.control.iter_mut().for_each(|control| control.proposed_seq = 0);
    if me {
        // Somebody may have decided on a deletion and gone before it was done.
        remove_deleted(shard);
    } else {
        give_up(shard, ErrorCode::NotController, effects);
    }
    shard.go_on_leaving(now, effects);
}

/// Refuses what was not begun.
fn refuse_all(shard: &mut Shard, error: ErrorCode, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    for Order { from, job, .. } in mem::take(&mut control.queue) {
        let outcome = ControlOutcome::Failed(error);
        shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
}

/// Refuses what is under way and may never be committed.
fn give_up(shard: &mut Shard, error: ErrorCode, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    let committed_seq = control.committed_seq;
    let Some(group) = control.undecided.take_if(|group| group.seq > committed_seq) else { return };
    for (from, job, _) in group.outcomes {
        let outcome = ControlOutcome::Failed(error);
        shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
}

/// Does what can be done next, as far as nothing is under way.
fn go_on(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    match control.stage {
        Stage::Loading { seq } if seq <= control.committed_seq => replay(shard, now, effects),
        Stage::Idle if !control.committed.is_empty() => {
            let round = next_round(&mut control.committed);
            apply(shard, round, false, effects);
        }
        Stage::Idle => match control.undecided.take_if(|group| group.seq <= control.committed_seq) {
            Some(group) => finish_group(shard, group, now, effects),
            None => next_group(shard, now, effects),
        },
        _ => {}
    }
}

/// What can be applied together: everything up to the deletion of topics.
fn next_round(committed: &mut VecDeque<MetaRecord>) -> Vec<MetaRecord> {
    let deletes = |record: &MetaRecord| matches!(record, MetaRecord::TopicDeleted { .. });
    let first = committed.iter().position(deletes).unwrap_or(committed.len());
    let deletions = committed.iter().skip(first).take_while(|record| deletes(record)).count();
    committed.drain(..first + deletions).collect()
}

fn replay(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.take() else { return };
    // Journals may have batches of topics whose creation is not known to be committed here, though it is.
    let images = [control.quorum.committed().clone(), control.quorum.newest()];
    let replaying = Some(Box::new(Replaying::start(shard, &images, now, effects)));
    shard.control = Some(Control { stage: Stage::Replaying, replaying, ..control });
}

/// What the journals had is in the segments, and every core knows what its logs must hold.
pub fn on_replayed(shard: &mut Shard, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut().filter(|control| matches!(control.stage, Stage::Replaying)) else {
        return;
    };
    let records = control.committed.drain(..).collect();
    apply(shard, records, true, effects);
}

/// The journals of the run before are empty, or must stay as they are.
pub fn on_emptied(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    control.replaying = None;
    if !matches!(control.stage, Stage::Emptying) {
        return;
    }
    control.stage = Stage::Idle;
    for core in 0..shard.config.cores {
        shard.send(CoreId(core), ShardMessage::AllReady, effects);
    }
    remove_deleted(shard);
    go_on(shard, now, effects);
    settle(shard, now, effects);
}

fn apply(shard: &mut Shard, records: Vec<MetaRecord>, boot: bool, effects: &mut Effects) {
    let cores = shard.config.cores;
    let Some(control) = shard.control.as_mut() else { return };
    control.rounds += 1;
    control.stage = Stage::Applying { cores_left: cores, boot };
    let sequence = control.rounds;
    for core in 0..cores {
        shard.send(CoreId(core), ShardMessage::Meta { sequence, records: records.clone() }, effects);
    }
}

fn finish_group(shard: &mut Shard, group: Group, now: Now, effects: &mut Effects) {
    for (from, job, outcome) in group.outcomes {
        shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
    remove_deleted(shard);
    go_on(shard, now, effects);
}

/// The controller takes note that deleted topics are gone.
fn remove_deleted(shard: &mut Shard) {
    let Some(control) = shard.control.as_mut() else { return };
    if shard.offline.is_some() || !control.quorum.is_controller() || control.undecided.is_some() {
        return;
    }
    let deleting = control.quorum.planned().deleting().map(|topic| topic.id);
    let gone = deleting.filter(|id| shard.image.deleting().any(|topic| topic.id == *id));
    let removed: Vec<MetaRecord> = gone.map(|id| MetaRecord::TopicRemoved { id }).collect();
    if removed.is_empty() {
        return;
    }
    if let Ok(seq) = control.quorum.propose(removed, &mut control.out) {
        control.undecided = Some(Group { seq, outcomes: Vec::new() });
    }
}

/// Decides on what waits, as one group. A deletion ends the group: what comes after it may use the name again, and
/// must not meet the files.
fn next_group(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    if control.undecided.is_some() || control.quorum.is_handing_over() {
        return;
    }
    if !control.quorum.is_controller() {
        for Order { from, job, order } in mem::take(&mut control.queue) {
            shard.forward_order(from, job, order, now, effects);
        }
        return;
    }
    let mut group = Group::default();
    let mut last_seq = None;
    while let Some(Order { from, job, order }) = control.queue.pop_front() {
        let deletes = matches!(order, ControlOrder::DeleteTopics { .. });
        let (outcome, seq) =
            decide(control, &shard.config, &shard.at_start, (&mut shard.rng, &mut shard.quotas), order);
        last_seq = seq.or(last_seq);
        group.outcomes.push((from, job, outcome));
        if deletes && seq.is_some() {
            break;
        }
    }
    if let Some(seq) = last_seq {
        control.undecided = Some(Group { seq, ..group });
        return;
    }
    for (from, job, outcome) in group.outcomes {
        shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
}

/// The outcome of an order if its records are committed, and the place in the metadata log where they are.
fn decide(
    control: &mut Control,
    config: &ShardConfig,
    at_start: &Settings,
    (rng, quotas): (&mut Rng, &mut Quotas),
    order: ControlOrder,
) -> (ControlOutcome, Option<u64>) {
    let mut last_seq = None;
    let settings = &config.settings;
    let me = NodeId(settings.node_id);
    let mut outcomes = Vec::new();
    match order {
        ControlOrder::DescribeQuorum => return (ControlOutcome::Quorum(control.quorum.status()), None),
        ControlOrder::UnregisterBroker(node) => {
            let plan = |image: &Image, node: &NodeId| plan_unregister(Fleet::of(image, me), *node, settings);
            return (control.each(&[node], false, &mut last_seq, plan), last_seq);
        }
        ControlOrder::ChangeVoters(change) => {
            let result = control.change_voters(change, &mut last_seq);
            return (ControlOutcome::Results(vec![result]), last_seq);
        }
        ControlOrder::MovePartitions(wishes) => {
            let plan = |image: &Image, wish: &_| reassign::plan_move(Fleet::of(image, me), wish, settings);
            return (control.each(&wishes, false, &mut last_seq, plan), last_seq);
        }
        ControlOrder::ElectLeaders { election, partitions } => {
            let plan = |image: &Image, (topic, partition): &(String, PartitionIndex)| {
                election::plan_election(Fleet::of(image, me), topic, *partition, election, settings)
            };
            return (control.each(&partitions, false, &mut last_seq, plan), last_seq);
        }
        ControlOrder::TakeProducerIds => {
            let (ids, records) = controller::plan_producer_ids(control.quorum.planned());
            let outcome = match control.propose(records, &mut last_seq) {
                Ok(()) => ControlOutcome::ProducerIds { first: ProducerId(ids.start), count: ids.end - ids.start },
                Err(error) => ControlOutcome::Failed(error.code),
            };
            return (outcome, last_seq);
        }
        ControlOrder::AlterQuotas { wishes, validate_only } => {
            return (control.each(&wishes, validate_only, &mut last_seq, quota::plan_quota_change), last_seq);
        }
        ControlOrder::AlterConfigs { wishes, validate_only } => {
            let plan = |image: &Image, wish: &_| configs::plan_config_change(image, wish, at_start);
            return (control.each(&wishes, validate_only, &mut last_seq, plan), last_seq);
        }
        ControlOrder::CreateTopics { topics, validate_only, quota } => {
            let quota = quota.filter(|_| !validate_only);
            for topic in &topics {
                let planned = if topics.iter().filter(|other| other.name == topic.name).count() > 1 {
                    let message = format!("Topic '{}' is named more than once in the request.", topic.name);
                    Err(MetaError { code: ErrorCode::InvalidRequest, message })
                } else {
                    controller::plan_create_topic(Fleet::of(control.quorum.planned(), me), topic, settings, rng)
                };
                let quota = (&mut *quotas, quota.as_ref());
                outcomes.push(control.create(topic, planned, validate_only, quota, &mut last_seq));
            }
        }
        ControlOrder::DeleteTopics { topics, quota } => {
            for topic in &topics {
                outcomes.push(control.delete(topic, settings, (quotas, quota.as_ref()), &mut last_seq));
            }
        }
        ControlOrder::CreatePartitions { topics, validate_only, quota } => {
            for topic in &topics {
                let assignments = topic.assignments.as_deref();
                let fleet = Fleet::of(control.quorum.planned(), me);
                let planned = controller::plan_add_partitions(fleet, &topic.name, topic.count, assignments, rng);
                let planned = if validate_only { planned.map(|_| Vec::new()) } else { planned };
                outcomes.push(control.commit(&topic.name, planned, (quotas, quota.as_ref()), &mut last_seq));
            }
        }
    }
    (ControlOutcome::Topics(outcomes), last_seq)
}

impl Control {
    fn delete(
        &mut self,
        topic: &TopicName,
        settings: &Settings,
        quota: (&mut Quotas, Option<&MutationQuota>),
        last_seq: &mut Option<u64>,
    ) -> TopicOutcome {
        let image = self.quorum.planned();
        let found = match topic {
            TopicName::Name(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicName::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        };
        match found {
            Ok(found) => {
                let (name, id) = (found.name.clone(), found.id);
                let planned = controller::plan_delete_topic(found, settings);
                TopicOutcome { id, ..self.commit(&name, planned, quota, last_seq) }
            }
            Err(error) => {
                let (name, id) = match topic {
                    TopicName::Name(name) => (name.clone(), TopicId::ZERO),
                    TopicName::Id(id) => (String::new(), *id),
                };
                TopicOutcome { name, id, error, message: None, throttle_ms: 0 }
            }
        }
    }

    fn create(
        &mut self,
        topic: &NewTopic,
        planned: Result<Vec<MetaRecord>, MetaError>,
        validate_only: bool,
        quota: (&mut Quotas, Option<&MutationQuota>),
        last_seq: &mut Option<u64>,
    ) -> TopicOutcome {
        let is_there = planned.as_ref().is_ok_and(Vec::is_empty);
        let planned = if validate_only { planned.map(|_| Vec::new()) } else { planned };
        let mut outcome = self.commit(&topic.name, planned, quota, last_seq);
        if is_there {
            // It was asked for before, and is perhaps not committed yet.
            outcome.id = topic.id.unwrap_or(TopicId::ZERO);
            if self.proposed_seq > self.committed_seq {
                *last_seq = (*last_seq).max(Some(self.proposed_seq));
            }
        }
        outcome
    }

    /// Plans for one wish after the other, and appends what was planned unless it was only to be checked.
    fn each<Wish>(
        &mut self,
        wishes: &[Wish],
        validate_only: bool,
        last_seq: &mut Option<u64>,
        plan: impl Fn(&Image, &Wish) -> Result<Vec<MetaRecord>, MetaError>,
    ) -> ControlOutcome {
        let results = wishes.iter().map(|wish| {
            let records = plan(self.quorum.planned(), wish)?;
            if !validate_only && !records.is_empty() {
                self.propose(records, last_seq)?;
            }
            Ok(())
        });
        ControlOutcome::Results(results.collect())
    }

    /// Rules and codes are those of Kafka's `AddVoterHandler` and `RemoveVoterHandler`.
    fn change_voters(&mut self, change: VoterChange, last_seq: &mut Option<u64>) -> Result<(), MetaError> {
        let refuse = |code, message: String| Err(MetaError { code, message });
        let status = self.quorum.status();
        let has_vote = |node| status.voters.contains(&node);
        let proposed = match change {
            VoterChange::Add(node) if has_vote(node) => {
                return refuse(ErrorCode::DuplicateVoter, format!("Node {node} is a voter already."));
            }
            VoterChange::Add(node) if !self.quorum.planned().broker(node).is_some_and(Broker::is_active) => {
                let message = format!("Node {node} does not follow the metadata: start it as a broker first.");
                return refuse(ErrorCode::InvalidRequest, message);
            }
            VoterChange::Remove(node) if !has_vote(node) => {
                return refuse(ErrorCode::VoterNotFound, format!("Node {node} is no voter."));
            }
            VoterChange::Remove(node) if status.voters.len() == 1 => {
                return refuse(ErrorCode::InvalidRequest, format!("Node {node} is the only voter."));
            }
            VoterChange::Add(node) => self.quorum.add_voter(node, &mut self.out),
            // It hears of that from the quorum, and follows without it then.
            VoterChange::Remove(node) => self.quorum.add_learner(node, &mut self.out),
        };
        match proposed {
            Ok(seq) => {
                *last_seq = Some(seq);
                let said = match change {
                    VoterChange::Add(id) => MetaRecord::VoteGiven { id },
                    VoterChange::Remove(id) => MetaRecord::VoteTaken { id },
                };
                self.propose(vec![said], last_seq)
            }
            Err(NotController { .. }) => {
                let message = "Another change of voters is under way: try again soon.";
                refuse(ErrorCode::RequestTimedOut, message.into())
            }
        }
    }

    fn propose(&mut self, records: Vec<MetaRecord>, last_seq: &mut Option<u64>) -> Result<(), MetaError> {
        match self.quorum.propose(records, &mut self.out) {
            Ok(seq) => {
                *last_seq = Some(seq);
                self.proposed_seq = seq;
                Ok(())
            }
            Err(NotController { .. }) => {
                let code = ErrorCode::NotController;
                Err(MetaError { code, message: code.message().into() })
            }
        }
    }

    /// Appends what was planned for a topic and its quota allows, or keeps the refusal.
    fn commit(
        &mut self,
        name: &str,
        planned: Result<Vec<MetaRecord>, MetaError>,
        (quotas, quota): (&mut Quotas, Option<&MutationQuota>),
        last_seq: &mut Option<u64>,
    ) -> TopicOutcome {
        let (name, id, error) = (name.to_owned(), TopicId::ZERO, ErrorCode::None);
        let mut outcome = TopicOutcome { name, id, error, message: None, throttle_ms: 0 };
        let allowed = planned.and_then(|records| {
            let Some(quota) = quota else { return Ok(records) };
            let partitions = records.iter().map(|record| mutated_partitions(self.quorum.planned(), record)).sum();
            let counted = quotas.mutate(quota, partitions);
            outcome.throttle_ms = counted.unwrap_or_else(|throttle_ms| throttle_ms);
            let code = ErrorCode::ThrottlingQuotaExceeded;
            counted.map(|_| records).map_err(|_| MetaError { code, message: code.message().into() })
        });
        let proposed = allowed.and_then(|records| match records.first() {
            None => Ok(TopicId::ZERO),
            Some(first) => {
                let id = if let MetaRecord::TopicCreated { id, .. } = first { *id } else { TopicId::ZERO };
                self.propose(records, last_seq).map(|()| id)
            }
        });
        match proposed {
            Ok(id) => outcome.id = id,
            Err(error) => {
                outcome.error = error.code;
                outcome.message = Some(error.message);
            }
        }
        outcome
    }
}

/// Partitions that a record makes or deletes.
fn mutated_partitions(image: &Image, record: &MetaRecord) -> i32 {
    let before = |id: &TopicId| image.topic_by_id(*id).map_or(0, |topic| topic.partitions);
    match record {
        MetaRecord::TopicCreated { partitions, .. } => *partitions,
        MetaRecord::PartitionsAdded { id, partitions_total, .. } => partitions_total - before(id),
        MetaRecord::TopicDeleted { id } => before(id),
        _ => 0,
    }
}
