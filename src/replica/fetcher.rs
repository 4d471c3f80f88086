//! What one core asks one core of another broker for its followers: Fetch requests in a session (KIP-227).
//!
//! One request is under way at a time, for all partitions together, and the next leaves when all that the last one
//! brought is safe. So a request says what its partitions have, and a commit of the journal here makes all of it safe
//! at once. A partition that its leader refuses leaves the session for a while, and so does one whose log is slow: the
//! others go on without it.
//!
//! A request waits at the leader while it has nothing. A partition that is to be asked for meanwhile is not held up: the
//! next request of a session ends the one that waits. Since only an open session has a next request, its first does not
//! wait.
//!
//! *Owns*: the session, and which partitions are asked for. *Never*: looks into records; knows a connection. *Runs on*:
//! the core of the followers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use crate::base::time::{Instant, Now};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData, ReplicaState,
};

use super::follower::{Content, FetchPosition, Fetched};

/// After the first refusal a partition rests for so long, and twice as long after each further one, up to the setting.
const BACKOFF_FIRST_MS: u64 = 20;

/// What an answer has brought is waited for so long; then the partitions that are ready go on without the others.
const PATIENCE_MS: u64 = 20;

/// Requests under way: one that waits at the leader, and one that ends it.
const ASKING_MAX: usize = 2;

/// The session epochs with a meaning of their own.
const INITIAL_EPOCH: i32 = 0;

/// What the settings say of fetching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchSettings {
    /// `replica.fetch.wait.max.ms`.
    pub wait_max_ms: i32,
    /// `replica.fetch.min.bytes`.
    pub min_bytes: i32,
    /// `replica.fetch.max.bytes`, of one partition.
    pub partition_bytes_max: i32,
    /// `replica.fetch.response.max.bytes`.
    pub bytes_max: i32,
    /// `replica.fetch.backoff.ms`.
    pub backoff_max_ms: u64,
}

#[derive(Debug)]
pub struct Fetcher {
    settings: FetchSettings,
    rows: BTreeMap<TopicPartition, Row>,
    /// Partitions whose last answer is not safe yet, and that the next request waits for.
    awaited: usize,
    /// Those that it does not wait for.
    left_out: usize,
    /// When it waits no longer.
    patience_until: Instant,
    /// Those that have something to say that the leader was not told.
    changed: BTreeSet<TopicPartition>,
    /// Those that are in the session and are to leave it.
    forgotten: BTreeSet<TopicPartition>,
    /// Those that rest, by when they are tried again.
    resting: BTreeSet<(Instant, TopicPartition)>,
    session: Session,
    /// The run of this broker that the leader was told of. It looks only at partitions that are named.
    told: BrokerEpoch,
    /// Requests that are not answered.
    asking: usize,
    /// Requests so far.
    requests: u64,
    backoff: Backoff,
    /// Nothing is asked before.
    rest_until: Instant,
}

#[derive(Debug, Default)]
struct Session {
    /// 0 until the leader has opened it.
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// The leader had no room for one.
    is_refused: bool,
}

#[derive(Debug)]
struct Row {
    position: FetchPosition,
    /// What was asked last, and by which request.
    asked: Option<FetchPosition>,
    asked_by: u64,
    is_in_session: bool,
    /// Something of what the leader has told in this session may not have come to the follower, and it tells nothing
    /// twice: the partition is to leave the session and to come anew.
    has_missed: bool,
    answer: Answer,
    resting_until: Option<Instant>,
    backoff: Backoff,
}

/// What has become of a partition's last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Safe,
    Awaited,
    /// It takes too long: the partition is not asked for until it is safe.
    LeftOut,
}

#[derive(Debug, Clone, Copy, Default)]
struct Backoff {
    refusals: u32,
}

