//! `corelog quota`: how much users and clients may do.
//!
//! *Owns*: the subcommand, and the words for whom a quota is for. *Never*: knows which quotas a broker has.
//! *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{Arg, ArgGroup, ArgMatches, Command};
use serde_json::{Map, Value, json};

use crate::admin::tool::{self, Asked, Failure, Outcomes, Said, Verb, names, switch};
use crate::client::client::To;
use crate::client::error::{ClientError, Refusal};
use crate::terminal::table::Table;
use crate::wire::codec::Float64;
use crate::wire::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
};
use crate::wire::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

const VERBS: &[Verb] = &[
    Verb { command: list_command, run: list },
    Verb { command: set_command, run: set },
    Verb { command: unset_command, run: unset },
];

/// Kafka's types of entities: the flag that names one, the flag of the default one, the type.
const TYPES: [(&str, &str, &str); 3] =
    [("user", "default-user", "user"), ("client-id", "default-client-id", "client-id"), ("ip", "default-ip", "ip")];

/// How a component of DescribeClientQuotas is matched.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;

const QUOTAS: &str = "\
Kafka's quotas are producer_byte_rate and consumer_byte_rate (bytes a second), request_percentage (of a thread's time),
controller_mutation_rate (partitions a second) and connection_creation_rate (of an address). Whom a default is for has
no quota of their own.";

const CHANGED_JSON: &str = "\
--json prints an array of one object with name, entity (an object: type and name, null for the default), done, error
(null, or an object with code and message).";

pub fn command() -> Command {
    tool::command("quota", "Look at and change the quotas of users and clients", VERBS)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    tool::run(VERBS, matches)
}

fn with_entity(command: Command, is_required: bool) -> Command {
    let named = [
        ("user", "NAME", "For this user"),
        ("client-id", "ID", "For clients with this client id"),
        ("ip", "ADDRESS", "For connections from this address"),
    ];
    let defaults = [
        ("default-user", "For users who have nothing of their own"),
        ("default-client-id", "For clients that have nothing of their own"),
        ("default-ip", "For addresses that have nothing of their own"),
    ];
    let arg = |(name, value, help): (&'static str, &'static str, &'static str)| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading("For whom")
    };
    let mut command = command.args(named.map(arg));
    for (name, help) in defaults {
        let named = name.trim_start_matches("default-");
        command = command.arg(switch(name, help).help_heading("For whom").conflicts_with(named));
    }
    let all = TYPES.iter().flat_map(|(named, default, _)| [*named, *default]);
    command.group(ArgGroup::new("entity").args(all).required(is_required).multiple(true))
}

fn list_command() -> Command {
    with_entity(Command::new("list").about("Print the quotas"), false)
        .arg(switch("strict", "Only those for exactly what is said, and nothing besides"))
        .after_help(
            "--json prints an array of objects with entity (an object: type and name, null for the default) and quotas (an \
             object: name and value).\n\n\
             Examples:\n  corelog quota list\n  corelog quota list --user alice --json",
        )
}

fn set_command() -> Command {
    with_entity(Command::new("set").about("Set quotas"), true)
        .arg(names("pairs", "NAME=VALUE", "Quotas and their values").value_parser(parse_quota))
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .after_help(format!(
            "{QUOTAS}\n\n{CHANGED_JSON}\n\n\
             Examples:\n  corelog quota set --user alice producer_byte_rate=10485760\n  \
             corelog quota set --user alice --default-client-id consumer_byte_rate=1048576 request_percentage=50"
        ))
}

fn unset_command() -> Command {
    with_entity(Command::new("unset").about("Remove quotas"), true)
        .arg(names("names", "NAME", "Names of quotas"))
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .after_help(format!(
            "{QUOTAS}\n\n{CHANGED_JSON}\n\nExamples:\n  corelog quota unset --user alice producer_byte_rate"
        ))
}

