//! Settings: what can be set, what it is set to, and where the value came from.
//!
//! `table.rs` is the one place where a setting is written down. The typed [`Settings`], the file parser, the flags
//! and environment variables, the answers to DescribeConfigs and the manual all derive from its rows.
//!
//! *Owns*: names, types, defaults, ranges, precedence (flag > environment > file > default; topic > broker).
//! *Never*: reads a file or the environment, or knows what a setting does. *Runs on*: every core, read only.

mod describe;
mod file;
mod manual;
mod row;
mod table;
mod topic;
mod values;

pub use describe::{ConfigSource, Described, Synonym, describe_broker, describe_topic};
pub use file::{FileLine, parse_file};
pub use manual::{manual_json, manual_text};
pub use row::{Notation, Origin, Row, SettingError, nearest};
pub use table::{Settings, TABLE, row};
pub use topic::TopicSettings;
pub use values::{Address, Assignor, CleanupPolicy, Cores, Durability, Kind, MigrationPolicy, TimestampType, Unit};
