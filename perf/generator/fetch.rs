//! Fetch requests: the partitions of a connection in as many groups as may be in flight, each read in turn.
//!
//! *Owns*: how far each partition is read, and reading replies where they lie. *Never*: copies or checks records
//! beyond the headers of their batches.

use std::rc::Rc;

use corelog::wire::batch::BatchHeader;
use corelog::wire::frame::{RequestHeader, encode_request};
use corelog::wire::messages::fetch::{API, FetchPartition, FetchRequest, FetchTopic};

use crate::load::Lane;
use crate::meter::Reply;
use crate::{Arguments, control};

/// The last version that names topics.
const VERSION: i16 = 12;

pub struct FetchLane {
    arguments: Arguments,
    groups: Vec<Group>,
    next: usize,
}

struct Group {
    partitions: Vec<Partition>,
    in_flight: bool,
}

#[derive(Clone)]
struct Partition {
    index: i32,
    start: i64,
    next: i64,
}

/// A lane a connection, with the partitions dealt out.
pub fn lanes(arguments: &Arguments, starts: &[i64]) -> Vec<Lane> {
    let lane = |first: usize| {
        let partitions: Vec<_> = (starts.iter().enumerate().skip(first).step_by(arguments.connections))
            .map(|(index, &start)| Partition { index: index as i32, start, next: start })
            .collect();
        let size = partitions.len().div_ceil(arguments.in_flight);
        let groups = partitions.chunks(size).map(|chunk| Group { partitions: chunk.to_vec(), in_flight: false });
        Lane::Fetch(FetchLane { arguments: arguments.clone(), groups: groups.collect(), next: 0 })
    };
    (0..arguments.connections).map(lane).collect()
}

impl FetchLane {
    /// Whether there is a group with nothing in flight.
    pub fn is_ready(&self) -> bool {
        self.groups.iter().any(|group| !group.in_flight)
    }

    /// A request of a group that has none in flight, and the group's number.
    pub fn request(&mut self) -> Option<(Rc<[u8]>, usize)> {
        let count = self.groups.len();
        let number = (self.next..self.next + count).map(|n| n % count).find(|&n| !self.groups[n].in_flight)?;
        self.next = (number + 1) % count;
        let group = &mut self.groups[number];
        group.in_flight = true;
        let frame = frame(&self.arguments, &group.partitions);
        // What was served first is asked for last, as consumers do, since a reply may be full before its end.
        group.partitions.rotate_left(1);
        Some((frame, number))
    }

    pub fn reply(&mut self, number: usize, frame: &[u8]) -> Result<Reply, String> {
        let group = &mut self.groups[number];
        group.in_flight = false;
        let mut total = Reply::default();
        let mut reply = Scan(frame);
        reply.skip(4)?;
        reply.tags()?;
        reply.skip(4)?;
        total.error = reply.i16()?;
        reply.skip(4)?;
        for _ in 0..reply.count()? {
            let name = reply.count()?;
            reply.skip(name)?;
            for _ in 0..reply.count()? {
                let part = reply.partition()?;
                if part.error != 0 {
                    total.error = part.error;
                }
                let Some(partition) = group.partitions.iter_mut().find(|p| p.index == part.index) else {
                    return Err(format!("partition {} was not asked for", part.index));
                };
                partition.advance(&part, &mut total, self.arguments.follow)?;
            }
            reply.tags()?;
        }
        Ok(total)
    }
}

impl Partition {
    fn advance(&mut self, part: &Part<'_>, total: &mut Reply, follow: bool) -> Result<(), String> {
        let mut rest = part.records;
        while let Some(header) = BatchHeader::read(rest) {
            // What is cut off at the end of a reply comes again with the next.
            let Some((_, after)) = rest.split_at_checked(header.size_bytes()) else { break };
            if header.magic != 2 || header.records_count < 0 {
                return Err(format!("partition {} gave something that is no batch", self.index));
            }
            total.bytes += header.size_bytes() as u64;
            total.records += header.records_count as u64;
            self.next = header.next_offset().0;
            rest = after;
        }
        if self.next >= part.high_watermark && !follow {
            self.next = self.start;
        }
        Ok(())
    }
}

fn frame(arguments: &Arguments, partitions: &[Partition]) -> Rc<[u8]> {
    let partitions = partitions.iter().map(|partition| FetchPartition {
        partition: partition.index,
        fetch_offset: partition.next,
        partition_max_bytes: arguments.partition_fetch_bytes,
        ..Default::default()
    });
    let topic =
        FetchTopic { topic: arguments.topic.as_str().into(), partitions: partitions.collect(), ..Default::default() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: arguments.fetch_bytes,
        topics: vec![topic],
        ..Default::default()
    };
    let header =
        RequestHeader { api_key: API.key, version: VERSION, correlation_id: 0, client_id: control::client_id() };
    encode_request(&header, &request).concat().into()
}

/// What a reply says of one partition.
struct Part<'a> {
    index: i32,
    error: i16,
    high_watermark: i64,
    records: &'a [u8],
}

/// Reads a reply of [`VERSION`] in place: replies are megabytes, and decoding them would mean owning them.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    fn partition(&mut self) -> Result<Part<'a>, String> {
        let index = self.i32()?;
        let error = self.i16()?;
        let high_watermark = self.i64()?;
        self.skip(8 + 8)?;
        for _ in 0..self.count()? {
            self.skip(8 + 8)?;
            self.tags()?;
        }
        self.skip(4)?;
        let length = self.count()?;
        let records = self.skip(length)?;
        self.tags()?;
        Ok(Part { index, error, high_watermark, records })
    }

    fn skip(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let (skipped, rest) = self.0.split_at_checked(bytes).ok_or("a Fetch reply is too short")?;
        self.0 = rest;
        Ok(skipped)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.skip(N)?.first_chunk().expect("as many as were asked for"))
    }

    fn i16(&mut self) -> Result<i16, String> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<usize, String> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a Fetch reply has a length without an end".into())
    }

    /// A compact length or count; null is none.
    fn count(&mut self) -> Result<usize, String> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn tags(&mut self) -> Result<(), String> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let bytes = self.varint()?;
            self.skip(bytes)?;
        }
        Ok(())
    }
}
