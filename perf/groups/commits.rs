//! Offset commits at a fixed rate, each connection a group of its own.
//!
//! *Owns*: two threads a connection, one that sends and one that reads. *Never*: waits for a reply before it sends the
//! next. *Runs on*: any processor.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use corelog::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use hdrhistogram::Histogram;

use crate::client::Client;
use crate::report::{Report, latencies};
use crate::usage::Cpu;
use crate::{Arguments, PARTITIONS, TOPIC};

const COMMIT: i16 = 7;

#[derive(Args)]
pub struct Load {
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    #[arg(long, default_value_t = 16)]
    connections: u64,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

pub fn run(arguments: &Arguments, load: &Load) -> Report {
    let (before, began) = (Cpu::now(arguments.pid), Instant::now());
    let threads: Vec<_> = (0..load.connections)
        .map(|number| {
            let client = Client::connect(&arguments.bootstrap);
            let (rate, seconds) = (load.rate / load.connections, load.seconds);
            thread::spawn(move || commit_at(client, number, rate, seconds))
        })
        .collect();
    let mut all = latencies();
    for thread in threads {
        all.add(thread.join().expect("no panic")).expect("of the same bounds");
    }
    let mut report = Report::new("commits");
    report.add_requests(&all, began, Cpu::now(arguments.pid).since(before));
    report
}

/// Latencies from the intended time of sending.
fn commit_at(mut client: Client, number: u64, rate: u64, seconds: u64) -> Histogram<u64> {
    let mut reader = client.handle();
    let (due_to_reader, due) = mpsc::channel::<Instant>();
    let reading = thread::spawn(move || {
        let mut latencies = latencies();
        for due in due {
            let reply: OffsetCommitResponse = reader.receive(COMMIT);
            assert_eq!(reply.topics[0].partitions[0].error_code, 0, "{reply:?}");
            latencies.saturating_record(due.elapsed().as_micros() as u64);
        }
        latencies
    });
    let began = Instant::now();
    for offset in 0..rate * seconds {
        let at = began + Duration::from_nanos(offset * 1_000_000_000 / rate);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        client.send(COMMIT, &commit_request(number, offset));
        due_to_reader.send(at).expect("the reader lives");
    }
    drop(due_to_reader);
    reading.join().expect("no panic")
}

fn commit_request(number: u64, offset: u64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: (offset % PARTITIONS as u64) as i32,
        committed_offset: offset as i64,
        committed_metadata: Some("".into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: format!("commits-{number}").into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}
