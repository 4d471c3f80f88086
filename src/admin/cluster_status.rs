//! `corelog cluster status`: the brokers, who decides, what is missing and how full the disks are.
//!
//! *Owns*: the command. *Never*: changes anything. *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};

use clap::Command;
use serde_json::{Value, json};

use crate::admin::selection::short_list;
use crate::admin::tool::{Asked, Failure, Said};
use crate::admin::topic::name_of;
use crate::admin::view;
use crate::client::client::Client;
use crate::client::cluster::Cluster;
use crate::client::error::{ClientError, Kind};
use crate::client::offsets::TopicPartition;
use crate::terminal::numbers::{bytes, counted};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::messages::describe_cluster::DescribeClusterBroker;
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};

/// Topics of a kind of trouble that are named; the others are counted.
const NAMED_MAX: usize = 8;

/// A volume with less of itself free than one part in so many is told of.
const FREE_SHARE: u64 = 10;

pub fn command() -> Command {
    let command = Command::new("status")
        .about(
            "Print the brokers, who decides, partitions that miss replicas, and disks; on a terminal again and again",
        )
        .after_help(
            "BEHIND are replicas on the broker that are not in sync. A partition is offline when nobody leads it, and \
             under-replicated when not all of its replicas are in sync.\n\n\
             --json prints, once, an object with clusterId, controller, voters, observers, brokers, partitions, \
             topics, offline, underReplicated, moving. The last three are arrays of objects with topic, partition. A \
             broker has id, address, rack, fenced, replicas, leaders, behind, dataBytes, totalBytes, usableBytes \
             (null where not known), error.\n\n\
             Examples:\n  corelog cluster status\n  corelog cluster status --bootstrap broker1:9092 --json",
        );
    view::with_view(command)
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    if view::is_once(asked) {
        let status = Status::take(&mut asked.client)?;
        return Ok(Said { text: status.text(asked.paint), json: status.json(), is_done: true });
    }
    view::watch(asked, |client, paint| Ok(Status::take(client)?.text(paint)))
}

/// The cluster at one time.
struct Status {
    cluster: Cluster,
    controller: Option<i32>,
    topics: usize,
    partitions: usize,
    brokers: BTreeMap<i32, Share>,
    disks: BTreeMap<i32, Result<Disk, ClientError>>,
    offline: BTreeSet<TopicPartition>,
    under_replicated: BTreeSet<TopicPartition>,
    moving: BTreeSet<TopicPartition>,
}

/// What a broker has to do with partitions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Share {
    replicas: usize,
    leaders: usize,
    behind: usize,
}

/// The volumes of a broker together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Disk {
    data: u64,
    /// Of the volumes, total and usable.
    space: Option<(u64, u64)>,
}

impl Status {
    fn take(client: &mut Client) -> Result<Status, Failure> {
        let cluster = client.cluster()?;
        let topics = client.topics(None)?;
        let moving = match client.moving() {
            Err(error) if error.kind == Kind::NotSpoken => BTreeSet::new(),
            moving => moving?.into_keys().collect(),
        };
        let there: BTreeSet<i32> = client.brokers().collect();
        let disks = there.iter().map(|id| (*id, disk(client, *id))).collect();
        Ok(Status::of(cluster, &topics, moving, disks))
    }

    fn of(
        cluster: Cluster,
        topics: &[MetadataResponseTopic],
        moving: BTreeSet<TopicPartition>,
        disks: BTreeMap<i32, Result<Disk, ClientError>>,
    ) -> Status {
        let controller = cluster.quorum.as_ref().map(|quorum| quorum.leader_id).filter(|id| *id >= 0);
        let mut status = Status {
            controller,
            topics: topics.len(),
            partitions: 0,
            brokers: cluster.brokers.iter().map(|broker| (broker.broker_id, Share::default())).collect(),
            disks,
            offline: BTreeSet::new(),
            under_replicated: BTreeSet::new(),
            moving,
            cluster,
        };
        for topic in topics {
            topic.partitions.iter().for_each(|row| status.count(name_of(topic), row));
        }
        status
    }

