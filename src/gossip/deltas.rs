//! Committed metadata, version by version: what came is handed on in order, and what is missing is noticed.
//!
//! *Owns*: which version this broker has, and what waits for an earlier one. *Never*: looks into a delta; asks for one.
//! *Runs on*: core 0.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::fields::Fields;
use crate::base::limits::{GOSSIP_DELTA_BYTES_MAX, GOSSIP_DELTAS_WAITING_MAX};
use crate::base::time::Instant;

/// Who lacks what was told for this long did not hear of it, and is told once more.
const HELP_MS: u64 = 600;
/// How long a gap is left to close by itself.
const GAP_MS: u64 = 1_000;
/// How long between two times of telling of it, at most.
const GAP_MS_MAX: u64 = 10_000;

/// What leads from one version to the next that matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    pub from: u64,
    pub to: u64,
    pub bytes: Bytes,
}

impl Delta {
    pub(super) fn write(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + self.bytes.len());
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(&self.bytes);
        Bytes::from(out)
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Delta> {
        let mut fields = Fields(bytes);
        let (from, to) = (fields.u64()?, fields.u64()?);
        let is_sound = from < to && fields.0.len() <= GOSSIP_DELTA_BYTES_MAX;
        is_sound.then(|| Delta { from, to, bytes: Bytes::copy_from_slice(fields.0) })
    }
}

#[derive(Default, Debug)]
pub(super) struct Deltas {
    have: u64,
    /// By the version they build on.
    waiting: BTreeMap<u64, Delta>,
    /// The last few that this broker has, and since when, by the version they build on.
    recent: BTreeMap<u64, (Instant, Delta)>,
    /// When the gap is told next, and how long after that again.
    gap: Option<(Instant, u64)>,
}

impl Deltas {
    pub fn have(&self) -> u64 {
        self.have
    }

    pub fn gap_deadline(&self) -> Option<Instant> {
        self.gap.map(|(at, _)| at)
    }

    /// This broker has all up to `version` by another way.
    pub fn advance(&mut self, version: u64) {
        if version > self.have {
            self.have = version;
            self.waiting.retain(|from, _| *from >= version);
            self.gap = None;
        }
    }

    pub fn keeps(&self, delta: &Delta) -> bool {
        self.recent.contains_key(&delta.from)
    }

    /// This broker has it, and can give it to others.
    pub fn keep(&mut self, delta: Delta, now: Instant) {
        self.recent.insert(delta.from, (now, delta));
        if self.recent.len() > GOSSIP_DELTAS_WAITING_MAX {
            self.recent.pop_first();
        }
    }

    /// What somebody with this version should have heard of by now.
    pub fn help(&self, version: u64, now: Instant) -> Option<&Delta> {
        let (since, delta) = self.recent.get(&version)?;
        (since.after_ms(HELP_MS) <= now).then_some(delta)
    }

    /// Whether it is new: then others should hear of it.
    pub fn take(&mut self, delta: Delta, now: Instant) -> bool {
        if delta.from < self.have || self.waiting.contains_key(&delta.from) {
            return false;
        }
        self.see(delta.to, now);
        self.waiting.insert(delta.from, delta);
        if self.waiting.len() > GOSSIP_DELTAS_WAITING_MAX {
            // The one furthest from being of use.
            self.waiting.pop_last();
        }
        true
    }

    /// The next in order, if it is there.
    pub fn next(&mut self, now: Instant) -> Option<Delta> {
        let delta = self.waiting.remove(&self.have)?;
        self.have = delta.to;
        self.keep(delta.clone(), now);
        self.gap = None;
        self.waiting.retain(|from, _| *from >= delta.to);
        Some(delta)
    }

    /// Somebody has this version.
    pub fn see(&mut self, version: u64, now: Instant) {
        if version > self.have && self.gap.is_none() {
            self.gap = Some((now.after_ms(GAP_MS), GAP_MS));
        }
    }