impl Fetcher {
    pub fn new(settings: FetchSettings) -> Fetcher {
        Fetcher {
            settings,
            rows: BTreeMap::new(),
            awaited: 0,
            left_out: 0,
            patience_until: Instant(0),
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            resting: BTreeSet::new(),
            session: Session::default(),
            told: BrokerEpoch(-1),
            asking: 0,
            requests: 0,
            backoff: Backoff::default(),
            rest_until: Instant(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn set_settings(&mut self, settings: FetchSettings) {
        self.settings = settings;
    }

    /// The partition is ready for an answer from here on. One that is new is followed from now on.
    pub fn set_position(&mut self, of: TopicPartition, position: FetchPosition) {
        let row = self.rows.entry(of).or_insert_with(|| Row::new(position));
        match std::mem::replace(&mut row.answer, Answer::Safe) {
            Answer::Safe => {}
            Answer::Awaited => self.awaited -= 1,
            Answer::LeftOut => self.left_out -= 1,
        }
        row.position = position;
        row.has_missed |= row.asked.is_some_and(|asked| !asked.goes_on_with(position));
        if row.resting_until.is_none() && (!row.is_in_session || row.has_missed || row.asked != Some(position)) {
            self.changed.insert(of);
        }
    }

    /// The partition could not take what it was given, or its leader refused it: it rests, then goes on from here.
    pub fn rest(&mut self, of: TopicPartition, position: FetchPosition, now: Now) {
        self.set_position(of, position);
        self.put_to_rest(of, now);
    }

    /// The partition has taken what it was given, and is not to be asked for before then.
    pub fn hold(&mut self, of: TopicPartition, position: FetchPosition, until: Instant) {
        self.set_position(of, position);
        self.lay_aside(of, until);
    }

    /// This core follows it no more, or not this leader.
    pub fn remove(&mut self, of: TopicPartition) {
        let Some(row) = self.rows.remove(&of) else { return };
        match row.answer {
            Answer::Safe => {}
            Answer::Awaited => self.awaited -= 1,
            Answer::LeftOut => self.left_out -= 1,
        }
        if row.is_in_session {
            self.forgotten.insert(of);
        }
        if let Some(until) = row.resting_until {
            self.resting.remove(&(until, of));
        }
        self.changed.remove(&of);
    }

    /// The next request, if it is time for one.
    pub fn poll(&mut self, me: NodeId, epoch: BrokerEpoch, now: Now) -> Option<FetchRequest> {
        self.wake(now);
        if !self.may_ask(now) {
            return None;
        }
        if self.awaited > 0 {
            self.leave_out_slow();
        }
        let is_new = self.session.epoch == INITIAL_EPOCH;
        if std::mem::replace(&mut self.told, epoch) != epoch {
            self.name_all();
        }
        let named = std::mem::take(&mut self.changed);
        let mut forgotten = std::mem::take(&mut self.forgotten);
        for of in &named {
            let Some(row) = self.rows.get_mut(of) else { continue };
            // The leader forgets first.
            if std::mem::take(&mut row.has_missed) && row.is_in_session {
                forgotten.insert(*of);
            }
        }
        forgotten.retain(|_| !is_new);
        self.asking += 1;
        self.requests += 1;
        let (session_id, session_epoch) = self.session.on_asked();
        Some(FetchRequest {
            replica_state: ReplicaState { replica_id: me.0, replica_epoch: epoch.0 },
            max_wait_ms: if is_new && !self.session.is_refused { 0 } else { self.settings.wait_max_ms },
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.bytes_max,
            session_id,
            session_epoch,
            topics: self.topics(named),
            forgotten_topics_data: forgotten_topics(forgotten),
            ..FetchRequest::default()
        })
    }

    /// The leader's core has answered. What its partitions are to take goes to `fetched`.
    pub fn on_response(&mut self, response: FetchResponse, now: Now, fetched: &mut Vec<(TopicPartition, Fetched)>) {
        if response.error_code != ErrorCode::None.code() {
            return self.on_failed(now);
        }
        // What nobody has asked for counts for nothing.
        let Some(asking) = self.asking.checked_sub(1) else { return };
        // They are answered in their order.
        let number = self.requests - asking as u64;
        self.asking = asking;
        self.backoff = Backoff::default();
        self.session.on_answered(response.session_id);
        self.patience_until = now.mono.after_ms(PATIENCE_MS);
        for topic in response.responses {
            for row in topic.partitions {
                let of = TopicPartition { topic: topic.topic_id, partition: PartitionIndex(row.partition_index) };
                self.on_row(of, row, number, now, fetched);
            }
        }
        if self.session.id == 0 {
            self.leave_session();
        }
    }

    /// Nobody has answered: the session is over, and a new one begins after a rest.
    pub fn on_failed(&mut self, now: Now) {
        let Some(asking) = self.asking.checked_sub(1) else { return };
        self.asking = asking;
        self.session = Session::default();
        self.leave_session();
        if self.asking == 0 {
            self.rest_until = now.mono.after_ms(self.backoff.next_ms(self.settings.backoff_max_ms));
        }
    }

    /// When [`Fetcher::poll`] may have something that it does not have now.
    pub fn next_deadline(&self) -> Option<Instant> {
        let woken = self.resting.first().map(|(until, _)| *until);
        let at = match (self.asking, self.awaited) {
            (0, 0) => self.rest_until,
            (0, _) => self.rest_until.max(self.patience_until),
            (1, 0) if self.session.is_open() => return woken,
            _ => return None,
        };
        if self.ready() > 0 { Some(at) } else { woken.map(|woken| woken.max(at)) }
    }

    /// Partitions that can be asked for.
    fn ready(&self) -> usize {
        self.rows.len() - self.resting.len() - self.awaited - self.left_out
    }

    fn may_ask(&self, now: Now) -> bool {
        if self.ready() == 0 || now.mono < self.rest_until {
            return false;
        }
        if self.asking == 0 {
            return self.awaited == 0 || now.mono >= self.patience_until;
        }
        self.asking < ASKING_MAX && self.session.is_open() && self.awaited == 0 && !self.changed.is_empty()
    }

    fn leave_out_slow(&mut self) {
        for (of, row) in self.rows.iter_mut().filter(|(_, row)| row.answer == Answer::Awaited) {
            row.answer = Answer::LeftOut;
            if std::mem::take(&mut row.is_in_session) {
                self.forgotten.insert(*of);
            }
            self.changed.remove(of);
        }
        self.left_out += std::mem::take(&mut self.awaited);
    }

    fn on_row(
        &mut self,
        of: TopicPartition,
        data: PartitionData,
        number: u64,
        now: Now,
        fetched: &mut Vec<(TopicPartition, Fetched)>,
    ) {
        let Some(row) = self.rows.get_mut(&of) else { return };
        // What was asked since is another question; what was answered before, the same once more, also after it was put
        // to rest.
        let is_due = row.asked_by <= number && row.answer == Answer::Safe && row.resting_until.is_none();
        let Some(asked) = row.asked.filter(|asked| row.position == *asked && is_due) else {
            row.has_missed = true;
            return;
        };
        let Some(content) = content_of(data) else { return self.put_to_rest(of, now) };
        row.backoff = Backoff::default();
        row.answer = Answer::Awaited;
        self.awaited += 1;
        fetched.push((of, Fetched { epoch: asked.epoch, from: asked.from, content }));
    }

    fn put_to_rest(&mut self, of: TopicPartition, now: Now) {
        let Some(row) = self.rows.get_mut(&of) else { return };
        if row.resting_until.is_some() {
            return;
        }
        let until = now.mono.after_ms(row.backoff.next_ms(self.settings.backoff_max_ms));
        self.lay_aside(of, until);
    }

    fn lay_aside(&mut self, of: TopicPartition, until: Instant) {
        let Some(row) = self.rows.get_mut(&of).filter(|row| row.resting_until.is_none()) else { return };
        row.resting_until = Some(until);
        if std::mem::take(&mut row.is_in_session) {
            self.forgotten.insert(of);
        }
        self.resting.insert((until, of));
        self.changed.remove(&of);
    }

    fn wake(&mut self, now: Now) {
        while let Some(&(until, of)) = self.resting.first().filter(|(until, _)| *until <= now.mono) {
            self.resting.remove(&(until, of));
            if let Some(row) = self.rows.get_mut(&of) {
                row.resting_until = None;
                self.changed.insert(of);
            }
        }
    }

    fn leave_session(&mut self) {
        self.forgotten.clear();
        self.rows.values_mut().for_each(|row| row.is_in_session = false);
        self.name_all();
    }

    fn name_all(&mut self) {
        let is_ready = |row: &Row| row.resting_until.is_none() && row.answer == Answer::Safe;
        self.changed.extend(self.rows.iter().filter(|(_, row)| is_ready(row)).map(|(of, _)| *of));
    }

    fn topics(&mut self, named: BTreeSet<TopicPartition>) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for of in named {
            let Some(row) = self.rows.get_mut(&of) else { continue };
            let position = row.position;
            (row.asked, row.asked_by) = (Some(position), self.requests);
            row.is_in_session = true;
            let wanted = FetchPartition {
                partition: of.partition.0,
                current_leader_epoch: position.epoch.0,
                fetch_offset: position.from.0,
                last_fetched_epoch: position.last_epoch.0,
                log_start_offset: position.log_start.0,
                partition_max_bytes: self.settings.partition_bytes_max,
                ..FetchPartition::default()
            };
            match topics.last_mut().filter(|topic| topic.topic_id == of.topic) {
                Some(topic) => topic.partitions.push(wanted),
                None => {
                    topics.push(FetchTopic { topic_id: of.topic, partitions: vec![wanted], ..FetchTopic::default() })
                }
            }
        }
        topics
    }
}

impl Session {
    fn is_open(&self) -> bool {
        self.id != 0
    }

    /// The session and the epoch of a request.
    fn on_asked(&mut self) -> (i32, i32) {
        let asked = (self.id, self.epoch);
        if self.is_open() {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
        asked
    }

    /// A leader that has no room for a session answers with none.
    fn on_answered(&mut self, id: i32) {
        if id == 0 {
            *self = Session { is_refused: true, ..Session::default() };
        } else if !self.is_open() {
            *self = Session { id, epoch: 1, is_refused: false };
        }
    }
}

impl Row {
    fn new(position: FetchPosition) -> Row {
        Row {
            position,
            asked: None,
            asked_by: 0,
            is_in_session: false,
            has_missed: false,
            answer: Answer::Safe,
            resting_until: None,
            backoff: Backoff::default(),
        }
    }
}

impl Backoff {
    fn next_ms(&mut self, max_ms: u64) -> u64 {
        let ms = BACKOFF_FIRST_MS << self.refusals.min(16);
        self.refusals += 1;
        ms.min(max_ms)
    }
}

fn forgotten_topics(forgotten: BTreeSet<TopicPartition>) -> Vec<ForgottenTopic> {
    let mut topics: Vec<ForgottenTopic> = Vec::new();
    for TopicPartition { topic, partition } in forgotten {
        match topics.last_mut().filter(|last| last.topic_id == topic) {
            Some(last) => last.partitions.push(partition.0),
            None => topics.push(ForgottenTopic {
                topic_id: topic,
                partitions: vec![partition.0],
                ..ForgottenTopic::default()
            }),
        }
    }
    topics
}

/// None: the leader refuses.
fn content_of(data: PartitionData) -> Option<Content> {
    let log_start = Offset(data.log_start_offset);
    match ErrorCode::from_code(data.error_code) {
        Some(ErrorCode::None) if data.diverging_epoch.end_offset >= 0 => Some(Content::Diverging {
            epoch: LeaderEpoch(data.diverging_epoch.epoch),
            end: Offset(data.diverging_epoch.end_offset),
        }),
        Some(ErrorCode::None) => Some(Content::Records {
            records: data.records.map(|records| joined(records.0)).unwrap_or_default(),
            high_watermark: Offset(data.high_watermark),
            log_start,
        }),
        Some(ErrorCode::OffsetOutOfRange) if log_start >= Offset(0) => Some(Content::OutOfRange { log_start }),
        Some(_) | None => None,
    }
}

/// What came over a connection is in one piece.
fn joined(slices: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(slices) {
        Ok([slice]) => slice,
        Err(slices) => slices.concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;
    use crate::wire::messages::fetch::FetchableTopicResponse;

    const ME: NodeId = NodeId(2);
    const SETTINGS: FetchSettings = FetchSettings {
        wait_max_ms: 500,
        min_bytes: 1,
        partition_bytes_max: 1000,
        bytes_max: 5000,
        backoff_max_ms: 100,
    };

    fn of(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
    }

    fn at(from: i64) -> FetchPosition {
        let (epoch, last_epoch) = (LeaderEpoch(3), LeaderEpoch(1));
        FetchPosition { epoch, from: Offset(from), last_epoch, log_start: Offset(0) }
    }

    fn after_ms(ms: u64) -> Now {
        Now { mono: Instant(0).after_ms(ms), wall_ms: 0 }
    }

    /// The session's epoch, what is asked for by partition and offset, and what leaves the session.
    type Asked = (i32, Vec<(i32, i64)>, Vec<i32>);

    fn asked(fetcher: &mut Fetcher, ms: u64) -> Option<Asked> {
        let request = fetcher.poll(ME, BrokerEpoch(7), after_ms(ms))?;
        assert_eq!((request.replica_state.replica_id, request.replica_state.replica_epoch), (2, 7));
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let wanted = partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect();
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone()).collect();
        Some((request.session_epoch, wanted, forgotten))
    }

    fn answer(fetcher: &mut Fetcher, ms: u64, rows: &[(i32, ErrorCode)]) -> Vec<i32> {
        let row = |&(partition_index, error): &(i32, ErrorCode)| PartitionData {
            partition_index,
            error_code: error.code(),
            ..PartitionData::default()
        };
        let partitions = rows.iter().map(row).collect();
        let topic = FetchableTopicResponse { topic_id: of(0).topic, partitions, ..FetchableTopicResponse::default() };
        let response = FetchResponse { session_id: 9, responses: vec![topic], ..FetchResponse::default() };
        let mut fetched = Vec::new();
        fetcher.on_response(response, after_ms(ms), &mut fetched);
        fetched.iter().map(|(of, _)| of.partition.0).collect()
    }

    #[test]
    fn a_request_names_what_has_changed_and_waits_until_all_is_safe() {
        let mut fetcher = Fetcher::new(SETTINGS);
        assert_eq!(asked(&mut fetcher, 0), None);
        fetcher.set_position(of(0), at(5));
        fetcher.set_position(of(1), at(6));
        assert_eq!(asked(&mut fetcher, 0), Some((0, vec![(0, 5), (1, 6)], vec![])));
        assert_eq!(asked(&mut fetcher, 0), None);
        assert_eq!(answer(&mut fetcher, 1, &[(0, ErrorCode::None), (1, ErrorCode::None)]), [0, 1]);
        assert_eq!((asked(&mut fetcher, 1), fetcher.next_deadline()), (None, None));
        fetcher.set_position(of(0), at(9));
        assert_eq!(asked(&mut fetcher, 1), None);
        fetcher.set_position(of(1), at(6));
        assert_eq!(asked(&mut fetcher, 1), Some((1, vec![(0, 9)], vec![])));
        assert!(answer(&mut fetcher, 2, &[]).is_empty());
        fetcher.remove(of(1));
        assert_eq!(asked(&mut fetcher, 2), Some((2, vec![], vec![1])));
    }

    #[test]
    fn who_is_refused_rests_longer_each_time() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        fetcher.set_position(of(1), at(6));
        let mut ms = 0;
        asked(&mut fetcher, ms).unwrap();
        for rest_ms in [20, 40, 80, 100, 100] {
            assert!(answer(&mut fetcher, ms, &[(0, ErrorCode::NotLeaderOrFollower)]).is_empty());
            let (_, wanted, forgotten) = asked(&mut fetcher, ms + rest_ms - 1).unwrap();
            assert_eq!((wanted, forgotten), (vec![], vec![0]));
            assert!(answer(&mut fetcher, ms + rest_ms - 1, &[]).is_empty());
            ms += rest_ms;
            assert_eq!(asked(&mut fetcher, ms).unwrap().1, [(0, 5)]);
        }
        assert_eq!(answer(&mut fetcher, ms, &[(0, ErrorCode::None)]), [0]);
        fetcher.rest(of(0), at(5), after_ms(ms));
        assert_eq!(asked(&mut fetcher, ms + 19).unwrap().2, [0]);
    }

    #[test]
    fn an_answer_to_what_was_asked_before_is_none_to_what_was_asked_since() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(0));
        assert_eq!(asked(&mut fetcher, 0), Some((0, vec![(0, 0)], vec![])));
        assert_eq!(answer(&mut fetcher, 1, &[(0, ErrorCode::None)]), [0]);
        fetcher.set_position(of(0), at(5));
        assert_eq!(asked(&mut fetcher, 1), Some((1, vec![(0, 5)], vec![])));
        // Its log begins later by now, and the leader is told at once.
        fetcher.set_position(of(0), FetchPosition { log_start: Offset(2), ..at(5) });
        assert_eq!(asked(&mut fetcher, 2).map(|(epoch, wanted, _)| (epoch, wanted)), Some((2, vec![(0, 5)])));
        assert!(answer(&mut fetcher, 3, &[(0, ErrorCode::None)]).is_empty(), "the second one is on its way");
        assert_eq!(answer(&mut fetcher, 4, &[(0, ErrorCode::None)]), [0]);
    }

