//! Calls to other brokers: who is connected to, what was asked and not answered, and who gets the answers.
//!
//! A core has up to two connections to each core of another broker, one for what must be quick and one for records, so
//! that no heartbeat waits behind a fetch. They are made when something is asked, begin with the greeting, and answers
//! come in the order of the questions. What fails is told to whoever asked, at once, and is theirs to ask again; a
//! broker that could not be reached is left alone for a while, and what is asked of it meanwhile fails.
//!
//! *Owns*: the connections this core has made, and their calls. *Never*: asks anything of its own but the greeting.
//! *Runs on*: every core, for its own calls.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;

use crate::base::ids::{CoreId, NodeId, PartitionEpoch, PeerId};
use crate::base::limits;
use crate::base::slab::{Key, Slab};
use crate::base::time::{Instant, Now};
use crate::broker::api;
use crate::broker::effect::{Effect, Effects};
use crate::broker::greeting::{Greeter, Myself, Next};
use crate::broker::message::TopicPartition;
use crate::broker::replicas::LeaderCore;
use crate::broker::shard::{DeadlineKey, Shard, Todo};
use crate::config::Address;
use crate::wire::codec::Message;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::messages::peer_hello::{self, PeerHelloResponse};
use crate::wire::text::Text;

/// Who is asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerTo {
    /// A core of a broker whose address is known ([`Shard::meet_node`]).
    Node(NodeId, CoreId),
    /// Whichever broker has its listener for brokers there.
    Address(Address),
    /// Whoever serves clients there: a broker of any kind. It is not greeted, and left when it has answered.
    Seed(Address),
}

/// Who asks, and gets the answer: one row for each user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerCall {
    /// Messages of the metadata quorum to a node. They answer each other; this answer says only that they have come.
    Quorum(NodeId),
    /// Metadata that this broker lacks, of whoever is named.
    MetaPull(PeerTo),
    /// Which cluster a seed is of, and where its listener for brokers is.
    Seed(usize),
    /// This broker registers, with the controller or through a seed.
    Register,
    Heartbeat,
    /// In-sync sets proposed for partitions in their states of these epochs.
    AlterPartition(Vec<(TopicPartition, PartitionEpoch)>),
    /// A registration of another broker that is passed on.
    PassOn(Key),
    /// A client's request, in an envelope.
    Forward(Key),
    /// What a core ordered: producer ids, or topics.
    ProducerIds(CoreId, Key),
    Topics(CoreId, Key),
    /// A fetch of this core's followers.
    Fetch(LeaderCore),
}

/// Which of the connections to another core a call takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lane {
    Quick,
    Records,
}

impl PeerCall {
    fn lane(&self) -> Lane {
        match self {
            PeerCall::Fetch(_) => Lane::Records,
            _ => Lane::Quick,
        }
    }

    /// How long the answer may take. A connection that owes one for longer is closed.
    fn timeout_ms(&self) -> u64 {
        match self {
            PeerCall::Fetch(_) => limits::REPLICA_FETCH_CALL_MS,
            PeerCall::Seed(_) => limits::PEER_GREETING_MS,
            PeerCall::Quorum(_) | PeerCall::MetaPull(_) => limits::PEER_CALL_MS,
            PeerCall::Register | PeerCall::Heartbeat => limits::PEER_CALL_MS,
            PeerCall::AlterPartition(_) | PeerCall::PassOn(_) | PeerCall::ProducerIds(..) => limits::PEER_CALL_MS,
            PeerCall::Forward(_) | PeerCall::Topics(..) => limits::FORWARD_MS,
        }
    }
}

/// An answer, as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAnswer {
    api_key: i16,
    version: i16,
    frame: Bytes,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerError {
    /// The call was not sent: the other side could not be reached a moment ago, and is left alone for a while.
    LeftAlone,
    /// The call was not sent.
    Unreachable(String),
    /// The call was sent, and may have been served.
    Lost(String),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::LeftAlone => f.write_str("it could not be reached a moment ago"),
            PeerError::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            PeerError::Lost(why) => write!(f, "its answer is lost: {why}"),
        }
    }
}

