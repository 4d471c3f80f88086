//! Incremental fetch sessions (KIP-227): the partitions a consumer follows are remembered, so that its requests name
//! only changes and replies carry only news.
//!
//! *Owns*: the sessions of one core's clients. *Never*: reads a partition. *Runs on*: every core.

use std::collections::BTreeMap;

use crate::base::ids::TopicId;
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::FetchRequest;
use crate::wire::text::Text;

/// A request with this epoch wants no session, and ends the one it names.
const FINAL_EPOCH: i32 = -1;
/// A request with this epoch wants a new session.
const INITIAL_EPOCH: i32 = 0;
/// A session idle for less than this is not evicted for a new one (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_IDLE_MS: u64 = 120_000;

/// What a client wants of one partition, in its own words.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Empty when the client speaks of topic ids.
    pub topic: Text,
    /// Zero when the client speaks of names.
    pub topic_id: TopicId,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub bytes_max: i32,
}

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
    pub fn id(self) -> i32 {
        match self {
            SessionUse::None => 0,
            SessionUse::New(id) | SessionUse::Incremental(id) => id,
        }
    }
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
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    wanted: Wanted,
    /// Last told to the client; −1 before the first reply.
    high_watermark: i64,
    log_start: i64,
}

impl FetchSessions {
    pub fn new(sessions_max: usize) -> FetchSessions {
        FetchSessions { by_id: BTreeMap::new(), sessions_max: sessions_max.min(limits::FETCH_SESSIONS_PER_CORE_MAX) }
    }

    /// Takes a request's changes into its session and returns everything that is to be read, in the client's order.
    pub fn on_request(
        &mut self,
        request: &FetchRequest,
        uses_ids: bool,
        now: Instant,
        rng: &mut Rng,
    ) -> Result<(SessionUse, Vec<Wanted>), ErrorCode> {
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            self.by_id.remove(&request.session_id);
            let wanted: Vec<Wanted> = wanted_of(request).collect();
            if request.session_epoch == FINAL_EPOCH {
                return Ok((SessionUse::None, wanted));
            }
            let used = match self.create(&wanted, uses_ids, now, rng) {
                Some(id) => SessionUse::New(id),
                None => SessionUse::None,
            };
            return Ok((used, wanted));
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
        session.forget(request);
        session.take_changes(request);
        let wanted = session.rows.iter().map(|row| row.wanted.clone()).collect();
        Ok((SessionUse::Incremental(request.session_id), wanted))
    }

    /// Whether a partition belongs in an incremental reply, and remembers what the reply tells of it. `index` is its
    /// place in what `on_request` returned.
    pub fn is_news(&mut self, id: i32, index: usize, high_watermark: i64, log_start: i64, must: bool) -> bool {
        let Some(row) = self.by_id.get_mut(&id).and_then(|session| session.rows.get_mut(index)) else { return must };
        let changed = row.high_watermark != high_watermark || row.log_start != log_start;
        row.high_watermark = high_watermark;
        row.log_start = log_start;
        must || changed
    }

    /// Puts the partitions that just gave data behind the others, so that each gets its turn under `max_bytes`.
    pub fn rotate(&mut self, id: i32, gave_data: &[bool]) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        if session.rows.len() != gave_data.len() {
            return;
        }
        let rows = std::mem::take(&mut session.rows);
        let (late, early): (Vec<_>, Vec<_>) = rows.into_iter().zip(gave_data).partition(|(_, gave)| **gave);
        session.rows = early.into_iter().chain(late).map(|(row, _)| row).collect();
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn create(&mut self, wanted: &[Wanted], uses_ids: bool, now: Instant, rng: &mut Rng) -> Option<i32> {
        if wanted.is_empty() || wanted.len() > limits::FETCH_SESSION_PARTITIONS_MAX || !self.make_room(now) {
            return None;
        }
        let mut id = 0;
        while id == 0 || self.by_id.contains_key(&id) {
            id = rng.below(i32::MAX as u64) as i32;
        }
        let rows = wanted
            .iter()
            .map(|wanted| {
                // The receive buffer must not live as long as the session.
                let wanted = Wanted { topic: Text::from(wanted.topic.to_string()), ..wanted.clone() };
                Row { wanted, high_watermark: -1, log_start: -1 }
            })
            .collect();
        self.by_id.insert(id, FetchSession { next_epoch: 1, uses_ids, used_at: now, rows });
        Some(id)
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.by_id.len() < self.sessions_max {
            return true;
        }
        let oldest = self.by_id.iter().min_by_key(|(id, session)| (session.used_at, **id));
        match oldest.map(|(id, session)| (*id, session.used_at)) {
            Some((id, used_at)) if used_at.after_ms(EVICTION_IDLE_MS) <= now => self.by_id.remove(&id).is_some(),
            _ => false,
        }
    }
}

