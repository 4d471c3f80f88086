//! Incremental fetch sessions (KIP-227): the partitions a consumer follows are remembered, so that its requests name
//! only changes and replies carry only news.
//!
//! *Owns*: the sessions of one core's clients, and which fetches wait in them. *Never*: reads a partition. *Runs on*:
//! every core.

use std::collections::BTreeMap;

use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::broker::api::fetch_rows::{FetchRows, Wanted};
use crate::broker::message::TopicPartition;
use crate::replica::partition::Follower;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::FetchRequest;

/// A request with this epoch wants no session, and ends the one it names.
const FINAL_EPOCH: i32 = -1;
/// A request with this epoch wants a new session.
const INITIAL_EPOCH: i32 = 0;
/// A session idle for less than this is not evicted for a new one (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_IDLE_MS: u64 = 120_000;

/// How a fetch relates to sessions, once its request was understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionUse {
    /// The reply names every partition and no session.
    None,
    /// The reply names every partition and this new session.
    New(i32),
    /// The reply names only partitions with news.
    Incremental(i32),
}

impl SessionUse {
    pub fn id(self) -> Option<i32> {
        match self {
            SessionUse::None => None,
            SessionUse::New(id) | SessionUse::Incremental(id) => Some(id),
        }
    }
}

/// What a request asks for.
#[derive(Debug)]
pub struct Understood {
    pub used: SessionUse,
    /// Counts the requests of the session.
    pub turn: i32,
    /// Without a session: everything that is to be read, in the client's order. A session has rows.
    pub wanted: Vec<Wanted>,
    pub left: Left,
}

/// What ended sessions and forgotten partitions leave behind, for the caller to put in order.
#[derive(Default, Debug)]
pub struct Left {
    pub watches: Vec<(TopicPartition, Follower)>,
    /// Fetches that wait in a session that is no more, or whose client has asked again meanwhile.
    pub waiting: Vec<Key>,
}

#[derive(Debug)]
pub struct FetchSessions {
    by_id: BTreeMap<i32, FetchSession>,
    sessions_max: usize,
}

#[derive(Debug)]
struct FetchSession {
    next_epoch: i32,
    uses_ids: bool,
    used_at: Instant,
    rows: FetchRows,
    /// The fetch that waits for something to become due, with its round. The next request ends it.
    waiting: Option<(Key, u32)>,
}

impl FetchSessions {
    pub fn new(sessions_max: usize) -> FetchSessions {
        FetchSessions { by_id: BTreeMap::new(), sessions_max: sessions_max.min(limits::FETCH_SESSIONS_PER_CORE_MAX) }
    }

    /// Takes a request's changes into its session.
    pub fn on_request(
        &mut self,
        request: &FetchRequest,
        uses_ids: bool,
        now: Instant,
        rng: &mut Rng,
    ) -> Result<Understood, ErrorCode> {
        let mut left = Left::default();
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            self.end(request.session_id, &mut left);
            let created = match request.session_epoch {
                INITIAL_EPOCH => self.create(request, uses_ids, now, rng, &mut left),
                _ => None,
            };
            return Ok(match created {
                Some(id) => Understood { used: SessionUse::New(id), turn: 1, wanted: Vec::new(), left },
                None => Understood { used: SessionUse::None, turn: 0, wanted: wanted_of(request).collect(), left },
            });
        }
        let session = self.by_id.get_mut(&request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_ids != uses_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.next_epoch = if session.next_epoch == i32::MAX { 1 } else { session.next_epoch + 1 };
        session.used_at = now;
        session.forget(request, &mut left);
        left.waiting.extend(session.waiting.take().map(|(job, _)| job));
        wanted_of(request).for_each(|wanted| session.rows.want(wanted));
        let (used, turn) = (SessionUse::Incremental(request.session_id), session.next_epoch);
        Ok(Understood { used, turn, wanted: Vec::new(), left })
    }

    /// Whether the client has asked nothing since, and the session is still there.
    pub fn is_latest(&self, id: i32, turn: i32) -> bool {
        self.by_id.get(&id).is_some_and(|session| session.next_epoch == turn)
    }

    /// None when the session has ended.
    pub fn rows(&mut self, id: i32) -> Option<&mut FetchRows> {
        self.by_id.get_mut(&id).map(|session| &mut session.rows)
    }

    pub fn get(&self, id: i32) -> Option<&FetchRows> {
        self.by_id.get(&id).map(|session| &session.rows)
    }

