//! What a Fetch could cost at least: a loop that answers each request with the same bytes from memory.
//!
//! *Owns*: as many copies of a batch as a broker would have in its cache, sent in turn: one copy sent again and again
//! would come out of the processor's own cache. *Never*: reads a log, waits for records.

use std::net::TcpListener;

use bytes::Bytes;
use corelog::wire::codec::Records;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use corelog::wire::reader::{DecodeError, Reader};

use crate::{Arguments, answer, produce};

/// What the copies take together.
const POOL_BYTES: usize = 64 << 20;

/// Serves until it is killed.
pub fn serve(arguments: &Arguments) -> Result<(), String> {
    accept(&answer::listen(&arguments.bootstrap)?, pool(&produce::batch(arguments).bytes))
}

/// Copies of a batch, each in memory of its own.
pub fn pool(batch: &Bytes) -> Vec<Bytes> {
    (0..POOL_BYTES.div_ceil(batch.len())).map(|_| Bytes::copy_from_slice(batch)).collect()
}

/// Answers each Fetch from the pool.
pub fn accept(listener: &TcpListener, pool: Vec<Bytes>) -> Result<(), String> {
    let batch_bytes = pool[0].len();
    let mut batches = pool.into_iter().cycle();
    answer::accept(listener, "Fetch is", move |frame| reply(frame, batch_bytes, &mut batches))
}

/// As full as a broker with enough records would make it.
fn reply(
    frame: Bytes,
    batch_bytes: usize,
    batches: &mut impl Iterator<Item = Bytes>,
) -> Result<Vec<Bytes>, DecodeError> {
    let mut reader = Reader::new(frame);
    let header = decode_header(&mut reader)?;
    let request: FetchRequest = decode_body(&mut reader, header.version)?;
    let mut room = request.max_bytes as usize;
    let mut reply = FetchResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let count = room.min(partition.partition_max_bytes as usize) / batch_bytes;
            room -= count * batch_bytes;
            partitions.push(PartitionData {
                partition_index: partition.partition,
                high_watermark: i64::MAX,
                records: Some(Records(batches.take(count).collect())),
                ..Default::default()
            });
        }
        reply.responses.push(FetchableTopicResponse { topic: topic.topic, partitions, ..Default::default() });
    }
    Ok(encode_reply(header.api_key, header.version, header.correlation_id, &reply))
}
