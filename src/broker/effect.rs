//! The seam: everything a shard can be told, and everything it can ask for.
//!
//! *Owns*: the vocabulary between decisions and the shell (or the simulator). *Never*: holds state.
//! *Runs on*: every core.

use bytes::Bytes;

use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::{ConnId, CoreId};
use crate::base::slab::Key;
use crate::base::stage::{Arrival, Stopwatch};
use crate::base::time::Instant;
use crate::broker::message::ShardMessage;

/// What a listener shows to the clients that came through it (design: two kinds of listener).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerKind {
    /// One port, every core accepts: the process is one broker.
    Shared,
    /// One port per core: every core is a broker of its own, and leads the partitions it owns.
    PerCore,
}

/// Something happened. Handed to `Shard::step` with the time, one after the other.
#[derive(Debug)]
pub enum Input {
    /// A client connected, from this address and port. `conn` was never used before on this core.
    Opened { conn: ConnId, listener: ListenerKind, host: String, port: u16 },
    /// A whole request frame, without its length prefix, whose memory `Shard::admit` granted.
    Frame { conn: ConnId, frame: Bytes, arrival: Arrival },
    /// The connection is gone, by whichever side. Nothing is sent on it any more.
    Closed { conn: ConnId },
    /// The socket took this many bytes of what [`Effect::Send`] queued, in an attempt that began at `began`.
    Drained { conn: ConnId, bytes: usize, began: Instant },
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
    ToShard {
        to: CoreId,
        message: ShardMessage,
    },
    Disk {
        token: DiskToken,
        op: DiskOp,
    },
    /// Every core has recovered its partitions: open the listeners.
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
