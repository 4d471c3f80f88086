//! What this core notes for the start after a crash (`journal/noted`), and when.
//!
//! The journal in use is noted before its first commit, and that none is needed when all partitions are closed. How far
//! logs are durable is noted after the start and then now and then: what a crash may tear is little, and what lies
//! before it and does not read back is damage. Not at each sync, which would cost one more. High watermarks are noted
//! with it, so that a broker that starts again does not wait for other replicas to show what was committed.
//!
//! *Owns*: the file of this core. *Never*: holds up an acknowledgement, but for the first of a journal. *Runs on*: every
//! core.

use std::mem;

use crate::base::bounds::Reach;
use crate::base::disk::{DiskOp, DiskResult};
use crate::base::limits::NOTE_INTERVAL_MS;
use crate::base::time::{Instant, Now};
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::TopicPartition;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::journal::noted::{self, Noted};

#[derive(Debug, Default)]
pub struct Noting {
    noted: Noted,
    /// What is noted differs from what was written last.
    changed: bool,
    /// It is to be written now.
    urgent: bool,
    /// The journal that is to be in what is being written, if anything is.
    writing: Option<u64>,
    /// Not again before this, unless it is urgent.
    next: Option<Instant>,
    deadline: Option<Instant>,
    /// The last write failed, and that was said.
    failed: bool,
}

impl Noting {
    /// The log is durable so far. True when it was truncated since this was said last.
    pub fn on_durable(&mut self, name: TopicPartition, reach: Reach) -> bool {
        let known = self.noted.durable.insert((name.topic, name.partition), reach);
        self.changed |= known != Some(reach);
        known.unwrap_or_default().truncations != reach.truncations
    }

    /// From the replay: how far logs were committed before this start.
    pub fn on_replayed(&mut self, committed: Vec<(TopicPartition, Reach)>) {
        self.noted.committed.extend(committed.into_iter().map(|(of, reach)| ((of.topic, of.partition), reach)));
    }

    /// How far a log was committed when that was noted last.
    pub fn committed(&self, name: TopicPartition) -> Reach {
        self.noted.committed.get(&(name.topic, name.partition)).copied().unwrap_or_default()
    }

    /// A high watermark is another.
    pub fn on_committed(&mut self) {
        self.changed = true;
    }

    /// The partition is deleted.
    pub fn forget(&mut self, name: TopicPartition) {
        let name = (name.topic, name.partition);
        let durable = self.noted.durable.remove(&name).is_some();
        self.changed |= self.noted.committed.remove(&name).is_some() || durable;
    }

    /// Commits with this key may be needed from now on; with 0 there are none.
    pub fn set_journal(&mut self, key: u64) {
        self.urgent = self.noted.journal != key;
        self.noted.journal = key;
    }

    /// The end of the step writes it.
    pub fn on_timeout(&mut self) {
        self.deadline = None;
    }

    /// What must be written before the end is written.
    pub fn is_settled(&self) -> bool {
        !self.urgent && self.writing.is_none()
    }

    fn is_due(&self, now: Now) -> bool {
        self.urgent || (self.changed && self.next.is_none_or(|next| next <= now.mono))
    }
}

impl Shard {
    /// At the end of a step: writes what is due.
    pub(in crate::broker) fn note(&mut self, now: Now, effects: &mut Effects) {
        if self.offline.is_some() {
            if mem::take(&mut self.noting.urgent) {
                self.check_stopped(now, effects);
            }
            return;
        }
        if self.noting.writing.is_none() && self.noting.is_due(now) && self.commits.may_open() {
            self.note_committed();
            let noting = &mut self.noting;
            noting.noted.cores = self.config.cores;
            (noting.changed, noting.urgent) = (false, false);
            noting.writing = Some(noting.noted.journal);
            noting.next = Some(now.mono.after_ms(NOTE_INTERVAL_MS));
            let token = self.partitions.note_token();
            let op = DiskOp::WriteFile { path: noted::path(self.config.core), data: noting.noted.to_file() };
            effects.push(Effect::Disk { token, op });
        }
        let waits = self.noting.changed && self.noting.writing.is_none();
        let next = self.noting.next.filter(|_| waits);
        let old = mem::replace(&mut self.noting.deadline, next);
        if old != next {
            old.into_iter().for_each(|old| self.deadlines.clear(old, DeadlineKey::Note));
            next.into_iter().for_each(|next| self.deadlines.set(next, DeadlineKey::Note));
        }
    }

    /// Takes down the high watermarks as they are.
    pub(in crate::broker) fn note_committed(&mut self) {
        let shown = self.partitions.iter().filter_map(|(of, partition)| Some((of, partition.committed()?)));
        self.noting.noted.committed.extend(shown.map(|(of, reach)| ((of.topic, of.partition), reach)));
    }

    /// Without its note a journal is used all the same: only that it went missing would not be noticed.
    pub(in crate::broker) fn on_noted(&mut self, result: &DiskResult, now: Now, effects: &mut Effects) {
        let noting = &mut self.noting;
        let journal = noting.writing.take().expect("one note is on its way");
        if let Err(error) = result {
            noting.changed = true;
            if !mem::replace(&mut noting.failed, true) {
                tracing::warn!(
                    "{} cannot be written: {error}. It would tell the next start which journal this core has and how far \
                     its logs are durable; it is tried again",
                    noted::path(self.config.core).display()
                );
            }
        } else {
            noting.failed = false;
        }
        if journal == self.noting.noted.journal {
            self.commits.begin();
        }
        self.check_stopped(now, effects);
    }
}
