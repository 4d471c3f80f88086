//! The seam: everything a shard can be told, and everything it can ask for.
//!
//! *Owns*: the vocabulary between decisions and the shell (or the simulator). *Never*: holds state.
//! *Runs on*: every core.

use bytes::Bytes;

use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::{ConnId, CoreId, PeerId};
use crate::base::slab::Key;
use crate::base::stage::{Arrival, Stopwatch};
use crate::base::time::Instant;
use crate::broker::message::ShardMessage;
use crate::config::Address;

/// Who comes through a listener, and what it shows to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerKind {
    /// One port, every core accepts: the process is one broker.
    Shared,
    /// One port per core: every core is a broker of its own, and leads the partitions it owns.
    PerCore,
    /// One port per core, for other brokers of the cluster alone.
    Peer,
}

/// Something happened. Handed to `Shard::step` with the time, one after the other.
#[derive(Debug)]
pub enum Input {
    /// A client or another broker connected, from this address and port. `conn` was never used before on this core.
    Opened { conn: ConnId, listener: ListenerKind, host: String, port: u16 },
    /// A whole request frame, without its length prefix, whose memory `Shard::admit` granted.
    Frame { conn: ConnId, frame: Bytes, arrival: Arrival },
    /// The connection is gone, by whichever side. Nothing is sent on it any more.
    Closed { conn: ConnId },
    /// The socket took this many bytes of what [`Effect::Send`] queued, in an attempt that began at `began`.
    Drained { conn: ConnId, bytes: usize, began: Instant },
    /// What [`Effect::PeerOpen`] asked for is there: it takes frames.
    PeerOpened { peer: PeerId },
    /// A whole frame from another broker, without its length prefix.
    PeerFrame { peer: PeerId, frame: Bytes, arrival: Arrival },
    /// The connection could not be made, or is gone by whichever side. Once for each [`Effect::PeerOpen`].
    PeerClosed { peer: PeerId, why: String },
    /// A datagram came on core 0, at most `limits::GOSSIP_DATAGRAM_BYTES_MAX` long. Anybody may have sent it.
    Datagram { from: Address, data: Bytes },
    /// Another core of this process says something. Messages of one core arrive in the order sent.
    FromShard { from: CoreId, message: ShardMessage },
    /// A disk operation ended. Exactly once for each [`Effect::Disk`].
    Disk { token: DiskToken, result: DiskResult },
    /// `Shard::next_deadline` has passed. Early or spurious ones do no harm.
    Timeout,
    /// Stop: no new connections come; answer what is in flight, flush, close.
    Stop,
}

/// Something to be done by the shell, in the order given.
#[derive(Debug)]
pub enum Effect {
    /// Queue these slices, in order, on the connection: whole reply frames with their length prefix.
    Send {
        conn: ConnId,
        data: Vec<Bytes>,
    },
    /// Send what is queued, then close.
    Close {
        conn: ConnId,
    },
    /// Close at once, whatever is queued.
    Abort {
        conn: ConnId,
    },
    /// Connections for which `Shard::admit` said wait may be asked about again.
    Resume {
        conn: ConnId,
    },
    /// Connect to another broker. `peer` was never used before on this core. [`Input::PeerOpened`] follows, or
    /// [`Input::PeerClosed`].
    PeerOpen {
        peer: PeerId,
        to: Address,
    },
    /// Queue these slices on a connection that is open: whole frames with their length prefix. One that has too much
    /// queued is closed.
    PeerSend {
        peer: PeerId,
        data: Vec<Bytes>,
    },
    /// Close the connection at once, whatever is queued, or give up making it.
    PeerClose {
        peer: PeerId,
    },
    /// Send a datagram, from core 0. It may get lost, and nobody is told.
    Datagram {
        to: Address,
        data: Bytes,
    },
    ToShard {
        to: CoreId,
        message: ShardMessage,
    },
    Disk {
        token: DiskToken,
        op: DiskOp,
    },
    /// Every core has recovered its partitions, and knows what the cluster does: open the listeners for clients.
    Ready,
    /// This core's files are flushed and closed: the executor may end.
    Stopped,
    /// The broker cannot go on (its metadata cannot be read or written). Say this and exit with an error.
    Fatal {
        message: String,
    },
}

/// Ties the end of a disk operation to whoever asked for it.
pub type DiskToken = Key;

/// What becomes of a frame whose length was just read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Its memory is reserved: read the body, then `step(Input::Frame)`.
    Read,
    /// No memory, or too much in flight on this connection: do not read from it until [`Effect::Resume`].
    Wait,
    /// The length is impossible: close the connection, saying so in the log.
    Refuse,
}

/// The effects of one or more steps, in order. Reused between steps so that its memory is.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    pub watch: Stopwatch,
}

impl Effects {
    /// Whoever carries the effects out lends a stopwatch for what happens in between.
    pub fn timed_by(watch: Stopwatch) -> Effects {
        Effects { list: Vec::new(), watch }
    }

    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
