//! What a generator could do at most: the other end of Produce, which reads requests and acknowledges them at once.
//!
//! *Owns*: the three replies that a producer needs. *Never*: checks a batch, keeps a byte.

use bytes::Bytes;
use corelog::wire::codec::Api;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelog::wire::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use corelog::wire::messages::{api_versions, metadata, produce};
use corelog::wire::reader::{DecodeError, Reader};

use crate::{Arguments, answer};

const NODE: i32 = 1;

/// Serves until it is killed.
pub fn serve(arguments: &Arguments) -> Result<(), String> {
    let listener = answer::listen(&arguments.bootstrap)?;
    let local = listener.local_addr().map_err(|error| error.to_string())?;
    let (port, partitions) = (i32::from(local.port()), arguments.partitions);
    answer::accept(&listener, "producers are", move |frame| reply(frame, port, partitions))
}

fn reply(frame: Bytes, port: i32, partitions: i32) -> Result<Vec<Bytes>, DecodeError> {
    let mut reader = Reader::new(frame);
    let header = decode_header(&mut reader)?;
    let (key, version, id) = (header.api_key, header.version, header.correlation_id);
    Ok(if key == produce::API.key {
        encode_reply(key, version, id, &acknowledged(decode_body(&mut reader, version)?))
    } else if key == metadata::API.key {
        encode_reply(key, version, id, &cluster(&decode_body(&mut reader, version)?, port, partitions))
    } else {
        decode_body::<ApiVersionsRequest>(&mut reader, version)?;
        encode_reply(key, version, id, &versions())
    })
}

fn versions() -> ApiVersionsResponse {
    let row = |api: Api| {
        let (min_version, max_version) = (api.versions.first, api.versions.last.min(9));
        ApiVersion { api_key: api.key, min_version, max_version }
    };
    let apis = [produce::API, metadata::API, api_versions::API];
    ApiVersionsResponse { api_keys: apis.map(row).to_vec(), ..Default::default() }
}

fn cluster(asked: &MetadataRequest, port: i32, partitions: i32) -> MetadataResponse {
    let broker = MetadataResponseBroker { node_id: NODE, host: "127.0.0.1".into(), port, rack: None };
    let rows = (0..partitions).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: NODE,
        replica_nodes: vec![NODE],
        isr_nodes: vec![NODE],
        ..Default::default()
    });
    let rows: Vec<_> = rows.collect();
    let topics = asked.topics.iter().flatten().map(|topic| MetadataResponseTopic {
        name: topic.name.clone(),
        partitions: rows.clone(),
        ..Default::default()
    });
    MetadataResponse { brokers: vec![broker], controller_id: NODE, topics: topics.collect(), ..Default::default() }
}

fn acknowledged(asked: ProduceRequest) -> ProduceResponse {
    let responses = asked.topic_data.into_iter().map(|topic| {
        let rows = topic.partition_data.iter();
        let rows = rows.map(|part| PartitionProduceResponse { index: part.index, ..Default::default() });
        TopicProduceResponse { name: topic.name, partition_responses: rows.collect(), ..Default::default() }
    });
    ProduceResponse { responses: responses.collect(), ..Default::default() }
}
