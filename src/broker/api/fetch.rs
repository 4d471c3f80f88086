//! Fetch (API 1, versions 4–18).
//!
//! A fetch goes in rounds. A round reads, each on its owner's core, the partitions that the request names, or those of
//! its session that are due; if there are too few bytes and time is left, the fetch parks until a partition changes,
//! and the next round begins. Nothing that was read is kept while parked.
//!
//! Watches say that a partition changes. Those of a fetch without a session are taken back when it goes on; those of a
//! session stay until they have served, so that a partition at rest costs nothing (see `fetch_rows`). A fetch that is
//! parked ends when the next of its session comes: a follower that has another partition to ask for does not wait.
//!
//! Record bytes are never copied: what a partition's log hands out (slices of the tail cache, or of a disk read) is
//! what the reply frame carries to the socket; `wire::writer` appends them as slices.
//!
//! *Owns*: when a fetch is answered, and with what. *Never*: reads a log. *Runs on*: the core whose client asked.

use crate::base::ids::{BrokerEpoch, CoreId, LeaderEpoch, NodeId, Offset};
use crate::base::limits;
use crate::base::slab::Key;
use crate::base::stage::{Stage, Timed, Trace};
use crate::base::time::{Instant, Now};
use crate::broker::api::fetch_rows::Wanted;
use crate::broker::api::fetch_session::{Left, SessionUse, Understood};
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Job, Work};
use crate::broker::message::{ReadEntry, ReadFor, ReadOrder, ReadResult, ShardMessage, TopicPartition, WatchEntry};
use crate::broker::route;
use crate::broker::shard::{DeadlineKey, Request, Shard, Todo};
use crate::broker::shutdown::Life;
use crate::meta::quota::QuotaKey;
use crate::replica::partition::{Follower, Reader};
use crate::wire::codec::Records;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, NodeEndpoint, PartitionData};
use crate::wire::text::Text;

/// From this version topics are named by id.
const TOPIC_ID_VERSION: i16 = 13;
/// From this version a wrong leader is answered with the right one (KIP-951).
const LEADER_HINT_VERSION: i16 = 16;
/// A fetch takes at most this part of the reply memory that is left, so that many slow clients leave some for others.
const ROOM_SHARE: usize = 4;
/// What a partition of a request takes of it, roughly.
const TARGET_BYTES: usize = 64;
/// How soon a fetch that found no reply memory asks again.
const STARVED_RETRY_MS: u64 = 10;

#[derive(Debug)]
pub struct FetchWork {
    whose: ReadFor,
    /// Where the consumer is, if it says so.
    rack: Text,
    session: SessionUse,
    /// Of the requests of its session.
    turn: i32,
    /// With a session: what its round reads.
    targets: Vec<Target>,
    /// Changes of the session's rows when the round began.
    seen: u64,
    min_bytes: usize,
    bytes_max: usize,
    deadline: Instant,
    /// The deadline that is set in the shard, if any.
    alarm: Option<Instant>,
    round: u32,
    cores_pending: usize,
    /// Record bytes this round may bring, but for a first batch that is larger.
    room: usize,
    /// Reply bytes set aside for this round.
    reserved: usize,
    parked: bool,
    /// The round read nothing for want of reply memory.
    starved: bool,
    /// Parked although the round has read something, less than the client's least, or has held something back.
    has_some: bool,
    trace: Trace,
}

