//! One datagram: a head, sections, and a seal over all of it.
//!
//! The head says whose it is and which; sections of a kind that is not known are left out, so that a later version may
//! have more. The seal is a CRC-32, or with a key the first half of an HMAC-SHA256 (RFC 2104).
//!
//! *Owns*: the form in bytes, and what is refused before anything in it is believed. *Never*: panics on any bytes.
//! *Runs on*: core 0.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::base::checksum::crc32;
use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::base::limits::GOSSIP_DATAGRAM_BYTES_MAX;

const MAGIC: &[u8; 3] = b"CLG";
const FORM: u8 = 1;
const HEAD_BYTES: usize = 4 + 8 + 4 + 8 + 8 + 8;
const CRC_BYTES: usize = 4;
const HMAC_BYTES: usize = 16;
/// Kind and length.
const SECTION_HEAD_BYTES: usize = 3;

/// What a section may take in any datagram.
pub(super) const SECTION_BYTES_MAX: usize = GOSSIP_DATAGRAM_BYTES_MAX - HEAD_BYTES - SECTION_HEAD_BYTES - HMAC_BYTES;

/// What stands in a section.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SectionKind {
    /// A message between the membership engines.
    Swim,
    /// A piece of a report.
    Report,
    /// Metadata from one version to the next.
    Delta,
    /// Somebody has metadata that is too long for a datagram.
    Ahead,
    /// There is a later run of the receiver than the one that sent.
    Superseded,
    /// The sender knows nobody and would like to.
    Join,
}

impl SectionKind {
    const ALL: [SectionKind; 6] = [
        SectionKind::Swim,
        SectionKind::Report,
        SectionKind::Delta,
        SectionKind::Ahead,
        SectionKind::Superseded,
        SectionKind::Join,
    ];

    fn from_byte(byte: u8) -> Option<SectionKind> {
        SectionKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why nothing of a datagram was used. The state is as before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// It is no gossip, or damaged.
    Damaged,
    /// It is gossip of a form this version does not know.
    OtherForm,
    /// It is of another cluster.
    OtherCluster,
    /// Its seal was not made with our key, or it has none.
    Forged,
    /// It says that we sent it: somebody has our id, or sends back what we sent.
    Ourselves,
    /// It came before, or is so old that nobody knows.
    Replayed,
    /// It is from an earlier run of its sender.
    OldGeneration,
    /// It would make us know more members than there may be.
    TooManyMembers,
    /// More came in a second than is looked at.
    Flood,
    /// Sealed rightly, but what it says makes no sense.
    Nonsense,
}

impl Refusal {
    pub const ALL: [Refusal; 10] = [
        Refusal::Damaged,
        Refusal::OtherForm,
        Refusal::OtherCluster,
        Refusal::Forged,
        Refusal::Ourselves,
        Refusal::Replayed,
        Refusal::OldGeneration,
        Refusal::TooManyMembers,
        Refusal::Flood,
        Refusal::Nonsense,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Damaged => "it is no gossip, or damaged, or sealed with a key this broker does not have",
            Refusal::OtherForm => "its form is of another version",
            Refusal::OtherCluster => "it is of another cluster",
            Refusal::Forged => "it was not sealed with this cluster's key (peer.shared.key)",
            Refusal::Ourselves => "it has this broker's node.id",
            Refusal::Replayed => "it came before, or very late",
            Refusal::OldGeneration => "its sender was started again since",
            Refusal::TooManyMembers => "there are too many members already",
            Refusal::Flood => "too many come in a second",
            Refusal::Nonsense => "what it says makes no sense",
        })
    }
}

/// What makes a datagram one of this cluster.
#[derive(Clone)]
pub struct Seal {
    cluster: [u8; 8],
    key: Option<Hmac<Sha256>>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal(with key: {})", self.key.is_some())
    }
}

impl Seal {
    pub fn new(cluster_id: &str, key: Option<&[u8]>) -> Seal {
        let digest = Sha256::digest(cluster_id.as_bytes());
        let cluster = *digest.first_chunk().expect("a digest has 32 bytes");
        let key = key.map(|key| Hmac::new_from_slice(key).expect("a key of HMAC has any length"));
        Seal { cluster, key }
    }

    fn bytes(&self) -> usize {
        if self.key.is_some() { HMAC_BYTES } else { CRC_BYTES }
    }

    fn append(&self, bytes: &mut Vec<u8>) {
        match &self.key {
            Some(key) => {
                let tag = key.clone().chain_update(&bytes).finalize().into_bytes();
                bytes.extend_from_slice(&tag[..HMAC_BYTES]);
            }
            None => bytes.extend_from_slice(&crc32(bytes).to_le_bytes()),
        }
    }

    /// Compares a key's tag in a time that tells nothing of it.
    fn holds(&self, sealed: &[u8], tag: &[u8]) -> bool {
        match &self.key {
            Some(key) => key.clone().chain_update(sealed).verify_truncated_left(tag).is_ok(),
            None => crc32(sealed).to_le_bytes() == tag,
        }
    }
}

/// Whose datagram it is, and which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub from: NodeId,
    /// Of the run that sent it.
    pub generation: u64,
    /// Counts the datagrams of the run, from 1.
    pub sequence: u64,
    /// The metadata the sender has.
    pub version: u64,
}

/// What stands in a datagram, in its order.
pub type Sections<'a> = Vec<(SectionKind, &'a [u8])>;

