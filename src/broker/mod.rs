//! The broker's decisions: requests in, replies and disk work out.
//!
//! *Owns*: the seam (`effect`), the shard of each core, the API table and its handlers. *Never*: performs an effect.
//! *Runs on*: every core, one `Shard` each.

pub mod api;
mod brokers;
pub mod cleaning;
pub mod cluster;
pub mod commits;
mod control;
pub mod deletions;
pub mod directory;
pub mod effect;
pub mod errors;
pub mod following;
pub mod forward;
pub mod gossiping;
pub mod greeting;
pub mod groups;
pub mod job;
pub mod message;
pub mod noting;
pub mod opening;
pub mod partitions;
pub mod peers;
pub mod quotas;
pub mod reads;
pub mod replaying;
pub mod replicas;
pub mod report;
pub mod route;
pub mod seeds;
pub mod sending;
pub mod session;
mod settings;
pub mod shard;
pub mod shutdown;
pub mod survey;
pub mod telemetry;
