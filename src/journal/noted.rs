//! What a core has noted for the start after a crash: which journal it has, how far its logs are durable, and how far
//! they were committed.
//!
//! A journal that is gone cannot say that it was there. Nor can a segment say how much of it was synced: without this a
//! batch that was damaged later passes for one that a crash has torn. What other replicas have no log can tell: without
//! a note a leader that starts again shows consumers less than before. The file lies with the metadata, so that whoever
//! removes the journals leaves it.
//!
//! *Owns*: the form of the file. *Never*: is newer than what it tells of: a log may be durable further on. *Runs on*:
//! every core, one file each; read on core 0, and by tools.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{Run, number};
use crate::base::bounds::Reach;
use crate::base::checksum::crc32;
use crate::base::fields::Fields;
use crate::base::ids::{CoreId, Offset, PartitionIndex, TopicId};

/// Where they are, in the data directory.
pub const DIR: &str = "meta";

const SUFFIX: &str = ".noted";
const KIND: &[u8; 4] = b"CLN3";
/// Of before high watermarks were noted: all its rows tell what was durable.
const SECOND_KIND: &[u8; 4] = b"CLN2";
/// Of before logs were truncated: its rows do not tell how often.
const FIRST_KIND: &[u8; 4] = b"CLN1";
const ROW_BYTES: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Noted {
    /// The key of the journal's run, once it may hold commits that are needed; 0 while none is.
    pub journal: u64,
    /// How many cores there were.
    pub cores: u16,
    /// Everything below was durable, in the segments.
    pub durable: BTreeMap<(TopicId, PartitionIndex), Reach>,
    /// High watermarks, of partitions with other replicas.
    pub committed: BTreeMap<(TopicId, PartitionIndex), Reach>,
}

/// What cores have noted; nothing when the file does not read back.
pub type Notes = BTreeMap<CoreId, Option<Noted>>;

/// What there is of a core's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    NoFile,
    /// It has no header and holds nothing.
    Blank,
    /// Its header is of this run.
    Run(Run),
}

/// Why commits are lost with the journal that the core had.
pub fn objection(notes: &Notes, core: CoreId, found: Found) -> Option<String> {
    let note = path(core);
    let note = note.display();
    match (notes.get(&core)?, found) {
        (None, Found::NoFile) => Some(format!("is missing, and {note} does not tell whether it was in use")),
        (None, Found::Blank | Found::Run(_)) | (Some(Noted { journal: 0, .. }), _) => None,
        (Some(_), Found::NoFile) => Some(format!("is missing, and {note} says that it was in use")),
        (Some(_), Found::Blank) => Some(format!("holds nothing, and {note} says that it was in use")),
        // One that a replay has emptied is as good as the one that it was.
        (Some(noted), Found::Run(run)) if run.key == 0 || run.key == noted.journal => None,
        (Some(_), Found::Run(_)) => {
            Some(format!("is not the one that was in use last, as {note} tells: an older copy"))
        }
    }
}

/// The journals that should be there and are not, with how many cores there were if that is known.
pub fn missing(notes: &Notes, is_there: impl Fn(CoreId) -> bool) -> Vec<(CoreId, Option<u16>, String)> {
    let absent = notes.iter().filter(|(core, _)| !is_there(**core));
    let missing = absent.filter_map(|(core, noted)| {
        let why = objection(notes, *core, Found::NoFile)?;
        Some((*core, noted.as_ref().map(|noted| noted.cores), why))
    });
    missing.collect()
}

/// In the data directory.
pub fn path(core: CoreId) -> PathBuf {
    Path::new(DIR).join(format!("{core}{SUFFIX}"))
}

/// Whose file has this name.
pub fn core_of(name: &str) -> Option<CoreId> {
    number(name.strip_suffix(SUFFIX)?).map(CoreId)
}

