//! How far a group has come: what it has committed of each partition, and how much is left.
//!
//! *Owns*: the lag. *Never*: guesses what was never committed. *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::admin::tool::refusal_json;
use crate::client::client::Client;
use crate::client::error::{ClientError, Refusal};
use crate::client::groups::{Group, Member};
use crate::client::offsets::{Moment, TopicPartition};

/// A partition that a member reads, or of which the group has committed an offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub place: TopicPartition,
    pub committed: Option<i64>,
    /// Where the next record will be.
    pub end: Result<i64, Refusal>,
    /// Its reader, by its place among the group's members.
    pub member: Option<usize>,
}

impl Standing {
    /// Records that the group has not come to. `None` where that cannot be known.
    pub fn lag(&self) -> Option<u64> {
        let (committed, end) = (self.committed?, *self.end.as_ref().ok()?);
        // What was committed may be cut off again.
        Some(u64::try_from(end.saturating_sub(committed)).unwrap_or(0))
    }

    /// For programs.
    pub fn json(&self, group: &Group) -> Value {
        let member = self.member.map(|index| &group.members[index]);
        let of_member = |field: fn(&Member) -> &str| member.map(field);
        json!({
            "topic": self.place.topic,
            "partition": self.place.partition,
            "committedOffset": self.committed,
            "endOffset": self.end.as_ref().ok(),
            "lag": self.lag(),
            "memberId": of_member(|member| &member.id),
            "clientId": of_member(|member| &member.client_id),
            "host": of_member(|member| &member.host),
            "error": self.end.as_ref().err().map(refusal_json),
        })
    }
}

/// By topic and partition.
pub fn standings(client: &mut Client, group: &Group) -> Result<Vec<Standing>, ClientError> {
    let committed = client.committed(&group.name)?;
    let mut readers: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
    for (index, member) in group.members.iter().enumerate() {
        readers.extend(member.assigned.iter().map(|place| (place, index)));
    }
    let places: BTreeSet<TopicPartition> = committed.keys().chain(readers.keys().copied()).cloned().collect();
    let ends = client.offsets(&places, Moment::End)?;
    let standing = |place: TopicPartition| Standing {
        committed: committed.get(&place).copied(),
        end: ends.get(&place).cloned().unwrap_or(Ok(None)).map(|offset| offset.unwrap_or(0)),
        member: readers.get(&place).copied(),
        place,
    };
    Ok(places.into_iter().map(standing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_known_where_both_ends_are() {
        let check = |committed: Option<i64>, end: Result<i64, i16>, expect: Option<u64>| {
            let end = end.map_err(|code| Refusal::of(code, None).expect("it says no"));
            let place = TopicPartition { topic: "t".into(), partition: 0 };
            assert_eq!(Standing { place, committed, end, member: None }.lag(), expect);
        };
        check(Some(3), Ok(10), Some(7));
        check(Some(10), Ok(10), Some(0));
        check(Some(11), Ok(10), Some(0));
        check(None, Ok(10), None);
        check(Some(3), Err(3), None);
    }
}
