//! Metadata: which brokers and topics there are, with the topics' ids, settings and partitions, and where those are;
//! what was set of brokers and groups.
//!
//! Every change is a [`MetaRecord`]. Core 0 decides ([`controller`]), makes the records durable ([`Store`]) and sends
//! them to all cores; each core applies them to its own [`Image`].
//!
//! *Owns*: the records, the image they add up to, their file, the rules for changing topics. *Never*: sees record
//! batches or connections, or assigns partitions to cores. *Runs on*: image: every core; controller, store: core 0.

pub mod balance;
mod broker;
pub mod brokers;
pub mod configs;
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
pub mod quota;
pub mod reassign;
mod record;
mod snapshot;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use broker::Broker;
pub use image::{ApplyError, Image, Topic};
pub use partition_state::{PartitionParts, PartitionState};
pub use record::{MetaRecord, RecordError};
pub use store::{MetaEvent, MetaOp, MetaOut, Store};
