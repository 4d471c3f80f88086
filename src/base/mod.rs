//! The ground floor: words and small machines that every other floor uses.
//!
//! *Owns*: ids, time as a value, the seeded generator, limits, deadlines, checksums, histograms, patterns, the words
//! for disk work and names of files, the stages of a request. *Never*: imports another floor, reads a clock, asks the operating
//! system for anything. *Runs on*: every core.

pub mod bounds;
pub mod bug;
pub mod checksum;
pub mod deadlines;
pub mod disk;
pub mod fields;
pub mod histogram;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod metric;
pub mod names;
pub mod pattern;
pub mod rng;
pub mod siphash;
pub mod slab;
pub mod stage;
pub mod stage_counts;
#[cfg(test)]
pub(crate) mod testdisk;
pub mod time;
