//! Core 0's control of metadata: orders come in from every core, are decided against the image, committed to the
//! metadata log, applied by every core, and only then answered.
//!
//! One group of orders is under way at a time. So when a topic's deletion is answered its directories are gone,
//! and a topic of the same name can be created without meeting its remains.
//!
//! *Owns*: the metadata log and the order of its changes. *Never*: answers before every core has applied.
//! *Runs on*: core 0.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;

use crate::base::disk::DiskResult;
use crate::base::ids::{CoreId, NodeId, ProducerId, TopicId};
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::slab::Key;
use crate::base::time::Now;
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicName, TopicOutcome};
use crate::broker::quotas::{MutationQuota, Quotas};
use crate::broker::replaying::Replaying;
use crate::broker::shard::{DeadlineKey, Shard, ShardConfig};
use crate::config::Settings;
use crate::meta::MetaRecord;
use crate::meta::configs;
use crate::meta::controller::{self, MetaError};
use crate::meta::fleet::Fleet;
use crate::meta::quota;
use crate::meta::{Image, MetaEvent, MetaOp, MetaOut, Store};
use crate::wire::errors::ErrorCode;

/// The owner number of the metadata store's files; partitions count up from 0 and never get there.
const META_OWNER: u32 = u32::MAX;

/// How soon a full disk is asked again.
const RETRY_MS: u64 = 1_000;

#[derive(Debug)]
pub struct Control {
    store: Store,
    queue: VecDeque<Order>,
    stage: Stage,
    /// Until the journals of the run before are empty.
    replaying: Option<Box<Replaying>>,
    out: MetaOut,
}

#[derive(Debug)]
struct Order {
    from: CoreId,
    job: Key,
    order: ControlOrder,
}

#[derive(Debug)]
enum Stage {
    Loading,
    /// Ready for the next group of orders.
    Idle,
    Committing {
        seq: u64,
        group: Group,
    },
    /// Before the first group of a start is applied.
    Replaying {
        seq: u64,
        group: Group,
    },
    Applying {
        seq: u64,
        cores_left: u16,
        group: Group,
    },
    /// The first group of a start is applied: nobody needs the journals of the run before.
    Emptying {
        group: Group,
    },
    Closing,
}

/// Orders that are decided together.
#[derive(Debug, Default)]
struct Group {
    /// What is loaded at a start; later the store tells what was committed.
    records: Vec<MetaRecord>,
    outcomes: Vec<(CoreId, Key, ControlOutcome)>,
    /// The first group after a start: when it is applied the broker is ready.
    boot: bool,
}

impl Control {
    pub fn boot(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let mut out = MetaOut::default();
        let me = NodeId(shard.config.settings.node_id);
        let store = Store::open(META_OWNER, PathBuf::from("meta"), me, &mut out);
        shard.control = Some(Control { store, queue: VecDeque::new(), stage: Stage::Loading, replaying: None, out });
        settle(shard, now, effects);
    }

    pub fn on_disk(shard: &mut Shard, op: MetaOp, result: DiskResult, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        control.store.on_disk(op, result, &mut control.out);
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
        next_group(shard, now, effects);
    }

    /// A core has put the records of a group into effect.
    pub fn on_applied(shard: &mut Shard, sequence: u64, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        let Stage::Applying { seq, cores_left, .. } = &mut control.stage else { return };
        assert!(*seq == sequence, "one group is applied at a time");
        *cores_left -= 1;
        if *cores_left > 0 {
            return;
        }
        let Stage::Applying { group, .. } = mem::replace(&mut control.stage, Stage::Idle) else { return };
        if group.boot {
            control.stage = Stage::Emptying { group };
            return shard.empty_journals(now, effects);
        }
        finish_group(shard, group, now, effects);
    }

    pub fn replaying(&mut self) -> Option<&mut Replaying> {
        self.replaying.as_deref_mut()
    }

    /// The data directory takes no more writes: what was not begun is refused.
    pub fn on_directory_offline(shard: &mut Shard, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        for Order { from, job, .. } in mem::take(&mut control.queue) {
            let outcome = ControlOutcome::Failed(ErrorCode::KafkaStorageError);
            shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
        }
    }