impl PeerAnswer {
    /// Errors: what came is no such message.
    pub fn decode<M: Message>(self) -> Result<M, PeerError> {
        let reply = frame::decode_reply(self.api_key, self.version, self.frame);
        reply.map(|(_, body)| body).map_err(|error| PeerError::Lost(format!("it is no {} reply: {error}", M::API.name)))
    }
}

/// The connections of one core to other brokers.
#[derive(Debug, Default)]
pub struct Peers {
    links: Slab<Link>,
    by_to: BTreeMap<(PeerTo, Lane), Key>,
    by_peer: BTreeMap<PeerId, Key>,
    /// Where core 0 of each known broker listens.
    addresses: BTreeMap<NodeId, Address>,
    /// The cluster that this broker was told it joins, until its own metadata say so.
    joining: Text,
    peer_next: u64,
}

#[derive(Debug)]
struct Link {
    to: PeerTo,
    lane: Lane,
    state: State,
    correlation_next: i32,
    /// In the order they were asked, which is that of their answers.
    calls: VecDeque<Call>,
    /// Attempts that have failed since the last greeting that did not.
    failures: u32,
    /// What the deadline of this link is set to.
    due: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked anything since the connection was closed.
    Closed,
    /// Left alone for a while.
    Resting {
        until: Instant,
    },
    Connecting {
        peer: PeerId,
        until: Instant,
    },
    Greeting {
        peer: PeerId,
        until: Instant,
        greeter: Greeter,
    },
    Open {
        peer: PeerId,
    },
}

#[derive(Debug)]
struct Call {
    call: PeerCall,
    correlation_id: i32,
    api_key: i16,
    version: i16,
    until: Instant,
    /// Waits for the greeting.
    unsent: Option<Vec<Bytes>>,
}

impl State {
    fn peer(&self) -> Option<PeerId> {
        match self {
            State::Closed | State::Resting { .. } => None,
            State::Connecting { peer, .. } | State::Greeting { peer, .. } | State::Open { peer } => Some(*peer),
        }
    }
}

impl Link {
    /// When something of it is too late.
    fn deadline(&self) -> Option<Instant> {
        let greeting = match &self.state {
            State::Connecting { until, .. } | State::Greeting { until, .. } => Some(*until),
            State::Closed | State::Resting { .. } | State::Open { .. } => None,
        };
        self.calls.iter().map(|call| call.until).chain(greeting).min()
    }

    /// Whoever is there takes calls.
    fn open(&mut self, peer: PeerId, effects: &mut Effects) {
        self.failures = 0;
        self.state = State::Open { peer };
        let data: Vec<Bytes> = self.calls.iter_mut().filter_map(|call| call.unsent.take()).flatten().collect();
        if !data.is_empty() {
            effects.push(Effect::PeerSend { peer, data });
        }
    }
}

impl Peers {
    fn address(&self, to: &PeerTo) -> Result<Address, String> {
        match to {
            PeerTo::Address(address) | PeerTo::Seed(address) => Ok(address.clone()),
            PeerTo::Node(node, core) => {
                let first = self.addresses.get(node).ok_or_else(|| format!("node {node} is not known"))?;
                let port = first.port.checked_add(core.0).ok_or("it has no such core")?;
                Ok(Address { host: first.host.clone(), port })
            }
        }
    }

    fn link(&mut self, to: PeerTo, lane: Lane) -> Key {
        let links = &mut self.links;
        *self.by_to.entry((to, lane)).or_insert_with_key(|(to, lane)| {
            let (to, calls) = (to.clone(), VecDeque::new());
            let state = State::Closed;
            links.insert(Link { to, lane: *lane, state, correlation_next: 0, calls, failures: 0, due: None })
        })
    }
}

