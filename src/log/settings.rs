//! Settings of a log that change while it is open.
//!
//! *Owns*: when a stricter promise begins to count. *Never*: hands anything to the journal, or acknowledges anything
//! under a stricter promise, on top of what may still be lost. *Runs on*: the core that owns the partition.

use crate::base::time::Now;
use crate::config::{Durability, TopicSettings};

use super::log::{Log, LogOut};

/// A promise that counts once everything written under the one before is synced. Until then nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stricter {
    durability: Durability,
    flush_messages: u64,
}

impl Log {
    /// What holds from the next append on. The journal must be open if these settings may need it.
    pub fn set_settings(&mut self, mut settings: TopicSettings, now: Now, out: &mut LogOut) {
        let old = &self.settings;
        let wanted = Stricter { durability: settings.durability, flush_messages: settings.flush_messages };
        let begins_to_sync = old.durability == Durability::Write && wanted.durability == Durability::Sync;
        self.stricter = (begins_to_sync || wanted.flush_messages < old.flush_messages).then_some(wanted);
        if self.stricter.is_some() {
            settings.durability = old.durability;
            settings.flush_messages = old.flush_messages;
        }
        if settings.flush_ms < old.flush_ms {
            self.writer.sync_within(settings.flush_ms, now);
        }
        self.settings = settings;
        self.pump(now, out);
    }

    /// Brings a stricter promise nearer; true while it has to be waited for.
    pub(super) fn is_becoming_stricter(&mut self, out: &mut LogOut) -> bool {
        if self.stricter.is_none() {
            return false;
        }
        // The end of a seal goes on here.
        if self.first_unsynced_seal().is_some() {
            return true;
        }
        match self.segments.len().checked_sub(1) {
            None => self.become_stricter(),
            Some(active) => {
                if self.open_segment(active, out).is_some() {
                    self.sync(out);
                }
            }
        }
        self.stricter.is_some()
    }

    /// Everything that was written to the active segment is synced.
    pub(super) fn become_stricter(&mut self) {
        if self.first_unsynced_seal().is_none()
            && let Some(Stricter { durability, flush_messages }) = self.stricter.take()
        {
            self.settings.durability = durability;
            self.settings.flush_messages = flush_messages;
        }
    }
}
