//! Members of the classic protocol in a consumer group that is being migrated (KIP-848, "Upgrade").
//!
//! To such a member the group looks like a classic one whose leader is somebody else: its epoch is the generation,
//! JoinGroup takes part in the next rebalance, SyncGroup gives what the member has at the moment, and a heartbeat says
//! when it is time to join again: to give something up, or to get what others gave up.
//!
//! *Owns*: that translation. *Never*: lets such a member wait for others. *Runs on*: the core that coordinates the
//! group.
//!
//! Rules: Kafka, `GroupMetadataManager` (`classicGroupJoinToConsumerGroup` and the like for Sync, Heartbeat, Leave).

use bytes::Bytes;

use crate::base::ids::GroupEpoch;
use crate::group::ask::Caller;
use crate::group::assignment::Assignment;
use crate::group::consumer::{ConsumerGroup, PROTOCOL_TYPE, View};
use crate::group::consumer_heartbeat::{Change, Seat};
use crate::group::consumer_member::{ClassicMember, ConsumerMember, MemberMetadata, MemberState};
use crate::group::consumer_rebalance::after;
use crate::group::consumer_record::ConsumerRecord;
use crate::group::embedded;
use crate::wire::consumer_protocol::ConsumerProtocolSubscription;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::heartbeat::HeartbeatRequest;
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::text::Text;

/// From this version on a member must know its id before it joins (KIP-394).
const JOIN_NEEDS_ID_VERSION: i16 = 4;

/// From this version on LeaveGroup names several members.
const LEAVE_MEMBERS_VERSION: i16 = 3;

