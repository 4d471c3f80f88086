//! Metadata: which topics there are, with their ids, partition counts and settings; what was set of brokers and groups.
//!
//! Every change is a [`MetaRecord`]. Core 0 decides ([`controller`]), makes the records durable ([`Store`]) and sends
//! them to all cores; each core applies them to its own [`Image`].
//!
//! *Owns*: the records, the image they add up to, their file, the rules for changing topics. *Never*: sees record
//! batches or connections, or assigns partitions to cores. *Runs on*: image: every core; controller, store: core 0.

pub mod configs;
pub mod controller;
mod frame;
mod image;
pub mod inspect;
pub mod quota;
mod record;
mod store;

pub use image::{ApplyError, Image, Topic};
pub use record::{MetaRecord, RecordError};
pub use store::{MetaEvent, MetaOp, MetaOut, Store};
