//! How one value of a message is read and written: the types that the rows of a message table may have.
//!
//! *Owns*: the meaning of a field type, null included. *Never*: knows a message. *Runs on*: every core.

use std::fmt;

use bytes::Bytes;

use super::reader::{DecodeError, Fault, Reader};
use super::text::Text;
use super::writer::Writer;
use crate::base::ids::{ClientInstanceId, Incarnation, TopicId};
use crate::base::rng::Rng;

/// A request or a reply, generated from its table in `messages`.
pub trait Message: Sized + Clone + Default {
    /// The row of its API.
    const API: Api;

    /// Reads the message. What follows it in the reader is left there.
    ///
    /// Errors: the bytes are not this message, or we do not know the version.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. Fields that the version does not have are left out. Null where the version has none is
    /// written as the empty value. Panics if the version is not one of the API's: the caller checked the request's.
    fn encode(&self, writer: &mut Writer, version: i16);

    /// Says how long the client was throttled, in a reply that has a field for it.
    fn set_throttle_time_ms(&mut self, ms: i32);

    /// A message whose fields of that version have random values, mostly not the default ones; for tests and load.
    fn sample(rng: &mut Rng, version: i16) -> Self;
}

/// An API as the codec knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Api {
    pub key: i16,
    /// Kafka's name, without `Request` or `Response`.
    pub name: &'static str,
    /// The versions that have tables. A broker may advertise others, or fewer.
    pub versions: Versions,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: i16,
}

impl Api {
    /// How to code `version`, if it is known.
    pub fn version(&self, version: i16) -> Option<Version> {
        self.versions.contains(version).then_some(Version { number: version, flexible: version >= self.flexible_from })
    }
}

/// An inclusive range of versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

/// The version that a message is read or written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    pub number: i16,
    pub flexible: bool,
}

/// A number with a fraction (Kafka's `float64`), told apart from others by its bits, so that messages can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Float64(u64);

impl Float64 {
    pub fn new(value: f64) -> Float64 {
        Float64(value.to_bits())
    }

    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl fmt::Debug for Float64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Record bytes: one or more slices that are one value on the wire. Reading gives one slice, or none for no bytes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Records(pub Vec<Bytes>);

impl Records {
    /// Bytes of all slices.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
    }
}

/// The key or the value of a record in one of Kafka's own topics, or what consumers tell each other: its version in two
/// bytes, then the fields.
pub(crate) trait Stored: Value {
    const VERSIONS: Versions;
    const FLEXIBLE_FROM: i16;

    /// Reads one. What follows the fields is ignored: a later version may have put it there.
    ///
    /// Errors: the bytes are not that, or we do not know the version.
    fn from_record(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        let number = reader.i16()?;
        if !Self::VERSIONS.contains(number) {
            return Err(DecodeError::new(0, Fault::Version { version: number }));
        }
        Self::decode(&mut reader, Version { number, flexible: number >= Self::FLEXIBLE_FROM })
    }

    /// Writes one. Panics if we do not know the version.
    fn to_record(&self, number: i16) -> Bytes {
        assert!(Self::VERSIONS.contains(number));
        let mut writer = Writer::new();
        writer.i16(number);
        self.encode(&mut writer, Version { number, flexible: number >= Self::FLEXIBLE_FROM });
        let mut slices = writer.finish();
        if slices.len() == 1 { slices.swap_remove(0) } else { slices.concat().into() }
    }
}

/// A type that a field may have.
pub(crate) trait Value: Sized {
    /// The fewest bytes a value takes in that version. At least 1, so that it bounds the length of an array.
    fn bytes_min(version: Version) -> usize;
    fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;
    fn encode(&self, writer: &mut Writer, version: Version);
    fn sample(rng: &mut Rng, version: Version) -> Self;
    /// Sets the field `throttle_time_ms`, where there is one.
    fn set_throttle_time_ms(&mut self, _ms: i32) {}
}

/// A type whose field may be null.
pub(crate) trait Nullable: Value + Default {
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError>;
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version);
}

/// Reads a field that is null in some versions: `allowed` says whether in this one.
#[inline]
pub(crate) fn decode_option<T: Nullable>(
    reader: &mut Reader,
    version: Version,
    allowed: bool,
) -> Result<Option<T>, DecodeError> {
    if allowed { T::decode_nullable(reader, version) } else { T::decode(reader, version).map(Some) }
}

/// Writes a field that is null in some versions.
#[inline]
pub(crate) fn encode_option<T: Nullable>(value: &Option<T>, writer: &mut Writer, version: Version, allowed: bool) {
    match value {
        value if allowed => T::encode_nullable(value.as_ref(), writer, version),
        Some(value) => value.encode(writer, version),
        None => T::default().encode(writer, version),
    }
}

