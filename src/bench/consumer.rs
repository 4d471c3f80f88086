//! A consumer: finds where its partitions begin, fetches from their leaders, and takes the records apart.
//!
//! *Owns*: positions, fetch sessions, what is in flight on each connection, and the tally of what came. *Never*:
//! opens a connection, reads a clock but through the one it is given. *Runs on*: one generator thread.
//!
//! A driver keeps a connection to each of [`Consumer::brokers`], sends what [`Consumer::poll_request`] gives and
//! hands back every reply. At most one request is in flight on a connection. Partitions are assigned by whoever makes
//! the consumer, or come and go as its group has it ([`Consumer::assign`], [`Consumer::revoke`]).
//!
//! Sessions: KIP-227, and Kafka's `FetchSessionHandler`. Start and end of a log: ListOffsets.

mod intake;
mod link;
mod partition;
#[cfg(test)]
mod tests;
mod topic_ids;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

pub use self::intake::{Arrival, Received};
use self::link::{Asked, Link};
use self::partition::{End, Partition, Stage};
pub use self::topic_ids::TopicIds;
pub use self::verdict::{Fate, Verdict, settle_group};
use crate::bench::payload::RunTag;
use crate::bench::tally::Tally;
use crate::bench::topics::Topics;
use crate::wire::codec::Api;
use crate::wire::errors::ErrorCode;
use crate::wire::frame::decode_reply;
use crate::wire::messages::api_versions::ApiVersionsResponse;
use crate::wire::messages::fetch::{FetchResponse, PartitionData};
use crate::wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsResponse};
use crate::wire::messages::metadata::MetadataResponse;
use crate::wire::messages::{fetch, list_offsets};

/// How long to wait after a failure before trying again (Kafka: `retry.backoff.ms`).
const BACKOFF_NS: u64 = 100_000_000;

/// Different complaints that are kept.
const COMPLAINTS_MAX: usize = 64;

/// Where a consumer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    Earliest,
    Latest,
}

/// Where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Nowhere, until [`Consumer::drain`] is called.
    Told,
    /// Where each log ended when the consumer first asked.
    EndOfLog,
}

/// How to fetch. The names and defaults are those of Kafka's consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerSettings {
    pub tag: RunTag,
    pub start: StartAt,
    pub until: Until,
    pub fetch_max_wait_ms: i32,
    pub fetch_min_bytes: i32,
    pub fetch_max_bytes: i32,
    pub max_partition_fetch_bytes: i32,
    pub check_crcs: bool,
    /// Incremental fetch sessions where the broker has them.
    pub sessions: bool,
    /// Whether the time from when a record was to be sent is measured. Of a backlog it says nothing.
    pub latency: bool,
}

impl ConsumerSettings {
    pub fn new(tag: RunTag, start: StartAt) -> ConsumerSettings {
        ConsumerSettings {
            tag,
            start,
            until: Until::Told,
            fetch_max_wait_ms: 500,
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            check_crcs: true,
            sessions: true,
            latency: true,
        }
    }
}

/// The reply is no answer to what was asked: the connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerError {
    pub message: String,
}

impl fmt::Display for ConsumerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConsumerError {}

/// The highest version of an API that the broker and this crate have in common.
pub fn highest_common(api: Api, broker: &ApiVersionsResponse) -> Option<i16> {
    let row = broker.api_keys.iter().find(|row| row.api_key == api.key)?;
    let highest = row.max_version.min(api.versions.last);
    (highest >= row.min_version.max(api.versions.first)).then_some(highest)
}

pub struct Consumer {
    settings: ConsumerSettings,
    topics: TopicIds,
    partitions: Vec<Partition>,
    /// From a partition's index over all topics to its place in `partitions`.
    places: BTreeMap<u32, u32>,
    links: Vec<Link>,
    /// Partitions that are to be read, and those of them that have come to their end.
    owned: usize,
    done: usize,
    /// From when on metadata is wanted.
    metadata_from_ns: Option<u64>,
    /// When the first fetch was made, and when the last record came.
    fetching_ns: Option<(u64, u64)>,
    is_paused: bool,
    is_draining: bool,
    tally: Tally,
    complaints: BTreeMap<String, u64>,
}

