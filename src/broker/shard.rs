//! The shard: all decisions of one core. Inputs in, effects out, nothing else.
//!
//! A step handles its input, then everything the input set free (acks, wake-ups, answers to itself), and last hands
//! out what it has gathered for other cores, one message per kind and core.
//!
//! *Owns*: the order in which things happen on a core. *Never*: waits, reads a clock, talks to another shard except
//! by message. *Runs on*: every core, one each.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::deadlines::Deadlines;
use crate::base::ids::{ConnId, CoreId, Incarnation, Offset, PartitionIndex};
use crate::base::metric::{Metric, Metrics};
use crate::base::rng::Rng;
use crate::base::slab::{Key, Slab};
use crate::base::stage::{Arrival, LITTLE_BYTES, Stage, Timed, Trace};
use crate::base::time::{Instant, Now};
use crate::broker::api;
use crate::broker::brokers;
use crate::broker::cleaning::Cleaning;
use crate::broker::cluster::Cluster;
use crate::broker::commits::Commits;
use crate::broker::control::Control;
use crate::broker::deletions::Deletions;
use crate::broker::effect::{Admission, Effect, Effects, Input, ListenerKind};
use crate::broker::following::Following;
use crate::broker::forward::Envelope;
use crate::broker::gossiping::{Gossiping, Measured};
use crate::broker::greeting::PeerKey;
use crate::broker::groups::{GroupAsk, Groups};
use crate::broker::job::{Asker, Job, Work};
use crate::broker::message::{AppendEntry, ShardMessage, TopicPartition};
use crate::broker::noting::Noting;
use crate::broker::opening::Opening;
use crate::broker::partitions::Partitions;
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, Peers};
use crate::broker::quotas::Quotas;
use crate::broker::reads::Reads;
use crate::broker::replicas::{LeaderCore, Replicas};
use crate::broker::report::{Report, RequestCounts};
use crate::broker::session::{Reply, Sessions};
use crate::broker::shutdown::Life;
use crate::broker::telemetry::Telemetry;
use crate::config::{Address, Settings};
use crate::group::ask::{Answer as GroupAnswer, Ticket};
use crate::log::cache::TailCache;
use crate::log::log::{FoundOffset, LogSlices, ReadError, ReadTicket};
use crate::meta::{Image, QuorumStatus};
use crate::replica::deletion::DeletionTicket;
use crate::replica::partition::{AckTo, Acked, Follower, Partition, Refusal, Watch};
use crate::wire::codec::Message;
use crate::wire::errors::ErrorCode;
use crate::wire::frame;
use crate::wire::reader::Reader;
use crate::wire::text::Text;

/// What each kind of listener advertises.
#[derive(Clone, Debug)]
pub struct Listeners {
    pub shared: Address,
    /// Empty, or one for each core.
    pub per_core: Vec<Address>,
    /// Where other brokers reach core 0; core N is at this port plus N.
    pub peer: Option<Address>,
}

#[derive(Clone, Debug)]
pub struct ShardConfig {
    pub core: CoreId,
    pub cores: u16,
    pub settings: Arc<Settings>,
    pub listeners: Listeners,
    pub seed: u64,
    /// Of this run of the process, the same on all its cores.
    pub incarnation: Incarnation,
    /// What the brokers of the cluster prove to each other that they have.
    pub peer_key: Option<PeerKey>,
}

