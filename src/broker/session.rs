//! Sessions: one per connection, holding the order of replies and the memory that requests and replies take.
//!
//! Requests of one connection run concurrently; their replies leave in request order. A session is therefore a row
//! of reply slots: a request takes the last one, its reply fills it, and filled slots leave from the front.
//!
//! Replies have a budget of their own, as large as that of requests, and count from when they are made until a socket
//! has taken them. What a client does not read stays; so that it is never all that there is, a fetch takes only a part
//! of what is left, a connection with unread replies is not read while the budget is used up, and when fetches still
//! find nothing the connections that have not moved are ended.
//!
//! *Owns*: reply slots, the core's request-memory budget, who waits to be read again. *Never*: knows what a request
//! asks. *Runs on*: every core, for the connections it accepted.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;

use crate::base::ids::ConnId;
use crate::base::limits;
use crate::base::slab::Key;
use crate::base::stage::{Timed, Trace};
use crate::base::stage_counts::{Snapshot, StageCounts};
use crate::base::time::Instant;
use crate::broker::effect::{Admission, Effect, Effects, ListenerKind};
use crate::broker::greeting::{Admitted, Guest};
use crate::broker::sending::Sending;
use crate::wire::text::Text;

/// Kafka's words for software that does not say what it is.
const UNKNOWN_SOFTWARE: &str = "unknown";

/// Where a reply goes: the connection and the number of the request on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    pub conn: ConnId,
    pub request: u64,
}

/// All sessions of one core.
#[derive(Debug)]
pub struct Sessions {
    by_conn: BTreeMap<ConnId, Session>,
    /// Connections that wait for memory, longest first. May hold closed ones.
    waiting: VecDeque<ConnId>,
    request_bytes: usize,
    request_bytes_max: usize,
    frame_bytes_max: usize,
    /// Reply bytes that no socket has taken yet.
    output_bytes: usize,
    /// Reply bytes that reads under way may still bring.
    reserved_bytes: usize,
    /// When connections that have taken nothing since they were marked are ended. `None`: none is marked.
    sweep_at: Option<Instant>,
    stopping: bool,
    /// Of the requests whose replies sockets have taken.
    stages: StageCounts,
}

#[derive(Debug)]
struct Session {
    listener: ListenerKind,
    /// The client's address and port.
    peer: (String, u16),
    /// Name and version of the client's software, if it has said them.
    software: Option<Box<(String, String)>>,
    /// Number of the request in the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Reserved by `admit` for a frame that has not come yet.
    promised_bytes: usize,
    /// Reply bytes that its socket has not taken, those included that wait for an earlier reply.
    output_bytes: usize,
    /// Had output at the last sweep, and its socket has taken nothing since.
    marked: bool,
    waits_for: Option<WaitsFor>,
    /// Its client has used more than its quotas: not read before this.
    muted_until: Option<Instant>,
    /// Its address makes more connections than it may: ended instead of being read again.
    is_refused: bool,
    /// As of the last request while there were quotas.
    client_id: Text,
    closing: bool,
    sending: Sending,
    /// On the listener for brokers: which one it is.
    guest: Guest,
}

/// Why a connection is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WaitsFor {
    /// Its own replies to leave.
    Itself,
    /// The core's request memory.
    Memory,
    /// What its client has used beyond its quotas to be paid back.
    Quota,
}

#[derive(Debug)]
struct Slot {
    frame_bytes: usize,
    job: Option<Key>,
    reply: Option<Reply>,
    /// Set with the reply.
    timed: Option<(Timed, Trace)>,
}

/// What a request ends with.
#[derive(Debug)]
pub enum Reply {
    Frame(Vec<Bytes>),
    /// Produce with acks=0: the client expects nothing.
    Nothing,
    /// The request cannot be answered in any form the client would understand.
    CloseConnection,
}

impl Sessions {
    /// `request_bytes_max` bounds the frames being read or worked on; one frame larger than all of it is still
    /// let in when nothing else is, so that a budget smaller than a frame delays and does not deadlock.
    pub fn new(request_bytes_max: usize, frame_bytes_max: usize) -> Sessions {
        assert!(request_bytes_max > 0);
        assert!(frame_bytes_max > 0);
        Sessions {
            by_conn: BTreeMap::new(),
            waiting: VecDeque::new(),
            request_bytes: 0,
            request_bytes_max,
            frame_bytes_max,
            output_bytes: 0,
            reserved_bytes: 0,
            sweep_at: None,
            stopping: false,
            stages: StageCounts::default(),
        }
    }

