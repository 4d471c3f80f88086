//! One partition replica: its log, its high watermark, and who waits for either.
//!
//! *Owns*: what an ack and a high watermark mean. *Never*: sees a connection or another core.
//! *Runs on*: the core that owns the partition.

pub mod partition;
