//! The replicas, what is under way between them, and what they have promised.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use crate::base::bounds::Reach;
use crate::base::ids::{
    BrokerEpoch, CoreId, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};
use crate::base::rng::Rng;
use crate::base::slab::{Key, Slab};
use crate::base::stage::{Arrival, Stopwatch};
use crate::base::testdisk::{Crash, TestDisk};
use crate::base::time::{Instant, Now};
use crate::config::{Durability, TopicSettings};
use crate::log::cache::TailCache;
use crate::log::log::{LogOp, LogSlices, Read, ReadError, ReadTicket};
use crate::meta::{PartitionParts, PartitionState};
use crate::replica::deletion::Deletion;
use crate::replica::fetcher::{FetchSettings, Fetcher};
use crate::replica::follower::{Content, FetchPosition, Fetched, Followed};
use crate::replica::isr::{IsrProposal, IsrRefusal, ReplicaFetch};
use crate::replica::partition::{
    AckResult, AckTo, AckWhen, Brought, Kept, Partition, PartitionOut, Place, Reader, Refusal, StateChange,
};
use crate::wire::batch::BatchHeader;
use crate::wire::codec::Records;
use crate::wire::compression::Compression;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::wire::records::{BatchBuilder, BatchRecords};

pub(super) const LAG_MS: u64 = 1_000;
pub(super) const TIMEOUT_MS: u64 = 20_000;

const OF: TopicPartition = TopicPartition { topic: TopicId([3; 16]), partition: PartitionIndex(0) };
const FETCHING: FetchSettings =
    FetchSettings { wait_max_ms: 0, min_bytes: 1, partition_bytes_max: 3_000, bytes_max: 9_000, backoff_max_ms: 100 };

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Pending,
    Stored,
    Refused(Refusal),
}

/// A batch of one record, whose value is its number.
#[derive(Debug)]
pub(super) struct Produced {
    pub(super) acks: i16,
    pub(super) ended: Ended,
    pub(super) base: Option<Offset>,
}

pub(super) struct Node {
    id: NodeId,
    disk: TestDisk<LogOp>,
    cache: TailCache,
    /// None while the broker does not run.
    pub(super) partition: Option<Partition>,
    out: PartitionOut,
    /// What replicas have said for people.
    pub(super) notes: Vec<String>,
    /// By the leader that is asked.
    fetchers: BTreeMap<NodeId, Fetcher>,
    follows: Option<NodeId>,
    /// How often it was ready to ask its leader.
    pub(super) ready: u64,
    /// Fetches that wait for the disk.
    reads: BTreeMap<ReadTicket, (NodeId, PartitionData)>,
    /// What was noted of it for the next start.
    pub(super) committed: Reach,
    /// Counts its runs.
    run: i64,
    is_cut_off: bool,
    /// The greatest of this run and leader epoch.
    high_watermark: (LeaderEpoch, Offset),
}

#[derive(Debug)]
pub(super) enum Message {
    Fetch(FetchRequest),
    Fetched(FetchResponse),
    Lost,
    Propose(IsrProposal),
    Answer(PartitionEpoch, Result<(), IsrRefusal>),
    State(PartitionState),
}

#[derive(Debug)]
struct Envelope {
    from: i32,
    to: i32,
    /// Of the run that it is for.
    run: i64,
    message: Message,
}

/// The controller's place among the senders.
const CONTROLLER: i32 = -1;

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) state: PartitionParts,
    messages: Vec<Envelope>,
    pub(super) hold_messages: bool,
    pub(super) produced: Vec<Produced>,
    /// How deletions ended.
    pub(super) deleted: Vec<Result<Offset, Refusal>>,
    jobs: Slab<usize>,
    settings: TopicSettings,
    owners: u32,
    /// What consumers have seen at each offset.
    seen: BTreeMap<Offset, u64>,
}

impl World {
    /// Three replicas, the first of which leads, all in sync.
    pub(super) fn new(seed: u64, min_insync_replicas: i32) -> World {
        World::with(seed, TopicSettings { min_insync_replicas, ..TopicSettings::default() })
    }

