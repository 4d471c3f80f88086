//! The world's connections and datagrams: who is let in, what is on its way, and what becomes of it.

use bytes::Bytes;
use corelog::base::ids::{ConnId, PeerId};
use corelog::base::stage::Arrival;
use corelog::broker::effect::{Admission, Input, ListenerKind};
use corelog::config::Address;

use crate::client::Act;
use crate::net::{End, LinkId, Place, Received};
use crate::node::{Process, at_peer_address, client_address, peer_address};
use crate::plan::MS;
use crate::workload::{ADMIN, AUDITOR, Client};
use crate::world::{Event, World};

/// What is late takes so many times as long as others.
const LATE_TIMES: u64 = 30;

impl World {
    pub fn net_delay(&mut self) -> u64 {
        let base = 1 + self.rng.below(self.plan.net_us * 1000);
        if self.rng.below(100) == 0 { base * LATE_TIMES } else { base }
    }

    pub fn net_delay_max(&self) -> u64 {
        self.plan.net_us * 1000 * LATE_TIMES
    }

    pub fn act(&mut self, client: usize, act: Act) {
        match act {
            Act::Wake { at } => {
                let at = at.max(self.now);
                if self.wakes[client].insert(at) {
                    self.schedule_at(at, Event::Wake { client });
                }
            }
            Act::Connect { to } => self.connect(client, to),
            Act::Disconnect => {
                if let Some(link) = self.links[client] {
                    let delay = self.net_delay();
                    self.break_link(link, delay, 0);
                }
            }
            Act::Send(bytes) => {
                self.links[client].into_iter().for_each(|link| self.send_to_broker(link, bytes.clone()))
            }
        }
    }

    /// To that node's broker, or to any.
    fn connect(&mut self, client: usize, to: Option<usize>) {
        let delay = self.net_delay();
        let by = End::Client(client);
        let let_in = !self.auditing || client == AUDITOR || client == ADMIN;
        let node = to.unwrap_or_else(|| match self.nodes.len() {
            1 => 0,
            nodes => self.rng.below(nodes as u64) as usize,
        });
        if !self.is_serving(node) || !let_in {
            return self.schedule(delay, Event::Refused { by });
        }
        let core = self.rng.below(self.nodes[node].shards.len() as u64) as u16;
        let link = self.net.connect(by, (node, core), self.now);
        self.links[client] = Some(link);
        self.trace.note(self.now, "connect", &[client as u64, u64::from(core), link], &[]);
        self.open_link(link, ListenerKind::Shared, delay);
    }

    /// From a core of one broker to a core of another.
    pub fn open_peer(&mut self, from: Place, peer: PeerId, to: &Address) {
        let delay = self.net_delay();
        let by = End::Peer(from, peer);
        let listening = |node: &usize| self.nodes[*node].process != Process::Down;
        let at_peers = at_peer_address(to).filter(|(node, core)| {
            let there = self.nodes.get(*node).filter(|_| listening(node));
            there.is_some_and(|there| usize::from(*core) < there.shards.len())
        });
        // One that joins asks where clients do.
        let at_clients = (0..self.nodes.len()).find(|node| *to == client_address(*node) && self.is_serving(*node));
        let listener = if at_clients.is_some() { ListenerKind::Shared } else { ListenerKind::Peer };
        let at = at_clients.map(|node| (node, 0)).or(at_peers);
        let reaches = |to: usize| !self.net.is_severed(from.0, to) && !self.net.is_severed(to, from.0);
        let Some(at) = at.filter(|(node, _)| reaches(*node)) else {
            return self.schedule(delay, Event::Refused { by });
        };
        let link = self.net.connect(by, at, self.now);
        self.trace.note(self.now, "peer", &[from.0 as u64, at.0 as u64, link], &[]);
        self.open_link(link, listener, delay);
    }

    fn open_link(&mut self, id: LinkId, listener: ListenerKind, delay: u64) {
        let link = self.net.get_mut(id).expect("just made");
        link.to_client_at = link.to_client_at.max(self.now + delay);
        self.schedule(delay, Event::Connected { link: id });
        self.happen(Event::Accepted { link: id, listener });
    }

    fn accept(&mut self, id: LinkId, listener: ListenerKind) {
        let Some(link) = self.net.get_mut(id).filter(|link| link.broker_open) else { return };
        let ((node, core), conn) = (link.at, link.conn);
        self.input(node, core, Input::Opened { conn, listener, host: String::new(), port: 0 });
    }

