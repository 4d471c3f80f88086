//! Connections: a stream of bytes each way, delayed, cut into pieces, and lost at any point.
//!
//! The two ends learn of the loss by themselves, and the broker's perhaps long after its client is gone.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use corelog::base::ids::ConnId;

/// Bytes the sockets on the way take before a client that is gone would have to read some.
const SOCKET_BYTES: usize = 64 << 10;

pub type LinkId = u64;

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub client: usize,
    pub core: u16,
    pub conn: ConnId,
    /// Not yet told that it is closed.
    pub broker_open: bool,
    pub client_open: bool,
    /// Bytes on the way to that side never arrive.
    pub cut_to_broker: bool,
    pub cut_to_client: bool,
    /// Arrived, and not yet taken as frames.
    received: BytesMut,
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
    pub fn new(client: usize, core: u16, conn: ConnId, at: u64) -> Link {
        Link {
            client,
            core,
            conn,
            broker_open: true,
            client_open: true,
            cut_to_broker: false,
            cut_to_client: false,
            received: BytesMut::new(),
            promised: None,
            waits: false,
            unsent: BytesMut::new(),
            drain_is_due: false,
            closing: false,
            taken_since_gone: 0,
            to_broker_at: at,
            to_client_at: at,
        }
    }

    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
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
    by_conn: BTreeMap<(u16, ConnId), LinkId>,
    made: u64,
}

impl Net {
    pub fn connect(&mut self, client: usize, core: u16, at: u64) -> LinkId {
        self.made += 1;
        let conn = ConnId(self.made);
        self.links.insert(self.made, Link::new(client, core, conn, at));
        self.by_conn.insert((core, conn), self.made);
        self.made
    }

    pub fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub fn by_conn(&self, core: u16, conn: ConnId) -> Option<LinkId> {
        self.by_conn.get(&(core, conn)).copied()
    }

    /// Forgets a connection that both ends know is over.
    pub fn forget_if_over(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|link| !link.broker_open && !link.client_open) {
            let over = self.links.remove(&link).expect("just seen");
            self.by_conn.remove(&(over.core, over.conn));
        }
    }

    pub fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }
}
