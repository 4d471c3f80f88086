//! What a Corelog broker tells of a run: what the stages of requests took, and what it wrote, pulled from its HTTP
//! listener.
//!
//! *Owns*: the HTTP requests, and which part of the broker's log is the run's. *Never*: fails a run: a broker that
//! does not answer leaves a complaint. *Runs on*: the thread that asked for the run, before
//! and after it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::bench::control::BenchError;
use crate::bench::environment::NOT_READABLE;
use crate::bench::hlog::{self, Entry, Log};
use crate::bench::packed::{Packed, Sum};
use crate::bench::result::RunResult;
use crate::bench::run::Finished;
use crate::bench::writes::Writes;
use crate::client::connection::resolve;

const PATH: &str = "/stages.hlog";
const METRICS_PATH: &str = "/metrics";

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// More than any broker of ours keeps.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// Where a broker serves its stages: `HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagesAddress(String);

impl StagesAddress {
    /// From what the broker prints at its start, or HOST:PORT alone.
    pub fn parse(text: &str) -> Result<StagesAddress, String> {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix(PATH).or_else(|| rest.strip_suffix('/')).unwrap_or(rest);
        match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() => {
                Ok(StagesAddress(rest.to_owned()))
            }
            _ => Err(format!("`{text}` is no http://HOST:PORT, as a broker with --http prints it")),
        }
    }
}

/// Makes a run and puts into its result what the broker, if it can be asked, tells of it.
pub fn watched(
    address: Option<&StagesAddress>,
    run: impl FnOnce() -> Result<Finished, BenchError>,
) -> Result<Finished, BenchError> {
    let Some(address) = address else { return run() };
    let before = writes(address);
    let mut finished = run()?;
    pull(address, &mut finished.result);
    let StagesAddress(name) = address;
    let written = before.and_then(|before| {
        let since = writes(address)?.since(before);
        since.map_err(|why| BenchError::new(format!("http://{name}{METRICS_PATH}: {why}")))
    });
    match written {
        Ok(written) => finished.result.writes = Some(written),
        Err(error) => finished.result.complaints.push((error.to_string(), 1)),
    }
    Ok(finished)
}

/// What the broker has written since its start.
fn writes(address: &StagesAddress) -> Result<Writes, BenchError> {
    let StagesAddress(name) = address;
    let parsed = Writes::parse(&ask(address, METRICS_PATH)?);
    parsed.map_err(|why| BenchError::new(format!("http://{name}{METRICS_PATH}: {why}")))
}

/// Puts the broker's stages over the time of the run into its result.
fn pull(address: &StagesAddress, result: &mut RunResult) {
    let pulled = ask(address, PATH).and_then(|text| Ok((software(&text), of_run(&text, address, result)?)));
    match pulled {
        Ok((software, text)) => {
            result.broker.software = software.unwrap_or_else(|| NOT_READABLE.to_owned());
            result.stages_hlog = Some(text);
        }
        Err(error) => result.complaints.push((error.to_string(), 1)),
    }
}

/// Who logged: `corelog 0.1.0`.
fn software(text: &str) -> Option<String> {
    let who = text.lines().find_map(|line| line.strip_prefix("#[Logged by "))?;
    Some(who.split([':', ',', ']']).next()?.trim().to_owned())
}

/// How long Produce requests took inside the broker, from the first byte to the last.
pub fn produce_total(result: &RunResult) -> Option<Packed> {
    let log = hlog::read(result.stages_hlog.as_deref()?.as_bytes(), PATH).unwrap_or_else(|broken| broken.read);
    let is_total = |entry: &&Entry| {
        let rest = entry.tag.as_deref().and_then(|tag| tag.strip_prefix("produce.total"));
        // Behind it a core may be named.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    Some(Sum::of(log.entries.iter().filter(is_total).map(|entry| &entry.histogram)))
}

fn ask(address: &StagesAddress, path: &str) -> Result<String, BenchError> {
    let StagesAddress(name) = address;
    let failed = |why: &dyn ToString| BenchError::new(format!("http://{name}{path}: {}", why.to_string()));
    let socket = resolve(name)?;
    let mut stream = TcpStream::connect_timeout(&socket, CONNECT_WAIT).map_err(|why| failed(&why))?;
    stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(|why| failed(&why))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|why| failed(&why))?;
    let mut reply = Vec::new();
    stream.take(REPLY_BYTES_MAX).read_to_end(&mut reply).map_err(|why| failed(&why))?;
    body(&reply).map_err(|why| failed(&why))
}

/// The body of a whole reply with what was asked for.
fn body(reply: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(reply).map_err(|_| "the reply is no text".to_owned())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the reply is no HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("it answers `{status}`: this is no Corelog broker that serves stages"));
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    if header("transfer-encoding").is_some() {
        return Err("it answers in pieces, as a Corelog broker does not".to_owned());
    }
    let length = header("content-length").and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match length {
        Some(length) if length != body.len() => Err(format!("only {} of {length} bytes came", body.len())),
        _ => Ok(body.to_owned()),
    }
}

