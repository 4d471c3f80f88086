//! `corelog group reset-offsets`: where a group is to go on.
//!
//! *Owns*: the plan, and whether it may be carried out. *Never*: changes anything without `--execute`, or the offsets
//! of a group that somebody is in. *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::duration::parse_duration;
use crate::admin::moment::{parse_moment, show_moment};
use crate::admin::selection::{chosen, selections, topic_argument};
use crate::admin::tool::{Asked, Failure, Said, refusal_json, switch};
use crate::client::client::Client;
use crate::client::error::{ClientError, Kind, Refusal};
use crate::client::groups::Group;
use crate::client::offsets::{Moment, Offsets, TopicPartition};
use crate::terminal::numbers::counted;
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::errors::ErrorCode;

const TARGETS: [&str; 6] = ["to-earliest", "to-latest", "to-time", "to-offset", "by-duration", "shift-by"];

pub fn command() -> Command {
    let switch_of = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("Where to")
    };
    let value_of = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).help(help).help_heading("Where to")
    };
    Command::new("reset-offsets")
        .about("Say where a group would go on, and with --execute let it go on there")
        .arg(Arg::new("group").value_name("GROUP").required(true).help("Its name; it must have no members"))
        .arg(topic_argument())
        .arg(switch("all-topics", "Every partition of which the group has committed an offset"))
        .group(ArgGroup::new("which").args(["topic", "all-topics"]).required(true))
        .arg(switch_of("to-earliest", "The first record that is there"))
        .arg(switch_of("to-latest", "The end: records that come from now on"))
        .arg(value_of("to-time", "TIME", "The first record as young as that, such as 2026-03-01T12:30:00Z").value_parser(parse_moment))
        .arg(value_of("to-offset", "N", "This offset").value_parser(value_parser!(i64).range(0..)))
        .arg(value_of("by-duration", "DURATION", "The first record younger than that, such as 90m or PT1H30M").value_parser(parse_duration))
        .arg(
            value_of("shift-by", "N", "So many records on from what is committed; back, where N is negative")
                .value_parser(value_parser!(i64))
                .allow_negative_numbers(true),
        )
        .group(ArgGroup::new("target").args(TARGETS).required(true))
        .arg(switch("execute", "Do it; without this, only say what would be done"))
        .after_help(
            "Offsets outside the log become its start or its end. A group that somebody is in is refused: stop its consumers \
             first.\n\n\
             --json prints an object with group, executed, partitions: an array of objects with topic, partition, before \
             (null where nothing is committed), after, note, error (null, or an object with code and message).\n\n\
             Examples:\n  corelog group reset-offsets billing --all-topics --by-duration 1h\n  \
             corelog group reset-offsets billing --topic orders:0,4-7 --to-earliest --execute\n  \
             corelog group reset-offsets billing --topic orders --to-time 2026-03-01T12:30:00+01:00",
        )
}

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Moment(Moment),
    Offset(i64),
    Shift(i64),
}

/// What is to become of one partition's offset.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    before: Option<i64>,
    /// `None` where it cannot be told.
    after: Result<Option<i64>, Refusal>,
    /// Why `after` is not what was asked for.
    note: Option<&'static str>,
}

type Plan = BTreeMap<TopicPartition, Row>;

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let name: &String = asked.matches.get_one("group").expect("it is required");
    let target = target(asked.matches);
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
    let mut plan = plan(&mut asked.client, &places, &committed, target)?;
    let execute = asked.flag("execute");
    if execute {
        carry_out(&mut asked.client, name, &mut plan)?;
    }
    let mut text = table(&plan, asked.paint);
    if is_new {
        text += &format!("\nThere was no group {name} until now.\n");
    }
    if let Target::Moment(Moment::Time(ms)) = target {
        text += &format!("\nThe first records as young as {}.\n", show_moment(ms));
    }
    text += match (plan.is_empty(), execute) {
        (true, _) => "The group has committed no offset: say --topic.\n",
        (false, true) => "",
        (false, false) => "\nNothing was changed. Add --execute to do this.\n",
    };
    let is_done = plan.values().all(|row| matches!(row.after, Ok(Some(_))));
    let json = json!({ "group": name, "executed": execute, "partitions": rows_json(&plan) });
    Ok(Said { text, json, is_done })
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

fn target(matches: &ArgMatches) -> Target {
    if matches.get_flag("to-earliest") {
        Target::Moment(Moment::Start)
    } else if matches.get_flag("to-latest") {
        Target::Moment(Moment::End)
    } else if let Some(ms) = matches.get_one::<i64>("to-time") {
        Target::Moment(Moment::Time(*ms))
    } else if let Some(offset) = matches.get_one::<i64>("to-offset") {
        Target::Offset(*offset)
    } else if let Some(duration) = matches.get_one::<Duration>("by-duration") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Target::Moment(Moment::Time(now.saturating_sub(*duration).as_millis() as i64))
    } else {
        Target::Shift(*matches.get_one("shift-by").expect("clap asks for one of them"))
    }
}

