//! `corelog topic`: which topics there are, and what they are like.
//!
//! *Owns*: the subcommand, and its commands that change nothing. *Never*: changes a topic (`topic_change` does).
//! *Runs on*: the main thread.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use crate::admin::advice::advice;
use crate::admin::settings::{DEFAULT_SOURCE, Resource, setting_json, settings, source_words, value_text};
use crate::admin::tool::{self, Asked, Failure, Said, Verb, is_like, names, refusal_json, switch};
use crate::admin::{topic_change, topic_trim};
use crate::client::client::Client;
use crate::client::error::{Kind, Refusal};
use crate::client::offsets::{Moment, Offsets, TopicPartition};
use crate::terminal::numbers::{count, counted};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::messages::describe_configs::DescribeConfigsResourceResult;
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};

const VERBS: &[Verb] = &[
    Verb { command: list_command, run: list },
    Verb { command: describe_command, run: describe },
    Verb { command: topic_change::create_command, run: topic_change::create },
    Verb { command: topic_change::alter_command, run: topic_change::alter },
    Verb { command: topic_trim::command, run: topic_trim::run },
    Verb { command: topic_change::delete_command, run: topic_change::delete },
];

pub fn command() -> Command {
    tool::command("topic", "Look at, create, change, trim and delete topics", VERBS)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    tool::run(VERBS, matches)
}

fn list_command() -> Command {
    Command::new("list")
        .about("Print the topics")
        .arg(Arg::new("patterns").value_name("TOPIC").num_args(0..).help("Names, in which * stands for any characters"))
        .arg(switch("internal", "Also topics that the brokers keep for themselves"))
        .after_help(
            "--json prints an array of objects with name, id, internal, partitions, replicationFactor, error (null, or an \
             object with code and message).\n\n\
             Examples:\n  corelog topic list\n  corelog topic list 'orders-*' --json",
        )
}

fn describe_command() -> Command {
    Command::new("describe")
        .about("Print the partitions of topics, their offsets, and the settings that are not the default")
        .arg(names("names", "TOPIC", "Names, in which * stands for any characters"))
        .after_help(
            "--json prints an array of objects with name, id, internal, error, partitions, settings. A partition has \
             partition, leader, leaderEpoch, replicas, inSync, offline, startOffset, endOffset, error; settings (null \
             where the broker does not tell them) have what `corelog config list --json` prints.\n\n\
             Examples:\n  corelog topic describe orders\n  corelog topic describe 'orders-*' --json",
        )
}

