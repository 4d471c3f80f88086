//! `corelog group delete-offsets`: offsets that a group is to forget.
//!
//! *Owns*: the command. *Never*: checks whether somebody reads the topic (the coordinator does).
//! *Runs on*: the main thread.

use clap::{Arg, Command};
use serde_json::json;

use crate::admin::selection::{chosen, selections, topic_argument};
use crate::admin::tool::{Asked, Failure, Outcomes, Said};
use crate::client::offsets::TopicPartition;

pub fn command() -> Command {
    Command::new("delete-offsets")
        .about("Forget the offsets that a group has committed of topics that it does not read any more")
        .arg(Arg::new("group").value_name("GROUP").required(true).help("Its name"))
        .arg(topic_argument().required(true))
        .after_help(
            "--json prints an array of objects with name (topic-partition), topic, partition, done, error (null, or an \
             object with code and message).\n\n\
             Examples:\n  corelog group delete-offsets billing --topic orders\n  \
             corelog group delete-offsets billing --topic orders:0,4-7",
        )
}

pub fn run(asked: &mut Asked<'_>) -> Result<Said, Failure> {
    let group: &String = asked.matches.get_one("group").expect("it is required");
    let selections = selections(asked);
    let places: Vec<TopicPartition> = chosen(asked, &selections)?.into_iter().collect();
    // Whoever never committed anything need not be told that it was forgotten.
    asked.client.group(group)?;
    let done = asked.client.forget_offsets(group, &places)?;
    let mut outcomes = Outcomes::new("PARTITION", "name");
    for (place, done) in done {
        let more = json!({ "topic": place.topic, "partition": place.partition });
        outcomes.push(place.to_string(), done.map(|()| "forgotten".to_owned()), more);
    }
    Ok(outcomes.said(asked.paint))
}
