//! One partition replica: its log, its role, its high watermark, and who waits for either.
//!
//! *Owns*: what an ack and a high watermark mean, and how a follower comes to have what its leader has. *Never*: sees a
//! connection or another core. *Runs on*: the core that owns the partition.

mod acks;
pub mod deletion;
pub mod fetcher;
pub mod follower;
pub mod isr;
mod leader;
pub mod partition;
pub mod throttle;
mod watches;

#[cfg(test)]
mod tests;
