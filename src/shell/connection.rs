//! One connection: its socket, what is to be sent on it, and its end.
//!
//! *Owns*: the socket and the order of what leaves. *Never*: knows what a frame is.
//! *Runs on*: the core that accepted or made it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_lite::AsyncWrite;
use glommio::net::TcpStream;

use crate::base::ids::{ConnId, PeerId};
use crate::base::limits;
use crate::base::metric::Metric;
use crate::base::time::Instant;
use crate::broker::effect::Input;
use crate::shell::executor::{self, Signal};
use crate::shell::frames::FrameReader;
use crate::shell::output::Output;
use crate::shell::reactor::Reactor;
use crate::shell::socket;

/// Which of a core's connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// A client's or another broker's, that came in.
    Accepted(ConnId),
    /// Made from here to another broker.
    Made(PeerId),
}

#[derive(Debug)]
pub struct Connection {
    pub side: Side,
    pub(super) peer: Option<SocketAddr>,
    stream: RefCell<TcpStream>,
    output: RefCell<Output>,
    /// Bytes of `output`, of a connection that was made from here.
    queued_bytes: Cell<usize>,
    /// In the reactor's list of those with something to send.
    pub(super) dirty: Cell<bool>,
    /// A task waits for the socket to take more.
    blocked: Cell<bool>,
    /// To be closed when everything is sent. Nothing more is read.
    pub(super) closing: Cell<bool>,
    /// Shut down: the reader is about to find the end.
    pub(super) ended: Cell<bool>,
    pub(super) resumed: Signal,
    pub(super) active_at: Cell<Instant>,
    /// Counts this connection until it ends, if it was accepted.
    open: Option<Arc<AtomicU32>>,
}

impl Connection {
    pub fn new(side: Side, stream: TcpStream, open: Option<Arc<AtomicU32>>, now: Instant) -> Rc<Connection> {
        Rc::new(Connection {
            side,
            peer: stream.peer_addr().ok(),
            stream: RefCell::new(stream),
            output: RefCell::default(),
            queued_bytes: Cell::new(0),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            closing: Cell::new(false),
            ended: Cell::new(false),
            resumed: Signal::default(),
            active_at: Cell::new(now),
            open,
        })
    }

    /// Takes slices to be sent. What is queued on an accepted connection the shard bounds; one made from here ends
    /// when it is too much.
    pub(super) fn queue(&self, data: Vec<Bytes>) {
        let mut output = self.output.borrow_mut();
        let bytes: usize = data.iter().map(Bytes::len).sum();
        for slice in data {
            output.push(slice);
        }
        if let Side::Made(_) = self.side {
            self.queued_bytes.set(self.queued_bytes.get() + bytes);
            if self.queued_bytes.get() > limits::PEER_OUTPUT_BYTES_MAX {
                tracing::warn!(peer = ?self.peer, "ending a connection: another broker does not take what it is sent");
                drop(output);
                self.end();
            }
        }
    }

    /// Reads once, into the buffer that all connections of the core share.
    pub(super) async fn read(&self, reactor: &Reactor, reader: &mut FrameReader) -> io::Result<usize> {
        let read = poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            reader.poll_read(cx, &mut stream, &mut reactor.scratch.borrow_mut())
        });
        let read = read.await?;
        let now = reactor.instant();
        reader.on_read(now);
        reactor.count(Metric::ReceivedBytes, read);
        self.active_at.set(now);
        Ok(read)
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.borrow().is_empty()
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
        match self.side {
            Side::Accepted(conn) if bytes > 0 && !self.ended.get() => {
                reactor.on(Input::Drained { conn, bytes, began });
            }
            Side::Accepted(_) => {}
            Side::Made(_) => self.queued_bytes.set(self.queued_bytes.get() - bytes),
        }
    }

    /// Shuts the socket down; its reader finds that out and takes leave of the shard.
    pub(super) fn end(&self) {
        if !self.ended.replace(true) {
            // First, so that whoever sees the end may connect again.
            if let Some(open) = &self.open {
                open.fetch_sub(1, Ordering::Relaxed);
            }
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
