//! Reads the primitive types of the protocol from a frame, without copying and without trusting it.
//!
//! *Owns*: the position in the frame, and the memory that decoding it may still take. *Never*: panics on any
//! bytes, allocates for a length before comparing it with the bytes left. *Runs on*: every core.
//!
//! Layouts: Kafka protocol guide, "Protocol Primitive Types"; the flexible forms are KIP-482.

use std::fmt;

use bytes::Bytes;

use super::text::Text;
use crate::base::ids::{ClientInstanceId, Incarnation, TopicId};
use crate::base::limits::{DECODED_BYTES_BASE, DECODED_BYTES_PER_FRAME_BYTE};

/// A frame and how far it has been read. Slices it hands out keep the frame's memory alive.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    position: usize,
    /// What arrays may still allocate. A one-byte element on the wire can be a hundred in memory, so comparing
    /// counts with the bytes left is not enough to bound what a frame makes us allocate.
    memory_left: usize,
}

impl Reader {
    pub fn new(bytes: Bytes) -> Reader {
        let memory_left = bytes.len().saturating_mul(DECODED_BYTES_PER_FRAME_BYTE).saturating_add(DECODED_BYTES_BASE);
        Reader { bytes, position: 0, memory_left }
    }

    /// Bytes read so far, from the start of the frame.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// An error at the present position.
    #[cold]
    pub fn error(&self, fault: Fault) -> DecodeError {
        DecodeError::new(self.position, fault)
    }

    /// Ends the reading: an error if bytes are left, since then the peer means something else than we read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(self.error(Fault::Trailing { bytes })),
        }
    }

    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// Anything but 0 is true, as Kafka reads it.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.i8().map(|byte| byte != 0)
    }

    #[inline]
    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        self.array().map(TopicId)
    }

    #[inline]
    pub fn client_instance_id(&mut self) -> Result<ClientInstanceId, DecodeError> {
        self.array().map(ClientInstanceId)
    }

    #[inline]
    pub fn incarnation(&mut self) -> Result<Incarnation, DecodeError> {
        self.array().map(Incarnation)
    }

    /// An unsigned varint of at most 32 bits, seven to a byte, the lowest first.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.bytes.get(self.position) {
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(u32::from(byte))
            }
            _ => self.uvarint_long(),
        }
    }

    fn uvarint_long(&mut self) -> Result<u32, DecodeError> {
        let start = self.position;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::new(start, Fault::VarintOverflow));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::new(start, Fault::VarintOverflow))
    }

    /// The next `length` bytes as a slice of the frame.
    #[inline]
    pub fn slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.remaining() {
            return Err(self.error(Fault::Short { wanted: length, left: self.remaining() }));
        }
        let start = self.position;
        self.position += length;
        Ok(self.bytes.slice(start..self.position))
    }

    /// Steps over the next `length` bytes.
    pub fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        if length > self.remaining() {
            return Err(self.error(Fault::Short { wanted: length, left: self.remaining() }));
        }
        self.position += length;
        Ok(())
    }

    /// A string: two bytes of length, or a varint of the length plus one.
    #[inline]
    pub fn text(&mut self, flexible: bool) -> Result<Option<Text>, DecodeError> {
        let Some(length) = self.length(flexible, Width::Two)? else {
            return Ok(None);
        };
        let start = self.position;
        let bytes = self.slice(length)?;
        match Text::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(DecodeError::new(start + error.valid_up_to(), Fault::NotUtf8)),
        }
    }

    /// Bytes or records: four bytes of length, or a varint of the length plus one.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible, Width::Four)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// The count of an array whose elements take at least `element_bytes_min` (> 0) here and `element_size` in
    /// memory. A vector of that capacity is within what the frame may make us allocate.
    #[inline]
    pub fn array_length(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        element_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        assert!(element_bytes_min > 0);
        let start = self.position;
        let Some(count) = self.length(flexible, Width::Four)? else {
            return Ok(None);
        };
        if count > self.remaining() / element_bytes_min {
            let fault = Fault::ArrayTooLong { count, element_bytes_min, left: self.remaining() };
            return Err(DecodeError::new(start, fault));
        }
        match count.checked_mul(element_size).and_then(|bytes| self.memory_left.checked_sub(bytes)) {
            Some(memory_left) => self.memory_left = memory_left,
            None => return Err(DecodeError::new(start, Fault::TooMuchMemory { count })),
        }
        Ok(Some(count))
    }

    /// Reads tagged fields. `known` is given each tag with the reader at its value and says whether it read it;
    /// what it did not is stepped over. A value must be as long as its size says.
    #[inline]
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.uvarint()?;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(self.error(Fault::Short { wanted: size, left: self.remaining() }));
            }
            let end = self.position + size;
            if !known(self, tag)? {
                self.position = end;
            }
            if self.position != end {
                return Err(self.error(Fault::TagSize { tag, size }));
            }
        }
        Ok(())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(self.error(Fault::Short { wanted: N, left: self.remaining() })),
        }
    }

    /// A length; `None` is null: −1 in the fixed forms, 0 in the flexible one.
    #[inline]
    fn length(&mut self, flexible: bool, width: Width) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        let start = self.position;
        let length = match width {
            Width::Two => i32::from(self.i16()?),
            Width::Four => self.i32()?,
        };
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(DecodeError::new(start, Fault::NegativeLength { length })),
        }
    }
}

