//! A raw Kafka load generator: requests are built once and sent again, so that it is never what limits the server.
//!
//! `produce` and `fetch` load a server over one or more pipelined connections and report throughput, latency and
//! errors. `send-sink` is the other end for `fetch`: it answers with the same bytes from memory, as fast as a plain
//! loop of vectored sends can. `ack-sink` is the other end for any producer: it acknowledges and keeps nothing.
//!
//! *Owns*: one run and its report. *Never*: keeps what it reads, retries a request. *Runs on*: one thread (the sink:
//! one a connection), pinned with `--cpu`.

mod ack_sink;
mod answer;
mod connection;
mod control;
mod fetch;
mod load;
mod meter;
mod produce;
mod sink;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

#[derive(Parser, Clone, Debug)]
#[command(about = "A raw pipelined Kafka load generator")]
struct Arguments {
    mode: Mode,
    /// The server; for send-sink the address to listen on.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long, default_value = "perf")]
    topic: String,
    #[arg(long, default_value_t = 16)]
    partitions: i32,
    /// produce, send-sink: a batch holds as many records as fit in this, but at least one.
    #[arg(long, default_value_t = 256 << 10)]
    batch_bytes: usize,
    /// The value of each record.
    #[arg(long, default_value_t = 1000)]
    record_bytes: usize,
    /// Requests of one connection that wait for their replies.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// The partitions are dealt out to the connections; producers share them when there are fewer.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to run before.
    #[arg(long, default_value_t = 1.0)]
    warmup_seconds: f64,
    /// Stop after so many replies, wherever in the run that is; 0: no limit.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Requests a second, evenly spaced, with latency counted from when each was due; 0: as fast as replies come.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// produce: −1, 0 or 1.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    acks: i16,
    /// produce: a setting of the topic that is created, as NAME=VALUE.
    #[arg(long)]
    topic_setting: Vec<String>,
    /// fetch: where to begin.
    #[arg(long, value_enum, default_value = "earliest")]
    from: From,
    /// fetch: wait at the end for more. Otherwise a partition read to its end is begun again.
    #[arg(long)]
    follow: bool,
    /// fetch: the most of one reply.
    #[arg(long, default_value_t = 8 << 20)]
    fetch_bytes: i32,
    /// fetch: the most of one partition in a reply.
    #[arg(long, default_value_t = 1 << 20)]
    partition_fetch_bytes: i32,
    /// The peer is a sink that answers nothing but the load: no topic is created, no offset asked for.
    #[arg(long)]
    raw_sink: bool,
    /// Pin to this processor.
    #[arg(long)]
    cpu: Option<usize>,
    /// Report the processor time that this process used meanwhile.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Report what this block device wrote meanwhile; as MAJOR:MINOR.
    #[arg(long)]
    disk: Option<String>,
    /// Report as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Produce,
    Fetch,
    SendSink,
    AckSink,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Earliest,
    Latest,
}

impl Arguments {
    fn check(&self) -> Result<(), String> {
        let fine = [
            (self.partitions > 0, "--partitions must be above 0"),
            (self.in_flight > 0, "--in-flight must be above 0"),
            (self.connections > 0, "--connections must be above 0"),
            (
                self.mode != Mode::Fetch || self.connections <= self.partitions as usize,
                "--connections must not be above --partitions where they read",
            ),
            ((-1..=1).contains(&self.acks), "--acks must be -1, 0 or 1"),
            (self.seconds > 0.0 && self.warmup_seconds >= 0.0, "--seconds must be above 0"),
            (self.rate >= 0.0, "--rate must not be negative"),
        ];
        match fine.into_iter().find(|(fine, _)| !fine) {
            Some((_, wrong)) => Err(wrong.into()),
            None => Ok(()),
        }
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup_seconds)
    }

    fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("generator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    arguments.check()?;
    if let Some(id) = arguments.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!("cannot run on processor {id}"));
    }
    let report = match arguments.mode {
        Mode::SendSink => return sink::serve(arguments),
        Mode::AckSink => return ack_sink::serve(arguments),
        Mode::Produce => {
            if !arguments.raw_sink {
                control::create_topic(arguments)?;
            }
            load::run(arguments, produce::lanes(arguments))?
        }
        Mode::Fetch => {
            let starts =
                if arguments.raw_sink { vec![0; arguments.partitions as usize] } else { control::offsets(arguments)? };
            load::run(arguments, fetch::lanes(arguments, &starts))?
        }
    };
    println!("{}", if arguments.json { report.json() } else { report.text() });
    Ok(())
}
