//! One record as it lies in a batch.
//!
//! *Owns*: the record's layout and the signed varints it is made of. *Never*: copies a key or a value, trusts a
//! length. *Runs on*: every core.
//!
//! Layout: Kafka, `org.apache.kafka.common.record.DefaultRecord`.

use std::fmt;

/// The fewest bytes a record takes: length, attributes, two deltas, null key, null value, no headers.
pub const RECORD_BYTES_MIN: usize = 7;

/// A record, borrowed from the bytes of its batch. Times and offsets are relative to the batch's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The record's headers, in order. A name may occur more than once.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// A record header: its name (UTF-8 says Kafka, but nobody checks) and its value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Walks the headers of one record. Invariant: `rest` was walked once before, so it parses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<'a> {
    rest: Cursor<'a>,
    left: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(self.rest.header().expect("the headers were walked when the record was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// What is wrong with the bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordFault {
    /// It goes on beyond the end of its batch, or a part of it beyond the end of the record.
    Short,
    /// It says it is longer than its parts are.
    Overlong,
    /// A varint of more bits than the field has.
    VarintOverflow,
    /// A negative length where there is no null: the record's own, the count of headers, a header's name.
    Negative,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordFault::Short => "it is cut off",
            RecordFault::Overlong => "it is longer than its parts",
            RecordFault::VarintOverflow => "a number in it has too many bits",
            RecordFault::Negative => "a length in it is negative",
        })
    }
}

/// Reads the record at the start of `bytes`, and steps `bytes` to the next. After an error `bytes` is as it was.
// The check of a Produce request is a loop over this: left to itself, the compiler calls it part by part once enough
// others use it, and the check takes twice as long.
#[inline(always)]
pub fn read_record<'a>(bytes: &mut &'a [u8]) -> Result<Record<'a>, RecordFault> {
    let mut outer = Cursor { bytes };
    let length = usize::try_from(outer.varint()?).map_err(|_| RecordFault::Negative)?;
    let (body, after) = outer.bytes.split_at_checked(length).ok_or(RecordFault::Short)?;

    let mut body = Cursor { bytes: body };
    body.skip(1)?; // Attributes: Kafka has given them no meaning in this format, and ignores them.
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = body.nullable()?;
    let value = body.nullable()?;
    let count = u32::try_from(body.varint()?).map_err(|_| RecordFault::Negative)?;
    let headers = Headers { rest: body, left: count };
    // A header takes a byte or more, so this ends with the bytes whatever the count claims.
    for _ in 0..count {
        body.header()?;
    }
    if !body.bytes.is_empty() {
        return Err(RecordFault::Overlong);
    }
    *bytes = after;
    Ok(Record { timestamp_delta, offset_delta, key, value, headers })
}

