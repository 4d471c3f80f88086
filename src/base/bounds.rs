//! The bounds of one log, in a small file beside its segments: where it begins, what of it was rewritten, and how often
//! its end was given up.
//!
//! *Owns*: the form of that file, which a replay of journals reads too. *Never*: decides where a log begins.
//! *Runs on*: every core.

use bytes::Bytes;

use super::bug::{self, Bug};
use super::checksum::crc32;
use super::fields::Fields;
use super::ids::Offset;

/// In a partition's directory.
pub const BOUNDS_NAME: &str = "bounds";

const KIND: &[u8; 4] = b"CLB2";
/// Of before logs were truncated: without `truncations` and `truncating`.
const FIRST_KIND: &[u8; 4] = b"CLB1";

/// In the place of an offset.
const NONE: i64 = -1;

/// A log without the file has all of them 0. But for a truncation, each only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// No record below is part of the log, whatever segments hold.
    pub start: Offset,
    /// Segments that begin below may have been rewritten: what a journal, a snapshot or a checkpoint says of their
    /// bytes is not to be believed, and all of theirs was durable before.
    pub rewritten: Offset,
    /// Compaction has seen every record below.
    pub cleaned: Offset,
    /// How often the end of the log was given up. What a journal has, or was noted, from before the last time is void.
    pub truncations: u32,
    /// A truncation was decided and is not carried out: nothing from here on is part of the log, whatever segments
    /// hold. At `start`, nothing at all is.
    pub truncating: Option<Offset>,
}

/// How far a log was durable once, and how often it had been truncated by then. Of two, the greater tells more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reach {
    pub truncations: u32,
    pub end: Offset,
}

impl Reach {
    /// Of a log that was never truncated.
    pub fn to(end: Offset) -> Reach {
        Reach { truncations: 0, end }
    }
}

impl Bounds {
    /// Whether what was said of the log when it had been truncated so often does not hold any more.
    pub fn voids(self, truncations: u32) -> bool {
        truncations < self.truncations && !bug::on(Bug::ForgetTruncations)
    }

    /// How far the log must reach, given what was known of it.
    pub fn reach(self, known: Reach) -> Offset {
        if self.voids(known.truncations) { Offset(0) } else { known.end }
    }

    pub fn to_file(self) -> Bytes {
        let mut bytes = KIND.to_vec();
        for field in [self.start, self.rewritten, self.cleaned, self.truncating.unwrap_or(Offset(NONE))] {
            bytes.extend_from_slice(&field.0.to_le_bytes());
        }
        bytes.extend_from_slice(&self.truncations.to_le_bytes());
        let sum = crc32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(bytes)
    }

    /// `None` when the bytes are not such a file, or damaged.
    pub fn from_file(bytes: &[u8]) -> Option<Bounds> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut fields = Fields(body);
        let kind = fields.take::<4>()?;
        let bounds = Bounds {
            start: offset(&mut fields)?,
            rewritten: offset(&mut fields)?,
            cleaned: offset(&mut fields)?,
            ..Bounds::default()
        };
        let bounds = match &kind {
            FIRST_KIND => bounds,
            KIND => {
                let truncating = Some(fields.i64()?).filter(|offset| *offset != NONE).map(Offset);
                Bounds { truncating, truncations: fields.u32()?, ..bounds }
            }
            _ => return None,
        };
        let holds = bounds.truncating.is_none_or(|offset| offset >= bounds.start);
        (fields.is_empty() && holds).then_some(bounds)
    }

    /// The larger of each; of truncations, which come one after the other, this one's.
    pub fn max(self, other: Bounds) -> Bounds {
        Bounds {
            start: self.start.max(other.start),
            rewritten: self.rewritten.max(other.rewritten),
            cleaned: self.cleaned.max(other.cleaned),
            ..self
        }
    }
}

fn offset(fields: &mut Fields<'_>) -> Option<Offset> {
    Some(Offset(fields.i64()?)).filter(|offset| *offset >= Offset(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_nothing_else_does() {
        let bounds = Bounds { start: Offset(3), rewritten: Offset(1 << 40), cleaned: Offset(9), ..Bounds::default() };
        let truncated = Bounds { truncations: 7, truncating: Some(Offset(3)), ..bounds };
        for bounds in [bounds, truncated] {
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
        }
        for bad in [
            Bounds { start: Offset(-1), ..bounds },
            Bounds { truncating: Some(Offset(2)), ..bounds },
            Bounds { truncating: Some(Offset(-2)), ..bounds },
        ] {
            assert_eq!(Bounds::from_file(&bad.to_file()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_first_form_is_still_read() {
        let mut bytes = FIRST_KIND.to_vec();
        [3, 5, 4i64].iter().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes.extend_from_slice(&crc32(&bytes).to_le_bytes());
        let expect = Bounds { start: Offset(3), rewritten: Offset(5), cleaned: Offset(4), ..Bounds::default() };
        assert_eq!(Bounds::from_file(&bytes), Some(expect));
    }

    #[test]
    fn what_was_known_before_a_truncation_demands_nothing() {
        let bounds = Bounds { truncations: 2, ..Bounds::default() };
        let check = |truncations: u32, expect: i64| {
            assert_eq!(bounds.reach(Reach { truncations, end: Offset(9) }), Offset(expect));
        };
        check(1, 0);
        check(2, 9);
        // The bounds themselves were lost.
        check(3, 9);
        assert!(Reach { truncations: 1, end: Offset(0) } > Reach::to(Offset(5)));
    }
}
