//! `corelog topic create`, `alter` and `delete`.
//!
//! *Owns*: the three commands. *Never*: checks what the broker checks. *Runs on*: the main thread.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::settings::{Resource, change_settings, changes, parse_pair};
use crate::admin::tool::{Asked, Failure, Outcomes, Said, names, switch};
use crate::client::client::To;
use crate::client::error::{ClientError, Refusal};
use crate::terminal::numbers::counted;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use crate::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};

const JSON: &str = "\
--json prints an array of objects with name, done, error (null, or an object with code and message)";

pub fn create_command() -> Command {
    Command::new("create")
        .about("Create topics")
        .arg(names("names", "TOPIC", "Names of new topics"))
        .arg(partitions_argument("How many each has [default: what the brokers have set]"))
        .arg(
            Arg::new("replication-factor")
                .long("replication-factor")
                .short('r')
                .value_name("N")
                .value_parser(value_parser!(i16).range(1..))
                .help("On how many brokers each partition is [default: what the brokers have set]"),
        )
        .arg(set_argument())
        .arg(switch("if-not-exists", "A topic that is there already is as good"))
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .after_help(format!(
            "{JSON},\nand of a topic that was created id, partitions, replicationFactor.\n\n\
             Examples:\n  corelog topic create orders --partitions 12\n  \
             corelog topic create a b --set retention.ms=3600000 --set cleanup.policy=compact --dry-run"
        ))
}

pub fn alter_command() -> Command {
    Command::new("alter")
        .about("Add partitions to topics, and change their settings")
        .arg(names("names", "TOPIC", "Names"))
        .arg(partitions_argument("How many there are to be, old and new together"))
        .arg(set_argument())
        .arg(
            Arg::new("unset")
                .long("unset")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("A setting that is to have the brokers' value again; may be repeated"),
        )
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .group(ArgGroup::new("change").args(["partitions", "set", "unset"]).required(true).multiple(true))
        .after_help(format!(
            "Settings come first; a topic whose settings are refused gets no partitions. With more partitions, records \
             with a key go to other partitions from then on.\n\n{JSON}.\n\n\
             Examples:\n  corelog topic alter orders --partitions 24\n  \
             corelog topic alter orders logs --set retention.ms=3600000 --unset max.message.bytes"
        ))
}

fn partitions_argument(help: &'static str) -> Arg {
    let arg = Arg::new("partitions").long("partitions").short('p').value_name("N").help(help);
    arg.value_parser(value_parser!(i32).range(1..))
}

fn set_argument() -> Arg {
    let arg = Arg::new("set").long("set").value_name("NAME=VALUE").action(ArgAction::Append);
    arg.value_parser(parse_pair).help("A setting; may be repeated")
}

pub fn delete_command() -> Command {
    Command::new("delete")
        .about("Delete topics, with all their records")
        .arg(names("names", "TOPIC", "Names"))
        .arg(switch("if-exists", "A topic that is not there is as good"))
        .after_help(format!(
            "{JSON}.\n\nExamples:\n  corelog topic delete orders\n  corelog topic delete a b --if-exists"
        ))
}

