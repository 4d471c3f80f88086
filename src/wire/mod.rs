//! The Kafka wire protocol: frames, messages, record batches, error codes.
//!
//! *Owns*: every byte layout a client sees. *Never*: holds state between two frames, trusts a length it has not
//! compared with the bytes at hand, copies record bytes. *Runs on*: every core.

pub mod batch;
mod batch_error;
pub mod codec;
pub mod compression;
pub mod consumer_protocol;
pub mod errors;
pub mod frame;
pub mod messages;
pub mod otlp;
pub mod protobuf;
pub mod reader;
pub mod record;
pub mod records;
pub(crate) mod table;
pub mod text;
pub mod writer;
