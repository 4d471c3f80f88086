//! What the stages took, as HdrHistogram interval logs: in files that rotate, and for whoever asks.
//!
//! *Owns*: `metrics/` in the data directory, the last intervals in memory. *Never*: runs on an executor's thread, or
//! fails anything: what cannot be written is left out, and said once. *Runs on*: the executors' helper threads.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::base::stage::{STAGES, Timed};
use crate::base::stage_counts::Snapshot;
use crate::base::time::Instant;

/// The directory inside the data directory. No partition's name is without a dash.
const DIRECTORY: &str = "metrics";
const PREFIX: &str = "stages-";
const SUFFIX: &str = ".hlog";

/// What is kept on disk: at most so many files, each begun when the one before has reached its bound.
const FILES_MAX: usize = 8;
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What is kept in memory for those who ask.
const INTERVALS_MAX: usize = 4096;
const INTERVALS_BYTES_MAX: usize = 8 << 20;

/// Maxima in the log are for people: in milliseconds, as HdrHistogram's own writer has them.
const MAX_DIVISOR: f64 = 1e6;

#[derive(Debug)]
pub struct StageLog {
    /// The wall time at which instants begin.
    zero: SystemTime,
    /// Where the last interval ended.
    at: Instant,
    total: Snapshot,
    recent: VecDeque<String>,
    recent_bytes: usize,
    /// None: nothing is to be written.
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
    open: Option<(File, u64)>,
    /// The last attempt failed, and that was said.
    failed: bool,
}

impl StageLog {
    /// `now` is the process's time at the wall time `wall`.
    pub fn new(data_dir: Option<&Path>, wall: SystemTime, now: Instant) -> StageLog {
        let files = data_dir.map(|dir| Files { dir: dir.join(DIRECTORY), open: None, failed: false });
        let zero = wall.checked_sub(Duration::from_nanos(now.0)).unwrap_or(wall);
        StageLog { zero, at: Instant(0), total: Snapshot::default(), recent: VecDeque::new(), recent_bytes: 0, files }
    }

    /// An interval ends: `total` is what was counted until `at`, since the beginning.
    pub fn end_interval(&mut self, total: Snapshot, at: Instant) {
        let lines = lines(&total.since(&self.total), self.at, at);
        (self.total, self.at) = (total, at);
        if lines.is_empty() {
            return;
        }
        let header = self.header();
        if let Some(files) = &mut self.files {
            files.append(&header, &lines);
        }
        self.recent_bytes += lines.len();
        self.recent.push_back(lines);
        while self.recent.len() > INTERVALS_MAX || self.recent_bytes > INTERVALS_BYTES_MAX {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.len();
        }
    }

    /// A whole log: the intervals that are remembered, and the one that goes on.
    pub fn show(&self, total: &Snapshot, at: Instant) -> String {
        let mut text = self.header();
        text.extend(self.recent.iter().map(String::as_str));
        text.push_str(&lines(&total.since(&self.total), self.at, at));
        text
    }

    fn header(&self) -> String {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(&format!(
                "[Logged by corelog {}: what stages of requests took, ns]",
                env!("CARGO_PKG_VERSION")
            ))
            .with_start_time(self.zero)
            .with_base_time(self.zero)
            .with_max_value_divisor(MAX_DIVISOR);
        builder.begin_log_with(&mut bytes, &mut serializer).expect("a vector takes everything");
        bytes.extend_from_slice(
            b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        );
        String::from_utf8(bytes).expect("the header is text")
    }
}

/// The lines of one interval, a stage each. None when there were no requests.
fn lines(counted: &Snapshot, from: Instant, to: Instant) -> String {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_max_value_divisor(MAX_DIVISOR);
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).expect("a vector takes everything");
    for timed in Timed::ALL.into_iter().filter(|timed| counted.requests[*timed as usize] > 0) {
        for row in STAGES.iter().filter(|row| row.is_of(timed)) {
            let histogram = counted.histogram(timed, row.stage as usize);
            let tag = format!("{}.{}", timed.name(), row.name);
            let (start, length) = (Duration::from_nanos(from.0), Duration::from_nanos(to.since_ns(from)));
            let written = writer.write_histogram(histogram.as_hdr(), start, length, Tag::new(&tag));
            written.expect("a vector takes everything, and the tags have no commas");
        }
    }
    let text = String::from_utf8(bytes).expect("the log is text");
    // The writer says in each piece what the header has said.
    text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}