impl Consumer {
    /// Of these partitions, by their indexes over all topics.
    pub fn new(settings: ConsumerSettings, topics: &Topics, partitions: &[u32]) -> Consumer {
        let until = if settings.until == Until::EndOfLog { End::Wanted } else { End::Open };
        Consumer {
            settings,
            topics: TopicIds::new(topics),
            partitions: partitions.iter().map(|&index| Partition::new(index, until)).collect(),
            places: partitions.iter().zip(0..).map(|(&index, place)| (index, place)).collect(),
            links: Vec::new(),
            owned: partitions.len(),
            done: 0,
            metadata_from_ns: Some(0),
            fetching_ns: None,
            is_paused: false,
            is_draining: false,
            tally: Tally::new(),
            complaints: BTreeMap::new(),
        }
    }

    /// The brokers that lead its partitions, by their node ids.
    pub fn brokers(&self) -> impl Iterator<Item = i32> + '_ {
        self.links.iter().filter(|link| link.partitions > 0).map(|link| link.broker)
    }

    /// Whether metadata of the topic is to be asked for now. The wish is gone with that; a request that failed is to
    /// be reported with [`Consumer::on_metadata_failed`].
    pub fn poll_metadata(&mut self, now_ns: u64) -> bool {
        self.metadata_from_ns.take_if(|from_ns| *from_ns <= now_ns).is_some()
    }

    pub fn on_metadata_failed(&mut self, now_ns: u64) {
        self.metadata_from_ns = Some(now_ns + BACKOFF_NS);
    }

    /// Moves partitions to who leads them now.
    pub fn on_metadata(&mut self, metadata: &MetadataResponse, now_ns: u64) {
        let news = self.topics.learn(metadata);
        if news.has_new_ids {
            (0..self.links.len()).for_each(|at| self.reset_session(at));
        }
        for (index, row) in news.partitions {
            let Some(&place) = self.places.get(&index) else {
                continue;
            };
            let partition = &mut self.partitions[place as usize];
            let old = row.leader_epoch >= 0 && row.leader_epoch < partition.leader_epoch;
            if row.leader_id < 0 || old {
                continue;
            }
            partition.leader_epoch = row.leader_epoch;
            if partition.is_owned {
                self.lead(place, row.leader_id);
            }
        }
        let is_complete = news.trouble.is_empty();
        for (name, code) in news.trouble {
            self.complain(format!("metadata of {}: {}", name.as_str(), error_text(code)));
        }
        let leaderless = self.owned_partitions().find(|partition| partition.link.is_none());
        let leaderless = leaderless.map(|partition| self.topics.shown(partition.index));
        if leaderless.is_some() || !is_complete {
            self.want_metadata(now_ns + BACKOFF_NS);
        }
        if let Some(name) = leaderless.filter(|_| is_complete) {
            self.complain(format!("{name} has no leader"));
        }
    }

    /// A connection to the broker is there, and has said which versions it speaks.
    pub fn on_connected(&mut self, broker: i32, versions: &ApiVersionsResponse) -> Result<(), ConsumerError> {
        let lacks = |api: Api| ConsumerError {
            message: format!(
                "broker {broker} has no version of {} from {} to {}",
                api.name, api.versions.first, api.versions.last
            ),
        };
        let fetch = highest_common(fetch::API, versions).ok_or_else(|| lacks(fetch::API))?;
        let list_offsets = highest_common(list_offsets::API, versions).ok_or_else(|| lacks(list_offsets::API))?;
        if let Some(at) = self.link_of(broker) {
            self.reset_session(at);
            self.links[at].on_connected(fetch, list_offsets);
        }
        Ok(())
    }

    /// The connection is gone, with what was in flight on it.
    pub fn on_closed(&mut self, broker: i32, now_ns: u64) {
        if let Some(at) = self.link_of(broker) {
            self.reset_session(at);
            self.links[at].on_closed();
            // Whoever took over leads its partitions.
            self.want_metadata(now_ns + BACKOFF_NS);
        }
    }

    /// The next request to that broker as a frame, if one is due and none is in flight.
    pub fn poll_request(&mut self, broker: i32, now_ns: u64) -> Option<Vec<Bytes>> {
        let at = self.link_of(broker)?;
        if !self.links[at].is_ready(now_ns) {
            return None;
        }
        let questions = self.sort_waiting(at, now_ns);
        if !questions.is_empty() {
            return Some(self.ask_offsets(at, questions));
        }
        if self.is_paused {
            return None;
        }
        let frame = self.ask_records(at)?;
        self.fetching_ns.get_or_insert((now_ns, now_ns));
        Some(frame)
    }

    /// When to poll again even if nothing comes until then.
    pub fn next_wake_ns(&self) -> Option<u64> {
        let idle = self.links.iter().filter(|link| link.in_flight.is_none() && link.versions.is_some());
        let due = idle.flat_map(|link| {
            let waiting = link.waiting.iter().map(|&place| self.partitions[place as usize].retry_at_ns);
            let fetched = (link.fetched > 0 && !self.is_paused).then_some(0);
            waiting.chain(fetched).map(|at_ns| at_ns.max(link.retry_at_ns))
        });
        due.chain(self.metadata_from_ns).min()
    }

    /// Takes a reply, without its length. `clock` tells the time, and is asked once a batch: a record is there when
    /// its batch is open.
    pub fn on_reply(
        &mut self,
        broker: i32,
        frame: Bytes,
        received: &mut Received,
        clock: &mut dyn FnMut() -> u64,
    ) -> Result<(), ConsumerError> {
        let error = |why: String| ConsumerError { message: format!("broker {broker}: {why}") };
        let at = self.link_of(broker).ok_or_else(|| error("a reply from a broker that was not asked".into()))?;
        let link = &mut self.links[at];
        let asked = link.in_flight.take().ok_or_else(|| error("a reply to nothing".into()))?;
        let now_ns = clock();
        link.retry_at_ns = 0;
        match asked {
            Asked::Offsets { correlation_id, version } => {
                let (id, reply) = decode_reply(list_offsets::API.key, version, frame)
                    .map_err(|why| error(format!("its ListOffsets reply: {why}")))?;
                check_correlation(id, correlation_id).map_err(error)?;
                self.on_offsets(at, &reply, now_ns);
            }
            Asked::Records { correlation_id, version } => {
                let (id, reply) = decode_reply(fetch::API.key, version, frame)
                    .map_err(|why| error(format!("its Fetch reply: {why}")))?;
                check_correlation(id, correlation_id).map_err(error)?;
                self.on_records(at, reply, received, now_ns, clock);
            }
        }
        self.links[at].ignored.clear();
        Ok(())
    }

    /// Reads these partitions too, each from an offset on. Who leads them is to be told by metadata.
    pub fn assign(&mut self, rows: &[(u32, i64)], now_ns: u64) {
        let end = if self.is_draining { End::Wanted } else { End::Open };
        for &(index, position) in rows {
            let next_place = self.partitions.len() as u32;
            let place = *self.places.entry(index).or_insert(next_place) as usize;
            if place == self.partitions.len() {
                self.partitions.push(Partition::new(index, end));
            } else if self.partitions[place].is_owned {
                continue;
            }
            self.partitions[place].take_over(position, end);
            self.owned += 1;
        }
        self.want_metadata(now_ns);
    }

    /// Reads these partitions no more. What is on its way of them is ignored.
    pub fn revoke(&mut self, indexes: impl IntoIterator<Item = u32>) {
        for index in indexes {
            let place = self.places.get(&index).copied();
            let Some(place) = place.filter(|&place| self.partitions[place as usize].is_owned) else {
                continue;
            };
            let partition = &mut self.partitions[place as usize];
            self.done -= usize::from(partition.is_done());
            self.owned -= 1;
            partition.give_up();
            if let Some(at) = partition.link.filter(|&at| self.links[at].in_flight.is_some()) {
                self.links[at].ignored.push(place);
            }
            self.leave(place);
        }
    }

    /// What it knows of the topics.
    pub fn topics(&self) -> &TopicIds {
        &self.topics
    }

    /// The partitions that it reads, each with the next offset to be received.
    pub fn positions(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.owned_partitions().map(|partition| (partition.index, partition.position))
    }

    fn owned_partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(|partition| partition.is_owned)
    }

    /// Finds its places, and reads nothing until [`Consumer::resume`].
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Ends at what each log holds from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
        for place in 0..self.partitions.len() {
            let partition = &mut self.partitions[place];
            if partition.is_owned && partition.end == End::Open {
                partition.end = End::Wanted;
                if let Some(at) = partition.link {
                    self.links[at].waiting.push(place as u32);
                }
            }
        }
    }

    /// Whether it has come to the end of every partition.
    pub fn is_drained(&self) -> bool {
        self.done == self.owned
    }

    /// Whether it knows its place in every partition, so that it misses nothing from now on.
    pub fn is_placed(&self) -> bool {
        self.owned_partitions().all(|partition| partition.stage == Stage::Fetching && partition.link.is_some())
    }

    /// Records that are in the logs and not received yet, as far as is known.
    pub fn lag_records(&self) -> u64 {
        self.owned_partitions().map(Partition::lag_records).sum()
    }

    /// When the first fetch was made, and when the last records came.
    pub fn fetching_ns(&self) -> Option<(u64, u64)> {
        self.fetching_ns
    }

    /// What went wrong, each kind of message once, with how often.
    pub fn complaints(&self) -> &BTreeMap<String, u64> {
        &self.complaints
    }

    fn link_of(&self, broker: i32) -> Option<usize> {
        self.links.iter().position(|link| link.broker == broker)
    }

    /// The place of a topic's partition, if it is or was read.
    fn place(&self, topic: usize, partition: i32) -> Option<u32> {
        self.places.get(&self.topics.all().index(topic, partition)?).copied()
    }

    /// Whether a reply on that link speaks of the partition as it is now.
    fn is_answered(&self, at: usize, place: u32) -> bool {
        self.partitions[place as usize].link == Some(at) && !self.links[at].ignored.contains(&place)
    }

    fn lead(&mut self, place: u32, broker: i32) {
        let at = self.link_of(broker).unwrap_or_else(|| {
            self.links.push(Link::new(broker));
            self.links.len() - 1
        });
        let partition = &mut self.partitions[place as usize];
        if partition.link == Some(at) {
            return;
        }
        self.leave(place);
        self.partitions[place as usize].link = Some(at);
        self.links[at].partitions += 1;
        self.links[at].waiting.push(place);
    }

    /// Takes a partition from who leads it, if anybody does.
    fn leave(&mut self, place: u32) {
        if let Some(at) = self.partitions[place as usize].link {
            self.stop_fetching(place);
            let partition = &mut self.partitions[place as usize];
            partition.link = None;
            partition.is_marked = false;
            self.links[at].partitions -= 1;
            self.links[at].waiting.retain(|&other| other != place);
            self.links[at].changed.retain(|&other| other != place);
        }
    }

    fn stop_fetching(&mut self, place: u32) {
        let partition = &mut self.partitions[place as usize];
        let Some(at) = partition.link.filter(|_| partition.is_fetched) else {
            return;
        };
        partition.is_fetched = false;
        self.links[at].fetched -= 1;
        if std::mem::take(&mut partition.in_session) {
            self.links[at].forgotten.push(place);
        }
    }

    /// Not to be tried for a while.
    fn hold(&mut self, place: u32, now_ns: u64) {
        self.stop_fetching(place);
        let partition = &mut self.partitions[place as usize];
        partition.retry_at_ns = now_ns + BACKOFF_NS;
        if let Some(at) = partition.link {
            self.links[at].waiting.push(place);
        }
    }

    /// Somebody else leads it, or nobody.
    fn lose_leader(&mut self, place: u32, now_ns: u64) {
        self.leave(place);
        self.partitions[place as usize].retry_at_ns = now_ns + BACKOFF_NS;
        self.want_metadata(now_ns);
    }

    fn want_metadata(&mut self, from_ns: u64) {
        let from_ns = self.metadata_from_ns.map_or(from_ns, |other| other.min(from_ns));
        self.metadata_from_ns = Some(from_ns);
    }

    fn complain(&mut self, message: String) {
        let is_new = !self.complaints.contains_key(&message);
        let message = if is_new && self.complaints.len() >= COMPLAINTS_MAX { "others".into() } else { message };
        *self.complaints.entry(message).or_default() += 1;
    }

    fn reset_session(&mut self, at: usize) {
        self.links[at].reset_session();
        for partition in self.partitions.iter_mut().filter(|partition| partition.link == Some(at)) {
            partition.in_session = false;
            partition.is_marked = false;
        }
    }

    /// Lets partitions that wait for nothing any more be fetched, and gives those that have a question.
    fn sort_waiting(&mut self, at: usize, now_ns: u64) -> Vec<u32> {
        let mut questions = Vec::new();
        let link = &mut self.links[at];
        let (partitions, start) = (&mut self.partitions, self.settings.start);
        let (fetched, changed) = (&mut link.fetched, &mut link.changed);
        link.waiting.retain(|&place| {
            let partition = &mut partitions[place as usize];
            if partition.retry_at_ns > now_ns {
                return true;
            }
            if partition.question(start).is_some() {
                questions.push(place);
                return true;
            }
            if !partition.is_fetched && !partition.is_done() {
                partition.is_fetched = true;
                *fetched += 1;
                if !std::mem::replace(&mut partition.is_marked, true) {
                    changed.push(place);
                }
            }
            false
        });
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    fn ask_offsets(&mut self, at: usize, questions: Vec<u32>) -> Vec<Bytes> {
        let rows = questions.into_iter().filter_map(|place| {
            let partition = &self.partitions[place as usize];
            partition.question(self.settings.start).map(|timestamp| (partition.index, timestamp))
        });
        let rows: Vec<(u32, i64)> = rows.collect();
        self.links[at].offsets_request(&self.topics, rows)
    }

    /// A fetch of what is to be fetched from a broker. `None` when that is nothing.
    fn ask_records(&mut self, at: usize) -> Option<Vec<Bytes>> {
        let link = &mut self.links[at];
        if link.fetched == 0 {
            return None;
        }
        let partitions = &mut self.partitions;
        let mut forgotten = std::mem::take(&mut link.forgotten);
        let mut rows;
        if link.is_incremental() {
            rows = std::mem::take(&mut link.changed);
            rows.retain(|&place| {
                let partition = &mut partitions[place as usize];
                partition.is_marked = false;
                partition.is_fetched
            });
            forgotten.retain(|&place| {
                let partition = &partitions[place as usize];
                partition.link != Some(at) || !partition.is_fetched
            });
        } else {
            forgotten.clear();
            rows = (0..partitions.len() as u32).collect();
            rows.retain(|&place| {
                let partition = &mut partitions[place as usize];
                let is_here = partition.link == Some(at);
                partition.is_marked &= !is_here;
                is_here && partition.is_fetched
            });
            link.changed.clear();
            // Who was served last comes last, since a reply may be full before its end.
            let turn = link.turn % rows.len();
            rows.rotate_left(turn);
        }
        let row = |place: u32| {
            let partition = &mut partitions[place as usize];
            partition.in_session = true;
            (partition.index, partition.position)
        };
        let rows: Vec<(u32, i64)> = rows.into_iter().map(row).collect();
        let forgotten: Vec<u32> = forgotten.into_iter().map(|place| self.partitions[place as usize].index).collect();
        Some(self.links[at].records_request(&self.settings, &self.topics, rows, forgotten))
    }

    fn on_offsets(&mut self, at: usize, reply: &ListOffsetsResponse, now_ns: u64) {
        self.links[at].throttle(reply.throttle_time_ms, now_ns);
        for topic in &reply.topics {
            let Some(number) = self.topics.all().number(&topic.name) else { continue };
            for row in &topic.partitions {
                let place = self.place(number, row.partition_index);
                if let Some(place) = place.filter(|&place| self.is_answered(at, place)) {
                    self.on_offset(place, row, now_ns);
                }
            }
        }
    }

    fn on_offset(&mut self, place: u32, row: &ListOffsetsPartitionResponse, now_ns: u64) {
        if row.error_code != 0 {
            return self.on_partition_error(place, row.error_code, "ListOffsets", now_ns);
        }
        let partition = &mut self.partitions[place as usize];
        let was_done = partition.is_done();
        if partition.stage == Stage::BeforeEnd {
            // The log may have the offset by now, and asking for it must not go in circles.
            partition.retry_at_ns = now_ns + BACKOFF_NS;
        }
        let index = partition.index;
        if let Some(trouble) = partition.on_offset(row.offset) {
            self.complain(format!("{}: {trouble}", self.topics.shown(index)));
        }
        self.note_end(place, was_done);
    }

    fn on_records(
        &mut self,
        at: usize,
        reply: FetchResponse,
        received: &mut Received,
        now_ns: u64,
        clock: &mut dyn FnMut() -> u64,
    ) {
        self.links[at].throttle(reply.throttle_time_ms, now_ns);
        if reply.error_code != 0 {
            self.reset_session(at);
            if !is_session_error(reply.error_code) {
                self.complain(format!("Fetch: {}", error_text(reply.error_code)));
                self.links[at].retry_at_ns = now_ns + BACKOFF_NS;
            }
            return;
        }
        if self.settings.sessions {
            self.links[at].on_session(reply.session_id);
        }
        let mut served = 0;
        for topic in reply.responses {
            let Some(number) = self.topics.number(&topic.topic, topic.topic_id) else { continue };
            for row in topic.partitions {
                let place = self.place(number, row.partition_index);
                // What moved away meanwhile is fetched again from where it is now.
                let is_wanted =
                    |place: &u32| self.is_answered(at, *place) && self.partitions[*place as usize].is_fetched;
                let Some(place) = place.filter(is_wanted) else { continue };
                served += usize::from(row.records.as_ref().is_some_and(|records| !records.is_empty()));
                self.on_partition_records(at, place, row, received, now_ns, clock);
            }
        }
        self.links[at].turn = self.links[at].turn.wrapping_add(served.max(1));
    }

    fn on_partition_records(
        &mut self,
        at: usize,
        place: u32,
        row: PartitionData,
        received: &mut Received,
        now_ns: u64,
        clock: &mut dyn FnMut() -> u64,
    ) {
        if row.error_code != 0 {
            return self.on_partition_error(place, row.error_code, "Fetch", now_ns);
        }
        let partition = &mut self.partitions[place as usize];
        partition.high_watermark = row.high_watermark;
        let Some(bytes) = row.records.and_then(|records| records.0.into_iter().next()).filter(|b| !b.is_empty()) else {
            return;
        };
        let before = partition.position;
        let was_done = partition.is_done();
        let taken = intake::take(partition, bytes, &self.settings, &mut self.tally, received, clock);
        let has_moved = partition.position > before;
        if has_moved {
            let last_ns = clock();
            self.fetching_ns = self.fetching_ns.map(|(first_ns, _)| (first_ns, last_ns));
            if !std::mem::replace(&mut partition.is_marked, true) {
                self.links[at].changed.push(place);
            }
        }
        if let Err(fault) = taken {
            let name = self.topics.shown(self.partitions[place as usize].index);
            self.complain(format!("{name}: {fault}"));
            received.faults += 1;
        }
        self.note_end(place, was_done);
        if !has_moved {
            // Asking for the same at once would give the same.
            self.hold(place, now_ns);
        }
    }

    fn on_partition_error(&mut self, place: u32, code: i16, api: &str, now_ns: u64) {
        let name = self.topics.shown(self.partitions[place as usize].index);
        self.complain(format!("{api} of {name}: {}", error_text(code)));
        match ErrorCode::from_code(code) {
            Some(ErrorCode::OffsetOutOfRange) => {
                self.stop_fetching(place);
                let partition = &mut self.partitions[place as usize];
                partition.stage = Stage::AfterStart;
                if let Some(at) = partition.link {
                    self.links[at].waiting.push(place);
                }
            }
            Some(code) if !code.retriable() || code == ErrorCode::CorruptMessage => self.hold(place, now_ns),
            // Of those that may be tried again, nearly all say that somebody else has the partition.
            _ => self.lose_leader(place, now_ns),
        }
    }

    /// Counts a partition that has come to its end by what just happened.
    fn note_end(&mut self, place: u32, was_done: bool) {
        if !was_done && self.partitions[place as usize].is_done() {
            self.done += 1;
            self.stop_fetching(place);
        }
    }
}

fn check_correlation(found: i32, asked: i32) -> Result<(), String> {
    if found == asked { Ok(()) } else { Err(format!("a reply to request {found} when {asked} was in flight")) }
}

/// The session is unknown by now; a new one is made without any loss.
fn is_session_error(code: i16) -> bool {
    use ErrorCode::{FetchSessionIdNotFound, FetchSessionTopicIdError, InvalidFetchSessionEpoch};
    let code = ErrorCode::from_code(code);
    [FetchSessionIdNotFound, InvalidFetchSessionEpoch, FetchSessionTopicIdError].map(Some).contains(&code)
}

fn error_text(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(known) => format!("{known} ({code}). {}", known.message()),
        None => format!("error {code}"),
    }
}
