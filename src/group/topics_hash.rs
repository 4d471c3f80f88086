//! One number for all that a group knows of its topics: when it changes, the group needs another assignment (KIP-1101).
//!
//! *Owns*: the bytes that are hashed: Kafka's, so that a log that comes from there causes no rebalance.
//! *Never*: knows who subscribes. *Runs on*: the core that coordinates the group.
//!
//! Kafka: `org.apache.kafka.coordinator.group.Utils`, `computeGroupHash` and `computeTopicHash`. Numbers are little
//! endian, and text is UTF-16 with its length behind. A partition's racks would follow its number; no broker has any.

use twox_hash::XxHash3_64;

use crate::group::topics::{KnownTopic, Topics};

const FORMAT: u8 = 0;

/// The hash of those topics that exist. Names must ascend.
pub fn hash_of<'a>(names: impl Iterator<Item = &'a str>, topics: &dyn Topics) -> i64 {
    let mut hashes = Vec::new();
    for name in names {
        if let Some(topic) = topics.by_name(name) {
            hashes.extend_from_slice(&hash_of_topic(name, topic).to_le_bytes());
        }
    }
    if hashes.is_empty() { 0 } else { XxHash3_64::oneshot(&hashes).cast_signed() }
}

fn hash_of_topic(name: &str, topic: KnownTopic) -> u64 {
    let mut bytes = vec![FORMAT];
    let (high, low) = topic.id.0.split_at(8);
    // Their bytes in little endian order.
    bytes.extend(high.iter().rev().chain(low.iter().rev()));
    let mut length = 0_i32;
    for unit in name.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
        length += 1;
    }
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        bytes.extend_from_slice(&partition.to_le_bytes());
    }
    XxHash3_64::oneshot(&bytes)
}