#[derive(Debug)]
struct Target {
    /// With a session.
    row: Option<Key>,
    wanted: Wanted,
    /// None: refused before any read, as `result` says.
    of: Option<TopicPartition>,
    owner: CoreId,
    result: ReadResult,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(fetch) = api::decode::<FetchRequest>(shard, &mut request, "Fetch", effects) else { return };
    let Some(whose) = whose(shard, asker, &fetch) else {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        let reply = FetchResponse { error_code, ..FetchResponse::default() };
        return shard.reply(key::FETCH, asker, &reply, effects);
    };
    let uses_ids = asker.version >= TOPIC_ID_VERSION;
    let understood = shard.fetch_sessions.on_request(&fetch, uses_ids, now.mono, &mut shard.rng);
    let Understood { used, turn, wanted, left } = match understood {
        Ok(understood) => understood,
        Err(error) => {
            shard.counts.on_error(key::FETCH, error.code());
            let reply = FetchResponse { error_code: error.code(), ..FetchResponse::default() };
            effects.watch.worked(&mut request.trace, Stage::Decode);
            return shard.reply_timed((Timed::Fetch, request.trace), key::FETCH, asker, &reply, effects);
        }
    };
    take_back(shard, left, effects);
    let targets: Vec<Target> = wanted.into_iter().map(|wanted| target(shard, asker, None, wanted)).collect();
    let bytes_max = usize::try_from(fetch.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(shard.config.settings.fetch_max_bytes as usize).min(limits::FETCH_REPLY_BYTES_MAX);
    let bytes_max = match whose {
        ReadFor::Consumer => bytes_max.min(shard.fetch_quota_bytes(asker.to)),
        ReadFor::Replica(..) => bytes_max,
    };
    let work = FetchWork {
        whose,
        // The receive buffer must not live as long as the job.
        rack: Text::from(fetch.rack_id.as_str()),
        session: used,
        turn,
        targets,
        seen: 0,
        min_bytes: usize::try_from(fetch.min_bytes).unwrap_or(0).min(bytes_max),
        bytes_max,
        deadline: now.mono.after_ms(u64::try_from(fetch.max_wait_ms).unwrap_or(0)),
        alarm: None,
        round: 0,
        cores_pending: 0,
        room: 0,
        reserved: 0,
        parked: false,
        starved: false,
        has_some: false,
        trace: request.trace,
    };
    let job = shard.add_job(asker, Work::Fetch(Box::new(work)));
    start_round(shard, job, now, effects);
}

pub(in crate::broker) fn on_read_done(
    shard: &mut Shard,
    (job, round): (Key, u32),
    results: Vec<(u32, ReadResult)>,
    trace: &Trace,
    now: Now,
    effects: &mut Effects,
) {
    let Some(work) = work_mut(shard, job) else { return };
    if work.round != round || work.parked {
        return;
    }
    for (at, result) in results {
        work.targets[at as usize].result = result;
    }
    work.cores_pending -= 1;
    if work.cores_pending == 0 {
        work.trace.join(trace);
        judge(shard, job, now, effects);
    }
}

/// Partitions have changed; of those whose followers are no more, nobody wants to know.
pub(in crate::broker) fn on_changed(shard: &mut Shard, followers: &[Follower]) {
    let mut waiting = Vec::new();
    for follower in followers {
        match *follower {
            Follower::Fetch { job, round } => waiting.push((job, round)),
            Follower::Session { id, row } => shard.fetch_sessions.on_changed(id, row, &mut waiting),
        }
    }
    // Not now: what else has changed in this step can be read in the same round.
    shard.todo.extend(waiting.into_iter().map(|(job, round)| Todo::Wake { job, round }));
}

/// More of a partition is committed. Where followers may serve consumers they learn it at once, elsewhere with what they
/// wait for.
pub(in crate::broker) fn on_told_aside(shard: &mut Shard, follower: Follower) {
    if shard.config.settings.is_rack_aware() {
        on_changed(shard, &[follower]);
    } else {
        shard.fetch_sessions.on_aside(follower);
    }
}

pub(in crate::broker) fn on_wake(shard: &mut Shard, job: Key, round: u32, now: Now, effects: &mut Effects) {
    let Some(work) = work_mut(shard, job) else { return };
    if !work.parked || work.round != round {
        return;
    }
    effects.watch.waited(&mut work.trace, Stage::FetchWait);
    unpark(shard, job, effects);
    start_round(shard, job, now, effects);
}

pub(in crate::broker) fn on_deadline(shard: &mut Shard, job: Key, now: Now, effects: &mut Effects) {
    let Some(work) = work_mut(shard, job) else { return };
    work.alarm = None;
    if !work.parked {
        return;
    }
    let (session, seen, some) = (work.session.id(), work.seen, work.starved || work.has_some);
    let has_more = |id| shard.fetch_sessions.rows(id).is_some_and(|rows| rows.changes() != seen);
    let reads_again = some || session.is_some_and(has_more);
    let Some(work) = work_mut(shard, job) else { return };
    effects.watch.waited(&mut work.trace, Stage::FetchWait);
    unpark(shard, job, effects);
    if reads_again {
        start_round(shard, job, now, effects);
    } else {
        finish(shard, job, effects);
    }
}

/// The client is gone: takes back what the fetch left with partitions. The caller removes the job.
pub(in crate::broker) fn on_dropped(shard: &mut Shard, job: Key, _now: Now, effects: &mut Effects) {
    unpark(shard, job, effects);
    let Some(work) = work_mut(shard, job) else { return };
    let (alarm, reserved) = (work.alarm.take(), std::mem::take(&mut work.reserved));
    shard.sessions.release_output(reserved);
    if let Some(alarm) = alarm {
        shard.deadlines.clear(alarm, DeadlineKey::Fetch(job));
    }
}

/// The broker stops: fetches that wait for records are answered with what there is.
pub(in crate::broker) fn finish_all_parked(shard: &mut Shard, effects: &mut Effects) {
    let parked = shard.jobs.keys_where(|job| matches!(&job.work, Work::Fetch(work) if work.parked));
    for job in parked {
        if let Some(work) = work_mut(shard, job) {
            effects.watch.waited(&mut work.trace, Stage::FetchWait);
        }
        unpark(shard, job, effects);
        finish(shard, job, effects);
    }
}

/// Other brokers have a listener of their own, where they have said who they are; nobody else is taken for one. None:
/// the client says that it is a broker, or a broker that it is another.
fn whose(shard: &Shard, asker: Asker, fetch: &FetchRequest) -> Option<ReadFor> {
    let node = NodeId(fetch.replica_id.max(fetch.replica_state.replica_id));
    if asker.listener != ListenerKind::Peer {
        return (node < NodeId(0)).then_some(ReadFor::Consumer);
    }
    let admitted = shard.sessions.admitted(asker.to.conn)?;
    (admitted.node == node).then_some(ReadFor::Replica(node, BrokerEpoch(fetch.replica_state.replica_epoch)))
}

/// What the session has to read now. False when there is no such session any more.
fn find_due(shard: &mut Shard, job: Key, id: i32) -> bool {
    let Some(rows) = shard.fetch_sessions.rows(id) else { return false };
    let seen = rows.changes();
    let due: Vec<(Key, Wanted)> = rows.due().map(|(row, wanted)| (row, wanted.clone())).collect();
    let Some(asker) = shard.jobs.get(job).map(|job| job.asker) else { return false };
    let targets = due.into_iter().map(|(row, wanted)| target(shard, asker, Some(row), wanted)).collect();
    if let Some(work) = work_mut(shard, job) {
        work.targets = targets;
        work.seen = seen;
    }
    true
}

fn target(shard: &Shard, asker: Asker, row: Option<Key>, wanted: Wanted) -> Target {
    let of = find(shard, asker, &wanted);
    let refused = |error, of: Option<TopicPartition>, wanted| Target {
        owner: of.map_or(CoreId(0), |of| shard.owner(of.topic, of.partition)),
        row,
        of: None,
        result: ReadResult::error(error),
        wanted,
    };
    match of {
        Err(error) => refused(error, None, wanted),
        Ok(of) => {
            let owner = shard.owner(of.topic, of.partition);
            if shard.leads(asker.listener, owner) {
                Target { row, wanted, of: Some(of), owner, result: ReadResult::error(ErrorCode::None) }
            } else {
                refused(ErrorCode::NotLeaderOrFollower, Some(of), wanted)
            }
        }
    }
}

fn find(shard: &Shard, asker: Asker, wanted: &Wanted) -> Result<TopicPartition, ErrorCode> {
    let topic = if asker.version >= TOPIC_ID_VERSION {
        shard.image.topic_by_id(wanted.topic_id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        shard.image.topic(&wanted.topic).ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    route::partition_of(topic?, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Sends every core that owns some of the partitions its part of the reading.
fn start_round(shard: &mut Shard, job: Key, now: Now, effects: &mut Effects) {
    let (cores, room) = (shard.config.cores, shard.sessions.output_room());
    let batch_max = shard.config.settings.message_max_bytes as usize;
    let own = shard.core();
    let session = work_mut(shard, job).and_then(|work| work.session.id());
    if session.is_some_and(|id| !find_due(shard, job, id)) {
        return finish(shard, job, effects);
    }
    let at_rest = session.and_then(|id| shard.fetch_sessions.rows(id)).map_or(0, |rows| rows.at_rest());
    let Some(work) = work_mut(shard, job) else { return };
    effects.watch.worked_on(work.targets.len() * TARGET_BYTES, &mut work.trace, Stage::Decode);
    work.parked = false;
    work.round = work.round.wrapping_add(1);
    let readable = work.targets.iter().filter(|target| target.of.is_some()).count();
    if readable == 0 {
        (work.starved, work.room) = (false, work.bytes_max);
        return if at_rest > 0 { judge(shard, job, now, effects) } else { finish(shard, job, effects) };
    }
    let bytes_max = work.bytes_max.min((room / ROOM_SHARE).max(room.min(batch_max)));
    work.starved = room == 0;
    // The first batch comes however large it is.
    let reserved = if work.starved { 0 } else { bytes_max.max(batch_max) };
    work.reserved = reserved;
    work.room = bytes_max;
    let mut orders: Vec<(CoreId, ReadOrder)> = Vec::new();
    for (at, target) in work.targets.iter().enumerate() {
        let Some(of) = target.of else { continue };
        let entry = ReadEntry {
            at: at as u32,
            of,
            from: Offset(target.wanted.fetch_offset),
            bytes_max: usize::try_from(target.wanted.bytes_max).unwrap_or(0),
            current_leader_epoch: LeaderEpoch(target.wanted.current_leader_epoch),
            last_fetched_epoch: LeaderEpoch(target.wanted.last_fetched_epoch),
            log_start: Offset(target.wanted.log_start_offset),
        };
        match orders.iter_mut().find(|(core, _)| *core == target.owner) {
            Some((_, order)) => order.entries.push(entry),
            None => {
                let capacity = if cores == 1 { readable } else { 1 };
                let mut entries = Vec::with_capacity(capacity);
                entries.push(entry);
                let trace = work.trace.fork();
                let order = ReadOrder {
                    whose: work.whose,
                    rack: work.rack.clone(),
                    job,
                    round: work.round,
                    bytes_max,
                    at_least_one: room > 0,
                    entries,
                    trace,
                };
                orders.push((target.owner, order));
            }
        }
    }
    // Each core may use its partitions' share, so that together they stay within the client's bound.
    for (_, order) in &mut orders {
        order.bytes_max = bytes_max * order.entries.len() / readable;
    }
    work.cores_pending = orders.len();
    shard.sessions.reserve_output(reserved);
    for (core, order) in orders {
        if core == own {
            shard.read_here(own, order, now, effects);
        } else {
            shard.send(core, ShardMessage::Read(order), effects);
        }
    }
}

/// All reads of a round are in: answer, or park.
fn judge(shard: &mut Shard, job: Key, now: Now, effects: &mut Effects) {
    let stopping = shard.life != Life::Serving;
    let has_news = has_news(shard, job);
    let Some(work) = work_mut(shard, job) else { return };
    let reserved = std::mem::take(&mut work.reserved);
    let starved = work.starved;
    let bytes: usize = work.targets.iter().map(|target| target.result.bytes).sum();
    let urgent = work.targets.iter().any(|target| {
        let result = &target.result;
        let says = result.error != ErrorCode::None || result.diverging.is_some() || result.nearer.is_some();
        target.of.is_some() && says
    });
    // What there is memory for is enough when that is less than the client's least.
    let enough = bytes >= work.min_bytes.min(work.room) && !starved;
    let late = work.deadline <= now.mono;
    let (session, turn) = (work.session.id(), work.turn);
    let ended = session.is_some_and(|id| !shard.fetch_sessions.is_latest(id, turn));
    shard.sessions.release_output(reserved);
    if starved {
        shard.sessions.on_starved(now.mono, effects);
    }
    if enough || urgent || has_news || late || ended || stopping {
        charge_throttle(shard, job, now);
        finish(shard, job, effects);
    } else {
        park(shard, job, now, effects);
    }
}

/// Bytes of throttled replicas that this answer has.
fn charge_throttle(shard: &mut Shard, job: Key, now: Now) {
    let Some(work) = work_mut(shard, job) else { return };
    let throttled = work.targets.iter().filter(|target| target.result.throttled);
    let bytes = throttled.map(|target| target.result.bytes).sum();
    if bytes > 0 {
        shard.on_throttled_sent(bytes, now);
    }
}

/// A follower learns at once where the log begins now, since a deletion of records waits for it, and where it may serve
/// consumers, what is committed.
fn has_news(shard: &Shard, job: Key) -> bool {
    let Some(Job { work: Work::Fetch(work), .. }) = shard.jobs.get(job) else { return false };
    let (ReadFor::Replica(..), Some(id)) = (work.whose, work.session.id()) else { return false };
    let Some(rows) = shard.fetch_sessions.get(id) else { return false };
    let is_rack_aware = shard.config.settings.is_rack_aware();
    let is_news = |target: &Target| {
        let (high_watermark, log_start) = (target.result.high_watermark.0, target.result.log_start.0);
        let told = target.row.and_then(|row| rows.told(row));
        told.is_some_and(|told| told.1 != log_start || (is_rack_aware && told.0 != high_watermark))
    };
    work.targets.iter().any(is_news)
}

fn park(shard: &mut Shard, job: Key, now: Now, effects: &mut Effects) {
    let Some(work) = work_mut(shard, job) else { return };
    let (session, seen, starved) = (work.session.id(), work.seen, work.starved);
    let has_more = |id| shard.fetch_sessions.rows(id).is_none_or(|rows| rows.changes() != seen);
    if !starved && session.is_some_and(has_more) {
        return start_round(shard, job, now, effects);
    }
    let Some(work) = work_mut(shard, job) else { return };
    let reader = work.whose.reader();
    work.parked = true;
    // What is held back is there when it may be sent.
    let is_held_back = work.targets.iter().any(|target| target.result.throttled);
    work.has_some = is_held_back || work.targets.iter().any(|target| target.result.bytes > 0);
    let opens_at = if is_held_back { shard.leader_throttle_opens(now) } else { None };
    let Some(work) = work_mut(shard, job) else { return };
    let mut alarm = opens_at.map_or(work.deadline, |opens_at| opens_at.min(work.deadline));
    if starved {
        alarm = alarm.min(now.mono.after_ms(STARVED_RETRY_MS));
    }
    let before = work.alarm.replace(alarm);
    let round = work.round;
    let mut unwatched = Vec::new();
    for target in &mut work.targets {
        // What was read is read again in the next round; holding on to it would pin memory.
        target.result.slices = Vec::new();
        target.result.bytes = 0;
        unwatched.extend(target.of.map(|of| (target.owner, of, target.row, target.result.seen())));
    }
    if let Some(before) = before {
        shard.deadlines.clear(before, DeadlineKey::Fetch(job));
    }
    shard.deadlines.set(alarm, DeadlineKey::Fetch(job));
    if starved {
        return;
    }
    if let Some(id) = session {
        shard.fetch_sessions.wait(id, job, round);
    }
    let mut entries = Vec::new();
    for (owner, of, row, seen) in unwatched {
        let follower = match session.zip(row) {
            None => Follower::Fetch { job, round },
            Some((id, row)) => {
                if !shard.fetch_sessions.rows(id).is_some_and(|rows| rows.watch(row, of)) {
                    continue;
                }
                Follower::Session { id, row }
            }
        };
        entries.push((owner, WatchEntry { of, seen, reader, follower }));
    }
    watch(shard, entries, effects);
}

/// A parked fetch goes on, or is given up: takes back what it left where.
fn unpark(shard: &mut Shard, job: Key, effects: &mut Effects) {
    let Some(work) = work_mut(shard, job) else { return };
    if !work.parked || work.starved {
        return;
    }
    let follower = Follower::Fetch { job, round: work.round };
    match work.session.id() {
        Some(id) => shard.fetch_sessions.wait_no_more(id, job),
        None => {
            let targets = work.targets.iter();
            let entries = targets.filter_map(|target| Some((target.owner, (target.of?, follower)))).collect();
            unwatch(shard, entries, effects);
        }
    }
}

/// Puts in order what ended sessions and forgotten partitions leave behind.
fn take_back(shard: &mut Shard, left: Left, effects: &mut Effects) {
    let watches = left.watches.into_iter();
    let entries = watches.map(|(of, follower)| (shard.owner(of.topic, of.partition), (of, follower))).collect();
    unwatch(shard, entries, effects);
    for job in left.waiting {
        if let Some(work) = work_mut(shard, job) {
            effects.watch.waited(&mut work.trace, Stage::FetchWait);
        }
        finish(shard, job, effects);
    }
}

fn watch(shard: &mut Shard, entries: Vec<(CoreId, WatchEntry)>, effects: &mut Effects) {
    let own = shard.core();
    for (core, entries) in by_core(entries) {
        if core == own {
            shard.watch_here(own, &entries);
        } else {
            shard.send(core, ShardMessage::Watch(entries), effects);
        }
    }
}

fn unwatch(shard: &mut Shard, entries: Vec<(CoreId, (TopicPartition, Follower))>, effects: &mut Effects) {
    let own = shard.core();
    for (core, entries) in by_core(entries) {
        if core == own {
            shard.unwatch_here(own, &entries);
        } else {
            shard.send(core, ShardMessage::Unwatch(entries), effects);
        }
    }
}

fn by_core<T>(entries: Vec<(CoreId, T)>) -> Vec<(CoreId, Vec<T>)> {
    let mut lists: Vec<(CoreId, Vec<T>)> = Vec::new();
    for (core, entry) in entries {
        match lists.iter_mut().find(|(other, _)| *other == core) {
            Some((_, list)) => list.push(entry),
            None => lists.push((core, vec![entry])),
        }
    }
    lists
}

fn finish(shard: &mut Shard, job: Key, effects: &mut Effects) {
    let Some(Job { asker, work: Work::Fetch(work), .. }) = shard.jobs.remove(job) else { return };
    if let Some(alarm) = work.alarm {
        shard.deadlines.clear(alarm, DeadlineKey::Fetch(job));
    }
    let mut reply = FetchResponse { session_id: work.session.id().unwrap_or(0), ..FetchResponse::default() };
    let reader = work.whose.reader();
    let mut room = work.bytes_max;
    let mut at_rest = Vec::new();
    let mut hinted = Vec::new();
    let mut bytes = 0;
    for mut target in work.targets {
        trim(&mut target.result, &mut room, work.bytes_max);
        bytes += target.result.bytes;
        let is_news = tell(shard, (work.session, reader), work.seen, &target, &mut at_rest);
        if !is_news && matches!(work.session, SessionUse::Incremental(_)) {
            continue;
        }
        let mut row = partition_row(&target);
        if row.error_code != ErrorCode::None.code() {
            shard.counts.on_error(key::FETCH, row.error_code);
        }
        if target.result.error == ErrorCode::NotLeaderOrFollower && asker.version >= LEADER_HINT_VERSION {
            let of = find(shard, asker, &target.wanted).ok();
            if let Some((of, leader)) = of.and_then(|of| Some((of, shard.shown_leader(asker.listener, of)?))) {
                row.current_leader.leader_id = leader.0;
                row.current_leader.leader_epoch = shard.leader_epoch(of).0;
                hinted.push(leader.0);
            }
        }
        if let Some((nearer, of)) = target.result.nearer.zip(target.of) {
            row.preferred_read_replica = shard.shown_replica(asker.listener, of, nearer).0;
        }
        push_row(&mut reply, &target.wanted, row);
    }
    watch(shard, at_rest, effects);
    if work.whose == ReadFor::Consumer {
        shard.charge(asker.to, QuotaKey::ConsumerByteRate, bytes as f64);
    }
    reply.node_endpoints = endpoints(shard, asker, &hinted);
    shard.reply_timed((Timed::Fetch, work.trace), key::FETCH, asker, &reply, effects);
}

/// Keeps the reply within the client's bound where several cores together brought more. The first data stays, however
/// large, so that the client gets on.
fn trim(result: &mut ReadResult, room: &mut usize, bytes_max: usize) {
    if result.bytes == 0 {
        return;
    }
    let first = *room == bytes_max;
    if result.bytes > *room && !first {
        result.slices = Vec::new();
        result.bytes = 0;
    }
    *room = room.saturating_sub(result.bytes);
}

/// Notes in the session what the reply says of a partition, and puts it to rest where nothing is left to say. Whether
/// there is anything that was not said before.
fn tell(
    shard: &mut Shard,
    (session, reader): (SessionUse, Reader),
    seen: u64,
    target: &Target,
    at_rest: &mut Vec<(CoreId, WatchEntry)>,
) -> bool {
    let result = &target.result;
    let is_well = result.error == ErrorCode::None && result.diverging.is_none() && result.nearer.is_none();
    let must = !is_well || result.bytes > 0;
    let Some((id, row)) = session.id().zip(target.row) else { return must };
    let Some(rows) = shard.fetch_sessions.rows(id) else { return must };
    let (high_watermark, log_start) = match result.error {
        ErrorCode::None => (result.high_watermark.0, result.log_start.0),
        // So that the partition is in a reply once more when the error is gone (Kafka: `CachedPartition`).
        _ => (-1, -1),
    };
    let is_new = rows.tell(row, high_watermark, log_start);
    if result.bytes > 0 {
        rows.move_to_end(row);
    } else if let Some(of) = target.of
        && is_well
        && target.wanted.fetch_offset == result.end.0
        && rows.rest(row, seen)
        && rows.watch(row, of)
    {
        let follower = Follower::Session { id, row };
        at_rest.push((target.owner, WatchEntry { of, seen: result.seen(), reader, follower }));
    }
    must || is_new
}

fn partition_row(target: &Target) -> PartitionData {
    let result = &target.result;
    let mut row = PartitionData {
        partition_index: target.wanted.partition,
        error_code: result.error.code(),
        high_watermark: result.high_watermark.0,
        last_stable_offset: result.high_watermark.0,
        log_start_offset: result.log_start.0,
        records: Some(Records(result.slices.clone())),
        ..PartitionData::default()
    };
    if let Some((epoch, end)) = result.diverging {
        row.diverging_epoch.epoch = epoch.0;
        row.diverging_epoch.end_offset = end.0;
    }
    row
}

fn push_row(reply: &mut FetchResponse, wanted: &Wanted, row: PartitionData) {
    let same = |topic: &FetchableTopicResponse| topic.topic == wanted.topic && topic.topic_id == wanted.topic_id;
    match reply.responses.last_mut() {
        Some(last) if same(last) => last.partitions.push(row),
        _ => reply.responses.push(FetchableTopicResponse {
            topic: wanted.topic.clone(),
            topic_id: wanted.topic_id,
            partitions: vec![row],
        }),
    }
}

fn endpoints(shard: &Shard, asker: Asker, hinted: &[i32]) -> Vec<NodeEndpoint> {
    if hinted.is_empty() {
        return Vec::new();
    }
    let shown = shard.shown_brokers(asker.listener).into_iter();
    shown
        .filter(|broker| hinted.contains(&broker.id.0))
        .map(|broker| NodeEndpoint {
            node_id: broker.id.0,
            host: broker.address.host.as_str().into(),
            port: i32::from(broker.address.port),
            ..NodeEndpoint::default()
        })
        .collect()
}

fn work_mut(shard: &mut Shard, job: Key) -> Option<&mut FetchWork> {
    match shard.jobs.get_mut(job) {
        Some(Job { work: Work::Fetch(work), .. }) => Some(work),
        _ => None,
    }
}
