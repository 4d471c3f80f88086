//! Corelog: a Kafka-wire-compatible log broker for Linux.
//!
//! This page is the map. Lower floors never import higher ones; rooms of one floor never import each other, and
//! nothing below `shell` knows a clock, a thread, a random device, an unordered iteration or `async`
//! (`tests/tidy.rs` checks all of it).
//!
//! | floor | room | what is decided there |
//! |---|---|---|
//! | F0 | `base` | ids, time as a value, limits, deadlines, checksums, histograms, patterns, stages, the words for disk work |
//! | F1 | `wire` | frames, the message tables and their codec, record batches, compression, error codes |
//! | F1 | `config` | the settings table and where a value comes from |
//! | F2 | `log` | one partition's log: layout on disk, append, read, recovery, producer state, tail cache, retention, compaction |
//! | F2 | `journal` | one core's commits: small appends of all partitions in one write and one sync, and their redo |
//! | F2 | `meta` | brokers, topics, where partitions are and who leads them: records, image, quorum, controller |
//! | F2 | `group` | consumer groups: members, assignments, offsets, and their records |
//! | F2 | `gossip` | what brokers tell each other by datagram: who is suspected, reports, committed metadata |
//! | F3 | `replica` | one partition replica: leader or follower, in-sync set, high watermark, who waits for what |
//! | F4 | `broker` | `Shard::step`: sessions, the API table, one file per API family, routing between cores |
//! | F5 | `shell` | glommio: executors, sockets, direct I/O, the mesh between cores, signals |
//! | F5 | `client` | a blocking Kafka client for tools: versions, time-outs, the way to the right broker; no glommio |
//! | F5 | `terminal` | what people see of a tool: numbers, tables, colours, what is waited for, how printing ends |
//! | F6 | `bench` | the measuring half: generator, histogram logs, comparison, report; no glommio, only threads |
//! | F6 | `admin` | tools for those who look after a broker and its files; no glommio |
//! | F7 | `cli` | the command line: its flags come from the settings table |
//!
//! A Produce request's way: `shell/net` reads a frame → `broker/shard` step → `broker/session` admits it →
//! `broker/api` finds the row → `broker/api/produce` → `broker/route` (this core or another) →
//! `replica/partition` → `wire/batch` checks it → `log/producer` admits it → `log/log` appends → a disk write →
//! `shell/disk` → step with the completion → the waiter is released → `broker/session` fills the reply slot →
//! `shell/net` sends it.
//!
//! Where other brokers have replicas, `replica/leader` waits for them: their `replica/fetcher`s ask on the listener for
//! brokers (`broker/peers`, `broker/api/fetch`), `replica/follower` takes what comes, and with the next question
//! `replica/isr` knows it to be safe there. What the metadata decides of a partition `broker/replicas` puts into effect.
//!
//! With `durability=sync` and little pending, what was appended goes another way to the disk: `log/commit` hands it to
//! `broker/commits`, whose `journal/journal` writes what all partitions of the core have as one commit; its completion
//! goes back through `log/commit`, which also brings the segment up to date, later. A start reads the journals first:
//! `broker/replaying` → `journal/replay` → the segments → `log/recovery`, and empties them when every log is open or
//! has kept what it lacks (`log/reach`). Which journals there must be, and how far logs were durable, each core notes
//! (`broker/noting`, `journal/noted`).
//!
//! What a member of a group asks goes from `broker/api/group_membership` to `broker/groups` on the core that owns its
//! partition of `__consumer_offsets`, and there to `group/coordinator`: `group/classic`, or `group/consumer` with
//! `group/consumer_heartbeat` (who may what), `group/consumer_rebalance` (a target for everybody, by `group/assign`)
//! and `group/reconcile` (one member's next step). The answer leaves when the records before it are safe.
//!
//! A datagram of another broker goes from `shell/datagram` to `broker/gossiping` on core 0, and there to
//! `gossip/gossip`, which judges it (`gossip/frame`) and hands its sections on: `gossip/swim` for who lives,
//! `gossip/view` for reports, `gossip/deltas` for metadata. These a broker without a vote takes in the order of the
//! quorum's log (`meta/quorum/follow`); where there is a gap, `broker/following` asks another broker.
//!
//! What changes metadata goes from `broker/api` to `broker/control` on core 0 of the controller; other brokers pass it on
//! (`broker/forward`). There it is planned (`meta/controller` and its neighbours), agreed on (`meta/quorum`, over
//! `broker/peers`), and applied by every broker in the same order. `broker/cluster` has a broker join, send heartbeats and
//! leave, `broker/opening` says when it takes clients; `broker/brokers` on the controller keeps the leases, has others
//! lead what was led by one that is gone, and gives votes (`meta/voters`).
//!
//! Its stamps (`base/stage`) go the same way and are counted in `base/stage_counts` when the socket has the reply;
//! `shell/watch` asks all cores for their counts, `shell/stage_log` and `shell/exposition` turn them into text. What
//! clients measure themselves and push (KIP-714) goes from `broker/api/telemetry` through `wire/otlp` to
//! `broker/telemetry`, and the same way out.

#![deny(unsafe_code)]

#[cfg(feature = "shell")]
pub mod admin;
pub mod base;
#[cfg(feature = "shell")]
pub mod bench;
pub mod broker;
pub mod cli;
#[cfg(feature = "shell")]
pub mod client;
pub mod config;
pub mod gossip;
pub mod group;
pub mod journal;
pub mod log;
pub mod meta;
pub mod replica;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(feature = "shell")]
pub mod terminal;
pub mod wire;
