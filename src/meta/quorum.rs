//! Agreement on metadata: this broker's part in the quorum that decides on it (Raft, by the crate `raft`).
//!
//! The leader is the controller: it alone proposes, against the image with everything proposed before. What most voters
//! have durable is committed, and told to everybody in the same order. A node without a cluster waits until it founds
//! one or is given everything; a quorum of one has no timers, and commits with one write and one sync. Brokers without a
//! vote take what is committed from each other (`follow`).
//!
//! Raft chooses its election timeouts from the thread's random numbers. They never count: the range it draws from is so
//! wide that what it drew is told from what was set here, from the seeded generator, before a tick can meet it.
//!
//! *Owns*: raft's state, its log on disk, and what waits for it. *Never*: lets a message leave before what it speaks of
//! is durable, or hands raft a message that contradicts its log. *Runs on*: core 0.

mod follow;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::path::PathBuf;

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, ProgressState, RawNode, Ready, SnapshotStatus, StateRole};

pub use follow::MetaStep;

use super::contents::{Contents, put_entry_item, raft_change};
use super::image::Image;
use super::raft_log::{Asked, LogEvent, MetaOp, RaftLog};
use super::raft_message::{Change, MessageError, change_of, decode_message, encode_message, node_of, raft_id};
use super::record::MetaRecord;
use crate::base::disk::DiskResult;
use crate::base::ids::{DirectoryId, NodeId};
use crate::base::limits::{QUORUM_APPEND_BYTES_MAX, QUORUM_APPENDS_MAX, QUORUM_ENTRY_BYTES};
use crate::base::rng::Rng;
use crate::base::time::Instant;

const TICK_MS: u64 = 50;
const HEARTBEAT_TICKS: usize = 2;
const ELECTION_TICKS_MIN: usize = 10;
const ELECTION_TICKS_MAX: usize = 20;

/// Ticks after which a snapshot that was not answered is sent again.
const SNAPSHOT_TICKS: u32 = 60;

/// Ticks made up for after a pause: more would start elections that a leader's messages on their way prevent.
const TICKS_TOGETHER_MAX: u32 = 2;

#[derive(Debug)]
pub enum MetaEvent {
    /// The quorum's log is read. What is known to be committed adds up to these records. None at all: this node belongs
    /// to no cluster yet, unless [`Quorum::has_cluster`].
    Loaded { records: Vec<MetaRecord> },
    /// Everything up to `seq` is committed: `records`, in order, lead there from what was committed before. There are
    /// none where only the members of the quorum changed.
    Committed { seq: u64, records: Vec<MetaRecord> },
    /// Who decides on metadata. When it was this node and is no more, what was proposed and is not committed may be or
    /// not.
    Controller { leader: Option<NodeId>, term: u64, me: bool },
    /// There is no space. What was proposed stays queued; call `retry` in a while.
    Full { message: String },
    /// The metadata cannot be read or written: the broker must stop. What was proposed and not committed may or may not
    /// be there at the next start.
    Failed { message: String },
    /// Everything proposed is durable here and the file is closed.
    Closed,
}

/// What the quorum wants done, and what it has to say.
#[derive(Debug, Default)]
pub struct MetaOut {
    pub disk: Asked,
    /// To peers. They may be lost, doubled and reordered.
    pub messages: Vec<(NodeId, Vec<u8>)>,
    /// What this node, as the controller, has had committed: others may be told of it.
    pub steps: Vec<MetaStep>,
    pub events: Vec<MetaEvent>,
}

/// Somebody else decides, or nobody yet. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotController {
    pub leader: Option<NodeId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumStatus {
    pub leader: Option<NodeId>,
    pub term: u64,
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    pub commit: u64,
    pub last: u64,
    /// On the leader: how far each member's log is known to be as this one.
    pub matched: Vec<(NodeId, u64)>,
}

