//! The bounds of one log, in a small file beside its segments: where it begins, and what of it was rewritten.
//!
//! *Owns*: the form of that file, which a replay of journals reads too. *Never*: decides where a log begins.
//! *Runs on*: every core.

use bytes::Bytes;

use super::checksum::crc32;
use super::ids::Offset;

/// In a partition's directory.
pub const BOUNDS_NAME: &str = "bounds";

const KIND: &[u8; 4] = b"CLB1";
const FIELDS: usize = 3;
const FILE_BYTES: usize = KIND.len() + FIELDS * 8 + 4;

/// Each only ever grows. A log without the file has all of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// No record below is part of the log, whatever segments hold.
    pub start: Offset,
    /// Segments that begin below may have been rewritten: what a journal, a snapshot or a checkpoint says of their
    /// bytes is not to be believed, and all of theirs was durable before.
    pub rewritten: Offset,
    /// Compaction has seen every record below.
    pub cleaned: Offset,
}

impl Bounds {
    pub fn to_file(self) -> Bytes {
        let mut bytes = KIND.to_vec();
        for field in [self.start, self.rewritten, self.cleaned] {
            bytes.extend_from_slice(&field.0.to_le_bytes());
        }
        let sum = crc32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(bytes)
    }

    /// `None` when the bytes are not such a file, or damaged.
    pub fn from_file(bytes: &[u8]) -> Option<Bounds> {
        let bytes: &[u8; FILE_BYTES] = bytes.try_into().ok()?;
        let (body, sum) = bytes.split_at(FILE_BYTES - 4);
        if &body[..KIND.len()] != KIND || crc32(body).to_le_bytes() != *sum {
            return None;
        }
        let mut fields = body[KIND.len()..].chunks_exact(8).map(|field| {
            let field = field.try_into().expect("a chunk has its size");
            Some(Offset(i64::from_le_bytes(field))).filter(|field| *field >= Offset(0))
        });
        let mut next = || fields.next().flatten();
        Some(Bounds { start: next()?, rewritten: next()?, cleaned: next()? })
    }

    /// The larger of each.
    pub fn max(self, other: Bounds) -> Bounds {
        Bounds {
            start: self.start.max(other.start),
            rewritten: self.rewritten.max(other.rewritten),
            cleaned: self.cleaned.max(other.cleaned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_nothing_else_does() {
        let bounds = Bounds { start: Offset(3), rewritten: Offset(1 << 40), cleaned: Offset(9) };
        let file = bounds.to_file();
        assert_eq!(Bounds::from_file(&file), Some(bounds));
        for len in 0..file.len() {
            assert_eq!(Bounds::from_file(&file[..len]), None);
        }
        for bit in 0..file.len() * 8 {
            let mut bytes = file.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Bounds::from_file(&bytes), None, "bit {bit}");
        }
        let negative = Bounds { start: Offset(-1), ..bounds };
        assert_eq!(Bounds::from_file(&negative.to_file()), None);
    }
}