    /// The same with these settings, but for what the disks of tests ask for.
    pub(super) fn with(seed: u64, settings: TopicSettings) -> World {
        let nodes: Vec<NodeId> = (0..3).map(NodeId).collect();
        let state = PartitionState::initial(&nodes).unwrap().parts();
        let settings =
            TopicSettings { durability: Durability::Sync, journal_direct_bytes: 0, segment_bytes: 4_000, ..settings };
        let mut rng = Rng::new(seed);
        let mut world = World {
            nodes: nodes.into_iter().map(|id| Node::new(id, rng.next_u64())).collect(),
            rng,
            now: Now { mono: Instant(1), wall_ms: 1_000_000 },
            state,
            messages: Vec::new(),
            hold_messages: false,
            produced: Vec::new(),
            deleted: Vec::new(),
            jobs: Slab::default(),
            settings,
            owners: 0,
            seen: BTreeMap::new(),
        };
        (0..3).for_each(|node| world.start(node));
        world
    }

    pub(super) fn replica(&self, node: usize) -> &Partition {
        self.nodes[node].partition.as_ref().expect("it runs")
    }

    pub(super) fn isr(&self) -> Vec<i32> {
        let mut isr: Vec<i32> = self.state.isr.iter().map(|node| node.0).collect();
        isr.sort_unstable();
        isr
    }

    pub(super) fn ended(&self, number: usize) -> Ended {
        self.produced[number].ended.clone()
    }

    /// Sends a batch to a node, whoever leads. Gives its number.
    pub(super) fn produce(&mut self, node: usize, acks: i16) -> usize {
        self.produce_batch(node, acks, 1)
    }

    /// The same, with so many records.
    pub(super) fn produce_batch(&mut self, node: usize, acks: i16, records: usize) -> usize {
        let number = self.produced.len();
        self.produced.push(Produced { acks, ended: Ended::Pending, base: None });
        let mut builder = BatchBuilder::new(Compression::None);
        let mut value = (number as u64).to_be_bytes().to_vec();
        value.resize(8 + self.rng.below(200) as usize, 7);
        (0..records).for_each(|_| builder.push(self.now.wall_ms, None, Some(&value)));
        let when = match acks {
            -1 => AckWhen::Committed { due: Some(self.now.mono.after_ms(TIMEOUT_MS)) },
            _ => AckWhen::Safe,
        };
        let to = AckTo::Job { core: CoreId(0), job: self.jobs.insert(number), at: 0 };
        let trace = Arrival::at(self.now.mono).trace();
        let brought = Brought { records: builder.build().bytes, produce_version: 13, when, to, trace };
        let now = self.now;
        let mut watch = Stopwatch::default();
        self.call(node, |partition, cache, out| partition.append(brought, cache, now, &mut watch, out));
        number
    }

    pub(super) fn delete_records(&mut self, node: usize, before: i64) {
        let now = self.now;
        let due = now.mono.after_ms(TIMEOUT_MS);
        let begun = self.call(node, |partition, _, out| partition.delete_records(before, due, now, out));
        match begun {
            Some(Ok(Deletion::Done(end))) => self.deleted.push(Ok(end)),
            Some(Ok(Deletion::Later(_))) => self.run(),
            _ => panic!("{begun:?}"),
        }
    }

    /// A follower hears that its leader's log ends there.
    pub(super) fn cut(&mut self, node: usize, end: i64) {
        let position = self.replica(node).fetch_position().expect("it follows");
        self.answer_with(node, Content::Diverging { epoch: position.last_epoch, end: Offset(end) });
    }

    /// A follower gets these batches, all of which are committed, of a leader whose log begins there.
    pub(super) fn hand_over(&mut self, node: usize, records: Bytes, log_start: i64) {
        let content = Content::Records { records, high_watermark: Offset(1000), log_start: Offset(log_start) };
        self.answer_with(node, content);
    }