pub struct Quorum {
    me: NodeId,
    /// A new one unless the log that is read tells of another.
    directory: DirectoryId,
    rng: Rng,
    log: RaftLog,
    /// None until the log is read.
    node: Option<RawNode<Contents>>,
    /// With everything proposed, while this node is the controller.
    planned: Option<Box<Image>>,
    /// The term this node last led, and the index before its first entry.
    led: (u64, u64),
    /// Last told.
    controller: (Option<NodeId>, u64, bool),
    /// What was read, until it may be shown.
    recovered: Option<Vec<MetaRecord>>,
    /// What came of another's snapshot, until it is durable.
    installed: Option<MetaEvent>,
    /// The latest term and leader that this node was told of otherwise than by raft.
    told: (u64, u64),
    /// Items for the next frame.
    unwritten: Vec<u8>,
    /// The last of raft's steps that something must be durable for.
    must_write: Option<u64>,
    /// The same of the write under way.
    flying: Option<u64>,
    /// A snapshot came, which stands at the front of a file.
    must_replace: bool,
    /// Messages that wait for a step to be durable.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Ticks since a snapshot was sent to a member.
    snapshots: BTreeMap<u64, u32>,
    next_tick: Option<Instant>,
    closing: bool,
    failed: bool,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum").field("me", &self.me).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Quorum {
    /// Starts to read the log in `dir`. Not to be used before [`MetaEvent::Loaded`]. `owner` is the upper half of the
    /// ids of the files it opens. `me` has this data directory if nothing is in it.
    pub fn open(
        owner: u32,
        dir: PathBuf,
        (me, directory): (NodeId, DirectoryId),
        rng: Rng,
        out: &mut MetaOut,
    ) -> Quorum {
        Quorum {
            me,
            directory,
            rng,
            log: RaftLog::open(owner, dir, &mut out.disk),
            node: None,
            planned: None,
            led: (0, 0),
            controller: (None, 0, false),
            recovered: None,
            installed: None,
            told: (0, raft::INVALID_ID),
            unwritten: Vec::new(),
            must_write: None,
            flying: None,
            must_replace: false,
            held: VecDeque::new(),
            snapshots: BTreeMap::new(),
            next_tick: None,
            closing: false,
            failed: false,
        }
    }

