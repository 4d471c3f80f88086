//! Several brokers in one thread, with a network between them that carries everything at once, unless one is down.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::base::ids::{ConnId, Incarnation, PeerId};
use corelog::base::stage::Arrival;
use corelog::base::time::Now;
use corelog::broker::api::key;
use corelog::broker::effect::{Admission, Effect, Input, ListenerKind};
use corelog::broker::shard::{Listeners, Shard};
use corelog::config::{Address, Settings};
use corelog::wire::codec::Message;
use corelog::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionData, PartitionRequest, TopicRequest,
};

use super::{Client, MemDisk, NOW_MS, World};

const CORES: u16 = 2;

/// Broker N has its listeners at these ports, of host `node-N`.
const SHARED_PORT: u16 = 9092;
const PEER_PORT: u16 = 19092;

/// A connection: the broker, core and id of the side that made it, and the other side's.
struct Link {
    from: (i32, u16, PeerId),
    to: (i32, Client),
}

pub struct Cluster {
    pub nodes: BTreeMap<i32, World>,
    /// Disks of brokers that are down.
    disks: BTreeMap<i32, MemDisk>,
    links: Vec<Link>,
    now: Now,
    starts: u8,
    conn_next: u64,
    /// Brokers that do nothing, though nothing tells others so.
    pub hung: BTreeSet<i32>,
    /// Where a broker has its listener for others, if not at [`PEER_PORT`].
    pub peer_ports: BTreeMap<i32, u16>,
    /// The next answer of this broker to another with these bytes in it is lost, and the connection with it.
    pub losing: Option<(i32, &'static [u8])>,
    /// Brokers that may say that they cannot go on.
    pub may_fail: BTreeSet<i32>,
    /// Brokers whose connections to others carry nothing.
    pub unlinked: BTreeSet<i32>,
    /// Whether datagrams arrive.
    pub datagrams: bool,
}

fn address(node: i32, port: u16) -> Address {
    Address { host: format!("node-{node}"), port }
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            links: Vec::new(),
            now: Now { wall_ms: NOW_MS, ..Now::default() },
            starts: 0,
            conn_next: 1 << 32,
            peer_ports: BTreeMap::new(),
            may_fail: BTreeSet::new(),
            losing: None,
            hung: BTreeSet::new(),
            unlinked: BTreeSet::new(),
            datagrams: true,
        }
    }

    /// Broker 1 founds a cluster, and the others join it.
    pub fn of(count: i32) -> Cluster {
        let mut cluster = Cluster::new();
        cluster.start(1, Settings::default());
        for node in 2..=count {
            cluster.start(node, Cluster::joining(&[1]));
        }
        cluster.until("all are ready", |cluster| {
            cluster.nodes.values().all(|world| world.ready.len() == usize::from(CORES))
        });
        cluster
    }

    pub fn joining(seeds: &[i32]) -> Settings {
        let seeds = seeds.iter().map(|node| address(*node, SHARED_PORT)).collect();
        Settings { seeds, ..Settings::default() }
    }

    /// Starts a broker on the disk it had.
    pub fn start(&mut self, node: i32, settings: Settings) {
        self.starts += 1;
        let listeners =
            Listeners { shared: address(node, SHARED_PORT), per_core: Vec::new(), peer: Some(self.peer_address(node)) };
        let disk = self.disks.remove(&node).unwrap_or_default();
        let settings = Settings { node_id: node, ..settings };
        let mut world = World::boot(CORES, settings, listeners, Incarnation([self.starts; 16]), disk);
        world.now = self.now;
        world.may_fail = self.may_fail.contains(&node);
        assert!(self.nodes.insert(node, world).is_none(), "it is down");
        self.run();
    }

    /// The broker is gone at once.
    pub fn kill(&mut self, node: i32) {
        let world = self.nodes.remove(&node).expect("it is up");
        self.disks.insert(node, world.disk);
        for link in std::mem::take(&mut self.links) {
            let Link { from: (from, core, peer), to: (to, client) } = link;
            if from == node && to != node {
                self.step(to, client.core, Input::Closed { conn: client.conn });
            } else if to == node && from != node {
                self.step(from, core, Input::PeerClosed { peer, why: "killed".into() });
            } else {
                self.links.push(Link { from: (from, core, peer), to: (to, client) });
            }
        }
        self.run();
    }

    fn peer_address(&self, node: i32) -> Address {
        address(node, self.peer_ports.get(&node).copied().unwrap_or(PEER_PORT))
    }

    pub fn takes_clients(&self, node: i32) -> bool {
        self.nodes[&node].ready.len() == usize::from(CORES)
    }

    /// The directory of a broker that is down is gone.
    pub fn lose_disk(&mut self, node: i32) {
        assert!(self.disks.remove(&node).is_some(), "it is down");
    }

    pub fn connect(&mut self, node: i32) -> (i32, Client) {
        let world = self.nodes.get_mut(&node).expect("it is up");
        (node, world.connect(node as u16 % CORES, ListenerKind::Shared))
    }

    /// Lets all that can happen at once happen.
    pub fn run(&mut self) {
        loop {
            let hung = self.hung.clone();
            let awake = self.nodes.iter_mut().filter(|(node, _)| !hung.contains(node));
            awake.for_each(|(_, world)| world.run());
            let next = self.nodes.iter_mut().find_map(|(node, world)| Some((*node, world.peer_effects.pop_front()?)));
            match next {
                Some((node, (core, effect))) => self.carry_out(node, core, effect),
                None if self.carry_answers() => {}
                None => return,
            }
        }
    }

    pub fn advance_ms(&mut self, ms: u64) {
        let end = self.now.mono.after_ms(ms);
        loop {
            let awake = self.nodes.iter().filter(|(node, _)| !self.hung.contains(node));
            let due = awake.flat_map(|(_, world)| &world.shards).filter_map(Shard::next_deadline).min();
            let next = due.filter(|due| *due <= end).unwrap_or(end).max(self.now.mono);
            self.now.wall_ms += (next.since_ns(self.now.mono) / 1_000_000) as i64;
            self.now.mono = next;
            let hung = self.hung.clone();
            for (_, world) in self.nodes.iter_mut().filter(|(node, _)| !hung.contains(node)) {
                world.now = self.now;
                (0..CORES).for_each(|core| world.step(core, Input::Timeout));
            }
            self.run();
            if due.is_none_or(|due| due > end) {
                return;
            }
        }
    }

    /// Lets time pass until something is so; answers how long that took.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Cluster) -> bool) -> u64 {
        for ms in (0..20_000).step_by(20) {
            if is_so(self) {
                return ms;
            }
            self.advance_ms(20);
        }
        panic!("it never came to this: {what}");
    }

    fn step(&mut self, node: i32, core: u16, input: Input) {
        self.nodes.get_mut(&node).expect("it is up").step(core, input);
    }

    fn carry_out(&mut self, node: i32, core: u16, effect: Effect) {
        match effect {
            Effect::PeerOpen { peer, to } => self.open(node, core, peer, &to),
            Effect::PeerSend { peer, data } => {
                let Some(link) = self.links.iter().find(|link| link.from == (node, core, peer)) else { return };
                let (to, client) = link.to;
                if self.unlinked.contains(&node) || self.unlinked.contains(&to) {
                    return;
                }
                let mut bytes = Bytes::from(data.concat());
                while !bytes.is_empty() {
                    let length = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
                    let frame = bytes.split_to(4 + length).slice(4..);
                    let world = self.nodes.get_mut(&to).expect("links of those that are down are gone");
                    let admission = world.shards[usize::from(client.core)].admit(client.conn, frame.len());
                    if admission != Admission::Read {
                        // The other side has closed it, and this one is about to hear of that.
                        assert!(world.closed.contains(&client));
                        return;
                    }
                    let arrival = Arrival::at(self.now.mono);
                    world.step(client.core, Input::Frame { conn: client.conn, frame, arrival });
                }
            }
            Effect::PeerClose { peer } => {
                let Some(at) = self.links.iter().position(|link| link.from == (node, core, peer)) else { return };
                let (to, client) = self.links.remove(at).to;
                self.step(to, client.core, Input::Closed { conn: client.conn });
            }
            Effect::Datagram { to, data } if self.datagrams => {
                let other = self.nodes.keys().copied().find(|other| to == self.peer_address(*other));
                if let Some(other) = other.filter(|other| !self.hung.contains(other)) {
                    self.step(other, 0, Input::Datagram { from: self.peer_address(node), data });
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, node: i32, core: u16, peer: PeerId, to: &Address) {
        let is_client = to.port == SHARED_PORT;
        let listens = |other: &i32| to.host == format!("node-{other}") && (!is_client || self.takes_clients(*other));
        let other = self.nodes.keys().copied().find(listens);
        let Some(other) = other else {
            return self.step(node, core, Input::PeerClosed { peer, why: "nobody is there".into() });
        };
        self.conn_next += 1;
        let to_core = if is_client { 0 } else { to.port - self.peer_address(other).port };
        let client = Client { core: to_core, conn: ConnId(self.conn_next) };
        self.links.push(Link { from: (node, core, peer), to: (other, client) });
        let listener = if is_client { ListenerKind::Shared } else { ListenerKind::Peer };
        let host = format!("node-{node}");
        self.step(other, client.core, Input::Opened { conn: client.conn, listener, host, port: 1 });
        self.step(node, core, Input::PeerOpened { peer });
    }

    /// What brokers answered to others, and connections they closed.
    fn carry_answers(&mut self) -> bool {
        let mut inputs = Vec::new();
        let mut closed = BTreeSet::new();
        for (index, Link { from, to: (to, client) }) in self.links.iter().enumerate() {
            let world = self.nodes.get_mut(to).expect("links of those that are down are gone");
            while let Some(frame) = world.reply_frame(*client) {
                if self.losing.take_if(|(node, part)| *node == *to && holds(&frame, part)).is_some() {
                    inputs.push((*from, None));
                    closed.insert(index);
                    break;
                }
                inputs.push((*from, Some(frame)));
            }
            if world.closed.contains(client) {
                inputs.push((*from, None));
                closed.insert(index);
            }
        }
        for index in closed.into_iter().rev() {
            self.links.remove(index);
        }
        let any = !inputs.is_empty();
        for ((node, core, peer), frame) in inputs {
            let arrival = Arrival::at(self.now.mono);
            let input = match frame {
                Some(frame) => Input::PeerFrame { peer, frame, arrival },
                None => Input::PeerClosed { peer, why: "closed".into() },
            };
            self.step(node, core, input);
        }
        any
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Asks a broker, and waits for the answer.
pub fn ask<Q: Message, R: Message>(cluster: &mut Cluster, node: i32, api_key: i16, version: i16, request: &Q) -> R {
    let asked = send(cluster, node, api_key, version, request);
    answer(cluster, asked, api_key, version)
}

/// Asks a broker; [`answer`] waits for the answer.
pub fn send<Q: Message>(cluster: &mut Cluster, node: i32, api_key: i16, version: i16, request: &Q) -> (i32, Client) {
    let (node, client) = cluster.connect(node);
    cluster.nodes.get_mut(&node).expect("it is up").send(client, api_key, version, request);
    (node, client)
}

pub fn answer<R: Message>(cluster: &mut Cluster, (node, client): (i32, Client), api_key: i16, version: i16) -> R {
    let mut reply = None;
    cluster.until("an answer", |cluster| {
        cluster.run();
        reply = cluster.nodes.get_mut(&node).expect("it is up").reply(client, api_key, version);
        reply.is_some()
    });
    reply.expect("just seen")
}

pub fn quorum(cluster: &mut Cluster, node: i32) -> PartitionData {
    let partitions = vec![PartitionRequest { partition_index: 0 }];
    let topics = vec![TopicRequest { topic_name: "__cluster_metadata".into(), partitions }];
    let request = DescribeQuorumRequest { topics };
    let reply: DescribeQuorumResponse = ask(cluster, node, key::DESCRIBE_QUORUM, 0, &request);
    reply.topics[0].partitions[0].clone()
}

/// Who decides on metadata, as a broker knows it.
pub fn voters(cluster: &mut Cluster, node: i32) -> Vec<i32> {
    let mut ids: Vec<i32> = quorum(cluster, node).current_voters.iter().map(|voter| voter.replica_id).collect();
    ids.sort_unstable();
    ids
}

/// A majority is known only then.
pub fn wait_for_voters(cluster: &mut Cluster, node: i32, expect: &[i32]) {
    cluster.until("these vote", |cluster| voters(cluster, node) == expect);
}
