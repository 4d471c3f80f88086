//! The shell: everything that touches the machine. Bytes move here; nothing is decided.
//!
//! *Owns*: glommio, sockets, files, pinning, signals, the clock. *Never*: looks into a request or a record.
//! *Runs on*: every core, one executor each; `run` starts them.

pub mod disk;
pub mod executor;
pub mod frames;
pub mod output;
pub mod socket;
