//! `corelog group reset-offsets`: where a group is to go on.
//!
//! *Owns*: the command, and whether it may be carried out. *Never*: changes anything without `--execute`, or the
//! offsets of a group that somebody is in. *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgGroup, Command};
use serde_json::json;

use crate::admin::aim::{Plan, Target, with_targets};
use crate::admin::selection::{chosen, selections, topic_argument};
use crate::admin::tool::{Asked, Failure, NOTHING_CHANGED, Said, execute_argument, switch};
use crate::client::error::{ClientError, Kind};
use crate::client::groups::Group;
use crate::client::offsets::TopicPartition;
use crate::terminal::numbers::counted;
use crate::wire::errors::ErrorCode;

const TARGETS: &[&str] = &["to-earliest", "to-latest", "to-time", "to-offset", "by-duration", "shift-by"];

const EXAMPLES: &str = "\
Offsets outside the log become its start or its end. A group that somebody is in is refused: stop its consumers first.

--json prints an object with group, executed, partitions: an array of objects with topic, partition, before (null where
nothing is committed), after, note, error (null, or an object with code and message).

Examples:
  corelog group reset-offsets billing --all-topics --by-duration 1h
  corelog group reset-offsets billing --topic orders:0,4-7 --to-earliest --execute
  corelog group reset-offsets billing --topic orders --to-time 2026-03-01T12:30:00+01:00";

pub fn command() -> Command {
    let command = Command::new("reset-offsets")
        .about("Say where a group would go on, and with --execute let it go on there")
        .arg(Arg::new("group").value_name("GROUP").required(true).help("Its name; it must have no members"))
        .arg(topic_argument())
        .arg(switch("all-topics", "Every partition of which the group has committed an offset"))
        .group(ArgGroup::new("which").args(["topic", "all-topics"]).required(true));
    with_targets(command, TARGETS).arg(execute_argument()).after_help(EXAMPLES)
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let name: &String = asked.matches.get_one("group").expect("it is required");
    let target = Target::of(asked.matches);
    let is_new = match asked.client.group(name) {
        Ok(group) if group.is_inactive() => false,
        Ok(group) => return Err(Failure::NotDone(active_text(&group))),
        // Offsets of a group to come are a way to tell it where to begin.
        Err(ClientError { kind: Kind::Refused(Some(ErrorCode::GroupIdNotFound)), .. }) if !asked.flag("all-topics") => {
            true
        }
        Err(error) => return Err(error.into()),
    };
    let committed = if is_new { BTreeMap::new() } else { asked.client.committed(name)? };
    let selections = selections(asked);
    let places: BTreeSet<TopicPartition> =
        if asked.flag("all-topics") { committed.keys().cloned().collect() } else { chosen(asked, &selections)? };
    let mut plan = Plan::make(&mut asked.client, &places, &committed, target)?;
    let execute = asked.flag("execute");
    let offsets = plan.offsets();
    if execute && !offsets.is_empty() {
        for (place, done) in asked.client.commit(name, &offsets)? {
            if let Err(refusal) = done {
                plan.refuse(&place, refusal);
            }
        }
    }
    let mut text = plan.table(asked.paint);
    if is_new {
        text += &format!("\nThere was no group {name} until now.\n");
    }
    text += &target.text();
    text += match (places.is_empty(), execute) {
        (true, _) => "The group has committed no offset: say --topic.\n",
        (false, true) => "",
        (false, false) => NOTHING_CHANGED,
    };
    let json = json!({ "group": name, "executed": execute, "partitions": plan.json() });
    Ok(Said { text, json, is_done: plan.is_whole() })
}

fn active_text(group: &Group) -> String {
    let clients: BTreeSet<String> =
        group.members.iter().take(5).map(|member| format!("{} on {}", member.client_id, member.host)).collect();
    let clients: Vec<String> = clients.into_iter().collect();
    let who = if clients.is_empty() { String::new() } else { format!(" ({})", clients.join(", ")) };
    format!(
        "group {} is {}, with {}{who}, who would overwrite what is set here.\n\
         Stop its consumers, or wait for their session timeouts, and try again. Nothing was changed.",
        group.name,
        group.state,
        counted(group.members.len() as u64, "member"),
    )
}
