//! The commit journal of a core: small appends of all its partitions made durable by one write and one sync.
//!
//! A batch that is in the journal is safe; it reaches its segment later, from memory, in a large write. After a crash
//! `replay` writes what was still missing to the segments, before any partition is opened.
//!
//! *Owns*: the files in `journal/`. *Never*: knows what a batch is, or reads a segment to decide anything.
//! *Runs on*: every core, one journal each; the replay on core 0.
//!
//! A file is two header blocks, written alternately, and a ring of blocks that were written once before they were used,
//! so that no commit waits for the file system to give it space.

pub mod doubt;
pub mod format;
mod growth;
#[allow(clippy::module_inception)]
pub mod journal;
mod learned;
pub mod noted;
mod redo;
pub mod replay;
#[cfg(test)]
mod replay_tests;
mod ring;
pub mod scan;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