impl Files {
    fn append(&mut self, header: &str, lines: &str) {
        match self.try_append(header, lines) {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.open = None;
                if !self.failed {
                    let dir = self.dir.display();
                    tracing::warn!("the stage histograms cannot be written to {dir}: {error}; the broker goes on");
                }
                self.failed = true;
            }
        }
    }

    fn try_append(&mut self, header: &str, lines: &str) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(_, bytes)| bytes + lines.len() as u64 > FILE_BYTES_MAX) {
            return self.begin_file(header, lines);
        }
        let Some((mut file, bytes)) = self.open.take() else { return Ok(()) };
        if let Err(error) = file.write_all(lines.as_bytes()) {
            // Readers stop at half a line; what cannot be taken back either stays, at the end of a file that is done.
            file.set_len(bytes).unwrap_or_default();
            return Err(error);
        }
        self.open = Some((file, bytes + lines.len() as u64));
        Ok(())
    }

    /// Begins the next file. The oldest make room for it once it is there, so that a full disk costs no history.
    fn begin_file(&mut self, header: &str, lines: &str) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            numbers.extend(entry?.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(1, |last| last + 1);
        let path = |number: u64| self.dir.join(file_name(number));
        let mut file = OpenOptions::new().create_new(true).append(true).open(path(next))?;
        if let Err(error) = file.write_all(header.as_bytes()).and_then(|()| file.write_all(lines.as_bytes())) {
            fs::remove_file(path(next)).unwrap_or_default();
            return Err(error);
        }
        for number in numbers.iter().rev().skip(FILES_MAX - 1) {
            fs::remove_file(path(*number))?;
        }
        self.open = Some((file, (header.len() + lines.len()) as u64));
        Ok(())
    }
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:06}{SUFFIX}")
}

/// Of a file that was begun here.
fn number_of(name: &str) -> Option<u64> {
    let number: u32 = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()?;
    Some(u64::from(number)).filter(|number| file_name(*number) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::stage::{Stage, Trace};
    use crate::base::stage_counts::StageCounts;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn count(counts: &mut StageCounts, requests: usize) -> Snapshot {
        for i in 0..requests {
            let mut trace = Trace::begin(Instant(0));
            trace.waited_until(Stage::DeviceWrite, Instant(100_000 + i as u64 * 1000));
            counts.record(Timed::Produce, &trace);
        }
        counts.snapshot()
    }

    /// Tag, start and length in seconds, count.
    fn read(log: &str) -> Vec<(String, f64, f64, u64)> {
        let entries = IntervalLogIterator::new(log.as_bytes()).map(|entry| entry.expect("a log"));
        let intervals = entries.filter_map(|entry| match entry {
            LogEntry::Interval(interval) => {
                let bytes = STANDARD.decode(interval.encoded_histogram()).expect("base64");
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
                let tag = interval.tag().expect("a tag").as_str().to_owned();
                let (start, length) = (interval.start_timestamp().as_secs_f64(), interval.duration().as_secs_f64());
                Some((tag, start, length, histogram.len()))
            }
            _ => None,
        });
        intervals.collect()
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join(DIRECTORY)).expect("it is there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("a name").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn intervals_are_written_and_shown_with_the_one_that_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut counts = StageCounts::default();
        let mut log = StageLog::new(Some(dir.path()), SystemTime::now(), at(0));
        log.end_interval(counts.snapshot(), at(10));
        log.end_interval(count(&mut counts, 5), at(20));
        let shown = log.show(&count(&mut counts, 7), at(23));
        let of = |log: &str, tag: &str| -> Vec<(f64, f64, u64)> {
            let intervals = read(log).into_iter().filter(|(name, ..)| name == tag);
            intervals.map(|(_, start, length, count)| (start, length, count)).collect()
        };
        for tag in ["produce.device_write", "produce.total", "produce.unaccounted", "produce.sync"] {
            assert_eq!(of(&shown, tag), [(10.0, 10.0, 5), (20.0, 3.0, 7)], "{tag}");
        }
        assert!(of(&shown, "fetch.total").is_empty(), "there was none");
        let written = fs::read_to_string(dir.path().join("metrics/stages-000001.hlog")).expect("a file");
        assert_eq!(of(&written, "produce.total"), [(10.0, 10.0, 5)]);
        assert!(shown.starts_with(&written));
        assert!(written.contains("#[StartTime: ") && written.contains("\"StartTimestamp\""));
    }

    #[test]
    fn files_are_few_and_bounded_and_each_run_begins_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut counts = StageCounts::default();
        for run in 1..=FILES_MAX as u64 + 3 {
            let mut log = StageLog::new(Some(dir.path()), SystemTime::now(), at(0));
            log.end_interval(count(&mut counts, 1), at(run));
        }
        let names = files(dir.path());
        assert_eq!((names.len(), &names[0][..]), (FILES_MAX, "stages-000004.hlog"));

        let mut files = Files { dir: dir.path().join(DIRECTORY), open: None, failed: false };
        let line = "x".repeat(FILE_BYTES_MAX as usize / 3);
        for _ in 0..4 {
            files.try_append("header", &line).expect("written");
        }
        let (_, bytes) = files.open.as_ref().expect("one is open");
        assert_eq!(*bytes, 6 + 2 * line.len() as u64, "two in the first, two in the second");
    }

    #[test]
    fn what_cannot_be_written_is_still_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(DIRECTORY), b"not a directory").expect("written");
        let mut counts = StageCounts::default();
        let mut log = StageLog::new(Some(dir.path()), SystemTime::now(), at(0));
        log.end_interval(count(&mut counts, 1), at(1));
        assert!(log.files.as_ref().is_some_and(|files| files.failed));
        assert!(log.show(&count(&mut counts, 0), at(2)).contains("Tag=produce.total,0.000,1.000,"));
        fs::remove_file(dir.path().join(DIRECTORY)).expect("removed");
        log.end_interval(count(&mut counts, 1), at(3));
        assert_eq!(files(dir.path()).len(), 1);
    }
}
