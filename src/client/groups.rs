//! Consumer groups of both protocols: which there are, their members, and the offsets they have committed.
//!
//! *Owns*: asking a group's coordinator, and one form for what classic and consumer groups say. *Never*: decides an
//! offset. *Runs on*: a thread that may wait.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::client::client::{Client, To};
use crate::client::error::{ClientError, Kind, Refusal};
use crate::client::offsets::TopicPartition;
use crate::wire::consumer_protocol::ConsumerProtocolAssignment;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use crate::wire::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::reader::DecodeError;

/// A row of the list of groups. What old brokers do not say is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: String,
    pub state: String,
    /// `classic`, `consumer`, …
    pub group_type: String,
    /// `consumer` for consumers of the classic protocol, or what others have chosen.
    pub protocol_type: String,
    pub coordinator: i32,
}

/// The groups of a cluster, as far as its brokers have said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// In the order of their names.
    pub groups: Vec<Listed>,
    /// Brokers that have not said theirs, and why.
    pub missing: Vec<(i32, ClientError)>,
}

impl Listing {
    /// Errors: a broker has not said its groups.
    pub fn whole(self) -> Result<Vec<Listed>, ClientError> {
        match self.missing.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.groups),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: String,
    pub state: String,
    pub group_type: &'static str,
    pub assignor: String,
    /// Of a consumer group.
    pub epoch: Option<i32>,
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: String,
    /// Of a static member.
    pub instance: Option<String>,
    pub client_id: String,
    pub host: String,
    /// Of a member of a consumer group.
    pub epoch: Option<i32>,
    pub assigned: BTreeSet<TopicPartition>,
}

impl Group {
    /// It has nobody who could commit: its offsets may be changed by others.
    pub fn is_inactive(&self) -> bool {
        self.members.is_empty() && matches!(self.state.as_str(), "Empty" | "Dead")
    }
}

impl Client {
    /// The groups of all brokers; with `states` or `types` only those.
    ///
    /// Errors: none of the brokers has said its groups.
    pub fn groups(&mut self, states: &[String], types: &[String]) -> Result<Listing, ClientError> {
        self.topics(Some(&[]))?;
        let request = ListGroupsRequest {
            states_filter: states.iter().map(Into::into).collect(),
            types_filter: types.iter().map(Into::into).collect(),
        };
        let (mut groups, mut missing) = (Vec::new(), Vec::new());
        let nodes: Vec<i32> = self.brokers().collect();
        for &node in &nodes {
            match self.groups_of(node, &request) {
                Ok(found) => groups.extend(found),
                Err(error) => missing.push((node, error)),
            }
        }
        if !missing.is_empty() && missing.len() == nodes.len() {
            return Err(missing.swap_remove(0).1);
        }
        // Brokers before versions 4 and 5 filter nothing, and then say neither.
        let is_like = |wanted: &[String], found: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        groups.retain(|group| is_like(states, &group.state) && is_like(types, &group.group_type));
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.dedup_by(|a, b| a.name == b.name);
        Ok(Listing { groups, missing })
    }

    fn groups_of(&mut self, node: i32, request: &ListGroupsRequest) -> Result<Vec<Listed>, ClientError> {
        let codes = |reply: &ListGroupsResponse| vec![reply.error_code];
        let reply: ListGroupsResponse = self.ask(To::Node(node), request, codes)?;
        if let Some(refusal) = Refusal::of(reply.error_code, None) {
            return Err(ClientError::refused(&format!("broker {node}"), &refusal));
        }
        let listed = reply.groups.into_iter().map(|group| Listed {
            name: group.group_id.to_string(),
            state: group.group_state.to_string(),
            group_type: group.group_type.to_string(),
            protocol_type: group.protocol_type.to_string(),
            coordinator: node,
        });
        Ok(listed.collect())
    }

    /// A group with its members. A group that nobody knows is refused with GROUP_ID_NOT_FOUND.
    pub fn group(&mut self, name: &str) -> Result<Group, ClientError> {
        match self.consumer_group(name) {
            Ok(Some(group)) => Ok(group),
            Ok(None) => self.classic_group(name),
            Err(error) if error.kind == Kind::NotSpoken => self.classic_group(name),
            Err(error) => Err(error),
        }
    }

