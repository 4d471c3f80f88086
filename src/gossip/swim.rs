//! Membership: the engine (`foca`), its timers, and what it thinks of each member.
//!
//! *Owns*: the engine. No other file of the crate but the codec knows it. *Never*: seals or sends. *Runs on*: core 0.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member as Update, NoCustomBroadcast, PeriodicParams, State, Timer,
};
use rand_core::{Infallible, TryRng};

use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::base::limits::GOSSIP_MEMBERS_MAX;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::gossip::codec::{self, MemberCodec};
use crate::gossip::frame::{Refusal, SECTION_BYTES_MAX};
use crate::gossip::member::{Member, Standing};

/// How often one member is asked whether it lives. It is suspected at the end of that time.
const PROBE_MS: u64 = 500;
/// After this time without an answer others are asked to ask.
const PROBE_ANSWER_MS: u64 = 200;
const HELPERS: usize = 3;
/// How often news of members is told to some.
const NEWS_MS: u64 = 200;
/// How often another member is asked whom it knows.
const ANNOUNCE_MS: u64 = 10_000;
/// A suspected member may object for so many probes, times the decimal digits of the number of members.
const OBJECTION_PROBES: u64 = 4;

impl Identity for Member {
    type Addr = NodeId;

    /// Those who were declared gone come back as a run of their own: nobody can take back that the old one is gone.
    fn renew(&self) -> Option<Member> {
        Some(Member { generation: self.generation.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Member) -> bool {
        self.generation > adversary.generation
    }
}

/// The seeded generator in the engine's words.
struct SwimRng(Rng);

impl TryRng for SwimRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// What the engine wants sent, and whom it thinks differently of.
#[derive(Default, Debug)]
pub(super) struct SwimOut {
    pub messages: Vec<(Member, Bytes)>,
    pub changes: Vec<(NodeId, Standing)>,
}

pub(super) struct Swim {
    engine: Foca<Member, MemberCodec, SwimRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Member>,
    timers: BTreeMap<(Instant, u64), Timer<Member>>,
    timers_set: u64,
    /// As they were last told.
    known: BTreeMap<NodeId, (u64, Standing)>,
    /// The number of members that the engine's numbers are made for.
    sized_for: usize,
}

impl fmt::Debug for Swim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Swim({:?}, {} known)", self.me(), self.known.len())
    }
}

impl Swim {
    pub fn new(me: Member, rng: Rng) -> Swim {
        Swim {
            engine: Foca::new(me, config(1), SwimRng(rng), MemberCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            known: BTreeMap::new(),
            sized_for: 1,
        }
    }

    /// The present run of this broker.
    pub fn me(&self) -> &Member {
        self.engine.identity()
    }

    /// How many others live, as far as is known.
    pub fn active(&self) -> usize {
        self.engine.num_members()
    }

    /// Those who live or are suspected.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.engine.iter_members().map(Update::id)
    }

