//! Gossip: what brokers tell each other by datagram, each to a few others at random, so that soon all know.
//!
//! Three things travel. *Membership*: who answers and who does not, by SWIM (Das, Gupta and Motivala, 2002; suspicion
//! with incarnations). It is a hint: a lease on the controller decides who is fenced. *Reports*: how far partitions,
//! cores and devices of a broker are, so that each broker can answer for all. *Deltas*: committed metadata by version,
//! for brokers that do not follow the quorum; what is missing is pulled.
//!
//! *Owns*: the form of a datagram, and what is known from them. *Never*: decides anything about the cluster; reads a
//! clock; sends a datagram; trusts one. *Runs on*: core 0.
//!
//! Which failure each rule answers:
//!
//! | failure | rule |
//! |---|---|
//! | a datagram is damaged, or of another cluster | checksum and digest of the cluster's id (`frame`) |
//! | somebody without the key makes datagrams up | HMAC-SHA256 (`frame`), if there is a key |
//! | a datagram comes again, by chance or on purpose | window of sequence numbers per sender (`window`) |
//! | a broker restarted, and what it sent before arrives late | generations: the larger one wins (`member`) |
//! | a broker restarted and its clock went back | it is told the generation it must pass (`gossip`) |
//! | a report overtakes a newer one | leader epoch, then generation and sequence number (`view`) |
//! | metadata of one version is lost | versions in every datagram; the gap is told and pulled (`deltas`) |
//! | too much is to be told | bytes per second, newest first, the rest is forgotten (`rumors`) |

mod codec;
pub mod deltas;
pub mod frame;
#[allow(clippy::module_inception)]
pub mod gossip;
pub mod member;
pub mod report;
mod rumors;
mod swim;
pub mod view;
mod window;

pub use deltas::Delta;
pub use frame::{Refusal, Seal};
pub use gossip::{Gossip, GossipCounts, GossipEvent, GossipOut};
pub use member::{Member, Standing};
