//! Deadlines of one core, in order: what is due next, and everything that is due by now.
//!
//! *Owns*: the set of (instant, key). *Never*: reads a clock or fires by itself. *Runs on*: every core, one set each.

use std::collections::BTreeSet;

use super::time::Instant;

#[derive(Debug)]
pub struct Deadlines<K> {
    due: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { due: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    pub fn set(&mut self, at: Instant, key: K) {
        self.due.insert((at, key));
    }

    /// Takes a deadline back; the caller remembers the instant it set.
    pub fn clear(&mut self, at: Instant, key: K) {
        self.due.remove(&(at, key));
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(key)
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_deadlines_come_in_order_and_cleared_ones_do_not() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Instant(30), 3);
        deadlines.set(Instant(10), 1);
        deadlines.set(Instant(20), 2);
        deadlines.clear(Instant(20), 2);
        assert_eq!(deadlines.next(), Some(Instant(10)));
        assert_eq!(deadlines.pop_due(Instant(9)), None);
        assert_eq!(deadlines.pop_due(Instant(30)), Some(1));
        assert_eq!(deadlines.pop_due(Instant(30)), Some(3));
        assert_eq!(deadlines.pop_due(Instant(30)), None);
    }
}