fn parse_quota(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{text}` is no NAME=NUMBER, such as producer_byte_rate=1048576");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let number: f64 = value.trim().parse().map_err(|_| wrong())?;
    if name.trim().is_empty() || !number.is_finite() {
        Err(wrong())
    } else {
        Ok((name.trim().into(), value.trim().into()))
    }
}

/// Type and name of each part; no name for the default.
type Entity = Vec<(&'static str, Option<String>)>;

fn entity(matches: &ArgMatches) -> Entity {
    let part =
        |(named, default, kind): &(&'static str, &'static str, &'static str)| match matches.get_one::<String>(named) {
            Some(name) => Some((*kind, Some(name.clone()))),
            None => matches.get_flag(default).then_some((*kind, None)),
        };
    TYPES.iter().filter_map(part).collect()
}

fn words<'a>(parts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let word = |(kind, name): (&str, Option<&str>)| match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("default {kind}"),
    };
    parts.into_iter().map(word).collect::<Vec<_>>().join(", ")
}

fn entity_json<'a>(parts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Value {
    parts.into_iter().map(|(kind, name)| (kind.to_owned(), Value::from(name))).collect::<Map<_, _>>().into()
}

fn list(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let component = |(kind, name): &(&'static str, Option<String>)| ComponentData {
        entity_type: (*kind).into(),
        match_type: if name.is_some() { EXACT } else { DEFAULT },
        match_value: name.as_ref().map(Into::into),
    };
    let request = DescribeClientQuotasRequest {
        components: entity(asked.matches).iter().map(component).collect(),
        strict: asked.flag("strict"),
    };
    let codes = |reply: &DescribeClientQuotasResponse| vec![reply.error_code];
    let reply: DescribeClientQuotasResponse = asked.client.ask(To::Any, &request, codes)?;
    if let Some(refusal) = Refusal::of(reply.error_code, reply.error_message.as_deref()) {
        return Err(ClientError::refused("the quotas", &refusal).into());
    }
    let mut entries = reply.entries.unwrap_or_default();
    entries.sort_by_cached_key(|entry| {
        words(entry.entity.iter().map(|part| (part.entity_type.as_str(), part.entity_name.as_deref())))
    });
    let mut table = Table::new(&["FOR", "QUOTA", ">VALUE"]);
    let mut rows = Vec::new();
    for entry in &entries {
        let parts = || entry.entity.iter().map(|part| (part.entity_type.as_str(), part.entity_name.as_deref()));
        let mut quotas = Map::new();
        for quota in &entry.values {
            let value = quota.value.get();
            table.row([words(parts()).into(), quota.key.as_str().into(), value.to_string().into()]);
            quotas.insert(quota.key.to_string(), json!(value));
        }
        rows.push(json!({ "entity": entity_json(parts()), "quotas": quotas }));
    }
    let text = if table.is_empty() { "There is no quota.\n".to_owned() } else { table.text(asked.paint) };
    Ok(Said { text, json: rows.into(), is_done: true })
}

fn set(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let pairs = asked.matches.get_many::<(String, String)>("pairs").into_iter().flatten();
    let op = |(key, value): &(String, String)| OpData {
        key: key.into(),
        value: Float64::new(value.parse().expect("it was read before")),
        remove: false,
    };
    let ops = pairs.map(op).collect();
    change(asked, ops, "set")
}

fn unset(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let op = |key: String| OpData { key: key.into(), value: Float64::default(), remove: true };
    let ops = asked.all("names").into_iter().map(op).collect();
    change(asked, ops, "removed")
}

fn change(asked: &mut Asked<'_>, ops: Vec<OpData>, word: &str) -> Result<Said, Failure> {
    let (entity, dry) = (entity(asked.matches), asked.flag("dry-run"));
    let part = |(kind, name): &(&'static str, Option<String>)| EntityData {
        entity_type: (*kind).into(),
        entity_name: name.as_ref().map(Into::into),
    };
    let entry = EntryData { entity: entity.iter().map(part).collect(), ops };
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: dry };
    let codes = |reply: &AlterClientQuotasResponse| reply.entries.iter().map(|row| row.error_code).collect();
    let reply: AlterClientQuotasResponse = asked.client.ask(To::Controller, &request, codes)?;
    let parts = || entity.iter().map(|(kind, name)| (*kind, name.as_deref()));
    let mut outcomes = Outcomes::new("FOR", "name");
    for row in &reply.entries {
        let done = format!("{}{word}", if dry { "could be " } else { "" });
        let refusal = Refusal::of(row.error_code, row.error_message.as_deref());
        let more = json!({ "entity": entity_json(parts()) });
        outcomes.push(words(parts()), refusal.map_or(Ok(done), Err), more);
    }
    Ok(outcomes.said(asked.paint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_quota_is_for_has_words_and_an_object() {
        let check = |arguments: &[&str], expect: &str, json: Value| {
            let matches = set_command().try_get_matches_from([&["set", "a=1"], arguments].concat()).expect("right");
            let entity = entity(&matches);
            let parts = || entity.iter().map(|(kind, name)| (*kind, name.as_deref()));
            assert_eq!((words(parts()), entity_json(parts())), (expect.to_owned(), json), "{arguments:?}");
        };
        check(&["--user", "alice"], "user alice", json!({ "user": "alice" }));
        check(&["--default-client-id"], "default client-id", json!({ "client-id": null }));
        let both = json!({ "user": "alice", "client-id": null });
        check(&["--default-client-id", "--user", "alice"], "user alice, default client-id", both);
        check(&["--ip", "10.0.0.1"], "ip 10.0.0.1", json!({ "ip": "10.0.0.1" }));
    }

    #[test]
    fn quotas_are_numbers() {
        for (text, is_good) in [
            ("a=1", true),
            ("a=0.5", true),
            ("a=1e6", true),
            ("a=", false),
            ("=1", false),
            ("a=inf", false),
            ("a", false),
        ] {
            assert_eq!(parse_quota(text).is_ok(), is_good, "{text}");
        }
    }
}