impl Shard {
    /// This broker, as it shows itself to others.
    pub(in crate::broker) fn myself(&self) -> Myself<'_> {
        let known = self.image.cluster_id();
        Myself {
            cluster_id: if known.is_empty() { self.peers.joining.as_str() } else { known },
            node: NodeId(self.config.settings.node_id),
            incarnation: self.config.incarnation,
            cores: self.config.cores,
            key: self.config.peer_key.as_ref(),
        }
    }

    /// Where core 0 of a broker listens for others. Connections to another place are closed.
    pub fn meet_node(&mut self, node: NodeId, address: Address, now: Now, effects: &mut Effects) {
        if self.peers.addresses.get(&node) != Some(&address) {
            self.forget_node(node, now, effects);
            self.peers.addresses.insert(node, address);
        }
    }

    /// The broker is not one of the cluster any more.
    pub fn forget_node(&mut self, node: NodeId, now: Now, effects: &mut Effects) {
        self.peers.addresses.remove(&node);
        self.forget_links(|to| matches!(to, PeerTo::Node(of, _) if *of == node), now, effects);
    }

    /// Connections to these are not made again, unless they are asked for.
    pub(in crate::broker) fn forget_links(
        &mut self,
        is_gone: impl Fn(&PeerTo) -> bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let gone = self.peers.by_to.iter().filter(|((to, _), _)| is_gone(to));
        let links: Vec<Key> = gone.map(|(_, link)| *link).collect();
        for key in links {
            self.give_up(key, "its address has changed", now, effects);
            if let Some(link) = self.peers.links.remove(key) {
                self.peers.by_to.remove(&(link.to, link.lane));
                if let Some(due) = link.due {
                    self.deadlines.clear(due, DeadlineKey::Peer(key));
                }
            }
        }
    }

    /// Asks another broker. The answer, or why there is none, comes to `on_peer_answer`, never before this returns.
    pub fn ask_peer<M: Message>(
        &mut self,
        to: PeerTo,
        call: PeerCall,
        version: i16,
        body: &M,
        now: Now,
        effects: &mut Effects,
    ) {
        let key = self.peers.link(to, call.lane());
        let link = self.peers.links.get_mut(key).expect("just found");
        let resting = matches!(link.state, State::Resting { until } if now.mono < until);
        if resting || link.calls.len() >= limits::PEER_CALLS_MAX {
            let owes = || PeerError::Unreachable("it owes too many answers".to_owned());
            let answer = Err(if resting { PeerError::LeftAlone } else { owes() });
            return self.todo.push_back(Todo::PeerAnswer { call, answer });
        }
        let correlation_id = link.correlation_next;
        link.correlation_next = correlation_id.wrapping_add(1);
        let header = RequestHeader { api_key: M::API.key, version, correlation_id, client_id: None };
        let data = frame::encode_request(&header, body);
        let until = now.mono.after_ms(call.timeout_ms());
        let unsent = match link.state {
            State::Open { peer } => {
                effects.push(Effect::PeerSend { peer, data });
                None
            }
            _ => Some(data),
        };
        link.calls.push_back(Call { call, correlation_id, api_key: M::API.key, version, until, unsent });
        if link.state.peer().is_none() {
            self.connect(key, now, effects);
        }
        self.watch_link(key);
    }

    pub(in crate::broker) fn on_peer_opened(&mut self, peer: PeerId, now: Now, effects: &mut Effects) {
        let Some(key) = self.peers.by_peer.get(&peer).copied() else { return };
        let link = self.peers.links.get_mut(key).expect("it has a connection");
        if matches!(link.to, PeerTo::Seed(_)) {
            return link.open(peer, effects);
        }
        let mut rng = self.rng.clone();
        let greeter = Greeter::new(self.myself(), self.core(), &mut rng);
        self.rng = rng;
        effects.push(say_hello(peer, &greeter));
        let link = self.peers.links.get_mut(key).expect("it has a connection");
        link.state = State::Greeting { peer, until: now.mono.after_ms(limits::PEER_GREETING_MS), greeter };
        self.watch_link(key);
    }

    pub(in crate::broker) fn on_peer_frame(&mut self, peer: PeerId, frame: Bytes, now: Now, effects: &mut Effects) {
        let Some(key) = self.peers.by_peer.get(&peer).copied() else { return };
        let link = self.peers.links.get_mut(key).expect("it has a connection");
        let done = match &link.state {
            State::Greeting { .. } => self.on_greeted(key, frame, effects),
            State::Open { .. } => match take_answer(&mut link.calls, frame) {
                Ok((call, answer)) => {
                    self.todo.push_back(Todo::PeerAnswer { call, answer: Ok(answer) });
                    if matches!(link.to, PeerTo::Seed(_)) && link.calls.is_empty() {
                        link.state = State::Closed;
                        self.peers.by_peer.remove(&peer);
                        effects.push(Effect::PeerClose { peer });
                    }
                    Ok(())
                }
                Err(why) => Err(why),
            },
            State::Closed | State::Resting { .. } | State::Connecting { .. } => Err("it speaks first".to_owned()),
        };
        if let Err(why) = done {
            self.give_up(key, &why, now, effects);
        }
    }

    pub(in crate::broker) fn on_peer_closed(&mut self, peer: PeerId, why: &str, now: Now, effects: &mut Effects) {
        if let Some(key) = self.peers.by_peer.get(&peer).copied() {
            self.give_up(key, why, now, effects);
        }
    }

    pub(in crate::broker) fn on_peer_due(&mut self, key: Key, now: Now, effects: &mut Effects) {
        let Some(link) = self.peers.links.get_mut(key) else { return };
        link.due = None;
        if link.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.give_up(key, "it does not answer in time", now, effects);
        }
        self.watch_link(key);
    }

    pub(in crate::broker) fn on_peer_answer(
        &mut self,
        call: PeerCall,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        match call {
            PeerCall::Fetch(leader) => self.on_replica_fetched(leader, answer, now, effects),
            PeerCall::Quorum(_) | PeerCall::Register | PeerCall::Heartbeat | PeerCall::AlterPartition(_) => {
                self.on_member_answer(call, answer, now, effects);
            }
            PeerCall::MetaPull(from) => self.on_pulled(from, answer, now, effects),
            PeerCall::Seed(at) => self.on_seed_answer(at, answer, now, effects),
            PeerCall::PassOn(job) => api::broker_lifecycle::on_passed_on(self, job, answer, effects),
            PeerCall::Forward(job) => self.on_forwarded(job, answer, now, effects),
            PeerCall::ProducerIds(..) | PeerCall::Topics(..) => self.on_order_forwarded(call, answer, effects),
        }
    }

    fn connect(&mut self, key: Key, now: Now, effects: &mut Effects) {
        let link = self.peers.links.get(key).expect("whoever asks has one");
        let to = match self.peers.address(&link.to) {
            Ok(to) => to,
            Err(why) => return self.give_up(key, &why, now, effects),
        };
        let peer = PeerId(self.peers.peer_next);
        self.peers.peer_next += 1;
        self.peers.by_peer.insert(peer, key);
        let link = self.peers.links.get_mut(key).expect("just seen");
        link.state = State::Connecting { peer, until: now.mono.after_ms(limits::PEER_GREETING_MS) };
        effects.push(Effect::PeerOpen { peer, to });
    }

    /// An answer to a hello.
    fn on_greeted(&mut self, key: Key, frame: Bytes, effects: &mut Effects) -> Result<(), String> {
        let (_, answer): (i32, PeerHelloResponse) =
            frame::decode_reply(peer_hello::API.key, 0, frame).map_err(|error| format!("PeerHello reply: {error}"))?;
        let link = self.peers.links.get(key).expect("it has a connection");
        let State::Greeting { peer, greeter, .. } = &link.state else { unreachable!("the caller has looked") };
        let (peer, mut greeter) = (*peer, greeter.clone());
        let wanted = match link.to {
            PeerTo::Node(node, _) => Some(node),
            PeerTo::Address(_) | PeerTo::Seed(_) => None,
        };
        let next = greeter.on_answer(self.myself(), wanted, &answer)?;
        if let Next::Go(host) = &next
            && self.myself().cluster_id.is_empty()
        {
            self.peers.joining = host.cluster_id.clone();
        }
        let link = self.peers.links.get_mut(key).expect("just seen");
        match next {
            Next::SayAgain => {
                effects.push(say_hello(peer, &greeter));
                if let State::Greeting { greeter: said, .. } = &mut link.state {
                    *said = greeter;
                }
            }
            Next::Go(_) => link.open(peer, effects),
        }
        Ok(())
    }

    /// Closes the connection, tells everybody who waits for it, and leaves the broker alone for a while.
    fn give_up(&mut self, key: Key, why: &str, now: Now, effects: &mut Effects) {
        let link = self.peers.links.get_mut(key).expect("the caller has looked");
        // Whoever asks a seed says what came of it.
        if link.failures == 0 && !matches!(link.to, PeerTo::Seed(_)) {
            tracing::warn!("the connection to {} is lost: {why}", link.to);
        } else {
            tracing::debug!("no connection to {}: {why}", link.to);
        }
        if let Some(peer) = link.state.peer() {
            self.peers.by_peer.remove(&peer);
            effects.push(Effect::PeerClose { peer });
        }
        // Half of it by chance, so that not all brokers come at once to one that starts.
        let most = (limits::PEER_BACKOFF_MS_MIN << link.failures.min(10)).min(limits::PEER_BACKOFF_MS_MAX);
        let rest_ms = most / 2 + self.rng.below(most / 2 + 1);
        link.failures = link.failures.saturating_add(1);
        link.state = State::Resting { until: now.mono.after_ms(rest_ms) };
        for Call { call, unsent, .. } in link.calls.drain(..) {
            let why = why.to_owned();
            let answer = Err(if unsent.is_some() { PeerError::Unreachable(why) } else { PeerError::Lost(why) });
            self.todo.push_back(Todo::PeerAnswer { call, answer });
        }
    }

    /// Has the link looked at when something of it may be too late.
    fn watch_link(&mut self, key: Key) {
        let Some(link) = self.peers.links.get_mut(key) else { return };
        let Some(deadline) = link.deadline() else { return };
        if let Some(due) = link.due {
            if due <= deadline {
                return;
            }
            self.deadlines.clear(due, DeadlineKey::Peer(key));
        }
        link.due = Some(deadline);
        self.deadlines.set(deadline, DeadlineKey::Peer(key));
    }
}