/// Of the broker's log what lies in the run, its times counted from the run's beginning.
fn of_run(text: &str, address: &StagesAddress, result: &RunResult) -> Result<String, BenchError> {
    let StagesAddress(name) = address;
    let log = hlog::read(text.as_bytes(), &format!("http://{name}{PATH}"));
    let log = log.map_err(|broken| BenchError::new(broken.to_string()))?;
    let Some(log_wall_ms) = log.started_wall_ms else {
        return Err(BenchError::new(format!("http://{name}{PATH}: the log does not say when it began")));
    };
    let run_ns = result.intervals.last().map_or(0, |last| last.start_ns + last.length_ns);
    let run_from = i128::from(result.started_wall_ms - log_wall_ms) * 1_000_000;
    let run_to = run_from + i128::from(run_ns);
    let shifted = log.entries.into_iter().filter_map(|entry| {
        let (from, to) = (i128::from(entry.start_ns), i128::from(entry.start_ns) + i128::from(entry.length_ns));
        let shared = to.min(run_to) - from.max(run_from);
        // What belongs half to the warm-up or the drain belongs to the larger part.
        let belongs = shared > 0 && (2 * shared >= to - from || 2 * shared >= run_to - run_from);
        let start_ns = u64::try_from(from - run_from).unwrap_or(0);
        // What began before the run ends where it did, or the next one would begin within it.
        let before_ns = u64::try_from(run_from - from).unwrap_or(0);
        belongs.then_some(Entry { start_ns, length_ns: entry.length_ns.saturating_sub(before_ns), ..entry })
    });
    let shifted = Log { started_wall_ms: Some(result.started_wall_ms), entries: shifted.collect(), ..log };
    if shifted.entries.is_empty() {
        let why = "none of its intervals lies in the run; lower the broker's --metrics-interval-ms";
        return Err(BenchError::new(format!("http://{name}{PATH}: {why}")));
    }
    let mut text = Vec::new();
    shifted.write(&mut text).map_err(|error| BenchError::new(error.to_string()))?;
    String::from_utf8(text).map_err(|error| BenchError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;
    use crate::bench::result::{Counts, Interval};

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn addresses_are_those_that_brokers_print() {
        for text in ["http://h:1/", "http://h:1/stages.hlog", "h:1", "http://h:1"] {
            assert_eq!(StagesAddress::parse(text), Ok(StagesAddress("h:1".to_owned())), "{text}");
        }
        for text in ["", "h", "https://h:1/", "http://h:1/metrics", "h:port", ":1"] {
            assert!(StagesAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn replies_that_are_none_are_told() {
        let check = |reply: &str, expect: Result<&str, &str>| match (body(reply.as_bytes()), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
            (found, _) => panic!("{reply:?}: {found:?}"),
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Ok("ab"));
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", Err("only 2 of 3 bytes came"));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Err("it answers `HTTP/1.1 404 Not Found`"));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err("in pieces"));
        check("SSH-2.0\r\n", Err("no HTTP"));
    }

    /// A run of 10 s that begins 100 s after the broker's log.
    fn result() -> RunResult {
        let mut result = RunResult::begin(100_000);
        result.intervals.push(Interval {
            start_ns: 0,
            length_ns: 10 * SECOND_NS,
            invalid: None,
            produce: Packed::empty(),
            e2e: Packed::empty(),
            lateness: Packed::empty(),
            counts: Counts::default(),
        });
        result
    }

    fn log(intervals_s: &[(u64, u64)]) -> String {
        let mut writer = hlog::Writer::begin(Vec::new(), 0, &[]).expect("written");
        let mut histogram = Histogram::of_client();
        histogram.record(5_000_000);
        for &(start_s, length_s) in intervals_s {
            for tag in ["produce.read", "produce.total", "produce.total.1"] {
                let packed = Packed::from(&histogram);
                writer.write(Some(tag), start_s * SECOND_NS, length_s * SECOND_NS, &packed).expect("written");
            }
        }
        String::from_utf8(writer.finish().expect("written")).expect("text")
    }

    #[test]
    fn the_part_of_the_run_is_taken_and_counted_from_its_beginning() {
        let address = StagesAddress("h:1".to_owned());
        let check = |intervals_s: &[(u64, u64)], expect_s: &[u64]| {
            let mut result = result();
            let text = of_run(&log(intervals_s), &address, &result).expect("some of it");
            let found = hlog::read(text.as_bytes(), "x").expect("a log");
            let starts: Vec<u64> = found.tagged("produce.total").map(|entry| entry.start_ns / SECOND_NS).collect();
            assert_eq!((found.started_wall_ms, &starts[..]), (Some(100_000), expect_s));
            result.stages_hlog = Some(text);
            assert_eq!(produce_total(&result).expect("stages").count(), 2 * expect_s.len() as u64);
        };
        check(&[(90, 10), (100, 5), (105, 5), (110, 5)], &[0, 5]);
        // Borders that are not the run's: the one with the larger part in it, at its beginning.
        check(&[(94, 10), (98, 4), (104, 4), (108, 4), (112, 4)], &[0, 4, 8]);
        let text = of_run(&log(&[(98, 4), (102, 4)]), &address, &result()).expect("some of it");
        let ends = hlog::read(text.as_bytes(), "x").expect("a log").entries;
        let ends: Vec<u64> = ends.iter().map(|entry| (entry.start_ns + entry.length_ns) / SECOND_NS).collect();
        assert_eq!(ends, [2, 2, 2, 6, 6, 6], "the first begins with the run and ends where it did");
        // One interval around all of it.
        check(&[(50, 100)], &[0]);
        let error = of_run(&log(&[(0, 10), (200, 10)]), &address, &result()).expect_err("none of it");
        assert!(error.to_string().contains("none of its intervals lies in the run"), "{error}");
        assert_eq!(software("#[a]\n#[Logged by corelog 1.2.3: what stages took]\n"), Some("corelog 1.2.3".to_owned()));
        assert_eq!(software(&log(&[(0, 10)])), None);
        let error = of_run("no log", &address, &result()).expect_err("none");
        assert!(error.to_string().starts_with("http://h:1/stages.hlog, line 1: "), "{error}");
    }
}