    #[test]
    fn a_partition_that_comes_ends_the_request_that_waits() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        asked(&mut fetcher, 0).unwrap();
        fetcher.set_position(of(1), at(6));
        assert_eq!(asked(&mut fetcher, 0), None, "there is no session yet");
        answer(&mut fetcher, 0, &[]);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![(1, 6)], vec![])));
        fetcher.set_position(of(2), at(7));
        assert_eq!(asked(&mut fetcher, 1), Some((2, vec![(2, 7)], vec![])));
        fetcher.set_position(of(3), at(8));
        assert_eq!((asked(&mut fetcher, 2), fetcher.next_deadline()), (None, None), "two are enough");
        assert_eq!(answer(&mut fetcher, 3, &[(1, ErrorCode::None)]), [1]);
        assert_eq!(asked(&mut fetcher, 3), None, "what it has brought is not safe");
        assert!(answer(&mut fetcher, 3, &[(1, ErrorCode::None)]).is_empty(), "the same once more");
        fetcher.set_position(of(1), at(9));
        assert_eq!(asked(&mut fetcher, 3), Some((3, vec![(1, 9), (3, 8)], vec![1])), "there was more, perhaps");
    }

    #[test]
    fn what_may_have_been_missed_is_told_anew() {
        let mut fetcher = Fetcher::new(SETTINGS);
        (0..4).for_each(|partition| fetcher.set_position(of(partition), at(5)));
        asked(&mut fetcher, 0).unwrap();
        answer(&mut fetcher, 0, &[]);
        fetcher.set_position(of(0), at(6));
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![(0, 6)], vec![])), "the answer was taken");
        answer(&mut fetcher, 0, &[]);
        fetcher.set_position(of(0), FetchPosition { log_start: Offset(3), ..at(6) });
        fetcher.set_position(of(1), FetchPosition { epoch: LeaderEpoch(4), ..at(5) });
        fetcher.remove(of(2));
        fetcher.set_position(of(2), at(5));
        assert_eq!(asked(&mut fetcher, 0), Some((2, vec![(0, 6), (1, 5), (2, 5)], vec![0, 1, 2])));
        answer(&mut fetcher, 0, &[]);
        fetcher.set_position(of(3), at(6));
        assert_eq!(asked(&mut fetcher, 0), Some((3, vec![(3, 6)], vec![])));
        fetcher.set_position(of(3), FetchPosition { last_epoch: LeaderEpoch(2), ..at(6) });
        assert!(answer(&mut fetcher, 0, &[(3, ErrorCode::None)]).is_empty(), "of another question");
        assert_eq!(asked(&mut fetcher, 0), Some((4, vec![(3, 6)], vec![3])));
    }

    #[test]
    fn who_rested_ends_the_request_that_waits() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        fetcher.set_position(of(1), at(6));
        asked(&mut fetcher, 0).unwrap();
        answer(&mut fetcher, 0, &[(1, ErrorCode::NotLeaderOrFollower)]);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![], vec![1])));
        assert_eq!(fetcher.next_deadline(), Some(after_ms(20).mono));
        assert_eq!(asked(&mut fetcher, 19), None);
        assert_eq!(asked(&mut fetcher, 20), Some((2, vec![(1, 6)], vec![])));
    }

    #[test]
    fn the_first_request_of_a_session_does_not_wait_at_the_leader() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        let mut waits_ms = |session_id| {
            let request = fetcher.poll(ME, BrokerEpoch(7), after_ms(0)).unwrap();
            let response = FetchResponse { session_id, ..FetchResponse::default() };
            fetcher.on_response(response, after_ms(0), &mut Vec::new());
            request.max_wait_ms
        };
        assert_eq!([waits_ms(0), waits_ms(0), waits_ms(9), waits_ms(9)], [0, 500, 500, 500]);
    }

    #[test]
    fn others_go_on_without_a_slow_log() {
        let mut fetcher = Fetcher::new(SETTINGS);
        (0..3).for_each(|partition| fetcher.set_position(of(partition), at(5)));
        asked(&mut fetcher, 0).unwrap();
        assert_eq!(answer(&mut fetcher, 0, &[(0, ErrorCode::None), (1, ErrorCode::None)]), [0, 1]);
        fetcher.set_position(of(1), at(6));
        assert_eq!(fetcher.next_deadline(), Some(after_ms(PATIENCE_MS).mono));
        assert_eq!(asked(&mut fetcher, PATIENCE_MS - 1), None);
        assert_eq!(asked(&mut fetcher, PATIENCE_MS), Some((1, vec![(1, 6)], vec![0])));
        assert_eq!(answer(&mut fetcher, 21, &[(1, ErrorCode::None)]), [1]);
        fetcher.set_position(of(1), at(7));
        assert_eq!(asked(&mut fetcher, 21), Some((2, vec![(1, 7)], vec![])), "and wait no more for it");
        fetcher.set_position(of(0), at(6));
        assert_eq!(asked(&mut fetcher, 22), Some((3, vec![(0, 6)], vec![])));
    }

    #[test]
    fn what_is_held_is_asked_for_when_it_is_time() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        fetcher.set_position(of(1), at(5));
        asked(&mut fetcher, 0).unwrap();
        assert_eq!(answer(&mut fetcher, 0, &[(0, ErrorCode::None)]), [0]);
        fetcher.hold(of(0), at(6), after_ms(300).mono);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![], vec![0])));
        assert_eq!((asked(&mut fetcher, 299), fetcher.next_deadline()), (None, Some(after_ms(300).mono)));
        assert_eq!(asked(&mut fetcher, 300), Some((2, vec![(0, 6)], vec![])));
    }

    #[test]
    fn a_lost_answer_ends_the_session() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        fetcher.set_position(of(1), at(6));
        asked(&mut fetcher, 0).unwrap();
        answer(&mut fetcher, 0, &[]);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![], vec![])));
        fetcher.remove(of(1));
        fetcher.on_failed(after_ms(10));
        assert_eq!((asked(&mut fetcher, 29), fetcher.next_deadline()), (None, Some(after_ms(30).mono)));
        assert_eq!(asked(&mut fetcher, 30), Some((0, vec![(0, 5)], vec![])));
    }

    #[test]
    fn a_new_run_of_this_broker_is_told_of_every_partition() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        asked(&mut fetcher, 0).unwrap();
        answer(&mut fetcher, 0, &[]);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![], vec![])));
        answer(&mut fetcher, 0, &[]);
        let request = fetcher.poll(ME, BrokerEpoch(8), after_ms(0)).unwrap();
        assert_eq!((request.session_epoch, request.topics.len()), (2, 1));
    }

    #[test]
    fn an_answer_to_an_older_question_counts_for_nothing() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        asked(&mut fetcher, 0).unwrap();
        fetcher.set_position(of(0), at(2));
        assert!(answer(&mut fetcher, 0, &[(0, ErrorCode::None), (4, ErrorCode::None)]).is_empty());
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![(0, 2)], vec![0])));
    }

    #[test]
    fn an_answer_that_comes_after_a_refusal_counts_for_nothing() {
        let mut fetcher = Fetcher::new(SETTINGS);
        fetcher.set_position(of(0), at(5));
        asked(&mut fetcher, 0).unwrap();
        answer(&mut fetcher, 0, &[]);
        assert_eq!(asked(&mut fetcher, 0), Some((1, vec![], vec![])));
        fetcher.set_position(of(1), at(6));
        assert_eq!(asked(&mut fetcher, 0), Some((2, vec![(1, 6)], vec![])));
        assert!(answer(&mut fetcher, 0, &[(0, ErrorCode::NotLeaderOrFollower)]).is_empty());
        assert!(answer(&mut fetcher, 0, &[(0, ErrorCode::None)]).is_empty());
        assert_eq!(asked(&mut fetcher, 0), Some((3, vec![], vec![0])));
        assert!(answer(&mut fetcher, 20, &[]).is_empty());
        assert_eq!(asked(&mut fetcher, 20), Some((4, vec![(0, 5)], vec![])));
    }
}