    pub fn on_opened(&mut self, conn: ConnId, listener: ListenerKind, peer: (String, u16)) {
        let session = Session {
            listener,
            peer,
            software: None,
            first: 0,
            slots: VecDeque::new(),
            promised_bytes: 0,
            output_bytes: 0,
            marked: false,
            waits_for: None,
            muted_until: None,
            is_refused: false,
            client_id: Text::default(),
            closing: false,
            sending: Sending::default(),
            guest: Guest::default(),
        };
        let before = self.by_conn.insert(conn, session);
        assert!(before.is_none(), "{conn} is opened once");
    }

    /// Forgets the connection and returns the jobs that were under way for it.
    pub fn on_closed(&mut self, conn: ConnId, effects: &mut Effects) -> Vec<Key> {
        let Some(session) = self.by_conn.remove(&conn) else { return Vec::new() };
        let held: usize = session.slots.iter().map(|slot| slot.frame_bytes).sum();
        self.request_bytes -= held + session.promised_bytes;
        self.output_bytes -= session.output_bytes;
        self.resume_waiting(effects);
        session.slots.into_iter().filter(|slot| slot.reply.is_none()).filter_map(|slot| slot.job).collect()
    }

    pub fn admit(&mut self, conn: ConnId, frame_bytes: usize) -> Admission {
        if frame_bytes > self.frame_bytes_max {
            return Admission::Refuse;
        }
        let fits = self.request_bytes == 0 || self.request_bytes + frame_bytes <= self.request_bytes_max;
        let output_is_full = self.output_bytes >= self.request_bytes_max;
        let Some(session) = self.by_conn.get_mut(&conn) else { return Admission::Refuse };
        if session.is_unknown_broker() && frame_bytes > limits::PEER_GREETING_BYTES_MAX {
            return Admission::Refuse;
        }
        assert!(session.promised_bytes == 0, "one frame of a connection is read at a time");
        if session.muted_until.is_some() {
            session.waits_for = Some(WaitsFor::Quota);
            return Admission::Wait;
        }
        // Whoever has taken all its replies may ask for the next: so clients that read get on beside those that don't.
        if session.is_full() || (output_is_full && session.output_bytes > 0) {
            session.waits_for = Some(WaitsFor::Itself);
            return Admission::Wait;
        }
        // Other brokers go on: what clients wait for may wait for them.
        if (self.stopping && session.listener != ListenerKind::Peer) || !fits {
            session.waits_for = Some(WaitsFor::Memory);
            self.waiting.push_back(conn);
            return Admission::Wait;
        }
        session.promised_bytes = frame_bytes;
        self.request_bytes += frame_bytes;
        Admission::Read
    }

    /// Takes the next reply slot for a frame that was admitted. None when the connection is gone or closing.
    pub fn on_frame(&mut self, conn: ConnId, frame_bytes: usize) -> Option<(ReplyTo, ListenerKind)> {
        let session = self.by_conn.get_mut(&conn)?;
        assert!(session.promised_bytes == frame_bytes, "the frame that comes is the one admitted");
        session.promised_bytes = 0;
        if session.closing {
            self.request_bytes -= frame_bytes;
            return None;
        }
        let request = session.first + session.slots.len() as u64;
        session.slots.push_back(Slot { frame_bytes, job: None, reply: None, timed: None });
        Some((ReplyTo { conn, request }, session.listener))
    }

    /// The client's address; empty when it is gone.
    pub fn host(&self, conn: ConnId) -> &str {
        self.by_conn.get(&conn).map_or("", |session| &session.peer.0)
    }

    /// The client's port; 0 when it is gone.
    pub fn port(&self, conn: ConnId) -> u16 {
        self.by_conn.get(&conn).map_or(0, |session| session.peer.1)
    }

    /// Name and version of the client's software, as far as it has said them (KIP-511).
    pub fn software(&self, conn: ConnId) -> (&str, &str) {
        let software = self.by_conn.get(&conn).and_then(|session| session.software.as_deref());
        software.map_or((UNKNOWN_SOFTWARE, UNKNOWN_SOFTWARE), |(name, version)| (name, version))
    }

