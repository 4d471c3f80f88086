//! What a recycled file still holds of an earlier segment, told from batches that were lost.
//!
//! Behind the end of the log such a file goes on somewhere within a batch that was removed long ago. Whole batches are
//! looked for at every byte. When all that are found lie below the segment, nothing of the log is among them.
//!
//! *Owns*: that search. *Never*: is asked by a broker, which takes no batch but the one that belongs next. *Runs on*: a
//! thread of the command line.

use bytes::{Buf, BytesMut};

use crate::base::ids::{LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, HEADER_BYTES, StoredError, check_stored};

/// Larger ones are not looked for: what only looks like a header may name any length.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// No log gets as far, and hardly anything but a batch begins with so small a number.
const OFFSET_MAX: i64 = 1 << 48;

#[derive(Debug)]
pub(super) struct Search {
    /// The first offset of the segment.
    base: Offset,
    /// Bytes that are not looked at yet, or begin with what may be a batch.
    have: BytesMut,
    older: bool,
    newer: bool,
}

impl Search {
    pub(super) fn new(base: Offset) -> Search {
        Search { base, have: BytesMut::new(), older: false, newer: false }
    }

    /// The next bytes behind the end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.have.extend_from_slice(bytes);
        self.look(false);
    }

    /// There are no more bytes: whether there is a whole batch from before the segment, and whether there is another.
    pub(super) fn finish(mut self) -> (bool, bool) {
        self.look(true);
        (self.older, self.newer)
    }

    fn look(&mut self, is_all: bool) {
        let mut at = 0;
        while let Some(header) = BatchHeader::read(&self.have[at..]) {
            let plausible = (0..OFFSET_MAX).contains(&header.base_offset)
                && (HEADER_BYTES..=BATCH_BYTES_MAX).contains(&header.size_bytes());
            if !plausible {
                at += 1;
                continue;
            }
            match check_stored(&self.have[at..], header.first_offset(), LeaderEpoch(0)) {
                Ok(header) => {
                    at += header.size_bytes();
                    let below = header.next_offset() <= self.base;
                    self.older |= below;
                    self.newer |= !below;
                }
                Err(StoredError::Cut { .. }) if !is_all => break,
                Err(_) => at += 1,
            }
        }
        self.have.advance(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::stored;
    use super::*;

    #[test]
    fn batches_behind_the_end_are_told_by_their_offsets() {
        let check = |bytes: &[u8], older: bool, newer: bool| {
            for piece in [1, 50, 1 << 20] {
                let mut search = Search::new(Offset(10));
                bytes.chunks(piece).for_each(|piece| search.push(piece));
                assert_eq!(search.finish(), (older, newer));
            }
        };
        let (old, new) = (stored(6, 2), stored(10, 1));
        check(&[], false, false);
        check(&[7; 3000], false, false);
        check(&old[1..], true, false);
        check(&[&old[30..], &[2; 500], &old[..old.len() - 1]].concat(), true, false);
        check(&old[old.len() / 2 + 1..], false, false);
        check(&[&old[1..], &new[..]].concat(), true, true);
        check(&[&[0; 100], &new[..]].concat(), false, true);
        // It ends beyond where the segment begins.
        check(&stored(9, 1), false, true);
    }
}
