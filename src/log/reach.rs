//! What a log must hold before it may open: batches that a journal knew of and that are missing.
//!
//! Journals are emptied after their replay. A log that then lacks something keeps what it was asked for in a file in
//! its directory, so that no later start takes what is left for all there was. The file goes when the log has
//! everything, or with a repair.
//!
//! *Owns*: the form of the file. *Never*: decides whether a log opens. *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::bounds::Reach;
use crate::base::ids::Offset;

use super::file::{FileWriter, Kind, open_file};

const KIND: Kind = *b"CLM2";
/// Of before logs were truncated: it does not tell how often.
const FIRST_KIND: Kind = *b"CLM1";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MustReach {
    /// The log ends here or later, or has lost something; unless it was truncated since.
    pub reach: Reach,
    /// Why it may have lost something even then. Nothing in the log can settle that: a person must.
    pub doubt: Option<String>,
}

impl MustReach {
    pub fn end(end: Offset) -> MustReach {
        MustReach { reach: Reach::to(end), doubt: None }
    }

    /// Asks for no more than `other` does.
    pub(super) fn is_within(&self, other: &MustReach) -> bool {
        self.reach <= other.reach && (self.doubt.is_none() || other.doubt.is_some())
    }

    /// Asks for what either does.
    pub fn join(self, other: MustReach) -> MustReach {
        MustReach { reach: self.reach.max(other.reach), doubt: self.doubt.or(other.doubt) }
    }

    pub fn to_file(&self) -> Bytes {
        let mut file = FileWriter::new(KIND);
        file.put_i64(self.reach.end.0);
        file.put_i32(self.reach.truncations as i32);
        file.put_bytes(self.doubt.as_deref().unwrap_or_default().as_bytes());
        file.finish()
    }

    pub fn from_file(bytes: &[u8]) -> Option<MustReach> {
        let (mut file, is_first) = match open_file(KIND, bytes) {
            Some(file) => (file, false),
            None => (open_file(FIRST_KIND, bytes)?, true),
        };
        let end = Offset(file.i64()?);
        let truncations = if is_first { 0 } else { file.u32()? };
        let doubt = String::from_utf8(file.bytes()?.to_vec()).ok()?;
        file.end()?;
        let reach = Reach { truncations, end };
        (end >= Offset(0)).then_some(MustReach { reach, doubt: Some(doubt).filter(|doubt| !doubt.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_every_flipped_bit_is_noticed() {
        for doubt in [None, Some("commit 7 is damaged".to_owned())] {
            let reach = MustReach { reach: Reach { truncations: 3, end: Offset(40) }, doubt };
            let file = reach.to_file();
            assert_eq!(MustReach::from_file(&file), Some(reach));
            let mut bad = file.to_vec();
            for bit in 0..bad.len() * 8 {
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(MustReach::from_file(&bad), None, "bit {bit}");
                bad[bit / 8] ^= 1 << (bit % 8);
            }
        }
        assert_eq!(MustReach::from_file(&MustReach::end(Offset(-1)).to_file()), None);
    }

    #[test]
    fn what_is_asked_for_adds_up() {
        let doubt = |end: i64| MustReach { reach: Reach::to(Offset(end)), doubt: Some("why".to_owned()) };
        let sure = |end: i64| MustReach::end(Offset(end));
        let check = |one: MustReach, other: MustReach, within: bool, both: MustReach| {
            assert_eq!(one.is_within(&other), within, "{one:?} {other:?}");
            assert_eq!(one.join(other), both);
        };
        check(sure(5), sure(7), true, sure(7));
        check(sure(7), sure(5), false, sure(7));
        check(sure(5), doubt(7), true, doubt(7));
        check(doubt(5), sure(7), false, doubt(7));
        check(doubt(5), doubt(5), true, doubt(5));
        let later = MustReach { reach: Reach { truncations: 1, end: Offset(2) }, doubt: None };
        check(sure(5), later.clone(), true, later);
    }

    #[test]
    fn the_first_form_is_still_read() {
        let mut file = FileWriter::new(FIRST_KIND);
        file.put_i64(40);
        file.put_bytes(b"");
        assert_eq!(MustReach::from_file(&file.finish()), Some(MustReach::end(Offset(40))));
    }
}