    fn count(&mut self, topic: &str, row: &MetadataResponsePartition) {
        let place = TopicPartition { topic: topic.to_owned(), partition: row.partition_index };
        self.partitions += 1;
        for id in &row.replica_nodes {
            let share = self.brokers.entry(*id).or_default();
            share.replicas += 1;
            share.leaders += usize::from(row.leader_id == *id);
            share.behind += usize::from(!row.isr_nodes.contains(id));
        }
        if row.leader_id < 0 {
            self.offline.insert(place);
        } else if row.isr_nodes.len() < row.replica_nodes.len() {
            self.under_replicated.insert(place);
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = format!("Cluster {}: {}\n\n", self.cluster.id, self.size());
        text += &self.brokers_table().text(paint);
        text.push('\n');
        let trouble = [("offline", &self.offline), ("under-replicated", &self.under_replicated)];
        for (what, places) in trouble.into_iter().filter(|(_, places)| !places.is_empty()) {
            let words = format!("{} {what}: {}", counted(places.len() as u64, "partition"), named(places));
            text += &format!("{}\n", if what == "offline" { paint.bad(&words) } else { paint.warn(&words) });
        }
        if self.offline.is_empty() && self.under_replicated.is_empty() {
            text += &format!("{}\n", paint.good("Every partition has a leader, and all of its replicas are in sync."));
        }
        if !self.moving.is_empty() {
            let count = counted(self.moving.len() as u64, "partition");
            text += &format!("{count} being moved: {}\n", named(&self.moving));
        }
        for (id, disk) in &self.disks {
            if let Err(error) = disk {
                text += &format!("{}\n", paint.bad(&format!("Broker {id}: {error}")));
            }
        }
        text
    }

    fn size(&self) -> String {
        let counts = [(self.brokers.len(), "broker"), (self.topics, "topic"), (self.partitions, "partition")];
        counts.map(|(count, what)| counted(count as u64, what)).join(", ")
    }

    fn brokers_table(&self) -> Table {
        let columns = [
            ">BROKER",
            "ADDRESS",
            "RACK",
            "STATE",
            "METADATA",
            ">REPLICAS",
            ">LEADERS",
            ">BEHIND",
            ">DATA",
            ">DISK FREE",
        ];
        let mut table = Table::new(&columns);
        for (id, share) in &self.brokers {
            let broker = self.broker(*id);
            let state = match broker {
                None => Cell::bad("gone"),
                Some(broker) if broker.is_fenced => Cell::bad("fenced"),
                Some(_) if self.disks.get(id).is_some_and(Result::is_err) => Cell::bad("no answer"),
                Some(_) => Cell::good("up"),
            };
            let disk = self.disks.get(id).and_then(|disk| disk.as_ref().ok());
            table.row([
                id.to_string().into(),
                broker.map_or_else(String::new, address).into(),
                broker.and_then(|broker| broker.rack.as_deref()).unwrap_or_default().into(),
                state,
                self.role(*id).into(),
                share.replicas.to_string().into(),
                share.leaders.to_string().into(),
                if share.behind == 0 { Cell::from("0") } else { Cell::warn(share.behind.to_string()) },
                disk.map_or_else(String::new, |disk| bytes(disk.data)).into(),
                disk.map_or_else(|| Cell::from(""), free_cell),
            ]);
        }
        table
    }

    fn broker(&self, id: i32) -> Option<&DescribeClusterBroker> {
        self.cluster.brokers.iter().find(|broker| broker.broker_id == id)
    }

    fn role(&self, id: i32) -> &'static str {
        let has = |rows: Vec<i32>| rows.contains(&id);
        match &self.cluster.quorum {
            _ if self.controller == Some(id) => "controller",
            Some(quorum) if has(quorum.current_voters.iter().map(|row| row.replica_id).collect()) => "voter",
            Some(quorum) if has(quorum.observers.iter().map(|row| row.replica_id).collect()) => "observer",
            Some(_) | None => "",
        }
    }

    fn json(&self) -> Value {
        let places = |places: &BTreeSet<TopicPartition>| -> Vec<Value> {
            places.iter().map(|place| json!({ "topic": place.topic, "partition": place.partition })).collect()
        };
        let ids = |of: fn(&crate::wire::messages::describe_quorum::PartitionData) -> Vec<i32>| {
            self.cluster.quorum.as_ref().map(of)
        };
        let brokers = self.brokers.iter().map(|(id, share)| {
            let (broker, disk) = (self.broker(*id), self.disks.get(id));
            let known = disk.and_then(|disk| disk.as_ref().ok());
            let space = known.and_then(|disk| disk.space);
            json!({
                "id": id,
                "address": broker.map(address),
                "rack": broker.and_then(|broker| broker.rack.as_deref()),
                "fenced": broker.map(|broker| broker.is_fenced),
                "replicas": share.replicas,
                "leaders": share.leaders,
                "behind": share.behind,
                "dataBytes": known.map(|disk| disk.data),
                "totalBytes": space.map(|(total, _)| total),
                "usableBytes": space.map(|(_, usable)| usable),
                "error": disk.and_then(|disk| disk.as_ref().err()).map(ToString::to_string),
            })
        });
        json!({
            "clusterId": self.cluster.id,
            "controller": self.controller,
            "voters": ids(|quorum| quorum.current_voters.iter().map(|row| row.replica_id).collect()),
            "observers": ids(|quorum| quorum.observers.iter().map(|row| row.replica_id).collect()),
            "topics": self.topics,
            "partitions": self.partitions,
            "brokers": brokers.collect::<Vec<_>>(),
            "offline": places(&self.offline),
            "underReplicated": places(&self.under_replicated),
            "moving": places(&self.moving),
        })
    }
}

