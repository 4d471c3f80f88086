//! The settings of one topic: the broker's, with the topic's own over them.
//!
//! *Owns*: which settings a topic may have, and their resolution. *Never*: keeps them. *Runs on*: every core.

use crate::base::limits::JOURNAL_ENTRY_BYTES_MAX;

use super::level::{Level, Overrides};
use super::row::SettingError;
use super::table::Settings;
use super::values::{CleanupPolicy, Durability, Ratio, ThrottledReplicas, TimestampType};

/// What a partition's log is set to. The fields carry Kafka's topic-level names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    pub segment_bytes: u64,
    pub segment_ms: u64,
    pub index_interval_bytes: u32,
    pub durability: Durability,
    pub flush_messages: u64,
    pub flush_ms: u64,
    pub max_message_bytes: u32,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_after_max_ms: i64,
    pub cleanup_policy: CleanupPolicy,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    /// The broker's; topics cannot override it.
    pub retention_check_ms: u64,
    pub delete_retention_ms: u64,
    pub min_cleanable_dirty_ratio: Ratio,
    pub min_compaction_lag_ms: u64,
    pub max_compaction_lag_ms: u64,
    pub min_insync_replicas: i32,
    pub unclean_leader_election_enable: bool,
    pub leader_replication_throttled_replicas: ThrottledReplicas,
    pub follower_replication_throttled_replicas: ThrottledReplicas,
    /// The broker's; topics cannot override it.
    pub producer_id_expiration_ms: u64,
    /// With so much pending the segment is written directly: the broker's, within what its journal can take. 0 where
    /// there is no journal.
    pub journal_direct_bytes: u64,
}

/// Where `journal.direct.bytes` does not say.
const DIRECT_BYTES: u64 = 256 << 10;

/// One piece may take this share of the journal.
const JOURNAL_SHARE: u64 = 8;

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings::from_broker(&Settings::default())
    }
}

impl TopicSettings {
    /// The topic's settings, by their topic-level names, over the broker's. Errors are Kafka's INVALID_CONFIG: an
    /// unknown name or a value out of range.
    pub fn resolve(settings: &Settings, overrides: &Overrides) -> Result<TopicSettings, SettingError> {
        Level::Topic.over(settings, overrides).map(|with| TopicSettings::from_broker(&with))
    }

    /// As [`TopicSettings::resolve`], of overrides that were checked when they were made. One that does not hold any
    /// more, in a later version or under other settings of the broker, is left out, with a line in the log.
    pub fn in_force(settings: &Settings, overrides: &Overrides) -> TopicSettings {
        TopicSettings::from_broker(&Level::Topic.over_leniently(settings, overrides))
    }

    fn from_broker(settings: &Settings) -> TopicSettings {
        TopicSettings {
            segment_bytes: settings.log_segment_bytes,
            segment_ms: settings.log_roll_ms,
            index_interval_bytes: settings.log_index_interval_bytes,
            durability: settings.durability,
            flush_messages: settings.log_flush_interval_messages,
            flush_ms: settings.log_flush_interval_ms,
            max_message_bytes: settings.message_max_bytes,
            message_timestamp_type: settings.log_message_timestamp_type,
            message_timestamp_before_max_ms: settings.log_message_timestamp_before_max_ms,
            message_timestamp_after_max_ms: settings.log_message_timestamp_after_max_ms,
            cleanup_policy: settings.log_cleanup_policy,
            retention_ms: settings.log_retention_ms,
            retention_bytes: settings.log_retention_bytes,
            retention_check_ms: settings.log_retention_check_interval_ms,
            delete_retention_ms: settings.log_cleaner_delete_retention_ms,
            min_cleanable_dirty_ratio: settings.log_cleaner_min_cleanable_ratio,
            min_compaction_lag_ms: settings.log_cleaner_min_compaction_lag_ms,
            max_compaction_lag_ms: settings.log_cleaner_max_compaction_lag_ms,
            min_insync_replicas: settings.min_insync_replicas,
            unclean_leader_election_enable: settings.unclean_leader_election_enable,
            leader_replication_throttled_replicas: settings.leader_replication_throttled_replicas.clone(),
            follower_replication_throttled_replicas: settings.follower_replication_throttled_replicas.clone(),
            producer_id_expiration_ms: settings.producer_id_expiration_ms,
            journal_direct_bytes: u64::try_from(settings.journal_direct_bytes)
                .unwrap_or(DIRECT_BYTES)
                .min(JOURNAL_ENTRY_BYTES_MAX as u64)
                .min(settings.journal_bytes / JOURNAL_SHARE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn a_topics_own_settings_stand_over_the_brokers() {
        let broker = Settings { log_segment_bytes: 1 << 20, log_roll_ms: 5, ..Settings::default() };
        let check = |overrides: &[(&str, &str)], expect: Result<TopicSettings, &str>| {
            let overrides = overrides.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
            match (TopicSettings::resolve(&broker, &overrides), expect) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{overrides:?}: {got:?}"),
            }
        };
        let plain = TopicSettings { segment_bytes: 1 << 20, segment_ms: 5, ..TopicSettings::default() };
        check(&[], Ok(plain.clone()));
        check(
            &[
                ("segment.bytes", "70000"),
                ("message.timestamp.type", "LogAppendTime"),
                ("flush.messages", "1"),
                ("durability", "sync"),
            ],
            Ok(TopicSettings {
                segment_bytes: 70_000,
                message_timestamp_type: TimestampType::LogAppendTime,
                flush_messages: 1,
                durability: Durability::Sync,
                ..plain
            }),
        );
        check(&[("segment.byte", "70000")], Err("segment.byte is not a setting; did you mean `segment.bytes`?"));
        check(&[("log.segment.bytes", "70000")], Err("is not a setting"));
        check(&[("num.partitions", "3")], Err("is not a setting"));
        check(&[("segment.bytes", "1MiB")], Err("segment.bytes must be a plain number of bytes here, not `1MiB`"));
        check(&[("retention.ms", "-2")], Err("retention.ms must be -1 or more, not `-2`"));
    }

    #[test]
    fn every_topic_name_changes_something() {
        let samples = ["70000", "LogAppendTime", "compact", "2", "sync", "write", "0.25", "true", "0:1"];
        for row in TABLE.iter().filter(|row| row.name != "compression.type") {
            let Some(name) = row.topic_name else { continue };
            let changed = samples.iter().any(|text| {
                let overrides = BTreeMap::from([(name.to_owned(), text.to_string())]);
                TopicSettings::resolve(&Settings::default(), &overrides)
                    .is_ok_and(|settings| settings != TopicSettings::default())
            });
            assert!(changed, "{name} has no field in TopicSettings");
        }
    }
}
