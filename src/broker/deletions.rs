//! Deletions of records on behalf of DeleteRecords, of this core or another.
//!
//! *Owns*: which deletions wait for the disk or for other replicas, and who is told. *Never*: deletes anything itself.
//! *Runs on*: the core that owns the partition.

use std::collections::BTreeMap;

use crate::base::ids::{CoreId, Offset};
use crate::base::slab::Key;
use crate::base::time::{Instant, Now};
use crate::broker::effect::Effects;
use crate::broker::errors;
use crate::broker::message::{Answer, ShardMessage, TopicPartition};
use crate::broker::shard::Shard;
use crate::replica::deletion::{Deletion, DeletionTicket};
use crate::replica::partition::Refusal;

/// Deletions that wait, by partition.
#[derive(Debug, Default)]
pub struct Deletions {
    late: BTreeMap<(u32, DeletionTicket), AnswerTo>,
}

/// A part of a request that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTo {
    pub core: CoreId,
    pub job: Key,
    pub at: u32,
}

impl Shard {
    /// The answer, unless it must wait for the disk, or for other replicas until `due`.
    pub(in crate::broker) fn delete_records_here(
        &mut self,
        to: AnswerTo,
        of: TopicPartition,
        (before, due): (i64, Instant),
        now: Now,
        effects: &mut Effects,
    ) -> Option<Answer> {
        let Some(owner) = self.partitions.owner_number(of) else {
            return Some(Answer::Error(errors::of_refusal(&self.absent(of))));
        };
        let deletion = self
            .on_partition(owner, now, effects, |partition, _, out| partition.delete_records(before, due, now, out))?;
        match deletion {
            Ok(Deletion::Done(start)) => Some(Answer::LogStart { start }),
            Ok(Deletion::Later(ticket)) => {
                self.deletions.late.insert((owner, ticket), to);
                None
            }
            Err(refusal) => Some(Answer::Error(errors::of_refusal(&refusal))),
        }
    }

    pub(in crate::broker) fn on_late_deletion(
        &mut self,
        owner: u32,
        ticket: DeletionTicket,
        result: Result<Offset, Refusal>,
        effects: &mut Effects,
    ) {
        let Some(AnswerTo { core, job, at }) = self.deletions.late.remove(&(owner, ticket)) else { return };
        let answer = match result {
            Ok(start) => Answer::LogStart { start },
            Err(refusal) => Answer::Error(errors::of_refusal(&refusal)),
        };
        self.send(core, ShardMessage::Answer { job, at, answer }, effects);
    }
}