/// The topics that patterns mean, in the order of their names. A name that no topic has comes with its error.
fn found(client: &mut Client, patterns: &[String]) -> Result<Vec<MetadataResponseTopic>, Failure> {
    let exact = !patterns.is_empty() && patterns.iter().all(|pattern| !pattern.contains('*'));
    let mut topics = client.topics(exact.then_some(patterns))?;
    if !exact {
        let name = |topic: &MetadataResponseTopic| topic.name.as_deref().unwrap_or_default().to_owned();
        topics.retain(|topic| patterns.is_empty() || patterns.iter().any(|p| is_like(p, &name(topic))));
        let missing = patterns.iter().find(|p| !topics.iter().any(|topic| is_like(p, &name(topic))));
        if let Some(pattern) = missing {
            return Err(Failure::NotDone(format!("no topic is like {pattern}")));
        }
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics.dedup_by(|a, b| a.name == b.name);
    Ok(topics)
}

fn list(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let patterns = asked.all("patterns");
    let mut topics = found(&mut asked.client, &patterns)?;
    topics.retain(|topic| !topic.is_internal || asked.flag("internal"));
    let mut table = Table::new(&["TOPIC", ">PARTITIONS", ">REPLICAS", "STATE"]);
    let mut rows = Vec::new();
    for topic in &topics {
        let refusal = Refusal::of(topic.error_code, None);
        let state = match &refusal {
            Some(refusal) => Cell::bad(refusal.to_string()),
            None => state(topic),
        };
        let partitions = count(topic.partitions.len() as u64);
        let replicas = replication_factor(topic);
        table.row([name_of(topic).into(), partitions.into(), replicas.to_string().into(), state]);
        rows.push(json!({
            "name": name_of(topic),
            "id": topic.topic_id.to_string(),
            "internal": topic.is_internal,
            "partitions": topic.partitions.len(),
            "replicationFactor": replicas,
            "error": refusal.as_ref().map(refusal_json),
        }));
    }
    let text = if table.is_empty() { "There is no topic.\n".to_owned() } else { table.text(asked.paint) };
    Ok(Said { text, json: rows.into(), is_done: topics.iter().all(|topic| topic.error_code == 0) })
}

fn describe(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let names = asked.all("names");
    let topics = found(&mut asked.client, &names)?;
    let places: BTreeSet<TopicPartition> = topics.iter().flat_map(places).collect();
    let starts = asked.client.offsets(&places, Moment::Start)?;
    let ends = asked.client.offsets(&places, Moment::End)?;
    let mut texts = Vec::new();
    let mut rows = Vec::new();
    for topic in &topics {
        let mut described = Described { topic, starts: &starts, ends: &ends, settings: None };
        if topic.error_code == 0 {
            let found = settings(&mut asked.client, &Resource::Topic(name_of(topic).to_owned()), false);
            described.settings = match found {
                // All else is worth telling.
                Err(Failure::Client(error)) if error.kind == Kind::NotSpoken => None,
                found => Some(found?),
            };
        }
        texts.push(described.text(asked.paint));
        rows.push(described.json());
    }
    let is_done = topics.iter().all(|topic| topic.error_code == 0);
    Ok(Said { text: texts.join("\n"), json: rows.into(), is_done })
}

struct Described<'a> {
    topic: &'a MetadataResponseTopic,
    starts: &'a Offsets,
    ends: &'a Offsets,
    /// Where the broker tells them.
    settings: Option<Vec<DescribeConfigsResourceResult>>,
}