impl ConsumerGroup {
    /// `made_id` is for a member that has none. Errors: GROUP_MAX_SIZE_REACHED, INCONSISTENT_GROUP_PROTOCOL,
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub(super) fn join_classic(
        &mut self,
        ask: &JoinGroupRequest,
        made_id: &str,
        caller: &Caller,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<JoinGroupResponse, ErrorCode> {
        let is_new = ask.member_id.is_empty();
        let member_id = if is_new { made_id } else { &ask.member_id };
        self.check_members(member_id, view.settings).map_err(|refusal| refusal.error)?;
        let (subscription, protocol) = self.supported(ask)?;
        if is_new && ask.group_instance_id.is_none() && caller.version >= JOIN_NEEDS_ID_VERSION {
            let error_code = ErrorCode::MemberIdRequired.code();
            return Ok(JoinGroupResponse { error_code, member_id: member_id.into(), ..Default::default() });
        }
        let seat = self.find_classic_seat(member_id, ask.group_instance_id.as_deref(), is_new)?;
        let before = self.seated(&seat, member_id).map(|member| member.metadata.clone());
        let metadata = joined(before.as_ref(), ask, &subscription, caller);
        let is_same = before.is_some_and(|before| before == metadata);
        let change = Change { metadata: (!is_same).then_some(metadata), pattern: None };
        let owned = embedded::to_set(&subscription.owned_partitions, view.topics);
        self.admit(&seat, member_id, change, Some(&owned), view, records);
        let (session, sync) =
            (after(view.now.mono, ask.session_timeout_ms), after(view.now.mono, self.rebalance_ms(member_id)));
        self.set_deadlines(member_id, |deadlines| {
            (deadlines.session, deadlines.sync, deadlines.join) = (Some(session), Some(sync), None);
        });
        if self.is_left_out(member_id, !is_same) {
            return Err(ErrorCode::UnknownServerError);
        }
        Ok(JoinGroupResponse {
            generation_id: self.members[member_id].epoch().0,
            protocol_type: Some(Text::from_static(PROTOCOL_TYPE)),
            protocol_name: Some(protocol),
            member_id: member_id.into(),
            ..Default::default()
        })
    }

    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL,
    /// REBALANCE_IN_PROGRESS.
    pub(super) fn sync_classic(&mut self, ask: &SyncGroupRequest, view: &View) -> Result<SyncGroupResponse, ErrorCode> {
        let id = self.classic_member(&ask.member_id, ask.group_instance_id.as_deref(), ask.generation_id)?;
        let member = &self.members[&id];
        let classic = member.metadata.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        let (name, metadata) = classic.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let is_other_type = ask.protocol_type.as_ref().is_some_and(|asked| *asked != PROTOCOL_TYPE);
        if is_other_type || ask.protocol_name.as_ref().is_some_and(|asked| *asked != name.as_str()) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // Whoever has to give something up joins again after that anyway.
        if self.epoch > member.epoch() && member.current.state != MemberState::UnrevokedPartitions {
            self.expect_join(&id, view);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let (_, version) =
            ConsumerProtocolSubscription::read(metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let assignment = embedded::write_assignment(&member.current.assigned, version, view.topics);
        let session = after(view.now.mono, classic.session_timeout_ms);
        self.set_deadlines(&id, |deadlines| (deadlines.session, deadlines.sync) = (Some(session), None));
        Ok(SyncGroupResponse {
            protocol_type: ask.protocol_type.clone(),
            protocol_name: ask.protocol_name.clone(),
            assignment,
            ..Default::default()
        })
    }

    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION; REBALANCE_IN_PROGRESS: join again.
    pub(super) fn beat_classic(&mut self, ask: &HeartbeatRequest, view: &View) -> Result<(), ErrorCode> {
        let id = self.classic_member(&ask.member_id, ask.group_instance_id.as_deref(), ask.generation_id)?;
        let member = &self.members[&id];
        let session_ms = member.metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        let must_join = member.epoch() < self.epoch
            || member.current.state == MemberState::UnrevokedPartitions
            || (member.current.state == MemberState::UnreleasedPartitions && !self.waits_for_release(&id, member));
        let session = after(view.now.mono, session_ms);
        self.set_deadlines(&id, |deadlines| deadlines.session = Some(session));
        if must_join {
            self.expect_join(&id, view);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn leave_classic(
        &mut self,
        ask: &LeaveGroupRequest,
        caller: &Caller,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) -> LeaveGroupResponse {
        let is_single = caller.version < LEAVE_MEMBERS_VERSION;
        let single = [MemberIdentity { member_id: ask.member_id.clone(), ..Default::default() }];
        let leaving = if is_single { &single[..] } else { &ask.members[..] };
        let mut left = Vec::new();
        let mut rows = Vec::with_capacity(leaving.len());
        for member in leaving {
            let found = self.find_leaving(member);
            rows.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: found.as_ref().err().copied().unwrap_or_default().code(),
            });
            left.extend(found.ok().filter(|id| !left.contains(id)));
        }
        self.remove_members(&left, view, records);
        match rows.first() {
            Some(row) if is_single => LeaveGroupResponse { error_code: row.error_code, ..Default::default() },
            _ => LeaveGroupResponse { members: rows, ..Default::default() },
        }
    }

    fn find_leaving(&self, leaving: &MemberIdentity) -> Result<String, ErrorCode> {
        let Some(instance_id) = leaving.group_instance_id.as_deref() else {
            let known = self.members.contains_key(&*leaving.member_id);
            return if known { Ok(leaving.member_id.to_string()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let holder = self.static_members.get(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
        // An admin client removes a static member without knowing its id.
        let is_holder = leaving.member_id.is_empty() || leaving.member_id == holder.as_str();
        if is_holder { Ok(holder.clone()) } else { Err(ErrorCode::FencedInstanceId) }
    }

    /// What the member subscribes to and the protocol it is told, if all members of its kind have that.
    fn supported(&self, ask: &JoinGroupRequest) -> Result<(ConsumerProtocolSubscription, Text), ErrorCode> {
        let classic = || self.members.values().filter_map(|member| member.metadata.classic.as_ref());
        let all_have = |name: &Text| {
            classic().all(|member| member.protocols.iter().any(|(protocol, _)| *name == protocol.as_str()))
        };
        let is_supported = ask.protocol_type == PROTOCOL_TYPE && ask.protocols.iter().any(|one| all_have(&one.name));
        let first = ask.protocols.first().filter(|_| is_supported).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let (subscription, _) =
            ConsumerProtocolSubscription::read(&first.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        Ok((subscription, first.name.clone()))
    }

    fn find_classic_seat(&self, member_id: &str, instance_id: Option<&str>, is_new: bool) -> Result<Seat, ErrorCode> {
        let Some(instance_id) = instance_id else {
            return Ok(if self.members.contains_key(member_id) { Seat::Member } else { Seat::New });
        };
        match self.static_members.get(instance_id) {
            // It joins without its old id: as with the classic protocol the later one has the place.
            Some(holder) if is_new => Ok(Seat::Replaces(holder.clone())),
            None if is_new => Ok(Seat::New),
            Some(holder) if holder == member_id => Ok(Seat::Member),
            Some(_) => Err(ErrorCode::FencedInstanceId),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn classic_member(&self, id: &str, instance_id: Option<&str>, generation: i32) -> Result<String, ErrorCode> {
        if let Some(instance_id) = instance_id {
            let holder = self.static_members.get(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
            if holder != id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        let member = self.members.get(id).filter(|member| member.is_classic()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch() != GroupEpoch(generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(id.to_owned())
    }

    /// Whether something that the member is to have is still with another.
    fn waits_for_release(&self, id: &str, member: &ConsumerMember) -> bool {
        let none = Assignment::default();
        let target = self.targets.get(id).unwrap_or(&none);
        target.difference(&member.current.assigned).iter().any(|(topic, partition)| self.is_taken(id, topic, partition))
    }

    fn expect_join(&mut self, id: &str, view: &View) {
        let at = after(view.now.mono, self.rebalance_ms(id));
        self.set_deadlines(id, |deadlines| deadlines.join = deadlines.join.or(Some(at)));
    }

    fn rebalance_ms(&self, id: &str) -> i32 {
        self.members.get(id).map_or(0, |member| member.metadata.rebalance_timeout_ms)
    }
}

fn joined(
    before: Option<&MemberMetadata>,
    ask: &JoinGroupRequest,
    subscription: &ConsumerProtocolSubscription,
    caller: &Caller,
) -> MemberMetadata {
    let text = |text: &Option<Text>| text.as_ref().map(Text::to_string);
    // Version 0 has no rebalance timeout of its own.
    let rebalance_timeout_ms =
        if ask.rebalance_timeout_ms < 0 { ask.session_timeout_ms } else { ask.rebalance_timeout_ms };
    MemberMetadata {
        instance_id: text(&ask.group_instance_id).or_else(|| before?.instance_id.clone()),
        rack_id: text(&subscription.rack_id).or_else(|| before?.rack_id.clone()),
        client_id: caller.client_id.to_string(),
        client_host: caller.client_host.to_string(),
        topics: subscription.topics.iter().map(Text::to_string).collect(),
        pattern: String::new(),
        rebalance_timeout_ms,
        assignor: before.and_then(|before| before.assignor.clone()),
        classic: Some(ClassicMember {
            session_timeout_ms: ask.session_timeout_ms,
            protocols: ask
                .protocols
                .iter()
                .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
                .collect(),
        }),
    }
}