fn plan(
    client: &mut Client,
    places: &BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, i64>,
    target: Target,
) -> Result<Plan, ClientError> {
    let starts = client.offsets(places, Moment::Start)?;
    let ends = client.offsets(places, Moment::End)?;
    let found = match target {
        Target::Moment(moment @ Moment::Time(_)) => client.offsets(places, moment)?,
        _ => Offsets::new(),
    };
    let row = |place: &TopicPartition| {
        let before = committed.get(place).copied();
        let offset = |offsets: &Offsets| offsets.get(place).cloned().unwrap_or(Ok(None));
        let bounds = offset(&starts).and_then(|start| Ok((start.unwrap_or(0), offset(&ends)?.unwrap_or(0))));
        let planned = bounds.and_then(|(start, end)| Ok(aimed(target, before, (start, end), offset(&found)?)));
        let (after, note) = match planned {
            Ok((after, note)) => (Ok(after), note),
            Err(refusal) => (Err(refusal), None),
        };
        (place.clone(), Row { before, after, note })
    };
    Ok(places.iter().map(row).collect())
}

/// The offset that is aimed at, within the log.
fn aimed(
    target: Target,
    before: Option<i64>,
    (start, end): (i64, i64),
    found: Option<i64>,
) -> (Option<i64>, Option<&'static str>) {
    let wanted = match (target, before) {
        (Target::Moment(Moment::Start), _) => start,
        (Target::Moment(Moment::End), _) => end,
        (Target::Moment(Moment::Time(_)), _) => match found {
            Some(offset) => offset,
            None => return (Some(end), Some("no record is as young")),
        },
        (Target::Offset(offset), _) => offset,
        (Target::Shift(by), Some(before)) => before.saturating_add(by),
        (Target::Shift(_), None) => return (None, Some("nothing is committed to count from")),
    };
    match wanted {
        _ if wanted < start => (Some(start), Some("the log begins here")),
        _ if wanted > end => (Some(end), Some("the log ends here")),
        _ => (Some(wanted), None),
    }
}

fn carry_out(client: &mut Client, group: &str, plan: &mut Plan) -> Result<(), ClientError> {
    let offsets = plan.iter().filter_map(|(place, row)| Some((place.clone(), row.after.clone().ok()??)));
    let offsets: BTreeMap<TopicPartition, i64> = offsets.collect();
    if offsets.is_empty() {
        return Ok(());
    }
    for (place, done) in client.commit(group, &offsets)? {
        if let (Some(row), Err(refusal)) = (plan.get_mut(&place), done) {
            row.after = Err(refusal);
        }
    }
    Ok(())
}

fn table(plan: &Plan, paint: Paint) -> String {
    let mut table = Table::new(&["TOPIC", ">PARTITION", ">BEFORE", ">AFTER", ">CHANGE", "NOTE"]);
    for (place, row) in plan {
        let note = match &row.after {
            Ok(_) => Cell::from(row.note.unwrap_or_default()),
            Err(refusal) => Cell::bad(refusal.to_string()),
        };
        let after = row.after.clone().ok().flatten();
        let change = row.before.zip(after).map(|(before, after)| format!("{:+}", after - before));
        table.row([
            place.topic.as_str().into(),
            place.partition.to_string().into(),
            row.before.map_or_else(|| "–".to_owned(), |offset| offset.to_string()).into(),
            after.map_or_else(|| "–".to_owned(), |offset| offset.to_string()).into(),
            change.unwrap_or_default().into(),
            note,
        ]);
    }
    if table.is_empty() { String::new() } else { table.text(paint) }
}

fn rows_json(plan: &Plan) -> Value {
    plan.iter()
        .map(|(place, row)| {
            json!({
                "topic": place.topic,
                "partition": place.partition,
                "before": row.before,
                "after": row.after.as_ref().ok().copied().flatten(),
                "note": row.note,
                "error": row.after.as_ref().err().map(refusal_json),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_log() {
        let log = (10, 20);
        let check = |target: Target, before: Option<i64>, found: Option<i64>, expect: Option<i64>, noted: bool| {
            let (after, note) = aimed(target, before, log, found);
            assert_eq!((after, note.is_some()), (expect, noted), "{target:?}");
        };
        check(Target::Moment(Moment::Start), None, None, Some(10), false);
        check(Target::Moment(Moment::End), Some(3), None, Some(20), false);
        check(Target::Moment(Moment::Time(5)), None, Some(15), Some(15), false);
        check(Target::Moment(Moment::Time(5)), None, None, Some(20), true);
        check(Target::Offset(15), None, None, Some(15), false);
        check(Target::Offset(9), None, None, Some(10), true);
        check(Target::Offset(i64::MAX), None, None, Some(20), true);
        check(Target::Shift(-3), Some(15), None, Some(12), false);
        check(Target::Shift(i64::MIN), Some(15), None, Some(10), true);
        check(Target::Shift(i64::MAX), Some(15), None, Some(20), true);
        check(Target::Shift(1), None, None, None, true);
    }
}