    /// Remembers what the client says its software is, if both are names as Kafka takes them.
    pub fn set_software(&mut self, conn: ConnId, name: &str, version: &str) {
        if is_software(name)
            && is_software(version)
            && let Some(session) = self.by_conn.get_mut(&conn)
        {
            session.software = Some(Box::new((name.to_owned(), version.to_owned())));
        }
    }

    /// Notes which job works on a request, so that it can be dropped when the connection closes.
    pub fn set_job(&mut self, to: ReplyTo, job: Key) {
        if let Some(slot) = self.slot_mut(to) {
            slot.job = Some(job);
        }
    }

    /// The job that a request waits for, or has waited for.
    pub fn job(&mut self, to: ReplyTo) -> Option<Key> {
        self.slot_mut(to)?.job
    }

    /// Fills a reply slot and sends whatever is now complete from the front.
    pub fn fill(&mut self, to: ReplyTo, reply: Reply, timed: Option<(Timed, Trace)>, effects: &mut Effects) {
        let Some(slot) = self.slot_mut(to) else { return };
        assert!(slot.reply.is_none(), "a request is answered once");
        let bytes = reply.bytes();
        slot.reply = Some(reply);
        slot.timed = timed;
        let Some(session) = self.by_conn.get_mut(&to.conn) else { return };
        session.output_bytes += bytes;
        self.output_bytes += bytes;
        let mut freed = 0;
        while session.slots.front().is_some_and(|slot| slot.reply.is_some()) {
            let Some(Slot { frame_bytes, reply: Some(reply), timed, .. }) = session.slots.pop_front() else { break };
            session.first += 1;
            freed += frame_bytes;
            let bytes = reply.bytes();
            match reply {
                Reply::Frame(data) if !session.closing => {
                    session.sending.push(bytes, timed);
                    effects.push(Effect::Send { conn: to.conn, data });
                }
                Reply::Frame(_) => {
                    session.output_bytes -= bytes;
                    self.output_bytes -= bytes;
                }
                Reply::Nothing => {
                    if let Some((timed, trace)) = timed {
                        self.stages.record(timed, &trace);
                    }
                }
                Reply::CloseConnection => {
                    session.closing = true;
                    effects.push(Effect::Close { conn: to.conn });
                }
            }
        }
        session.resume_itself(to.conn, effects);
        if freed > 0 {
            self.request_bytes -= freed;
            self.resume_waiting(effects);
        }
    }

    pub fn on_drained(&mut self, conn: ConnId, bytes: usize, began: Instant, now: Instant, effects: &mut Effects) {
        let Some(session) = self.by_conn.get_mut(&conn) else { return };
        assert!(session.output_bytes >= bytes, "a socket takes no more than was sent");
        session.output_bytes -= bytes;
        session.marked = false;
        self.output_bytes -= bytes;
        session.sending.on_taken(bytes, began, now, &mut self.stages);
        session.resume_itself(conn, effects);
    }

    pub fn stages(&self) -> Snapshot {
        self.stages.snapshot()
    }

    /// There is no room for a reply: ends the connections that have left theirs unread for `UNREAD_REPLIES_MS` of
    /// such need. A client that lives connects again, and asks again.
    pub fn on_starved(&mut self, now: Instant, effects: &mut Effects) {
        if self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = Some(now.after_ms(limits::UNREAD_REPLIES_MS));
        for (conn, session) in &mut self.by_conn {
            if session.marked && session.output_bytes > 0 {
                tracing::warn!(
                    conn = conn.0,
                    "ending a connection: its client leaves {} bytes unread, and others wait for the memory",
                    session.output_bytes
                );
                effects.push(Effect::Abort { conn: *conn });
            }
            session.marked = session.output_bytes > 0;
        }
    }

    /// The other broker, if it is one that was let in.
    pub fn admitted(&self, conn: ConnId) -> Option<Admitted> {
        match self.by_conn.get(&conn)?.guest {
            Guest::Admitted(admitted) => Some(admitted),
            Guest::Unknown | Guest::Asked { .. } => None,
        }
    }

    /// Whoever is greeted; unknown until [`Sessions::set_guest`].
    pub fn take_guest(&mut self, conn: ConnId) -> Guest {
        self.by_conn.get_mut(&conn).map_or(Guest::Unknown, |session| mem::take(&mut session.guest))
    }

    pub fn set_guest(&mut self, conn: ConnId, guest: Guest) {
        if let Some(session) = self.by_conn.get_mut(&conn) {
            session.guest = guest;
        }
    }