    /// It may get lost, or come twice.
    pub fn send_datagram(&mut self, from: usize, to: &Address, data: Bytes) {
        let Some((to, _)) = at_peer_address(to).filter(|(node, _)| *node < self.nodes.len()) else { return };
        let copies = match self.rng.below(20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = self.net_delay();
            self.schedule(delay, Event::Datagram { from, to, data: data.clone() });
        }
    }

    /// All connections of a node whose process has ended.
    pub fn cut_links(&mut self, node: usize, cut_replies: bool) {
        for id in self.net.ids() {
            let link = self.net.get_mut(id).expect("it is there");
            if matches!(link.by, End::Peer((from, _), _) if from == node) {
                link.client_open = false;
                let hears_in = self.rng.below(self.plan.down_ms * MS / 2);
                self.break_link(id, hears_in, 0);
                continue;
            }
            if link.at.0 != node {
                continue;
            }
            let cut_to_client = cut_replies || self.rng.below(2) == 0;
            let learns_in = self.rng.below(self.plan.down_ms * MS / 2);
            let link = self.net.get_mut(id).expect("it is there");
            link.broker_open = false;
            link.cut_to_broker = true;
            link.cut_to_client |= cut_to_client;
            let at = link.to_client_at.max(self.now + learns_in);
            self.schedule_at(at, Event::ClientLearns { link: id });
        }
    }