#[derive(Debug)]
pub struct Shard {
    /// With the settings in force: those at the start, and what was changed since.
    pub(in crate::broker) config: ShardConfig,
    pub(in crate::broker) at_start: Arc<Settings>,
    pub(in crate::broker) rng: Rng,
    pub(in crate::broker) life: Life,
    pub(in crate::broker) image: Image,
    pub(in crate::broker) sessions: Sessions,
    pub(in crate::broker) jobs: Slab<Job>,
    pub(in crate::broker) partitions: Partitions,
    pub(in crate::broker) commits: Commits,
    pub(in crate::broker) noting: Noting,
    pub(in crate::broker) cache: TailCache,
    pub(in crate::broker) reads: Reads,
    pub(in crate::broker) replicas: Replicas,
    pub(in crate::broker) groups: Groups,
    pub(in crate::broker) deletions: Deletions,
    pub(in crate::broker) cleaning: Cleaning,
    pub(in crate::broker) fetch_sessions: api::fetch_session::FetchSessions,
    pub(in crate::broker) producer_ids: api::init_producer_id::ProducerIds,
    pub(in crate::broker) deadlines: Deadlines<DeadlineKey>,
    pub(in crate::broker) quotas: Quotas,
    pub(in crate::broker) telemetry: Telemetry,
    pub(in crate::broker) peers: Peers,
    pub(in crate::broker) gossiping: Gossiping,
    pub(in crate::broker) measured: Measured,
    /// Core 0 alone decides on metadata.
    pub(in crate::broker) control: Option<Control>,
    pub(in crate::broker) cluster: Cluster,
    pub(in crate::broker) following: Following,
    pub(in crate::broker) opening: Opening,
    /// Why the data directory takes no more writes.
    pub(in crate::broker) offline: Option<String>,
    /// What the current step set free and has not handled yet.
    pub(in crate::broker) todo: VecDeque<Todo>,
    /// Cores that have answered their clients and are about to close.
    pub(in crate::broker) cores_done: u16,
    pub(in crate::broker) counts: RequestCounts,
    /// Counters alone; gauges are read when they are asked for.
    pub(in crate::broker) metrics: Metrics,
    outbox: Vec<Outbox>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DeadlineKey {
    Fetch(Key),
    Partition(u32),
    /// Somebody may have to be compacted.
    Clean,
    /// A partition of `__consumer_offsets`: its coordinator.
    Groups(PartitionIndex),
    /// Appends wait for the journal's space; the end of the step sees to it.
    Journal,
    /// How far logs are durable is to be noted; the end of the step sees to it.
    Note,
    /// Metadata that found no space.
    MetaRetry,
    /// The quorum's clock.
    Quorum,
    /// Another broker is to be asked for metadata.
    MetaPull,
    /// The controller, or a seed, is to hear of this broker.
    Heartbeat,
    /// A broker may not have been heard of for too long.
    Leases,
    /// Who leads is looked at.
    BalanceLeaders,
    /// Others should lead this broker's partitions by now.
    Leave,
    /// Clients should have been let in by now.
    Open,
    /// A request that did not reach the controller.
    Forward(Key),
    Stop,
    /// A connection may be read again after its client has used too much.
    Unmute(ConnId),
    /// The other cores are to know what clients with quotas have used here.
    QuotaShare,
    /// Clients whose telemetry is known may have gone.
    Telemetry,
    /// Another broker may be too late with an answer.
    Peer(Key),
    /// Gossip has something to send.
    Gossip,
    /// Cores are to tell what they have measured.
    Gather,
    /// A core that followers of this one ask; the end of the step sees to it.
    Fetcher(LeaderCore),
}

/// Consequences inside one step, handled in order instead of by recursion.
#[derive(Debug)]
pub enum Todo {
    Acked(Acked),
    Changed(Follower),
    Wake { job: Key, round: u32 },
    LateRead { owner: u32, ticket: ReadTicket, result: Result<LogSlices, ReadError> },
    LateFind { owner: u32, ticket: ReadTicket, result: Result<Option<FoundOffset>, ReadError> },
    GroupAnswer(Ticket, GroupAnswer),
    LateDeletion { owner: u32, ticket: DeletionTicket, result: Result<Offset, Refusal> },
    PeerAnswer { call: PeerCall, answer: Result<PeerAnswer, PeerError> },
    Message { from: CoreId, message: ShardMessage },
}

#[derive(Debug, Default)]
struct Outbox {
    appends: Vec<AppendEntry>,
    acks: Vec<Acked>,
    changed: Vec<Follower>,
    aside: Vec<Follower>,
    group_asks: Vec<GroupAsk>,
    group_answers: Vec<(Ticket, GroupAnswer)>,
}

/// A request as its handler gets it.
#[derive(Debug)]
pub struct Request {
    pub asker: Asker,
    pub client_id: Option<Text>,
    pub body: Reader,
    pub now: Now,
    pub trace: Trace,
}

impl Shard {
    pub fn new(config: ShardConfig) -> Shard {
        assert!(config.cores > 0);
        assert!(config.core.0 < config.cores);
        let settings = &config.settings;
        let share = |total: u64| usize::try_from(total / u64::from(config.cores)).unwrap_or(usize::MAX).max(1);
        let frame_bytes_max = settings.socket_request_max_bytes as usize;
        Shard {
            at_start: config.settings.clone(),
            rng: Rng::new(config.seed ^ u64::from(config.core.0) << 48),
            life: Life::Starting,
            image: Image::default(),
            sessions: Sessions::new(share(settings.queued_max_request_bytes), frame_bytes_max),
            jobs: Slab::default(),
            partitions: Partitions::default(),
            commits: Commits::default(),
            noting: Noting::default(),
            cache: TailCache::new(share(settings.tail_cache_bytes)),
            reads: Reads::default(),
            replicas: Replicas::default(),
            groups: Groups::default(),
            deletions: Deletions::default(),
            cleaning: Cleaning::default(),
            fetch_sessions: api::fetch_session::FetchSessions::new(
                settings.max_incremental_fetch_session_cache_slots as usize,
            ),
            producer_ids: api::init_producer_id::ProducerIds::default(),
            deadlines: Deadlines::default(),
            quotas: Quotas::default(),
            telemetry: Telemetry::default(),
            peers: Peers::default(),
            gossiping: Gossiping::default(),
            measured: Measured::default(),
            control: None,
            cluster: Cluster::default(),
            following: Following::default(),
            opening: Opening::default(),
            offline: None,
            todo: VecDeque::new(),
            cores_done: 0,
            counts: RequestCounts::default(),
            metrics: Metrics::default(),
            outbox: (0..config.cores).map(|_| Outbox::default()).collect(),
            config,
        }
    }

