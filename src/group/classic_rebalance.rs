//! The rebalance of a classic group: who joins, when all are there, and what the leader brings.
//!
//! *Owns*: JoinGroup, SyncGroup and LeaveGroup of one group. *Never*: looks into an assignment. *Runs on*: the core of
//! the coordinator.
//!
//! Rules: Kafka, `GroupMetadataManager.classicGroup*`.

use bytes::Bytes;

use super::ask::{Answer, Caller, Ticket, join_refused, sync_refused};
use super::classic::{ClassicGroup, InitialDelay, Pending, State};
use super::classic_member::{ClassicMember, ms, protocols, rebalance_ms};
use super::coordinator::{Alarm, Turn, record_bytes_max};
use crate::base::ids::TopicId;
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::text::Text;

/// From this version a member must come back with the id it is given (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// From this version a leader can be told that everybody has an assignment (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;
/// From this version SyncGroup says which protocol it means (KIP-559).
const SYNC_PROTOCOL_VERSION: i16 = 5;
/// From this version LeaveGroup names several members (KIP-345).
const LEAVE_MEMBERS_VERSION: i16 = 3;

impl ClassicGroup {
    pub fn on_join(&mut self, ticket: Ticket, ask: &JoinGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        if !self.has_room_for(&ask.member_id, turn) {
            if let Some(&number) = self.ids.get(&*ask.member_id) {
                self.remove(number, turn);
            }
            return refuse(ticket, "", ErrorCode::GroupMaxSizeReached, turn);
        }
        if !self.supports(&ask.protocol_type, &ask.protocols) {
            return refuse(ticket, &ask.member_id, ErrorCode::InconsistentGroupProtocol, turn);
        }
        if ask.member_id.is_empty() {
            return self.on_new_member(ticket, ask, caller, turn);
        }
        let known = self.ids.get(&*ask.member_id).copied();
        if ask.group_instance_id.is_none() && known.is_some_and(|number| self.pending.contains_key(&number)) {
            return self.add_joining(ticket, ask, caller, ask.member_id.to_string(), turn);
        }
        match self.find(&ask.member_id, ask.group_instance_id.as_ref()) {
            Err(error) => refuse(ticket, &ask.member_id, error, turn),
            Ok(number) => self.on_known_member(ticket, number, ask, turn),
        }
    }

    pub fn on_sync(&mut self, ticket: Ticket, ask: &SyncGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        let number = match self.check_sync(ask, caller) {
            Ok(number) => number,
            Err(error) => return turn.answer(ticket, Answer::SyncGroup(sync_refused(error))),
        };
        self.to_sync.remove(&number);
        if self.to_sync.is_empty() {
            self.clear_sync_alarm(turn);
        }
        if self.state == State::Stable {
            let answer = self.sync_answer(number);
            return turn.answer(ticket, answer);
        }
        if let Some(member) = self.members.get_mut(&number)
            && let Some(before) = member.syncing.replace(ticket)
        {
            turn.answer(before, Answer::SyncGroup(sync_refused(ErrorCode::RebalanceInProgress)));
        }
        if self.leader == Some(number) {
            self.take_assignment(ask, turn);
        }
    }