    /// In up to three pieces, of which none overtakes another.
    pub fn send_to_broker(&mut self, id: LinkId, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let most = bytes.len() as u64;
            let cut = if self.rng.below(4) == 0 { 1 + self.rng.below(most) } else { most };
            let piece = bytes.split_to(cut as usize);
            let delay = self.net_delay();
            let Some(link) = self.net.get_mut(id) else { return };
            link.to_broker_at = link.to_broker_at.max(self.now + delay);
            let at = link.to_broker_at;
            self.schedule_at(at, Event::ToBroker { link: id, bytes: piece });
        }
    }

    pub fn with_link(&mut self, at: Place, conn: ConnId, call: impl FnOnce(&mut World, LinkId)) {
        if let Some(link) = self.net.by_conn(at, conn) {
            call(self, link);
        }
    }

    pub fn drain_soon(&mut self, id: LinkId) {
        let delay = 1 + self.rng.below(50_000);
        let Some(link) = self.net.get_mut(id) else { return };
        if !link.drain_is_due {
            link.drain_is_due = true;
            self.schedule(delay, Event::Drain { link: id });
        }
    }

    /// Nothing more goes through, some of what is on the way excepted; each side hears of it after its delay.
    pub fn break_link(&mut self, id: LinkId, broker_ns: u64, client_ns: u64) {
        let (cut_to_broker, cut_to_client) = (self.rng.below(2) == 0, self.rng.below(2) == 0);
        let Some(link) = self.net.get_mut(id) else { return };
        link.cut_to_broker |= cut_to_broker;
        link.cut_to_client |= cut_to_client;
        let broker_at = link.to_broker_at.max(self.now + broker_ns);
        let client_at = link.to_client_at.max(self.now + client_ns);
        self.schedule_at(broker_at, Event::BrokerLearns { link: id });
        self.schedule_at(client_at, Event::ClientLearns { link: id });
    }

    pub fn on_net_event(&mut self, event: Event) {
        match event {
            Event::Refused { by: End::Client(client) } => self.call(client, Client::on_closed),
            Event::Refused { by: End::Peer((node, core), peer) } => {
                self.input(node, core, Input::PeerClosed { peer, why: "refused".to_owned() });
            }
            Event::Connected { link } => {
                let Some(by) = self.net.get_mut(link).filter(|link| link.client_open).map(|link| link.by) else {
                    return;
                };
                match by {
                    End::Client(client) if self.links[client] == Some(link) => {
                        self.call(client, Client::on_connected);
                    }
                    End::Client(_) => {}
                    End::Peer((node, core), peer) => self.input(node, core, Input::PeerOpened { peer }),
                }
            }
            Event::Accepted { link, listener } => self.accept(link, listener),
            Event::Datagram { from, to, data } => {
                self.trace.note(self.now, "datagram", &[from as u64, to as u64], &data);
                if !self.net.is_severed(from, to) {
                    self.input(to, 0, Input::Datagram { from: peer_address(from), data });
                }
            }
            Event::ToBroker { link, bytes } => {
                self.trace.note(self.now, "to broker", &[link], &bytes);
                self.lose_if_severed(link);
                let Some(found) = self.net.get_mut(link).filter(|link| link.broker_open && !link.cut_to_broker) else {
                    return;
                };
                found.on_bytes(&bytes);
                self.read_frames(link);
            }
            Event::Drain { link } => self.drain(link),
            Event::ToClient { link, bytes } => {
                self.trace.note(self.now, "to client", &[link], &bytes);
                self.lose_if_severed(link);
                let Some(found) = self.net.get_mut(link).filter(|link| link.client_open && !link.cut_to_client) else {
                    return;
                };
                match found.by {
                    End::Client(client) if self.links[client] == Some(link) => {
                        self.call(client, |client, context| client.on_bytes(&bytes, context));
                    }
                    End::Client(_) => {}
                    End::Peer(of, peer) => self.read_answers(link, of, peer, &bytes),
                }
            }
            Event::BrokerLearns { link } => {
                let Some(found) = self.net.get_mut(link).filter(|link| link.broker_open) else { return };
                found.broker_open = false;
                let ((node, core), conn) = (found.at, found.conn);
                self.trace.note(self.now, "closed", &[link], &[]);
                self.input(node, core, Input::Closed { conn });
                self.net.forget_if_over(link);
            }
            Event::ClientLearns { link } => self.on_client_learns(link),
            _ => unreachable!("the others are no events of the network"),
        }
    }

    fn on_client_learns(&mut self, link: LinkId) {
        let Some(found) = self.net.get_mut(link).filter(|link| link.client_open) else { return };
        found.client_open = false;
        let by = found.by;
        self.trace.note(self.now, "gone", &[link], &[]);
        match by {
            End::Client(client) if self.links[client] == Some(link) => {
                self.links[client] = None;
                self.call(client, Client::on_closed);
            }
            End::Client(_) => {}
            End::Peer((node, core), peer) => {
                self.input(node, core, Input::PeerClosed { peer, why: "closed".to_owned() });
            }
        }
        self.net.forget_if_over(link);
    }

    /// A stream that has lost a piece brings nothing more, and nobody is told.
    fn lose_if_severed(&mut self, id: LinkId) {
        let Some((from, to)) = self.net.get_mut(id).and_then(|link| link.nodes()) else { return };
        let (to_broker, to_client) = (self.net.is_severed(from, to), self.net.is_severed(to, from));
        let link = self.net.get_mut(id).expect("just found");
        link.cut_to_broker |= to_broker;
        link.cut_to_client |= to_client;
    }

    fn read_answers(&mut self, id: LinkId, (node, core): Place, peer: PeerId, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some(frame) = self.net.get_mut(id).filter(|link| link.client_open).and_then(|l| l.next_answer(bytes))
        {
            bytes = &[];
            let arrival = Arrival::at(self.shard_now(node).mono);
            self.input(node, core, Input::PeerFrame { peer, frame, arrival });
        }
    }

    fn read_frames(&mut self, id: LinkId) {
        loop {
            let Some(link) = self.net.get_mut(id).filter(|link| link.broker_open) else { return };
            let ((node, core), conn) = (link.at, link.conn);
            match link.next_received() {
                Received::Nothing => return,
                Received::Length(length) => {
                    let admission = self.nodes[node].shards[usize::from(core)].admit(conn, length);
                    let link = self.net.get_mut(id).expect("just seen");
                    match admission {
                        Admission::Read => link.promise(length),
                        Admission::Wait => link.waits = true,
                        Admission::Refuse => return self.break_link(id, 0, 0),
                    }
                }
                Received::Frame(frame) => {
                    let arrival = Arrival::at(self.shard_now(node).mono);
                    self.input(node, core, Input::Frame { conn, frame, arrival });
                }
            }
        }
    }

    fn drain(&mut self, id: LinkId) {
        let most = 1 + self.rng.below(1 << 20) as usize;
        let delay = self.net_delay();
        let Some(link) = self.net.get_mut(id).filter(|link| link.broker_open) else { return };
        link.drain_is_due = false;
        let bytes = link.take(most);
        let ((node, core), conn, left, closing) = (link.at, link.conn, link.unsent_bytes(), link.closing);
        if !bytes.is_empty() {
            link.to_client_at = link.to_client_at.max(self.now + delay);
            let at = link.to_client_at;
            self.schedule_at(at, Event::ToClient { link: id, bytes: bytes.clone() });
            let began = self.shard_now(node).mono;
            self.input(node, core, Input::Drained { conn, bytes: bytes.len(), began });
            if left > 0 {
                self.drain_soon(id);
            }
        }
        if closing && left == 0 {
            let at = self.net.get_mut(id).map_or(self.now, |link| link.to_client_at);
            self.schedule(0, Event::BrokerLearns { link: id });
            self.schedule_at(at, Event::ClientLearns { link: id });
        }
    }
}
