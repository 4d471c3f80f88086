//! How a broker without a vote learns what is committed: by gossip, and where that leaves a gap, by asking.
//!
//! Gossip brings committed metadata step by step, and says who has more. What it does not bring, because it was lost or
//! is too long, is pulled from a broker that has it; and one that has heard nothing for a while, or does not know who
//! decides, asks another at random. One that joins asks where it has registered, and gets everything. One pull is under
//! way at a time, and its answer is bounded.
//!
//! A broker with a vote hears from the quorum. It takes what gossip brings as well, and asks when others have had more for
//! long: it may have no vote any more, and nobody has told it.
//!
//! *Owns*: when which broker is asked. *Never*: looks into metadata; answers for any: the quorum's log does.
//! *Runs on*: core 0.

use bytes::Bytes;

use crate::base::ids::{CoreId, NodeId};
use crate::base::time::{Instant, Now};
use crate::broker::control::{self, Control};
use crate::broker::effect::Effects;
use crate::broker::greeting::Admitted;
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::shard::{DeadlineKey, Shard};
use crate::wire::messages::meta_pull::{MetaPullRequest, MetaPullResponse};

/// How soon one that lacks something that others have, or that knows nobody who decides, asks again.
const SOON_MS: u64 = 100;
/// How often one asks that has no reason to.
const IDLE_MS: u64 = 2_000;
const PULL_VERSION: i16 = 0;

#[derive(Debug, Default)]
pub struct Following {
    /// When somebody is asked next.
    due: Option<Instant>,
    /// Somebody is asked, and has not answered.
    is_asking: bool,
}

impl Control {
    /// What a broker that has everything up to `version` lacks. Whoever has nothing is given it only once this run of it
    /// is registered: by then the controller knows whether it was a member of the quorum before.
    pub(in crate::broker) fn answer_pull(&self, asker: Admitted, version: u64) -> Option<Vec<u8>> {
        let registered = self.quorum.has_cluster()
            && self
                .quorum
                .committed()
                .broker(asker.node)
                .is_some_and(|broker| broker.incarnation == asker.incarnation.0);
        if version == 0 && !registered {
            return None;
        }
        self.quorum.committed_after(version, asker.node)
    }

    fn is_following(&self) -> bool {
        !self.quorum.has_vote() && !self.is_closing()
    }

    /// After how long somebody is asked who has not said anything. One that votes hears from the quorum, if it has not
    /// been left out.
    fn pull_wait_ms(&self) -> Option<u64> {
        match (self.quorum.has_vote(), self.quorum.knows_controller()) {
            _ if self.is_closing() => None,
            (true, true) => None,
            (false, false) => Some(SOON_MS),
            (true, false) | (false, true) => Some(IDLE_MS),
        }
    }
}

impl Shard {
    /// Sees to it that one who may lack something asks in time.
    pub(in crate::broker) fn watch_following(&mut self, now: Now) {
        let Some(control) = &self.control else { return };
        let belongs = control.quorum.has_cluster() || self.cluster.is_joining();
        if let Some(wait_ms) = control.pull_wait_ms()
            && belongs
            && self.following.due.is_none()
            && !self.following.is_asking
        {
            self.pull_at(now.mono.after_ms(wait_ms));
        }
    }

    fn pull_at(&mut self, at: Instant) {
        if let Some(before) = self.following.due.replace(at) {
            self.deadlines.clear(before, DeadlineKey::MetaPull);
        }
        self.deadlines.set(at, DeadlineKey::MetaPull);
    }

    pub(in crate::broker) fn on_pull_due(&mut self, now: Now, effects: &mut Effects) {
        self.following.due = None;
        let Some(control) = self.control.as_ref().filter(|control| control.pull_wait_ms().is_some()) else { return };
        let to = if control.quorum.has_cluster() {
            self.any_broker().map(|node| PeerTo::Node(node, CoreId(0)))
        } else {
            self.cluster.seeds.peer().map(PeerTo::Address)
        };
        match to {
            Some(to) => self.pull(to, now, effects),
            None => self.watch_following(now),
        }
    }

    /// Gossip says that `node` has metadata that this broker lacks.
    pub(in crate::broker) fn pull_from(&mut self, node: NodeId, now: Now, effects: &mut Effects) {
        self.pull(PeerTo::Node(node, CoreId(0)), now, effects);
    }

    /// One that does not answer is passed over with the next question.
    fn any_broker(&mut self) -> Option<NodeId> {
        let me = self.node();
        let mut others: Vec<NodeId> =
            self.image.brokers().filter(|broker| broker.id != me && !broker.fenced).map(|broker| broker.id).collect();
        if others.is_empty() {
            others = self.image.brokers().map(|broker| broker.id).filter(|id| *id != me).collect();
        }
        let at = self.rng.below(others.len().max(1) as u64) as usize;
        others.get(at).copied()
    }

    fn pull(&mut self, to: PeerTo, now: Now, effects: &mut Effects) {
        if self.following.is_asking {
            return;
        }
        let Some(control) = self.control.as_ref().filter(|control| !control.is_closing()) else { return };
        let version = i64::try_from(control.quorum.commit()).unwrap_or(i64::MAX);
        self.following.is_asking = true;
        let body = MetaPullRequest { version };
        self.ask_peer(to.clone(), PeerCall::MetaPull(to), PULL_VERSION, &body, now, effects);
    }

    pub(in crate::broker) fn on_pulled(
        &mut self,
        from: PeerTo,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        self.following.is_asking = false;
        let reply = answer.and_then(PeerAnswer::decode::<MetaPullResponse>);
        let taken = match reply {
            Ok(reply) if reply.error_code == 0 && !reply.answer.is_empty() => {
                self.take_answer(&from, &reply.answer, now, effects)
            }
            Ok(_) | Err(_) => None,
        };
        match taken {
            Some(true) => return self.pull(from, now, effects),
            Some(false) => {}
            None => self.pull_at(now.mono.after_ms(SOON_MS)),
        }
        self.watch_following(now);
    }

    /// Whether there is more where that came from. None: there was nothing in it.
    fn take_answer(&mut self, from: &PeerTo, answer: &[u8], now: Now, effects: &mut Effects) -> Option<bool> {
        let control = self.control.as_mut()?;
        let before = control.quorum.commit();
        let followed = control.quorum.follow(answer, &mut control.out);
        let goes_on = control.quorum.commit() > before;
        control::settle(self, now, effects);
        match followed {
            // What cannot be taken now is asked for a little later.
            Ok(has_more) => Some(has_more && goes_on),
            Err(error) => {
                tracing::warn!("{from} answers with {error}");
                None
            }
        }
    }

    /// Somebody has what is too long for gossip. The quorum brings it to those who vote.
    pub(in crate::broker) fn on_ahead_told(&mut self, node: NodeId, now: Now, effects: &mut Effects) {
        if self.control.as_ref().is_some_and(Control::is_following) {
            self.pull_from(node, now, effects);
        }
    }

    /// Gossip brings what comes next. Who votes, or thinks so, takes it as well: the quorum may have forgotten it.
    pub(in crate::broker) fn on_step_told(&mut self, step: &Bytes, now: Now, effects: &mut Effects) {
        let Some(control) = self.control.as_mut().filter(|control| !control.is_closing()) else { return };
        if let Err(error) = control.quorum.follow_step(step, &mut control.out) {
            tracing::warn!("gossip tells {error}");
        }
        // Whoever is told has no reason to ask.
        if control.quorum.knows_controller() && self.following.due.is_some() {
            self.pull_at(now.mono.after_ms(IDLE_MS));
        }
        control::settle(self, now, effects);
    }
}