impl FetchSession {
    fn forget(&mut self, request: &FetchRequest) {
        for topic in &request.forgotten_topics_data {
            self.rows.retain(|row| {
                row.wanted.topic != topic.topic
                    || row.wanted.topic_id != topic.topic_id
                    || !topic.partitions.contains(&row.wanted.partition)
            });
        }
    }

    fn take_changes(&mut self, request: &FetchRequest) {
        if request.topics.is_empty() {
            return;
        }
        let mut places: BTreeMap<(Text, TopicId, i32), usize> = BTreeMap::new();
        for (place, row) in self.rows.iter().enumerate() {
            places.insert((row.wanted.topic.clone(), row.wanted.topic_id, row.wanted.partition), place);
        }
        for wanted in wanted_of(request) {
            match places.get(&(wanted.topic.clone(), wanted.topic_id, wanted.partition)) {
                Some(&place) => {
                    let row = &mut self.rows[place];
                    row.wanted = Wanted { topic: row.wanted.topic.clone(), ..wanted };
                }
                None if self.rows.len() < limits::FETCH_SESSION_PARTITIONS_MAX => {
                    let wanted = Wanted { topic: Text::from(wanted.topic.to_string()), ..wanted };
                    self.rows.push(Row { wanted, high_watermark: -1, log_start: -1 });
                }
                None => {}
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
            bytes_max: partition.partition_max_bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};

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

    fn offsets(wanted: &[Wanted]) -> Vec<(i32, i64)> {
        wanted.iter().map(|wanted| (wanted.partition, wanted.fetch_offset)).collect()
    }

    #[test]
    fn a_session_remembers_changes_and_forgets_on_request() {
        let (mut sessions, mut rng) = (FetchSessions::new(10), Rng::new(1));
        let now = Instant(0);
        let (used, wanted) = sessions.on_request(&request(0, 0, &[(0, 5), (1, 6)], &[]), false, now, &mut rng).unwrap();
        let SessionUse::New(id) = used else { panic!("{used:?}") };
        assert_eq!(offsets(&wanted), [(0, 5), (1, 6)]);
        let change = request(id, 1, &[(1, 7), (2, 0)], &[0]);
        let (used, wanted) = sessions.on_request(&change, false, now, &mut rng).unwrap();
        assert_eq!(used, SessionUse::Incremental(id));
        assert_eq!(offsets(&wanted), [(1, 7), (2, 0)]);
        sessions.rotate(id, &[true, false]);
        let (_, wanted) = sessions.on_request(&request(id, 2, &[], &[]), false, now, &mut rng).unwrap();
        assert_eq!(offsets(&wanted), [(2, 0), (1, 7)]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused_and_a_final_epoch_ends_the_session() {
        let (mut sessions, mut rng) = (FetchSessions::new(10), Rng::new(1));
        let now = Instant(0);
        let (used, _) = sessions.on_request(&request(0, 0, &[(0, 5)], &[]), false, now, &mut rng).unwrap();
        let id = used.id();
        let mut check = |request: FetchRequest, uses_ids: bool, expect: ErrorCode| {
            assert_eq!(sessions.on_request(&request, uses_ids, now, &mut rng).unwrap_err(), expect);
        };
        check(request(id ^ 1, 1, &[], &[]), false, ErrorCode::FetchSessionIdNotFound);
        check(request(id, 2, &[], &[]), false, ErrorCode::InvalidFetchSessionEpoch);
        check(request(id, 1, &[], &[]), true, ErrorCode::FetchSessionTopicIdError);
        let (used, wanted) = sessions.on_request(&request(id, -1, &[(3, 1)], &[]), false, now, &mut rng).unwrap();
        assert_eq!((used, offsets(&wanted)), (SessionUse::None, vec![(3, 1)]));
        assert!(sessions.is_empty());
    }

    #[test]
    fn only_long_idle_sessions_make_room() {
        let (mut sessions, mut rng) = (FetchSessions::new(1), Rng::new(1));
        let initial = request(0, 0, &[(0, 5)], &[]);
        let soon = Instant(0).after_ms(EVICTION_IDLE_MS - 1);
        let late = Instant(0).after_ms(EVICTION_IDLE_MS);
        assert_ne!(sessions.on_request(&initial, false, Instant(0), &mut rng).unwrap().0.id(), 0);
        assert_eq!(sessions.on_request(&initial, false, soon, &mut rng).unwrap().0, SessionUse::None);
        assert_ne!(sessions.on_request(&initial, false, late, &mut rng).unwrap().0.id(), 0);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn only_news_is_told() {
        let (mut sessions, mut rng) = (FetchSessions::new(1), Rng::new(1));
        let (used, _) = sessions.on_request(&request(0, 0, &[(0, 5)], &[]), false, Instant(0), &mut rng).unwrap();
        let id = used.id();
        assert!(sessions.is_news(id, 0, 10, 0, false));
        assert!(!sessions.is_news(id, 0, 10, 0, false));
        assert!(sessions.is_news(id, 0, 10, 0, true));
        assert!(sessions.is_news(id, 0, 11, 0, false));
    }
}
