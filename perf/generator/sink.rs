//! What a Fetch could cost at least: a loop that answers each request with the same bytes from memory.
//!
//! *Owns*: as many copies of a batch as a broker would have in its cache, sent in turn: one copy sent again and again
//! would come out of the processor's own cache. *Never*: reads a log, waits for records.

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{TcpListener, TcpStream};

use bytes::{Buf, Bytes};
use corelog::wire::codec::Records;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use corelog::wire::reader::{DecodeError, Reader};

use crate::{Arguments, control, produce};

/// Slices of one vectored send: Linux takes no more than 1,024.
const SLICES_MAX: usize = 1024;

/// What the copies take together.
const POOL_BYTES: usize = 64 << 20;

/// Serves until it is killed.
pub fn serve(arguments: &Arguments) -> Result<(), String> {
    let address = &arguments.bootstrap;
    let listener = TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", listener.local_addr().map_err(|error| error.to_string())?);
    accept(&listener, &pool(&produce::batch(arguments).bytes))
}

/// Copies of a batch, each in memory of its own.
pub fn pool(batch: &Bytes) -> Vec<Bytes> {
    (0..POOL_BYTES.div_ceil(batch.len())).map(|_| Bytes::copy_from_slice(batch)).collect()
}

/// A thread for each connection.
pub fn accept(listener: &TcpListener, pool: &[Bytes]) -> Result<(), String> {
    for stream in listener.incoming() {
        let stream = stream.map_err(|error| format!("cannot accept: {error}"))?;
        let pool = pool.to_vec();
        std::thread::spawn(move || {
            if let Err(why) = answer(stream, &pool) {
                eprintln!("generator: {why}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, pool: &[Bytes]) -> Result<(), String> {
    let mut batches = pool.iter().cycle();
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    loop {
        let frame = match control::read_frame(&mut stream) {
            Ok(frame) => frame,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(error) => return Err(format!("cannot read: {error}")),
        };
        let reply =
            reply(frame, pool[0].len(), &mut batches).map_err(|error| format!("only Fetch is answered: {error}"))?;
        if send(&mut stream, reply).is_err() {
            return Ok(());
        }
    }
}

/// As full as a broker with enough records would make it.
fn reply<'a>(
    frame: Bytes,
    batch_bytes: usize,
    batches: &mut impl Iterator<Item = &'a Bytes>,
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
                records: Some(Records(batches.take(count).cloned().collect())),
                ..Default::default()
            });
        }
        reply.responses.push(FetchableTopicResponse { topic: topic.topic, partitions, ..Default::default() });
    }
    Ok(encode_reply(header.api_key, header.version, header.correlation_id, &reply))
}

fn send(stream: &mut TcpStream, mut slices: Vec<Bytes>) -> std::io::Result<()> {
    let mut first = 0;
    while first < slices.len() {
        let vector: Vec<_> = slices[first..].iter().take(SLICES_MAX).map(|slice| IoSlice::new(slice)).collect();
        let mut sent = stream.write_vectored(&vector)?;
        while first < slices.len() && sent >= slices[first].len() {
            sent -= slices[first].len();
            first += 1;
        }
        if sent > 0 {
            slices[first].advance(sent);
        }
    }
    Ok(())
}
