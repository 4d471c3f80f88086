//! `corelog group`: which groups there are, and what becomes of them.
//!
//! *Owns*: the subcommand, `list` and `delete`. *Never*: knows a protocol of groups (`client/groups` does).
//! *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::admin::tool::{self, Asked, Failure, Outcomes, Said, Verb, is_like, names};
use crate::admin::{group_describe, group_lag, group_offsets, group_reset};
use crate::client::groups::Listed;
use crate::terminal::table::{Cell, Table};

const VERBS: &[Verb] = &[
    Verb { command: list_command, run: list },
    Verb { command: group_describe::describe_command, run: group_describe::describe },
    Verb { command: group_describe::members_command, run: group_describe::members },
    Verb { command: group_lag::command, run: group_lag::run },
    Verb { command: group_reset::command, run: group_reset::run },
    Verb { command: group_offsets::command, run: group_offsets::run },
    Verb { command: delete_command, run: delete },
];

pub fn command() -> Command {
    tool::command("group", "Look at consumer groups, their lag and their offsets, and change them", VERBS)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    tool::run(VERBS, matches)
}

fn list_command() -> Command {
    let filter = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).action(ArgAction::Append).help(help)
    };
    Command::new("list")
        .about("Print the groups")
        .arg(Arg::new("patterns").value_name("GROUP").num_args(0..).help("Names, in which * stands for any characters"))
        .arg(filter("state", "STATE", "Only those in this state, such as Stable or Empty; may be repeated"))
        .arg(filter("type", "TYPE", "Only those of this type, classic or consumer; may be repeated"))
        .after_help(
            "--json prints an array of objects with name, state, type, protocolType, coordinator.\n\n\
             Examples:\n  corelog group list\n  corelog group list 'billing-*' --state Empty --json",
        )
}

fn delete_command() -> Command {
    Command::new("delete")
        .about("Delete groups that have no members, with their offsets")
        .arg(names("names", "GROUP", "Names"))
        .after_help(
            "--json prints an array of objects with name, done, error (null, or an object with code and message).\n\n\
             Examples:\n  corelog group delete billing",
        )
}

/// The groups that patterns mean, of all those there are.
pub fn found(mut groups: Vec<Listed>, patterns: &[String]) -> Vec<Listed> {
    groups.retain(|group| patterns.is_empty() || patterns.iter().any(|pattern| is_like(pattern, &group.name)));
    groups
}

fn list(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let (states, types) = (asked.all("state"), asked.all("type"));
    let listing = asked.client.groups(&states, &types)?;
    for (broker, error) in &listing.missing {
        asked.complain(&format!("the groups of broker {broker} are missing: {error}"));
    }
    let is_done = listing.missing.is_empty();
    let groups = found(listing.groups, &asked.all("patterns"));
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL", ">COORDINATOR"]);
    for group in &groups {
        table.row([
            group.name.as_str().into(),
            state_cell(&group.state),
            group.group_type.as_str().into(),
            group.protocol_type.as_str().into(),
            group.coordinator.to_string().into(),
        ]);
    }
    let json: Value = groups
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "state": group.state,
                "type": group.group_type,
                "protocolType": group.protocol_type,
                "coordinator": group.coordinator,
            })
        })
        .collect();
    let text = match (table.is_empty(), is_done) {
        (false, _) => table.text(asked.paint),
        (true, true) => "There is no group.\n".to_owned(),
        (true, false) => String::new(),
    };
    Ok(Said { text, json, is_done })
}

fn delete(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let mut outcomes = Outcomes::new("GROUP", "name");
    for name in asked.all("names") {
        let done = asked.client.delete_group(&name)?;
        outcomes.push(name, done.map(|()| "deleted".to_owned()), Value::Null);
    }
    Ok(outcomes.said(asked.paint))
}

pub fn state_cell(state: &str) -> Cell {
    match state {
        "Stable" => Cell::good(state),
        "Empty" | "Dead" => Cell::from(state),
        _ => Cell::warn(state),
    }
}
