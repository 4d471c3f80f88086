//! The loop that keeps the connections busy.
//!
//! *Owns*: what is in flight, and when the next request is due. *Never*: waits for one connection while another
//! has something to do.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Arguments;
use crate::connection::Connection;
use crate::fetch::FetchLane;
use crate::meter::{Meter, Reply, Report};
use crate::produce::ProduceLane;

/// What one connection asks for.
pub enum Lane {
    Produce(ProduceLane),
    Fetch(FetchLane),
}

/// A request that waits for its reply.
struct Sent {
    correlation_id: i32,
    /// Of a Fetch: the lane's group.
    group: usize,
    at: Instant,
}

struct Worker {
    connection: Connection,
    lane: Lane,
    in_flight: VecDeque<Sent>,
    next_correlation_id: i32,
}

/// Runs until the time is over or the replies are enough.
pub fn run(arguments: &Arguments, lanes: Vec<Lane>) -> Result<Report, String> {
    let mut workers = Vec::new();
    for lane in lanes {
        let connection = Connection::open(&arguments.bootstrap)?;
        workers.push(Worker { connection, lane, in_flight: VecDeque::new(), next_correlation_id: 0 });
    }
    let start = Instant::now();
    let mut meter = Meter::new(arguments, start);
    let mut pace = Pace::new(arguments, start);
    let mut polls = Vec::new();
    loop {
        let now = Instant::now();
        let enough = arguments.requests > 0 && meter.replies() >= arguments.requests;
        if !meter.goes_on(now) || enough {
            return Ok(meter.report(arguments, now));
        }
        polls.clear();
        polls.extend(workers.iter().map(|worker| worker.poll(arguments, &pace, now)));
        // SAFETY: the pointer and the length are those of a vector that lives on, and the kernel writes only the
        // `revents` of its elements.
        let ready = unsafe {
            let timeout = timespec(pace.wait(now).min(Duration::from_millis(50)));
            libc::ppoll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, &timeout, std::ptr::null())
        };
        if ready < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return Err(format!("cannot poll: {}", std::io::Error::last_os_error()));
        }
        for (worker, poll) in workers.iter_mut().zip(&polls) {
            if poll.revents & (libc::POLLIN | libc::POLLERR | libc::POLLHUP) != 0 {
                worker.read(&mut meter)?;
            }
            if poll.revents & libc::POLLOUT != 0 {
                worker.write(arguments, &mut pace, &mut meter)?;
            }
        }
    }
}

impl Worker {
    fn poll(&self, arguments: &Arguments, pace: &Pace, now: Instant) -> libc::pollfd {
        let may_send = self.in_flight.len() < arguments.in_flight && pace.is_due(now);
        let may_send = may_send && self.lane.is_ready();
        let output = if may_send || self.connection.has_output() { libc::POLLOUT } else { 0 };
        libc::pollfd { fd: self.connection.fd(), events: libc::POLLIN | output, revents: 0 }
    }

    fn read(&mut self, meter: &mut Meter) -> Result<(), String> {
        self.connection.read()?;
        let now = Instant::now();
        while let Some(range) = self.connection.next_frame()? {
            let frame = self.connection.bytes(range);
            let sent = self.in_flight.pop_front().ok_or("a reply to nothing")?;
            if frame[..4] != sent.correlation_id.to_be_bytes() {
                return Err(format!("a reply out of order: {:?} instead of {}", &frame[..4], sent.correlation_id));
            }
            let reply = match &mut self.lane {
                Lane::Produce(lane) => lane.reply(frame)?,
                Lane::Fetch(lane) => lane.reply(sent.group, frame)?,
            };
            meter.add(reply, sent.at, now);
        }
        Ok(())
    }

    /// Stages what may be sent, and writes once. A large request goes alone, so that replies are looked at between.
    fn write(&mut self, arguments: &Arguments, pace: &mut Pace, meter: &mut Meter) -> Result<(), String> {
        let now = Instant::now();
        while self.in_flight.len() < arguments.in_flight && self.connection.has_room() && pace.is_due(now) {
            let Some((frame, group, unanswered)) = self.lane.request() else { break };
            let at = pace.take(now);
            let correlation_id = self.next_correlation_id;
            self.next_correlation_id = correlation_id.wrapping_add(1);
            self.connection.stage(&frame, correlation_id);
            match unanswered {
                Some(reply) => meter.add(reply, at, now),
                None => self.in_flight.push_back(Sent { correlation_id, group, at }),
            }
        }
        if self.connection.has_output() { self.connection.write() } else { Ok(()) }
    }
}

impl Lane {
    fn is_ready(&self) -> bool {
        match self {
            Lane::Produce(_) => true,
            Lane::Fetch(lane) => lane.is_ready(),
        }
    }

    /// The next request, its group, and what it counts for if no reply will come.
    fn request(&mut self) -> Option<(Rc<[u8]>, usize, Option<Reply>)> {
        match self {
            Lane::Produce(lane) => {
                let (frame, each) = lane.request();
                Some((frame, 0, (lane.acks == 0).then_some(each)))
            }
            Lane::Fetch(lane) => lane.request().map(|(frame, group)| (frame, group, None)),
        }
    }
}

/// When requests are due.
struct Pace {
    start: Instant,
    /// `None`: whenever there is room.
    interval: Option<Duration>,
    taken: u32,
}