fn disk(client: &mut Client, broker: i32) -> Result<Disk, ClientError> {
    let size = |value: i64| u64::try_from(value).ok();
    let mut disk = Disk::default();
    for dir in client.log_dirs(broker)? {
        let partitions = dir.topics.iter().flat_map(|topic| &topic.partitions);
        disk.data += partitions.filter_map(|row| size(row.partition_size)).sum::<u64>();
        if let Some(space) = size(dir.total_bytes).zip(size(dir.usable_bytes)) {
            let before = disk.space.unwrap_or_default();
            disk.space = Some((before.0 + space.0, before.1 + space.1));
        }
    }
    Ok(disk)
}

fn free_cell(disk: &Disk) -> Cell {
    let Some((total, usable)) = disk.space else { return Cell::from("") };
    let percent = (usable * 100).checked_div(total).unwrap_or(0);
    let text = format!("{} ({percent} %)", bytes(usable));
    if usable < total / FREE_SHARE { Cell::bad(text) } else { text.into() }
}

fn address(broker: &DescribeClusterBroker) -> String {
    format!("{}:{}", broker.host, broker.port)
}

/// `orders:0,4-7 logs:2`, and how many topics more.
fn named(places: &BTreeSet<TopicPartition>) -> String {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    places.iter().for_each(|place| topics.entry(&place.topic).or_default().push(place.partition));
    let shown = topics.iter().take(NAMED_MAX);
    let mut words: Vec<String> =
        shown.map(|(topic, partitions)| format!("{topic}:{}", short_list(partitions.iter().copied()))).collect();
    if topics.len() > NAMED_MAX {
        words.push(format!("and {}", counted((topics.len() - NAMED_MAX) as u64, "more topic")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::describe_quorum::{PartitionData, ReplicaState};

    fn status() -> Status {
        let broker = |broker_id: i32, is_fenced| DescribeClusterBroker {
            broker_id,
            host: "h".into(),
            port: 9091 + broker_id,
            rack: Some(format!("r{broker_id}").into()),
            is_fenced,
        };
        let voter = |replica_id| ReplicaState { replica_id, ..Default::default() };
        let quorum = PartitionData {
            leader_id: 2,
            current_voters: vec![voter(1), voter(2)],
            observers: vec![voter(3)],
            ..Default::default()
        };
        let brokers = vec![broker(1, false), broker(2, false), broker(3, true)];
        let cluster = Cluster { id: "c".into(), brokers, quorum: Some(quorum) };
        let row = |partition_index: i32, leader_id: i32, isr: &[i32]| MetadataResponsePartition {
            partition_index,
            leader_id,
            replica_nodes: vec![1, 2, 3],
            isr_nodes: isr.to_vec(),
            ..Default::default()
        };
        let partitions = vec![row(0, 1, &[1, 2, 3]), row(1, 2, &[2, 1]), row(2, -1, &[]), row(3, 2, &[1, 2])];
        let topic = MetadataResponseTopic { name: Some("t".into()), partitions, ..Default::default() };
        let disks = BTreeMap::from([
            (1, Ok(Disk { data: 1_500_000, space: Some((1_000_000, 50_000)) })),
            (2, Err(ClientError::no_answer("nobody is there"))),
        ]);
        let moving = BTreeSet::from([TopicPartition { topic: "t".into(), partition: 3 }]);
        Status::of(cluster, &[topic], moving, disks)
    }

    #[test]
    fn a_status_shows_brokers_and_what_is_missing() {
        let expect = "\
Cluster c: 3 brokers, 1 topic, 4 partitions

BROKER  ADDRESS  RACK  STATE      METADATA    REPLICAS  LEADERS  BEHIND     DATA      DISK FREE
     1  h:9092   r1    up         voter              4        1       1  1.50 MB  50.0 kB (5 %)
     2  h:9093   r2    no answer  controller         4        2       1
     3  h:9094   r3    fenced     observer           4        0       3

1 partition offline: t:2
2 partitions under-replicated: t:1,3
1 partition being moved: t:3
Broker 2: nobody is there
";
        assert_eq!(status().text(Paint { is_coloured: false }), expect);
        let json = status().json();
        assert_eq!((&json["controller"], &json["voters"]), (&json!(2), &json!([1, 2])));
        assert_eq!(json["offline"], json!([{ "topic": "t", "partition": 2 }]));
        assert_eq!(json["brokers"][0]["usableBytes"], 50_000);
        assert_eq!(json["brokers"][1]["error"], "nobody is there");
    }

    #[test]
    fn many_topics_are_counted() {
        let places = (0..10).map(|topic| TopicPartition { topic: format!("t{topic}"), partition: 0 }).collect();
        assert!(named(&places).ends_with("t7:0 and 2 more topics"), "{}", named(&places));
    }
}