    /// Whether this node belongs to a cluster.
    pub fn has_cluster(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.store().is_empty())
    }

    /// The data directory that this node has.
    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// Begins a cluster of this node alone, with these records.
    pub fn found(&mut self, records: Vec<MetaRecord>, out: &mut MetaOut) -> u64 {
        assert!(!self.has_cluster() && self.recovered.is_none(), "a cluster is founded once");
        let mut contents = Contents::new(self.directory);
        contents.found(self.me);
        self.start(contents);
        self.campaign_alone();
        self.settle_role();
        self.propose(records, out).expect("a node alone leads")
    }

    /// The metadata with everything proposed on the controller; elsewhere what is committed. What the next plan must be
    /// made against.
    pub fn planned(&self) -> &Image {
        self.planned.as_deref().unwrap_or_else(|| self.committed())
    }

    /// The metadata as it is committed.
    pub fn committed(&self) -> &Image {
        self.node().store().image()
    }

    /// The metadata with the whole log, of which the end may never be committed.
    pub fn newest(&self) -> Image {
        // What does not add up fails when it is committed.
        self.node().store().newest_image().unwrap_or_else(|_| self.committed().clone())
    }

    pub fn is_controller(&self) -> bool {
        self.planned.is_some()
    }

    /// Leadership is on its way to another node: nothing can be proposed until it is there, or has not come through.
    pub fn is_handing_over(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.raft.lead_transferee.is_some())
    }

    /// Proposes records, all or none of which will be committed, as far as they fit one entry: only plans for many
    /// partitions, each of which stands for itself, take several. Answers the `seq` at which [`MetaEvent::Committed`]
    /// covers them all. The records must fit `planned()`, as the controller's plans do.
    pub fn propose(&mut self, records: Vec<MetaRecord>, out: &mut MetaOut) -> Result<u64, NotController> {
        assert!(self.recovered.is_none(), "not loaded yet");
        assert!(!records.is_empty(), "there is nothing to wait for");
        let leader = self.leader();
        // A broker that stops may still have been asked, or have looked for leases that are over.
        let (Some(planned), Some(node), false) = (&mut self.planned, &mut self.node, self.closing) else {
            return Err(NotController { leader });
        };
        let mut entry = Vec::new();
        for (at, record) in records.iter().enumerate() {
            record.encode(&mut entry);
            if entry.len() >= QUORUM_ENTRY_BYTES || at + 1 == records.len() {
                // It is refused while leadership is on its way to another node.
                node.propose(Vec::new(), mem::take(&mut entry)).map_err(|_| NotController { leader })?;
            }
        }
        let seq = node.raft.raft_log.last_index();
        for record in &records {
            planned.apply(record).expect("the controller planned against this image");
        }
        self.work(out);
        Ok(seq)
    }

    /// Makes a node a voter; it should be a learner whose log is nearly whole.
    pub fn add_voter(&mut self, node: NodeId, out: &mut MetaOut) -> Result<u64, NotController> {
        self.change(Change::AddVoter(node), out)
    }

    /// Lets a node follow without a vote.
    pub fn add_learner(&mut self, node: NodeId, out: &mut MetaOut) -> Result<u64, NotController> {
        self.change(Change::AddLearner(node), out)
    }

    /// Takes a voter or learner out of the quorum.
    pub fn remove_member(&mut self, node: NodeId, out: &mut MetaOut) -> Result<u64, NotController> {
        self.change(Change::Remove(node), out)
    }

    /// One change of members at a time: others are refused until it is committed, as by a node that is no controller.
    fn change(&mut self, change: Change, out: &mut MetaOut) -> Result<u64, NotController> {
        let refused = NotController { leader: self.leader() };
        let Some(node) = self.node.as_mut().filter(|_| self.planned.is_some() && !self.closing) else {
            return Err(refused);
        };
        if node.raft.has_pending_conf() {
            return Err(refused);
        }
        node.propose_conf_change(change.encode(), raft_change(change)).map_err(|_| refused)?;
        let seq = node.raft.raft_log.last_index();
        self.work(out);
        Ok(seq)
    }

    /// Gives the leadership to the voter whose log is the most whole, if there is one that answers. Ends in
    /// [`MetaEvent::Controller`], or not at all.
    pub fn hand_over(&mut self, out: &mut MetaOut) {
        let Some(node) = self.node.as_mut().filter(|_| self.planned.is_some()) else { return };
        let members = &node.store().members;
        let others = members.voters.iter().filter(|id| **id != raft_id(self.me));
        let progress = |id: &u64| node.raft.prs().get(*id).filter(|progress| progress.recent_active);
        let best = others.filter_map(|id| Some((progress(id)?.matched, *id))).max();
        if let Some((_, id)) = best {
            node.transfer_leader(id);
            self.work(out);
        }
    }

    /// Takes what a peer's quorum says.
    pub fn on_message(&mut self, from: NodeId, bytes: &[u8], out: &mut MetaOut) -> Result<(), MessageError> {
        let message = decode_message(bytes)?;
        let settled = self.must_write.is_none() && self.flying.is_none();
        let unheard = message.msg_type == MessageType::MsgTimeoutNow && !settled;
        if self.recovered.is_some() || self.closing || self.failed || unheard {
            return Ok(());
        }
        let Some(node) = &mut self.node else { return Ok(()) };
        if message.from != raft_id(from) || message.to != raft_id(self.me) {
            return Err(MessageError { message: "a message of somebody else, or for somebody else" });
        }
        check_fits(node, &message, (self.me, self.directory))?;
        // What raft does not want, as an answer of a node that is no member any more, it says and forgets.
        let _ = node.step(message);
        self.work(out);
        Ok(())
    }

    /// A peer's connection broke: what was sent may be lost.
    pub fn on_unreachable(&mut self, peer: NodeId, out: &mut MetaOut) {
        let id = raft_id(peer);
        let Some(node) = &mut self.node else { return };
        node.report_unreachable(id);
        if self.snapshots.remove(&id).is_some() {
            node.report_snapshot(id, SnapshotStatus::Failure);
        }
        self.work(out);
    }

    /// To be told once for each operation asked for.
    pub fn on_disk(&mut self, op: MetaOp, result: DiskResult, out: &mut MetaOut) {
        let event = self.log.on_disk(op, result, &mut out.disk);
        self.on_log(event, out);
        self.work(out);
    }

    /// Tries again what found no space. Harmless at any time.
    pub fn retry(&mut self, out: &mut MetaOut) {
        self.log.retry(&mut out.disk);
    }

    /// Ends in [`MetaEvent::Closed`] once everything proposed is durable, or in [`MetaEvent::Failed`]: also where space
    /// is missing, since nobody is left to wait for it.
    pub fn close(&mut self, out: &mut MetaOut) {
        self.work(out);
        self.closing = true;
        self.next_tick = None;
        self.close_log(out);
    }

    pub fn on_timeout(&mut self, now: Instant, out: &mut MetaOut) {
        let Some(node) = self.node.as_mut().filter(|_| !self.closing && !self.failed) else { return };
        let Some(mut tick) = self.next_tick else { return };
        let mut ticks = 0;
        while tick <= now {
            tick = if ticks < TICKS_TOGETHER_MAX { tick.after_ms(TICK_MS) } else { now.after_ms(TICK_MS) };
            ticks += 1;
        }
        self.next_tick = Some(tick);
        let settled = self.must_write.is_none() && self.flying.is_none();
        for _ in 0..ticks.min(TICKS_TOGETHER_MAX) {
            // Raft stands for election only with everything durable; its log has no word for a snapshot on its way.
            let may_stand = settled && may_vote(node, self.me, self.directory);
            if may_stand || node.raft.state == StateRole::Leader {
                node.tick();
                redraw(node, &mut self.rng);
            }
        }
        for (id, ticks) in &mut self.snapshots {
            *ticks += 1;
            if *ticks == SNAPSHOT_TICKS {
                node.report_snapshot(*id, SnapshotStatus::Failure);
            }
        }
        let is_sent = |id: &u64| node.raft.prs().get(*id).is_some_and(|p| p.state == ProgressState::Snapshot);
        self.snapshots.retain(|id, _| is_sent(id));
        self.work(out);
    }

    /// When [`Quorum::on_timeout`] is to be called. A quorum of one waits for nothing.
    pub fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let wanted = self.has_cluster() && !self.closing && !self.failed && self.recovered.is_none();
        let wanted = wanted && self.node.as_ref().is_some_and(|node| !is_alone(node, self.me));
        if !wanted {
            self.next_tick = None;
        } else if self.next_tick.is_none() {
            self.next_tick = Some(now.after_ms(TICK_MS));
        }
        self.next_tick
    }

    /// Up to where in the quorum's log this node knows that it is committed: the same place on every node.
    pub fn commit(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.raft.raft_log.committed)
    }

    pub fn status(&self) -> QuorumStatus {
        let node = self.node();
        let members = &node.store().members;
        let nodes = |ids: &[u64]| ids.iter().filter_map(|id| node_of(*id)).collect();
        let progress = members.voters.iter().chain(&members.learners).filter_map(|id| {
            let progress = node.raft.prs().get(*id).filter(|_| node.raft.state == StateRole::Leader)?;
            Some((node_of(*id)?, progress.matched))
        });
        QuorumStatus {
            leader: self.leader(),
            term: self.known_leader().0,
            voters: nodes(&members.voters),
            learners: nodes(&members.learners),
            commit: node.raft.raft_log.committed,
            last: node.raft.raft_log.last_index(),
            matched: progress.collect(),
        }
    }

    /// The controller as far as it is known: one that has not begun to decide counts as none.
    fn leader(&self) -> Option<NodeId> {
        let leader = node_of(self.known_leader().1);
        leader.filter(|leader| *leader != self.me || self.planned.is_some())
    }

    fn node(&self) -> &RawNode<Contents> {
        self.node.as_ref().expect("the log was read")
    }

    fn on_log(&mut self, event: Option<LogEvent>, out: &mut MetaOut) {
        match event {
            None => {}
            Some(LogEvent::Read(file)) => self.on_read(file, out),
            Some(LogEvent::Durable) => self.on_durable(out),
            Some(LogEvent::Full { message }) => {
                // The old generation is whole: a broker whose disk is full can start and be read from.
                self.show_recovered(out);
                out.events.push(MetaEvent::Full { message });
            }
            Some(LogEvent::Failed { message }) => {
                self.failed = true;
                out.events.push(MetaEvent::Failed { message });
            }
            Some(LogEvent::Closed) => out.events.push(MetaEvent::Closed),
        }
    }

    fn fail(&mut self, doing: &str, why: &str, out: &mut MetaOut) {
        let failed = self.log.fail(doing, why);
        self.on_log(Some(failed), out);
    }

    fn on_read(&mut self, file: Option<(u64, bytes::Bytes)>, out: &mut MetaOut) {
        let Some((generation, bytes)) = file else {
            self.start(Contents::new(self.directory));
            self.recovered = Some(Vec::new());
            return self.show_recovered(out);
        };
        let contents = Contents::read(generation, &bytes, self.me).and_then(|mut contents| {
            match contents.node {
                None => contents.members.voters = vec![raft_id(self.me)],
                Some(node) if node == self.me => {}
                Some(node) => {
                    let me = self.me;
                    return Err(format!(
                        "it belongs to node {node}, this is node {me}: set node.id to {node}, or put back what belongs \
                         here; nothing was changed"
                    ));
                }
            }
            contents.apply_committed(self.me).map(|()| contents)
        });
        match contents {
            Err(why) => self.fail("reading", &why, out),
            Ok(mut contents) => {
                self.directory = *contents.directory.get_or_insert(self.directory);
                self.recovered = Some(contents.image().to_records());
                self.start(contents);
                self.campaign_alone();
                // What was read is made durable even if raft has nothing to add.
                self.must_write = Some(0);
            }
        }
    }

    fn start(&mut self, contents: Contents) {
        let config = Config {
            id: raft_id(self.me),
            election_tick: ELECTION_TICKS_MIN,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_election_tick: usize::MAX >> 1,
            applied: contents.applied(),
            max_size_per_msg: QUORUM_APPEND_BYTES_MAX as u64,
            max_inflight_msgs: QUORUM_APPENDS_MAX,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config, contents, &logger).expect("what was read is sound, and so is the config");
        redraw(&mut node, &mut self.rng);
        self.node = Some(node);
    }

    /// Who is the only voter need not wait.
    fn campaign_alone(&mut self) {
        let Some(node) = &mut self.node else { return };
        if node.store().members.voters == [raft_id(self.me)] {
            node.campaign().expect("a node that is no leader may stand for election");
        }
    }

    fn show_recovered(&mut self, out: &mut MetaOut) {
        out.events.extend(self.recovered.take().map(|records| MetaEvent::Loaded { records }));
    }

    fn on_durable(&mut self, out: &mut MetaOut) {
        self.show_recovered(out);
        out.events.extend(self.installed.take());
        let (Some(node), Some(step)) = (&mut self.node, self.flying.take()) else { return };
        node.on_persist_ready(step);
        // A snapshot counts as applied once it is durable.
        let log = &node.raft.raft_log;
        let applied = node.store().applied().min(log.persisted).min(log.committed);
        if applied > log.applied {
            node.advance_apply_to(applied);
        }
        let free = self.held.iter().take_while(|(waits_for, _)| *waits_for <= step).count();
        for (_, messages) in self.held.drain(..free).collect::<Vec<_>>() {
            self.send(messages, out);
        }
    }

    /// Carries out what raft has ready, and writes what is to be durable.
    fn work(&mut self, out: &mut MetaOut) {
        while let Some(node) = self.node.as_mut().filter(|_| !self.failed) {
            redraw(node, &mut self.rng);
            self.settle_role();
            let Some(node) = self.node.as_mut().filter(|node| node.has_ready()) else { break };
            let ready = node.ready();
            if let Err(why) = self.on_ready(ready, out) {
                return self.fail("applying", &why, out);
            }
        }
        self.write(out);
        self.tell_controller(out);
        self.close_log(out);
    }

    fn on_ready(&mut self, mut ready: Ready, out: &mut MetaOut) -> Result<(), String> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let step = ready.number();
        if !ready.snapshot().is_empty() {
            let records = node.mut_store().install(ready.snapshot())?;
            // These lead on from there.
            out.events.extend(self.installed.take());
            out.events.push(MetaEvent::Committed { seq: node.store().applied(), records });
            self.must_replace = true;
        }
        node.mut_store().append(ready.entries());
        for entry in ready.entries() {
            put_entry_item(&mut self.unwritten, entry);
        }
        if let Some(state) = ready.hs() {
            node.mut_store().hard_state = state.clone();
        }
        if ready.must_sync() {
            self.must_write = Some(step);
        }
        let committed = ready.take_committed_entries();
        let (messages, later) = (ready.take_messages(), ready.take_persisted_messages());
        node.advance_append_async(ready);
        self.send(messages, out);
        match self.must_write.or(self.flying) {
            Some(waits_for) => self.held.extend((!later.is_empty()).then_some((waits_for, later))),
            None => {
                self.send(later, out);
                self.node.as_mut().into_iter().for_each(|node| node.on_persist_ready(step));
            }
        }
        if committed.iter().any(|entry| change_of(entry).is_some()) {
            // Raft knows as members those that are known to be committed: after a start it would ask those of before,
            // some of which may be gone for good, and not those that came.
            self.must_write = Some(step);
        }
        self.apply(&committed, out)
    }

    fn apply(&mut self, entries: &[Entry], out: &mut MetaOut) -> Result<(), String> {
        out.steps.extend(entries.iter().filter_map(|entry| self.step_of(entry)));
        let (Some(node), Some(last)) = (&mut self.node, entries.last()) else { return Ok(()) };
        let (mut records, mut changed) = (Vec::new(), false);
        for entry in entries {
            records.append(&mut node.mut_store().apply(entry)?);
            if let Some(change) = change_of(entry) {
                node.apply_conf_change(&raft_change(change)).map_err(|error| error.to_string())?;
                changed = true;
                if change == Change::Remove(self.me) {
                    let term = node.raft.term;
                    node.raft.become_follower(term, raft::INVALID_ID);
                }
            }
        }
        node.advance_apply_to(last.index);
        if changed || !records.is_empty() {
            out.events.push(MetaEvent::Committed { seq: last.index, records });
        }
        Ok(())
    }

    /// The controller plans against what it has proposed; what others had proposed before is all applied then.
    fn settle_role(&mut self) {
        let Some(node) = &self.node else { return };
        let leads = node.raft.state == StateRole::Leader;
        if leads && self.led.0 != node.raft.term {
            self.led = (node.raft.term, node.raft.raft_log.last_index() - 1);
            self.planned = None;
        }
        if !leads {
            self.planned = None;
        } else if self.planned.is_none() && node.store().applied() >= self.led.1 {
            self.planned = Some(Box::new(node.store().image().clone()));
        }
    }

    fn tell_controller(&mut self, out: &mut MetaOut) {
        if self.node.is_none() || self.recovered.is_some() {
            return;
        }
        let now = (self.leader(), self.known_leader().0, self.planned.is_some());
        if now != self.controller {
            self.controller = now;
            let (leader, term, me) = now;
            out.events.push(MetaEvent::Controller { leader, term, me });
        }
    }

    fn send(&mut self, messages: Vec<Message>, out: &mut MetaOut) {
        for message in messages {
            if message.msg_type == MessageType::MsgSnapshot {
                self.snapshots.insert(message.to, 0);
            }
            let bytes = encode_message(&message);
            out.messages.extend(node_of(message.to).zip(bytes));
        }
    }

    fn write(&mut self, out: &mut MetaOut) {
        let Some(step) = self.must_write.filter(|_| self.log.is_idle()) else { return };
        let Some(node) = &mut self.node else { return };
        self.must_write = None;
        self.flying = Some(step);
        let mut items = mem::take(&mut self.unwritten);
        if mem::take(&mut self.must_replace) || self.log.is_generation_due(items.len()) {
            let payload = node.mut_store().compact(self.me);
            return self.log.replace(&payload, &mut out.disk);
        }
        node.store().put_hard_state(&mut items);
        self.log.write(&items, &mut out.disk);
    }

    fn close_log(&mut self, out: &mut MetaOut) {
        if self.closing && self.must_write.is_none() {
            let event = self.log.close(&mut out.disk);
            self.on_log(event, out);
        }
    }
}