pub(crate) fn sample_option<T: Nullable>(rng: &mut Rng, version: Version, allowed: bool) -> Option<T> {
    if allowed && rng.below(4) == 0 { None } else { Some(T::sample(rng, version)) }
}

macro_rules! numbers {
    ($($type:ty, $name:ident, $bytes:literal, |$rng:ident| $sample:expr;)*) => {$(
        impl Value for $type {
            #[inline]
            fn bytes_min(_: Version) -> usize {
                $bytes
            }

            #[inline]
            fn decode(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
                reader.$name()
            }

            #[inline]
            fn encode(&self, writer: &mut Writer, _: Version) {
                writer.$name(*self);
            }

            fn sample($rng: &mut Rng, _: Version) -> Self {
                $sample
            }
        }
    )*};
}

numbers! {
    bool, bool, 1, |rng| rng.below(2) == 1;
    i8, i8, 1, |rng| rng.next_u64() as i8;
    i16, i16, 2, |rng| rng.next_u64() as i16;
    i32, i32, 4, |rng| rng.next_u64() as i32;
    i64, i64, 8, |rng| rng.next_u64() as i64;
    TopicId, topic_id, 16, |rng| TopicId::random(rng);
    ClientInstanceId, client_instance_id, 16, |rng| ClientInstanceId::random(rng);
    Incarnation, incarnation, 16, |rng| Incarnation::random(rng);
    u16, u16, 2, |rng| rng.next_u64() as u16;
}

impl Value for Float64 {
    #[inline]
    fn bytes_min(_: Version) -> usize {
        8
    }

    #[inline]
    fn decode(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
        Ok(Float64(reader.i64()? as u64))
    }

    #[inline]
    fn encode(&self, writer: &mut Writer, _: Version) {
        writer.i64(self.0 as i64);
    }

    fn sample(rng: &mut Rng, _: Version) -> Self {
        Float64::new(f64::from(rng.next_u64() as i32) / 8.0)
    }
}

/// Implements `Value` by way of `Nullable`, for the types whose null is a special length.
macro_rules! null_is_a_length {
    ($([$($generic:tt)*] $type:ty, |$rng:ident, $version:ident| $sample:expr;)*) => {$(
        impl<$($generic)*> Value for $type {
            #[inline]
            fn bytes_min(_: Version) -> usize {
                1
            }

            #[inline]
            fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
                let at = reader.position();
                Self::decode_nullable(reader, version)?.ok_or_else(|| DecodeError::new(at, Fault::Null))
            }

            #[inline]
            fn encode(&self, writer: &mut Writer, version: Version) {
                Self::encode_nullable(Some(self), writer, version);
            }

            fn sample($rng: &mut Rng, $version: Version) -> Self {
                $sample
            }
        }
    )*};
}

null_is_a_length! {
    [] Text, |rng, _version| sample_text(rng);
    [] Bytes, |rng, _version| sample_bytes(rng);
    [] Records, |rng, _version| Records::from(sample_bytes(rng));
    [T: Value] Vec<T>, |rng, version| (0..rng.below(4)).map(|_| T::sample(rng, version)).collect();
}

impl Nullable for Text {
    #[inline]
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        reader.text(version.flexible)
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.text(value, version.flexible);
    }
}

impl Nullable for Bytes {
    #[inline]
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        reader.bytes(version.flexible)
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.bytes(value.map(std::slice::from_ref), version.flexible);
    }
}

impl Nullable for Records {
    #[inline]
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        Ok(reader.bytes(version.flexible)?.map(Records::from))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.bytes(value.map(|records| records.0.as_slice()), version.flexible);
    }
}

impl<T: Value> Nullable for Vec<T> {
    #[inline]
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.array_length(version.flexible, T::bytes_min(version), size_of::<T>())? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(reader, version)?);
        }
        Ok(Some(elements))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.array_length(value.map(Vec::len), version.flexible);
        for element in value.into_iter().flatten() {
            element.encode(writer, version);
        }
    }
}

/// Short names with characters of one to four bytes, and now and then one whose length takes two bytes.
fn sample_text(rng: &mut Rng) -> Text {
    let length = if rng.below(16) == 0 { 128 + rng.below(400) } else { rng.below(12) };
    let alphabet = ['a', 'b', '.', '-', '_', '7', 'ß', 'π', '漢', '🦀'];
    let text: String = (0..length).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
    Text::from(text)
}

/// On both sides of the length up to which a writer copies.
fn sample_bytes(rng: &mut Rng) -> Bytes {
    let length = rng.below(1024) as usize * rng.below(2) as usize + rng.below(4) as usize;
    (0..length).map(|_| rng.next_u64() as u8).collect()
}