impl Pace {
    fn new(arguments: &Arguments, start: Instant) -> Pace {
        let interval = (arguments.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / arguments.rate));
        Pace { start, interval, taken: 0 }
    }

    fn due(&self) -> Option<Instant> {
        self.interval.map(|interval| self.start + interval * self.taken)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due().is_none_or(|due| due <= now)
    }

    /// How long until the next is due.
    fn wait(&self, now: Instant) -> Duration {
        self.due().map_or(Duration::MAX, |due| due.saturating_duration_since(now))
    }

    /// One is sent: since when its latency counts.
    fn take(&mut self, now: Instant) -> Instant {
        let at = self.due().unwrap_or(now);
        self.taken += 1;
        at
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec { tv_sec: duration.as_secs() as libc::time_t, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bytes::Bytes;
    use clap::Parser;
    use corelog::wire::batch::{BatchLimits, check_produce};
    use corelog::wire::frame::{decode_body, decode_header, encode_reply};
    use corelog::wire::messages::produce::{
        PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
    };
    use corelog::wire::reader::Reader;

    use super::*;
    use crate::{control, fetch, produce, sink};

    fn arguments(address: &str, words: &str) -> Arguments {
        let words = format!("generator {words} --bootstrap {address} --warmup-seconds 0 --seconds 60 --partitions 3");
        Arguments::parse_from(words.split(' '))
    }

    /// Answers Produce as a broker would; partition 2 with NOT_LEADER_OR_FOLLOWER.
    fn produce_stub() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accept");
                std::thread::spawn(move || {
                    while let Ok(frame) = control::read_frame(&mut stream) {
                        let reply = produce_reply(frame);
                        // The generator goes away in the middle of things.
                        if std::io::Write::write_all(&mut stream, &reply.concat()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn produce_reply(frame: Bytes) -> Vec<Bytes> {
        let mut reader = Reader::new(frame);
        let header = decode_header(&mut reader).expect("a header");
        let mut request: ProduceRequest = decode_body(&mut reader, header.version).expect("a request");
        let topic = request.topic_data.pop().expect("one topic");
        let partition = &topic.partition_data[0];
        let limits = BatchLimits {
            max_message_bytes: 1 << 20,
            timestamp_type: Default::default(),
            before_max_ms: i64::MAX,
            after_max_ms: i64::MAX,
        };
        check_produce(partition.records.as_ref().expect("records"), &limits, 0).expect("a whole batch");
        let error_code = if partition.index == 2 { 6 } else { 0 };
        let partition = PartitionProduceResponse { index: partition.index, error_code, ..Default::default() };
        let topic =
            TopicProduceResponse { name: topic.name, partition_responses: vec![partition], ..Default::default() };
        let reply = ProduceResponse { responses: vec![topic], ..Default::default() };
        encode_reply(header.api_key, header.version, header.correlation_id, &reply)
    }

    #[test]
    fn produce_counts_replies_and_errors() {
        let address = produce_stub();
        let check = |words: &str, batch_bytes: std::ops::Range<f64>| {
            let arguments = arguments(&address, words);
            let report = run(&arguments, produce::lanes(&arguments)).expect("it runs");
            let requests = report.number("requests");
            assert!(requests >= 300.0, "{words}: {requests}");
            let errors = report.errors[&6] as f64;
            // A third, unless connections of their own are served unevenly.
            assert!((0.1..0.9).contains(&(errors / requests)), "{words}: {errors} of {requests}");
            let each = report.number("bytes") / (requests - errors);
            assert!(batch_bytes.contains(&each), "{words}: {each}");
            assert!(report.number("p50_us") > 0.0);
            assert!(report.number("max_us") >= report.number("p50_us"));
        };
        check("produce --requests 300 --batch-bytes 1 --record-bytes 1000 --in-flight 64", 1060.0..1090.0);
        check("produce --requests 300 --batch-bytes 262144 --in-flight 8", 261_000.0..262_145.0);
        check("produce --requests 300 --batch-bytes 20000 --in-flight 1 --connections 3", 19_000.0..20_001.0);
        check("produce --requests 300 --batch-bytes 1 --in-flight 10 --rate 5000", 1060.0..1090.0);
    }

    #[test]
    fn fetch_counts_what_the_sink_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let batch = produce::batch(&arguments(&address, "send-sink --batch-bytes 100000")).bytes;
        let (batch_bytes, pool) = (batch.len() as f64, sink::pool(&batch));
        std::thread::spawn(move || sink::accept(&listener, pool));
        let check = |words: &str, batches_a_reply: f64| {
            let arguments = arguments(&address, words);
            let report = run(&arguments, fetch::lanes(&arguments, &[0; 3])).expect("it runs");
            assert!(report.errors.is_empty());
            let requests = report.number("requests");
            assert!(requests >= 50.0);
            assert_eq!(report.number("bytes"), requests * batches_a_reply * batch_bytes, "{words}");
        };
        check("fetch --raw-sink --requests 50 --in-flight 1", 30.0);
        check("fetch --raw-sink --requests 50 --in-flight 3", 10.0);
        check("fetch --raw-sink --requests 50 --in-flight 1 --fetch-bytes 1500000", 15.0);
        check("fetch --raw-sink --requests 50 --in-flight 2 --connections 3 --partition-fetch-bytes 250000", 2.0);
    }
}
