//! Offsets that are aimed at: by a moment, a number or a distance, and never outside the log.
//!
//! *Owns*: the flags that say where to, and what they come to in each partition. *Never*: changes anything.
//! *Runs on*: the main thread.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, Id, value_parser};
use serde_json::{Value, json};

use crate::admin::duration::parse_duration;
use crate::admin::moment::{parse_moment, show_moment};
use crate::admin::tool::refusal_json;
use crate::client::client::Client;
use crate::client::error::{ClientError, Refusal};
use crate::client::offsets::{Moment, Offsets, TopicPartition};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Moment(Moment),
    Offset(i64),
    Shift(i64),
}

/// What is to become of one partition's offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub before: Option<i64>,
    /// `None` where it cannot be told.
    pub after: Result<Option<i64>, Refusal>,
    /// Why `after` is not what was asked for.
    note: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Plan(pub BTreeMap<TopicPartition, Row>);

/// Adds the flags of these names, of which one must be given.
pub fn with_targets(command: Command, names: &[&'static str]) -> Command {
    let command = command.group(ArgGroup::new("target").args(names.iter().copied()).required(true));
    command.args(names.iter().map(|name| argument(name).help_heading("Where to")))
}

fn argument(name: &'static str) -> Arg {
    let arg = Arg::new(name).long(name);
    match name {
        "to-earliest" => arg.action(ArgAction::SetTrue).help("The first record that is there"),
        "to-latest" => arg.action(ArgAction::SetTrue).help("The end, behind all records that are there"),
        "to-time" => arg
            .value_name("TIME")
            .value_parser(parse_moment)
            .help("The first record as young as that, such as 2026-03-01T12:30:00Z"),
        "to-offset" => arg.value_name("N").value_parser(value_parser!(i64).range(0..)).help("This offset"),
        "by-duration" => arg
            .value_name("DURATION")
            .value_parser(parse_duration)
            .help("The first record younger than that, such as 90m or PT1H30M"),
        _ => arg
            .value_name("N")
            .value_parser(value_parser!(i64))
            .allow_negative_numbers(true)
            .help("So many records on from what is committed; back, where N is negative"),
    }
}

impl Target {
    /// What the user has given.
    pub fn of(matches: &ArgMatches) -> Target {
        let id: &Id = matches.get_one("target").expect("clap asks for one of them");
        let number = || *matches.get_one::<i64>(id.as_str()).expect("it is the one that was given");
        match id.as_str() {
            "to-earliest" => Target::Moment(Moment::Start),
            "to-latest" => Target::Moment(Moment::End),
            "to-time" => Target::Moment(Moment::Time(number())),
            "to-offset" => Target::Offset(number()),
            "by-duration" => {
                let duration: &Duration = matches.get_one("by-duration").expect("it is the one that was given");
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Target::Moment(Moment::Time(now.saturating_sub(*duration).as_millis() as i64))
            }
            _ => Target::Shift(number()),
        }
    }

    /// Where that is not plain from what was given.
    pub fn text(self) -> String {
        match self {
            Target::Moment(Moment::Time(ms)) => format!("\nThe first records as young as {}.\n", show_moment(ms)),
            _ => String::new(),
        }
    }
}

impl Plan {
    /// `before` are the offsets as they are now.
    pub fn make(
        client: &mut Client,
        places: &BTreeSet<TopicPartition>,
        before: &BTreeMap<TopicPartition, i64>,
        target: Target,
    ) -> Result<Plan, ClientError> {
        let starts = client.offsets(places, Moment::Start)?;
        let ends = client.offsets(places, Moment::End)?;
        let found = match target {
            Target::Moment(moment @ Moment::Time(_)) => client.offsets(places, moment)?,
            _ => Offsets::new(),
        };
        let row = |place: &TopicPartition| {
            let before = before.get(place).copied();
            let offset = |offsets: &Offsets| offsets.get(place).cloned().unwrap_or(Ok(None));
            let bounds = offset(&starts).and_then(|start| Ok((start.unwrap_or(0), offset(&ends)?.unwrap_or(0))));
            let aimed = bounds.and_then(|bounds| Ok(aimed(target, before, bounds, offset(&found)?)));
            let (after, note) = match aimed {
                Ok((after, note)) => (Ok(after), note),
                Err(refusal) => (Err(refusal), None),
            };
            (place.clone(), Row { before, after, note })
        };
        Ok(Plan(places.iter().map(row).collect()))
    }

    /// The offsets that are known.
    pub fn offsets(&self) -> BTreeMap<TopicPartition, i64> {
        self.0.iter().filter_map(|(place, row)| Some((place.clone(), row.after.clone().ok()??))).collect()
    }

    /// A partition was refused when the plan was carried out.
    pub fn refuse(&mut self, place: &TopicPartition, refusal: Refusal) {
        if let Some(row) = self.0.get_mut(place) {
            row.after = Err(refusal);
        }
    }

    /// Every partition has an offset to go to.
    pub fn is_whole(&self) -> bool {
        self.0.values().all(|row| matches!(row.after, Ok(Some(_))))
    }

    pub fn table(&self, paint: Paint) -> String {
        let mut table = Table::new(&["TOPIC", ">PARTITION", ">BEFORE", ">AFTER", ">CHANGE", "NOTE"]);
        for (place, row) in &self.0 {
            let note = match &row.after {
                Ok(_) => Cell::from(row.note.unwrap_or_default()),
                Err(refusal) => Cell::bad(refusal.to_string()),
            };
            let after = row.after.clone().ok().flatten();
            let change = row.before.zip(after).map(|(before, after)| format!("{:+}", after.saturating_sub(before)));
            let shown = |offset: Option<i64>| offset.map_or_else(|| "–".to_owned(), |offset| offset.to_string());
            table.row([
                place.topic.as_str().into(),
                place.partition.to_string().into(),
                shown(row.before).into(),
                shown(after).into(),
                change.unwrap_or_default().into(),
                note,
            ]);
        }
        if table.is_empty() { String::new() } else { table.text(paint) }
    }

    pub fn json(&self) -> Value {
        let row = |(place, row): (&TopicPartition, &Row)| {
            json!({
                "topic": place.topic,
                "partition": place.partition,
                "before": row.before,
                "after": row.after.as_ref().ok().copied().flatten(),
                "note": row.note,
                "error": row.after.as_ref().err().map(refusal_json),
            })
        };
        self.0.iter().map(row).collect()
    }
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