impl fmt::Display for PeerTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerTo::Node(node, core) => write!(f, "node {node}, core {core}"),
            PeerTo::Address(address) => write!(f, "the broker at {address}"),
            PeerTo::Seed(address) => write!(f, "the seed {address}"),
        }
    }
}

fn say_hello(peer: PeerId, greeter: &Greeter) -> Effect {
    let header = RequestHeader { api_key: peer_hello::API.key, version: 0, correlation_id: 0, client_id: None };
    Effect::PeerSend { peer, data: frame::encode_request(&header, greeter.hello()) }
}

/// The call that a frame answers. Errors: it answers none.
fn take_answer(calls: &mut VecDeque<Call>, frame: Bytes) -> Result<(PeerCall, PeerAnswer), String> {
    let correlation_id = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    let is_asked = calls.front().is_some_and(|call| Some(call.correlation_id) == correlation_id);
    let asked = if is_asked { calls.pop_front() } else { None };
    let Some(Call { call, api_key, version, .. }) = asked else {
        return Err("it answers what it was not asked".to_owned());
    };
    Ok((call, PeerAnswer { api_key, version, frame }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::base::ids::{ConnId, Incarnation};
    use crate::base::stage::Arrival;
    use crate::broker::effect::{Admission, Input, ListenerKind};
    use crate::broker::shard::{Listeners, ShardConfig};
    use crate::config::Settings;
    use crate::wire::messages::peer_hello::PeerHelloRequest;

    const PEER: PeerId = PeerId(0);
    const CONN: ConnId = ConnId(1);

    fn shard(node: i32) -> Shard {
        let settings = Arc::new(Settings { node_id: node, ..Settings::default() });
        let listeners = Listeners { shared: address(9092), per_core: Vec::new(), peer: Some(address(19092)) };
        let (core, cores, incarnation) = (CoreId(0), 4, Incarnation([node as u8; 16]));
        Shard::new(ShardConfig { core, cores, settings, listeners, seed: 5, incarnation, peer_key: None })
    }

    fn address(port: u16) -> Address {
        Address { host: "127.0.0.1".into(), port }
    }

    fn at_ms(ms: u64) -> Now {
        Now { mono: Instant(1).after_ms(ms), wall_ms: 0 }
    }

    /// Any message will do: a broker that is known may say hello again.
    fn ask(shard: &mut Shard, core: u16, now: Now, effects: &mut Effects) {
        let (nonce, incarnation) = (Bytes::from_static(&[7; 16]), Incarnation([1; 16]));
        let body = PeerHelloRequest {
            node_id: 1,
            nonce,
            incarnation,
            protocol_min: 1,
            protocol_max: 1,
            ..PeerHelloRequest::default()
        };
        shard.ask_peer(PeerTo::Node(NodeId(2), CoreId(core)), PeerCall::Heartbeat, 0, &body, now, effects);
    }

    fn answers(shard: &mut Shard) -> Vec<Result<PeerAnswer, PeerError>> {
        let todo = shard.todo.drain(..).map(|todo| match todo {
            Todo::PeerAnswer { call: PeerCall::Heartbeat, answer } => answer,
            other => panic!("{other:?}"),
        });
        todo.collect()
    }

    /// A frame, and what may come behind it.
    fn cut(bytes: &mut Vec<u8>) -> Option<Bytes> {
        let length = i32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let frame = Bytes::copy_from_slice(&bytes[4..4 + length]);
        bytes.drain(..4 + length);
        Some(frame)
    }

    /// What the other side answers to what was sent.
    fn serve(host: &mut Shard, mut sent: Vec<u8>) -> Vec<Bytes> {
        let mut effects = Effects::default();
        while let Some(frame) = cut(&mut sent) {
            assert_eq!(host.admit(CONN, frame.len()), Admission::Read);
            let arrival = Arrival::at(Instant(0));
            host.step(Input::Frame { conn: CONN, frame, arrival }, at_ms(0), &mut effects);
        }
        let mut bytes: Vec<u8> = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::Send { conn: CONN, data } => bytes.extend(data.concat()),
                other => panic!("{other:?}"),
            }
        }
        std::iter::from_fn(|| cut(&mut bytes)).collect()
    }

    fn sent(effects: &mut Effects) -> Vec<u8> {
        let sent = effects.drain().flat_map(|effect| match effect {
            Effect::PeerSend { peer: PEER, data } => data.concat(),
            other => panic!("{other:?}"),
        });
        sent.collect()
    }

    /// Two brokers, one of which has asked the other something and is connected, but not greeted.
    fn connected() -> (Shard, Shard, Effects) {
        let (mut guest, mut host, mut effects) = (shard(1), shard(2), Effects::default());
        let opened = Input::Opened { conn: CONN, listener: ListenerKind::Peer, host: String::new(), port: 1 };
        host.step(opened, at_ms(0), &mut effects);
        guest.meet_node(NodeId(2), address(20_000), at_ms(0), &mut effects);
        ask(&mut guest, 3, at_ms(0), &mut effects);
        let opens: Vec<Effect> = effects.drain().collect();
        assert!(matches!(&opens[..], [Effect::PeerOpen { peer: PEER, to }] if *to == address(20_003)), "{opens:?}");
        guest.on_peer_opened(PEER, at_ms(0), &mut effects);
        (guest, host, effects)
    }

    fn receive(guest: &mut Shard, frames: Vec<Bytes>, effects: &mut Effects) {
        for frame in frames {
            guest.on_peer_frame(PEER, frame, at_ms(1), effects);
        }
    }

    #[test]
    fn calls_wait_for_the_greeting_and_answers_come_in_their_order() {
        let (mut guest, mut host, mut effects) = connected();
        let hello = serve(&mut host, sent(&mut effects));
        receive(&mut guest, hello, &mut effects);
        ask(&mut guest, 3, at_ms(1), &mut effects);
        let frames = serve(&mut host, sent(&mut effects));
        assert_eq!(frames.len(), 2);
        receive(&mut guest, frames, &mut effects);
        assert!(effects.is_empty());
        let answers = answers(&mut guest);
        assert_eq!(answers.len(), 2);
        for answer in answers {
            let body: PeerHelloResponse = answer.expect("it came").decode().expect("one");
            assert!(body.admitted && body.node_id == 2);
        }
    }

    #[test]
    fn a_call_without_an_answer_fails_in_time_and_the_broker_is_left_alone_for_a_while() {
        let (mut guest, mut host, mut effects) = connected();
        let hello = serve(&mut host, sent(&mut effects));
        receive(&mut guest, hello, &mut effects);
        sent(&mut effects);
        let late = Instant(1).after_ms(limits::PEER_CALL_MS);
        let mut due = guest.next_deadline().expect("an answer is owed");
        while due < late {
            assert!(matches!(guest.deadlines.pop_due(due), Some(DeadlineKey::Peer(_))));
            let link = guest.peers.by_peer[&PEER];
            guest.on_peer_due(link, Now { mono: due, wall_ms: 0 }, &mut effects);
            due = guest.next_deadline().expect("an answer is owed");
        }
        let link = guest.peers.by_peer[&PEER];
        guest.on_peer_due(link, Now { mono: late, wall_ms: 0 }, &mut effects);
        assert!(matches!(effects.drain().next(), Some(Effect::PeerClose { peer: PEER })));
        assert!(matches!(&answers(&mut guest)[..], [Err(PeerError::Lost(why))] if why.contains("in time")));
        ask(&mut guest, 3, Now { mono: late, wall_ms: 0 }, &mut effects);
        assert!(matches!(&answers(&mut guest)[..], [Err(PeerError::LeftAlone)]) && effects.is_empty());
        let rested = Now { mono: late.after_ms(limits::PEER_BACKOFF_MS_MAX), wall_ms: 0 };
        ask(&mut guest, 3, rested, &mut effects);
        assert!(matches!(effects.drain().next(), Some(Effect::PeerOpen { peer: PeerId(1), .. })));
    }

    #[test]
    fn hostile_answers_end_the_connection_and_fail_its_calls() {
        let check = |frames: &[&'static [u8]], expect: &str| {
            let (mut guest, mut host, mut effects) = connected();
            let hello = serve(&mut host, sent(&mut effects));
            if !frames.is_empty() {
                receive(&mut guest, hello, &mut effects);
                sent(&mut effects);
            } else {
                guest.on_peer_frame(PEER, Bytes::from_static(b"HTTP/1.1 400 Bad Request"), at_ms(1), &mut effects);
            }
            for frame in frames {
                guest.on_peer_frame(PEER, Bytes::from_static(frame), at_ms(1), &mut effects);
            }
            assert!(matches!(effects.drain().next(), Some(Effect::PeerClose { peer: PEER })), "{expect}");
            let answers = answers(&mut guest);
            let [Err(PeerError::Unreachable(why) | PeerError::Lost(why))] = &answers[..] else { panic!("{answers:?}") };
            assert!(why.contains(expect), "{why}");
        };
        check(&[], "PeerHello reply");
        check(&[b""], "what it was not asked");
        check(&[b"\0\0"], "what it was not asked");
        check(&[b"\0\0\0\x07\0"], "what it was not asked");
        // One of the right number is handed on, and whoever asked finds that it is nothing.
        let (mut guest, mut host, mut effects) = connected();
        let hello = serve(&mut host, sent(&mut effects));
        receive(&mut guest, hello, &mut effects);
        guest.on_peer_frame(PEER, Bytes::from_static(b"\0\0\0\0\xff\xff\xff\xff\xff\xff"), at_ms(1), &mut effects);
        let answer = answers(&mut guest).pop().expect("one").expect("a frame");
        assert!(answer.decode::<PeerHelloResponse>().is_err());
    }

    #[test]
    fn a_broker_of_another_address_is_connected_to_anew_and_one_that_is_not_known_not_at_all() {
        let (mut guest, _, mut effects) = connected();
        effects.drain();
        guest.meet_node(NodeId(2), address(30_000), at_ms(1), &mut effects);
        assert!(matches!(effects.drain().next(), Some(Effect::PeerClose { peer: PEER })));
        assert!(matches!(&answers(&mut guest)[..], [Err(PeerError::Unreachable(_))]));
        ask(&mut guest, 0, at_ms(1), &mut effects);
        assert!(matches!(effects.drain().next(), Some(Effect::PeerOpen { to, .. }) if to == address(30_000)));
        guest.forget_node(NodeId(2), at_ms(1), &mut effects);
        assert!(answers(&mut guest)[0].is_err());
        ask(&mut guest, 0, at_ms(2), &mut effects);
        assert!(matches!(&answers(&mut guest)[..], [Err(PeerError::Unreachable(why))] if why.contains("not known")));
    }
}
