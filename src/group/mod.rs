//! Groups: who reads what together, and how far each has come.
//!
//! A coordinator is a state machine without input and output: requests come as [`ask::Ask`], what it decides leaves as
//! [`coordinator::GroupOut`], records for `__consumer_offsets` and answers. Its state changes at once; whoever hosts it
//! holds each answer back until all records before it are safe, and drops the coordinator when one could not be
//! written. The next one starts from the records.
//!
//! *Owns*: groups of both protocols, their offsets, and the records of both. *Never*: sees a partition, a connection or
//! another core. *Runs on*: the core that owns the partition of `__consumer_offsets`.

pub mod ask;
pub mod assign;
pub mod assignment;
pub mod classic;
mod classic_member;
mod classic_rebalance;
pub mod consumer;
mod consumer_classic;
pub mod consumer_describe;
pub mod consumer_heartbeat;
pub mod consumer_member;
mod consumer_rebalance;
pub mod consumer_record;
mod consumer_turn;
pub mod coordinator;
mod embedded;
mod migration;
pub mod offsets;
mod reconcile;
pub mod records;
pub mod topics;
mod topics_hash;

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcript;
#[cfg(test)]
mod transcript_tests;
