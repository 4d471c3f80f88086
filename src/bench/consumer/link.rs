//! A consumer's side of its connection to one broker: versions, the request in flight, the fetch session.
//!
//! *Owns*: the form of its requests. *Never*: knows a partition's state. *Runs on*: the consumer's thread.

use bytes::Bytes;

use super::ConsumerSettings;
use super::topic_ids::TopicIds;
use crate::wire::codec::Message;
use crate::wire::frame::{RequestHeader, encode_request};
use crate::wire::messages::fetch::{self, FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use crate::wire::messages::list_offsets::{self, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::text::Text;

const CLIENT_ID: Text = Text::from_static("corelog-bench");

/// The first version of Fetch with sessions, and the last that names topics instead of giving their ids.
const SESSIONS_FROM: i16 = 7;
const NAMES_TO: i16 = 12;

pub(super) struct Link {
    pub broker: i32,
    /// Of Fetch and ListOffsets. `None` without a connection.
    pub versions: Option<(i16, i16)>,
    pub in_flight: Option<Asked>,
    /// Not to be asked before.
    pub retry_at_ns: u64,
    /// Partitions that this broker leads.
    pub partitions: usize,
    /// How many of them are fetched.
    pub fetched: usize,
    /// Places of partitions that are not fetched yet, or have a question. One may be there more than once.
    pub waiting: Vec<u32>,
    /// Places of fetched partitions that moved since the last fetch.
    pub changed: Vec<u32>,
    /// Places of partitions that the session has and should not have.
    pub forgotten: Vec<u32>,
    /// Places of partitions that were given up since the request in flight: what its reply says of them is old.
    pub ignored: Vec<u32>,
    /// Who comes first in a full fetch.
    pub turn: usize,
    session_id: i32,
    session_epoch: i32,
    next_correlation_id: i32,
}

/// A request in flight, and what its reply is read with.
pub(super) enum Asked {
    Offsets { correlation_id: i32, version: i16 },
    Records { correlation_id: i32, version: i16 },
}

impl Link {
    pub fn new(broker: i32) -> Link {
        Link {
            broker,
            versions: None,
            in_flight: None,
            retry_at_ns: 0,
            partitions: 0,
            fetched: 0,
            waiting: Vec::new(),
            changed: Vec::new(),
            forgotten: Vec::new(),
            ignored: Vec::new(),
            turn: 0,
            session_id: 0,
            session_epoch: 0,
            next_correlation_id: 0,
        }
    }

    pub fn on_connected(&mut self, fetch: i16, list_offsets: i16) {
        self.versions = Some((fetch, list_offsets));
        self.in_flight = None;
        self.ignored.clear();
    }

    pub fn on_closed(&mut self) {
        self.versions = None;
        self.in_flight = None;
        self.ignored.clear();
        self.retry_at_ns = 0;
    }

    pub fn is_ready(&self, now_ns: u64) -> bool {
        self.versions.is_some() && self.in_flight.is_none() && self.retry_at_ns <= now_ns
    }

    /// Whether the next fetch says only what has changed.
    pub fn is_incremental(&self) -> bool {
        self.session_epoch > 0
    }

    /// The next fetch says everything.
    pub fn reset_session(&mut self) {
        (self.session_id, self.session_epoch) = (0, 0);
        self.changed.clear();
        self.forgotten.clear();
    }

    /// A fetch has succeeded in that session; 0 in none.
    pub fn on_session(&mut self, session_id: i32) {
        self.session_epoch = match self.session_epoch {
            _ if session_id == 0 => 0,
            i32::MAX => 1,
            epoch => epoch + 1,
        };
        self.session_id = session_id;
    }

    /// The broker wants to be left alone for a while.
    pub fn throttle(&mut self, throttle_time_ms: i32, now_ns: u64) {
        if let Ok(ms @ 1..) = u64::try_from(throttle_time_ms) {
            self.retry_at_ns = now_ns + ms * 1_000_000;
        }
    }

    /// Asks for the offset at a special timestamp: one for each partition's index.
    pub fn offsets_request(&mut self, topics: &TopicIds, rows: Vec<(u32, i64)>) -> Vec<Bytes> {
        let (_, version) = self.versions.expect("only a connected broker is asked");
        let partition =
            |(partition_index, timestamp)| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
        let topics = topics.all().grouped(rows).into_iter().map(|(number, rows)| ListOffsetsTopic {
            name: topics.all().names()[number].clone(),
            partitions: rows.into_iter().map(partition).collect(),
        });
        let request =
            ListOffsetsRequest { replica_id: -1, topics: topics.collect(), timeout_ms: 30_000, ..Default::default() };
        let correlation_id = self.next_correlation_id();
        self.in_flight = Some(Asked::Offsets { correlation_id, version });
        frame(list_offsets::API.key, version, correlation_id, &request)
    }

    /// Asks for records: from an offset in each partition's index.
    pub fn records_request(
        &mut self,
        settings: &ConsumerSettings,
        topics: &TopicIds,
        rows: Vec<(u32, i64)>,
        forgotten: Vec<u32>,
    ) -> Vec<Bytes> {
        let (version, _) = self.versions.expect("only a connected broker is asked");
        let version = if topics.are_known() { version } else { version.min(NAMES_TO) };
        let partition = |(partition, fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: settings.max_partition_fetch_bytes,
            ..Default::default()
        };
        let wanted = topics.all().grouped(rows).into_iter().map(|(number, rows)| FetchTopic {
            topic: topics.all().names()[number].clone(),
            topic_id: topics.id(number),
            partitions: rows.into_iter().map(partition).collect(),
        });
        let forgotten = forgotten.into_iter().map(|index| (index, ()));
        let forgotten = topics.all().grouped(forgotten).into_iter().map(|(number, rows)| ForgottenTopic {
            topic: topics.all().names()[number].clone(),
            topic_id: topics.id(number),
            partitions: rows.into_iter().map(|(partition, ())| partition).collect(),
        });
        let request = FetchRequest {
            max_wait_ms: settings.fetch_max_wait_ms,
            min_bytes: settings.fetch_min_bytes,
            max_bytes: settings.fetch_max_bytes,
            session_id: self.session_id,
            session_epoch: if settings.sessions && version >= SESSIONS_FROM { self.session_epoch } else { -1 },
            topics: wanted.collect(),
            forgotten_topics_data: forgotten.collect(),
            ..Default::default()
        };
        let correlation_id = self.next_correlation_id();
        self.in_flight = Some(Asked::Records { correlation_id, version });
        frame(fetch::API.key, version, correlation_id, &request)
    }

    fn next_correlation_id(&mut self) -> i32 {
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        self.next_correlation_id
    }
}

fn frame<M: Message>(api_key: i16, version: i16, correlation_id: i32, request: &M) -> Vec<Bytes> {
    encode_request(&RequestHeader { api_key, version, correlation_id, client_id: Some(CLIENT_ID) }, request)
}
