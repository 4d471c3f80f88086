//! How fast replicas are copied while `corelog cluster move` and its like wait for it (KIP-73).
//!
//! *Owns*: which settings say so, and that they are taken back. *Never*: moves anything. *Runs on*: the main thread.

use std::collections::BTreeMap;

use crate::admin::settings::{Change, Resource, change_settings};
use crate::admin::tool::Failure;
use crate::base::ids::NodeId;
use crate::client::client::Client;
use crate::client::offsets::TopicPartition;
use crate::config::{Notation, Origin, Settings};

const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";

/// Copies of a partition that are to be made.
pub struct Copies {
    pub place: TopicPartition,
    pub from: Vec<NodeId>,
    pub to: Vec<NodeId>,
}

/// The throttle that is set, until [`Throttle::end`].
pub struct Throttle {
    topics: Vec<String>,
}

/// Reads a rate as a person types it.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let mut settings = Settings::default();
    settings.set(RATES[0], text, Notation::Typed, Origin::Flag).map_err(|error| error.message)?;
    Ok(settings.leader_replication_throttled_rate)
}

impl Throttle {
    /// Each broker sends and takes so many bytes a second of these copies.
    pub fn begin(client: &mut Client, rate: u64, copies: &[Copies]) -> Result<Throttle, Failure> {
        let lists = lists(copies);
        let throttle = Throttle { topics: lists.keys().cloned().collect() };
        let rates = RATES.map(|name| Change::Set { name: name.to_owned(), value: rate.to_string() });
        let mut begun = change(client, Resource::Brokers, &rates);
        for (topic, [leaders, followers]) in lists {
            let leaders = Change::Set { name: LEADERS.to_owned(), value: leaders.join(",") };
            let followers = Change::Set { name: FOLLOWERS.to_owned(), value: followers.join(",") };
            begun = begun.and_then(|()| change(client, Resource::Topic(topic), &[leaders, followers]));
        }
        match begun {
            Ok(()) => Ok(throttle),
            Err(failure) => {
                throttle.end(client)?;
                Err(failure)
            }
        }
    }

    /// Nothing is throttled any more.
    pub fn end(self, client: &mut Client) -> Result<(), Failure> {
        let unset = |name: &str| Change::Unset { name: name.to_owned() };
        for topic in self.topics {
            change(client, Resource::Topic(topic), &[unset(LEADERS), unset(FOLLOWERS)])?;
        }
        change(client, Resource::Brokers, &RATES.map(unset))
    }
}

/// By topic, what is throttled where it leads and where it follows.
fn lists(copies: &[Copies]) -> BTreeMap<String, [Vec<String>; 2]> {
    let mut lists: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for Copies { place, from, to } in copies {
        let named =
            |nodes: &[NodeId]| nodes.iter().map(|node| format!("{}:{node}", place.partition)).collect::<Vec<_>>();
        let [leaders, followers] = lists.entry(place.topic.clone()).or_default();
        leaders.extend(named(from));
        followers.extend(named(to));
    }
    lists
}

fn change(client: &mut Client, resource: Resource, changes: &[Change]) -> Result<(), Failure> {
    let words = resource.words();
    let outcomes = change_settings(client, &[resource], changes, false)?;
    let refusal = outcomes.into_iter().find_map(Result::err);
    refusal.map_or(Ok(()), |refusal| Err(Failure::NotDone(format!("the throttle of {words}: {refusal}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_partition_sends_and_who_is_new_takes() {
        let copies = |partition, from: &[i32], to: &[i32]| Copies {
            place: TopicPartition { topic: "t".into(), partition },
            from: from.iter().copied().map(NodeId).collect(),
            to: to.iter().copied().map(NodeId).collect(),
        };
        let lists = lists(&[copies(0, &[1, 2], &[3]), copies(7, &[2], &[1, 3])]);
        assert_eq!(lists["t"], [vec!["0:1", "0:2", "7:2"], vec!["0:3", "7:1", "7:3"]]);
    }

    #[test]
    fn a_rate_is_typed_like_its_setting() {
        assert_eq!(parse_rate("10MiB"), Ok(10 << 20));
        assert!(parse_rate("fast").is_err());
    }
}
