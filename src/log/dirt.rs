//! How much of a log waits to be compacted, and whether that is enough.
//!
//! The rules are Kafka's (LogCleanerManager): segments that were sealed, newer than the last compaction, and older than
//! `min.compaction.lag.ms`; worth it when they are more than `min.cleanable.dirty.ratio` of what would be read, or when
//! the oldest of them is older than `max.compaction.lag.ms`.
//!
//! *Owns*: these rules. *Never*: begins a compaction by itself. *Runs on*: the core that owns the partition.

use crate::base::ids::Offset;
use crate::base::time::Now;
use crate::config::Ratio;

use super::clean::CleanOrder;
use super::log::{Life, Log, LogOut};
use super::segment::Segment;

/// A log that is to be compacted. The greatest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dirt {
    /// Something in it is older than it may become.
    pub overdue: bool,
    /// Of what would be read, what is new.
    pub ratio: Ratio,
}

/// What is compacted, and how much of it is new.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    until: Offset,
    clean_bytes: u64,
    dirty_bytes: u64,
    /// Of the first record that is new, as far as it is known.
    oldest_ms: Option<i64>,
}

impl Log {
    /// What there is to compact, if it is enough. `None` also while that is not known: then it is being looked up.
    pub fn dirt(&mut self, now: Now, out: &mut LogOut) -> Option<Dirt> {
        let settings = &self.settings;
        let is_open = matches!(self.life, Life::Open) && self.offline.is_none();
        if !settings.cleanup_policy.compact || !is_open || self.cleaning.is_some() || self.uncleanable {
            return None;
        }
        let Extent { clean_bytes, dirty_bytes, oldest_ms, .. } = self.extent(now, out)?;
        let age_ms = oldest_ms.map_or(0, |oldest_ms| now.wall_ms.saturating_sub(oldest_ms));
        let overdue = u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > self.settings.max_compaction_lag_ms);
        let ratio = Ratio::of(dirty_bytes, clean_bytes + dirty_bytes);
        let is_enough = ratio > self.settings.min_cleanable_dirty_ratio || overdue;
        (dirty_bytes > 0 && is_enough).then_some(Dirt { overdue, ratio })
    }

    /// Begins to compact, if there is anything; then `LogEvent::Cleaned`. False when there is not.
    pub fn clean(&mut self, order: CleanOrder, now: Now, out: &mut LogOut) -> bool {
        let Some(extent) = self.dirt(now, out).and_then(|_| self.extent(now, out)) else { return false };
        self.begin_clean(order, extent.until, now, out);
        true
    }

    fn extent(&mut self, now: Now, out: &mut LogOut) -> Option<Extent> {
        let cleaned = self.bounding.held.cleaned.max(self.start());
        let mut extent = Extent { until: cleaned, clean_bytes: 0, dirty_bytes: 0, oldest_ms: None };
        let min_lag_ms = i64::try_from(self.settings.min_compaction_lag_ms).unwrap_or(i64::MAX);
        for at in 0..self.segments.len().saturating_sub(1) {
            let Segment { sealing, len, max_timestamp, first_timestamp, .. } = self.segments[at];
            let end = self.segment_end(at);
            if end <= cleaned {
                extent.clean_bytes += len;
                continue;
            }
            if min_lag_ms > 0 && max_timestamp.is_none() {
                self.has_index(at, out);
                break;
            }
            let is_young = max_timestamp.is_some_and(|newest| now.wall_ms.saturating_sub(newest) < min_lag_ms);
            if sealing || (min_lag_ms > 0 && is_young) {
                break;
            }
            if extent.dirty_bytes == 0 {
                extent.oldest_ms = first_timestamp.or(max_timestamp).filter(|oldest| *oldest >= 0);
            }
            extent.dirty_bytes += len;
            extent.until = end;
        }
        (extent.dirty_bytes > 0).then_some(extent)
    }
}