    pub fn standings(&self) -> impl Iterator<Item = (NodeId, Standing)> + '_ {
        self.known.iter().map(|(node, (_, standing))| (*node, *standing))
    }

    pub fn standing(&self, node: NodeId) -> Option<Standing> {
        self.known.get(&node).map(|(_, standing)| *standing)
    }

    /// Some of those who live, each at most once.
    pub fn pick(&self, count: usize, rng: &mut Rng) -> Vec<Member> {
        let mut left = self.active();
        let mut wanted = count.min(left);
        let mut picked = Vec::with_capacity(wanted);
        for member in self.members() {
            if wanted == 0 {
                break;
            }
            if rng.below(left as u64) < wanted as u64 {
                picked.push(member.clone());
                wanted -= 1;
            }
            left -= 1;
        }
        picked
    }

    /// Somebody else said so, or it said so itself: it counts as living until it is found not to.
    pub fn introduce(&mut self, members: impl IntoIterator<Item = Member>, now: Instant, out: &mut SwimOut) {
        let me = self.me().node;
        let mut room = GOSSIP_MEMBERS_MAX.saturating_sub(self.known.len());
        let members: Vec<Update<Member>> = members
            .into_iter()
            .filter(|member| member.node != me)
            .filter(|member| {
                let fits = self.known.contains_key(&member.node) || room > 0;
                room = room.saturating_sub(usize::from(!self.known.contains_key(&member.node)));
                fits
            })
            .map(Update::alive)
            .collect();
        let result = self.engine.apply_many(members.into_iter(), false, &mut self.runtime);
        self.settle(result.is_ok(), now, out);
    }

    /// Asks a member whom it knows.
    pub fn announce(&mut self, to: Member, now: Instant, out: &mut SwimOut) {
        let result = self.engine.announce(to, &mut self.runtime);
        self.settle(result.is_ok(), now, out);
    }

    /// Goes on as a run of this generation: others know of one that is as late as ours.
    pub fn rejoin(&mut self, generation: u64, now: Instant, out: &mut SwimOut) {
        let me = Member { generation, ..self.me().clone() };
        let result = self.engine.change_identity(me, &mut self.runtime);
        self.settle(result.is_ok(), now, out);
    }

    /// Tells some that this run ends.
    pub fn leave(&mut self, now: Instant, out: &mut SwimOut) {
        let result = self.engine.leave_cluster(&mut self.runtime);
        self.settle(result.is_ok(), now, out);
    }

    /// A message of `from`'s engine.
    pub fn on_message(&mut self, from: NodeId, bytes: &[u8], now: Instant, out: &mut SwimOut) -> Result<(), Refusal> {
        let tells_news = self.look(from, bytes)?;
        match self.engine.handle_data(bytes, &mut self.runtime) {
            Ok(()) => {
                self.settle(tells_news, now, out);
                Ok(())
            }
            Err(error) => {
                self.settle(true, now, out);
                tracing::debug!(node = from.0, "a message of membership: {error}");
                Err(Refusal::Nonsense)
            }
        }
    }

    pub fn on_timeout(&mut self, now: Instant, out: &mut SwimOut) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let timer = entry.remove();
            if let Err(error) = self.engine.handle_timer(timer, &mut self.runtime) {
                tracing::debug!("a deadline of membership: {error}");
            }
            self.settle(true, now, out);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Reads a message before the engine does: whether it may change what is thought of somebody, and whether it
    /// makes us know too many.
    fn look(&self, from: NodeId, bytes: &[u8]) -> Result<bool, Refusal> {
        let mut fields = Fields(bytes);
        let header = codec::read_header(&mut fields).ok_or(Refusal::Nonsense)?;
        if header.src.node != from {
            return Err(Refusal::Nonsense);
        }
        let mut new = usize::from(!self.known.contains_key(&from));
        let mut tells_news = self.known.get(&from) != Some(&(header.src.generation, Standing::Alive));
        // The count is the engine's own, and in its order of bytes.
        if let Some(count) = fields.take().map(u16::from_be_bytes) {
            for _ in 0..count {
                let update = codec::read_member(&mut fields).ok_or(Refusal::Nonsense)?;
                new += usize::from(!self.known.contains_key(&update.id().node));
            }
            tells_news |= count > 0;
        }
        if new > 0 && self.known.len() + new > GOSSIP_MEMBERS_MAX {
            return Err(Refusal::TooManyMembers);
        }
        Ok(tells_news)
    }

    /// Takes what the engine has left: messages, timers, and, if there may be any, changes.
    fn settle(&mut self, may_have_news: bool, now: Instant, out: &mut SwimOut) {
        while self.runtime.to_notify().is_some() {}
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let at = Instant(now.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)));
            self.timers_set += 1;
            self.timers.insert((at, self.timers_set), timer);
        }
        while let Some(message) = self.runtime.to_send() {
            out.messages.push(message);
        }
        if may_have_news {
            self.tell_changes(now, out);
        }
    }

    fn tell_changes(&mut self, now: Instant, out: &mut SwimOut) {
        let known_before = self.known.len();
        for update in self.engine.iter_membership_state() {
            let member = update.id();
            let standing = match update.state() {
                State::Alive => Standing::Alive,
                State::Suspect => Standing::Suspected,
                State::Down => Standing::Gone,
            };
            let before = self.known.insert(member.node, (member.generation, standing));
            if before != Some((member.generation, standing)) {
                out.changes.push((member.node, standing));
            }
        }
        self.fit(self.active() + 1);
        let first = self.members().next().filter(|_| known_before == 0).cloned();
        if let Some(first) = first {
            self.announce(first, now, out);
        }
    }

    /// News is told more often, and objections are waited for longer, where there are more members.
    fn fit(&mut self, members: usize) {
        if members.ilog2() != self.sized_for.ilog2() {
            self.sized_for = members;
            self.engine.set_config(config(members)).expect("these two numbers may change at any time");
        }
    }
}

/// How often a piece of news is told by each who has it, so that hardly anybody is left out: the share that never hears
/// of it falls with e to the power of this.
pub(super) fn tellings(members: usize) -> u8 {
    3 + (members + 1).ilog2() as u8
}

fn config(members: usize) -> Config {
    let ms = Duration::from_millis;
    let some = |count| NonZeroUsize::new(count).expect("more than none");
    let often = |period, count| Some(PeriodicParams { frequency: ms(period), num_members: some(count) });
    // A decimal digit is three and a third binary ones.
    let digits = u64::from(members.ilog2() * 3 / 10).max(1);
    Config {
        probe_period: ms(PROBE_MS),
        probe_rtt: ms(PROBE_ANSWER_MS),
        num_indirect_probes: some(HELPERS),
        max_transmissions: NonZeroU8::new(tellings(members)).expect("three at least"),
        suspect_to_down_after: ms(PROBE_MS * OBJECTION_PROBES * digits),
        // There is one entry for each broker id, so nothing grows.
        remove_down_after: None,
        max_packet_size: some(SECTION_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: often(ANNOUNCE_MS, 1),
        periodic_announce_to_down_members: often(ANNOUNCE_MS, 2),
        periodic_gossip: often(NEWS_MS, HELPERS),
    }
}