    /// Who the client says it is; empty when it does not, or there were no quotas.
    pub fn client_id(&self, conn: ConnId) -> &str {
        self.by_conn.get(&conn).map_or("", |session| session.client_id.as_str())
    }

    pub fn set_client_id(&mut self, conn: ConnId, client_id: Option<&Text>) {
        let Some(session) = self.by_conn.get_mut(&conn) else { return };
        let client_id = client_id.map_or("", Text::as_str);
        if session.client_id.as_str() != client_id {
            session.client_id = client_id.into();
        }
    }

    /// The connection is not read until then. `None` if that is so already, or it is gone; otherwise until when it was
    /// so, if it was, and until when it is now.
    pub fn mute(&mut self, conn: ConnId, until: Instant) -> Option<(Option<Instant>, Instant)> {
        let session = self.by_conn.get_mut(&conn)?;
        let before = session.muted_until;
        if before.is_some_and(|before| before >= until) {
            return None;
        }
        session.muted_until = Some(until);
        Some((before, until))
    }

    /// The connection is ended when it would be read again.
    pub fn refuse(&mut self, conn: ConnId) {
        if let Some(session) = self.by_conn.get_mut(&conn) {
            session.is_refused = true;
        }
    }

    pub fn unmute(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(session) = self.by_conn.get_mut(&conn) else { return };
        session.muted_until = None;
        if session.is_refused {
            effects.push(Effect::Abort { conn });
        } else if session.waits_for == Some(WaitsFor::Quota) {
            session.waits_for = None;
            effects.push(Effect::Resume { conn });
        }
    }

    /// Unmutes every connection; which, and until when they would have been.
    pub fn unmute_all(&mut self, effects: &mut Effects) -> Vec<(ConnId, Instant)> {
        let muted = self.by_conn.iter().filter_map(|(conn, session)| Some((*conn, session.muted_until?)));
        let muted: Vec<(ConnId, Instant)> = muted.collect();
        for (conn, _) in &muted {
            self.unmute(*conn, effects);
        }
        muted
    }

    /// How long a connection is not read yet.
    pub fn muted_ms(&self, conn: ConnId, now: Instant) -> u64 {
        let until = self.by_conn.get(&conn).and_then(|session| session.muted_until);
        until.map_or(0, |until| until.since_ns(now).div_ceil(1_000_000))
    }

    /// Connections that are not read because of quotas.
    pub fn muted(&self) -> usize {
        self.by_conn.values().filter(|session| session.muted_until.is_some()).count()
    }

    /// From here on nothing new is read of clients.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// No client's request is without a reply yet.
    pub fn is_idle(&self) -> bool {
        let mut clients = self.by_conn.values().filter(|session| session.listener != ListenerKind::Peer);
        clients.all(|session| session.slots.is_empty())
    }

    /// Reply bytes that may still be taken on before the core's share is used up.
    pub fn output_room(&self) -> usize {
        self.request_bytes_max.saturating_sub(self.output_bytes + self.reserved_bytes)
    }

    pub fn reserve_output(&mut self, bytes: usize) {
        self.reserved_bytes += bytes;
    }

    pub fn release_output(&mut self, bytes: usize) {
        assert!(self.reserved_bytes >= bytes, "what is released was reserved");
        self.reserved_bytes -= bytes;
    }

    /// Reply bytes that no socket has taken.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    pub fn connections(&self) -> usize {
        self.by_conn.len()
    }

    fn slot_mut(&mut self, to: ReplyTo) -> Option<&mut Slot> {
        let session = self.by_conn.get_mut(&to.conn)?;
        let index = to.request.checked_sub(session.first)?;
        session.slots.get_mut(usize::try_from(index).ok()?)
    }

    /// Lets connections that wait for memory be read again, longest waiting first, while there is any. They ask
    /// again, and the one whose frame does not fit goes to the end of the row.
    fn resume_waiting(&mut self, effects: &mut Effects) {
        if self.request_bytes >= self.request_bytes_max {
            return;
        }
        while let Some(conn) = self.waiting.pop_front() {
            let Some(session) = self.by_conn.get_mut(&conn) else { continue };
            if self.stopping && session.listener != ListenerKind::Peer {
                continue;
            }
            session.waits_for = None;
            effects.push(Effect::Resume { conn });
        }
    }
}

impl Reply {
    fn bytes(&self) -> usize {
        match self {
            Reply::Frame(data) => data.iter().map(Bytes::len).sum(),
            Reply::Nothing | Reply::CloseConnection => 0,
        }
    }
}

