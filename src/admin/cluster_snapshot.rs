//! `corelog cluster snapshot`: what a cluster is made of, to be kept, compared and sent to somebody.
//!
//! Nothing of it changes by itself, as sizes and offsets do: where two snapshots differ, somebody has changed something
//! or something has happened to a broker.
//!
//! *Owns*: the command. *Never*: changes anything, or tells values that are to be hidden. *Runs on*: the main thread.

use std::fs;
use std::path::PathBuf;

use clap::{Arg, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::settings::{DEFAULT_SOURCE, Resource, setting_json, settings, source_words, value_text};
use crate::admin::tool::{Asked, Failure, Said};
use crate::admin::topic::{list_of, name_of};
use crate::client::client::Client;
use crate::client::cluster::Cluster;
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::messages::describe_cluster::DescribeClusterBroker;
use crate::wire::messages::describe_configs::DescribeConfigsResourceResult;
use crate::wire::messages::describe_quorum::{PartitionData, ReplicaState};
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};

pub fn command() -> Command {
    let out = Arg::new("out").long("out").value_name("FILE").value_parser(value_parser!(PathBuf));
    Command::new("snapshot")
        .about("Print or write what a cluster is made of: brokers, topics, partitions and settings")
        .arg(out.help("Write it there, in the place of what is there"))
        .after_help(
            "It is what one broker knows, with the settings of each broker as that one tells them: those that are not \
             the default. Its version is how far the metadata is committed: of two snapshots the greater is the \
             later.\n\n\
             --json prints an object with clusterId, version, controller, controllerEpoch, voters, observers (the last \
             five null where the broker does not tell), brokers, topics, settings, missing. A broker has id, address, \
             rack, fenced; a topic has name, id, internal, partitions; a partition has partition, leader, leaderEpoch, \
             replicas, inSync, offline; a setting has kind, of, name, value, source, readOnly, sensitive. Missing are \
             those whose settings could not be had, with kind, of, error.\n\n\
             Examples:\n  corelog cluster snapshot --out before.txt\n  \
             corelog cluster snapshot | diff before.txt -\n  \
             corelog cluster snapshot --bootstrap broker1:9092 --json --out cluster.json",
        )
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let snapshot = Snapshot::take(&mut asked.client)?;
    let is_done = snapshot.missing.is_empty();
    let Some(path) = asked.matches.get_one::<PathBuf>("out") else {
        return Ok(Said { text: snapshot.text(asked.paint), json: snapshot.json(), is_done });
    };
    // Colours are for terminals.
    let plain = Paint { is_coloured: false };
    let content = if asked.flag("json") { format!("{:#}\n", snapshot.json()) } else { snapshot.text(plain) };
    let path = path.display();
    fs::write(path.to_string(), content).map_err(|error| {
        Failure::NotDone(format!("{path} cannot be written: {error}; what is in it is not complete"))
    })?;
    Ok(Said { text: format!("{path}\n"), json: json!({ "out": path.to_string() }), is_done })
}

/// The cluster at one time.
struct Snapshot {
    cluster: Cluster,
    topics: Vec<MetadataResponseTopic>,
    /// Those that are not the default.
    settings: Vec<(Resource, Vec<DescribeConfigsResourceResult>)>,
    /// Whose settings could not be had, and why.
    missing: Vec<(Resource, String)>,
}

impl Snapshot {
    fn take(client: &mut Client) -> Result<Snapshot, Failure> {
        let cluster = client.cluster()?;
        let topics = client.topics(None)?;
        let brokers = cluster.brokers.iter().map(|broker| Resource::Broker(broker.broker_id));
        let named = topics.iter().map(|topic| Resource::Topic(name_of(topic).to_owned()));
        let resources: Vec<Resource> = [Resource::Brokers].into_iter().chain(brokers).chain(named).collect();
        let mut snapshot = Snapshot { cluster, topics, settings: Vec::new(), missing: Vec::new() };
        for resource in resources {
            match settings(client, &resource, false) {
                Ok(settings) => snapshot.settings.push((resource, settings)),
                Err(failure) => snapshot.missing.push((resource, failure.text())),
            }
        }
        snapshot.sort();
        Ok(snapshot)
    }

    /// In an order that does not depend on who was asked.
    fn sort(&mut self) {
        self.cluster.brokers.sort_by_key(|broker| broker.broker_id);
        self.topics.sort_by(|a, b| name_of(a).cmp(name_of(b)));
        self.topics.iter_mut().for_each(|topic| topic.partitions.sort_by_key(|row| row.partition_index));
        let is_set = |setting: &DescribeConfigsResourceResult, of: &Resource| match of {
            // What a broker has of all brokers, and a topic of its broker, is told there.
            Resource::Broker(_) => [2, 4].contains(&setting.config_source),
            Resource::Topic(_) => setting.config_source == 1,
            _ => setting.config_source != DEFAULT_SOURCE,
        };
        self.settings.iter_mut().for_each(|(of, rows)| rows.retain(|setting| is_set(setting, of)));
        self.settings.sort_by_key(|(of, _)| rank(of));
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = format!("Cluster {}\n{}", self.cluster.id, self.quorum_text());
        for table in [self.brokers_table(), self.partitions_table(), self.settings_table()] {
            if !table.is_empty() {
                text += &format!("\n{}", table.text(paint));
            }
        }
        if !self.missing.is_empty() {
            text.push('\n');
        }
        for (of, why) in &self.missing {
            text += &format!("{}\n", paint.bad(&format!("Settings of {} are not known: {why}", of.words())));
        }
        text
    }

