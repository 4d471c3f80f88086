//! Any bytes as a request frame, and as a reply: they are read or refused, and what was read comes back the same.
//!
//! `cargo +nightly fuzz run decode`. The first byte says whether what follows a request header is a request or the
//! reply to it.

#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use corelog::wire::codec::Message;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::*;
use corelog::wire::reader::Reader;
use corelog::wire::writer::Writer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, frame)) = data.split_first() else {
        return;
    };
    let mut reader = Reader::new(Bytes::copy_from_slice(frame));
    let Ok(RequestHeader { api_key, version, .. }) = frame::decode_header(&mut reader) else {
        return;
    };
    let known = api(api_key).is_some_and(|api| api.version(version).is_some());
    if known && kind % 2 == 0 {
        request(api_key, version, &mut reader);
    } else if known {
        reply(api_key, version, &mut reader);
    }
});

fn request(api_key: i16, version: i16, reader: &mut Reader) {
    match api_key {
        0 => there_and_back::<produce::ProduceRequest>(reader, version),
        1 => there_and_back::<fetch::FetchRequest>(reader, version),
        2 => there_and_back::<list_offsets::ListOffsetsRequest>(reader, version),
        3 => there_and_back::<metadata::MetadataRequest>(reader, version),
        10 => there_and_back::<find_coordinator::FindCoordinatorRequest>(reader, version),
        18 => there_and_back::<api_versions::ApiVersionsRequest>(reader, version),
        19 => there_and_back::<create_topics::CreateTopicsRequest>(reader, version),
        20 => there_and_back::<delete_topics::DeleteTopicsRequest>(reader, version),
        22 => there_and_back::<init_producer_id::InitProducerIdRequest>(reader, version),
        23 => there_and_back::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>(reader, version),
        32 => there_and_back::<describe_configs::DescribeConfigsRequest>(reader, version),
        37 => there_and_back::<create_partitions::CreatePartitionsRequest>(reader, version),
        60 => there_and_back::<describe_cluster::DescribeClusterRequest>(reader, version),
        75 => there_and_back::<describe_topic_partitions::DescribeTopicPartitionsRequest>(reader, version),
        _ => unreachable!("an API without a row here"),
    }
}

fn reply(api_key: i16, version: i16, reader: &mut Reader) {
    match api_key {
        0 => there_and_back::<produce::ProduceResponse>(reader, version),
        1 => there_and_back::<fetch::FetchResponse>(reader, version),
        2 => there_and_back::<list_offsets::ListOffsetsResponse>(reader, version),
        3 => there_and_back::<metadata::MetadataResponse>(reader, version),
        10 => there_and_back::<find_coordinator::FindCoordinatorResponse>(reader, version),
        18 => there_and_back::<api_versions::ApiVersionsResponse>(reader, version),
        19 => there_and_back::<create_topics::CreateTopicsResponse>(reader, version),
        20 => there_and_back::<delete_topics::DeleteTopicsResponse>(reader, version),
        22 => there_and_back::<init_producer_id::InitProducerIdResponse>(reader, version),
        23 => there_and_back::<offset_for_leader_epoch::OffsetForLeaderEpochResponse>(reader, version),
        32 => there_and_back::<describe_configs::DescribeConfigsResponse>(reader, version),
        37 => there_and_back::<create_partitions::CreatePartitionsResponse>(reader, version),
        60 => there_and_back::<describe_cluster::DescribeClusterResponse>(reader, version),
        75 => there_and_back::<describe_topic_partitions::DescribeTopicPartitionsResponse>(reader, version),
        _ => unreachable!("an API without a row here"),
    }
}

fn there_and_back<M: Message + PartialEq + Debug>(reader: &mut Reader, version: i16) {
    let Ok(message) = frame::decode_body::<M>(reader, version) else {
        return;
    };
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    let bytes = Bytes::from(writer.finish().concat());
    assert_eq!(frame::decode_body::<M>(&mut Reader::new(bytes), version), Ok(message));
}
