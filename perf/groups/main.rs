//! What groups cost a broker that is running: commits at a rate, members that only send heartbeats, and how soon a
//! group of many is stable.
//!
//! It speaks the protocols of groups over sockets of its own, and reads processor time from /proc when it is told the
//! broker's process. `sink` is the other end for idle members: what answering them costs at least.
//!
//! *Owns*: its connections and groups, which it leaves behind. *Never*: looks into the broker. *Runs on*: any machine;
//! what it measures means most when the broker has its processors to itself (`perf/groups.py` does so).

mod client;
mod commits;
mod idle;
mod join;
mod report;
mod sink;
#[path = "../generator/usage.rs"]
mod usage;

use clap::{Parser, Subcommand};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::client::Client;

/// What is committed and subscribed to.
const TOPIC: &str = "groups";
const PARTITIONS: i32 = 100;

#[derive(Parser)]
struct Arguments {
    /// The broker; for sink the address to listen on.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The broker's process, on this machine.
    #[arg(long)]
    pid: Option<u32>,
    /// Run on this processor.
    #[arg(long)]
    cpu: Option<usize>,
    /// Report as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Commits of one offset each, of as many groups as connections, at a fixed rate.
    Commits(commits::Load),
    /// Groups whose members only send heartbeats.
    Idle(idle::Load),
    /// One group of many members, and one more that joins it.
    Join(join::Load),
    /// Answers heartbeats at once, whoever sends them.
    Sink,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(id) = arguments.cpu {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id }), "there is a processor {id}");
    }
    let report = match &arguments.what {
        What::Sink => sink::serve(&arguments.bootstrap),
        What::Idle(load) if load.raw_sink => idle::run(&arguments, load),
        what => {
            prepare(&arguments.bootstrap);
            match what {
                What::Commits(load) => commits::run(&arguments, load),
                What::Idle(load) => idle::run(&arguments, load),
                What::Join(load) => join::run(&arguments, load),
                What::Sink => unreachable!("it has no broker to prepare"),
            }
        }
    };
    println!("{}", if arguments.json { report.json() } else { report.text() });
}

/// Makes the topic, and those that a coordinator needs.
fn prepare(bootstrap: &str) {
    let mut client = Client::connect(bootstrap);
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let _: CreateTopicsResponse = client.call(5, &create);
    let find = FindCoordinatorRequest { key: "groups".into(), ..FindCoordinatorRequest::default() };
    let found: FindCoordinatorResponse = client.call(2, &find);
    assert_eq!(found.error_code, 0, "{found:?}");
}
