//! HdrHistogram's interval logs (`.hlog`, V2, with tags): the file that its own tools and this one exchange.
//!
//! A log that breaks off or turns foreign is read up to there: [`Broken`] has both the reason and what was read.
//! Values are nanoseconds; the column of maxima, which is for people, has milliseconds as HdrHistogram's writers do.
//!
//! *Owns*: the lines, and how their times are meant. *Never*: drops what could be read. *Runs on*: any thread.

use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::bench::packed::Packed;

const VERSION: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// Nanoseconds of the unit in which maxima are written.
const MAX_UNIT_NS: f64 = 1e6;

/// Times of intervals that lie further than this before the log's beginning are counted from it (HdrHistogram's
/// `HistogramLogReader` has the same rule).
const ABSOLUTE_SLACK_S: f64 = 365.0 * 24.0 * 3600.0;

/// The latest time that can be meant, in seconds since 1970.
const LATEST_S: f64 = 1e10;

/// A log, as far as it could be read.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Log {
    /// Milliseconds since 1970, where the log says it.
    pub started_wall_ms: Option<i64>,
    /// Without the mark, in order; those that this reader understands left out.
    pub comments: Vec<String>,
    pub entries: Vec<Entry>,
}

/// One line: what was counted during one interval under one tag.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub tag: Option<String>,
    /// Since the log's beginning; without one, since its first interval.
    pub start_ns: u64,
    pub length_ns: u64,
    pub histogram: Packed,
}

/// Why a log could not be read to its end, and what came before.
#[derive(Clone, PartialEq, Debug)]
pub struct Broken {
    pub read: Log,
    pub file: String,
    /// The first is 1.
    pub line: usize,
    pub message: String,
}

impl Log {
    /// The entries under one tag, in order.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.tag.as_deref() == Some(tag))
    }

    /// Every tag once, as they first appear; `None` among them when there are entries without.
    pub fn tags(&self) -> Vec<Option<&str>> {
        let mut tags = Vec::new();
        for entry in &self.entries {
            let tag = entry.tag.as_deref();
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags
    }

    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let comments: Vec<&str> = self.comments.iter().map(String::as_str).collect();
        let mut writer = Writer::begin(out, self.started_wall_ms.unwrap_or(0), &comments)?;
        for Entry { tag, start_ns, length_ns, histogram } in &self.entries {
            writer.write(tag.as_deref(), *start_ns, *length_ns, histogram)?;
        }
        writer.finish().map(drop)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broken { read, file, line, message } = self;
        write!(f, "{file}, line {line}: {message}; ")?;
        match read.entries.len() {
            0 => write!(f, "nothing before it could be used"),
            1 => write!(f, "the one interval before it was read"),
            count => write!(f, "the {count} intervals before it were read"),
        }
    }
}

impl std::error::Error for Broken {}

/// Writes a log, interval by interval.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Starts a log whose intervals count from `started_wall_ms`, milliseconds since 1970.
    pub fn begin(mut out: W, started_wall_ms: i64, comments: &[&str]) -> io::Result<Writer<W>> {
        writeln!(out, "{VERSION}")?;
        for comment in comments.iter().flat_map(|comment| comment.lines()) {
            writeln!(out, "#[{comment}]")?;
        }
        let seconds = started_wall_ms as f64 / 1e3;
        writeln!(out, "#[StartTime: {seconds:.3} (seconds since epoch)]")?;
        writeln!(out, "#[BaseTime: {seconds:.3} (seconds since epoch)]")?;
        writeln!(out, "{LEGEND}")?;
        Ok(Writer { out })
    }

    /// Characters that a tag cannot have become underscores.
    pub fn write(&mut self, tag: Option<&str>, start_ns: u64, length_ns: u64, histogram: &Packed) -> io::Result<()> {
        if let Some(tag) = tag {
            write!(self.out, "Tag={},", tag.replace([',', ' ', '\r', '\n'], "_"))?;
        }
        let (start_s, length_s) = (start_ns as f64 / 1e9, length_ns as f64 / 1e9);
        let max = histogram.max_ns() as f64 / MAX_UNIT_NS;
        let encoded = STANDARD.encode(histogram.to_v2_deflated());
        writeln!(self.out, "{start_s:.3},{length_s:.3},{max:.3},{encoded}")
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a log; `file` is how errors name it.
pub fn read(bytes: &[u8], file: &str) -> Result<Log, Box<Broken>> {
    let mut reader = Reader::default();
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let last = lines.peek().is_none();
        if let Err(message) = reader.on_line(line) {
            let message = if last { format!("the log is cut off here ({message})") } else { message };
            return Err(Box::new(Broken { read: reader.log, file: file.to_owned(), line: number + 1, message }));
        }
    }
    if !reader.seen {
        let message = "there is nothing of a histogram log in it".to_owned();
        return Err(Box::new(Broken { read: reader.log, file: file.to_owned(), line: 1, message }));
    }
    Ok(reader.log)
}

