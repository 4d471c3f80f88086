//! A UTF-8 string that is a slice of the frame it came in.
//!
//! *Owns*: the check that the bytes are UTF-8. *Never*: copies what comes from a frame. *Runs on*: every core.
//!
//! A [`Text`] keeps the whole frame's memory alive: what outlives the request should be a `String`.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// Invariant: the bytes are UTF-8.
///
/// Equality and order work on the bytes, which for UTF-8 is the order of `str`. Dereferencing checks the bytes
/// again (nanoseconds for the names Kafka carries): the price of doing without `unsafe` here.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Bytes);

impl Text {
    /// A text without any allocation.
    pub const fn from_static(text: &'static str) -> Text {
        Text(Bytes::from_static(text.as_bytes()))
    }

    /// Takes bytes of a peer. The error says up to where they are valid.
    pub fn from_utf8(bytes: Bytes) -> Result<Text, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Text(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a text was checked when it was made")
    }

    /// The same as `as_str().as_bytes()`, without looking at them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Text {
    // As `str` hashes, because a map may be asked with one.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Bytes::from(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Text {
        Text::from(text.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_utf8_becomes_text() {
        let check = |bytes: &'static [u8], expect: Option<&str>| {
            let text = Text::from_utf8(Bytes::from_static(bytes)).ok();
            assert_eq!(text.as_deref(), expect, "{bytes:?}");
        };
        check(b"", Some(""));
        check(b"orders", Some("orders"));
        check("größe".as_bytes(), Some("größe"));
        check(b"\xff", None);
        check(b"a\xc3", None);
        check(b"\xed\xa0\x80", None);
    }

    #[test]
    fn a_map_of_texts_is_asked_with_a_str() {
        let map: BTreeMap<Text, i32> = [(Text::from("b"), 2), (Text::from("ä"), 3), (Text::from("a"), 1)].into();
        assert_eq!(map.get("ä"), Some(&3));
        assert_eq!(map.values().copied().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_slice_of_a_frame_is_not_copied() {
        let frame = Bytes::from(b"xxordersxx".to_vec());
        let text = Text::from_utf8(frame.slice(2..8)).expect("ASCII");
        assert_eq!(text, "orders");
        assert_eq!(text.as_bytes().as_ptr(), frame[2..].as_ptr());
    }
}
