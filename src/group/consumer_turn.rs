//! A consumer group at its coordinator: requests and deadlines come in, records and answers go out.
//!
//! *Owns*: the way between the two forms. *Never*: decides what a request does. *Runs on*: the core of the coordinator.

use crate::base::ids::{GroupEpoch, TopicId};
use crate::group::ask::{Answer, Caller, Ticket, heartbeat, join_refused, sync_refused};
use crate::group::classic_rebalance::new_member_id;
use crate::group::consumer::{ConsumerGroup, View};
use crate::group::consumer_record::ConsumerRecord;
use crate::group::coordinator::{Alarm, GroupOut, Turn};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::messages::heartbeat::HeartbeatRequest;
use crate::wire::messages::join_group::JoinGroupRequest;
use crate::wire::messages::leave_group::LeaveGroupRequest;
use crate::wire::messages::offset_commit::OffsetCommitRequest;
use crate::wire::messages::offset_fetch::OffsetFetchRequestGroup;
use crate::wire::messages::sync_group::SyncGroupRequest;

impl<'a> Turn<'a> {
    /// What a consumer group is given.
    pub(super) fn view(&self) -> View<'a> {
        let own = self.topics.settings_of(self.name, self.settings);
        View { settings: self.settings, own, topics: self.topics, now: self.now }
    }
}

impl ConsumerGroup {
    /// A member joins, stays or leaves. The request was checked by [`super::consumer_heartbeat::check`].
    pub fn on_heartbeat(
        &mut self,
        to: Ticket,
        ask: &ConsumerGroupHeartbeatRequest,
        caller: &Caller,
        turn: &mut Turn<'_>,
    ) {
        let made = ask.member_id.is_empty().then(|| TopicId::random(turn.rng).to_string());
        let member_id = made.as_deref().unwrap_or(&ask.member_id);
        let answer = self.decide(turn, |group, view, records| {
            if GroupEpoch(ask.member_epoch) < GroupEpoch::JOIN {
                group.leave(ask, view, records)
            } else {
                group.stay(ask, member_id, caller, view, records)
            }
        });
        turn.answer(to, Answer::ConsumerGroupHeartbeat(answer.unwrap_or_else(Into::into)));
    }

    /// A member of the classic protocol joins.
    pub fn on_join(&mut self, to: Ticket, ask: &JoinGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        let made_id = new_member_id(&caller.client_id, turn.rng);
        let answer = self.decide(turn, |group, view, records| group.join_classic(ask, &made_id, caller, view, records));
        turn.answer(to, Answer::JoinGroup(answer.unwrap_or_else(|error| join_refused(&ask.member_id, error))));
    }

    pub fn on_sync(&mut self, to: Ticket, ask: &SyncGroupRequest, turn: &mut Turn<'_>) {
        let answer = self.decide(turn, |group, view, _| group.sync_classic(ask, view));
        turn.answer(to, Answer::SyncGroup(answer.unwrap_or_else(sync_refused)));
    }

    pub fn on_classic_heartbeat(&mut self, to: Ticket, ask: &HeartbeatRequest, turn: &mut Turn<'_>) {
        let answer = self.decide(turn, |group, view, _| group.beat_classic(ask, view));
        turn.answer(to, heartbeat(answer.err().unwrap_or_default()));
    }

    pub fn on_leave(&mut self, to: Ticket, ask: &LeaveGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        let answer = self.decide(turn, |group, view, records| group.leave_classic(ask, caller, view, records));
        turn.answer(to, Answer::LeaveGroup(answer));
    }

    pub fn on_alarm(&mut self, turn: &mut Turn<'_>) {
        self.armed = None;
        let late = self.overdue(turn.now.mono);
        for id in &late {
            tracing::info!(
                group = turn.name,
                member = id,
                "a member was silent, or did not give up partitions, in time"
            );
        }
        self.decide(turn, |group, view, records| group.remove_members(&late, view, records));
    }

    /// Everything was read from the log: members have their full time from now on.
    pub fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        self.decide(turn, |group, view, _| group.start_deadlines(view));
    }

    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION, UNSUPPORTED_VERSION.
    pub fn on_commit(&mut self, ask: &OffsetCommitRequest, caller: &Caller) -> Result<(), ErrorCode> {
        self.check_commit(&ask.member_id, GroupEpoch(ask.generation_id_or_member_epoch), caller.version)
    }

    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION.
    pub fn on_fetch(&self, ask: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        self.check_fetch(ask.member_id.as_deref(), GroupEpoch(ask.member_epoch))
    }

    /// The records that take it out of the log.
    pub fn forget(&self, name: &str, out: &mut GroupOut) {
        out.records.extend(self.tombstones().iter().map(|record| record.to_record(name)));
    }

    fn decide<T>(
        &mut self,
        turn: &mut Turn<'_>,
        call: impl FnOnce(&mut ConsumerGroup, &View, &mut Vec<ConsumerRecord>) -> T,
    ) -> T {
        let view = turn.view();
        let mut records = Vec::new();
        let result = call(self, &view, &mut records);
        let name = turn.name;
        for record in &records {
            turn.record(record.to_record(name));
        }
        self.arm(turn);
        result
    }

    /// The group ends: nobody is to be woken for it.
    pub(super) fn disarm(&mut self, turn: &mut Turn<'_>) {
        self.alarm = None;
        self.arm(turn);
    }

    /// One alarm is set for all members. It moves when one of them has a deadline before it, or when it went off.
    fn arm(&mut self, turn: &mut Turn<'_>) {
        let next = self.next_deadline();
        if next == self.armed {
            return;
        }
        if let Some(at) = self.armed {
            turn.clear_alarm(at, Alarm::Consumer);
        }
        if let Some(at) = next {
            turn.set_alarm(at, Alarm::Consumer);
        }
        self.armed = next;
    }
}