/// Reads a whole datagram.
pub fn open<'a>(bytes: &'a [u8], seal: &Seal) -> Result<(Head, Sections<'a>), Refusal> {
    if bytes.len() > GOSSIP_DATAGRAM_BYTES_MAX || !bytes.starts_with(MAGIC) {
        return Err(Refusal::Damaged);
    }
    match bytes.get(MAGIC.len()) {
        Some(&FORM) => {}
        Some(_) => return Err(Refusal::OtherForm),
        None => return Err(Refusal::Damaged),
    }
    let sealed = bytes.len().checked_sub(seal.bytes()).filter(|len| *len >= HEAD_BYTES).ok_or(Refusal::Damaged)?;
    let (sealed, tag) = bytes.split_at(sealed);
    let mut fields = Fields(&sealed[MAGIC.len() + 1..]);
    let cluster: [u8; 8] = fields.take().ok_or(Refusal::Damaged)?;
    if cluster != seal.cluster {
        return Err(Refusal::OtherCluster);
    }
    if !seal.holds(sealed, tag) {
        return Err(if seal.key.is_some() { Refusal::Forged } else { Refusal::Damaged });
    }
    read(&mut fields).ok_or(Refusal::Nonsense)
}

fn read<'a>(fields: &mut Fields<'a>) -> Option<(Head, Sections<'a>)> {
    let from = fields.i32().filter(|node| *node >= 0).map(NodeId)?;
    let head = Head { from, generation: fields.u64()?, sequence: fields.u64()?, version: fields.u64()? };
    let mut sections = Vec::new();
    while !fields.is_empty() {
        let [kind] = fields.take()?;
        let len = usize::from(fields.u16()?);
        let (section, rest) = fields.0.split_at_checked(len)?;
        fields.0 = rest;
        if let Some(kind) = SectionKind::from_byte(kind) {
            sections.push((kind, section));
        }
    }
    Some((head, sections))
}

/// A datagram in the making.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl FrameWriter {
    pub fn new(head: Head, seal: &Seal) -> FrameWriter {
        let mut bytes = Vec::with_capacity(GOSSIP_DATAGRAM_BYTES_MAX);
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORM);
        bytes.extend_from_slice(&seal.cluster);
        bytes.extend_from_slice(&head.from.0.to_le_bytes());
        for number in [head.generation, head.sequence, head.version] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(bytes.len(), HEAD_BYTES);
        FrameWriter { bytes, bytes_max: GOSSIP_DATAGRAM_BYTES_MAX - seal.bytes() }
    }

    /// Bytes that one more section may have.
    pub fn room(&self) -> usize {
        (self.bytes_max - self.bytes.len()).saturating_sub(SECTION_HEAD_BYTES)
    }

    /// The caller has looked at the room.
    pub fn push(&mut self, kind: SectionKind, section: &[u8]) {
        assert!(section.len() <= self.room());
        self.bytes.push(kind as u8);
        self.bytes.extend_from_slice(&(section.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(section);
    }

    pub fn finish(mut self, seal: &Seal) -> Bytes {
        seal.append(&mut self.bytes);
        assert!(self.bytes.len() <= GOSSIP_DATAGRAM_BYTES_MAX);
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { from: NodeId(3), generation: 5, sequence: 7, version: 9 };

    fn sample(seal: &Seal) -> Bytes {
        let mut writer = FrameWriter::new(HEAD, seal);
        writer.push(SectionKind::Swim, b"membership");
        writer.push(SectionKind::Report, b"");
        writer.finish(seal)
    }

    #[test]
    fn a_datagram_reads_back_and_no_other_seal_opens_it() {
        let (plain, keyed) = (Seal::new("one", None), Seal::new("one", Some(b"key")));
        for seal in [&plain, &keyed] {
            let sample = sample(seal);
            let (head, sections) = open(&sample, seal).unwrap();
            assert_eq!(head, HEAD);
            assert_eq!(sections, [(SectionKind::Swim, &b"membership"[..]), (SectionKind::Report, b"")]);
        }
        for (made, opened, expect) in [
            (&plain, Seal::new("two", None), Refusal::OtherCluster),
            (&keyed, Seal::new("two", Some(b"key")), Refusal::OtherCluster),
            (&keyed, Seal::new("one", Some(b"kez")), Refusal::Forged),
            (&plain, keyed.clone(), Refusal::Forged),
            (&keyed, plain.clone(), Refusal::Damaged),
        ] {
            assert_eq!(open(&sample(made), &opened).unwrap_err(), expect, "{opened:?}");
        }
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        for seal in [Seal::new("one", None), Seal::new("one", Some(b"key"))] {
            let whole = sample(&seal);
            for len in 0..whole.len() {
                assert!(open(&whole[..len], &seal).is_err(), "{len}");
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&bytes, &seal).is_err(), "bit {bit}");
            }
            assert_eq!(open(&[b'C'; 1201], &seal).unwrap_err(), Refusal::Damaged);
        }
    }

    #[test]
    fn sections_that_are_not_known_are_left_out_and_torn_ones_refused() {
        let seal = Seal::new("one", None);
        let with = |tail: &[u8]| {
            let mut writer = FrameWriter::new(HEAD, &seal);
            writer.bytes.extend_from_slice(tail);
            writer.finish(&seal)
        };
        let bytes = with(&[200, 1, 0, 9, SectionKind::Join as u8, 0, 0]);
        assert_eq!(open(&bytes, &seal).unwrap().1, [(SectionKind::Join, &b""[..])]);
        for torn in [&[0][..], &[0, 1], &[0, 1, 0], &[0, 0xff, 0xff, 1]] {
            assert_eq!(open(&with(torn), &seal).unwrap_err(), Refusal::Nonsense);
        }
        let full = FrameWriter::new(HEAD, &seal);
        assert!(full.room() >= SECTION_BYTES_MAX);
    }
}