    fn quorum_text(&self) -> String {
        let Some(quorum) = &self.cluster.quorum else { return "Who decides on metadata is not told.\n".to_owned() };
        let controller = if quorum.leader_id < 0 { "nobody".to_owned() } else { quorum.leader_id.to_string() };
        let followers = [("voters", &quorum.current_voters), ("observers", &quorum.observers)];
        let followers = followers.map(|(what, rows)| format!("{what} {}", list_of(&ids(rows))));
        format!(
            "Version {}, controller {controller} in epoch {}; {}\n",
            quorum.high_watermark,
            quorum.leader_epoch,
            followers.iter().filter(|words| !words.ends_with(' ')).cloned().collect::<Vec<_>>().join(", ")
        )
    }

    fn brokers_table(&self) -> Table {
        let mut table = Table::new(&[">BROKER", "ADDRESS", "RACK", "STATE"]);
        for broker in &self.cluster.brokers {
            table.row([
                broker.broker_id.to_string().into(),
                address(broker).into(),
                broker.rack.as_deref().unwrap_or_default().into(),
                if broker.is_fenced { Cell::bad("fenced") } else { Cell::good("up") },
            ]);
        }
        table
    }

    fn partitions_table(&self) -> Table {
        let mut table = Table::new(&["TOPIC", "ID", ">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "IN SYNC"]);
        for topic in &self.topics {
            for row in &topic.partitions {
                table.row([
                    name_of(topic).into(),
                    topic.topic_id.to_string().into(),
                    row.partition_index.to_string().into(),
                    if row.leader_id < 0 { Cell::bad("none") } else { row.leader_id.to_string().into() },
                    row.leader_epoch.to_string().into(),
                    list_of(&row.replica_nodes).into(),
                    list_of(&in_sync(row)).into(),
                ]);
            }
        }
        table
    }

    fn settings_table(&self) -> Table {
        let mut table = Table::new(&["OF", "SETTING", "VALUE", "FROM"]);
        for (of, rows) in &self.settings {
            for setting in rows {
                table.row([
                    of.words().into(),
                    setting.name.as_str().into(),
                    value_text(setting.value.as_deref(), setting.is_sensitive).into(),
                    source_words(setting.config_source).1.into(),
                ]);
            }
        }
        table
    }

    fn json(&self) -> Value {
        let quorum = self.cluster.quorum.as_ref();
        let of_quorum = |of: fn(&PartitionData) -> Value| quorum.map(of);
        let settings = self.settings.iter().flat_map(|(of, rows)| {
            rows.iter().map(move |setting| {
                let mut row = setting_json(setting, false);
                (row["kind"], row["of"]) = (kind(of).into(), of.name().into());
                row
            })
        });
        let missing = self.missing.iter().map(|(of, why)| json!({ "kind": kind(of), "of": of.name(), "error": why }));
        json!({
            "clusterId": self.cluster.id,
            "version": of_quorum(|quorum| quorum.high_watermark.into()),
            "controller": of_quorum(|quorum| Some(quorum.leader_id).filter(|id| *id >= 0).into()),
            "controllerEpoch": of_quorum(|quorum| quorum.leader_epoch.into()),
            "voters": of_quorum(|quorum| ids(&quorum.current_voters).into()),
            "observers": of_quorum(|quorum| ids(&quorum.observers).into()),
            "brokers": self.cluster.brokers.iter().map(broker_json).collect::<Value>(),
            "topics": self.topics.iter().map(topic_json).collect::<Value>(),
            "settings": settings.collect::<Value>(),
            "missing": missing.collect::<Value>(),
        })
    }
}

fn broker_json(broker: &DescribeClusterBroker) -> Value {
    json!({
        "id": broker.broker_id,
        "address": address(broker),
        "rack": broker.rack.as_deref(),
        "fenced": broker.is_fenced,
    })
}

fn topic_json(topic: &MetadataResponseTopic) -> Value {
    let partition = |row: &MetadataResponsePartition| {
        json!({
            "partition": row.partition_index,
            "leader": row.leader_id,
            "leaderEpoch": row.leader_epoch,
            "replicas": row.replica_nodes,
            "inSync": in_sync(row),
            "offline": row.offline_replicas,
        })
    };
    json!({
        "name": name_of(topic),
        "id": topic.topic_id.to_string(),
        "internal": topic.is_internal,
        "partitions": topic.partitions.iter().map(partition).collect::<Value>(),
    })
}

fn ids(rows: &[ReplicaState]) -> Vec<i32> {
    let mut ids: Vec<i32> = rows.iter().map(|row| row.replica_id).collect();
    ids.sort_unstable();
    ids
}

/// By their ids: in which order they came to be in sync says nothing.
fn in_sync(row: &MetadataResponsePartition) -> Vec<i32> {
    let mut ids = row.isr_nodes.clone();
    ids.sort_unstable();
    ids
}

fn address(broker: &DescribeClusterBroker) -> String {
    format!("{}:{}", broker.host, broker.port)
}

/// First brokers, by their numbers.
fn rank(of: &Resource) -> (u8, i32, String) {
    match of {
        Resource::Brokers => (0, 0, String::new()),
        Resource::Broker(id) => (1, *id, String::new()),
        Resource::Topic(_) | Resource::Group(_) | Resource::ClientMetrics(_) => (2, 0, of.name()),
    }
}

fn kind(of: &Resource) -> &'static str {
    match of {
        Resource::Topic(_) => "topic",
        Resource::Broker(_) => "broker",
        Resource::Brokers => "brokers",
        Resource::Group(_) => "group",
        Resource::ClientMetrics(_) => "clientMetrics",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    fn setting(name: &str, value: &str, config_source: i8) -> DescribeConfigsResourceResult {
        let (name, value) = (name.into(), Some(value.into()));
        DescribeConfigsResourceResult { name, value, config_source, ..Default::default() }
    }

    fn snapshot() -> Snapshot {
        let broker = |broker_id: i32, is_fenced| DescribeClusterBroker {
            broker_id,
            host: "h".into(),
            port: 9091 + broker_id,
            rack: None,
            is_fenced,
        };
        let member = |replica_id| ReplicaState { replica_id, ..Default::default() };
        let quorum = PartitionData {
            leader_id: 2,
            leader_epoch: 7,
            high_watermark: 40,
            current_voters: vec![member(2)],
            observers: vec![member(10)],
            ..Default::default()
        };
        let row = |partition_index, leader_id, isr: &[i32]| MetadataResponsePartition {
            partition_index,
            leader_id,
            leader_epoch: 3,
            replica_nodes: vec![10, 2],
            isr_nodes: isr.to_vec(),
            ..Default::default()
        };
        let topic = |name: &str, partitions| MetadataResponseTopic {
            name: Some(name.into()),
            topic_id: TopicId([1; 16]),
            partitions,
            ..Default::default()
        };
        let mut snapshot = Snapshot {
            cluster: Cluster {
                id: "c".into(),
                brokers: vec![broker(10, true), broker(2, false)],
                quorum: Some(quorum),
            },
            topics: vec![topic("b", vec![row(1, -1, &[]), row(0, 2, &[10, 2])]), topic("a", vec![row(0, 2, &[2])])],
            settings: vec![
                (Resource::Topic("a".into()), vec![setting("retention.ms", "5", 1), setting("x", "1", 4)]),
                (Resource::Broker(10), vec![setting("num.partitions", "2", 4), setting("y", "1", 5)]),
                (Resource::Broker(2), vec![setting("num.partitions", "3", 4), setting("z", "1", 3)]),
                (Resource::Brokers, vec![setting("z", "1", 3)]),
            ],
            missing: vec![(Resource::Topic("b".into()), "it is gone".into())],
        };
        snapshot.sort();
        snapshot
    }

    #[test]
    fn a_snapshot_is_the_same_whoever_tells_it() {
        let id = TopicId([1; 16]);
        let expect = format!(
            "\
Cluster c
Version 40, controller 2 in epoch 7; voters 2, observers 10

BROKER  ADDRESS  RACK  STATE
     2  h:9093         up
    10  h:9101         fenced

TOPIC  ID                                    PARTITION  LEADER  EPOCH  REPLICAS  IN SYNC
a      {id}          0       2      3  10,2      2
b      {id}          0       2      3  10,2      2,10
b      {id}          1    none      3  10,2

OF           SETTING         VALUE  FROM
all brokers  z               1      all brokers, dynamic
broker 2     num.partitions  3      broker's start
broker 10    num.partitions  2      broker's start
topic a      retention.ms    5      topic

Settings of topic b are not known: it is gone
"
        );
        let snapshot = snapshot();
        assert_eq!(snapshot.text(Paint { is_coloured: false }), expect);
        let json = snapshot.json();
        assert_eq!((&json["version"], &json["voters"], &json["observers"]), (&json!(40), &json!([2]), &json!([10])));
        assert_eq!(json["topics"][1]["partitions"][0]["inSync"], json!([2, 10]));
        let first = &json["settings"][0];
        assert_eq!((&first["kind"], &first["of"], &first["name"]), (&json!("brokers"), &json!(""), &json!("z")));
        assert_eq!(json["missing"], json!([{ "kind": "topic", "of": "b", "error": "it is gone" }]));
    }
}
