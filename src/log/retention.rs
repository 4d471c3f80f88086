//! Retention: which segments at the start of a log are too old, or too much.
//!
//! The rules are Kafka's (UnifiedLog.deleteOldSegments): whole segments, from the start, as long as each is over
//! `retention.bytes` by all of itself or its newest record is older than `retention.ms`. When the segment that is
//! written to has expired too, it is sealed first.
//!
//! *Owns*: when a log is looked at, and what is found. *Never*: removes anything (`start` does). *Runs on*: the core
//! that owns the partition.

use crate::base::limits::RETENTION_SEGMENTS_MAX;
use crate::base::time::{Instant, Now};
use crate::config::TopicSettings;

use super::commit::spread;
use super::log::{Log, LogOut};
use super::segment::Segment;

/// A start is over before anything is deleted (Kafka: `log.initial.task.delay.ms`).
const INITIAL_MS: u64 = 30_000;

/// When something must come to its end first, or there is more to do.
const SOON_MS: u64 = 1000;

/// A segment, as retention sees it.
#[derive(Debug, Clone, Copy)]
struct Row {
    bytes: u64,
    /// The newest time in it; `None` when that is not known yet.
    newest_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// So many segments go.
    Remove(usize),
    /// The time of this one must be known first.
    Load(usize),
}

/// When the log with this number is first looked at: those of a core not all at once.
pub(super) fn first_check(owner: u32, interval_ms: u64, now: Now) -> Instant {
    now.mono.after_ms(interval_ms.min(INITIAL_MS)).after_ms(spread(owner, interval_ms))
}

/// `rows` are all segments that hold anything, in order.
fn judge(rows: &[Row], settings: &TopicSettings, now_ms: i64) -> Verdict {
    if !settings.cleanup_policy.delete {
        return Verdict::Remove(0);
    }
    let mut count = 0;
    if let Ok(kept) = u64::try_from(settings.retention_bytes) {
        let mut surplus = rows.iter().map(|row| row.bytes).sum::<u64>().saturating_sub(kept);
        while let Some(row) = rows.get(count).filter(|row| surplus >= row.bytes) {
            surplus -= row.bytes;
            count += 1;
        }
    }
    if settings.retention_ms >= 0 {
        while let Some(row) = rows.get(count) {
            match row.newest_ms {
                None => return Verdict::Load(count),
                Some(newest_ms) if now_ms.saturating_sub(newest_ms) > settings.retention_ms => count += 1,
                Some(_) => break,
            }
        }
    }
    Verdict::Remove(count)
}

impl Log {
    /// When to look; `None` when nothing is to go.
    pub(super) fn retention_deadline(&self) -> Option<Instant> {
        let settings = &self.settings;
        let bounded = settings.retention_ms >= 0 || settings.retention_bytes >= 0;
        (settings.cleanup_policy.delete && bounded && self.offline.is_none()).then_some(self.retention_due)
    }

    /// Looks, if it is time, and lets go of what has to go.
    pub(super) fn check_retention(&mut self, now: Now, out: &mut LogOut) {
        if self.retention_deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        self.retention_due = now.mono.after_ms(self.settings.retention_check_ms);
        let rows = self.retention_rows();
        let count = match judge(&rows, &self.settings, now.wall_ms) {
            Verdict::Remove(0) => return,
            Verdict::Load(at) => {
                self.has_index(at, out);
                self.check_soon(now);
                at
            }
            Verdict::Remove(count) => count,
        };
        let ends = (1..=self.segments.len()).map(|next| self.segments.get(next).map_or(self.end, |next| next.base));
        let count = count.min(ends.take_while(|end| *end <= self.held_from).count());
        let to_remove = count.min(RETENTION_SEGMENTS_MAX);
        if to_remove < count {
            self.check_soon(now);
        }
        let active = self.segments.len() - 1;
        let to_remove = if to_remove > active && !self.retire_active(now, out) {
            self.check_soon(now);
            active
        } else {
            to_remove
        };
        let start = self.segments.get(to_remove).map_or(self.end, |segment| segment.base);
        self.move_start(start, now, out);
    }

