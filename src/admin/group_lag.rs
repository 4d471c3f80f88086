//! `corelog group lag`: how far groups are behind, once or as a view that goes on.
//!
//! *Owns*: the rates between two looks. *Never*: knows how a view goes on (`view` does). *Runs on*: the main thread.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::{Arg, Command};
use serde_json::{Value, json};

use crate::admin::group::{found, state_cell};
use crate::admin::group_standing::{Standing, standings};
use crate::admin::tool::{Asked, Failure, Said, switch};
use crate::admin::view;
use crate::client::client::Client;
use crate::client::error::Kind;
use crate::client::groups::Group;
use crate::terminal::numbers::{clock, count, short};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};
use crate::wire::errors::ErrorCode;

const NOT_FOUND: Kind = Kind::Refused(Some(ErrorCode::GroupIdNotFound));

pub fn command() -> Command {
    let command = Command::new("lag")
        .about("Show how far groups are behind; on a terminal again and again, with rates")
        .arg(Arg::new("patterns").value_name("GROUP").num_args(0..).help("Names, in which * stands for any characters"))
        .arg(switch("partitions", "A row for each partition instead of each topic"));
    view::with_view(command)
        .after_help(
            "What lags most stands first. The rates are those since the last look; a group that reads faster than is \
             written catches up in the time that is said.\n\n\
             --json prints, once, an array of objects with group, state, members (how many), and for each partition topic, \
             partition, committedOffset, endOffset, lag (null where nothing is committed), memberId, clientId, host, error.\n\n\
             Examples:\n  corelog group lag\n  corelog group lag 'billing-*' --partitions\n  corelog group lag billing --json",
        )
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let patterns = asked.all("patterns");
    let by_partition = asked.flag("partitions");
    if view::is_once(asked) {
        let round = Round::take(&mut asked.client, &patterns)?;
        return Ok(Said { text: round.text(None, by_partition, asked.paint), json: round.json(), is_done: true });
    }
    let mut before: Option<Round> = None;
    view::watch(asked, |client, paint| {
        let round = Round::take(client, &patterns)?;
        let text = round.text(before.as_ref(), by_partition, paint);
        before = Some(round);
        Ok(text)
    })
}

/// What all groups had at one time.
struct Round {
    at: Instant,
    groups: Vec<(Group, Vec<Standing>)>,
}

/// A line of the table: a topic of a group, or one partition of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Line {
    partitions: usize,
    /// Partitions of which nothing is committed or the end is not known.
    unknown: usize,
    committed: u64,
    end: u64,
    lag: u64,
}

/// Group, topic, and the partition where each has a line.
type Key<'a> = (&'a str, &'a str, Option<i32>);

impl Round {
    fn take(client: &mut Client, patterns: &[String]) -> Result<Round, Failure> {
        let mut names: Vec<String> = patterns.iter().filter(|pattern| !pattern.contains('*')).cloned().collect();
        let wild: Vec<String> = patterns.iter().filter(|pattern| pattern.contains('*')).cloned().collect();
        if patterns.is_empty() || !wild.is_empty() {
            names.extend(found(client.groups(&[], &[])?.whole()?, &wild).into_iter().map(|group| group.name));
        }
        names.sort_unstable();
        names.dedup();
        let mut groups = Vec::new();
        for name in names {
            let group = match client.group(&name) {
                // It was there a moment ago.
                Err(error) if error.kind == NOT_FOUND && !patterns.contains(&name) => continue,
                group => group?,
            };
            let standings = standings(client, &group)?;
            groups.push((group, standings));
        }
        Ok(Round { at: Instant::now(), groups })
    }