#[derive(Default)]
struct Reader {
    log: Log,
    /// Seconds since 1970.
    start_s: Option<f64>,
    base_s: Option<f64>,
    /// What `Entry::start_ns` counts from, seconds since 1970 or since whatever the log counts from.
    zero_s: Option<f64>,
    /// Whether any line was one of a histogram log.
    seen: bool,
}

impl Reader {
    fn on_line(&mut self, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "this is not text".to_owned())?.trim_end_matches('\r');
        if let Some(comment) = line.strip_prefix('#') {
            self.seen |= comment.starts_with('[');
            return self.on_comment(comment);
        }
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with("\"StartTimestamp\"") {
            self.seen = true;
            return Ok(());
        }
        self.on_interval(line)?;
        self.seen = true;
        Ok(())
    }

    fn on_comment(&mut self, comment: &str) -> Result<(), String> {
        let seconds = |key: &str| {
            let text = comment.strip_prefix(key)?.trim_start();
            Some(seconds(text.split([' ', ']']).next().unwrap_or_default(), key))
        };
        if let Some(start_s) = seconds("[StartTime:") {
            let start_s = start_s?;
            if self.start_s.is_none() {
                self.log.started_wall_ms = Some((start_s * 1e3).round() as i64);
                self.zero_s.get_or_insert(start_s);
            }
            self.start_s = Some(start_s);
        } else if let Some(base_s) = seconds("[BaseTime:") {
            self.base_s = Some(base_s?);
        } else if !comment.starts_with("[Histogram log format version") {
            let bare = comment.strip_prefix('[').and_then(|comment| comment.strip_suffix(']'));
            self.log.comments.push(bare.unwrap_or(comment).to_owned());
        }
        Ok(())
    }

    fn on_interval(&mut self, line: &str) -> Result<(), String> {
        const FORM: &str = "this is no line of a histogram log ([Tag=NAME,]START,LENGTH,MAX,HISTOGRAM)";
        let (tag, rest) = match line.strip_prefix("Tag=") {
            Some(rest) => {
                let (tag, rest) = rest.split_once(',').ok_or(FORM)?;
                (Some(tag.to_owned()), rest)
            }
            None => (None, line),
        };
        let mut fields = rest.splitn(4, ',');
        let mut field = || fields.next().ok_or(FORM);
        let (start, length, _max, encoded) = (field()?, field()?, field()?, field()?);
        let (start_s, length_s) = (seconds(start, "the interval's start")?, seconds(length, "the interval's length")?);
        let base_s = match (self.base_s, self.start_s) {
            (Some(base_s), _) => base_s,
            (None, Some(log_s)) if start_s < log_s - ABSOLUTE_SLACK_S => log_s,
            _ => 0.0,
        };
        let start_s = base_s + start_s;
        let zero_s = *self.zero_s.get_or_insert(start_s);
        // Without a header, a time that is a date says when it was.
        if self.log.started_wall_ms.is_none() && start_s > ABSOLUTE_SLACK_S {
            self.log.started_wall_ms = Some((start_s * 1e3).round() as i64);
        }
        let bytes = STANDARD.decode(encoded).map_err(|error| format!("the histogram is not base64 ({error})"))?;
        let histogram = Packed::from_v2(&bytes).map_err(|error| error.to_string())?;
        let start_ns = (((start_s - zero_s).max(0.0) * 1e6).round() * 1e3) as u64;
        self.log.entries.push(Entry { tag, start_ns, length_ns: (length_s * 1e9).round() as u64, histogram });
        Ok(())
    }
}