    fn check_soon(&mut self, now: Now) {
        self.retention_due = self.retention_due.min(now.mono.after_ms(SOON_MS));
    }

    fn retention_rows(&self) -> Vec<Row> {
        let row = |(at, segment): (usize, &Segment)| {
            let is_active = at + 1 == self.segments.len();
            let bytes = if is_active { self.writer.size_bytes() } else { segment.len };
            let on_its_way = self.writer.pending.iter().filter(|_| is_active).map(|batch| batch.max_timestamp);
            let newest = segment.max_timestamp.map(|newest| on_its_way.max().map_or(newest, |other| other.max(newest)));
            let newest_ms = newest.map(|newest| if newest < 0 { segment.sealed_ms } else { newest });
            (bytes > 0).then_some(Row { bytes, newest_ms })
        };
        self.segments.iter().enumerate().filter_map(row).collect()
    }

    /// Seals the segment that is written to, so that it can go; false when it must come to rest first.
    fn retire_active(&mut self, now: Now, out: &mut LogOut) -> bool {
        let is_open = self.open_segment(self.segments.len() - 1, out).is_some();
        if !is_open || !self.is_written_out(self.safe_end()) || !self.can_roll() {
            self.pump(now, out);
            return false;
        }
        self.roll(out);
        self.open_segment(self.segments.len() - 1, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CleanupPolicy;

    #[test]
    fn the_oldest_go_as_kafka_has_it() {
        let check = |retention: (i64, i64), rows: &[(u64, i64)], expect: usize| {
            let settings =
                TopicSettings { retention_ms: retention.0, retention_bytes: retention.1, ..TopicSettings::default() };
            let row = |(bytes, newest_ms): &(u64, i64)| Row { bytes: *bytes, newest_ms: Some(*newest_ms) };
            let rows: Vec<Row> = rows.iter().map(row).collect();
            assert_eq!(judge(&rows, &settings, 1000), Verdict::Remove(expect), "{retention:?} {rows:?}");
            let compact = CleanupPolicy { delete: false, compact: true };
            let settings = TopicSettings { cleanup_policy: compact, ..settings };
            assert_eq!(judge(&rows, &settings, 1000), Verdict::Remove(0));
        };
        let rows = [(100, 10), (100, 500), (100, 20), (50, 999)];
        check((-1, -1), &rows, 0);
        check((990, -1), &rows, 0);
        check((989, -1), &rows, 1);
        check((500, -1), &rows, 1);
        check((499, -1), &rows, 3);
        check((0, -1), &rows, 4);
        check((-1, 350), &rows, 0);
        check((-1, 251), &rows, 0);
        check((-1, 250), &rows, 1);
        check((-1, 50), &rows, 3);
        check((-1, 0), &rows, 4);
        check((989, 250), &rows, 1);
        check((499, 250), &rows, 3);
        check((0, 0), &[], 0);
    }

    #[test]
    fn a_time_that_is_not_known_is_looked_for_only_when_it_matters() {
        let rows = [Row { bytes: 10, newest_ms: None }, Row { bytes: 10, newest_ms: Some(0) }];
        let settings = TopicSettings { retention_ms: -1, retention_bytes: 10, ..TopicSettings::default() };
        assert_eq!(judge(&rows, &settings, 1000), Verdict::Remove(1));
        let settings = TopicSettings { retention_ms: 5, retention_bytes: 10, ..TopicSettings::default() };
        assert_eq!(judge(&rows, &settings, 1000), Verdict::Remove(2));
        let settings = TopicSettings { retention_ms: 5, ..TopicSettings::default() };
        assert_eq!(judge(&rows, &settings, 1000), Verdict::Load(0));
    }
}