impl Noted {
    pub fn to_file(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64 + (self.durable.len() + self.committed.len()) * ROW_BYTES);
        bytes.extend_from_slice(KIND);
        bytes.extend_from_slice(&self.journal.to_le_bytes());
        bytes.extend_from_slice(&self.cores.to_le_bytes());
        let durable_count = u32::try_from(self.durable.len()).expect("a core has fewer than 2^32 partitions");
        bytes.extend_from_slice(&durable_count.to_le_bytes());
        for ((topic, partition), reach) in self.durable.iter().chain(&self.committed) {
            bytes.extend_from_slice(&topic.0);
            bytes.extend_from_slice(&partition.0.to_le_bytes());
            bytes.extend_from_slice(&reach.end.0.to_le_bytes());
            bytes.extend_from_slice(&reach.truncations.to_le_bytes());
        }
        let sum = crc32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(bytes)
    }

    /// `None` when the bytes are not such a file, or damaged.
    pub fn from_file(bytes: &[u8]) -> Option<Noted> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut fields = Fields(body);
        let kind = &fields.take()?;
        if ![KIND, SECOND_KIND, FIRST_KIND].contains(&kind) {
            return None;
        }
        let mut noted = Noted { journal: fields.u64()?, cores: fields.u16()?, ..Noted::default() };
        let durable_count = if kind == KIND { fields.u32()? as usize } else { usize::MAX };
        while !fields.is_empty() {
            let name = (TopicId(fields.take()?), PartitionIndex(fields.i32()?));
            let end = Some(Offset(fields.i64()?)).filter(|end| end.0 >= 0)?;
            let truncations = if kind == FIRST_KIND { 0 } else { fields.u32()? };
            let is_durable = noted.durable.len() < durable_count;
            let rows = if is_durable { &mut noted.durable } else { &mut noted.committed };
            rows.insert(name, Reach { truncations, end });
        }
        Some(noted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_reads_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let row = |number: u8, end: i64| {
            let reach = Reach { truncations: u32::from(number), end: Offset(end) };
            ((TopicId([number; 16]), PartitionIndex(7)), reach)
        };
        let [none, some] = [BTreeMap::new(), BTreeMap::from([row(1, 0), row(2, 1 << 40)])];
        for (durable, committed) in [(&none, &none), (&some, &none), (&none, &some), (&some, &some)] {
            let (durable, committed) = (durable.clone(), committed.clone());
            let noted = Noted { journal: 0x1234_5678_9abc_def0, cores: 3, durable, committed };
            let bytes = noted.to_file();
            assert_eq!(Noted::from_file(&bytes), Some(noted));
            for cut in 0..bytes.len() {
                assert_eq!(Noted::from_file(&bytes[..cut]), None, "cut at {cut}");
            }
            let mut bad = bytes.to_vec();
            for bit in 0..bad.len() * 8 {
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Noted::from_file(&bad), None, "bit {bit}");
                bad[bit / 8] ^= 1 << (bit % 8);
            }
        }
        let durable = BTreeMap::from([row(1, -1)]);
        assert_eq!(Noted::from_file(&Noted { durable, ..Noted::default() }.to_file()), None);
    }

    #[test]
    fn earlier_forms_are_still_read() {
        for (kind, truncations) in [(FIRST_KIND, None), (SECOND_KIND, Some(3u32))] {
            let mut bytes = kind.to_vec();
            bytes.extend_from_slice(&9u64.to_le_bytes());
            bytes.extend_from_slice(&2u16.to_le_bytes());
            bytes.extend_from_slice(&[4; 16]);
            bytes.extend_from_slice(&7i32.to_le_bytes());
            bytes.extend_from_slice(&30i64.to_le_bytes());
            truncations.into_iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
            bytes.extend_from_slice(&crc32(&bytes).to_le_bytes());
            let reach = Reach { truncations: truncations.unwrap_or_default(), end: Offset(30) };
            let durable = BTreeMap::from([((TopicId([4; 16]), PartitionIndex(7)), reach)]);
            assert_eq!(Noted::from_file(&bytes), Some(Noted { journal: 9, cores: 2, durable, ..Noted::default() }));
        }
    }

    #[test]
    fn a_journal_that_is_gone_or_is_another_is_told_from_the_one_that_was_noted() {
        let noted = |journal: u64| Some(Noted { journal, cores: 2, ..Noted::default() });
        let run = |key: u64| Found::Run(Run { generation: 5, key });
        let check = |noted: Option<Option<Noted>>, found: Found, expect: Option<&str>| {
            let notes: Notes = noted.map(|noted| (CoreId(1), noted)).into_iter().collect();
            let said = objection(&notes, CoreId(1), found);
            assert_eq!(said.is_some(), expect.is_some(), "{notes:?} {found:?}");
            assert!(said.iter().all(|said| said.contains(expect.unwrap_or_default())), "{said:?}");
            assert!(said.iter().all(|said| said.contains("meta/1.noted")), "{said:?}");
        };
        for found in [Found::NoFile, Found::Blank, run(0), run(7)] {
            check(None, found, None);
            check(Some(noted(0)), found, None);
        }
        check(Some(noted(7)), Found::NoFile, Some("is missing"));
        check(Some(noted(7)), Found::Blank, Some("holds nothing"));
        check(Some(noted(7)), run(8), Some("an older copy"));
        check(Some(noted(7)), run(7), None);
        check(Some(noted(7)), run(0), None);
        check(Some(None), Found::NoFile, Some("does not tell"));
        check(Some(None), run(7), None);
        let notes = [0, 1, 2, 3].map(|core| (CoreId(core), noted(u64::from(core)))).into();
        let cores: Vec<u16> = missing(&notes, |core| core.0 == 2).into_iter().map(|(core, ..)| core.0).collect();
        assert_eq!(cores, [1, 3]);
    }

    #[test]
    fn a_core_has_one_name() {
        let check = |name: &str, core: Option<u16>| assert_eq!(core_of(name), core.map(CoreId), "{name}");
        check("0.noted", Some(0));
        check("17.noted", Some(17));
        assert_eq!(path(CoreId(17)), Path::new("meta/17.noted"));
        for name in ["00.noted", "-1.noted", "70000.noted", "1.noted.tmp", "noted", "00000000000000000001.meta"] {
            check(name, None);
        }
    }
}
