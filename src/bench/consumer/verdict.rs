//! What became of the records that consumers were to receive.
//!
//! *Owns*: the comparison of what came with what was sent. *Never*: changes a consumer. *Runs on*: any thread.

use std::collections::BTreeSet;

use super::Consumer;
use crate::bench::payload::stream_id;
use crate::bench::tally::{SentStream, Settled, Tally};

/// What is found out about all streams of some partitions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    pub sum: Settled,
    /// Records that had been deleted from the start of the log before the consumer came to them.
    pub deleted: u64,
    /// The first lost record that was found: partition, producer, sequence.
    pub first_lost: Option<(i32, u32, Option<u64>)>,
    /// Records that one member of a group received, and another one again.
    pub redelivered: u64,
}

impl Consumer {
    /// Compares what came with what was sent, once the consumer is drained. `sent` knows every stream's sending side
    /// (nothing of a stream that sent nothing).
    pub fn settle<'a>(
        &self,
        producers: u32,
        partitions: u32,
        sent: impl FnMut(u32) -> Option<&'a SentStream>,
    ) -> Verdict {
        let indexes: Vec<i32> = self.partitions.iter().map(|partition| partition.index).collect();
        judge(&self.tally, &indexes, &self.skipped(), (producers, partitions), sent)
    }

    /// Partitions of which something was deleted before it was received.
    fn skipped(&self) -> BTreeSet<i32> {
        let skipped = self.partitions.iter().filter(|partition| partition.skipped_offsets > 0);
        skipped.map(|partition| partition.index).collect()
    }
}

/// The same for the members of a group together, which read all partitions, each first by one and then perhaps by
/// another: a record is received if any of them has it.
pub fn settle_group<'a>(
    members: &[&Consumer],
    producers: u32,
    partitions: u32,
    sent: impl FnMut(u32) -> Option<&'a SentStream>,
) -> Verdict {
    let mut tally = Tally::new();
    let redelivered = members.iter().map(|member| tally.merge(&member.tally)).sum();
    let skipped = members.iter().flat_map(|member| member.skipped()).collect();
    let indexes: Vec<i32> = (0..partitions as i32).collect();
    Verdict { redelivered, ..judge(&tally, &indexes, &skipped, (producers, partitions), sent) }
}

fn judge<'a>(
    tally: &Tally,
    indexes: &[i32],
    skipped: &BTreeSet<i32>,
    (producers, partitions): (u32, u32),
    mut sent: impl FnMut(u32) -> Option<&'a SentStream>,
) -> Verdict {
    let nothing = SentStream::default();
    let mut verdict = Verdict::default();
    for &index in indexes {
        let partition = u32::try_from(index).expect("partitions are numbered from 0");
        for producer in 0..producers {
            let stream = stream_id(producer, partition, partitions);
            let mut settled = tally.settle(stream, sent(stream).unwrap_or(&nothing));
            if skipped.contains(&index) {
                verdict.deleted += std::mem::take(&mut settled.lost);
            } else if settled.lost > 0 {
                verdict.first_lost.get_or_insert((index, producer, settled.first_lost));
            }
            verdict.sum.add(&settled);
        }
    }
    verdict
}
