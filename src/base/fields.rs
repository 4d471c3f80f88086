//! Fields of our own files, read from the front of what a disk gave back.
//!
//! *Owns*: the order of their bytes: the lowest first. *Never*: trusts a length or a count: what is cut reads as `None`.
//! *Runs on*: any core.

#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// Seven bits a byte, the lowest first, the highest bit says that more follow.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A count of elements of at least `element_bytes` each, which the bytes left can hold.
    pub fn count(&mut self, element_bytes: usize) -> Option<usize> {
        assert!(element_bytes > 0);
        let count = usize::try_from(self.u32()?).ok()?;
        (count <= self.0.len() / element_bytes).then_some(count)
    }

    /// A count, and so many bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count(1)?;
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(head)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything was read: bytes that are left over are of another form.
    pub fn end(self) -> Option<()> {
        self.is_empty().then_some(())
    }
}

/// Writes what [`Fields::varint`] reads.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_go_both_ways_and_too_long_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Fields(&bytes).varint(), Some(value));
            assert_eq!(Fields(&bytes[..bytes.len() - 1]).varint(), None);
        }
        let ten = |last: u8| [[0xff; 9].as_slice(), &[last]].concat();
        assert_eq!((Fields(&ten(1)).varint(), Fields(&ten(2)).varint()), (Some(u64::MAX), None));
        assert_eq!(Fields(&ten(0x81)).varint(), None);
    }

    #[test]
    fn fields_are_read_as_far_as_they_are_whole() {
        let mut fields = Fields(&[1, 0, 0xfe, 0xff, 2, 0, 0, 0, b'a', b'b', 3, 0, 0, 0, 0, 0]);
        assert_eq!((fields.u16(), fields.i16(), fields.bytes()), (Some(1), Some(-2), Some(&b"ab"[..])));
        assert_eq!((fields.clone().u64(), fields.clone().bytes(), fields.clone().end()), (None, None, None));
        assert_eq!((fields.count(1), fields.clone().count(1)), (None, None));
        assert_eq!((fields.take(), fields.end()), (Some([0, 0]), Some(())));
    }
}
