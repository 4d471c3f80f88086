//! The few requests before a run: create the topic, ask where its partitions begin and end.
//!
//! *Owns*: a blocking connection for as long as one request takes. *Never*: part of what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::wire::codec::Message;
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame::{RequestHeader, decode_reply, encode_request};
use corelog::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::text::Text;

use crate::{Arguments, From};

const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Creates the topic, unless it is there, and waits until each partition has a leader.
pub fn create_topic(arguments: &Arguments) -> Result<(), String> {
    let mut configs = Vec::new();
    for setting in &arguments.topic_setting {
        let (name, value) = setting.split_once('=').ok_or("--topic-setting takes NAME=VALUE")?;
        configs.push(CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    }
    let topic = CreatableTopic {
        name: arguments.topic.as_str().into(),
        num_partitions: arguments.partitions,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let reply: CreateTopicsResponse = ask(arguments, 5, &request)?;
    let result = reply.topics.first().ok_or("CreateTopics was answered with no topic")?;
    if !matches!(ErrorCode::from_code(result.error_code), Some(ErrorCode::None | ErrorCode::TopicAlreadyExists)) {
        let message = result.error_message.as_deref().unwrap_or("");
        return Err(format!("cannot create the topic: {} {message}", name(result.error_code)));
    }
    wait_for_leaders(arguments)
}

fn wait_for_leaders(arguments: &Arguments) -> Result<(), String> {
    let topic = MetadataRequestTopic { name: Some(arguments.topic.as_str().into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    let until = Instant::now() + ANSWER_WAIT;
    loop {
        let reply: MetadataResponse = ask(arguments, 9, &request)?;
        let partitions = reply.topics.first().map_or(&[][..], |topic| &topic.partitions);
        let led = partitions.iter().filter(|partition| partition.error_code == 0 && partition.leader_id >= 0).count();
        if led == arguments.partitions as usize {
            return Ok(());
        }
        if led > arguments.partitions as usize || Instant::now() > until {
            return Err(format!("topic {} has {led} partitions with a leader", arguments.topic));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where to begin in each partition.
pub fn offsets(arguments: &Arguments) -> Result<Vec<i64>, String> {
    let timestamp = match arguments.from {
        From::Earliest => -2,
        From::Latest => -1,
    };
    let partition = |index| ListOffsetsPartition { partition_index: index, timestamp, ..Default::default() };
    let partitions = (0..arguments.partitions).map(partition).collect();
    let topics = vec![ListOffsetsTopic { name: arguments.topic.as_str().into(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let reply: ListOffsetsResponse = ask(arguments, 6, &request)?;
    let mut offsets = vec![0; arguments.partitions as usize];
    for partition in reply.topics.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            let index = partition.partition_index;
            return Err(format!("cannot find the offsets of partition {index}: {}", name(partition.error_code)));
        }
        let place = usize::try_from(partition.partition_index).ok().and_then(|index| offsets.get_mut(index));
        *place.ok_or("ListOffsets was answered with a partition that was not asked for")? = partition.offset;
    }
    Ok(offsets)
}

/// The error's name, for people.
pub fn name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.to_string())
}

/// The client id that every request carries.
pub fn client_id() -> Option<Text> {
    Some("generator".into())
}

fn ask<Q: Message, A: Message>(arguments: &Arguments, version: i16, request: &Q) -> Result<A, String> {
    let address = &arguments.bootstrap;
    let mut stream = TcpStream::connect(address).map_err(|error| format!("cannot connect to {address}: {error}"))?;
    let api_key = Q::API.key;
    let header = RequestHeader { api_key, version, correlation_id: 1, client_id: client_id() };
    let asked = stream
        .set_read_timeout(Some(ANSWER_WAIT))
        .and_then(|()| stream.write_all(&encode_request(&header, request).concat()))
        .and_then(|()| read_frame(&mut stream));
    let frame = asked.map_err(|error| format!("no answer to {}: {error}", Q::API.name))?;
    let (_, reply) = decode_reply(api_key, version, frame).map_err(|error| format!("{}: {error}", Q::API.name))?;
    Ok(reply)
}

/// One frame without its length.
pub fn read_frame(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; i32::from_be_bytes(length).clamp(0, 64 << 20) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame.into())
}