    /// A partition has changed. Adds whoever waits for that, with its round.
    pub fn on_changed(&mut self, id: i32, row: Key, waiting: &mut Vec<(Key, u32)>) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        session.rows.on_changed(row);
        // Most often another row of the same session has said so just before.
        waiting.extend(session.waiting.filter(|fetch| waiting.last() != Some(fetch)));
    }

    /// A partition has changed in what nobody is woken for: the next round of its session tells it. Without a session
    /// each fetch tells everything.
    pub fn on_aside(&mut self, follower: Follower) {
        if let Follower::Session { id, row } = follower
            && let Some(session) = self.by_id.get_mut(&id)
        {
            session.rows.on_changed(row);
        }
    }

    pub fn wait(&mut self, id: i32, job: Key, round: u32) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.waiting = Some((job, round));
        }
    }

    pub fn wait_no_more(&mut self, id: i32, job: Key) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.waiting.take_if(|(other, _)| *other == job);
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn create(
        &mut self,
        request: &FetchRequest,
        uses_ids: bool,
        now: Instant,
        rng: &mut Rng,
        left: &mut Left,
    ) -> Option<i32> {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        if count == 0 || count > limits::FETCH_SESSION_PARTITIONS_MAX || !self.make_room(now, left) {
            return None;
        }
        let mut id = 0;
        while id == 0 || self.by_id.contains_key(&id) {
            id = rng.below(i32::MAX as u64) as i32;
        }
        let mut rows = FetchRows::default();
        wanted_of(request).for_each(|wanted| rows.want(wanted));
        self.by_id.insert(id, FetchSession { next_epoch: 1, uses_ids, used_at: now, rows, waiting: None });
        Some(id)
    }

    fn make_room(&mut self, now: Instant, left: &mut Left) -> bool {
        if self.by_id.len() < self.sessions_max {
            return true;
        }
        let oldest = self.by_id.iter().min_by_key(|(id, session)| (session.used_at, **id));
        match oldest.map(|(id, session)| (*id, session.used_at)) {
            Some((id, used_at)) if used_at.after_ms(EVICTION_IDLE_MS) <= now => {
                self.end(id, left);
                true
            }
            _ => false,
        }
    }

    fn end(&mut self, id: i32, left: &mut Left) {
        let Some(session) = self.by_id.remove(&id) else { return };
        left.watches.extend(session.rows.watched().map(|(of, row)| (of, Follower::Session { id, row })));
        left.waiting.extend(session.waiting.map(|(job, _)| job));
    }
}

impl FetchSession {
    fn forget(&mut self, request: &FetchRequest, left: &mut Left) {
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                let watched = self.rows.forget(&topic.topic, topic.topic_id, *partition);
                let follower = |row| Follower::Session { id: request.session_id, row };
                left.watches.extend(watched.map(|(of, row)| (of, follower(row))));
            }
        }
    }
}

