//! Connections that come in: accepting them, reading their frames.
//!
//! *Owns*: who is accepted, and when a connection ends. *Never*: knows what a frame says; reads on when the shard says wait.
//! *Runs on*: every core, for the connections it accepts.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;

use crate::base::ids::ConnId;
use crate::base::limits;
use crate::base::stage::Arrival;
use crate::base::time::Instant;
use crate::broker::effect::{Admission, Input, ListenerKind};
use crate::shell::connection::{Connection, Side};
use crate::shell::executor;
use crate::shell::frames::{FrameReader, Next, Verdict};
use crate::shell::reactor::Reactor;

/// Frames of one connection that are handled before others have a turn.
const FRAMES_PER_TURN: usize = 256;

/// How long a core that could not accept, mostly for want of file descriptors, waits before it tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often connections are looked at for being idle, at the longest.
const IDLE_CHECK_MAX: Duration = Duration::from_secs(10);

/// How long a stopping core waits for its last replies to be taken.
const LAST_SENDS_MAX: Duration = Duration::from_secs(1);

/// Connections of the whole process that were accepted.
#[derive(Clone, Default, Debug)]
pub struct OpenConnections {
    clients: Arc<AtomicU32>,
    brokers: Arc<AtomicU32>,
}

/// What the connections of one core share.
#[derive(Debug)]
pub struct Net {
    reactor: Rc<Reactor>,
    next_conn: Cell<u64>,
    open: OpenConnections,
    /// Clients' connections that there may be.
    clients_max: u32,
    stopping: Cell<bool>,
}

impl Net {
    pub fn new(reactor: Rc<Reactor>, open: OpenConnections, clients_max: u32) -> Rc<Net> {
        Rc::new(Net { reactor, next_conn: Cell::new(1), open, clients_max, stopping: Cell::new(false) })
    }

    /// Takes no more connections. The listeners' sockets have to be shut down to end their waits.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Takes connections until [`Net::stop`].
    pub async fn accept(self: Rc<Net>, listener: TcpListener, kind: ListenerKind) {
        while !self.stopping.get() {
            match listener.accept().await {
                Ok(stream) if self.stopping.get() => drop(stream),
                Ok(stream) => self.open_connection(stream, kind),
                Err(_) if self.stopping.get() => {}
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}; trying again");
                    Timer::new(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// Closes connections that have said nothing for `idle_ms`.
    pub async fn close_idle(self: Rc<Net>, idle_ms: u64) {
        let period = Duration::from_millis((idle_ms / 4).max(1)).min(IDLE_CHECK_MAX);
        loop {
            Timer::new(period).await;
            let now = self.reactor.instant();
            for connection in self.reactor.connections() {
                // The other side of a connection between brokers sees to it.
                if matches!(connection.side, Side::Made(_)) {
                    continue;
                }
                if now.since_ns(connection.active_at.get()) / 1_000_000 >= idle_ms {
                    tracing::debug!(peer = ?connection.peer, "closing a connection that was idle for {idle_ms} ms");
                    connection.end();
                }
            }
        }
    }

    /// Gives sockets that still have replies to take a last chance.
    pub async fn last_sends(&self) {
        let start = self.reactor.instant();
        while self.reactor.connections().iter().any(|connection| connection.has_output())
            && self.reactor.instant().since_ns(start) < LAST_SENDS_MAX.as_nanos() as u64
        {
            Timer::new(Duration::from_millis(1)).await;
        }
    }

    fn open_connection(self: &Rc<Net>, stream: TcpStream, kind: ListenerKind) {
        let peer = stream.peer_addr().ok();
        // Clients that come in masses leave the brokers their connections.
        let (open, open_max) = match kind {
            ListenerKind::Shared | ListenerKind::PerCore => (&self.open.clients, self.clients_max),
            ListenerKind::Peer => (&self.open.brokers, limits::PEER_CONNECTIONS_MAX),
        };
        if open.fetch_add(1, Ordering::Relaxed) >= open_max {
            open.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(?peer, "refusing a connection: as many as may be are open, {open_max}");
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(?peer, "a connection ended as it began: {error}");
            open.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let conn = ConnId(self.next_conn.get());
        self.next_conn.set(conn.0 + 1);
        let connection = Connection::new(Side::Accepted(conn), stream, Some(open.clone()), self.reactor.instant());
        self.reactor.add_connection(connection.clone());
        let host = peer.map_or(String::new(), |peer| peer.ip().to_canonical().to_string());
        let port = peer.map_or(0, |peer| peer.port());
        self.reactor.on(Input::Opened { conn, listener: kind, host, port });
        glommio::spawn_local(serve(self.clone(), conn, connection)).detach();
    }

    /// Hands the shard every whole frame that was read.
    fn cut(
        &self,
        conn: ConnId,
        connection: &Connection,
        reader: &mut FrameReader,
        waited: &mut Option<(Instant, Instant)>,
    ) -> Cut {
        for _ in 0..FRAMES_PER_TURN {
            if connection.closing.get() {
                return Cut::Wait;
            }
            connection.resumed.clear();
            let next = reader.next(|frame_bytes| match self.reactor.admit(conn, frame_bytes) {
                Admission::Read => {
                    if let Some((_, until)) = waited {
                        *until = self.reactor.instant();
                    }
                    Verdict::Take
                }
                Admission::Wait => Verdict::Wait,
                Admission::Refuse => Verdict::Refuse,
            });
            match next {
                Next::Frame(frame) => {
                    let (first_byte, last_byte) = reader.came();
                    let arrival = Arrival { first_byte, waited: waited.take(), last_byte };
                    self.reactor.on(Input::Frame { conn, frame, arrival });
                }
                Next::Read => return Cut::Read,
                Next::Wait => {
                    let now = self.reactor.instant();
                    waited.get_or_insert((now, now));
                    return Cut::Wait;
                }
                Next::Refuse { length } => {
                    tracing::warn!(peer = ?connection.peer, "closing a connection: a request of {length} bytes cannot be");
                    return Cut::End;
                }
            }
        }
        Cut::Yield
    }
}

/// What to do when no frame can be cut any more.
enum Cut {
    Read,
    /// The shard will say when to go on.
    Wait,
    Yield,
    End,
}

/// Reads a connection until it ends.
async fn serve(net: Rc<Net>, conn: ConnId, connection: Rc<Connection>) {
    let mut reader = FrameReader::default();
    let mut read_since_turn = 0;
    // Of the frame to be cut next.
    let mut waited = None;
    while !connection.ended.get() {
        match net.cut(conn, &connection, &mut reader, &mut waited) {
            Cut::Read => match connection.read(&net.reactor, &mut reader).await {
                Ok(0) => break,
                Ok(bytes) => read_since_turn += bytes,
                Err(error) => {
                    tracing::debug!(peer = ?connection.peer, "a connection broke: {error}");
                    break;
                }
            },
            Cut::Wait => connection.resumed.wait().await,
            Cut::Yield => read_since_turn = executor::READ_BYTES_PER_TURN,
            Cut::End => break,
        }
        if read_since_turn >= executor::READ_BYTES_PER_TURN {
            read_since_turn = 0;
            executor::next_turn().await;
        }
    }
    connection.end();
    net.reactor.remove_connection(connection.side);
    net.reactor.on(Input::Closed { conn });
}
