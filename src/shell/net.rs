//! Connections: accepting them, reading their frames, sending their replies.
//!
//! *Owns*: sockets and their life. *Never*: knows what a frame says; reads on when the shard says wait.
//! *Runs on*: every core, for the connections it accepts.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::AsyncWrite;
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;

use crate::base::ids::ConnId;
use crate::base::metric::Metric;
use crate::base::stage::Arrival;
use crate::base::time::Instant;
use crate::broker::effect::{Admission, Input, ListenerKind};
use crate::shell::executor::{self, Signal};
use crate::shell::frames::{FrameReader, Next, SCRATCH_BYTES, Verdict};
use crate::shell::output::Output;
use crate::shell::reactor::Reactor;
use crate::shell::socket;

/// Frames of one connection that are handled before others have a turn.
const FRAMES_PER_TURN: usize = 256;

/// How long a core that could not accept, mostly for want of file descriptors, waits before it tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often connections are looked at for being idle, at the longest.
const IDLE_CHECK_MAX: Duration = Duration::from_secs(10);

/// How long a stopping core waits for its last replies to be taken.
const LAST_SENDS_MAX: Duration = Duration::from_secs(1);

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnId,
    peer: Option<SocketAddr>,
    stream: RefCell<TcpStream>,
    output: RefCell<Output>,
    /// In the reactor's list of those with something to send.
    pub(super) dirty: Cell<bool>,
    /// A task waits for the socket to take more.
    blocked: Cell<bool>,
    /// To be closed when everything is sent. Nothing more is read.
    pub(super) closing: Cell<bool>,
    /// Shut down: the reader is about to find the end.
    ended: Cell<bool>,
    pub(super) resumed: Signal,
    active_at: Cell<Instant>,
    /// Counts this connection until it ends.
    open: Arc<AtomicU32>,
}

/// What the connections of one core share.
#[derive(Debug)]
pub struct Net {
    reactor: Rc<Reactor>,
    scratch: RefCell<Vec<u8>>,
    next_conn: Cell<u64>,
    /// Connections of the whole process, and how many there may be.
    open: Arc<AtomicU32>,
    open_max: u32,
    stopping: Cell<bool>,
}

impl Net {
    pub fn new(reactor: Rc<Reactor>, open: Arc<AtomicU32>, open_max: u32) -> Rc<Net> {
        Rc::new(Net {
            reactor,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            next_conn: Cell::new(1),
            open,
            open_max,
            stopping: Cell::new(false),
        })
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
        while self.reactor.connections().iter().any(|connection| !connection.output.borrow().is_empty())
            && self.reactor.instant().since_ns(start) < LAST_SENDS_MAX.as_nanos() as u64
        {
            Timer::new(Duration::from_millis(1)).await;
        }
    }

    fn open_connection(self: &Rc<Net>, stream: TcpStream, kind: ListenerKind) {
        let peer = stream.peer_addr().ok();
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.open_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(?peer, "refusing a connection: max.connections = {} are open", self.open_max);
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(?peer, "a connection ended as it began: {error}");
            self.open.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let id = ConnId(self.next_conn.get());
        self.next_conn.set(id.0 + 1);
        let connection = Rc::new(Connection {
            id,
            peer,
            stream: RefCell::new(stream),
            output: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            closing: Cell::new(false),
            ended: Cell::new(false),
            resumed: Signal::default(),
            active_at: Cell::new(self.reactor.instant()),
            open: self.open.clone(),
        });
        self.reactor.add_connection(connection.clone());
        let host = peer.map_or(String::new(), |peer| peer.ip().to_canonical().to_string());
        let port = peer.map_or(0, |peer| peer.port());
        self.reactor.on(Input::Opened { conn: id, listener: kind, host, port });
        glommio::spawn_local(serve(self.clone(), connection)).detach();
    }

