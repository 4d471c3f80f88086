//! A blocking Kafka client for tools: connections to any brokers, and the way of each request to the right one.
//!
//! *Owns*: choosing versions, time-outs, whom to ask and when to ask again. *Never*: is part of a running broker or of
//! what is measured; prints. *Runs on*: a thread of the tool that may wait.

#[allow(clippy::module_inception)]
pub mod client;
pub mod cluster;
pub mod committed;
pub mod connection;
pub mod error;
pub mod groups;
pub mod offsets;
pub mod trimming;