    fn answer_with(&mut self, node: usize, content: Content) {
        let (now, position) = (self.now, self.replica(node).fetch_position().expect("it follows"));
        let fetched = Fetched { epoch: position.epoch, from: position.from, content };
        self.call(node, |partition, cache, out| partition.on_fetched(fetched, cache, now, out));
        self.run_disks();
    }

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].partition.is_some()
    }

    pub(super) fn crash(&mut self, at: usize, how: Crash) {
        let node = &mut self.nodes[at];
        if let Some(committed) = node.partition.take().and_then(|partition| partition.committed()) {
            node.committed = committed;
        }
        node.out = PartitionOut::default();
        node.disk.crash(how);
        for (asker, _) in std::mem::take(&mut node.reads).into_values() {
            self.send(at as i32, asker.0, Message::Lost);
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        self.owners += 1;
        let (owner, now, settings) = (self.owners, self.now, self.settings.clone());
        let state = PartitionState::new(&self.state).unwrap();
        let node = &mut self.nodes[at];
        node.run += 1;
        node.cache = TailCache::new(1 << 20);
        node.fetchers.clear();
        node.follows = None;
        node.high_watermark = (LeaderEpoch::UNKNOWN, Offset(0));
        let place = Place { node: node.id, lag_time_max_ms: LAG_MS };
        let kept = Kept { committed: node.committed, ..Kept::default() };
        let dir = PathBuf::from("t-0");
        let partition = Partition::open(owner, dir, settings, place, Some(&state), kept, now, &mut node.out);
        node.partition = Some(partition);
        self.settle(at);
    }

    /// Nothing comes to it or from it, until it joins again.
    pub(super) fn cut_off(&mut self, node: usize) {
        self.nodes[node].is_cut_off = true;
    }

    /// It learns what has happened meanwhile.
    pub(super) fn join(&mut self, node: usize) {
        self.nodes[node].is_cut_off = false;
        let state = Message::State(PartitionState::new(&self.state).unwrap());
        self.send(CONTROLLER, node as i32, state);
    }

    /// The controller makes a member of the in-sync set the leader.
    pub(super) fn elect(&mut self, leader: i32) {
        assert!(self.state.isr.contains(&NodeId(leader)));
        self.state.leader = Some(NodeId(leader));
        self.state.leader_epoch.0 += 1;
        self.tell_state();
    }

    /// The controller has not heard of a broker for too long (a fenced broker leaves the set, but for the last).
    pub(super) fn fence(&mut self, node: i32) {
        let id = NodeId(node);
        if self.state.isr.len() > 1 {
            self.state.isr.retain(|member| *member != id);
        }
        if self.state.leader == Some(id) {
            let is_running = |node: &&NodeId| self.is_running(node.0 as usize);
            self.state.leader = self.state.isr.iter().find(is_running).copied();
            self.state.leader_epoch.0 += 1;
        }
        self.tell_state();
    }

    /// A broker that is back may be the one that was waited for.
    pub(super) fn unfence(&mut self) {
        if self.state.leader.is_none()
            && let Some(leader) = self.state.isr.iter().find(|node| self.is_running(node.0 as usize))
        {
            self.elect(leader.0);
        }
    }

    fn tell_state(&mut self) {
        self.state.partition_epoch.0 += 1;
        let state = PartitionState::new(&self.state).unwrap();
        (0..3).for_each(|node| self.send(CONTROLLER, node, Message::State(state.clone())));
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.after_ms(ms), wall_ms: self.now.wall_ms + ms as i64 };
        let now = self.now;
        for node in 0..3 {
            self.call(node, |partition, cache, out| partition.on_timeout(cache, now, out));
        }
    }

    /// Until nothing happens any more but that replicas ask their leader.
    pub(super) fn run(&mut self) {
        for _ in 0..200 {
            self.run_disks();
            if !self.hold_messages {
                let mut delivered = 0;
                while !self.messages.is_empty() {
                    self.deliver(0, false);
                    self.run_disks();
                    delivered += 1;
                    assert!(delivered < 1_000, "they talk without end: {:?}", self.messages);
                }
            }
            self.pass_ms(1);
            (0..3).for_each(|node| self.poll(node));
        }
    }

    pub(super) fn run_disks(&mut self) {
        while (0..3).any(|node| self.step_disk(node)) {}
    }

    /// Ends one disk operation of a node; false when there is none.
    pub(super) fn step_disk(&mut self, node: usize) -> bool {
        let Some((op, result)) = self.nodes[node].disk.step() else { return false };
        let now = self.now;
        self.call(node, |partition, cache, out| partition.on_disk(op, result, cache, now, out));
        true
    }

    /// And nothing but messages.
    pub(super) fn deliver_all(&mut self) {
        while !self.messages.is_empty() {
            self.deliver(0, false);
        }
    }

    pub(super) fn messages(&self) -> usize {
        self.messages.len()
    }

    /// Brings a message to its end. One that is lost is told to the asker as such; what the controller says comes in
    /// any case, to a broker that runs.
    pub(super) fn deliver(&mut self, at: usize, lose: bool) {
        let Envelope { from, to, run, message } = self.messages.remove(at);
        let is_cut_off = |node: i32| node >= 0 && self.nodes[node as usize].is_cut_off;
        let is_lost = (lose && !matches!(message, Message::State(_))) || is_cut_off(from) || is_cut_off(to);
        let is_there = to == CONTROLLER || (self.is_running(to as usize) && self.nodes[to as usize].run == run);
        match message {
            Message::Fetch(_) if is_lost || !is_there => self.send(to, from, Message::Lost),
            Message::Fetched(_) if is_lost && is_there => self.on_message(from, to as usize, Message::Lost),
            Message::Lost if is_there => self.on_message(from, to as usize, Message::Lost),
            _ if is_lost || !is_there => {}
            Message::Propose(proposal) => self.on_proposal(from, &proposal),
            message => self.on_message(from, to as usize, message),
        }
    }

    fn on_message(&mut self, from: i32, to: usize, message: Message) {
        let now = self.now;
        match message {
            Message::Fetch(request) => self.serve(to, NodeId(from), &request),
            Message::Fetched(response) => {
                let mut fetched = Vec::new();
                self.nodes[to].fetcher(NodeId(from)).on_response(response, now, &mut fetched);
                for (_, fetched) in fetched {
                    self.call(to, |partition, cache, out| partition.on_fetched(fetched, cache, now, out));
                }
            }
            Message::Lost => self.nodes[to].fetcher(NodeId(from)).on_failed(now),
            Message::Answer(of, answer) => {
                self.call(to, |partition, _, out| partition.on_isr_answer(of, answer, now, out));
            }
            Message::State(state) => {
                self.call(to, |partition, _, out| partition.assign(&state, now, out));
            }
            Message::Propose(_) => unreachable!("these go to the controller"),
        }
    }

    fn on_proposal(&mut self, from: i32, proposal: &IsrProposal) {
        let state = &self.state;
        let is_current = state.leader == Some(NodeId(from))
            && state.leader_epoch == proposal.leader_epoch
            && state.partition_epoch == proposal.partition_epoch;
        let answer = if !is_current {
            Err(IsrRefusal::Stale)
        } else if !proposal.isr.iter().all(|(node, _)| self.is_running(node.0 as usize)) {
            Err(IsrRefusal::Ineligible)
        } else {
            self.state.isr = proposal.isr.iter().map(|(node, _)| *node).collect();
            self.tell_state();
            Ok(())
        };
        self.send(CONTROLLER, from, Message::Answer(proposal.partition_epoch, answer));
    }

    /// A replica asks its leader, if it is time.
    pub(super) fn poll(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.partition.is_none() {
            return;
        }
        let epoch = BrokerEpoch(node.run);
        let (me, Some(leader)) = (node.id, node.follows) else { return };
        if let Some(request) = node.fetcher(leader).poll(me, epoch, now) {
            self.send(at as i32, leader.0, Message::Fetch(request));
        }
    }

    fn send(&mut self, from: i32, to: i32, message: Message) {
        let run = if to == CONTROLLER { 0 } else { self.nodes[to as usize].run };
        self.messages.push(Envelope { from, to, run, message });
    }

    fn serve(&mut self, at: usize, from: NodeId, request: &FetchRequest) {
        let now = self.now;
        let wanted =
            request.topics.first().and_then(|topic| topic.partitions.first()).expect("one partition is asked for");
        let position = FetchPosition {
            epoch: LeaderEpoch(wanted.current_leader_epoch),
            from: Offset(wanted.fetch_offset),
            last_epoch: LeaderEpoch(wanted.last_fetched_epoch),
            log_start: Offset(wanted.log_start_offset),
        };
        let broker_epoch = BrokerEpoch(request.replica_state.replica_epoch);
        let fetch = ReplicaFetch { node: from, broker_epoch, position, is_eligible: true };
        let bytes_max = wanted.partition_max_bytes as usize;
        let served = self.call(at, |partition, cache, out| {
            let diverging = partition.on_replica_fetch(fetch, now, out)?;
            let read = diverging.is_none().then(|| {
                partition.read(Reader::Replica, position.from, bytes_max, true, cache, out).expect("it can be read")
            });
            Ok::<_, Refusal>((diverging, read))
        });
        let partition = self.replica(at);
        let mut row = PartitionData {
            high_watermark: partition.high_watermark().0,
            log_start_offset: partition.log_start().0,
            ..PartitionData::default()
        };
        let first = partition.log_start_for(Reader::Replica);
        match served.expect("it runs") {
            Ok((Some((epoch, end)), _)) => {
                row.diverging_epoch.epoch = epoch.0;
                row.diverging_epoch.end_offset = end.0;
            }
            Ok((None, Some(Read::Later(ticket)))) => {
                self.nodes[at].reads.insert(ticket, (from, row));
                return;
            }
            Ok((None, Some(Read::Ready(found)))) => row.records = Some(Records(vec![found.slices.concat().into()])),
            Ok((None, None)) => unreachable!("what does not diverge is read"),
            Err(Refusal::OffsetOutOfRange) => {
                (row.error_code, row.log_start_offset) = (ErrorCode::OffsetOutOfRange.code(), first.0);
            }
            Err(_) => row.error_code = ErrorCode::NotLeaderOrFollower.code(),
        }
        self.answer(at, from, row);
    }

    fn on_read(&mut self, at: usize, ticket: ReadTicket, read: Result<LogSlices, ReadError>) {
        let Some((to, mut row)) = self.nodes[at].reads.remove(&ticket) else { return };
        match read {
            Ok(found) => row.records = Some(Records(vec![found.slices.concat().into()])),
            Err(_) => row.error_code = ErrorCode::KafkaStorageError.code(),
        }
        self.answer(at, to, row);
    }

    /// Without a session.
    fn answer(&mut self, from: usize, to: NodeId, row: PartitionData) {
        let topic = FetchableTopicResponse { topic_id: OF.topic, partitions: vec![row], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
        self.send(from as i32, to.0, Message::Fetched(response));
    }

    fn call<R>(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Partition, &mut TailCache, &mut PartitionOut) -> R,
    ) -> Option<R> {
        let node = &mut self.nodes[at];
        let answer = call(node.partition.as_mut()?, &mut node.cache, &mut node.out);
        self.settle(at);
        Some(answer)
    }

    /// Carries out what a replica left to be done, and looks whether it keeps its promises.
    fn settle(&mut self, at: usize) {
        let mut out = std::mem::take(&mut self.nodes[at].out);
        let node = &mut self.nodes[at];
        out.disk.drain(..).for_each(|(op, what)| node.disk.send(op, what));
        assert!(out.journal.is_empty(), "there is none");
        assert!(!matches!(out.changed, Some(StateChange::OpenFailed { .. })), "{:?}", out.changed);
        for acked in out.acked.drain(..) {
            let AckTo::Job { job, .. } = acked.to else { unreachable!("nobody else appends") };
            self.on_acked(job, acked.result);
        }
        self.deleted.extend(out.deleted.drain(..).map(|(_, result)| result));
        for (ticket, read) in out.read.drain(..) {
            self.on_read(at, ticket, read);
        }
        if let Some(proposal) = out.isr_change.take() {
            self.send(at as i32, CONTROLLER, Message::Propose(proposal));
        }
        self.nodes[at].notes.append(&mut out.notes);
        self.follow(at, out.followed.take());
        self.watch_high_watermark(at);
    }

    fn on_acked(&mut self, job: Key, result: AckResult) {
        let number = self.jobs.remove(job).expect("each batch is answered once");
        let produced = &mut self.produced[number];
        match result {
            AckResult::Stored { base, .. } => (produced.ended, produced.base) = (Ended::Stored, Some(base)),
            AckResult::Refused(refusal) => produced.ended = Ended::Refused(refusal),
        }
    }

    /// Keeps a replica's fetcher with its leader.
    fn follow(&mut self, at: usize, followed: Option<Followed>) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(partition) = &node.partition else { return };
        let leader = partition.leader().filter(|leader| *leader != node.id);
        let position = partition.fetch_position();
        node.ready += u64::from(followed == Some(Followed::Ready));
        let before = std::mem::replace(&mut node.follows, leader);
        if let Some(before) = before.filter(|_| before != leader) {
            node.fetcher(before).remove(OF);
        }
        let Some((leader, position)) = leader.zip(position) else { return };
        let fetcher = node.fetcher(leader);
        match followed {
            Some(Followed::Ready) => fetcher.set_position(OF, position),
            Some(Followed::Failed) => fetcher.rest(OF, position, now),
            None if fetcher.is_empty() => fetcher.set_position(OF, position),
            None => {}
        }
    }

    fn watch_high_watermark(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(partition) = node.partition.as_ref().filter(|partition| partition.is_leader()) else { return };
        let (epoch, high_watermark) = (partition.epoch(), partition.high_watermark());
        let (before, least) = node.high_watermark;
        assert!(before != epoch || high_watermark >= least, "the high watermark went back on a leader's watch");
        node.high_watermark = (epoch, high_watermark);
    }

    /// Everything that consumers may see of a node's log, by offset.
    pub(super) fn log(&mut self, at: usize) -> Vec<(i64, u64)> {
        let (mut from, until) = (self.replica(at).log_start(), self.replica(at).high_watermark());
        let mut records = Vec::new();
        while from < until {
            let read =
                self.call(at, |partition, cache, out| partition.read(Reader::Consumer, from, 10_000, true, cache, out));
            let found = match read.expect("it runs").expect("what is committed can be read") {
                Read::Ready(found) => found,
                Read::Later(ticket) => self.late(at, ticket),
            };
            assert!(found.next > from);
            from = found.next;
            records.extend(numbers(found.slices.concat().into()));
        }
        records
    }

    fn late(&mut self, at: usize, ticket: ReadTicket) -> LogSlices {
        let now = self.now;
        loop {
            let (op, result) = self.nodes[at].disk.step().expect("a read ends");
            let node = &mut self.nodes[at];
            node.partition.as_mut().unwrap().on_disk(op, result, &mut node.cache, now, &mut node.out);
            let found = node.out.read.iter().position(|(other, _)| *other == ticket);
            let found = found.map(|place| node.out.read.swap_remove(place).1.unwrap());
            self.settle(at);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// A consumer reads everything: what it has seen before is still there.
    pub(super) fn consume(&mut self, at: usize) {
        for (offset, number) in self.log(at) {
            let before = *self.seen.entry(Offset(offset)).or_insert(number);
            assert_eq!(before, number, "offset {offset} on node {at}");
        }
    }
}

impl Node {
    fn fetcher(&mut self, leader: NodeId) -> &mut Fetcher {
        self.fetchers.entry(leader).or_insert_with(|| Fetcher::new(FETCHING))
    }

    /// How often the end of its log was given up.
    pub(super) fn cuts(&self) -> u32 {
        self.partition.as_ref().and_then(Partition::committed).expect("it runs").truncations
    }

    fn new(id: NodeId, seed: u64) -> Node {
        Node {
            id,
            disk: TestDisk::new(seed),
            cache: TailCache::new(1 << 20),
            partition: None,
            out: PartitionOut::default(),
            notes: Vec::new(),
            fetchers: BTreeMap::new(),
            follows: None,
            ready: 0,
            reads: BTreeMap::new(),
            committed: Reach::default(),
            run: 0,
            is_cut_off: false,
            high_watermark: (LeaderEpoch::UNKNOWN, Offset(0)),
        }
    }
}

/// A batch of so many records, from offset 0 on, as the first leader has it.
pub(super) fn batch_of(count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    (0..count).for_each(|number| builder.push(number, None, Some(&number.to_be_bytes())));
    let mut bytes = builder.build().bytes.to_vec();
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    Bytes::from(bytes)
}

/// Offsets and numbers of the records of whole batches.
fn numbers(mut bytes: Bytes) -> Vec<(i64, u64)> {
    let mut numbers = Vec::new();
    while let Some(header) = BatchHeader::read(&bytes) {
        let batch = BatchRecords::open(&bytes.split_to(header.size_bytes())).unwrap();
        for record in &batch {
            let placed = record.unwrap();
            let number = placed.record.value.and_then(|value| value.first_chunk()).unwrap();
            numbers.push((placed.offset.0, u64::from_be_bytes(*number)));
        }
    }
    numbers
}
