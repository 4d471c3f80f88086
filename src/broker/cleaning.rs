//! Which partition of a core is compacted next: one at a time, the one that needs it most.
//!
//! *Owns*: the turn, and the memory for keys. *Never*: looks at more than a bounded number of partitions in a step.
//! *Runs on*: every core, for its own partitions.

use std::mem;

use crate::base::limits::CLEANING_LOOKS_MAX;
use crate::base::metric::Metric;
use crate::base::siphash::HashKey;
use crate::base::time::{Instant, Now};
use crate::broker::effect::Effects;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::log::clean::{CleanCounts, CleanOrder};
use crate::log::dirt::Dirt;

#[derive(Debug, Default)]
pub struct Cleaning {
    /// Set from the first partition that opens on; unless one is compacted.
    due: Option<Instant>,
    /// The partition that is compacted.
    active: Option<u32>,
    /// Up to here this round has looked, and what it has found.
    looked: u32,
    found: Option<(Dirt, u32)>,
}

impl Cleaning {
    /// The partition has left; what it was doing ended with it.
    pub fn forget(&mut self, owner: u32) {
        if self.active == Some(owner) {
            self.active = None;
        }
        self.found = self.found.filter(|(_, found)| *found != owner);
    }
}

impl Shard {
    /// There is a partition now: from time to time it is looked whether one is to be compacted.
    pub(in crate::broker) fn prepare_cleaning(&mut self, now: Now) {
        if self.cleaning.due.is_none() && self.cleaning.active.is_none() {
            self.clean_after_ms(self.config.settings.log_cleaner_backoff_ms, now);
        }
    }

    fn clean_after_ms(&mut self, ms: u64, now: Now) {
        if let Some(due) = self.cleaning.due {
            self.deadlines.clear(due, DeadlineKey::Clean);
        }
        let due = now.mono.after_ms(ms);
        self.cleaning.due = Some(due);
        self.deadlines.set(due, DeadlineKey::Clean);
    }

    pub(in crate::broker) fn on_clean_due(&mut self, now: Now, effects: &mut Effects) {
        self.cleaning.due = None;
        let owners = self.partitions.owner_numbers();
        let upto = owners.end.min(self.cleaning.looked.saturating_add(CLEANING_LOOKS_MAX));
        for owner in mem::replace(&mut self.cleaning.looked, upto)..upto {
            if !self.partitions.by_owner(owner).is_some_and(|partition| partition.is_compacted()) {
                continue;
            }
            let dirt = self.on_partition(owner, now, effects, |partition, _, out| partition.dirt(now, out)).flatten();
            self.cleaning.found = self.cleaning.found.max(dirt.map(|dirt| (dirt, owner)));
        }
        if upto < owners.end {
            return self.clean_after_ms(1, now);
        }
        self.cleaning.looked = 0;
        match self.cleaning.found.take() {
            Some((_, owner)) if self.clean_here(owner, now, effects) => self.cleaning.active = Some(owner),
            _ => self.clean_after_ms(self.config.settings.log_cleaner_backoff_ms, now),
        }
    }

    fn clean_here(&mut self, owner: u32, now: Now, effects: &mut Effects) -> bool {
        let share = self.config.settings.log_cleaner_dedupe_buffer_size / u64::from(self.config.cores);
        let order = CleanOrder {
            key: HashKey([self.rng.next_u64(), self.rng.next_u64()]),
            bytes_max: usize::try_from(share).unwrap_or(usize::MAX),
        };
        self.on_partition(owner, now, effects, |partition, _, out| partition.clean(order, now, out)).unwrap_or(false)
    }

    pub(in crate::broker) fn on_cleaned(&mut self, owner: u32, result: Result<CleanCounts, String>, now: Now) {
        self.cleaning.active = None;
        let backoff_ms = self.config.settings.log_cleaner_backoff_ms;
        match result {
            Ok(CleanCounts { read_bytes, written_bytes, removed }) => {
                self.metrics.add(Metric::CompactedBytes, read_bytes);
                self.metrics.add(Metric::CompactionWriteBytes, written_bytes);
                self.metrics.add(Metric::SegmentsDeleted, removed);
                tracing::debug!("{}: compacted {read_bytes} bytes to {written_bytes}", self.partition_title(owner));
                self.clean_after_ms(0, now);
            }
            Err(message) => {
                let leaves = self.partitions.by_owner(owner).is_none_or(|partition| partition.is_leaving());
                if !leaves {
                    tracing::error!("{}: a compaction ended early: {message}", self.partition_title(owner));
                }
                self.clean_after_ms(backoff_ms, now);
            }
        }
    }
}