    /// Hands the shard every whole frame that was read.
    fn cut(&self, connection: &Connection, reader: &mut FrameReader, waited: &mut Option<(Instant, Instant)>) -> Cut {
        for _ in 0..FRAMES_PER_TURN {
            if connection.closing.get() {
                return Cut::Wait;
            }
            connection.resumed.clear();
            let next = reader.next(|frame_bytes| match self.reactor.admit(connection.id, frame_bytes) {
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
                    self.reactor.on(Input::Frame { conn: connection.id, frame, arrival });
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
async fn serve(net: Rc<Net>, connection: Rc<Connection>) {
    let mut reader = FrameReader::default();
    let mut read_since_turn = 0;
    // Of the frame to be cut next.
    let mut waited = None;
    while !connection.ended.get() {
        match net.cut(&connection, &mut reader, &mut waited) {
            Cut::Read => match read(&net, &connection, &mut reader).await {
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
    net.reactor.remove_connection(connection.id);
    net.reactor.on(Input::Closed { conn: connection.id });
}

async fn read(net: &Net, connection: &Connection, reader: &mut FrameReader) -> io::Result<usize> {
    let read = poll_fn(|cx| {
        let mut stream = connection.stream.borrow_mut();
        reader.poll_read(cx, &mut stream, &mut net.scratch.borrow_mut())
    });
    let read = read.await?;
    let now = net.reactor.instant();
    reader.on_read(now);
    net.reactor.count(Metric::ReceivedBytes, read);
    connection.active_at.set(now);
    Ok(read)
}

impl Connection {
    /// Takes slices to be sent.
    pub(super) fn queue(&self, data: Vec<Bytes>) {
        let mut output = self.output.borrow_mut();
        for slice in data {
            output.push(slice);
        }
    }

    /// Sends what the socket takes now, up to `bytes_max`. What it does not take is left to a task that waits; what
    /// is beyond the bound makes the connection dirty again. Returns how much was sent.
    pub(super) fn send(self: &Rc<Self>, reactor: &Rc<Reactor>, bytes_max: usize) -> usize {
        if self.ended.get() || self.blocked.get() {
            return 0;
        }
        let fd = self.stream.borrow().as_raw_fd();
        let began = reactor.instant();
        let sent = self.output.borrow_mut().send(fd, bytes_max);
        match sent {
            Ok(sent) => {
                if sent.blocked {
                    self.blocked.set(true);
                    glommio::spawn_local(send_blocked(reactor.clone(), self.clone())).detach();
                } else if !self.output.borrow().is_empty() {
                    reactor.mark_dirty(self);
                } else if self.closing.get() {
                    self.end();
                }
                self.drained(reactor, sent.bytes, began);
                sent.bytes
            }
            Err(error) => {
                tracing::debug!(peer = ?self.peer, "a connection broke: {error}");
                self.end();
                0
            }
        }
    }

    fn drained(&self, reactor: &Rc<Reactor>, bytes: usize, began: Instant) {
        reactor.count(Metric::SentBytes, bytes);
        if bytes > 0 && !self.ended.get() {
            reactor.on(Input::Drained { conn: self.id, bytes, began });
        }
    }

    /// Shuts the socket down; its reader finds that out and takes leave of the shard.
    pub(super) fn end(&self) {
        if !self.ended.replace(true) {
            // First, so that whoever sees the end may connect again.
            self.open.fetch_sub(1, Ordering::Relaxed);
            socket::shut_down(self.stream.borrow().as_raw_fd());
            self.resumed.give();
        }
    }
}

/// Sends the rest of a connection's output as its socket takes it.
async fn send_blocked(reactor: Rc<Reactor>, connection: Rc<Connection>) {
    loop {
        let front = connection.output.borrow().front().cloned();
        let Some(front) = front else { break };
        let began = reactor.instant();
        let front = &front[..front.len().min(executor::SEND_BYTES_PER_TURN_BESIDE_WRITES)];
        let sent = poll_fn(|cx| Pin::new(&mut *connection.stream.borrow_mut()).poll_write(cx, front)).await;
        match sent {
            Ok(bytes) => {
                connection.output.borrow_mut().advance(bytes);
                let now = reactor.instant();
                connection.active_at.set(now);
                connection.drained(&reactor, bytes, began);
                let fd = connection.stream.borrow().as_raw_fd();
                let more = connection.output.borrow_mut().send(fd, reactor.send_bytes_per_turn());
                match more {
                    Ok(more) => {
                        connection.drained(&reactor, more.bytes, now);
                        if !more.blocked {
                            executor::next_turn().await;
                        }
                    }
                    Err(_) => connection.end(),
                }
            }
            Err(error) => {
                tracing::debug!(peer = ?connection.peer, "a connection broke: {error}");
                connection.end();
            }
        }
        if connection.ended.get() {
            return;
        }
    }
    connection.blocked.set(false);
    if connection.closing.get() {
        connection.end();
    }
}
