//! `corelog config`: the settings of topics, brokers, groups and subscriptions to the metrics of clients.
//!
//! *Owns*: the subcommand and its tables. *Never*: checks a value (the broker does). *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{Arg, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::Value;

use crate::admin::settings::{
    DEFAULT_SOURCE, Resource, change_settings, changes, parse_pair, setting_json, setting_text, settings, source_words,
    value_text,
};
use crate::admin::tool::{self, Asked, Failure, Outcomes, Said, Verb, is_like, names, switch};
use crate::config::nearest;
use crate::terminal::table::{Cell, Table};
use crate::wire::messages::describe_configs::DescribeConfigsResourceResult;

const VERBS: &[Verb] = &[
    Verb { command: get_command, run: get },
    Verb { command: list_command, run: list },
    Verb { command: set_command, run: set },
    Verb { command: unset_command, run: unset },
];

const CHANGED_JSON: &str = "\
All of the changes are made, or none.

--json prints an array of one object with name, done, error (null, or an object with code and message).";

const JSON: &str = "\
--json prints an array of objects with name, value (null where it is sensitive), source, readOnly, sensitive; with
--explain also type, documentation, and synonyms: an array of name, value, source, the value in force first.";

pub fn command() -> Command {
    tool::command("config", "Look at and change settings of topics, brokers and groups", VERBS)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    tool::run(VERBS, matches)
}

fn get_command() -> Command {
    of_resource("get")
        .about("Print settings by name")
        .arg(names("names", "SETTING", "Names, in which * stands for any characters"))
        .arg(switch("explain", "Also what each means, and the values that it hides"))
        .after_help(format!(
            "{JSON}\n\nExamples:\n  corelog config get --topic orders retention.ms\n  \
             corelog config get --broker 1 'log.*' --explain"
        ))
}

fn list_command() -> Command {
    of_resource("list")
        .about("Print all settings")
        .arg(switch("changed", "Only those that are not the default"))
        .arg(switch("explain", "Also what each means, and the values that it hides"))
        .after_help(format!(
            "{JSON}\n\nExamples:\n  corelog config list --topic orders --changed\n  \
             corelog config list --broker 1 --json"
        ))
}

fn set_command() -> Command {
    of_resource("set")
        .about("Change settings")
        .arg(names("pairs", "NAME=VALUE", "Settings and their values").value_parser(parse_pair))
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .after_help(format!(
            "{CHANGED_JSON}\n\nExamples:\n  corelog config set --topic orders retention.ms=3600000 cleanup.policy=compact\n  \
             corelog config set --broker all log.retention.ms=86400000 --dry-run\n  \
             corelog config set --client-metrics all metrics='*' interval.ms=10000"
        ))
}

fn unset_command() -> Command {
    of_resource("unset")
        .about("Let settings have the values again that they have where nothing is set")
        .arg(names("names", "SETTING", "Names"))
        .arg(switch("dry-run", "Only ask whether it could be done"))
        .after_help(format!("{CHANGED_JSON}\n\nExamples:\n  corelog config unset --topic orders retention.ms"))
}

fn of_resource(verb: &'static str) -> Command {
    let arg = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).help(help)
    };
    Command::new(verb)
        .arg(arg("topic", "NAME", "Of this topic"))
        .arg(
            arg("broker", "ID", "Of this broker, or of `all` brokers: what those have that have nothing of their own")
                .value_parser(parse_broker),
        )
        .arg(arg("group", "NAME", "Of this group").value_parser(value_parser!(String)))
        .arg(arg("client-metrics", "NAME", "Of this subscription to what clients measure"))
        .group(ArgGroup::new("resource").args(["topic", "broker", "group", "client-metrics"]).required(true))
}

/// `None`: all brokers.
fn parse_broker(text: &str) -> Result<Option<i32>, String> {
    match text.parse::<i32>() {
        Ok(id) if id >= 0 => Ok(Some(id)),
        _ if text == "all" => Ok(None),
        _ => Err(format!("`{text}` is no broker's number, nor `all`")),
    }
}

fn resource(matches: &ArgMatches) -> Resource {
    if let Some(name) = matches.get_one::<String>("topic") {
        return Resource::Topic(name.clone());
    }
    if let Some(name) = matches.get_one::<String>("group") {
        return Resource::Group(name.clone());
    }
    if let Some(name) = matches.get_one::<String>("client-metrics") {
        return Resource::ClientMetrics(name.clone());
    }
    match matches.get_one::<Option<i32>>("broker").expect("clap asks for one of the four") {
        Some(id) => Resource::Broker(*id),
        None => Resource::Brokers,
    }
}

fn get(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let resource = resource(asked.matches);
    let explain = asked.flag("explain");
    let all = settings(&mut asked.client, &resource, explain)?;
    let patterns = asked.all("names");
    let unknown = patterns.iter().find(|pattern| !all.iter().any(|setting| is_like(pattern, &setting.name)));
    if let Some(unknown) = unknown {
        let near = nearest(unknown, all.iter().map(|setting| setting.name.as_str()));
        let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(Failure::NotDone(format!("{} has no setting {unknown}{near}", resource.words())));
    }
    let is_asked = |setting: &DescribeConfigsResourceResult| patterns.iter().any(|p| is_like(p, &setting.name));
    Ok(shown(asked, all.into_iter().filter(is_asked)))
}

fn list(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let (explain, changed) = (asked.flag("explain"), asked.flag("changed"));
    let all = settings(&mut asked.client, &resource(asked.matches), explain)?;
    Ok(shown(asked, all.into_iter().filter(|setting| !changed || setting.config_source != DEFAULT_SOURCE)))
}

fn set(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    changed(asked, "set")
}

fn unset(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    changed(asked, "unset")
}

fn changed(asked: &mut Asked<'_>, word: &str) -> Result<Said, Failure> {
    let changes = changes(asked.matches, "pairs", "names");
    let (resource, dry) = (resource(asked.matches), asked.flag("dry-run"));
    let resources = std::slice::from_ref(&resource);
    let words = format!("{}{word}", if dry { "could be " } else { "" });
    let mut outcomes = Outcomes::new("OF", "name");
    for done in change_settings(&mut asked.client, resources, &changes, dry)? {
        outcomes.push(resource.words(), done.map(|()| words.clone()), Value::Null);
    }
    Ok(outcomes.said(asked.paint))
}

fn shown(asked: &Asked<'_>, settings: impl Iterator<Item = DescribeConfigsResourceResult>) -> Said {
    let explain = asked.flag("explain");
    let settings: Vec<_> = settings.collect();
    let json: Value = settings.iter().map(|setting| setting_json(setting, explain)).collect();
    let text = if settings.is_empty() {
        "Nothing is set.\n".to_owned()
    } else if explain {
        settings.iter().map(setting_text).collect::<Vec<_>>().join("\n")
    } else {
        settings_table(&settings).text(asked.paint)
    };
    Said { text, json, is_done: true }
}

fn settings_table(settings: &[DescribeConfigsResourceResult]) -> Table {
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for setting in settings {
        let source = source_words(setting.config_source).1;
        let source = if setting.config_source == DEFAULT_SOURCE { Cell::from(source) } else { Cell::good(source) };
        let value = value_text(setting.value.as_deref(), setting.is_sensitive);
        table.row([setting.name.as_str().into(), value.into(), source]);
    }
    table
}
