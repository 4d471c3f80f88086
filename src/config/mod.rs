//! Settings: what can be set, what it is set to, and where the value came from.
//!
//! `table.rs` is the one place where a setting is written down. The typed [`Settings`], the file parser, the flags
//! and environment variables, the answers to DescribeConfigs and the manual all derive from its rows.
//!
//! *Owns*: names, types, defaults, ranges, precedence (changed while running > flag > environment > file > default;
//! topic and group > broker). *Never*: reads a file or the environment, or knows what a setting does. *Runs on*: every
//! core, read only.

mod client_metrics;
mod describe;
mod file;
mod group;
mod level;
mod manual;
mod row;
mod table;
mod topic;
mod values;

pub use client_metrics::{ClientAttribute, INTERVAL_MS_DEFAULT, MetricsSubscription, describe_client_metrics};
pub use describe::{
    ConfigSource, Described, Layers, Synonym, describe_broker, describe_cluster_default, describe_group, describe_topic,
};
pub use file::{FileLine, parse_file};
pub use group::GroupSettings;
pub use level::{ConfigOp, ConfigResource, Level, NOTHING_SET, OpKind, Overrides};
pub use manual::{manual_json, manual_text};
pub use row::{Notation, Origin, Row, SettingError, nearest};
pub use table::{RACK_AWARE_SELECTOR, Settings, TABLE, row};
pub use topic::TopicSettings;
pub use values::{
    Address, Assignor, CleanupPolicy, Cores, Durability, Kind, MigrationPolicy, Ratio, ThrottledReplicas,
    TimestampType, Unit,
};
