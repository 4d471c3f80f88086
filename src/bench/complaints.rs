//! What went wrong on the way, each kind of message once, with how often.
//!
//! *Owns*: the bound on their number. *Never*: drops a count. *Runs on*: any thread, one each.

use std::collections::BTreeMap;

/// Different messages of one thread. Noise can be taken for messages without end.
const KINDS_MAX: usize = 32;

/// What further kinds are counted as.
const OTHERS: &str = "other kinds of trouble";

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Complaints {
    counts: BTreeMap<String, u64>,
}

impl Complaints {
    pub fn add(&mut self, message: impl Into<String>, count: u64) {
        let mut message = message.into();
        if count == 0 {
            return;
        }
        if self.counts.len() >= KINDS_MAX && !self.counts.contains_key(&message) {
            message = OTHERS.to_owned();
        }
        *self.counts.entry(message).or_default() += count;
    }

    pub fn merge<'a>(&mut self, others: impl IntoIterator<Item = (&'a String, &'a u64)>) {
        others.into_iter().for_each(|(message, count)| self.add(message.clone(), *count));
    }

    /// In the order of the messages.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.counts.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_a_bound_and_counts_have_none() {
        let mut complaints = Complaints::default();
        complaints.add("none", 0);
        for n in 0..1000 {
            complaints.add(format!("noise {n}"), 1);
            complaints.add("noise 0", 1);
        }
        let mut sum = Complaints::default();
        sum.merge(complaints.iter());
        assert_eq!(sum, complaints);
        let rows: Vec<_> = complaints.iter().collect();
        assert_eq!(rows.len(), KINDS_MAX + 1);
        assert_eq!(rows.iter().map(|(_, count)| **count).sum::<u64>(), 2000);
        assert_eq!(complaints.counts[OTHERS], 1000 - KINDS_MAX as u64);
    }
}