    /// Starts recovery. [`Effect::Ready`] follows, or [`Effect::Fatal`].
    pub fn boot(&mut self, now: Now, effects: &mut Effects) {
        if self.config.core == CoreId(0) {
            Control::boot(self, now, effects);
        }
        self.finish_step(now, effects);
    }

    /// Asked with the length of every frame before its body is read.
    pub fn admit(&mut self, conn: ConnId, frame_bytes: usize) -> Admission {
        self.sessions.admit(conn, frame_bytes)
    }

    pub fn step(&mut self, input: Input, now: Now, effects: &mut Effects) {
        effects.watch.start_step(now.mono);
        self.quotas.start_step(now.mono);
        match input {
            Input::Opened { conn, listener, host, port } => {
                self.sessions.on_opened(conn, listener, (host, port));
                if listener != ListenerKind::Peer {
                    self.charge_connection(conn);
                }
            }
            Input::Frame { conn, frame, arrival } => self.on_frame(conn, frame, arrival, now, effects),
            Input::Closed { conn } => {
                for job in self.sessions.on_closed(conn, effects) {
                    self.drop_job(job, now, effects);
                }
            }
            Input::Drained { conn, bytes, began } => {
                self.sessions.on_drained(conn, bytes, began, now.mono, effects);
            }
            Input::PeerOpened { peer } => self.on_peer_opened(peer, now, effects),
            Input::PeerFrame { peer, frame, .. } => self.on_peer_frame(peer, frame, now, effects),
            Input::PeerClosed { peer, why } => self.on_peer_closed(peer, &why, now, effects),
            Input::Datagram { from, data } => self.on_datagram(&from, &data, now, effects),
            Input::FromShard { from, message } => self.on_message(from, message, now, effects),
            Input::Disk { token, result } => self.on_disk(token, result, now, effects),
            Input::Timeout => self.on_timeout(now, effects),
            Input::Stop => self.on_stop(now, effects),
        }
        self.finish_step(now, effects);
        self.measured.worked(now.mono, &effects.watch);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Gauges for tests and reports: (connections, request bytes held, tail-cache bytes, partitions).
    pub fn gauges(&self) -> (usize, usize, usize, usize) {
        (self.sessions.connections(), self.sessions.request_bytes(), self.cache.bytes(), self.partitions.len())
    }

    /// The metadata as this core has applied them.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Who decides on metadata, as core 0 knows. Only of a core that is ready.
    pub fn quorum(&self) -> Option<QuorumStatus> {
        self.control.as_ref().map(|control| control.quorum.status())
    }

    /// The partitions that are open here.
    pub fn replicas(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.partitions.iter()
    }

    /// What this core has done so far, and holds. Requests count in the stages when their replies are sent.
    pub fn report(&self) -> Report {
        let mut metrics = self.metrics;
        for (metric, value) in [
            (Metric::QuotaClients, self.quotas.len()),
            (Metric::TelemetryClients, self.telemetry.clients()),
            (Metric::MutedConnections, self.sessions.muted()),
            (Metric::Connections, self.sessions.connections()),
            (Metric::Partitions, self.partitions.len()),
            (Metric::RequestBytes, self.sessions.request_bytes()),
            (Metric::ReplyBytes, self.sessions.output_bytes()),
            (Metric::TailCacheBytes, self.cache.bytes()),
            (Metric::DirectoryOffline, usize::from(self.offline.is_some())),
        ] {
            metrics.set(metric, value as u64);
        }
        metrics.set(Metric::PartitionsRead, self.reads.partitions_read());
        let journal = self.commits.gauges();
        for (metric, value) in [
            (Metric::JournalBytes, journal.ring_bytes),
            (Metric::JournalUsedBytes, journal.used_bytes),
            (Metric::JournalCommits, journal.commits),
            (Metric::JournalEntries, journal.entries),
            (Metric::JournalWriteBytes, journal.written_bytes),
            (Metric::JournalPrewrittenBytes, journal.prewritten_bytes),
            (Metric::JournalWaits, journal.space_waits),
            (Metric::JournalWaitUs, journal.space_wait_us),
            (Metric::JournalHandedBack, journal.handed_back),
        ] {
            metrics.set(metric, value);
        }
        self.gossiping.add_to(&mut metrics);
        let clients = self.telemetry.pushed().cloned().collect();
        let nodes = self.gossiping.nodes();
        Report { stages: self.sessions.stages(), metrics, requests: self.counts.clone(), clients, nodes }
    }

    pub(in crate::broker) fn core(&self) -> CoreId {
        self.config.core
    }

    pub(in crate::broker) fn send(&mut self, to: CoreId, message: ShardMessage, effects: &mut Effects) {
        if to == self.config.core {
            self.todo.push_back(Todo::Message { from: to, message });
        } else {
            effects.push(Effect::ToShard { to, message });
        }
    }

    pub(in crate::broker) fn send_append(&mut self, to: CoreId, entry: AppendEntry) {
        assert!(to != self.config.core);
        self.outbox[usize::from(to.0)].appends.push(entry);
    }

    pub(in crate::broker) fn ack(&mut self, acked: Acked) {
        match acked.to {
            AckTo::Job { core, .. } if core != self.config.core => self.outbox[usize::from(core.0)].acks.push(acked),
            AckTo::Job { .. } | AckTo::Coordinator { .. } => self.todo.push_back(Todo::Acked(acked)),
        }
    }

    pub(in crate::broker) fn send_group_ask(&mut self, to: CoreId, asked: GroupAsk) {
        assert!(to != self.config.core);
        self.outbox[usize::from(to.0)].group_asks.push(asked);
    }

    pub(in crate::broker) fn send_group_answer(&mut self, to: Ticket, answer: GroupAnswer) {
        assert!(to.core != self.config.core);
        self.outbox[usize::from(to.core.0)].group_answers.push((to, answer));
    }

    pub(in crate::broker) fn tell_changed(&mut self, watch: Watch) {
        if watch.core == self.config.core {
            self.todo.push_back(Todo::Changed(watch.follower));
        } else {
            self.outbox[usize::from(watch.core.0)].changed.push(watch.follower);
        }
    }

    pub(in crate::broker) fn tell_aside(&mut self, watch: Watch) {
        if watch.core == self.config.core {
            api::fetch::on_told_aside(self, watch.follower);
        } else {
            self.outbox[usize::from(watch.core.0)].aside.push(watch.follower);
        }
    }

    pub(in crate::broker) fn add_job(&mut self, asker: Asker, work: Work) -> Key {
        let job = self.jobs.insert(Job { asker, work, again: None });
        self.sessions.set_job(asker.to, job);
        job
    }

    pub(in crate::broker) fn reply<M: Message>(&mut self, api_key: i16, asker: Asker, body: &M, effects: &mut Effects) {
        let data = self.encode_reply(api_key, asker, body);
        self.sessions.fill(asker.to, Reply::Frame(data), None, effects);
    }

    /// With the time that the client's connection is not read because of its quotas.
    fn encode_reply<M: Message>(&self, api_key: i16, asker: Asker, body: &M) -> Vec<Bytes> {
        let data = self.encode_bare_reply(api_key, asker, body);
        match asker.envelope {
            Some(envelope) => envelope.wrap(&data),
            None => data,
        }
    }

    fn encode_bare_reply<M: Message>(&self, api_key: i16, asker: Asker, body: &M) -> Vec<Bytes> {
        // Where there are no quotas nobody is muted: a change of them unmutes everybody.
        let may_be_muted = self.image.has_quotas();
        let throttle_ms = if may_be_muted { self.sessions.muted_ms(asker.to.conn, self.quotas.now()) } else { 0 };
        if throttle_ms == 0 {
            return frame::encode_reply(api_key, asker.version, asker.correlation_id, body);
        }
        let mut body = body.clone();
        body.set_throttle_time_ms(i32::try_from(throttle_ms).unwrap_or(i32::MAX));
        frame::encode_reply(api_key, asker.version, asker.correlation_id, &body)
    }

    /// Replies to a request whose time is told by stages.
    pub(in crate::broker) fn reply_timed<M: Message>(
        &mut self,
        (timed, mut trace): (Timed, Trace),
        api_key: i16,
        asker: Asker,
        body: &M,
        effects: &mut Effects,
    ) {
        let data = self.encode_reply(api_key, asker, body);
        // Records are no work: a head, those of one partition, and a tail.
        let bytes = if data.len() <= 3 { data[0].len() } else { LITTLE_BYTES };
        effects.watch.worked_on(bytes, &mut trace, Stage::Encode);
        self.sessions.fill(asker.to, Reply::Frame(data), Some((timed, trace)), effects);
    }

    /// Passes on a reply that another broker made, which has its header and no length.
    pub(in crate::broker) fn reply_frame(&mut self, asker: Asker, reply: Bytes, effects: &mut Effects) {
        let length = u32::try_from(reply.len()).expect("a frame is bounded well below 4 GiB").to_be_bytes();
        let data = vec![Bytes::copy_from_slice(&length), reply];
        self.sessions.fill(asker.to, Reply::Frame(data), None, effects);
    }

    /// What was in an envelope has no reply.
    pub(in crate::broker) fn refuse_envelope(
        &mut self,
        asker: Asker,
        envelope: Envelope,
        error: ErrorCode,
        effects: &mut Effects,
    ) {
        self.sessions.fill(asker.to, Reply::Frame(envelope.refuse(error)), None, effects);
    }

    pub(in crate::broker) fn close_connection(&mut self, asker: Asker, why: &str, effects: &mut Effects) {
        if let Some(envelope) = asker.envelope {
            // The broker that passed it on closes its client's.
            return self.refuse_envelope(asker, envelope, ErrorCode::InvalidRequest, effects);
        }
        tracing::warn!(conn = asker.to.conn.0, "closing a connection: {why}");
        self.sessions.fill(asker.to, Reply::CloseConnection, None, effects);
    }

    fn on_frame(&mut self, conn: ConnId, frame: Bytes, arrival: Arrival, now: Now, effects: &mut Effects) {
        let Some((to, listener)) = self.sessions.on_frame(conn, frame.len()) else { return };
        let mut body = Reader::new(frame);
        let mut asker = Asker { to, listener, version: 0, correlation_id: 0, envelope: None, token: None };
        if self.is_done_answering() {
            return self.close_connection(asker, "its request came when the broker had stopped answering", effects);
        }
        let header = match frame::decode_header(&mut body) {
            Ok(header) => header,
            Err(error) => return self.close_connection(asker, &format!("request header: {error}"), effects),
        };
        asker.version = header.version;
        asker.correlation_id = header.correlation_id;
        let mut trace = arrival.trace();
        effects.watch.arrived(&mut trace, Stage::Queue);
        let request = Request { asker, client_id: header.client_id, body, now, trace };
        api::dispatch(self, header.api_key, request, effects);
    }

    fn on_message(&mut self, from: CoreId, message: ShardMessage, now: Now, effects: &mut Effects) {
        match message {
            ShardMessage::Append(entries) => {
                for entry in entries {
                    self.append_here(entry, now, effects);
                }
            }
            ShardMessage::Acked(acks) => {
                for mut acked in acks {
                    effects.watch.arrived(&mut acked.trace, Stage::MeshHop);
                    self.on_acked(acked, now, effects);
                }
            }
            ShardMessage::Read(order) => self.read_here(from, order, now, effects),
            ShardMessage::ReadDone { job, round, results, mut trace } => {
                effects.watch.arrived(&mut trace, Stage::MeshHop);
                api::fetch::on_read_done(self, (job, round), results, &trace, now, effects);
            }
            ShardMessage::Watch(entries) => self.watch_here(from, &entries),
            ShardMessage::Unwatch(entries) => self.unwatch_here(from, &entries),
            ShardMessage::Changed(followers) => api::fetch::on_changed(self, &followers),
            ShardMessage::ToldAside(followers) => {
                followers.into_iter().for_each(|follower| api::fetch::on_told_aside(self, follower));
            }
            ShardMessage::Ask { job, at, to, question } => {
                self.answer_here(from, job, at, to, question, now, effects);
            }
            ShardMessage::Answer { job, at, answer } => match self.jobs.get(job).map(|job| &job.work) {
                Some(Work::ListOffsets(_)) => api::list_offsets::on_answer(self, job, at, answer, effects),
                Some(Work::DeleteRecords(_)) => api::delete_records::on_answer(self, job, at, answer, effects),
                Some(Work::EpochEnds(_)) => api::epoch_ends::on_answer(self, job, at, answer, effects),
                _ => {}
            },
            ShardMessage::GroupAsks(asks) => asks.into_iter().for_each(|asked| self.group_ask_here(asked, now)),
            ShardMessage::GroupAnswers(answers) => {
                for (ticket, answer) in answers {
                    self.on_group_answer(ticket, answer, effects);
                }
            }
            ShardMessage::QuotaUsed(used) => self.on_quota_used(used),
            ShardMessage::Survey { job, survey, of } => self.on_survey(from, (job, survey), &of, effects),
            ShardMessage::Surveyed { job, found } => self.on_surveyed(job, found, effects),
            ShardMessage::Control { job, order } => Control::on_order(self, from, job, order, now, effects),
            ShardMessage::Controlled { job, outcome } => {
                api::on_controlled(self, job, outcome, now, effects);
            }
            ShardMessage::Meta { sequence, records } => self.on_meta(sequence, &records, now, effects),
            ShardMessage::MetaApplied { sequence } => Control::on_applied(self, sequence, now, effects),
            ShardMessage::Controller(at) => self.on_controller_at(at, now),
            ShardMessage::IsrProposed(proposals) => self.on_isr_proposed(proposals, now, effects),
            ShardMessage::IsrAnswered(answers) => self.on_isr_answered(answers, now, effects),
            ShardMessage::Left => self.on_left(now, effects),
            ShardMessage::DirectoryOffline { cause } => self.on_directory_offline(from, &cause, now, effects),
            ShardMessage::Replayed { must_reach, committed } => {
                self.commits.on_replayed(must_reach);
                self.noting.on_replayed(committed);
            }
            ShardMessage::AllReady => self.on_all_ready(now, effects),
            ShardMessage::LetClientsIn => self.on_let_clients_in(effects),
            ShardMessage::Gather => self.on_gather(from, now, effects),
            ShardMessage::Gathered(gathered) => self.on_gathered(*gathered),
            ShardMessage::SessionsDone => self.on_sessions_done(now, effects),
        }
    }

    fn on_timeout(&mut self, now: Now, effects: &mut Effects) {
        // What is set anew for no later than now waits for the next turn, so that other inputs are never kept out.
        for _ in 0..self.deadlines.len() {
            let Some(key) = self.deadlines.pop_due(now.mono) else { return };
            match key {
                DeadlineKey::Fetch(job) => api::fetch::on_deadline(self, job, now, effects),
                DeadlineKey::Clean => self.on_clean_due(now, effects),
                DeadlineKey::Partition(owner) => self.on_partition_timeout(owner, now, effects),
                DeadlineKey::Groups(partition) => self.on_group_timeout(partition, now, effects),
                DeadlineKey::Journal => self.commits.on_timeout(),
                DeadlineKey::Note => self.noting.on_timeout(),
                DeadlineKey::MetaRetry => Control::on_retry(self, now, effects),
                DeadlineKey::Quorum => Control::on_quorum_timeout(self, now, effects),
                DeadlineKey::MetaPull => self.on_pull_due(now, effects),
                DeadlineKey::Heartbeat => self.on_heartbeat_due(now, effects),
                DeadlineKey::Leases => brokers::on_leases_due(self, now, effects),
                DeadlineKey::BalanceLeaders => brokers::on_balance_due(self, now, effects),
                DeadlineKey::Leave => self.on_leave_deadline(effects),
                DeadlineKey::Open => self.on_open_due(now, effects),
                DeadlineKey::Forward(job) => self.send_forward(job, now, effects),
                DeadlineKey::Unmute(conn) => self.sessions.unmute(conn, effects),
                DeadlineKey::QuotaShare => self.share_quota_use(effects),
                DeadlineKey::Telemetry => self.forget_silent_clients(now),
                DeadlineKey::Fetcher(leader) => self.on_fetcher_due(leader),
                DeadlineKey::Peer(link) => self.on_peer_due(link, now, effects),
                DeadlineKey::Gossip => self.on_gossip_timeout(now, effects),
                DeadlineKey::Gather => self.gather_for_gossip(now, effects),
                DeadlineKey::Stop => self.on_stop_deadline(now, effects),
            }
        }
    }

    /// Forgets a job whose client is gone. What it asked of partitions goes on; the answers find nobody.
    pub(in crate::broker) fn drop_job(&mut self, job: Key, now: Now, effects: &mut Effects) {
        if matches!(self.jobs.get(job), Some(Job { work: Work::Fetch(_), .. })) {
            api::fetch::on_dropped(self, job, now, effects);
        }
        self.jobs.remove(job);
    }

    fn finish_step(&mut self, now: Now, effects: &mut Effects) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Acked(acked) => self.on_acked(acked, now, effects),
                Todo::Changed(follower) => api::fetch::on_changed(self, &[follower]),
                Todo::Wake { job, round } => api::fetch::on_wake(self, job, round, now, effects),
                Todo::LateRead { owner, ticket, result } => {
                    self.on_late_read(owner, ticket, result, now, effects);
                }
                Todo::LateDeletion { owner, ticket, result } => self.on_late_deletion(owner, ticket, result, effects),
                Todo::LateFind { owner, ticket, result } => self.on_late_find(owner, ticket, result, now, effects),
                Todo::GroupAnswer(ticket, answer) => self.on_group_answer(ticket, answer, effects),
                Todo::PeerAnswer { call, answer } => self.on_peer_answer(call, answer, now, effects),
                Todo::Message { from, message } => self.on_message(from, message, now, effects),
            }
        }
        self.append_group_records(now, effects);
        self.replicate(now, effects);
        self.commit(now, effects);
        self.note(now, effects);
        if !self.todo.is_empty() {
            return self.finish_step(now, effects);
        }
        for (to, outbox) in self.outbox.iter_mut().enumerate() {
            let to = CoreId(to as u16);
            if !outbox.appends.is_empty() {
                let message = ShardMessage::Append(mem::take(&mut outbox.appends));
                effects.push(Effect::ToShard { to, message });
            }
            if !outbox.acks.is_empty() {
                let message = ShardMessage::Acked(mem::take(&mut outbox.acks));
                effects.push(Effect::ToShard { to, message });
            }
            if !outbox.group_asks.is_empty() {
                let message = ShardMessage::GroupAsks(mem::take(&mut outbox.group_asks));
                effects.push(Effect::ToShard { to, message });
            }
            if !outbox.group_answers.is_empty() {
                let message = ShardMessage::GroupAnswers(mem::take(&mut outbox.group_answers));
                effects.push(Effect::ToShard { to, message });
            }
            if !outbox.changed.is_empty() {
                let message = ShardMessage::Changed(mem::take(&mut outbox.changed));
                effects.push(Effect::ToShard { to, message });
            }
            if !outbox.aside.is_empty() {
                let message = ShardMessage::ToldAside(mem::take(&mut outbox.aside));
                effects.push(Effect::ToShard { to, message });
            }
        }
        if self.life == Life::Stopping {
            self.check_sessions_done(effects);
            if !self.todo.is_empty() {
                self.finish_step(now, effects);
            }
        }
    }
}