    pub fn on_retry(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        if shard.offline.is_some() {
            // What found no space will not be written any more.
            let given_up = match &mut control.stage {
                Stage::Committing { group, .. } => mem::take(&mut group.outcomes),
                _ => Vec::new(),
            };
            for (from, job, _) in given_up {
                let outcome = ControlOutcome::Failed(ErrorCode::KafkaStorageError);
                shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
            }
            return;
        }
        control.store.retry(&mut control.out);
        settle(shard, now, effects);
    }

    /// Ends in `Shard::check_stopped` once the store is closed.
    pub fn close(shard: &mut Shard, now: Now, effects: &mut Effects) {
        let Some(control) = shard.control.as_mut() else { return };
        control.stage = Stage::Closing;
        control.store.close(&mut control.out);
        settle(shard, now, effects);
    }
}

/// Carries out what the store asks for and says.
fn settle(shard: &mut Shard, now: Now, effects: &mut Effects) {
    loop {
        let Some(control) = shard.control.as_mut() else { return };
        for (op, disk_op) in control.out.disk.drain(..) {
            let token = shard.partitions.meta_token(op);
            effects.push(Effect::Disk { token, op: disk_op });
        }
        let events = mem::take(&mut control.out.events);
        if events.is_empty() {
            return;
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
    let Some(control) = shard.control.as_mut() else { return };
    let planned = controller::plan_cluster(control.store.planned(), &shard.config.settings, &mut shard.rng);
    match planned {
        Err(error) => effects.push(Effect::Fatal { message: error.to_string() }),
        Ok(new) => {
            let group = Group { records, boot: true, ..Group::default() };
            if new.is_empty() {
                return replay(shard, 0, group, now, effects);
            }
            let seq = control.store.append(new, &mut control.out);
            control.stage = Stage::Committing { seq, group };
            settle(shard, now, effects);
        }
    }
}

fn on_committed(shard: &mut Shard, seq: u64, records: Vec<MetaRecord>, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    // Otherwise the broker is stopping, and the records take effect at the next start.
    let Stage::Committing { seq: awaited, group } = &mut control.stage else { return };
    group.records.extend(records);
    assert!(seq <= *awaited);
    if seq < *awaited {
        return;
    }
    match mem::replace(&mut control.stage, Stage::Idle) {
        Stage::Committing { group, .. } if group.boot => replay(shard, seq, group, now, effects),
        Stage::Committing { group, .. } => apply(shard, seq, group, effects),
        _ => {}
    }
}

fn replay(shard: &mut Shard, seq: u64, group: Group, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.take() else { return };
    let replaying = Some(Box::new(Replaying::start(shard, control.store.planned(), now, effects)));
    shard.control = Some(Control { stage: Stage::Replaying { seq, group }, replaying, ..control });
}

/// What the journals had is in the segments, and every core knows what its logs must hold.
pub fn on_replayed(shard: &mut Shard, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    if let Stage::Replaying { seq, group } = mem::replace(&mut control.stage, Stage::Idle) {
        apply(shard, seq, group, effects);
    }
}

/// The journals of the run before are empty, or must stay as they are.
pub fn on_emptied(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    control.replaying = None;
    if let Stage::Emptying { group } = mem::replace(&mut control.stage, Stage::Idle) {
        finish_group(shard, group, now, effects);
    }
}

fn apply(shard: &mut Shard, seq: u64, mut group: Group, effects: &mut Effects) {
    let cores = shard.config.cores;
    let records = mem::take(&mut group.records);
    if let Some(control) = shard.control.as_mut() {
        control.stage = Stage::Applying { seq, cores_left: cores, group };
    }
    for core in 0..cores {
        shard.send(CoreId(core), ShardMessage::Meta { sequence: seq, records: records.clone() }, effects);
    }
}

fn finish_group(shard: &mut Shard, group: Group, now: Now, effects: &mut Effects) {
    if group.boot {
        for core in 0..shard.config.cores {
            shard.send(CoreId(core), ShardMessage::AllReady, effects);
        }
    }
    for (from, job, outcome) in group.outcomes {
        shard.send(from, ShardMessage::Controlled { job, outcome }, effects);
    }
    let removed: Vec<MetaRecord> =
        shard.image.deleting().map(|topic| MetaRecord::TopicRemoved { id: topic.id }).collect();
    let Some(control) = shard.control.as_mut() else { return };
    if removed.is_empty() || shard.offline.is_some() {
        return next_group(shard, now, effects);
    }
    let seq = control.store.append(removed, &mut control.out);
    control.stage = Stage::Committing { seq, group: Group::default() };
    settle(shard, now, effects);
}

/// Decides on what waits, as one group. A deletion ends the group: what comes after it may use the name again, and
/// must not meet the files.
fn next_group(shard: &mut Shard, now: Now, effects: &mut Effects) {
    let Some(control) = shard.control.as_mut() else { return };
    if !matches!(control.stage, Stage::Idle) || control.queue.is_empty() {
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
        control.stage = Stage::Committing { seq, group };
        return settle(shard, now, effects);
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
        ControlOrder::TakeProducerIds => {
            let (ids, records) = controller::plan_producer_ids(control.store.planned());
            let seq = control.store.append(records, &mut control.out);
            let outcome = ControlOutcome::ProducerIds { first: ProducerId(ids.start), count: ids.end - ids.start };
            return (outcome, Some(seq));
        }
        ControlOrder::AlterQuotas { wishes, validate_only } => {
            let results = wishes.iter().map(|wish| {
                let planned = quota::plan_quota_change(control.store.planned(), wish);
                control.commit_unless(validate_only, planned, &mut last_seq)
            });
            return (ControlOutcome::Results(results.collect()), last_seq);
        }
        ControlOrder::AlterConfigs { wishes, validate_only } => {
            let results = wishes.iter().map(|wish| {
                let planned = configs::plan_config_change(control.store.planned(), wish, at_start);
                control.commit_unless(validate_only, planned, &mut last_seq)
            });
            return (ControlOutcome::Results(results.collect()), last_seq);
        }
        ControlOrder::CreateTopics { topics, validate_only, quota } => {
            let quota = quota.filter(|_| !validate_only);
            for topic in &topics {
                let planned = if topics.iter().filter(|other| other.name == topic.name).count() > 1 {
                    let message = format!("Topic '{}' is named more than once in the request.", topic.name);
                    Err(MetaError { code: ErrorCode::InvalidRequest, message })
                } else {
                    controller::plan_create_topic(Fleet::of(control.store.planned(), me), topic, settings, rng)
                };
                let planned = if validate_only { planned.map(|_| Vec::new()) } else { planned };
                outcomes.push(control.commit(&topic.name, planned, (quotas, quota.as_ref()), &mut last_seq));
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
                let fleet = Fleet::of(control.store.planned(), me);
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
        let image = self.store.planned();
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

    /// Appends what was planned, unless it was only to be checked.
    fn commit_unless(
        &mut self,
        validate_only: bool,
        planned: Result<Vec<MetaRecord>, MetaError>,
        last_seq: &mut Option<u64>,
    ) -> Result<(), MetaError> {
        let records = planned?;
        if !validate_only && !records.is_empty() {
            *last_seq = Some(self.store.append(records, &mut self.out));
        }
        Ok(())
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
            let partitions = records.iter().map(|record| mutated_partitions(self.store.planned(), record)).sum();
            let counted = quotas.mutate(quota, partitions);
            outcome.throttle_ms = counted.unwrap_or_else(|throttle_ms| throttle_ms);
            let code = ErrorCode::ThrottlingQuotaExceeded;
            counted.map(|_| records).map_err(|_| MetaError { code, message: code.message().into() })
        });
        match allowed {
            Ok(records) if records.is_empty() => {}
            Ok(records) => {
                if let Some(MetaRecord::TopicCreated { id, .. }) = records.first() {
                    outcome.id = *id;
                }
                *last_seq = Some(self.store.append(records, &mut self.out));
            }
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