    /// Whether a gap is to be told now, when the highest version anybody has is `seen`.
    pub fn gap_is_due(&mut self, seen: u64, now: Instant) -> bool {
        let Some((at, interval_ms)) = self.gap.filter(|(at, _)| *at <= now) else { return false };
        let is_open = seen > self.have || !self.waiting.is_empty();
        let longer_ms = (2 * interval_ms).min(GAP_MS_MAX);
        self.gap = is_open.then(|| (at.max(now).after_ms(longer_ms), longer_ms));
        is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(from: u64, to: u64) -> Delta {
        Delta { from, to, bytes: Bytes::from(vec![to as u8; 3]) }
    }

    fn ready(deltas: &mut Deltas) -> Vec<u64> {
        std::iter::from_fn(|| deltas.next(Instant(0))).map(|delta| delta.to).collect()
    }

    #[test]
    fn deltas_come_out_in_order_and_once() {
        let mut deltas = Deltas::default();
        let now = Instant(0);
        deltas.advance(10);
        for (take, is_new, expect) in [
            (delta(12, 15), true, vec![]),
            (delta(12, 15), false, vec![]),
            (delta(9, 10), false, vec![]),
            (delta(10, 12), true, vec![12, 15]),
            (delta(12, 15), false, vec![]),
            // It overlaps what is there: whoever made it has cut differently. What is behind it is a gap.
            (delta(14, 16), false, vec![]),
            (delta(15, 16), true, vec![16]),
        ] {
            assert_eq!((deltas.take(take.clone(), now), ready(&mut deltas)), (is_new, expect), "{take:?}");
        }
        assert_eq!((deltas.have(), deltas.gap_deadline()), (16, None));
        let written = delta(3, 4).write();
        assert_eq!(Delta::read(&written), Some(delta(3, 4)));
        assert_eq!((Delta::read(&written[..15]), Delta::read(&delta(4, 4).write())), (None, None));
        let long = Delta { bytes: Bytes::from(vec![0; GOSSIP_DELTA_BYTES_MAX + 1]), ..delta(1, 2) };
        assert_eq!(Delta::read(&long.write()), None);
    }

    #[test]
    fn a_gap_that_stays_is_told_less_and_less_often() {
        let mut deltas = Deltas::default();
        assert!(!deltas.gap_is_due(5, Instant(0)));
        deltas.see(5, Instant(0));
        let mut told = Vec::new();
        for ms in 0..40_000 {
            if deltas.gap_is_due(5, Instant(0).after_ms(ms)) {
                told.push(ms);
            }
        }
        assert_eq!(told, [1000, 3000, 7000, 15_000, 25_000, 35_000]);
        deltas.advance(5);
        assert_eq!(deltas.gap_deadline(), None);
        deltas.see(5, Instant(0));
        assert_eq!(deltas.gap_deadline(), None);
    }

    #[test]
    fn who_lacks_what_was_told_a_while_ago_is_helped() {
        let mut deltas = Deltas::default();
        deltas.take(delta(0, 2), Instant(0));
        assert_eq!(ready(&mut deltas), [2]);
        let later = Instant(0).after_ms(HELP_MS);
        assert_eq!(deltas.help(0, Instant(later.0 - 1)), None);
        assert_eq!(deltas.help(0, later), Some(&delta(0, 2)));
        assert_eq!((deltas.help(1, later), deltas.help(2, later)), (None, None));
        (2..100).for_each(|from| deltas.keep(delta(from, from + 1), Instant(0)));
        assert_eq!((deltas.recent.len(), deltas.help(0, later)), (GOSSIP_DELTAS_WAITING_MAX, None));
    }

    #[test]
    fn only_so_many_wait_and_the_nearest_stay() {
        let mut deltas = Deltas::default();
        for from in (1..100).rev() {
            assert!(deltas.take(delta(from, from + 1), Instant(0)));
        }
        assert_eq!(deltas.waiting.len(), GOSSIP_DELTAS_WAITING_MAX);
        deltas.advance(1);
        assert_eq!(deltas.have() as usize + ready(&mut deltas).len(), 1 + GOSSIP_DELTAS_WAITING_MAX);
    }
}
