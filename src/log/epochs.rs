//! Leader epochs of one partition: where each began.
//!
//! *Owns*: the table epoch → first offset, which is derived from the batches. *Never*: gives out an epoch.
//! *Runs on*: the core that owns the partition.

use crate::base::fields::Fields;
use crate::base::ids::{LeaderEpoch, Offset};

use super::file::FileWriter;

/// Leaders a partition's table remembers; the oldest are forgotten first, and then look older than the log.
const EPOCHS_KEPT_MAX: usize = 65_536;

const ENTRY_BYTES: usize = 12;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    /// Invariant: both columns strictly ascend.
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// A batch of `epoch` lies at `base`. The caller saw to it that `epoch` is not behind the latest one.
    pub(super) fn on_batch(&mut self, epoch: LeaderEpoch, base: Offset) {
        if let Some(&(latest, start)) = self.starts.last() {
            assert!(epoch >= latest, "epochs of a log never go back");
            if epoch == latest {
                return;
            }
            assert!(base > start);
        }
        if self.starts.len() == EPOCHS_KEPT_MAX {
            self.starts.drain(..EPOCHS_KEPT_MAX / 2);
        }
        self.starts.push((epoch, base));
    }

    /// Forgets every epoch that began at `end` or later.
    pub(super) fn cut(&mut self, end: Offset) {
        let kept = self.starts.partition_point(|(_, start)| *start < end);
        self.starts.truncate(kept);
    }

    /// The largest epoch not above `asked`, and where it ended; `end` is the log's end. `None` when `asked` is
    /// unknown (negative, or above every epoch of the log). An epoch below all of them ended where the first
    /// began, under its own number (KIP-101, KIP-279; Kafka's LeaderEpochFileCache.endOffsetFor).
    pub(super) fn end_of(&self, asked: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if asked < LeaderEpoch(0) {
            return None;
        }
        let above = self.starts.partition_point(|(epoch, _)| *epoch <= asked);
        let Some(&(_, next_start)) = self.starts.get(above) else {
            return (self.latest() == Some(asked)).then_some((asked, end));
        };
        match above.checked_sub(1) {
            Some(at) => Some((self.starts[at].0, next_start)),
            None => Some((asked, next_start)),
        }
    }

    /// Writes the epochs that began below `end`.
    pub(super) fn encode(&self, end: Offset, to: &mut FileWriter) {
        let kept = self.starts.partition_point(|(_, start)| *start < end);
        to.put_count(kept);
        for (epoch, start) in &self.starts[..kept] {
            to.put_i32(epoch.0);
            to.put_i64(start.0);
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Epochs> {
        let count = from.count(ENTRY_BYTES)?;
        let mut starts: Vec<(LeaderEpoch, Offset)> = Vec::with_capacity(count);
        for _ in 0..count {
            let row = (LeaderEpoch(from.i32()?), Offset(from.i64()?));
            if starts.last().is_some_and(|last| last.0 >= row.0 || last.1 >= row.1) {
                return None;
            }
            starts.push(row);
        }
        Some(Epochs { starts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::open_file;
    use super::*;

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, base) in [(1, 0), (1, 4), (3, 10), (4, 20), (4, 25)] {
            epochs.on_batch(LeaderEpoch(epoch), Offset(base));
        }
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_began() {
        let check = |asked: i32, expect: Option<(i32, i64)>| {
            let got = epochs().end_of(LeaderEpoch(asked), Offset(30));
            assert_eq!(got, expect.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end))), "epoch {asked}");
        };
        check(-1, None);
        check(0, Some((0, 0)));
        check(1, Some((1, 10)));
        check(2, Some((1, 10)));
        check(3, Some((3, 20)));
        check(4, Some((4, 30)));
        check(5, None);
        assert_eq!(Epochs::default().end_of(LeaderEpoch(0), Offset(0)), None);
    }

    #[test]
    fn a_cut_forgets_what_began_at_or_after_it() {
        let check = |end: i64, latest: Option<i32>| {
            let mut epochs = epochs();
            epochs.cut(Offset(end));
            assert_eq!(epochs.latest(), latest.map(LeaderEpoch), "cut at {end}");
        };
        check(30, Some(4));
        check(21, Some(4));
        check(20, Some(3));
        check(1, Some(1));
        check(0, None);
    }

    #[test]
    fn a_table_reads_back_as_it_was_cut() {
        let mut writer = FileWriter::new(*b"TST1");
        epochs().encode(Offset(20), &mut writer);
        let bytes = writer.finish();
        let mut reader = open_file(*b"TST1", &bytes).unwrap();
        let mut expect = epochs();
        expect.cut(Offset(20));
        assert_eq!(Epochs::decode(&mut reader), Some(expect));
        assert_eq!(reader.end(), Some(()));
    }
}
