//! The shell: everything that touches the machine. Bytes move here; nothing is decided.
//!
//! `run` starts one executor per core. On each, `net` reads frames and hands them to `reactor`, which steps the shard
//! and carries out what it asks for: replies through `connection`, files through `disk`, other cores through `mesh`,
//! other brokers through `peer` and `datagram`.
//! On core 0 `watch` gathers what all of them have counted, for `stage_log` to keep and `http` to show.
//!
//! *Owns*: glommio, sockets, files, pinning, signals, the clock. *Never*: looks into a request or a record.
//! *Runs on*: every core, one executor each.

pub mod clock;
pub mod connection;
pub mod counted;
pub mod datagram;
pub mod disk;
pub mod durable;
pub mod executor;
pub mod exposition;
pub mod frames;
pub mod host;
pub mod http;
pub mod mesh;
pub mod net;
pub mod output;
pub mod peer;
pub mod reactor;
pub mod run;
pub mod signals;
pub mod socket;
pub mod stage_log;
pub mod volume;
mod watch;
