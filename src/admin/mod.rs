//! Tools for those who look after brokers and their files.
//!
//! *Owns*: their command lines and what they print. *Never*: is part of a running broker. *Runs on*: the main thread
//! of a process of its own.

mod advice;
mod aim;
pub mod cluster;
mod cluster_local;
mod cluster_move;
mod cluster_snapshot;
mod cluster_status;
mod cluster_throttle;
pub mod config;
mod duration;
pub mod group;
mod group_describe;
mod group_lag;
mod group_offsets;
mod group_reset;
mod group_standing;
pub mod log;
mod log_dump;
mod log_files;
mod log_journal_dump;
mod log_journals;
mod log_redo;
mod moment;
pub mod quota;
mod selection;
mod settings;
mod spread;
mod tool;
pub mod topic;
mod topic_change;
mod topic_trim;
mod view;