impl Described<'_> {
    fn text(&self, paint: Paint) -> String {
        let topic = self.topic;
        if let Some(refusal) = Refusal::of(topic.error_code, None) {
            let advice = refusal.error().and_then(advice).unwrap_or_default();
            return format!("{}  {}\n{advice}\n", name_of(topic), paint.bad(&refusal.to_string()));
        }
        let head = paint.head(name_of(topic));
        let internal = if topic.is_internal { ", internal" } else { "" };
        let mut text = format!(
            "{head}  {}, replication factor {}{internal}, id {}\n",
            counted(topic.partitions.len() as u64, "partition"),
            replication_factor(topic),
            topic.topic_id
        );
        let mut table = Table::new(&[
            ">PARTITION",
            ">LEADER",
            ">EPOCH",
            "REPLICAS",
            "IN SYNC",
            ">START",
            ">END",
            ">RECORDS",
            "STATE",
        ]);
        for row in self.partitions() {
            let (start, end) = (self.offset(self.starts, row), self.offset(self.ends, row));
            let shown = |offset: &Result<i64, Refusal>| offset.as_ref().map_or("–".to_owned(), i64::to_string);
            let records = match (&start, &end) {
                (Ok(start), Ok(end)) => count(end.saturating_sub(*start).max(0) as u64),
                _ => "–".to_owned(),
            };
            let state = match (&Refusal::of(row.error_code, None), &end) {
                (Some(refusal), _) | (None, Err(refusal)) => Cell::bad(refusal.to_string()),
                (None, Ok(_)) if row.isr_nodes.len() < row.replica_nodes.len() => Cell::warn("replicas behind"),
                (None, Ok(_)) => Cell::from(""),
            };
            let leader = if row.leader_id < 0 { Cell::bad("none") } else { row.leader_id.to_string().into() };
            table.row([
                row.partition_index.to_string().into(),
                leader,
                row.leader_epoch.to_string().into(),
                list_of(&row.replica_nodes).into(),
                list_of(&row.isr_nodes).into(),
                shown(&start).into(),
                shown(&end).into(),
                records.into(),
                state,
            ]);
        }
        text += &table.text(paint);
        let Some(changed) = self.changed() else { return text + "The broker does not tell settings.\n" };
        for setting in &changed {
            let value = value_text(setting.value.as_deref(), setting.is_sensitive);
            text += &format!("{} = {value}  ({})\n", setting.name.as_str(), source_words(setting.config_source).1);
        }
        if changed.is_empty() {
            text += "All settings are the default.\n";
        }
        text
    }

    fn json(&self) -> Value {
        let partition = |row: &MetadataResponsePartition| {
            let (start, end) = (self.offset(self.starts, row), self.offset(self.ends, row));
            let refusal = Refusal::of(row.error_code, None).or_else(|| end.as_ref().err().cloned());
            json!({
                "partition": row.partition_index,
                "leader": row.leader_id,
                "leaderEpoch": row.leader_epoch,
                "replicas": row.replica_nodes,
                "inSync": row.isr_nodes,
                "offline": row.offline_replicas,
                "startOffset": start.ok(),
                "endOffset": end.ok(),
                "error": refusal.as_ref().map(refusal_json),
            })
        };
        let settings =
            self.changed().map(|changed| -> Value { changed.iter().map(|row| setting_json(row, false)).collect() });
        json!({
            "name": name_of(self.topic),
            "id": self.topic.topic_id.to_string(),
            "internal": self.topic.is_internal,
            "error": Refusal::of(self.topic.error_code, None).as_ref().map(refusal_json),
            "partitions": self.partitions().into_iter().map(partition).collect::<Value>(),
            "settings": settings,
        })
    }

    fn changed(&self) -> Option<Vec<&DescribeConfigsResourceResult>> {
        let settings = self.settings.as_ref()?.iter();
        Some(settings.filter(|setting| setting.config_source != DEFAULT_SOURCE).collect())
    }

    fn partitions(&self) -> Vec<&MetadataResponsePartition> {
        let mut rows: Vec<_> = self.topic.partitions.iter().collect();
        rows.sort_by_key(|row| row.partition_index);
        rows
    }

    fn offset(&self, offsets: &Offsets, row: &MetadataResponsePartition) -> Result<i64, Refusal> {
        let place = TopicPartition { topic: name_of(self.topic).to_owned(), partition: row.partition_index };
        // The start and the end of a log are there, whatever is in it.
        offsets.get(&place).map_or(Ok(-1), |found| found.clone().map(|offset| offset.unwrap_or(-1)))
    }
}

/// The partitions of a topic.
pub fn places(topic: &MetadataResponseTopic) -> impl Iterator<Item = TopicPartition> {
    let rows = topic.partitions.iter();
    rows.map(|row| TopicPartition { topic: name_of(topic).to_owned(), partition: row.partition_index })
}

pub fn name_of(topic: &MetadataResponseTopic) -> &str {
    topic.name.as_deref().unwrap_or_default()
}

fn replication_factor(topic: &MetadataResponseTopic) -> usize {
    topic.partitions.iter().map(|row| row.replica_nodes.len()).max().unwrap_or(0)
}

fn state(topic: &MetadataResponseTopic) -> Cell {
    let leaderless = topic.partitions.iter().filter(|row| row.leader_id < 0).count();
    let behind = topic.partitions.iter().filter(|row| row.isr_nodes.len() < row.replica_nodes.len()).count();
    match (leaderless, behind) {
        (0, 0) if topic.is_internal => Cell::from("internal"),
        (0, 0) => Cell::from(""),
        (0, behind) => Cell::warn(format!("replicas behind in {behind}")),
        (leaderless, _) => Cell::bad(format!("no leader of {leaderless}")),
    }
}

/// Numbers of brokers, in their order.
pub fn list_of(nodes: &[i32]) -> String {
    nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
