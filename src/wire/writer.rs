//! Collects a frame: small fields in one buffer, record bytes as slices between them.
//!
//! *Owns*: the buffer and the places of the slices. *Never*: copies large record bytes, fails. *Runs on*: every
//! core.

use bytes::Bytes;

use super::text::Text;
use crate::base::ids::{ClientInstanceId, Incarnation, TopicId};

/// Bytes up to this are copied into the buffer: an entry of a vectored send costs more than the copy.
const COPIED_BYTES_MAX: usize = 512;

/// Room for a whole Produce reply of a few partitions, so that most replies allocate once.
const BUFFER_BYTES: usize = 256;

/// The longest string of the fixed form, whose length is an `i16`.
const FIXED_TEXT_BYTES_MAX: usize = i16::MAX as usize;

#[derive(Debug)]
pub struct Writer {
    buffer: Vec<u8>,
    /// Slices that belong before the byte of `buffer` at the place given. Invariant: places do not decrease.
    inserts: Vec<(usize, Bytes)>,
    /// The sum of the lengths of `inserts`.
    inserted: usize,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer::new()
    }
}

impl Writer {
    pub fn new() -> Writer {
        Writer { buffer: Vec::with_capacity(BUFFER_BYTES), inserts: Vec::new(), inserted: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.inserted
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything written, in order.
    pub fn finish(self) -> Vec<Bytes> {
        let buffer = Bytes::from(self.buffer);
        if self.inserts.is_empty() {
            return vec![buffer];
        }
        let mut slices = Vec::with_capacity(2 * self.inserts.len() + 1);
        let mut from = 0;
        for (place, bytes) in self.inserts {
            if place > from {
                slices.push(buffer.slice(from..place));
                from = place;
            }
            slices.push(bytes);
        }
        if from < buffer.len() {
            slices.push(buffer.slice(from..));
        }
        slices
    }

    /// Starts a frame: leaves room for its length, which [`Writer::finish_frame`] fills in.
    pub fn start_frame(&mut self) {
        assert!(self.is_empty(), "a frame starts at the first byte");
        self.i32(0);
    }

    /// Ends what [`Writer::start_frame`] began.
    pub fn finish_frame(mut self) -> Vec<Bytes> {
        let length = i32::try_from(self.len() - 4).expect("a frame of ours is far below 2 GiB");
        self.buffer[..4].copy_from_slice(&length.to_be_bytes());
        self.finish()
    }

    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buffer.push(value as u8);
    }

    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    #[inline]
    pub fn topic_id(&mut self, value: TopicId) {
        self.buffer.extend_from_slice(&value.0);
    }

    #[inline]
    pub fn client_instance_id(&mut self, value: ClientInstanceId) {
        self.buffer.extend_from_slice(&value.0);
    }

    #[inline]
    pub fn incarnation(&mut self, value: Incarnation) {
        self.buffer.extend_from_slice(&value.0);
    }

    #[inline]
    pub fn uvarint(&mut self, value: u32) {
        let mut rest = value;
        while rest >= 0x80 {
            self.buffer.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.buffer.push(rest as u8);
    }

    /// A string, or null. The fixed form ends at 32,767 bytes: a longer text is cut at the last whole character,
    /// because the reply as a whole is worth more to a client of that version than the end of a long message.
    #[inline]
    pub fn text(&mut self, text: Option<&Text>, flexible: bool) {
        let Some(text) = text else {
            return if flexible { self.uvarint(0) } else { self.i16(-1) };
        };
        let mut bytes = text.as_bytes();
        if flexible {
            self.uvarint(to_u32(bytes.len() + 1));
        } else {
            if bytes.len() > FIXED_TEXT_BYTES_MAX {
                let cut = (0..=FIXED_TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
                bytes = &bytes[..cut.unwrap_or(0)];
            }
            self.i16(i16::try_from(bytes.len()).expect("cut above"));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes or records, or null: one value that consists of these slices.
    #[inline]
    pub fn bytes(&mut self, slices: Option<&[Bytes]>, flexible: bool) {
        let total = slices.map(|slices| slices.iter().map(Bytes::len).sum());
        self.length(total, flexible);
        for slice in slices.unwrap_or_default() {
            self.slice(slice);
        }
    }

    /// Raw bytes without a length: copied if they are few.
    #[inline]
    pub fn slice(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.inserts.push((self.buffer.len(), bytes.clone()));
            self.inserted += bytes.len();
        }
    }

    /// The count of an array, or null.
    #[inline]
    pub fn array_length(&mut self, count: Option<usize>, flexible: bool) {
        self.length(count, flexible);
    }

    /// A tagged field: its tag, the size of what `value` writes, and that.
    pub fn tagged_field(&mut self, tag: u32, value: impl FnOnce(&mut Writer)) {
        self.uvarint(tag);
        let place = self.buffer.len();
        let inserts = self.inserts.len();
        let before = self.len();
        // One byte holds the size of nearly every tagged field; a larger one is moved up afterwards.
        self.buffer.push(0);
        value(self);
        let size = to_u32(self.len() - before - 1);
        if size < 0x80 {
            self.buffer[place] = size as u8;
        } else {
            self.widen_size(place, inserts, size);
        }
    }

    /// Puts the varint of `size` where one byte was left for it at `place`.
    #[cold]
    fn widen_size(&mut self, place: usize, inserts: usize, size: u32) {
        let mut varint = Writer::new();
        varint.uvarint(size);
        for (insert, _) in &mut self.inserts[inserts..] {
            *insert += varint.len() - 1;
        }
        self.buffer.splice(place..=place, varint.buffer);
    }

    #[inline]
    fn length(&mut self, value: Option<usize>, flexible: bool) {
        match (value, flexible) {
            (Some(value), true) => self.uvarint(to_u32(value + 1)),
            (Some(value), false) => self.i32(i32::try_from(value).expect("lengths of ours fit 31 bits")),
            (None, true) => self.uvarint(0),
            (None, false) => self.i32(-1),
        }
    }
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("lengths of ours fit 31 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writer: Writer) -> Vec<u8> {
        writer.finish().concat()
    }

    #[test]
    fn large_bytes_are_not_copied_and_stay_in_order() {
        let large = Bytes::from(vec![7; COPIED_BYTES_MAX + 1]);
        let small = Bytes::from(vec![8; COPIED_BYTES_MAX]);
        let mut writer = Writer::new();
        writer.start_frame();
        writer.bytes(Some(&[large.clone(), small.clone(), large.clone()]), false);
        writer.bytes(Some(std::slice::from_ref(&large)), true);
        let slices = writer.finish_frame();
        assert_eq!(slices.iter().filter(|slice| slice.as_ptr() == large.as_ptr()).count(), 3);
        let total = 2 * large.len() + small.len();
        let mut expect = Vec::new();
        expect.extend(((4 + total + 2 + large.len()) as i32).to_be_bytes());
        expect.extend((total as i32).to_be_bytes());
        expect.extend_from_slice(&large);
        expect.extend_from_slice(&small);
        expect.extend_from_slice(&large);
        expect.extend([0x82, 0x04]);
        expect.extend_from_slice(&large);
        assert_eq!(slices.concat(), expect);
    }

    #[test]
    fn nothing_written_is_one_empty_slice() {
        assert_eq!(Writer::new().finish(), [Bytes::new()]);
    }

    #[test]
    fn varints() {
        let check = |value: u32, expect: &[u8]| {
            let mut writer = Writer::new();
            writer.uvarint(value);
            assert_eq!(written(writer), expect, "{value}");
        };
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 1]);
        check(u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn texts() {
        let check = |text: Option<&str>, flexible: bool, expect: &[u8]| {
            let mut writer = Writer::new();
            writer.text(text.map(Text::from).as_ref(), flexible);
            assert_eq!(written(writer), expect, "{text:?}");
        };
        check(Some("hi"), false, b"\x00\x02hi");
        check(Some("hi"), true, b"\x03hi");
        check(None, false, b"\xff\xff");
        check(None, true, b"\x00");
    }

    #[test]
    fn a_text_too_long_for_the_fixed_form_is_cut_at_a_character() {
        let mut writer = Writer::new();
        writer.text(Some(&Text::from("ä".repeat(20_000))), false);
        let bytes = written(writer);
        assert_eq!(bytes[..2], 32_766i16.to_be_bytes());
        assert_eq!(std::str::from_utf8(&bytes[2..]).map(str::len), Ok(32_766));
    }

    #[test]
    fn a_tagged_field_of_any_size_is_preceded_by_it() {
        for size in [0, 1, 127, 128, 500, 20_000] {
            let mut writer = Writer::new();
            writer.tagged_field(3, |writer| {
                writer.buffer.extend(std::iter::repeat_n(1, size / 2));
                writer.slice(&Bytes::from(vec![2; size - size / 2]));
            });
            writer.i8(9);
            let mut expect = Writer::new();
            expect.uvarint(3);
            expect.uvarint(size as u32);
            let mut expect = written(expect);
            expect.extend(std::iter::repeat_n(1, size / 2));
            expect.extend(std::iter::repeat_n(2, size - size / 2));
            expect.push(9);
            assert_eq!(written(writer), expect, "{size}");
        }
    }
}
