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
    /// A process of the cluster: its `node.id`. Clients of the shared listener see it as the broker of that id.
    NodeId(i32)
);
number!(
    /// Counts the registrations of brokers: a broker that starts again gets a larger one, and what it sent before is
    /// told by it (KIP-631).
    BrokerEpoch(i64)
);
number!(
    /// Counts the changes of a partition's replicas, leader and in-sync set (KIP-497).
    PartitionEpoch(i32)
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
    /// A connection that was accepted, of a client or of another broker. Unique for the life of the core that
    /// accepted it.
    ConnId(u64)
);
number!(
    /// A connection made to another broker. Unique for the life of the core that made it.
    PeerId(u64)
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

    pub fn random(rng: &mut super::rng::Rng) -> TopicId {
        TopicId(random_uuid(rng))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(self.0, f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// One partition, wherever it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

/// One run of a client, from its first question for telemetry subscriptions to its end (KIP-714).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ClientInstanceId(pub [u8; 16]);

impl ClientInstanceId {
    /// "No id" on the wire.
    pub const ZERO: ClientInstanceId = ClientInstanceId([0; 16]);

    pub fn random(rng: &mut super::rng::Rng) -> ClientInstanceId {
        ClientInstanceId(random_uuid(rng))
    }

    /// No client has it (`Uuid.RESERVED`).
    pub fn is_reserved(self) -> bool {
        u128::from_be_bytes(self.0) <= 1
    }
}

/// As Kafka's tools and clients write it.
impl fmt::Display for ClientInstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short_uuid(self.0))
    }
}

impl fmt::Debug for ClientInstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientInstanceId(")?;
        write_uuid(self.0, f)?;
        f.write_str(")")
    }
}

/// One run of a broker, from its start to its end (KIP-631).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Incarnation(pub [u8; 16]);

impl Incarnation {
    pub fn random(rng: &mut super::rng::Rng) -> Incarnation {
        Incarnation(random_uuid(rng))
    }
}

/// A data directory, from when something was first put into it (KIP-858). One that was lost and began again is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DirectoryId(pub [u8; 16]);

impl DirectoryId {
    /// Of a broker that does not tell.
    pub const UNKNOWN: DirectoryId = DirectoryId([0; 16]);

    /// What a run of a broker begins. An incarnation is of one run, and no run begins two.
    pub fn begun_by(incarnation: Incarnation) -> DirectoryId {
        DirectoryId(incarnation.0)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectoryId(")?;
        write_uuid(self.0, f)?;
        f.write_str(")")
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incarnation(")?;
        write_uuid(self.0, f)?;
        f.write_str(")")
    }
}

/// In hexadecimal digits, as RFC 9562 has it.
fn write_uuid(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// The form of a version 4 UUID (RFC 9562).
fn random_uuid(rng: &mut super::rng::Rng) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// 128 bits in 22 characters, as Kafka writes its ids (base64 for URLs, RFC 4648 §5).
pub fn short_uuid(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(bytes);
    // 22 digits hold 132 bits: the last one has the lowest 2 of the id and 4 zeros.
    (0..22)
        .map(|digit| {
            let shift = 122 - 6 * digit;
            let value = if shift >= 0 { bits >> shift } else { bits << -shift };
            char::from(DIGITS[(value & 63) as usize])
        })
        .collect()
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

    #[test]
    fn short_ids_are_base64() {
        assert_eq!(short_uuid([0; 16]), "A".repeat(22));
        assert_eq!(short_uuid([0xff; 16]), format!("{}w", "_".repeat(21)));
        assert_eq!(short_uuid(std::array::from_fn(|i| i as u8)), "AAECAwQFBgcICQoLDA0ODw");
    }
}
