//! The measuring half: an open-loop load generator for any Kafka broker, histogram logs, comparison, report.
//!
//! *Owns*: everything a measurement needs from plan to picture. *Never*: knows what is inside a broker; glommio.
//! *Runs on*: threads of its own, away from a broker's cores.

pub mod bootstrap;
pub mod capsule;
pub mod collect;
pub mod command;
pub mod compare;
pub mod compare_table;
pub mod complaints;
pub mod connection;
pub mod consumer;
pub mod control;
pub mod convert;
pub mod driver;
pub mod embedded;
pub mod environment;
pub mod foreign;
pub mod hgrm;
pub mod hlog;
pub mod member;
pub mod meter;
pub mod packed;
pub mod payload;
pub mod pending;
pub mod producer;
pub mod progress;
pub mod ramp;
pub mod report;
pub mod result;
pub mod run;
pub mod schedule;
pub mod scout;
pub mod source;
pub mod stages;
pub mod summary;
pub mod tally;
pub mod topics;
pub mod versus;
pub mod versus_command;
pub mod workload;
pub mod writes;