fn seconds(text: &str, what: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(seconds) if (0.0..LATEST_S).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{what} is `{}` and not a time in seconds", text.chars().take(40).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;

    fn packed(values: &[u64]) -> Packed {
        let mut histogram = Histogram::of_client();
        values.iter().for_each(|value| histogram.record(*value));
        Packed::from(&histogram)
    }

    fn written() -> (String, Vec<Entry>) {
        let mut writer = Writer::begin(Vec::new(), 1_700_000_000_123, &["by hand"]).expect("written");
        let entries: Vec<Entry> = (0..4u64)
            .map(|i| Entry {
                tag: (i != 3).then(|| format!("tag{}", i % 2)),
                start_ns: i * 1_000_000_000,
                length_ns: 1_000_000_000,
                histogram: packed(&vec![1_500_000 + i * 1_000_000; i as usize]),
            })
            .collect();
        for entry in &entries {
            let tag = entry.tag.as_deref();
            writer.write(tag, entry.start_ns, entry.length_ns, &entry.histogram).expect("written");
        }
        (String::from_utf8(writer.finish().expect("written")).expect("text"), entries)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (text, entries) = written();
        let log = read(text.as_bytes(), "x").expect("a log");
        assert_eq!(log, Log { started_wall_ms: Some(1_700_000_000_123), comments: vec!["by hand".into()], entries });
        assert_eq!(log.tags(), [Some("tag0"), Some("tag1"), None]);
        assert_eq!(log.tagged("tag0").count(), 2);
        // The fourth interval's maximum, in milliseconds.
        let last: Vec<&str> = text.trim_end().rsplit_once('\n').expect("lines").1.split(',').collect();
        assert_eq!(last[..3], ["3.000", "1.000", "4.502"]);
        assert!(last[3].starts_with("HISTFAAA"), "{text}");
    }

    #[test]
    fn the_library_reads_what_is_written() {
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let (text, entries) = written();
        let mut intervals = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.expect("a line") {
                let bytes = STANDARD.decode(interval.encoded_histogram()).expect("base64");
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                intervals.push((tag, interval.start_timestamp().as_nanos() as u64, Histogram::from_v2(&bytes)));
            }
        }
        assert_eq!(intervals.len(), entries.len());
        for ((tag, start_ns, histogram), entry) in intervals.into_iter().zip(entries) {
            assert_eq!((tag, start_ns), (entry.tag, entry.start_ns));
            assert_eq!(histogram, Ok(entry.histogram.unpack()));
        }
    }

    #[test]
    fn times_are_meant_as_the_headers_say() {
        let histogram = STANDARD.encode(packed(&[5_000_000]).to_v2());
        let check = |head: &str, starts: [&str; 2], expect: ([u64; 2], Option<i64>)| {
            let lines = starts.map(|start| format!("{start},1.0,5.0,{histogram}\r\n"));
            let log = read(format!("{head}{}", lines.concat()).as_bytes(), "x").expect("a log");
            let starts: Vec<u64> = log.entries.iter().map(|entry| entry.start_ns / 1_000_000).collect();
            assert_eq!((starts, log.started_wall_ms), (expect.0.to_vec(), expect.1), "{head}");
        };
        let start = "#[StartTime: 1700000000.5 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]\n";
        check(start, ["1.5", "2"], ([1500, 2000], Some(1_700_000_000_500)));
        check(start, ["1700000001.5", "1700000002.5"], ([1000, 2000], Some(1_700_000_000_500)));
        check("#[BaseTime: 1700000000.0 x]\n", ["1.5", "2.5"], ([0, 1000], Some(1_700_000_001_500)));
        let both = format!("{start}#[BaseTime: 1700000003.5]\n");
        check(&both, ["0.0", "1.0"], ([3000, 4000], Some(1_700_000_000_500)));
        check("", ["7.0", "8.0"], ([0, 1000], None));
        check("", ["1700000001.5", "1700000002.5"], ([0, 1000], Some(1_700_000_001_500)));
    }

    #[test]
    fn a_broken_log_says_where_and_keeps_what_was_read() {
        let (text, entries) = written();
        let check = |text: &[u8], line: usize, kept: usize, expect: &str| {
            let broken = read(text, "dir/a.hlog").expect_err(expect);
            assert_eq!((broken.line, &broken.read.entries[..]), (line, &entries[..kept]), "{broken}");
            let said = broken.to_string();
            assert!(said.starts_with(&format!("dir/a.hlog, line {line}: ")) && said.contains(expect), "{said}");
        };
        check(b"", 1, 0, "nothing of a histogram log");
        check(b"# hello\n", 1, 0, "nothing of a histogram log");
        check(b"50000 records sent, 4999 records/sec\n", 1, 0, "no line of a histogram log");
        check(b"time,p50\n1,2\n", 1, 0, "no line of a histogram log");
        check(&[0x28, 0xb5, 0x2f, 0xfd, b'\n'], 1, 0, "not text");
        let cut = text.len() - 9;
        check(&text.as_bytes()[..cut], 9, 3, "cut off here");
        check(&text.as_bytes()[..text.rfind("HIST").expect("there")], 9, 3, "the 3 intervals before it were read");
        check(text.replace("2.000,1.000,", "two,1.000,").as_bytes(), 8, 2, "start is `two` and not a time");
        check(text.replace("2.000,1.000,", "2.000,-1,").as_bytes(), 8, 2, "length is `-1` and not a time");
        check(text.replace("#[BaseTime: 1", "#[BaseTime: x1").as_bytes(), 4, 0, "BaseTime: is `x1700000000.123`");
        check(text.replacen(",HIST", ",IST", 2).as_bytes(), 6, 0, "not base64");
        check(text.replacen(",HIST", ",HISS", 1).as_bytes(), 6, 0, "not a histogram: it is not HdrHistogram's form V2");
        // A last line without its end is whole all the same.
        assert_eq!(read(text.trim_end().as_bytes(), "x").expect("whole").entries, entries);
    }
}