pub fn create(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let settings: Vec<&(String, String)> = asked.matches.get_many("set").into_iter().flatten().collect();
    let configs =
        settings.iter().map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    let configs: Vec<_> = configs.collect();
    let topic = |name: &String| CreatableTopic {
        name: name.into(),
        num_partitions: asked.matches.get_one("partitions").copied().unwrap_or(-1),
        replication_factor: asked.matches.get_one("replication-factor").copied().unwrap_or(-1),
        configs: configs.clone(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: asked.all("names").iter().map(topic).collect(),
        timeout_ms: asked.client.wait_ms(),
        validate_only: asked.flag("dry-run"),
    };
    let codes = |reply: &CreateTopicsResponse| reply.topics.iter().map(|topic| topic.error_code).collect();
    let reply = asked.client.ask(To::Controller, &request, codes)?;
    let (dry, lenient) = (asked.flag("dry-run"), asked.flag("if-not-exists"));
    let mut outcomes = Outcomes::new("TOPIC", "name");
    for topic in &reply.topics {
        let (result, more) = match Refusal::of(topic.error_code, topic.error_message.as_deref()) {
            Some(refusal) if lenient && refusal.error() == Some(ErrorCode::TopicAlreadyExists) => {
                (Ok("is there already".to_owned()), Value::Null)
            }
            Some(refusal) => (Err(refusal), Value::Null),
            None => (
                Ok(created_words(topic.num_partitions, topic.replication_factor, dry)),
                json!({
                    "id": topic.topic_id.to_string(),
                    "partitions": Some(topic.num_partitions).filter(|count| *count >= 0),
                    "replicationFactor": Some(topic.replication_factor).filter(|count| *count >= 0),
                }),
            ),
        };
        outcomes.push(topic.name.as_str(), result, more);
    }
    Ok(outcomes.said(asked.paint))
}

fn created_words(partitions: i32, replication_factor: i16, dry: bool) -> String {
    let done = if dry { "could be created" } else { "created" };
    match u64::try_from(partitions) {
        Ok(partitions) => {
            format!("{done}: {}, replication factor {replication_factor}", counted(partitions, "partition"))
        }
        // Before version 5 of the API brokers do not say.
        Err(_) => done.to_owned(),
    }
}

pub fn alter(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let (names, dry) = (asked.all("names"), asked.flag("dry-run"));
    let changes = changes(asked.matches, "set", "unset");
    let mut results: Vec<(String, Result<Vec<String>, Refusal>)> =
        names.iter().map(|name| (name.clone(), Ok(Vec::new()))).collect();
    if !changes.is_empty() {
        let resources: Vec<Resource> = names.iter().cloned().map(Resource::Topic).collect();
        let words =
            format!("{}{}", counted(changes.len() as u64, "setting"), if dry { " could change" } else { " changed" });
        for ((_, result), done) in
            results.iter_mut().zip(change_settings(&mut asked.client, &resources, &changes, dry)?)
        {
            *result = done.map(|()| vec![words.clone()]);
        }
    }
    if let Some(&count) = asked.matches.get_one::<i32>("partitions") {
        let words = format!("{} {}", if dry { "could have" } else { "has" }, counted(count as u64, "partition"));
        let fit: Vec<&String> = results.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name).collect();
        let refusals = add_partitions(asked, &fit, count)?;
        for (name, result) in &mut results {
            match (result.as_mut(), refusals.get(name)) {
                (Ok(_), Some(refusal)) => *result = Err(refusal.clone()),
                (Ok(done), None) => done.push(words.clone()),
                (Err(_), _) => {}
            }
        }
    }
    let mut outcomes = Outcomes::new("TOPIC", "name");
    for (name, result) in results {
        outcomes.push(name, result.map(|done| done.join(", ")), Value::Null);
    }
    Ok(outcomes.said(asked.paint))
}

/// Those that were refused.
fn add_partitions(
    asked: &mut Asked<'_>,
    names: &[&String],
    count: i32,
) -> Result<BTreeMap<String, Refusal>, ClientError> {
    let topic = |name: &&String| CreatePartitionsTopic { name: (*name).into(), count, assignments: None };
    let request = CreatePartitionsRequest {
        topics: names.iter().map(topic).collect(),
        timeout_ms: asked.client.wait_ms(),
        validate_only: asked.flag("dry-run"),
    };
    let codes = |reply: &CreatePartitionsResponse| reply.results.iter().map(|row| row.error_code).collect();
    let reply: CreatePartitionsResponse = asked.client.ask(To::Controller, &request, codes)?;
    let refused = reply
        .results
        .iter()
        .filter_map(|row| Some((row.name.to_string(), Refusal::of(row.error_code, row.error_message.as_deref())?)));
    Ok(refused.collect())
}

pub fn delete(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let names = asked.all("names");
    let topic = |name: &String| DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let request = DeleteTopicsRequest {
        topics: names.iter().map(topic).collect(),
        topic_names: names.iter().map(Into::into).collect(),
        timeout_ms: asked.client.wait_ms(),
    };
    let codes = |reply: &DeleteTopicsResponse| reply.responses.iter().map(|row| row.error_code).collect();
    let reply = asked.client.ask(To::Controller, &request, codes)?;
    let lenient = asked.flag("if-exists");
    let mut outcomes = Outcomes::new("TOPIC", "name");
    for row in &reply.responses {
        let result = match Refusal::of(row.error_code, row.error_message.as_deref()) {
            Some(refusal) if lenient && refusal.error() == Some(ErrorCode::UnknownTopicOrPartition) => {
                Ok("is not there".to_owned())
            }
            Some(refusal) => Err(refusal),
            None => Ok("deleted".to_owned()),
        };
        outcomes.push(row.name.as_deref().unwrap_or_default(), result, Value::Null);
    }
    Ok(outcomes.said(asked.paint))
}
