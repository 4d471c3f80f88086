//! What all clients have in common: one connection at a time, requests on it, and their replies in order. In a cluster
//! the connection is to the leader of the client's partition, or to the coordinator of its group, whoever that is at the
//! time.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use corelog::base::ids::PartitionIndex;
use corelog::base::rng::Rng;
use corelog::broker::api::key;
use corelog::broker::message::TopicPartition;
use corelog::wire::codec::Message;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelog::wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelog::wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use crate::check::{Model, Part};
use crate::node::Node;
use crate::plan::{MS, Plan, SECOND};

/// A client without an answer for so long gives its connection up.
const ANSWER_WITHIN_NS: u64 = 12 * SECOND;
/// How soon it is asked again who leads.
const ASK_AGAIN_NS: u64 = 50 * MS;

/// What a client wants done.
#[derive(Debug)]
pub enum Act {
    Connect {
        /// The number of a node; any will do where there is none.
        to: Option<usize>,
    },
    Send(Bytes),
    Disconnect,
    /// Call [`crate::workload::Client::on_time`] then.
    Wake {
        at: u64,
    },
}

/// Where a client is called from.
pub struct Context<'a> {
    pub now: u64,
    pub wall_ms: i64,
    pub plan: &'a Plan,
    pub model: &'a mut Model,
    pub rng: &'a mut Rng,
    /// Whether new records are still made.
    pub load: bool,
    /// The node that the client is connected to.
    pub at: Option<usize>,
    pub nodes: &'a [Node],
    pub acts: Vec<Act>,
}

impl Context<'_> {
    /// Where a partition ends at least. A new leader may not know yet how far the one before had shown it.
    pub fn known_end(&self, part: Part) -> i64 {
        if self.plan.nodes > 1 { 0 } else { self.model.end(part) }
    }

    /// The epoch in which the node that the client is connected to leads a partition, if it does.
    pub fn epoch_led(&self, (topic, partition): Part) -> Option<i32> {
        let shards = &self.nodes[self.at?].shards;
        let id = shards.first()?.image().topic(&self.plan.topics[topic].name)?.id;
        let name = TopicPartition { topic: id, partition: PartitionIndex(partition) };
        let mut replicas = shards.iter().flat_map(|shard| shard.replicas());
        let (_, replica) = replicas.find(|(other, replica)| *other == name && replica.is_leader())?;
        Some(replica.epoch().0)
    }

    pub fn wake_in(&mut self, ns: u64) {
        self.acts.push(Act::Wake { at: self.now + ns });
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Down,
    Connecting,
    Up,
}

/// Whom a client speaks to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Aim {
    Anybody,
    LeaderOf(Part),
    /// Also where there is one node: a broker that is asked makes the topic of offsets.
    CoordinatorOf(String),
}

/// The client's end of a connection; `R` is what it remembers of a request.
pub struct Wire<R> {
    aim: Aim,
    /// The node that leads or coordinates, as far as that is known.
    leader: Option<usize>,
    /// The epoch of who leads; −1 while nobody has said.
    leader_epoch: i32,
    /// The answer to who does, or none yet.
    told: Option<Bytes>,
    ask_at: u64,
    state: State,
    /// Not before.
    connect_at: u64,
    received: BytesMut,
    next_correlation: i32,
    waiting: VecDeque<Waiting<R>>,
}

struct Waiting<R> {
    correlation: i32,
    sent_at: u64,
    /// `None` when it is asked who leads or coordinates.
    request: Option<R>,
}

