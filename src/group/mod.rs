//! Consumer groups: who belongs to one, who has which partition, and what was committed.
//!
//! *Owns*: the state machines of groups. *Never*: sees a partition or a topic's settings. *Runs on*: the core that
//! coordinates the group.

pub mod assign;
pub mod assignment;