impl Session {
    fn resume_itself(&mut self, conn: ConnId, effects: &mut Effects) {
        if self.waits_for == Some(WaitsFor::Itself) && !self.is_full() {
            self.waits_for = None;
            effects.push(Effect::Resume { conn });
        }
    }

    fn is_unknown_broker(&self) -> bool {
        self.listener == ListenerKind::Peer && !matches!(self.guest, Guest::Admitted(_))
    }

    fn is_full(&self) -> bool {
        self.slots.len() + self.sending.waiting() >= limits::REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX
            || self.output_bytes >= limits::OUTPUT_PER_CONNECTION_BYTES_MAX
    }
}

/// Letters, digits, dots and hyphens, these not at the ends (`ApiVersionsRequest.SOFTWARE_NAME_VERSION_PATTERN`).
fn is_software(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= limits::SOFTWARE_BYTES_MAX
        && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slab::Slab;

    const CONN: ConnId = ConnId(1);

    fn sessions(request_bytes_max: usize) -> Sessions {
        let mut sessions = Sessions::new(request_bytes_max, 1000);
        sessions.on_opened(CONN, ListenerKind::Shared, (String::new(), 0));
        sessions
    }

    fn request(sessions: &mut Sessions, bytes: usize) -> ReplyTo {
        assert_eq!(sessions.admit(CONN, bytes), Admission::Read);
        sessions.on_frame(CONN, bytes).unwrap().0
    }

    fn sent(effects: &mut Effects) -> Vec<String> {
        effects
            .drain()
            .map(|effect| match effect {
                Effect::Send { data, .. } => String::from_utf8(data.concat()).unwrap(),
                Effect::Close { .. } => "close".into(),
                Effect::Resume { conn } => format!("resume {conn}"),
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    fn frame(text: &'static str) -> Reply {
        Reply::Frame(vec![Bytes::from_static(text.as_bytes())])
    }

    #[test]
    fn replies_leave_in_request_order() {
        let mut sessions = sessions(1000);
        let mut effects = Effects::default();
        let (a, b, c) = (request(&mut sessions, 1), request(&mut sessions, 1), request(&mut sessions, 1));
        sessions.fill(c, frame("c"), None, &mut effects);
        sessions.fill(b, Reply::Nothing, None, &mut effects);
        assert!(effects.is_empty());
        sessions.fill(a, frame("a"), None, &mut effects);
        assert_eq!(sent(&mut effects), ["a", "c"]);
        assert_eq!(sessions.request_bytes(), 0);
        assert!(sessions.is_idle());
    }

    #[test]
    fn nothing_is_sent_after_a_close() {
        let mut sessions = sessions(1000);
        let mut effects = Effects::default();
        let (a, b) = (request(&mut sessions, 1), request(&mut sessions, 1));
        sessions.fill(b, frame("b"), None, &mut effects);
        sessions.fill(a, Reply::CloseConnection, None, &mut effects);
        assert_eq!(sent(&mut effects), ["close"]);
        assert_eq!(sessions.on_closed(CONN, &mut effects), []);
    }

    #[test]
    fn memory_is_reserved_before_the_body_and_given_back_with_the_reply() {
        let mut sessions = sessions(100);
        let mut effects = Effects::default();
        let a = request(&mut sessions, 80);
        assert_eq!(sessions.admit(CONN, 30), Admission::Wait);
        assert_eq!(sessions.admit(CONN, 1001), Admission::Refuse);
        sessions.fill(a, Reply::Nothing, None, &mut effects);
        assert_eq!(sent(&mut effects), ["resume 1"]);
        let big = request(&mut sessions, 500);
        assert_eq!(sessions.admit(CONN, 1), Admission::Wait);
        sessions.fill(big, Reply::Nothing, None, &mut effects);
        assert_eq!(sent(&mut effects), ["resume 1"]);
    }

    #[test]
    fn a_closed_connection_gives_everything_back_and_names_its_jobs() {
        let mut sessions = sessions(100);
        let mut effects = Effects::default();
        let a = request(&mut sessions, 10);
        let mut slab = Slab::default();
        let job = slab.insert(());
        sessions.set_job(a, job);
        assert_eq!(sessions.admit(CONN, 20), Admission::Read);
        assert_eq!(sessions.on_closed(CONN, &mut effects), [job]);
        assert_eq!(sessions.request_bytes(), 0);
        sessions.fill(a, frame("late"), None, &mut effects);
        assert!(effects.is_empty());
    }

    #[test]
    fn replies_that_wait_for_an_earlier_one_count_as_output() {
        let mut sessions = sessions(100);
        let mut effects = Effects::default();
        let (a, b) = (request(&mut sessions, 1), request(&mut sessions, 1));
        sessions.fill(b, frame("held back"), None, &mut effects);
        assert_eq!(sessions.output_room(), 100 - 9);
        sessions.fill(a, frame("a"), None, &mut effects);
        assert_eq!(sent(&mut effects), ["a", "held back"]);
        assert_eq!(sessions.output_room(), 100 - 10);
        sessions.on_drained(CONN, 4, Instant(0), Instant(0), &mut effects);
        let (c, d) = (request(&mut sessions, 1), request(&mut sessions, 1));
        sessions.fill(d, frame("never sent"), None, &mut effects);
        sessions.fill(c, Reply::CloseConnection, None, &mut effects);
        assert_eq!(sessions.output_room(), 100 - 6);
        sessions.on_closed(CONN, &mut effects);
        assert_eq!(sessions.output_room(), 100);
    }

    #[test]
    fn when_output_is_full_only_those_who_have_read_theirs_are_read() {
        const OTHER: ConnId = ConnId(2);
        let mut sessions = sessions(10);
        sessions.on_opened(OTHER, ListenerKind::Shared, (String::new(), 0));
        let mut effects = Effects::default();
        let a = request(&mut sessions, 1);
        sessions.fill(a, frame("ten bytes."), None, &mut effects);
        assert_eq!(sent(&mut effects), ["ten bytes."]);
        assert_eq!(sessions.admit(CONN, 1), Admission::Wait);
        assert_eq!(sessions.admit(OTHER, 1), Admission::Read);
        sessions.on_drained(CONN, 10, Instant(0), Instant(0), &mut effects);
        assert_eq!(sent(&mut effects), ["resume 1"]);
        assert_eq!(sessions.admit(CONN, 1), Admission::Read);
    }

    #[test]
    fn those_who_leave_replies_unread_are_ended_when_others_need_the_memory() {
        let mut effects = Effects::default();
        let mut sessions = sessions(100);
        let conns = [ConnId(1), ConnId(2), ConnId(3)];
        for conn in &conns[1..] {
            sessions.on_opened(*conn, ListenerKind::Shared, (String::new(), 0));
        }
        for conn in &conns[..2] {
            assert_eq!(sessions.admit(*conn, 1), Admission::Read);
            let (to, _) = sessions.on_frame(*conn, 1).unwrap();
            sessions.fill(to, frame("unread"), None, &mut effects);
        }
        effects.drain();
        let at = |ms| Instant(0).after_ms(ms);
        sessions.on_starved(at(0), &mut effects);
        sessions.on_starved(at(limits::UNREAD_REPLIES_MS - 1), &mut effects);
        sessions.on_drained(conns[1], 1, Instant(0), Instant(0), &mut effects);
        assert!(effects.is_empty());
        sessions.on_starved(at(limits::UNREAD_REPLIES_MS), &mut effects);
        let ended: Vec<Effect> = effects.drain().collect();
        assert!(matches!(ended[..], [Effect::Abort { conn: ConnId(1) }]), "{ended:?}");
        sessions.on_closed(conns[0], &mut effects);
        sessions.on_starved(at(2 * limits::UNREAD_REPLIES_MS), &mut effects);
        let ended: Vec<Effect> = effects.drain().collect();
        assert!(matches!(ended[..], [Effect::Abort { conn: ConnId(2) }]), "{ended:?}");
    }

    #[test]
    fn a_connection_with_much_unread_output_is_not_read() {
        let mut sessions = sessions(100 << 20);
        let mut effects = Effects::default();
        let a = request(&mut sessions, 10);
        let big = Bytes::from(vec![0; limits::OUTPUT_PER_CONNECTION_BYTES_MAX]);
        sessions.fill(a, Reply::Frame(vec![big]), None, &mut effects);
        effects.drain();
        assert_eq!(sessions.admit(CONN, 10), Admission::Wait);
        sessions.on_drained(CONN, 1, Instant(0), Instant(0), &mut effects);
        assert_eq!(sent(&mut effects), ["resume 1"]);
        assert_eq!(sessions.admit(CONN, 10), Admission::Read);
    }
}
