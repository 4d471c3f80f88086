//! Which partitions a command is about: `orders`, or `orders:0,4-7`.
//!
//! *Owns*: reading that, and finding the partitions. *Never*: takes one that is not there. *Runs on*: the main thread.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction};

use crate::admin::tool::{Asked, Failure};
use crate::admin::topic::{name_of, places};
use crate::base::limits::PARTITIONS_MAX;
use crate::client::error::{ClientError, Refusal};
use crate::client::offsets::TopicPartition;
use crate::terminal::numbers::counted;

/// A topic, or some of its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    topic: String,
    /// `None`: all of them.
    partitions: Option<BTreeSet<i32>>,
}

/// `--topic`, which may be repeated.
pub fn topic_argument() -> Arg {
    Arg::new("topic")
        .long("topic")
        .value_name("TOPIC[:PARTITIONS]")
        .action(ArgAction::Append)
        .value_parser(parse)
        .help("A topic, or some partitions of it, such as orders:0,4-7; may be repeated")
}

pub fn selections(asked: &Asked<'_>) -> Vec<Selection> {
    asked.matches.get_many("topic").into_iter().flatten().cloned().collect()
}

/// The partitions that are meant.
pub fn chosen(asked: &mut Asked<'_>, selections: &[Selection]) -> Result<BTreeSet<TopicPartition>, Failure> {
    let names: Vec<String> = selections.iter().map(|selection| selection.topic.clone()).collect();
    let topics = asked.client.topics(Some(&names))?;
    let mut chosen = BTreeSet::new();
    for topic in &topics {
        if let Some(refusal) = Refusal::of(topic.error_code, None) {
            return Err(ClientError::refused(&format!("topic {}", name_of(topic)), &refusal).into());
        }
        let there: BTreeSet<TopicPartition> = places(topic).collect();
        for selection in selections.iter().filter(|selection| selection.topic == name_of(topic)) {
            let Some(partitions) = &selection.partitions else {
                chosen.extend(there.iter().cloned());
                continue;
            };
            for &partition in partitions {
                let place = TopicPartition { topic: selection.topic.clone(), partition };
                if !there.contains(&place) {
                    let has = counted(there.len() as u64, "partition");
                    return Err(Failure::NotDone(format!("topic {} has {has}: there is no {place}", selection.topic)));
                }
                chosen.insert(place);
            }
        }
    }
    Ok(chosen)
}

fn parse(text: &str) -> Result<Selection, String> {
    let wrong = || format!("`{text}` is no topic with partitions, such as orders or orders:0,4-7");
    let Some((topic, list)) = text.split_once(':') else {
        return if text.is_empty() { Err(wrong()) } else { Ok(Selection { topic: text.to_owned(), partitions: None }) };
    };
    let mut partitions = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse().ok().filter(|number| (0..PARTITIONS_MAX as i32).contains(number));
        let (first, last): (i32, i32) = number(first).zip(number(last)).ok_or_else(wrong)?;
        if topic.is_empty() || first > last {
            return Err(wrong());
        }
        partitions.extend(first..=last);
    }
    Ok(Selection { topic: topic.to_owned(), partitions: Some(partitions) })
}

/// Partitions in the same short form: `0,4-7`.
pub fn short_list(partitions: impl IntoIterator<Item = i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for partition in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == partition => *last = partition,
            _ => ranges.push((partition, partition)),
        }
    }
    let text = |(first, last): &(i32, i32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_and_shown_in_the_same_form() {
        for (text, expect) in [
            ("orders", Some(None)),
            ("orders:3", Some(Some("3"))),
            ("orders:0,4-7", Some(Some("0,4-7"))),
            ("orders:7,1,0,2", Some(Some("0-2,7"))),
            ("", None),
            (":1", None),
            ("orders:", None),
            ("orders:x", None),
            ("orders:-1", None),
            ("orders:5-2", None),
            ("orders:0-2000000000", None),
        ] {
            let found = parse(text).ok().map(|selection| selection.partitions.map(short_list));
            assert_eq!(found.as_ref().map(|list| list.as_deref()), expect, "{text}");
        }
    }
}