impl<R> Default for Wire<R> {
    fn default() -> Self {
        Wire {
            aim: Aim::Anybody,
            leader: None,
            leader_epoch: -1,
            told: None,
            ask_at: 0,
            state: State::Down,
            connect_at: 0,
            received: BytesMut::new(),
            next_correlation: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<R> Wire<R> {
    /// To the leader of the partition, where there may be several nodes.
    pub fn to_leader(part: Part) -> Wire<R> {
        Wire { aim: Aim::LeaderOf(part), ..Wire::default() }
    }

    /// To the leader of another partition from now on.
    pub fn aim_at(&mut self, part: Part) {
        if self.aim != Aim::LeaderOf(part) {
            (self.aim, self.leader) = (Aim::LeaderOf(part), None);
        }
    }

    /// Of who leads, as it was said last.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// To whoever coordinates the group.
    pub fn to_coordinator(group: &str) -> Wire<R> {
        Wire { aim: Aim::CoordinatorOf(group.to_owned()), ..Wire::default() }
    }

    /// The broker it speaks to does not lead, or cannot serve: somebody is asked again who does.
    pub fn lose_leader(&mut self, context: &mut Context) {
        if self.leader.take().is_some() {
            self.ask_at = context.now + ASK_AGAIN_NS;
            context.wake_in(ASK_AGAIN_NS);
        }
    }

    /// Speaks to another broker next.
    pub fn leave(&mut self, context: &mut Context) {
        if self.state == State::Up {
            context.acts.push(Act::Disconnect);
            self.state = State::Connecting;
        }
    }

    /// True when nothing is waited for and the next request may be sent, which is not before `at`. Otherwise sees to it
    /// that it may be in a while.
    pub fn is_due(&mut self, at: u64, context: &mut Context) -> bool {
        if !self.is_up(context) || self.in_flight() > 0 {
            return false;
        }
        if context.now < at {
            context.wake_in(at - context.now);
            return false;
        }
        true
    }

    /// True when requests may be sent. Otherwise sees to it that they may be in a while.
    pub fn is_up(&mut self, context: &mut Context) -> bool {
        if self.state == State::Up && self.waiting.front().is_some_and(|w| w.sent_at + ANSWER_WITHIN_NS < context.now) {
            context.acts.push(Act::Disconnect);
            self.state = State::Connecting;
        }
        if self.state == State::Down {
            if context.now >= self.connect_at {
                self.state = State::Connecting;
                context.acts.push(Act::Connect { to: self.leader });
            } else {
                let at = self.connect_at;
                context.acts.push(Act::Wake { at });
            }
        }
        let is_aimed = match self.aim {
            Aim::Anybody => false,
            Aim::LeaderOf(_) => context.plan.nodes > 1,
            Aim::CoordinatorOf(_) => true,
        };
        self.state == State::Up && (!is_aimed || self.is_at_leader(context))
    }

    /// Whether the connection is to who leads or coordinates; else sees to it that it will be.
    fn is_at_leader(&mut self, context: &mut Context) -> bool {
        if let Some(frame) = self.told.take() {
            self.leader = match &self.aim {
                Aim::Anybody => None,
                Aim::LeaderOf(part) => {
                    let found = leader_of(*part, &decode(METADATA, frame), context.plan);
                    self.leader_epoch = found.map_or(-1, |(_, epoch)| epoch);
                    found.map(|(leader, _)| leader)
                }
                Aim::CoordinatorOf(_) => coordinator_of(&decode(FIND_COORDINATOR, frame), context.plan),
            };
            if self.leader.is_none() {
                self.ask_at = context.now + ASK_AGAIN_NS;
                context.wake_in(ASK_AGAIN_NS);
            }
        }
        match self.leader {
            Some(leader) if context.at == Some(leader) => return true,
            Some(_) => self.leave(context),
            None if context.now >= self.ask_at && self.waiting.iter().all(|waiting| waiting.request.is_some()) => {
                self.ask_who_leads(context);
            }
            None => {}
        }
        false
    }

    fn ask_who_leads(&mut self, context: &mut Context) {
        match self.aim.clone() {
            Aim::Anybody => return,
            Aim::LeaderOf(part) => {
                let name = context.plan.topics[part.0].name.as_str().into();
                let topics = Some(vec![MetadataRequestTopic { name: Some(name), ..Default::default() }]);
                let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
                self.send_unanswered(METADATA, &request, context);
            }
            Aim::CoordinatorOf(group) => {
                let request = FindCoordinatorRequest { key: group.as_str().into(), ..Default::default() };
                self.send_unanswered(FIND_COORDINATOR, &request, context);
            }
        }
        self.wait_for(None, context);
    }

    pub fn on_connected(&mut self) {
        self.state = State::Up;
        self.received.clear();
    }

    /// The connection is gone, or could not be made. Returns the requests that nobody will answer.
    pub fn on_closed(&mut self, context: &mut Context) -> Vec<R> {
        self.state = State::Down;
        self.told = None;
        // Whoever led may be gone.
        if self.leader.is_some() && self.leader == context.at {
            self.leader = None;
        }
        if context.rng.below(4) == 0 && context.plan.nodes > 1 {
            self.leader = None;
        }
        self.connect_at = context.now + (1 + context.rng.below(context.plan.down_ms)) * MS;
        self.received.clear();
        let at = self.connect_at;
        context.acts.push(Act::Wake { at });
        self.waiting.drain(..).filter_map(|waiting| waiting.request).collect()
    }

    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    pub fn send<M: Message>(&mut self, (api_key, version): (i16, i16), message: &M, request: R, context: &mut Context) {
        self.send_unanswered((api_key, version), message, context);
        self.wait_for(Some(request), context);
    }

    fn wait_for(&mut self, request: Option<R>, context: &mut Context) {
        self.waiting.push_back(Waiting { correlation: self.next_correlation, sent_at: context.now, request });
        context.wake_in(ANSWER_WITHIN_NS + MS);
    }

    pub fn send_unanswered<M: Message>(&mut self, (api_key, version): (i16, i16), message: &M, context: &mut Context) {
        assert!(self.state == State::Up);
        self.next_correlation += 1;
        let correlation_id = self.next_correlation;
        let header = RequestHeader { api_key, version, correlation_id, client_id: Some("sim".into()) };
        let frame = frame::encode_request(&header, message).concat();
        context.acts.push(Act::Send(frame.into()));
    }

    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next reply that is there as a whole, with its request.
    pub fn next_reply(&mut self) -> Option<(R, Bytes)> {
        loop {
            let length = u32::from_be_bytes(*self.received.first_chunk()?) as usize;
            if self.received.len() < 4 + length {
                return None;
            }
            self.received.advance(4);
            let frame = self.received.split_to(length).freeze();
            let Waiting { correlation, request, .. } = self.waiting.pop_front().expect("a reply has its request");
            let replied = i32::from_be_bytes(*frame.first_chunk().expect("a correlation id"));
            assert_eq!(replied, correlation, "replies come in the order of requests");
            match request {
                Some(request) => return Some((request, frame)),
                None => self.told = Some(frame),
            }
        }
    }
}

const METADATA: (i16, i16) = (key::METADATA, 9);
const FIND_COORDINATOR: (i16, i16) = (key::FIND_COORDINATOR, 3);

fn leader_of((topic, partition): Part, reply: &MetadataResponse, plan: &Plan) -> Option<(usize, i32)> {
    let name = plan.topics[topic].name.as_str();
    let topic = reply.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == name))?;
    let row = topic.partitions.iter().find(|row| row.partition_index == partition)?;
    Some((node_of(row.leader_id, plan)?, row.leader_epoch))
}

fn coordinator_of(reply: &FindCoordinatorResponse, plan: &Plan) -> Option<usize> {
    node_of(reply.node_id, plan).filter(|_| reply.error_code == 0)
}

fn node_of(id: i32, plan: &Plan) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1).filter(|node| *node < plan.nodes)
}