/// Appends a record. `scratch` is memory reused from one record to the next.
pub fn write_record(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    (timestamp_delta, offset_delta): (i64, i32),
    (key, value): (Option<&[u8]>, Option<&[u8]>),
    headers: &[Header<'_>],
) {
    scratch.clear();
    scratch.push(0);
    write_varlong(scratch, timestamp_delta);
    write_varlong(scratch, i64::from(offset_delta));
    write_nullable(scratch, key);
    write_nullable(scratch, value);
    write_varlong(scratch, to_i64(headers.len()));
    for (name, value) in headers {
        write_nullable(scratch, Some(name));
        write_nullable(scratch, *value);
    }
    write_varlong(out, to_i64(scratch.len()));
    out.extend_from_slice(scratch);
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            write_varlong(out, to_i64(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => write_varlong(out, -1),
    }
}

/// The 32-bit form is the same bytes, for values of 32 bits.
fn write_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn to_i64(length: usize) -> i64 {
    i64::try_from(length).expect("a length in memory fits 63 bits")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn header(&mut self) -> Result<Header<'a>, RecordFault> {
        let name = self.nullable()?.ok_or(RecordFault::Negative)?;
        Ok((name, self.nullable()?))
    }

    /// Bytes after their length; any negative length is null, as Kafka reads it.
    #[inline(always)]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.skip(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) -> Result<&'a [u8], RecordFault> {
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or(RecordFault::Short)?;
        self.bytes = rest;
        Ok(bytes)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i32, RecordFault> {
        i32::try_from(self.varlong()?).map_err(|_| RecordFault::VarintOverflow)
    }

    /// Zigzag, seven bits to a byte, the lowest first.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, RecordFault> {
        match *self.bytes {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.bytes = rest;
                Ok(unzigzag(u64::from(byte)))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.bytes = rest;
                Ok(unzigzag(u64::from(low & 0x7f) | u64::from(high) << 7))
            }
            _ => self.varlong_any(),
        }
    }

    fn varlong_any(&mut self) -> Result<i64, RecordFault> {
        let mut value = 0;
        for (place, &byte) in self.bytes.iter().enumerate() {
            // The tenth byte has one bit to give; there is no eleventh.
            if place == 9 && byte > 1 {
                return Err(RecordFault::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.bytes = &self.bytes[place + 1..];
                return Ok(unzigzag(value));
            }
        }
        Err(RecordFault::Short)
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varlongs() {
        let check = |value: i64, expect: &[u8]| {
            let mut bytes = Vec::new();
            write_varlong(&mut bytes, value);
            assert_eq!(bytes, expect, "{value}");
            let mut cursor = Cursor { bytes: &bytes };
            assert_eq!(cursor.varlong(), Ok(value));
            assert!(cursor.bytes.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(Cursor { bytes: &bytes[..cut] }.varlong(), Err(RecordFault::Short), "{value} at {cut}");
            }
        };
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[0x7e]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 1]);
        check(8191, &[0xfe, 0x7f]);
        check(8192, &[0x80, 0x80, 1]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn numbers_with_too_many_bits() {
        let check = |bytes: &[u8], long: Result<i64, RecordFault>, int: Result<i32, RecordFault>| {
            assert_eq!(Cursor { bytes }.varlong(), long, "{bytes:x?}");
            assert_eq!(Cursor { bytes }.varint(), int, "{bytes:x?}");
        };
        let overflow = RecordFault::VarintOverflow;
        check(&[0x80, 0x80, 0x80, 0x80, 0x10], Ok(1 << 31), Err(overflow));
        check(&[0xff; 11], Err(overflow), Err(overflow));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], Err(overflow), Err(overflow));
        // Longer than needed, but Kafka reads it too.
        check(&[0x82, 0x80, 0], Ok(1), Ok(1));
    }

    #[test]
    fn a_record_comes_back_and_every_cut_is_an_error() {
        let check = |key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]| {
            let (mut bytes, mut scratch) = (Vec::new(), Vec::new());
            write_record(&mut bytes, &mut scratch, (-5, 300), (key, value), headers);
            assert!(bytes.len() >= RECORD_BYTES_MIN);
            for cut in 0..bytes.len() {
                let mut rest = &bytes[..cut];
                assert_eq!(read_record(&mut rest), Err(RecordFault::Short), "cut at {cut}");
                assert_eq!(rest.len(), cut);
            }
            bytes.push(99);
            let mut rest = &bytes[..];
            let record = read_record(&mut rest).expect("it was just written");
            assert_eq!(rest, &[99]);
            assert_eq!((record.timestamp_delta, record.offset_delta), (-5, 300));
            assert_eq!((record.key, record.value), (key, value));
            assert_eq!(record.headers().collect::<Vec<_>>(), headers);
        };
        check(None, None, &[]);
        check(Some(b""), Some(b"v"), &[]);
        check(Some(b"key"), None, &[(b"a", None), (b"a", Some(b"")), (b"", Some(b"xyz"))]);
        check(None, Some(&[7; 300]), &[(b"long", Some(&[8; 200]))]);
    }

    #[test]
    fn malformed_records() {
        let check = |bytes: &[u8], expect: RecordFault| {
            assert_eq!(read_record(&mut &bytes[..]), Err(expect), "{bytes:x?}");
        };
        let (null, none) = (1, 0);
        check(&[1], RecordFault::Negative);
        check(&[10, 0, 0, 0, null, null, none], RecordFault::Short);
        check(&[14, 0, 0, 0, null, null, none, 9], RecordFault::Overlong);
        check(&[12, 0, 0, 0, null, null, 1], RecordFault::Negative);
        check(&[12, 0, 0, 0, null, null, 2], RecordFault::Short);
        check(&[14, 0, 0, 0, null, null, 2, null], RecordFault::Negative);
        check(&[12, 0, 0, 0, null, 2, none], RecordFault::Short);
        check(&[20, 0, 0, 0, null, null, 0xfe, 0xff, 0xff, 0xff, 0x0f], RecordFault::Short);
    }
}