#[derive(Clone, Copy)]
enum Width {
    Two,
    Four,
}

/// Bytes of a peer that are not what the protocol says. Nothing of the message was taken: the connection has lost
/// its place and should be closed.
///
/// Boxed, so that the results of the small reads fit in registers.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Details>);

#[derive(Clone, PartialEq, Eq)]
struct Details {
    at: usize,
    fault: Fault,
    field: Option<(&'static str, &'static str)>,
}

/// What was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A value goes beyond the end of the frame.
    Short {
        wanted: usize,
        left: usize,
    },
    /// A length below −1.
    NegativeLength {
        length: i32,
    },
    /// More elements than the bytes left could hold.
    ArrayTooLong {
        count: usize,
        element_bytes_min: usize,
        left: usize,
    },
    /// The frame's arrays would take far more memory than the frame itself.
    TooMuchMemory {
        count: usize,
    },
    /// A varint of more than 32 bits.
    VarintOverflow,
    NotUtf8,
    /// Null in a version whose field cannot be null.
    Null,
    /// A tagged field that is longer or shorter than its size says.
    TagSize {
        tag: u32,
        size: usize,
    },
    /// Bytes after the end of the message.
    Trailing {
        bytes: usize,
    },
    /// A message that we do not read in this version.
    Version {
        version: i16,
    },
}

impl DecodeError {
    #[cold]
    pub fn new(at: usize, fault: Fault) -> DecodeError {
        DecodeError(Box::new(Details { at, fault, field: None }))
    }

    /// Names the field that was being read, unless a field within it is named already.
    #[cold]
    pub fn within(mut self, message: &'static str, field: &'static str) -> DecodeError {
        self.0.field.get_or_insert((message, field));
        self
    }

    /// Where, in bytes from the start of the frame (after its length).
    pub fn at(&self) -> usize {
        self.0.at
    }

