//! `corelog topic trim`: the oldest records of topics go.
//!
//! *Owns*: the command. *Never*: deletes anything without `--execute`. *Runs on*: the main thread.

use std::collections::BTreeMap;

use clap::Command;
use serde_json::json;

use crate::admin::aim::{Plan, Target, with_targets};
use crate::admin::selection::{chosen, selections, topic_argument};
use crate::admin::tool::{Asked, Failure, NOTHING_CHANGED, Said, execute_argument};
use crate::client::offsets::{Moment, TopicPartition};

const EXAMPLES: &str = "\
BEFORE and AFTER are where the log begins. What is cut off does not come back.

--json prints an object with executed, partitions: an array of objects with topic, partition, before, after, note, error
(null, or an object with code and message).

Examples:
  corelog topic trim --topic orders --by-duration 7d
  corelog topic trim --topic orders:0 --to-offset 120000 --execute
  corelog topic trim --topic orders --topic logs --to-latest --execute";

pub fn command() -> Command {
    let command = Command::new("trim")
        .about("Say which of the oldest records would be deleted, and with --execute delete them")
        .arg(topic_argument().required(true));
    let targets = &["to-latest", "to-time", "to-offset", "by-duration"];
    with_targets(command, targets).arg(execute_argument()).after_help(EXAMPLES)
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let selections = selections(asked);
    let places = chosen(asked, &selections)?;
    let starts = asked.client.offsets(&places, Moment::Start)?;
    let starts = starts.into_iter().filter_map(|(place, start)| Some((place, start.ok()??)));
    let starts: BTreeMap<TopicPartition, i64> = starts.collect();
    let target = Target::of(asked.matches);
    let mut plan = Plan::make(&mut asked.client, &places, &starts, target)?;
    let execute = asked.flag("execute");
    if execute {
        for (place, trimmed) in asked.client.delete_records(&plan.offsets())? {
            if let Err(refusal) = trimmed {
                plan.refuse(&place, refusal);
            }
        }
    }
    let end = if execute { "" } else { NOTHING_CHANGED };
    let text = plan.table(asked.paint) + &target.text() + end;
    Ok(Said { text, json: json!({ "executed": execute, "partitions": plan.json() }), is_done: plan.is_whole() })
}
