//! The form of the log's own files: a kind, fields, and a CRC-32 over all of it.
//!
//! *Owns*: how a field is written (little endian) and how a file is sealed. *Never*: trusts what a file says: what does
//! not read back is `None`, and the file is then rebuilt from the batches.
//! *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::checksum::crc32;
use crate::base::fields::Fields;

/// Four bytes at the start of a file: what it is, and the version of its form.
pub(super) type Kind = [u8; 4];

#[derive(Debug)]
pub(super) struct FileWriter {
    bytes: Vec<u8>,
}

impl FileWriter {
    pub(super) fn new(kind: Kind) -> FileWriter {
        FileWriter { bytes: kind.to_vec() }
    }

    pub(super) fn put_i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn put_u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn put_i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn put_u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn put_i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A count of elements that follow.
    pub(super) fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).expect("every table of a log is bounded far below 2^32"));
    }

    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn finish(mut self) -> Bytes {
        let sum = crc32(&self.bytes);
        self.put_u32(sum);
        Bytes::from(self.bytes)
    }
}

/// The fields of a file. `None` when the kind is another or the checksum does not match.
pub(super) fn open_file(kind: Kind, bytes: &[u8]) -> Option<Fields<'_>> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some(Fields(body.strip_prefix(&kind)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut writer = FileWriter::new(*b"TST1");
        writer.put_i64(-5);
        writer.put_bytes(b"tail");
        let whole = writer.finish();
        let mut reader = open_file(*b"TST1", &whole).unwrap();
        assert_eq!(reader.i64(), Some(-5));
        assert_eq!(reader.bytes(), Some(&b"tail"[..]));
        assert_eq!(reader.end(), Some(()));
        assert!(open_file(*b"TST2", &whole).is_none());
        for cut in 0..whole.len() {
            assert!(open_file(*b"TST1", &whole[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_file(*b"TST1", &bad).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let mut writer = FileWriter::new(*b"TST1");
        writer.put_u32(3);
        writer.put_u64(0);
        let whole = writer.finish();
        assert_eq!(open_file(*b"TST1", &whole).unwrap().count(4), None);
        assert_eq!(open_file(*b"TST1", &whole).unwrap().count(2), Some(3));
    }
}
