//! The newest offset of each key: what compaction knows while it goes over a log.
//!
//! Keys are told apart by 128 bits of a hash whose key is random, so that nobody can send two that are taken for one.
//! A large table is in no cache: rows are fetched many at a time, or each would be waited for by itself.
//!
//! *Owns*: the table, whose size is set from the start; its memory is taken and given back in pieces. *Never*: keeps a
//! key itself. *Runs on*: the core that owns the partition.

use std::hint::black_box;

use crate::base::bug::{self, Bug};
use crate::base::ids::Offset;
use crate::base::siphash::{HashKey, siphash};

/// The hash, and the offset plus one, so that zeros are an empty row.
type Row = [u64; 3];

const EMPTY: Row = [0; 3];

/// Rows whose memory is taken with the first of them. All at once, the system would take milliseconds for it.
const PIECE_ROWS: usize = 2048;

/// Pieces given back at a time.
const PIECES_AT_A_TIME: usize = 8;

/// Rows kept empty, or a look-up would take many steps.
const EMPTY_SHARE: usize = 4;

const ROWS_MIN: usize = 64;

/// Keys whose rows are fetched at a time: more than a processor waits for at once.
pub(super) const KEYS_AT_A_TIME: usize = 64;

/// Of a hash, see [`Bug::ConfuseKeys`].
const CONFUSED_BITS: u32 = 56;

/// What is known of a key.
pub(super) type KeyHash = [u64; 2];

#[derive(Debug)]
pub(super) struct Keys {
    key: HashKey,
    rows: usize,
    /// Of [`PIECE_ROWS`] each, or none yet. Invariant: some row of the table is empty.
    pieces: Vec<Vec<Row>>,
    used: usize,
}

impl Keys {
    /// In at most so much memory, for at most so many keys.
    pub(super) fn new(key: HashKey, bytes_max: usize, keys_max: u64) -> Keys {
        let wanted =
            usize::try_from(keys_max).unwrap_or(usize::MAX).saturating_mul(EMPTY_SHARE) / (EMPTY_SHARE - 1) + 1;
        let rows = wanted.min(bytes_max / size_of::<Row>()).max(ROWS_MIN);
        Keys { key, rows, pieces: vec![Vec::new(); rows.div_ceil(PIECE_ROWS)], used: 0 }
    }

    /// Gives some memory back, for good: no key may be asked for any more. False when there is none left.
    pub(super) fn let_go(&mut self) -> bool {
        self.pieces.truncate(self.pieces.len().saturating_sub(PIECES_AT_A_TIME));
        !self.pieces.is_empty()
    }

    /// How many more keys there is room for.
    pub(super) fn room(&self) -> usize {
        self.rows - self.rows / EMPTY_SHARE - self.used
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = siphash(self.key, key);
        if bug::on(Bug::ConfuseKeys) { [hash[0] >> CONFUSED_BITS << CONFUSED_BITS, 0] } else { hash }
    }

    /// Has the rows of these keys at hand for what follows.
    pub(super) fn fetch(&self, hashes: impl Iterator<Item = KeyHash>) {
        let mut touched = 0;
        for hash in hashes {
            let row = self.row(self.home(hash));
            touched ^= row[0] ^ row[2];
        }
        black_box(touched);
    }

    /// The key has a record at this offset, which is later than all before.
    pub(super) fn put(&mut self, hash: KeyHash, offset: Offset) {
        let at = self.find(hash);
        if self.row(at)[2] == 0 {
            assert!(self.used + 1 < self.rows, "the caller looks for room first");
            self.used += 1;
        }
        let piece = &mut self.pieces[at / PIECE_ROWS];
        if piece.is_empty() {
            *piece = vec![EMPTY; PIECE_ROWS.min(self.rows)];
        }
        piece[at % PIECE_ROWS] = [hash[0], hash[1], offset.0 as u64 + 1];
    }

    /// The last offset that was put for the key.
    pub(super) fn latest(&self, hash: KeyHash) -> Option<Offset> {
        let [_, _, next] = self.row(self.find(hash));
        next.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    fn row(&self, at: usize) -> Row {
        self.pieces[at / PIECE_ROWS].get(at % PIECE_ROWS).copied().unwrap_or(EMPTY)
    }

    /// Where a key is put if nobody is there.
    fn home(&self, [first, _]: KeyHash) -> usize {
        ((u128::from(first) * self.rows as u128) >> 64) as usize
    }

    /// Where the key is, or belongs.
    fn find(&self, hash: KeyHash) -> usize {
        let mut at = self.home(hash);
        loop {
            let row = self.row(at);
            if row[2] == 0 || row[..2] == hash {
                return at;
            }
            at = if at + 1 == self.rows { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_kept_up_to_the_brim() {
        let mut keys = Keys::new(HashKey([1, 2]), 1 << 20, 9000);
        let room = keys.room();
        assert!((9000..9010).contains(&room), "{room}");
        for offset in 0..3 * room as i64 {
            keys.put(keys.hash(format!("key {}", offset % room as i64).as_bytes()), Offset(offset));
        }
        assert_eq!(keys.room(), 0);
        for number in 0..room as i64 {
            let expect = Some(Offset(2 * room as i64 + number));
            assert_eq!(keys.latest(keys.hash(format!("key {number}").as_bytes())), expect);
        }
        assert_eq!(keys.latest(keys.hash(b"key")), None);
        assert_eq!(keys.latest(keys.hash(b"")), None);
    }

    #[test]
    fn memory_is_taken_when_it_is_used_and_given_back_in_pieces() {
        let mut keys = Keys::new(HashKey([1, 2]), 1 << 20, u64::MAX);
        let taken = |keys: &Keys| keys.pieces.iter().map(Vec::capacity).sum::<usize>();
        assert_eq!(taken(&keys), 0);
        let hash = keys.hash(b"key");
        keys.put(hash, Offset(3));
        assert_eq!(taken(&keys), PIECE_ROWS);
        let mut times = 1;
        while keys.let_go() {
            times += 1;
        }
        assert_eq!((times, taken(&keys)), ((1_usize << 20).div_ceil(PIECE_ROWS * 24 * PIECES_AT_A_TIME), 0));
    }

    #[test]
    fn memory_is_bounded_and_never_none() {
        assert_eq!(Keys::new(HashKey([1, 2]), 24 * 400, u64::MAX).room(), 300);
        assert_eq!(Keys::new(HashKey([1, 2]), 0, u64::MAX).room(), ROWS_MIN * 3 / 4);
    }
}