    fn lines(&self, by_partition: bool) -> BTreeMap<Key<'_>, Line> {
        let mut lines: BTreeMap<Key<'_>, Line> = BTreeMap::new();
        for (group, standings) in &self.groups {
            for standing in standings {
                let partition = Some(standing.place.partition).filter(|_| by_partition);
                let line = lines.entry((&group.name, &standing.place.topic, partition)).or_default();
                line.partitions += 1;
                match (standing.lag(), standing.committed, &standing.end) {
                    (Some(lag), Some(committed), Ok(end)) => {
                        line.lag += lag;
                        line.committed += u64::try_from(committed).unwrap_or(0);
                        line.end += u64::try_from(*end).unwrap_or(0);
                    }
                    _ => line.unknown += 1,
                }
            }
        }
        lines
    }

    fn text(&self, before: Option<&Round>, by_partition: bool, paint: Paint) -> String {
        let lines = self.lines(by_partition);
        let old_lines = before.map(|before| before.lines(by_partition)).unwrap_or_default();
        let seconds = before.map_or(0.0, |before| self.at.saturating_duration_since(before.at).as_secs_f64());
        let place = if by_partition { ">PARTITION" } else { ">PARTITIONS" };
        let columns =
            ["GROUP", "STATE", ">MEMBERS", "TOPIC", place, ">LAG", ">READ/S", ">WRITTEN/S", "CAUGHT UP IN", "NOTE"];
        let mut table = Table::new(&columns);
        let mut sorted: Vec<(&Key<'_>, &Line)> = lines.iter().collect();
        sorted.sort_by_key(|(_, line)| std::cmp::Reverse(line.lag));
        for (key, line) in sorted {
            let (group, _) = self.groups.iter().find(|(group, _)| group.name == key.0).expect("lines are of groups");
            let rates = old_lines.get(key).filter(|_| seconds > 0.0).map(|old| Rates::between(old, line, seconds));
            let rate = |of: fn(&Rates) -> f64| rates.as_ref().map_or_else(String::new, |rates| short(of(rates)));
            let note = if line.unknown == 0 { String::new() } else { format!("nothing known of {}", line.unknown) };
            table.row([
                key.0.into(),
                state_cell(&group.state),
                group.members.len().to_string().into(),
                key.1.into(),
                key.2.map_or(line.partitions as i64, i64::from).to_string().into(),
                if line.lag == 0 { Cell::from("0") } else { Cell::warn(count(line.lag)) },
                rate(|rates| rates.read).into(),
                rate(|rates| rates.written).into(),
                rates.as_ref().and_then(|rates| rates.caught_up_in(line.lag)).unwrap_or_default().into(),
                note.into(),
            ]);
        }
        let idle: Vec<&str> =
            self.groups.iter().filter(|(_, rows)| rows.is_empty()).map(|(group, _)| group.name.as_str()).collect();
        let mut text = if table.is_empty() { String::new() } else { table.text(paint) };
        if !idle.is_empty() {
            text += &format!("Without offsets and partitions: {}\n", idle.join(", "));
        }
        if text.is_empty() { "There is no group.\n".to_owned() } else { text }
    }

    fn json(&self) -> Value {
        let of_group = |(group, standings): &(Group, Vec<Standing>)| -> Vec<Value> {
            let row = |standing: &Standing| {
                let mut row = standing.json(group);
                row["group"] = group.name.as_str().into();
                row["state"] = group.state.as_str().into();
                row["members"] = group.members.len().into();
                row
            };
            standings.iter().map(row).collect()
        };
        json!(self.groups.iter().flat_map(of_group).collect::<Vec<_>>())
    }
}

/// Records a second.
struct Rates {
    read: f64,
    written: f64,
}

impl Rates {
    fn between(old: &Line, new: &Line, seconds: f64) -> Rates {
        let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        Rates { read: rate(old.committed, new.committed), written: rate(old.end, new.end) }
    }

    fn caught_up_in(&self, lag: u64) -> Option<String> {
        let gained = self.read - self.written;
        (lag > 0 && gained > 0.0).then(|| clock((lag as f64 / gained * 1e9) as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::offsets::TopicPartition;

    fn round(at: Instant, offsets: &[(i32, Option<i64>, i64)]) -> Round {
        let standing = |(partition, committed, end): &(i32, Option<i64>, i64)| Standing {
            place: TopicPartition { topic: "t".into(), partition: *partition },
            committed: *committed,
            end: Ok(*end),
            member: None,
        };
        let group = |name: &str, state: &str| Group {
            name: name.into(),
            state: state.into(),
            group_type: "classic",
            assignor: String::new(),
            epoch: None,
            members: Vec::new(),
        };
        let rows = offsets.iter().map(standing).collect();
        Round { at, groups: vec![(group("g", "Stable"), rows), (group("idle", "Empty"), Vec::new())] }
    }

    #[test]
    fn two_rounds_give_rates_and_the_time_to_catch_up() {
        let start = Instant::now();
        let first = round(start, &[(0, Some(0), 1000), (1, Some(0), 4000), (2, None, 7)]);
        let second = round(start + Duration::from_secs(2), &[(0, Some(200), 1000), (1, Some(400), 4200), (2, None, 7)]);
        let paint = Paint { is_coloured: false };
        let expect = "\
GROUP  STATE   MEMBERS  TOPIC  PARTITIONS    LAG  READ/S  WRITTEN/S  CAUGHT UP IN  NOTE
g      Stable        0  t               3  4,600     300        100  23 s          nothing known of 1
Without offsets and partitions: idle
";
        assert_eq!(second.text(Some(&first), false, paint), expect);
        let expect = "\
GROUP  STATE   MEMBERS  TOPIC  PARTITION    LAG  READ/S  WRITTEN/S  CAUGHT UP IN  NOTE
g      Stable        0  t              1  4,000
g      Stable        0  t              0  1,000
g      Stable        0  t              2      0                                   nothing known of 1
Without offsets and partitions: idle
";
        assert_eq!(first.text(None, true, paint), expect);
        assert_eq!(first.json()[1]["lag"], 4000);
    }
}
