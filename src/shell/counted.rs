//! Hashing for tables whose keys the process counts itself: ids of connections and of files.
//!
//! Nobody outside chooses such keys, so that they all fall into one place needs no guard against, and most of what the
//! standard hasher does is for that.
//!
//! *Owns*: how such keys are spread. *Never*: hashes what came from outside. *Runs on*: every core.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by such keys.
pub type CountedMap<K, V> = HashMap<K, V, BuildHasherDefault<CountedHasher>>;

/// 2^64 divided by the golden ratio: keys that follow each other land far apart.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug, Default)]
pub struct CountedHasher(u64);

impl Hasher for CountedHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(SPREAD);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // A table chooses by the lowest bits, and to those of a product the upper ones of the number do not reach.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;
    use crate::base::disk::FileId;
    use crate::base::ids::{ConnId, PeerId};
    use crate::shell::connection::Side;

    /// Places of a table with as many as there are keys; a table chooses by the lowest bits.
    fn places<K: std::hash::Hash>(keys: impl Iterator<Item = K>) -> usize {
        let hasher = BuildHasherDefault::<CountedHasher>::default();
        keys.map(|key| hasher.hash_one(key) % 1024).collect::<HashSet<u64>>().len()
    }

    #[test]
    fn counted_keys_land_in_places_of_their_own() {
        // By chance it would be 63 in a hundred.
        let most = 1024 * 6 / 10;
        assert!(places((0..1024).map(|id| Side::Accepted(ConnId(id)))) > most);
        assert!(places((0..1024).map(|id| Side::Made(PeerId(id)))) > most);
        assert!(places((0..1024).map(|count| FileId::new(7, count))) > most);
        assert!(places((0..1024).map(|owner| FileId::new(owner, 3))) > most);
    }
}
