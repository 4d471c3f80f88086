//! One partition's log: its layout on disk, appending, reading, recovery, producer state, the tail cache.
//!
//! *Owns*: everything in a partition's directory. *Never*: knows of requests, replicas or other partitions.
//! *Runs on*: the core that owns the partition.
//!
//! A directory holds, per segment, `<first offset>.log` (Kafka record batches back to back) and, once sealed, `<first
//! offset>.index`; of the newest segments `<first offset>.snapshot`; after a clean close `checkpoint`; and `bounds`
//! once the log does not begin where its first segment does. Only the `.log` files and `bounds` are needed: the others
//! are rebuilt from them. `must-reach` is there while the log lacks what a journal knew of, and `<offset>.spare` is the
//! file of a removed segment, kept for a later one.

pub mod cache;
pub mod clean;
mod close;
mod cold;
pub mod commit;
pub mod dirt;
mod epochs;
mod feed;
mod file;
mod find;
mod finish;
mod index;
pub mod inspect;
mod keys;
#[allow(clippy::module_inception)]
pub mod log;
mod lookalike;
mod output;
mod producer;
pub mod reach;
pub mod read;
mod recovery;
pub mod replicate;
mod retention;
mod scan;
mod seal;
mod segment;
mod settings;
mod sift;
mod spare;
mod stale;
mod start;
mod state;
mod swap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod truncate;
mod write;

#[cfg(test)]
use crate::base::testdisk;
