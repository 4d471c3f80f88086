//! DescribeTopicPartitions (API 75, version 0): topics page by page, in the order of their names (KIP-966).
//!
//! *Owns*: where a page ends. *Never*: changes anything. *Runs on*: the core whose client asked.

use std::collections::BTreeSet;

use crate::base::limits;
use crate::base::names;
use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::meta::Topic;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) =
        api::decode::<DescribeTopicPartitionsRequest>(shard, &mut request, "DescribeTopicPartitions", effects)
    else {
        return;
    };
    let (first_name, first_partition) = match &asked.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index.max(0)),
        None => (String::new(), 0),
    };
    let names: BTreeSet<String> = if asked.topics.is_empty() {
        shard.image.topics_from(&first_name).map(|topic| topic.name.clone()).collect()
    } else {
        let names = asked.topics.iter().map(|topic| topic.name.to_string());
        names.filter(|name| *name >= first_name).collect()
    };
    let limit = usize::try_from(asked.response_partition_limit).unwrap_or(0);
    let mut room = limit.clamp(1, limits::DESCRIBED_PARTITIONS_MAX);
    let mut reply = DescribeTopicPartitionsResponse::default();
    for name in names {
        let start = if name == first_name { first_partition } else { 0 };
        let Some(topic) = shard.image.topic(&name) else {
            reply.topics.push(unknown_row(&name));
            continue;
        };
        if room == 0 {
            reply.next_cursor = Some(Cursor { topic_name: name.as_str().into(), partition_index: start });
            break;
        }
        let start = start.min(topic.partitions);
        let end = topic.partitions.min(start.saturating_add(room as i32));
        reply.topics.push(topic_row(shard, asker, topic, start, end));
        room -= usize::try_from(end - start).unwrap_or(0);
        if end < topic.partitions {
            reply.next_cursor = Some(Cursor { topic_name: name.as_str().into(), partition_index: end });
            break;
        }
    }
    shard.reply(key::DESCRIBE_TOPIC_PARTITIONS, asker, &reply, effects);
}

fn topic_row(shard: &Shard, asker: Asker, topic: &Topic, start: i32, end: i32) -> DescribeTopicPartitionsResponseTopic {
    let wanted = topic.states().skip(start as usize).take((end - start) as usize);
    let partitions = wanted.map(|(partition, state)| {
        let shown = shard.shown_partition(asker.listener, topic.id, partition, state);
        DescribeTopicPartitionsResponsePartition {
            error_code: shown.error.code(),
            partition_index: partition.0,
            leader_id: shown.leader,
            leader_epoch: shown.leader_epoch,
            replica_nodes: shown.replicas,
            isr_nodes: shown.isr,
            offline_replicas: shown.offline,
            // Java's admin client takes no null for a list.
            eligible_leader_replicas: Some(shown.elr),
            last_known_elr: Some(Vec::new()),
        }
    });
    let partitions = partitions.collect();
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: names::is_internal(&topic.name),
        partitions,
        topic_authorized_operations: metadata::TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn unknown_row(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        name: Some(name.into()),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