/// Nobody else has a part in the quorum.
fn is_alone(node: &RawNode<Contents>, me: NodeId) -> bool {
    let members = &node.store().members;
    node.raft.state == StateRole::Leader && members.voters == [raft_id(me)] && members.learners.is_empty()
}

/// Puts an election timeout of the seeded generator in the place of one that raft drew.
fn redraw(node: &mut RawNode<Contents>, rng: &mut Rng) {
    if node.raft.randomized_election_timeout() >= ELECTION_TICKS_MAX {
        let spread = (ELECTION_TICKS_MAX - ELECTION_TICKS_MIN) as u64;
        node.raft.set_randomized_election_timeout(ELECTION_TICKS_MIN + rng.below(spread) as usize);
    }
}

/// Whether this node still has what it voted and acknowledged before. Who has nothing does not; nor does who lost its
/// directory and hears the log anew, until it is registered with the new one: then it is no voter until it has all.
fn may_vote(node: &RawNode<Contents>, me: NodeId, directory: DirectoryId) -> bool {
    let contents = node.store();
    !contents.is_empty() && contents.image().broker(me).is_none_or(|broker| broker.may_have_had(directory))
}

/// Raft panics on what can only come of a lost log, here or there.
fn check_fits(
    node: &RawNode<Contents>,
    message: &Message,
    (me, directory): (NodeId, DirectoryId),
) -> Result<(), MessageError> {
    let log = &node.raft.raft_log;
    let lost = MessageError { message: "a message to a node that had more of the log, which is lost" };
    if message.term < node.raft.term {
        return Ok(());
    }
    match message.msg_type {
        // It cannot tell a whole log from one that lacks something, nor knows what it voted before.
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
            if !may_vote(node, me, directory) =>
        {
            Err(MessageError { message: "a vote is asked of a node that lost the log, or has none yet" })
        }
        MessageType::MsgHeartbeat if message.commit > log.last_index() => Err(lost),
        MessageType::MsgAppend => {
            let known = message.entries.iter().filter(|entry| entry.index <= log.committed);
            let known = known.filter(|entry| entry.index >= log.first_index());
            let differs = known.into_iter().any(|entry| log.term(entry.index).ok() != Some(entry.term));
            if differs { Err(MessageError { message: "entries other than those that are committed" }) } else { Ok(()) }
        }
        // One that led before may have lost what it sent and did not finish writing.
        MessageType::MsgAppendResponse
            if node.raft.state == StateRole::Leader && !message.reject && message.index > log.last_index() =>
        {
            Err(MessageError { message: "an answer of a node that has more of the log, which is lost here" })
        }
        MessageType::MsgSnapshot if message.get_snapshot().get_metadata().get_conf_state().voters.is_empty() => {
            Err(MessageError { message: "a snapshot without voters" })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
