//! The form of the log's own files: a kind, fields, and a CRC-32 over all of it.
//!
//! *Owns*: how a field is laid out (little endian) and how a file is sealed. *Never*: trusts a length or a count
//! from a file; what does not read back is `None`, and the file is then rebuilt from the batches.
//! *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::checksum::crc32;

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

#[derive(Debug)]
pub(super) struct FileReader<'a> {
    rest: &'a [u8],
}

impl<'a> FileReader<'a> {
    /// `None` when the kind is another or the checksum does not match.
    pub(super) fn open(kind: Kind, bytes: &'a [u8]) -> Option<FileReader<'a>> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        Some(FileReader { rest: body.strip_prefix(&kind)? })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// A count of elements of at least `element_bytes` each, which the bytes left can hold.
    pub(super) fn count(&mut self, element_bytes: usize) -> Option<usize> {
        assert!(element_bytes > 0);
        let count = usize::try_from(self.u32()?).ok()?;
        (count <= self.rest.len() / element_bytes).then_some(count)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count(1)?;
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(head)
    }

    /// Everything was read: a file with bytes left over is of another form.
    pub(super) fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
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
        let mut reader = FileReader::open(*b"TST1", &whole).unwrap();
        assert_eq!(reader.i64(), Some(-5));
        assert_eq!(reader.bytes(), Some(&b"tail"[..]));
        assert_eq!(reader.end(), Some(()));
        assert!(FileReader::open(*b"TST2", &whole).is_none());
        for cut in 0..whole.len() {
            assert!(FileReader::open(*b"TST1", &whole[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FileReader::open(*b"TST1", &bad).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let mut writer = FileWriter::new(*b"TST1");
        writer.put_u32(3);
        writer.put_u64(0);
        let whole = writer.finish();
        assert_eq!(FileReader::open(*b"TST1", &whole).unwrap().count(4), None);
        assert_eq!(FileReader::open(*b"TST1", &whole).unwrap().count(2), Some(3));
    }
}
