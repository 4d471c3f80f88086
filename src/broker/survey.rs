//! A question to the owners of many partitions, and one answer made of theirs.
//!
//! Cores are asked once each, about all of theirs together: a broker may have a hundred thousand partitions.
//!
//! *Owns*: which core is asked about what, and what a core says of its partitions. *Never*: knows the form of a reply.
//! *Runs on*: every core.

use std::collections::BTreeMap;

use crate::base::ids::CoreId;
use crate::base::limits::PRODUCERS_DESCRIBED_MAX;
use crate::base::slab::Key;
use crate::broker::api::{describe_log_dirs, describe_producers};
use crate::broker::effect::Effects;
use crate::broker::errors;
use crate::broker::job::{Job, Work};
use crate::broker::message::{ShardMessage, TopicPartition};
use crate::broker::shard::Shard;
use crate::log::log::ActiveProducer;
use crate::wire::errors::ErrorCode;

/// What is asked of each partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survey {
    SizeBytes,
    Producers,
}

/// What there is to say of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Surveyed {
    /// It is not there, or cannot be read at present.
    Error(ErrorCode),
    SizeBytes(u64),
    Producers(Vec<ActiveProducer>),
}

impl Shard {
    /// Asks the owners; how many answers are to come. None if there is nothing to ask.
    pub(in crate::broker) fn survey(
        &mut self,
        job: Key,
        survey: Survey,
        of: &[TopicPartition],
        effects: &mut Effects,
    ) -> usize {
        let mut by_owner: BTreeMap<CoreId, Vec<TopicPartition>> = BTreeMap::new();
        for &of in of {
            by_owner.entry(self.owner(of.topic, of.partition)).or_default().push(of);
        }
        let cores = by_owner.len();
        for (core, of) in by_owner {
            self.send(core, ShardMessage::Survey { job, survey, of }, effects);
        }
        cores
    }

    pub(in crate::broker) fn on_survey(
        &mut self,
        from: CoreId,
        (job, survey): (Key, Survey),
        of: &[TopicPartition],
        effects: &mut Effects,
    ) {
        let mut producers_left = PRODUCERS_DESCRIBED_MAX;
        let found = of.iter().map(|&of| (of, self.surveyed_here(survey, of, &mut producers_left))).collect();
        self.send(from, ShardMessage::Surveyed { job, found }, effects);
    }

    pub(in crate::broker) fn on_surveyed(
        &mut self,
        job: Key,
        found: Vec<(TopicPartition, Surveyed)>,
        effects: &mut Effects,
    ) {
        match self.jobs.get(job) {
            Some(Job { work: Work::DescribeLogDirs(_), .. }) => {
                describe_log_dirs::on_surveyed(self, job, found, effects);
            }
            Some(Job { work: Work::DescribeProducers(_), .. }) => {
                describe_producers::on_surveyed(self, job, found, effects);
            }
            _ => {}
        }
    }

    fn surveyed_here(&self, survey: Survey, of: TopicPartition, producers_left: &mut usize) -> Surveyed {
        let Some(partition) = self.partitions.get(of) else {
            return Surveyed::Error(errors::of_refusal(&self.absent(of)));
        };
        match survey {
            Survey::SizeBytes => Surveyed::SizeBytes(partition.size_bytes()),
            Survey::Producers if !partition.is_online() => Surveyed::Error(ErrorCode::KafkaStorageError),
            Survey::Producers if !partition.is_leader() => Surveyed::Error(ErrorCode::NotLeaderOrFollower),
            Survey::Producers => {
                let producers = partition.active_producers(*producers_left);
                *producers_left -= producers.len();
                Surveyed::Producers(producers)
            }
        }
    }
}
