//! DescribeLogDirs (API 35, versions 1–4): the data directory, how large each partition in it is, and how much space
//! its volume has (KIP-113, KIP-827).
//!
//! On a per-core listener each core tells of the partitions it owns, as the broker it is shown as.
//!
//! *Owns*: the form of the answer. *Never*: measures anything itself. *Runs on*: the core whose client asked.

use std::collections::BTreeMap;

use crate::base::disk::{DiskDone, DiskOp, DiskResult};
use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::effect::{Effect, Effects};
use crate::broker::job::{Job, Work};
use crate::broker::message::TopicPartition;
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::broker::survey::{Survey, Surveyed};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};

#[derive(Debug)]
pub struct DescribeLogDirsWork {
    sizes: BTreeMap<TopicPartition, u64>,
    /// Bytes of the volume in all, and free. Not known: `None`.
    space: Option<(u64, u64)>,
    /// Cores that have not answered, and the volume.
    waiting: usize,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeLogDirsRequest>(shard, &mut request, "DescribeLogDirs", effects) else {
        return;
    };
    let mut wanted: Vec<TopicPartition> = match &asked.topics {
        None => shard.image.topics().flat_map(route::partitions_of).collect(),
        Some(topics) => {
            // What is not here is left out, as in Kafka.
            let known = topics.iter().filter_map(|asked| Some((shard.image.topic(&asked.topic)?, asked)));
            known
                .flat_map(|(topic, asked)| {
                    asked.partitions.iter().filter_map(|index| route::partition_of(topic, *index))
                })
                .collect()
        }
    };
    let has = |of: &TopicPartition| {
        shard.image.partition(of.topic, of.partition).is_some_and(|state| state.has_replica(shard.node()))
    };
    wanted.retain(|of| has(of) && shard.leads(asker.listener, shard.owner(of.topic, of.partition)));
    wanted.sort_unstable();
    wanted.dedup();
    let work = DescribeLogDirsWork { sizes: BTreeMap::new(), space: None, waiting: 1 };
    let job = shard.add_job(asker, Work::DescribeLogDirs(work));
    let token = shard.partitions.space_token(job);
    effects.push(Effect::Disk { token, op: DiskOp::Space });
    let asked = shard.survey(job, Survey::SizeBytes, &wanted, effects);
    if let Some(Job { work: Work::DescribeLogDirs(work), .. }) = shard.jobs.get_mut(job) {
        work.waiting += asked;
    }
}

pub(in crate::broker) fn on_surveyed(
    shard: &mut Shard,
    job: Key,
    found: Vec<(TopicPartition, Surveyed)>,
    effects: &mut Effects,
) {
    let Some(Job { work: Work::DescribeLogDirs(work), .. }) = shard.jobs.get_mut(job) else { return };
    let sizes = found.into_iter().filter_map(|(of, surveyed)| match surveyed {
        Surveyed::SizeBytes(bytes) => Some((of, bytes)),
        // Deleted meanwhile.
        Surveyed::Error(_) | Surveyed::Producers(_) => None,
    });
    work.sizes.extend(sizes);
    finish(shard, job, effects);
}

/// How much space the volume has, or why nobody knows.
pub(in crate::broker) fn on_space(shard: &mut Shard, job: Key, result: DiskResult, effects: &mut Effects) {
    // The client may be gone.
    let Some(Job { work: Work::DescribeLogDirs(work), .. }) = shard.jobs.get_mut(job) else { return };
    match result {
        Ok(DiskDone::Space { total_bytes, usable_bytes }) => work.space = Some((total_bytes, usable_bytes)),
        Ok(_) => unreachable!("the disk was asked for its space"),
        Err(error) => tracing::warn!("cannot tell how much space the data directory has: {error}"),
    }
    finish(shard, job, effects);
}

/// Replies when everybody has answered.
fn finish(shard: &mut Shard, job: Key, effects: &mut Effects) {
    let Some(Job { work: Work::DescribeLogDirs(work), .. }) = shard.jobs.get_mut(job) else { return };
    work.waiting -= 1;
    if work.waiting > 0 {
        return;
    }
    let Some(Job { asker, work: Work::DescribeLogDirs(work), .. }) = shard.jobs.remove(job) else { return };
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    let mut last = None;
    for (of, bytes) in work.sizes {
        let Some(topic) = shard.image.topic_by_id(of.topic) else { continue };
        if last != Some(of.topic) {
            topics.push(DescribeLogDirsTopic { name: topic.name.as_str().into(), partitions: Vec::new() });
            last = Some(of.topic);
        }
        let row = DescribeLogDirsPartition {
            partition_index: of.partition.0,
            partition_size: clamped(bytes),
            ..DescribeLogDirsPartition::default()
        };
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(row);
        }
    }
    let error = if shard.offline.is_some() { ErrorCode::KafkaStorageError } else { ErrorCode::None };
    let (total_bytes, usable_bytes) = work.space.map_or((-1, -1), |(total, free)| (clamped(total), clamped(free)));
    let log_dir = shard.config.settings.data_dir.display().to_string();
    let result =
        DescribeLogDirsResult { error_code: error.code(), log_dir: log_dir.into(), topics, total_bytes, usable_bytes };
    let reply = DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() };
    shard.reply(key::DESCRIBE_LOG_DIRS, asker, &reply, effects);
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
