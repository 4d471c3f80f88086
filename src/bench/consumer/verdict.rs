//! What became of the records that consumers were to receive.
//!
//! *Owns*: the comparison of what came with what was sent. *Never*: changes a consumer. *Runs on*: any thread.

use std::collections::BTreeMap;

use super::Consumer;
use super::partition::Came;
use crate::bench::payload::{partition_of_stream, stream_id};
use crate::bench::tally::{SentStream, Settled, Tally};

/// What is found out about all streams of some partitions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    pub sum: Settled,
    /// Records that had been deleted from the start of the log before the consumer came to them.
    pub deleted: u64,
    /// Records that one member of a group received, and another one again.
    pub redelivered: u64,
    /// Of each partition, by its index over all topics.
    pub partitions: BTreeMap<u32, Fate>,
}

/// What became of the records of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fate {
    /// Records that came, the same one again counted again.
    pub received: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub lost: u64,
    /// Of the first lost record that was found: its producer, and its sequence if that is known.
    pub first_lost: Option<(u32, Option<u64>)>,
}

impl Consumer {
    /// Compares what came with what was sent, once the consumer is drained. `sent` knows every stream's sending side
    /// (nothing of a stream that sent nothing).
    pub fn settle<'a>(&self, producers: u32, sent: impl FnMut(u32) -> Option<&'a SentStream>) -> Verdict {
        let partitions = self.partitions.iter().map(|partition| (partition.index, fate(partition.came))).collect();
        judge(&self.tally, Verdict { partitions, ..Default::default() }, &[self], producers, sent)
    }
}

/// The same for the members of a group together, which read all partitions, each first by one and then perhaps by
/// another: a record is received if any of them has it.
pub fn settle_group<'a>(
    members: &[&Consumer],
    producers: u32,
    sent: impl FnMut(u32) -> Option<&'a SentStream>,
) -> Verdict {
    let count = members.first().map_or(0, |member| member.topics.all().count());
    let mut verdict = Verdict::default();
    verdict.partitions.extend((0..count).map(|index| (index, Fate::default())));
    let mut tally = Tally::new();
    for member in members {
        for partition in &member.partitions {
            let (sum, more) = (verdict.partitions.entry(partition.index).or_default(), partition.came);
            sum.received += more.records;
            sum.duplicates += more.duplicates;
            sum.reordered += more.reordered;
        }
        for (stream, records) in tally.merge(&member.tally) {
            verdict.redelivered += records;
            if let Some(fate) = verdict.partitions.get_mut(&partition_of_stream(stream, count)) {
                fate.duplicates += records;
            }
        }
    }
    judge(&tally, verdict, members, producers, sent)
}

fn fate(came: Came) -> Fate {
    Fate { received: came.records, duplicates: came.duplicates, reordered: came.reordered, ..Default::default() }
}

/// Adds what is missing of the verdict's partitions.
fn judge<'a>(
    tally: &Tally,
    mut verdict: Verdict,
    readers: &[&Consumer],
    producers: u32,
    mut sent: impl FnMut(u32) -> Option<&'a SentStream>,
) -> Verdict {
    let nothing = SentStream::default();
    let partitions = readers.iter().flat_map(|reader| &reader.partitions);
    // Of these something was deleted before it was received.
    let skipped: Vec<u32> = partitions.filter(|row| row.skipped_offsets > 0).map(|row| row.index).collect();
    let count = readers.first().map_or(0, |reader| reader.topics.all().count());
    for (&index, fate) in &mut verdict.partitions {
        for producer in 0..producers {
            let stream = stream_id(producer, index, count);
            let mut settled = tally.settle(stream, sent(stream).unwrap_or(&nothing));
            if skipped.contains(&index) {
                verdict.deleted += std::mem::take(&mut settled.lost);
            } else if settled.lost > 0 {
                fate.first_lost.get_or_insert((producer, settled.first_lost));
                fate.lost += settled.lost;
            }
            verdict.sum.add(&settled);
        }
    }
    verdict
}
