//! Connections: a stream of bytes each way, delayed, cut into pieces, and lost at any point.
//!
//! The two ends learn of the loss by themselves, and the broker's perhaps long after its client is gone. A client may be
//! a core of another broker: then what it sends and is sent may also be lost between their two nodes, without either
//! hearing of it.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use corelog::base::ids::{ConnId, PeerId};

use crate::plan::Cut;

/// Bytes the sockets on the way take before a client that is gone would have to read some.
const SOCKET_BYTES: usize = 64 << 10;

pub type LinkId = u64;

/// A core of a node.
pub type Place = (usize, u16);

/// Who has made a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Client(usize),
    Peer(Place, PeerId),
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub by: End,
    /// Whom it leads to.
    pub at: Place,
    pub conn: ConnId,
    /// Not yet told that it is closed.
    pub broker_open: bool,
    pub client_open: bool,
    /// Bytes on the way to that side never arrive.
    pub cut_to_broker: bool,
    pub cut_to_client: bool,
    /// Arrived, and not yet taken as frames.
    received: BytesMut,
    /// Of what the broker sent, what a peer has not taken as frames.
    answered: BytesMut,
    /// The frame whose length was admitted.
    promised: Option<usize>,
    /// The broker said wait, and has not said resume.
    pub waits: bool,
    /// What the broker sent and the socket has not taken.
    unsent: BytesMut,
    pub drain_is_due: bool,
    /// The broker asked to close when everything is sent.
    pub closing: bool,
    taken_since_gone: usize,
    /// When the last piece sent arrives: the next may not overtake it.
    pub to_broker_at: u64,
    pub to_client_at: u64,
}

/// What the bytes received amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Nothing,
    /// The length of a frame, to be admitted.
    Length(usize),
    Frame(Bytes),
}

impl Link {
    pub fn new(by: End, at: Place, conn: ConnId, now: u64) -> Link {
        Link {
            by,
            at,
            conn,
            broker_open: true,
            client_open: true,
            cut_to_broker: false,
            cut_to_client: false,
            received: BytesMut::new(),
            answered: BytesMut::new(),
            promised: None,
            waits: false,
            unsent: BytesMut::new(),
            drain_is_due: false,
            closing: false,
            taken_since_gone: 0,
            to_broker_at: now,
            to_client_at: now,
        }
    }

    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole frame that the broker has sent to a peer.
    pub fn next_answer(&mut self, bytes: &[u8]) -> Option<Bytes> {
        self.answered.extend_from_slice(bytes);
        let length = u32::from_be_bytes(*self.answered.first_chunk()?) as usize;
        if self.answered.len() < 4 + length {
            return None;
        }
        self.answered.advance(4);
        Some(self.answered.split_to(length).freeze())
    }

    /// The nodes that a peer's connection is between: whose it is, and whom it leads to.
    pub fn nodes(&self) -> Option<(usize, usize)> {
        match self.by {
            End::Client(_) => None,
            End::Peer((from, _), _) => Some((from, self.at.0)),
        }
    }

    /// What the broker's reader can do next.
    pub fn next_received(&mut self) -> Received {
        if self.waits {
            return Received::Nothing;
        }
        match self.promised {
            None if self.received.len() >= 4 => {
                let length = u32::from_be_bytes(self.received[..4].try_into().expect("four bytes"));
                Received::Length(length as usize)
            }
            Some(length) if self.received.len() >= length => {
                self.promised = None;
                Received::Frame(self.received.split_to(length).freeze())
            }
            _ => Received::Nothing,
        }
    }

    /// The broker reads the frame whose length it was asked about.
    pub fn promise(&mut self, length: usize) {
        let _ = self.received.split_to(4);
        self.promised = Some(length);
    }

    pub fn queue(&mut self, data: &[Bytes]) {
        for slice in data {
            self.unsent.extend_from_slice(slice);
        }
    }

    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// The socket takes up to so many bytes: fewer when nobody reads at the other end.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        let mut bytes = bytes.min(self.unsent.len());
        if !self.client_open || self.cut_to_client {
            bytes = bytes.min(SOCKET_BYTES - self.taken_since_gone);
            self.taken_since_gone += bytes;
        }
        self.unsent.split_to(bytes).freeze()
    }

    pub fn drop_unsent(&mut self) {
        self.unsent.clear();
    }
}

#[derive(Default)]
pub struct Net {
    links: BTreeMap<LinkId, Link>,
    by_conn: BTreeMap<(Place, ConnId), LinkId>,
    by_peer: BTreeMap<(Place, PeerId), LinkId>,
    made: u64,
    nodes: usize,
    /// Nothing gets from the first to the second, for so many reasons.
    severed: BTreeMap<(usize, usize), u32>,
}

impl Net {
    pub fn new(nodes: usize) -> Net {
        Net { nodes, ..Net::default() }
    }

    pub fn connect(&mut self, by: End, to: Place, now: u64) -> LinkId {
        self.made += 1;
        let conn = ConnId(self.made);
        self.links.insert(self.made, Link::new(by, to, conn, now));
        self.by_conn.insert((to, conn), self.made);
        if let End::Peer(from, peer) = by {
            self.by_peer.insert((from, peer), self.made);
        }
        self.made
    }

    pub fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub fn by_conn(&self, at: Place, conn: ConnId) -> Option<LinkId> {
        self.by_conn.get(&(at, conn)).copied()
    }

    pub fn by_peer(&self, of: Place, peer: PeerId) -> Option<LinkId> {
        self.by_peer.get(&(of, peer)).copied()
    }

    /// Forgets a connection that both ends know is over.
    pub fn forget_if_over(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|link| !link.broker_open && !link.client_open) {
            let over = self.links.remove(&link).expect("just seen");
            self.by_conn.remove(&(over.at, over.conn));
            if let End::Peer(of, peer) = over.by {
                self.by_peer.remove(&(of, peer));
            }
        }
    }

    pub fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// Nothing gets from one node to the other at present.
    pub fn is_severed(&self, from: usize, to: usize) -> bool {
        self.severed.contains_key(&(from, to))
    }

    pub fn cut(&mut self, node: usize, cut: Cut) {
        for pair in self.pairs(node, cut) {
            *self.severed.entry(pair).or_default() += 1;
        }
    }

    pub fn mend(&mut self, node: usize, cut: Cut) {
        for pair in self.pairs(node, cut) {
            let Some(reasons) = self.severed.get_mut(&pair) else { continue };
            *reasons -= 1;
            if *reasons == 0 {
                self.severed.remove(&pair);
            }
        }
    }

    /// Every node reaches every other.
    pub fn heal(&mut self) {
        self.severed.clear();
    }

    fn pairs(&self, node: usize, cut: Cut) -> Vec<(usize, usize)> {
        let others = (0..self.nodes).filter(|other| *other != node && cut.with.is_none_or(|with| with == *other));
        let pairs = others.flat_map(|other| {
            let (outbound, inbound) = ((node, other), (other, node));
            [cut.outbound.then_some(outbound), cut.inbound.then_some(inbound)]
        });
        pairs.flatten().collect()
    }
}