    pub fn fault(&self) -> Fault {
        self.0.fault
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((message, field)) = self.0.field {
            write!(f, "{message}.{field}: ")?;
        }
        match self.0.fault {
            Fault::Short { wanted, left } => write!(f, "{wanted} bytes wanted, {left} left")?,
            Fault::NegativeLength { length } => write!(f, "length {length}")?,
            Fault::ArrayTooLong { count, element_bytes_min, left } => {
                write!(f, "{count} elements of {element_bytes_min} or more bytes do not fit the {left} bytes left")?;
            }
            Fault::TooMuchMemory { count } => write!(f, "{count} elements take more memory than the frame justifies")?,
            Fault::VarintOverflow => f.write_str("a varint of more than 32 bits")?,
            Fault::NotUtf8 => f.write_str("not UTF-8")?,
            Fault::Null => f.write_str("null, which this version does not allow")?,
            Fault::TagSize { tag, size } => write!(f, "tagged field {tag} does not end after its {size} bytes")?,
            Fault::Trailing { bytes } => write!(f, "{bytes} bytes after the end of the message")?,
            Fault::Version { version } => write!(f, "version {version} is not known")?,
        }
        write!(f, " (at byte {})", self.0.at)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn varints() {
        let check = |bytes: &[u8], expect: Result<u32, Fault>| {
            let mut reader = reader(bytes);
            assert_eq!(reader.uvarint().map_err(|error| error.fault()), expect, "{bytes:x?}");
            if expect.is_ok() {
                assert_eq!(reader.remaining(), 0);
            }
        };
        check(&[0], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80, 1], Ok(128));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
        // Longer than needed, but Kafka reads it too.
        check(&[0x80, 0], Ok(0));
        check(&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(Fault::VarintOverflow));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], Err(Fault::VarintOverflow));
        check(&[], Err(Fault::Short { wanted: 1, left: 0 }));
        check(&[0xff, 0xff], Err(Fault::Short { wanted: 1, left: 0 }));
    }

    #[test]
    fn texts() {
        let check = |bytes: &[u8], flexible: bool, expect: Result<Option<&str>, (usize, Fault)>| {
            let read = reader(bytes).text(flexible);
            let read = read.as_ref().map(Option::as_deref).map_err(|error| (error.at(), error.fault()));
            assert_eq!(read, expect, "{bytes:x?}");
        };
        check(b"\x00\x02hi", false, Ok(Some("hi")));
        check(b"\xff\xff", false, Ok(None));
        check(b"\x03hi", true, Ok(Some("hi")));
        check(b"\x00", true, Ok(None));
        check(b"\x01", true, Ok(Some("")));
        check(b"\x00\x03hi", false, Err((2, Fault::Short { wanted: 3, left: 2 })));
        check(b"\xff\xfe", false, Err((0, Fault::NegativeLength { length: -2 })));
        check(b"\x03h\xff", true, Err((2, Fault::NotUtf8)));
        check(b"\xff\xff\xff\xff\x0fhi", true, Err((5, Fault::Short { wanted: u32::MAX as usize - 1, left: 2 })));
    }

    #[test]
    fn an_array_is_as_long_as_the_bytes_left_allow() {
        let check = |bytes: &[u8], flexible: bool, element: (usize, usize), expect: Result<Option<usize>, Fault>| {
            let read = reader(bytes).array_length(flexible, element.0, element.1);
            assert_eq!(read.map_err(|error| error.fault()), expect, "{bytes:x?}");
        };
        let too_long = |count, element_bytes_min, left| Err(Fault::ArrayTooLong { count, element_bytes_min, left });
        check(&[0, 0, 0, 2, 9, 9], false, (1, 8), Ok(Some(2)));
        check(&[0, 0, 0, 2, 9, 9], false, (2, 8), too_long(2, 2, 2));
        check(&[0xff, 0xff, 0xff, 0xff], false, (1, 1), Ok(None));
        check(&[0x7f, 0xff, 0xff, 0xff], false, (1, 1), too_long(i32::MAX as usize, 1, 0));
        check(&[0x80, 0, 0, 0], false, (1, 1), Err(Fault::NegativeLength { length: i32::MIN }));
        check(&[3, 9, 9], true, (1, 8), Ok(Some(2)));
        check(&[4, 9, 9], true, (1, 8), too_long(3, 1, 2));
    }

    #[test]
    fn small_elements_do_not_buy_much_memory() {
        let count = 1 << 20;
        let mut bytes = (count as i32).to_be_bytes().to_vec();
        bytes.resize(4 + count, 0);
        let mut reader = reader(&bytes);
        let error = reader.array_length(false, 1, 100).expect_err("100 MiB for a frame of one");
        assert_eq!(error.fault(), Fault::TooMuchMemory { count });
        assert_eq!(error.at(), 0);
    }

    #[test]
    fn tagged_fields_end_where_their_size_says() {
        let check = |bytes: &[u8], expect: Result<Vec<i32>, Fault>| {
            let mut reader = reader(bytes);
            let mut seen = Vec::new();
            let read = reader.tagged_fields(|reader, tag| {
                if tag == 7 {
                    seen.push(reader.i32()?);
                }
                Ok(tag == 7)
            });
            assert_eq!(read.map(|()| seen).map_err(|error| error.fault()), expect, "{bytes:x?}");
        };
        check(&[0], Ok(vec![]));
        check(&[2, 1, 2, 9, 9, 7, 4, 0, 0, 0, 5], Ok(vec![5]));
        check(&[1, 7, 5, 0, 0, 0, 5, 0], Err(Fault::TagSize { tag: 7, size: 5 }));
        check(&[1, 7, 3, 0, 0, 0, 5], Err(Fault::TagSize { tag: 7, size: 3 }));
        check(&[1, 1, 3, 0, 0], Err(Fault::Short { wanted: 3, left: 2 }));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Err(Fault::Short { wanted: 1, left: 0 }));
    }

    #[test]
    fn an_error_says_what_and_where() {
        let mut reader = reader(b"\x00\x05hi");
        let error = reader.text(false).expect_err("too short").within("FetchTopic", "topic").within("Outer", "topics");
        assert_eq!(error.to_string(), "FetchTopic.topic: 5 bytes wanted, 2 left (at byte 2)");
    }
}