fn wanted_of(request: &FetchRequest) -> impl Iterator<Item = Wanted> + '_ {
    request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Wanted {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
            bytes_max: partition.partition_max_bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PartitionIndex, TopicId};
    use crate::base::slab::Slab;
    use crate::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
    use crate::wire::text::Text;

    fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)], forgotten: &[i32]) -> FetchRequest {
        let partitions = partitions
            .iter()
            .map(|&(partition, fetch_offset)| FetchPartition { partition, fetch_offset, ..FetchPartition::default() })
            .collect::<Vec<_>>();
        let mut request = FetchRequest { session_id, session_epoch, ..FetchRequest::default() };
        if !partitions.is_empty() {
            request.topics = vec![FetchTopic { topic: Text::from("t"), partitions, ..FetchTopic::default() }];
        }
        if !forgotten.is_empty() {
            request.forgotten_topics_data = vec![ForgottenTopic {
                topic: Text::from("t"),
                partitions: forgotten.to_vec(),
                ..ForgottenTopic::default()
            }];
        }
        request
    }

    fn ask(sessions: &mut FetchSessions, request: &FetchRequest, now: Instant) -> Understood {
        sessions.on_request(request, false, now, &mut Rng::new(1)).expect("a request that fits its session")
    }

    fn offsets(sessions: &mut FetchSessions, id: i32) -> Vec<(i32, i64)> {
        let rows = sessions.rows(id).expect("a session");
        rows.due().map(|(_, wanted)| (wanted.partition, wanted.fetch_offset)).collect()
    }

    #[test]
    fn a_session_remembers_changes_and_forgets_on_request() {
        let mut sessions = FetchSessions::new(10);
        let understood = ask(&mut sessions, &request(0, 0, &[(0, 5), (1, 6), (0, 7)], &[]), Instant(0));
        let SessionUse::New(id) = understood.used else { panic!("{understood:?}") };
        assert_eq!(offsets(&mut sessions, id), [(0, 7), (1, 6)]);
        let rows = sessions.rows(id).unwrap();
        let (first, _) = rows.due().next().unwrap();
        let of = TopicPartition { topic: TopicId::ZERO, partition: PartitionIndex(0) };
        assert!(rows.watch(first, of));
        let understood = ask(&mut sessions, &request(id, 1, &[(1, 7), (2, 0)], &[0, 1]), Instant(0));
        assert_eq!(understood.used, SessionUse::Incremental(id));
        assert_eq!(understood.left.watches, [(of, Follower::Session { id, row: first })]);
        assert_eq!(offsets(&mut sessions, id), [(1, 7), (2, 0)]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused_and_a_final_epoch_ends_the_session() {
        let mut sessions = FetchSessions::new(10);
        let id = ask(&mut sessions, &request(0, 0, &[(0, 5)], &[]), Instant(0)).used.id().unwrap();
        let mut check = |request: FetchRequest, uses_ids: bool, expect: ErrorCode| {
            let error = sessions.on_request(&request, uses_ids, Instant(0), &mut Rng::new(1)).unwrap_err();
            assert_eq!(error, expect);
        };
        check(request(id ^ 1, 1, &[], &[]), false, ErrorCode::FetchSessionIdNotFound);
        check(request(id, 2, &[], &[]), false, ErrorCode::InvalidFetchSessionEpoch);
        check(request(id, 1, &[], &[]), true, ErrorCode::FetchSessionTopicIdError);
        let waits = Slab::default().insert(());
        sessions.wait(id, waits, 1);
        let understood = ask(&mut sessions, &request(id, -1, &[(3, 1)], &[]), Instant(0));
        assert_eq!((understood.used, understood.wanted.len()), (SessionUse::None, 1));
        assert_eq!(understood.left.waiting, [waits]);
        assert!(sessions.is_empty());
    }

    #[test]
    fn only_long_idle_sessions_make_room() {
        let mut sessions = FetchSessions::new(1);
        let initial = request(0, 0, &[(0, 5)], &[]);
        let mut check = |ms: u64, expect: bool| {
            let understood = ask(&mut sessions, &initial, Instant(0).after_ms(ms));
            assert_eq!(understood.used.id().is_some(), expect, "{ms}");
            assert_eq!(understood.wanted.is_empty(), expect, "{ms}");
            assert_eq!(sessions.len(), 1);
        };
        check(0, true);
        check(EVICTION_IDLE_MS - 1, false);
        check(EVICTION_IDLE_MS, true);
    }

    #[test]
    fn a_change_wakes_who_waits_in_the_session_once() {
        let mut sessions = FetchSessions::new(1);
        let id = ask(&mut sessions, &request(0, 0, &[(0, 5), (1, 5)], &[]), Instant(0)).used.id().unwrap();
        let rows: Vec<Key> = sessions.rows(id).unwrap().due().map(|(row, _)| row).collect();
        let job = Slab::default().insert(());
        let mut woken = Vec::new();
        sessions.on_changed(id, rows[0], &mut woken);
        assert!(woken.is_empty());
        sessions.wait(id, job, 3);
        rows.iter().for_each(|row| sessions.on_changed(id, *row, &mut woken));
        assert_eq!(woken, [(job, 3)]);
        sessions.wait_no_more(id, job);
        sessions.on_changed(id, rows[0], &mut woken);
        assert_eq!(woken.len(), 1);
    }

    #[test]
    fn a_request_ends_the_one_that_waits_in_its_session() {
        let mut sessions = FetchSessions::new(1);
        let first = ask(&mut sessions, &request(0, 0, &[(0, 5)], &[]), Instant(0));
        let id = first.used.id().unwrap();
        let job = Slab::default().insert(());
        sessions.wait(id, job, 1);
        assert!(sessions.is_latest(id, first.turn));
        let second = ask(&mut sessions, &request(id, 1, &[(1, 5)], &[]), Instant(0));
        assert_eq!(second.left.waiting, [job]);
        assert!(!sessions.is_latest(id, first.turn) && sessions.is_latest(id, second.turn));
        let third = ask(&mut sessions, &request(id, 2, &[], &[]), Instant(0));
        assert!(third.left.waiting.is_empty(), "it is told once");
    }
}
