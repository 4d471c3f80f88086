//! A member of a classic group.
//!
//! *Owns*: what a member brought and is waiting for. *Never*: knows the others. *Runs on*: the core of the coordinator.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ask::Ticket;
use super::records::MemberMetadata;
use crate::base::time::Instant;
use crate::wire::messages::join_group::JoinGroupRequestProtocol;
use crate::wire::text::Text;

#[derive(Debug)]
pub struct ClassicMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: u64,
    pub session_timeout_ms: u64,
    /// Name and metadata, in the member's order of preference. Invariant: each name once.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    /// Its JoinGroup request, while that waits for the others.
    pub joining: Option<Ticket>,
    /// Its SyncGroup request, while that waits for the leader.
    pub syncing: Option<Ticket>,
    /// Not yet part of any generation.
    pub is_new: bool,
    /// Until then it counts as alive.
    pub alive_until: Instant,
    /// When the group is woken to look. At or before `alive_until`.
    pub alarm_at: Option<Instant>,
}

impl ClassicMember {
    pub fn from_record(stored: &MemberMetadata, protocol: Option<&Text>) -> ClassicMember {
        let session_timeout_ms = ms(stored.session_timeout);
        let protocol = protocol.map(ToString::to_string).unwrap_or_default();
        ClassicMember {
            id: stored.member_id.to_string(),
            instance_id: stored.group_instance_id.as_ref().map(ToString::to_string),
            client_id: stored.client_id.to_string(),
            client_host: stored.client_host.to_string(),
            rebalance_timeout_ms: rebalance_ms(stored.rebalance_timeout, stored.session_timeout),
            session_timeout_ms,
            protocols: vec![(protocol, Bytes::copy_from_slice(&stored.subscription))],
            assignment: Bytes::copy_from_slice(&stored.assignment),
            joining: None,
            syncing: None,
            is_new: false,
            alive_until: Instant::default(),
            alarm_at: None,
        }
    }

    pub fn to_record(&self, protocol: &str) -> MemberMetadata {
        let clamped = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
        MemberMetadata {
            member_id: self.id.as_str().into(),
            group_instance_id: self.instance_id.as_deref().map(Text::from),
            client_id: self.client_id.as_str().into(),
            client_host: self.client_host.as_str().into(),
            rebalance_timeout: clamped(self.rebalance_timeout_ms),
            session_timeout: clamped(self.session_timeout_ms),
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// What it says under a protocol; nothing when it does not have that.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether the same protocols, with the same metadata and in the same order, are asked for again.
    pub fn matches(&self, asked: &[JoinGroupRequestProtocol]) -> bool {
        self.protocols == protocols(asked)
    }

    /// Of the protocols that `supporters` of all members have, the one it likes best.
    pub fn vote(&self, supporters: &BTreeMap<String, usize>, members: usize) -> Option<&str> {
        let mut names = self.protocols.iter().map(|(name, _)| name.as_str());
        names.find(|name| supporters.get(*name) == Some(&members))
    }

    /// About what it takes in a record; of its protocols one is kept, the largest maybe.
    pub fn record_bytes(&self) -> usize {
        let metadata: usize = self.protocols.iter().map(|(_, metadata)| metadata.len()).max().unwrap_or(0);
        let names = self.id.len() + self.client_id.len() + self.client_host.len();
        names + self.instance_id.as_ref().map_or(0, String::len) + metadata + self.assignment.len() + 32
    }

    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

/// Copies of what a request has, so that they do not keep its frame.
pub fn protocols(asked: &[JoinGroupRequestProtocol]) -> Vec<(String, Bytes)> {
    let mut kept: Vec<(String, Bytes)> = Vec::with_capacity(asked.len().min(16));
    let mut seen = std::collections::BTreeSet::new();
    for protocol in asked {
        // As in Kafka, the first of several with one name counts.
        if seen.insert(&protocol.name) {
            kept.push((protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)));
        }
    }
    kept
}

/// Version 0 of JoinGroup has no rebalance timeout of its own.
pub fn rebalance_ms(rebalance: i32, session: i32) -> u64 {
    if rebalance < 0 { ms(session) } else { ms(rebalance) }
}

pub fn ms(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