/// Reads a reply of ours.
pub fn decode<M: Message>((api_key, version): (i16, i16), frame: Bytes) -> M {
    frame::decode_reply(api_key, version, frame).expect("a reply can be read").1
}

pub const FETCH: (i16, i16) = (key::FETCH, 11);

pub fn fetch_request(plan: &Plan, wanted: &[(Part, i64)], bytes_max: i32, wait_ms: i32) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for &((topic, partition), fetch_offset) in wanted {
        let name = plan.topics[topic].name.as_str();
        if topics.last().is_none_or(|last| last.topic.as_str() != name) {
            topics.push(FetchTopic { topic: name.into(), ..Default::default() });
        }
        let row = FetchPartition { partition, fetch_offset, partition_max_bytes: bytes_max, ..Default::default() };
        topics.last_mut().expect("just seen").partitions.push(row);
    }
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: bytes_max.max(1 << 20),
        session_epoch: -1,
        topics,
        ..Default::default()
    }
}

pub const LIST_OFFSETS: (i16, i16) = (key::LIST_OFFSETS, 5);

/// Asks where the logs begin.
pub fn starts_request(plan: &Plan, wanted: &[Part]) -> ListOffsetsRequest {
    let row = |&(topic, partition_index): &Part| ListOffsetsTopic {
        name: plan.topics[topic].name.as_str().into(),
        partitions: vec![ListOffsetsPartition { partition_index, timestamp: -2, ..Default::default() }],
    };
    ListOffsetsRequest { replica_id: -1, topics: wanted.iter().map(row).collect(), ..Default::default() }
}