    pub fn on_leave(&mut self, ticket: Ticket, ask: &LeaveGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        let single = [MemberIdentity { member_id: ask.member_id.clone(), ..MemberIdentity::default() }];
        let leaving = if caller.version < LEAVE_MEMBERS_VERSION { &single[..] } else { &ask.members[..] };
        let mut left = false;
        let mut rows = Vec::with_capacity(leaving.len());
        for member in leaving {
            let found = self.find_leaving(member);
            if let Ok(number) = found {
                self.remove(number, turn);
                left = true;
            }
            rows.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: found.err().unwrap_or_default().code(),
            });
        }
        let mut answer = LeaveGroupResponse::default();
        if caller.version < LEAVE_MEMBERS_VERSION {
            answer.error_code = rows[0].error_code;
        } else {
            answer.members = rows;
        }
        if left {
            self.after_removal(turn);
        }
        turn.answer(ticket, Answer::LeaveGroup(answer));
    }

    /// Some member is gone.
    pub(super) fn after_removal(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance => self.complete_join_if_all_are_there(turn),
            State::Empty => {}
        }
    }

    /// All members are to join again. Kafka: `prepareRebalance`.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.to_sync.clear();
        self.clear_sync_alarm(turn);
        let was_empty = self.state == State::Empty;
        self.become_state(State::PreparingRebalance, turn.now.wall_ms);
        if was_empty {
            // More members of a new group are likely to come soon.
            let delay_ms = u64::from(turn.settings.group_initial_rebalance_delay_ms);
            let left_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial = Some(InitialDelay { delay_ms, left_ms, joined: false });
            return self.set_join_alarm(delay_ms, turn);
        }
        if self.all_have_joined() {
            return self.complete_join(turn);
        }
        self.set_join_alarm(self.rebalance_timeout_ms(), turn);
    }

    /// The first rebalance of an empty group waits for its time in any case.
    pub(super) fn complete_join_if_all_are_there(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance && self.initial.is_none() && self.all_have_joined() {
            self.complete_join(turn);
        }
    }

    pub(super) fn on_join_alarm(&mut self, turn: &mut Turn<'_>) {
        if self.join_at.is_none_or(|at| at > turn.now.mono) || self.state != State::PreparingRebalance {
            return;
        }
        self.join_at = None;
        if let Some(InitialDelay { delay_ms, left_ms, joined: true }) = self.initial
            && left_ms > 0
        {
            let next_ms = u64::from(turn.settings.group_initial_rebalance_delay_ms).min(left_ms);
            let left_ms = left_ms.saturating_sub(delay_ms);
            self.initial = Some(InitialDelay { delay_ms: next_ms, left_ms, joined: false });
            return self.set_join_alarm(next_ms, turn);
        }
        self.complete_join(turn);
    }

    pub(super) fn on_sync_alarm(&mut self, turn: &mut Turn<'_>) {
        if self.sync_at.is_none_or(|at| at > turn.now.mono) {
            return;
        }
        self.sync_at = None;
        if matches!(self.state, State::CompletingRebalance | State::Stable) && !self.to_sync.is_empty() {
            for number in std::mem::take(&mut self.to_sync) {
                self.remove(number, turn);
            }
            self.prepare_rebalance(turn);
        }
    }

    fn on_new_member(&mut self, ticket: Ticket, ask: &JoinGroupRequest, caller: &Caller, turn: &mut Turn<'_>) {
        if let Some(instance) = &ask.group_instance_id {
            let id = new_member_id(instance, turn.rng);
            return match self.instances.get(&**instance) {
                Some(&number) => self.replace_static(ticket, number, id, ask, caller, turn),
                None => self.add_joining(ticket, ask, caller, id, turn),
            };
        }
        let id = new_member_id(&caller.client_id, turn.rng);
        if caller.version < MEMBER_ID_REQUIRED_VERSION {
            return self.add_joining(ticket, ask, caller, id, turn);
        }
        // So that a client that gives up while it waits does not leave a member behind with each try.
        let until = turn.now.mono.after_ms(ms(ask.session_timeout_ms));
        let number = self.number();
        self.ids.insert(id.clone(), number);
        turn.set_alarm(until, Alarm::ClassicMember(number));
        refuse(ticket, &id, ErrorCode::MemberIdRequired, turn);
        self.pending.insert(number, Pending { id, until });
    }

    fn on_known_member(&mut self, ticket: Ticket, number: u32, ask: &JoinGroupRequest, turn: &mut Turn<'_>) {
        let same = self.members.get(&number).is_some_and(|member| member.matches(&ask.protocols));
        match self.state {
            State::Empty => refuse(ticket, &ask.member_id, ErrorCode::UnknownMemberId, turn),
            // The reply to its JoinGroup may have been lost.
            State::CompletingRebalance if same => {
                let answer = self.join_answer(number);
                turn.answer(ticket, answer);
            }
            // The leader joins again when what is to be assigned has changed.
            State::Stable if same && self.leader != Some(number) => {
                let answer = self.join_answer(number);
                turn.answer(ticket, answer);
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(number, ask, ticket, turn);
                self.rebalance_or_complete(turn);
            }
        }
    }

    fn add_joining(
        &mut self,
        ticket: Ticket,
        ask: &JoinGroupRequest,
        caller: &Caller,
        id: String,
        turn: &mut Turn<'_>,
    ) {
        if let Some(pending) = self.ids.get(&id).and_then(|number| self.pending.get(number).map(|it| (*number, it))) {
            turn.clear_alarm(pending.1.until, Alarm::ClassicMember(pending.0));
        }
        let member = ClassicMember {
            id,
            instance_id: ask.group_instance_id.as_ref().map(ToString::to_string),
            client_id: caller.client_id.to_string(),
            client_host: caller.client_host.to_string(),
            rebalance_timeout_ms: rebalance_ms(ask.rebalance_timeout_ms, ask.session_timeout_ms),
            session_timeout_ms: ms(ask.session_timeout_ms),
            protocols: protocols(&ask.protocols),
            assignment: Bytes::new(),
            joining: Some(ticket),
            syncing: None,
            is_new: true,
            alive_until: Instant::default(),
            alarm_at: None,
        };
        if self.members.is_empty() {
            self.protocol_type = Some(ask.protocol_type.to_string());
        }
        if let Some(initial) = &mut self.initial {
            initial.joined = true;
        }
        let number = self.add(member);
        self.keep_until(number, turn.now.mono.after_ms(limits::GROUP_NEW_MEMBER_JOIN_MS), turn);
        self.rebalance_or_complete(turn);
    }

    /// A static member has come back under a new id. Kafka: `updateStaticMemberThenRebalanceOrCompleteJoin`.
    fn replace_static(
        &mut self,
        ticket: Ticket,
        number: u32,
        id: String,
        ask: &JoinGroupRequest,
        caller: &Caller,
        turn: &mut Turn<'_>,
    ) {
        let leader_before = self.leader_id();
        let Some(member) = self.members.get_mut(&number) else { return };
        self.ids.remove(&member.id);
        self.ids.insert(id.clone(), number);
        let old_id = std::mem::replace(&mut member.id, id);
        if let Some(before) = member.joining.take() {
            self.joining -= 1;
            refuse(before, &old_id, ErrorCode::FencedInstanceId, turn);
        }
        if let Some(before) = member.syncing.take() {
            turn.answer(before, Answer::SyncGroup(sync_refused(ErrorCode::FencedInstanceId)));
        }
        self.touch(number, turn);
        self.update(number, ask, ticket, turn);
        match self.state {
            State::Stable if self.choose_protocol() == self.protocol => {
                // Nobody else needs to know: it goes on with its assignment.
                self.store(turn);
                self.answer_replaced(number, leader_before, caller, turn);
            }
            // In the middle of a rebalance the leader may assign to the old id.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance | State::Empty => self.complete_join_if_all_are_there(turn),
        }
    }

    fn answer_replaced(&mut self, number: u32, leader_before: Option<Text>, caller: &Caller, turn: &mut Turn<'_>) {
        let Some(ticket) = self.members.get_mut(&number).and_then(|member| member.joining.take()) else { return };
        self.joining -= 1;
        let Answer::JoinGroup(mut answer) = self.join_answer(number) else { return };
        if caller.version >= SKIP_ASSIGNMENT_VERSION {
            answer.skip_assignment = self.leader == Some(number);
        } else {
            // With its old id as the leader's, it does not take itself for the leader.
            answer.leader = leader_before.unwrap_or_default();
            answer.members = Vec::new();
        }
        turn.answer(ticket, Answer::JoinGroup(answer));
    }

    fn update(&mut self, number: u32, ask: &JoinGroupRequest, ticket: Ticket, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(&number) else { return };
        self.count_protocols(&member, false);
        member.protocols = protocols(&ask.protocols);
        member.rebalance_timeout_ms = rebalance_ms(ask.rebalance_timeout_ms, ask.session_timeout_ms);
        member.session_timeout_ms = ms(ask.session_timeout_ms);
        match member.joining.replace(ticket) {
            // It asks again because it has given up on the first request.
            Some(before) => refuse(before, &member.id, ErrorCode::RebalanceInProgress, turn),
            None => self.joining += 1,
        }
        self.count_protocols(&member, true);
        self.members.insert(number, member);
    }

    fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all_are_there(turn),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(turn),
        }
    }

    /// Everybody who wants to be in the next generation is there. Kafka: `completeClassicGroupJoin`.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.clear_join_alarm(turn);
        self.initial = None;
        let absent = |member: &ClassicMember| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<u32> =
            self.members.iter().filter(|(_, member)| absent(member)).map(|(number, _)| *number).collect();
        for number in gone {
            self.remove(number, turn);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and none has come back yet.
            return self.set_join_alarm(self.rebalance_timeout_ms(), turn);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.to_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.become_state(State::Empty, turn.now.wall_ms);
            return self.store(turn);
        }
        self.protocol = self.choose_protocol();
        self.become_state(State::CompletingRebalance, turn.now.wall_ms);
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        for &number in &numbers {
            let waiting = self.members.get_mut(&number).and_then(|member| {
                member.is_new = false;
                member.joining.take()
            });
            if let Some(ticket) = waiting {
                let answer = self.join_answer(number);
                turn.answer(ticket, answer);
            }
            self.touch(number, turn);
        }
        self.joining = 0;
        self.to_sync = numbers.into_iter().collect();
        let at = turn.now.mono.after_ms(self.rebalance_timeout_ms());
        self.sync_at = Some(at);
        turn.set_alarm(at, Alarm::ClassicSync);
    }

    /// A leader that has not joined hands over to the first member that has. False: nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |member: &ClassicMember| member.joining.is_some();
        if self.leader.and_then(|number| self.members.get(&number)).is_some_and(has_joined) {
            return true;
        }
        let next = self.members.iter().find(|(_, member)| has_joined(member)).map(|(number, _)| *number);
        self.leader = next.or(self.leader);
        next.is_some()
    }

    /// The leader has assigned: the group is stable.
    fn take_assignment(&mut self, ask: &SyncGroupRequest, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for row in &ask.assignments {
            let known = self.ids.get(&*row.member_id).copied();
            if let Some(member) = known.and_then(|number| self.members.get_mut(&number)) {
                member.assignment = Bytes::copy_from_slice(&row.assignment);
            }
        }
        let bytes: usize = self.members.values().map(ClassicMember::record_bytes).sum();
        if bytes > record_bytes_max(turn.settings) {
            // No record can hold it. The others must not wait for an assignment that never comes.
            self.fail_syncs(ErrorCode::UnknownServerError, turn);
            return self.prepare_rebalance(turn);
        }
        self.become_state(State::Stable, turn.now.wall_ms);
        self.store(turn);
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        for number in numbers {
            if let Some(ticket) = self.members.get_mut(&number).and_then(|member| member.syncing.take()) {
                let answer = self.sync_answer(number);
                turn.answer(ticket, answer);
                self.touch(number, turn);
            }
        }
    }

    fn fail_syncs(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        for number in numbers {
            let Some(member) = self.members.get_mut(&number) else { continue };
            member.assignment = Bytes::new();
            if let Some(ticket) = member.syncing.take() {
                turn.answer(ticket, Answer::SyncGroup(sync_refused(error)));
                self.touch(number, turn);
            }
        }
    }

    fn check_sync(&self, ask: &SyncGroupRequest, caller: &Caller) -> Result<u32, ErrorCode> {
        let unnamed = ask.protocol_type.is_none() || ask.protocol_name.is_none();
        if caller.version >= SYNC_PROTOCOL_VERSION && unnamed {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        let number = self.find(&ask.member_id, ask.group_instance_id.as_ref())?;
        if ask.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<Text>, is: &Option<String>| match (said, is) {
            (Some(said), Some(is)) => said.as_str() != is,
            _ => false,
        };
        if differs(&ask.protocol_type, &self.protocol_type) || differs(&ask.protocol_name, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == State::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(number)
    }

    /// Who is meant by a row of LeaveGroup: without a member id, the static member of that instance.
    fn find_leaving(&self, leaving: &MemberIdentity) -> Result<u32, ErrorCode> {
        if leaving.member_id.is_empty() {
            let instance = leaving.group_instance_id.as_ref();
            let known = instance.and_then(|instance| self.instances.get(&**instance));
            return known.copied().ok_or(ErrorCode::UnknownMemberId);
        }
        match self.ids.get(&*leaving.member_id) {
            Some(number) if self.pending.contains_key(number) => Ok(*number),
            _ => self.find(&leaving.member_id, leaving.group_instance_id.as_ref()),
        }
    }

    /// Kafka: `acceptJoiningMember`.
    fn has_room_for(&self, member_id: &str, turn: &Turn<'_>) -> bool {
        if member_id.is_empty() && self.pending.len() >= limits::GROUP_PENDING_MEMBERS_MAX {
            return false;
        }
        let max = turn.settings.group_max_size as usize;
        let known = self.ids.get(member_id).and_then(|number| self.members.get(number));
        match self.state {
            State::Empty => true,
            // Counted by who is there already, so that the last ones to come are the ones left out.
            State::PreparingRebalance => known.is_some_and(|member| member.joining.is_some()) || self.joining < max,
            State::CompletingRebalance | State::Stable => known.is_some() || self.members.len() < max,
        }
    }

    fn all_have_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    fn join_answer(&self, number: u32) -> Answer {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinGroupResponseMember {
            member_id: member.id.as_str().into(),
            group_instance_id: member.instance_id.as_deref().map(Text::from),
            metadata: member.metadata(protocol),
        });
        Answer::JoinGroup(JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref().map(Text::from),
            protocol_name: self.protocol.as_deref().map(Text::from),
            leader: self.leader_id().unwrap_or_default(),
            member_id: self.members.get(&number).map(|member| member.id.as_str().into()).unwrap_or_default(),
            members: if self.leader == Some(number) { members.collect() } else { Vec::new() },
            ..JoinGroupResponse::default()
        })
    }

    fn sync_answer(&self, number: u32) -> Answer {
        Answer::SyncGroup(SyncGroupResponse {
            protocol_type: self.protocol_type.as_deref().map(Text::from),
            protocol_name: self.protocol.as_deref().map(Text::from),
            assignment: self.members.get(&number).map(|member| member.assignment.clone()).unwrap_or_default(),
            ..SyncGroupResponse::default()
        })
    }

    fn set_join_alarm(&mut self, ms: u64, turn: &mut Turn<'_>) {
        self.clear_join_alarm(turn);
        let at = turn.now.mono.after_ms(ms);
        self.join_at = Some(at);
        turn.set_alarm(at, Alarm::ClassicJoin);
    }

    fn clear_join_alarm(&mut self, turn: &mut Turn<'_>) {
        if let Some(at) = self.join_at.take() {
            turn.clear_alarm(at, Alarm::ClassicJoin);
        }
    }

    fn clear_sync_alarm(&mut self, turn: &mut Turn<'_>) {
        if let Some(at) = self.sync_at.take() {
            turn.clear_alarm(at, Alarm::ClassicSync);
        }
    }
}

fn refuse(ticket: Ticket, member_id: &str, error: ErrorCode, turn: &mut Turn<'_>) {
    turn.answer(ticket, Answer::JoinGroup(join_refused(member_id, error)));
}

/// A name of the member's own, and a random part (Kafka: `generateMemberId`).
pub(super) fn new_member_id(name: &str, rng: &mut Rng) -> String {
    let cut = (0..=name.len().min(limits::GROUP_NAME_BYTES_MAX)).rev().find(|&at| name.is_char_boundary(at));
    format!("{}-{}", &name[..cut.unwrap_or(0)], TopicId::random(rng))
}