    /// `None` when it is no group of that protocol.
    fn consumer_group(&mut self, name: &str) -> Result<Option<Group>, ClientError> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![name.into()], ..Default::default() };
        let codes = |reply: &ConsumerGroupDescribeResponse| reply.groups.iter().map(|group| group.error_code).collect();
        let reply: ConsumerGroupDescribeResponse = self.ask(To::Coordinator(name), &request, codes)?;
        let Some(group) = reply.groups.into_iter().next() else { return Ok(None) };
        if let Some(refusal) = Refusal::of(group.error_code, group.error_message.as_deref()) {
            return match refusal.error() {
                Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion) => Ok(None),
                _ => Err(ClientError::refused(&format!("group {name}"), &refusal)),
            };
        }
        let members = group.members.into_iter().map(|member| Member {
            id: member.member_id.to_string(),
            instance: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            epoch: Some(member.member_epoch),
            assigned: assigned(&member.assignment),
        });
        Ok(Some(Group {
            name: name.to_owned(),
            state: group.group_state.to_string(),
            group_type: "consumer",
            assignor: group.assignor_name.to_string(),
            epoch: Some(group.group_epoch),
            members: members.collect(),
        }))
    }

    fn classic_group(&mut self, name: &str) -> Result<Group, ClientError> {
        let request = DescribeGroupsRequest { groups: vec![name.into()], ..Default::default() };
        let codes = |reply: &DescribeGroupsResponse| reply.groups.iter().map(|group| group.error_code).collect();
        let reply: DescribeGroupsResponse = self.ask(To::Coordinator(name), &request, codes)?;
        let what = format!("group {name}");
        let unknown = || Refusal::of(ErrorCode::GroupIdNotFound.code(), None).expect("a code that says no");
        let Some(group) = reply.groups.into_iter().next() else {
            return Err(ClientError::refused(&what, &unknown()));
        };
        if let Some(refusal) = Refusal::of(group.error_code, group.error_message.as_deref()) {
            return Err(ClientError::refused(&what, &refusal));
        }
        // Before version 6 a group that nobody knows is dead.
        if group.group_state.as_str() == "Dead" {
            return Err(ClientError::refused(&what, &unknown()));
        }
        let mut members = Vec::with_capacity(group.members.len());
        for member in group.members {
            members.push(Member {
                id: member.member_id.to_string(),
                instance: member.group_instance_id.map(|id| id.to_string()),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                epoch: None,
                // What programs other than consumers assign is theirs to know.
                assigned: classic_assigned(&member.member_assignment).unwrap_or_default(),
            });
        }
        Ok(Group {
            name: name.to_owned(),
            state: group.group_state.to_string(),
            group_type: "classic",
            assignor: group.protocol_data.to_string(),
            epoch: None,
            members,
        })
    }

    /// Deletes a group and its offsets.
    pub fn delete_group(&mut self, name: &str) -> Result<Result<(), Refusal>, ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![name.into()] };
        let codes = |reply: &DeleteGroupsResponse| reply.results.iter().map(|row| row.error_code).collect();
        let reply: DeleteGroupsResponse = self.ask(To::Coordinator(name), &request, codes)?;
        let code = reply.results.first().map_or(ErrorCode::UnknownServerError.code(), |row| row.error_code);
        Ok(Refusal::of(code, None).map_or(Ok(()), Err))
    }
}

fn assigned(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    let of_topic = assignment.topic_partitions.iter().flat_map(|topic| {
        let place = |partition: &i32| TopicPartition { topic: topic.topic_name.to_string(), partition: *partition };
        topic.partitions.iter().map(place)
    });
    of_topic.collect()
}

/// What the leader of a classic group assigned to a member. Nothing yet is nothing.
pub fn classic_assigned(bytes: &Bytes) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let assignment = ConsumerProtocolAssignment::read(bytes)?;
    let of_topic = assignment.assigned_partitions.iter().flat_map(|list| {
        let place = |partition: &i32| TopicPartition { topic: list.topic.to_string(), partition: *partition };
        list.partitions.iter().map(place)
    });
    Ok(of_topic.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_of_classic_members_are_read_as_far_as_they_are_whole() {
        let check = |bytes: &'static [u8], expect: Option<&str>| {
            let found = classic_assigned(&Bytes::from_static(bytes)).ok();
            let shown = found.map(|all| all.iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(shown.as_deref(), expect, "{bytes:?}");
        };
        check(b"", Some(""));
        check(b"\0\x01\0\0\0\0\xff\xff\xff\xff", Some(""));
        check(b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x07\xff\xff\xff\xff", Some("t-0 t-7"));
        check(b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0", None);
        check(b"\0\x01\x7f\xff\xff\xff", None);
        check(b"anything", None);
    }
}
