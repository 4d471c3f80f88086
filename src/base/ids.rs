//! Ids and offsets as types of their own, so that none is passed for another.
//!
//! *Owns*: the newtypes and their text form. *Never*: allocates an id. *Runs on*: every core.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// The position of a record in its partition, counted in records from 0.
    Offset(i64)
);
number!(
    /// Counts the leaders a partition has had. −1 on the wire means "not known".
    LeaderEpoch(i32)
);
number!(
    /// The index of a partition within its topic, from 0.
    PartitionIndex(i32)
);
number!(
    /// A broker as clients see it. One process shows several on per-core listeners.
    BrokerId(i32)
);
number!(
    /// An idempotent producer.
    ProducerId(i64)
);
number!(
    /// Counts the incarnations of one producer id.
    ProducerEpoch(i16)
);
number!(
    /// Counts the changes of a consumer group. The group has one, its target assignment the one it was made for, and
    /// each member the one it has caught up with (KIP-848).
    GroupEpoch(i32)
);
number!(
    /// One executor, pinned to one processor, from 0.
    CoreId(u16)
);
number!(
    /// A client connection. Unique for the life of the core that accepted it.
    ConnId(u64)
);

impl Offset {
    /// The offset `records` further on. Panics on overflow: offsets inside the broker were checked before.
    pub fn plus(self, records: i64) -> Offset {
        Offset(self.0.checked_add(records).expect("offset fits 63 bits"))
    }
}

impl LeaderEpoch {
    /// What clients send when they do not know the epoch.
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);
}

impl GroupEpoch {
    /// What a member sends to join, and the epoch of one that has no assignment yet.
    pub const JOIN: GroupEpoch = GroupEpoch(0);
    /// What a member sends to leave.
    pub const LEAVE: GroupEpoch = GroupEpoch(-1);
    /// What a static member sends to leave for a while, and its epoch until it is back.
    pub const LEAVE_STATIC: GroupEpoch = GroupEpoch(-2);

    pub fn next(self) -> GroupEpoch {
        GroupEpoch(self.0.saturating_add(1))
    }
}

/// A topic's identity for life: a deleted and recreated name gets a new one (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// All zeros: "no id" on the wire.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// A random id in the form of a version 4 UUID (RFC 9562).
    pub fn random(rng: &mut super::rng::Rng) -> TopicId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        TopicId(bytes)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn random_topic_ids_are_version_4_and_differ() {
        let mut rng = Rng::new(1);
        let a = TopicId::random(&mut rng);
        let b = TopicId::random(&mut rng);
        assert_ne!(a, b);
        let text = a.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }
}
