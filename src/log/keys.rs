//! The newest offset of each key: what compaction knows while it goes over a log.
//!
//! Keys are told apart by 128 bits of a hash whose key is random, so that nobody can send two that are taken for one.
//!
//! *Owns*: the table, of one size from the start. *Never*: keeps a key itself; grows. *Runs on*: the core that owns the
//! partition.

use crate::base::ids::Offset;
use crate::base::siphash::{HashKey, siphash};

/// Of one row: the hash, and the offset plus one, so that zeros are an empty row.
const ROW_BYTES: usize = 24;

/// Rows kept empty, or a look-up would take many steps.
const EMPTY_SHARE: usize = 4;

const ROWS_MIN: usize = 64;

#[derive(Debug)]
pub(super) struct Keys {
    key: HashKey,
    /// Invariant: some row is empty.
    rows: Vec<[u64; 3]>,
    used: usize,
}

impl Keys {
    /// In at most so much memory, for at most so many keys. Memory that no row is put to is not touched.
    pub(super) fn new(key: HashKey, bytes_max: usize, keys_max: u64) -> Keys {
        let wanted =
            usize::try_from(keys_max).unwrap_or(usize::MAX).saturating_mul(EMPTY_SHARE) / (EMPTY_SHARE - 1) + 1;
        let rows = wanted.min(bytes_max / ROW_BYTES).max(ROWS_MIN);
        Keys { key, rows: vec![[0; 3]; rows], used: 0 }
    }

    /// How many more keys there is room for.
    pub(super) fn room(&self) -> usize {
        self.rows.len() - self.rows.len() / EMPTY_SHARE - self.used
    }

    /// The key has a record at this offset, which is later than all before.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = siphash(self.key, key);
        let at = self.find(hash);
        if self.rows[at][2] == 0 {
            assert!(self.used + 1 < self.rows.len(), "the caller looks for room first");
            self.used += 1;
        }
        self.rows[at] = [hash[0], hash[1], offset.0 as u64 + 1];
    }

    /// The last offset that was put for the key.
    pub(super) fn latest(&self, key: &[u8]) -> Option<Offset> {
        let [_, _, next] = self.rows[self.find(siphash(self.key, key))];
        next.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// Where the key is, or belongs.
    fn find(&self, [first, second]: [u64; 2]) -> usize {
        let mut at = ((u128::from(first) * self.rows.len() as u128) >> 64) as usize;
        loop {
            let row = self.rows[at];
            if row[2] == 0 || (row[0] == first && row[1] == second) {
                return at;
            }
            at = if at + 1 == self.rows.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_kept_up_to_the_brim() {
        let mut keys = Keys::new(HashKey([1, 2]), 1 << 20, 1000);
        let room = keys.room();
        assert!((1000..1010).contains(&room), "{room}");
        for offset in 0..3 * room as i64 {
            keys.put(format!("key {}", offset % room as i64).as_bytes(), Offset(offset));
        }
        assert_eq!(keys.room(), 0);
        for number in 0..room as i64 {
            let expect = Some(Offset(2 * room as i64 + number));
            assert_eq!(keys.latest(format!("key {number}").as_bytes()), expect);
        }
        assert_eq!(keys.latest(b"key"), None);
        assert_eq!(keys.latest(b""), None);
    }

    #[test]
    fn memory_is_bounded_and_never_none() {
        assert_eq!(Keys::new(HashKey([1, 2]), 24 * 400, u64::MAX).room(), 300);
        assert_eq!(Keys::new(HashKey([1, 2]), 0, u64::MAX).room(), ROWS_MIN * 3 / 4);
    }
}
