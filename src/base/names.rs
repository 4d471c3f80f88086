//! Names of the topics that brokers keep for themselves.
//!
//! *Owns*: the names. *Never*: makes a topic. *Runs on*: every core.

/// Groups and their offsets (Kafka: `Topic.GROUP_METADATA_TOPIC_NAME`).
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Whether clients may read a topic and not write to it, nor make it by asking for it (Kafka: `Topic.isInternal`).
pub fn is_internal(topic: &str) -> bool {
    topic == CONSUMER_OFFSETS
}
