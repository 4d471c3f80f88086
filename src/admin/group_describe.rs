//! `corelog group describe` and `members`.
//!
//! *Owns*: the two commands. *Never*: changes a group. *Runs on*: the main thread.

use std::collections::BTreeMap;

use clap::Command;
use serde_json::{Value, json};

use crate::admin::group_standing::{Standing, standings};
use crate::admin::selection::short_list;
use crate::admin::tool::{Asked, Failure, Said, names};
use crate::client::groups::{Group, Member};
use crate::terminal::numbers::{count, counted};
use crate::terminal::paint::Paint;
use crate::terminal::table::{Cell, Table};

pub fn describe_command() -> Command {
    Command::new("describe")
        .about("Print the state of groups, and how far they have come in each partition")
        .arg(names("names", "GROUP", "Names"))
        .after_help(
            "--json prints an array of objects with name, state, type, assignor, epoch (of a consumer group), members (how \
             many), lag, partitions. A partition has topic, partition, committedOffset, endOffset, lag (null where nothing \
             is committed), memberId, clientId, host, error.\n\n\
             Examples:\n  corelog group describe billing\n  corelog group describe billing --json",
        )
}

pub fn members_command() -> Command {
    Command::new("members")
        .about("Print the members of groups, and what each reads")
        .arg(names("names", "GROUP", "Names"))
        .after_help(
            "--json prints an array of objects with group, memberId, instanceId, clientId, host, epoch (of a consumer \
             group), assigned: an array of objects with topic and partitions.\n\n\
             Examples:\n  corelog group members billing",
        )
}

pub fn describe(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let mut texts = Vec::new();
    let mut rows = Vec::new();
    for name in asked.all("names") {
        let group = asked.client.group(&name)?;
        let standings = standings(&mut asked.client, &group)?;
        texts.push(described(&group, &standings, asked.paint));
        rows.push(json!({
            "name": group.name,
            "state": group.state,
            "type": group.group_type,
            "assignor": group.assignor,
            "epoch": group.epoch,
            "members": group.members.len(),
            "lag": standings.iter().filter_map(Standing::lag).sum::<u64>(),
            "partitions": standings.iter().map(|standing| standing.json(&group)).collect::<Value>(),
        }));
    }
    Ok(Said { text: texts.join("\n"), json: rows.into(), is_done: true })
}

fn described(group: &Group, standings: &[Standing], paint: Paint) -> String {
    let assignor = if group.assignor.is_empty() { String::new() } else { format!(", assignor {}", group.assignor) };
    let epoch = group.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    let lag = standings.iter().filter_map(Standing::lag).sum();
    let mut text = format!(
        "{}  {}, {}{assignor}{epoch}, {}, lag {}\n",
        paint.head(&group.name),
        group.state,
        group.group_type,
        counted(group.members.len() as u64, "member"),
        count(lag)
    );
    if standings.is_empty() {
        return text + "It has committed no offset, and no member reads a partition.\n";
    }
    let mut table = Table::new(&[
        "TOPIC",
        ">PARTITION",
        ">COMMITTED",
        ">END",
        ">LAG",
        "MEMBER",
        "INSTANCE",
        "CLIENT",
        "HOST",
        "STATE",
    ]);
    for standing in standings {
        let member = standing.member.map(|index| &group.members[index]);
        let of_member = |field: fn(&Member) -> &str| Cell::from(member.map_or("", field));
        let shown = |offset: Option<i64>| offset.map_or_else(|| "–".to_owned(), |offset| offset.to_string());
        let state = match &standing.end {
            Ok(_) => Cell::from(""),
            Err(refusal) => Cell::bad(refusal.to_string()),
        };
        table.row([
            standing.place.topic.as_str().into(),
            standing.place.partition.to_string().into(),
            shown(standing.committed).into(),
            shown(standing.end.as_ref().ok().copied()).into(),
            standing.lag().map_or_else(|| "–".to_owned(), count).into(),
            of_member(|member| &member.id),
            of_member(|member| member.instance.as_deref().unwrap_or_default()),
            of_member(|member| &member.client_id),
            of_member(|member| &member.host),
            state,
        ]);
    }
    text += &table.text(paint);
    text
}

pub fn members(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let mut table = Table::new(&["GROUP", "MEMBER", "INSTANCE", "CLIENT", "HOST", ">EPOCH", "READS"]);
    let mut rows = Vec::new();
    for name in asked.all("names") {
        let group = asked.client.group(&name)?;
        for member in &group.members {
            let assigned = by_topic(member);
            let reads = assigned.iter().map(|(topic, list)| format!("{topic}:{}", short_list(list.iter().copied())));
            table.row([
                name.as_str().into(),
                member.id.as_str().into(),
                member.instance.as_deref().unwrap_or_default().into(),
                member.client_id.as_str().into(),
                member.host.as_str().into(),
                member.epoch.map_or_else(String::new, |epoch| epoch.to_string()).into(),
                reads.collect::<Vec<_>>().join(" ").into(),
            ]);
            let assigned = assigned.iter().map(|(topic, list)| json!({ "topic": topic, "partitions": list }));
            rows.push(json!({
                "group": name,
                "memberId": member.id,
                "instanceId": member.instance,
                "clientId": member.client_id,
                "host": member.host,
                "epoch": member.epoch,
                "assigned": assigned.collect::<Value>(),
            }));
        }
    }
    let text = if table.is_empty() { "There is no member.\n".to_owned() } else { table.text(asked.paint) };
    Ok(Said { text, json: rows.into(), is_done: true })
}

fn by_topic(member: &Member) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in &member.assigned {
        topics.entry(&place.topic).or_default().push(place.partition);
    }
    topics
}
