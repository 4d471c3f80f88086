//! Who wants to be told, once, of the next change; and until then, of what is not worth being woken for.
//!
//! *Owns*: the list of those who wait, and the count of changes. *Never*: knows what has changed. *Runs on*: the core
//! that owns the partition.

use super::partition::Watch;

#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Invariant: in order, each once.
    waiting: Vec<Watch>,
    changes: u64,
}

impl Watches {
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// True when there have been more changes than `seen`: nothing is kept.
    pub(super) fn watch(&mut self, watch: Watch, seen: u64) -> bool {
        if self.changes != seen {
            return true;
        }
        if let Err(place) = self.waiting.binary_search(&watch) {
            self.waiting.insert(place, watch);
        }
        false
    }

    pub(super) fn unwatch(&mut self, watch: Watch) {
        if let Ok(place) = self.waiting.binary_search(&watch) {
            self.waiting.remove(place);
        }
    }

    /// Something has changed that can wait: whoever waits for more goes on waiting.
    pub(super) fn on_aside(&self, told: &mut Vec<Watch>) {
        told.extend_from_slice(&self.waiting);
    }

    pub(super) fn on_change(&mut self, woken: &mut Vec<Watch>) {
        self.changes += 1;
        woken.append(&mut self.waiting);
    }
}
