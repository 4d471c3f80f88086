//! Metadata: which brokers and topics there are, with the topics' ids, settings and partitions, and where those are;
//! what was set of brokers and groups.
//!
//! Every change is a [`MetaRecord`]. Core 0 of the controller decides ([`controller`]), has the records agreed on by
//! most voters ([`Quorum`]), and every broker sends them to all its cores; each core applies them to its own
//! [`Image`].
//!
//! *Owns*: the records, the image they add up to, the quorum's log, the rules for changing topics. *Never*: sees record
//! batches or connections, or assigns partitions to cores. *Runs on*: image: every core; controller, quorum: core 0.

pub mod balance;
mod broker;
pub mod brokers;
pub mod configs;
mod contents;
pub mod controller;
pub mod election;
pub mod fleet;
mod frame;
mod image;
pub mod inspect;
pub mod isr;
pub mod liveness;
mod partition_state;
pub mod placement;
mod quorum;
pub mod quota;
mod raft_log;
mod raft_message;
pub mod reassign;
mod record;
mod snapshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod voters;

pub use broker::Broker;
pub use image::{ApplyError, Image, Topic};
pub use partition_state::{PartitionParts, PartitionState};
pub use quorum::{MetaEvent, MetaOut, MetaStep, NotController, Quorum, QuorumStatus};
pub use raft_log::MetaOp;
pub use raft_message::MessageError;
pub use record::{MetaRecord, RecordError};
