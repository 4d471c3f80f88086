//! Protocol Buffers as they come from others: the fields of one message, one after the other.
//!
//! A field's bytes may be a message of their own. Nothing is built, so that a message costs no more than its bytes.
//!
//! *Owns*: the four wire types in use. *Never*: knows a message, copies, recurses. *Runs on*: every core.

use std::fmt;

/// What is left of a message. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    pub number: u32,
    pub value: FieldValue<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldValue<'a> {
    Varint(u64),
    /// Eight bytes, as their bits.
    Fixed64(u64),
    /// A text, bytes, a message, or numbers in a row.
    Bytes(&'a [u8]),
    /// Four bytes, as their bits.
    Fixed32(u32),
}

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtobufError;

impl fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are no message of Protocol Buffers")
    }
}

impl std::error::Error for ProtobufError {}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                FieldValue::Bytes(bytes)
            }
            5 => FieldValue::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups: nobody has written them for long.
            _ => return None,
        };
        Some(Field { number, value })
    }

    /// At most 64 bits, seven to a byte, the lowest first.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(ProtobufError);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, FieldValue<'_>)>, ProtobufError> {
        Fields::of(bytes).map(|field| field.map(|field| (field.number, field.value))).collect()
    }

    #[test]
    fn fields_are_read_in_all_forms() {
        use FieldValue::{Bytes, Fixed32, Fixed64, Varint};
        let check = |bytes: &[u8], expect: Result<&[(u32, FieldValue<'_>)], ProtobufError>| {
            assert_eq!(fields(bytes), expect.map(<[_]>::to_vec), "{bytes:x?}");
        };
        check(b"", Ok(&[]));
        // The examples of the description of the format.
        check(b"\x08\x96\x01", Ok(&[(1, Varint(150))]));
        check(b"\x12\x07testing", Ok(&[(2, Bytes(b"testing"))]));
        check(b"\x21\0\0\0\0\0\0\xf0\x3f", Ok(&[(4, Fixed64(1.0f64.to_bits()))]));
        check(b"\x3d\x01\0\0\0\x08\x01", Ok(&[(7, Fixed32(1)), (1, Varint(1))]));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Ok(&[(1, Varint(u64::MAX))]));
        for bytes in [
            &b"\x08"[..],
            b"\x12\x08testing",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x21\0\0\0",
            b"\x3d\0",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b\x0c",
            b"\x00\x01",
            b"\xf8\xff\xff\xff\xff\x0f\x01",
            b"\x0e",
        ] {
            check(bytes, Err(ProtobufError));
        }
    }

    #[test]
    fn any_bytes_end_as_fields_or_an_error() {
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(60)).map(|_| rng.next_u64() as u8).collect();
            let read = Fields::of(&bytes).count();
            assert!(read <= bytes.len());
        }
    }
}
