//! `corelog convert`: between `.hlog`, `.hgrm`, CSV and JSON, and out of other load generators' results.
//!
//! What a form cannot say is told on standard error, never filled in.
//!
//! *Owns*: the CSV and JSON forms, and which form can become which. *Never*: makes counts out of percentiles.
//! *Runs on*: the main thread, with blocking files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde::{Deserialize, Serialize};

use crate::base::histogram::Histogram;
use crate::bench::foreign;
use crate::bench::hgrm::{self, Step};
use crate::bench::hlog::{self, Entry, Log};
use crate::bench::packed::{Packed, Sum};
use crate::bench::summary::Latency;
use crate::terminal::printed;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

const CSV_HEAD: &str = "tag,start_s,length_s,value_ns,count";
const STEPS_CSV_HEAD: &str = "percentile,value_ns";
const INVALID: &str = ".invalid";

const EXAMPLES: &str = "\
The form of IN is told by what is in it: a histogram log (.hlog), percentile output (.hgrm), the CSV and JSON that this
command writes, the output of kafka-producer-perf-test, or the result file of the OpenMessaging Benchmark. The last
three hold percentiles alone, without which no histogram can be made; what else they lack is said.

CSV has a line for each bucket: tag, start and length of the interval in seconds, value in nanoseconds, count.

Examples:
  corelog convert run/produce.hlog --to hgrm
  corelog convert run/e2e.hlog --to csv --out e2e.csv
  corelog convert perf-test.txt --to json";

/// What a file was found to hold.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// Counts of values, interval by interval.
    Log(Log),
    /// Percentiles alone, under the name of what they are of.
    Percentiles(Vec<Percentiles>),
}

/// A distribution of which only some percentiles are known.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    pub name: String,
    /// Values altogether, where known.
    pub count: Option<u64>,
    pub mean_ns: Option<f64>,
    /// Ascending: quantile and value.
    pub values_ns: Vec<(f64, u64)>,
}

/// What was read, and what is to be said of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The name of the form.
    pub form: &'static str,
    pub content: Content,
    pub lacks: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Hlog,
    Hgrm,
    Csv,
    Json,
}

/// The JSON form of a log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLog {
    started_wall_ms: Option<i64>,
    #[serde(default)]
    comments: Vec<String>,
    intervals: Vec<JsonInterval>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonInterval {
    tag: Option<String>,
    start_ns: u64,
    length_ns: u64,
    /// For readers; the counts say the same.
    #[serde(default)]
    latency: Latency,
    /// Value in nanoseconds, count.
    counts: Vec<(u64, u64)>,
}

pub fn command() -> Command {
    let input = Arg::new("in").value_name("IN").required(true).value_parser(value_parser!(PathBuf));
    let to = Arg::new("to").long("to").value_name("FORM").required(true).value_parser(["hlog", "hgrm", "csv", "json"]);
    let out = Arg::new("out").long("out").value_name("FILE").value_parser(value_parser!(PathBuf));
    let tag = Arg::new("tag").long("tag").value_name("TAG");
    Command::new("convert")
        .about("Convert histograms between .hlog, .hgrm, CSV and JSON; reads other tools' results")
        .after_long_help(EXAMPLES)
        .arg(input.help("The file to read"))
        .arg(to.help("The form to write"))
        .arg(out.help("The file to write [default: standard output]"))
        .arg(tag.help("Of a log, the intervals under this tag alone"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    printed::ended(try_run(matches))
}

fn try_run(matches: &ArgMatches) -> Result<(), String> {
    let path = matches.get_one::<PathBuf>("in").expect("clap asks for it");
    let form = match matches.get_one::<String>("to").map(String::as_str) {
        Some("hlog") => Form::Hlog,
        Some("hgrm") => Form::Hgrm,
        Some("csv") => Form::Csv,
        _ => Form::Json,
    };
    let mut found = read(path)?;
    for lack in &found.lacks {
        eprintln!("note: {lack}");
    }
    if let Some(tag) = matches.get_one::<String>("tag") {
        keep_tag(&mut found.content, tag).map_err(|message| format!("{}: {message}", path.display()))?;
    }
    let mut bytes = Vec::new();
    write(&found, form, &mut bytes)?;
    match matches.get_one::<PathBuf>("out") {
        None => printed::print(&bytes),
        Some(out) => {
            fs::write(out, bytes).map_err(|error| format!("{}: {error}; what is in it is not complete", out.display()))
        }
    }
}

/// Reads a file of any form.
pub fn read(path: &Path) -> Result<Found, String> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{name}: it is larger than {FILE_BYTES_MAX} bytes, and no result is"));
    }
    parse(&bytes, &name)
}

/// Tells the form by the content, and reads it.
pub fn parse(bytes: &[u8], name: &str) -> Result<Found, String> {
    let text =
        || std::str::from_utf8(bytes).map_err(|_| format!("{name}: it is not text, and none of the forms read here"));
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    let first = head.trim_start().lines().next().unwrap_or_default().trim();
    if first.starts_with('{') {
        return parse_json(bytes, name);
    }
    if first == CSV_HEAD {
        let log = parse_csv(text()?, name)?;
        return Ok(Found { form: "CSV", content: Content::Log(log), lacks: Vec::new() });
    }
    if first.starts_with("Value") && first.contains("Percentile") {
        return Ok(from_steps(&hgrm::read(text()?, name)?));
    }
    if head.contains("records sent,") {
        return foreign::read_perf_test(text()?, name);
    }
    let mut lacks = Vec::new();
    let log = hlog::read(bytes, name).or_else(|broken| {
        lacks.push(broken.to_string());
        // With nothing read it was no log at all.
        if broken.read.entries.is_empty() { Err(broken.to_string()) } else { Ok(broken.read) }
    })?;
    Ok(Found { form: "histogram log", content: Content::Log(log), lacks })
}

/// Writes what was found in another form; what cannot be said in it is an error.
pub fn write(found: &Found, form: Form, out: &mut impl Write) -> Result<(), String> {
    let done = match (&found.content, form) {
        (Content::Log(log), Form::Hlog) => log.write(out),
        (Content::Log(log), Form::Hgrm) => hgrm::write(&valid(log), out),
        (Content::Log(log), Form::Csv) => write_csv(log, out),
        (Content::Log(log), Form::Json) => write_json(log, out),
        (Content::Percentiles(_), Form::Hlog | Form::Hgrm) => {
            return Err(format!(
                "{} holds percentiles and no counts, and neither .hlog nor .hgrm can be made of them; use --to csv or \
                 --to json",
                found.form
            ));
        }
        (Content::Percentiles(all), Form::Csv) => write_percentiles_csv(all, out),
        (Content::Percentiles(all), Form::Json) => {
            serde_json::to_writer_pretty(&mut *out, all).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
    };
    done.map_err(|error| format!("the output cannot be written: {error}"))
}

/// All that is not marked invalid.
fn valid(log: &Log) -> Packed {
    let is_valid = |entry: &&Entry| !entry.tag.as_deref().is_some_and(|tag| tag.ends_with(INVALID));
    Sum::of(log.entries.iter().filter(is_valid).map(|entry| &entry.histogram))
}

fn keep_tag(content: &mut Content, tag: &str) -> Result<(), String> {
    let Content::Log(log) = content else { return Err("it has no tags".to_owned()) };
    let tags: Vec<String> = log.tags().into_iter().map(|tag| tag.unwrap_or("(none)").to_owned()).collect();
    log.entries.retain(|entry| entry.tag.as_deref() == Some(tag));
    if log.entries.is_empty() {
        return Err(format!("it has no interval tagged `{tag}`; its tags are: {}", tags.join(", ")));
    }
    Ok(())
}

fn write_csv(log: &Log, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{CSV_HEAD}")?;
    for Entry { tag, start_ns, length_ns, histogram } in &log.entries {
        let tag = tag.as_deref().unwrap_or_default();
        let (start_s, length_s) = (*start_ns as f64 / 1e9, *length_ns as f64 / 1e9);
        for (value, count) in histogram.counted() {
            writeln!(out, "{tag},{start_s:.3},{length_s:.3},{value},{count}")?;
        }
    }
    Ok(())
}

fn parse_csv(text: &str, name: &str) -> Result<Log, String> {
    let mut log = Log::default();
    let mut open: Option<(Entry, Histogram)> = None;
    let mut close = |open: Option<(Entry, Histogram)>| {
        log.entries.extend(open.map(|(entry, histogram)| Entry { histogram: Packed::from(&histogram), ..entry }));
    };
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || format!("{name}, line {}: this is not {CSV_HEAD}: `{}`", number + 1, excerpt(line));
        let fields: Vec<&str> = line.trim().split(',').collect();
        let &[tag, start_s, length_s, value, count] = &fields[..] else { return Err(wrong()) };
        let ns = |seconds: &str| {
            let seconds = seconds.parse::<f64>().ok().filter(|seconds| (0.0..1e9).contains(seconds));
            seconds.map(|seconds| (seconds * 1e9).round() as u64).ok_or_else(wrong)
        };
        let tag = (!tag.is_empty()).then(|| tag.to_owned());
        let entry = Entry { tag, start_ns: ns(start_s)?, length_ns: ns(length_s)?, histogram: Packed::empty() };
        let (value, count): (u64, u64) = (value.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if open.as_ref().is_none_or(|(last, _)| *last != entry) {
            close(open.replace((entry, Histogram::of_client())));
        }
        if let Some((_, histogram)) = &mut open {
            add(histogram, value, count).ok_or_else(wrong)?;
        }
    }
    close(open);
    if log.entries.is_empty() {
        return Err(format!("{name}: there is no line below the head"));
    }
    Ok(log)
}

fn write_json(log: &Log, out: &mut impl Write) -> io::Result<()> {
    let intervals = log.entries.iter().map(|entry| JsonInterval {
        tag: entry.tag.clone(),
        start_ns: entry.start_ns,
        length_ns: entry.length_ns,
        latency: Latency::of(&entry.histogram),
        counts: entry.histogram.counted().collect(),
    });
    let log = JsonLog {
        started_wall_ms: log.started_wall_ms,
        comments: log.comments.clone(),
        intervals: intervals.collect(),
    };
    serde_json::to_writer(&mut *out, &log)?;
    writeln!(out)
}

fn parse_json(bytes: &[u8], name: &str) -> Result<Found, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))?;
    if foreign::is_openmessaging(&value) {
        return foreign::read_openmessaging(&value, name);
    }
    if value.get("intervals").is_none() {
        return Err(format!(
            "{name}: it is JSON, but neither what `corelog convert --to json` writes nor a result of the OpenMessaging \
             Benchmark"
        ));
    }
    let json: JsonLog = serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))?;
    let mut log = Log { started_wall_ms: json.started_wall_ms, comments: json.comments, entries: Vec::new() };
    for (number, JsonInterval { tag, start_ns, length_ns, counts, .. }) in json.intervals.into_iter().enumerate() {
        let mut histogram = Histogram::of_client();
        for (value, count) in counts {
            let added = add(&mut histogram, value, count);
            added.ok_or_else(|| format!("{name}, interval {}: it counts more than 2^63 values", number + 1))?;
        }
        log.entries.push(Entry { tag, start_ns, length_ns, histogram: Packed::from(&histogram) });
    }
    Ok(Found { form: "JSON", content: Content::Log(log), lacks: Vec::new() })
}

/// `None` when it would be more than can be counted.
fn add(histogram: &mut Histogram, value: u64, count: u64) -> Option<()> {
    let total = histogram.count().checked_add(count)?;
    (total <= i64::MAX as u64).then(|| histogram.record_n(value, count))
}

fn from_steps(steps: &[Step]) -> Found {
    let last = steps.last().map_or(0, |step| step.count);
    let values_ns = steps.iter().map(|step| (step.quantile, step.value_ns)).collect();
    let percentiles = Percentiles { name: "all".to_owned(), count: Some(last), mean_ns: None, values_ns };
    Found {
        form: "percentile output (.hgrm)",
        content: Content::Percentiles(vec![percentiles]),
        lacks: vec!["percentile output has no intervals, and no counts between its percentiles".to_owned()],
    }
}

fn write_percentiles_csv(all: &[Percentiles], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "name,{STEPS_CSV_HEAD}")?;
    for Percentiles { name, values_ns, .. } in all {
        for (quantile, value) in values_ns {
            writeln!(out, "{name},{},{value}", quantile * 100.0)?;
        }
    }
    Ok(())
}

fn excerpt(line: &str) -> String {
    line.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let entry = |tag: Option<&str>, start_ns, values: &[(u64, u64)]| {
            let mut histogram = Histogram::of_client();
            values.iter().for_each(|(value, count)| histogram.record_n(*value, *count));
            let tag = tag.map(str::to_owned);
            Entry { tag, start_ns, length_ns: 1_000_000_000, histogram: Packed::from(&histogram) }
        };
        let entries = vec![
            entry(Some("produce"), 0, &[(1_000_000, 98), (70_000_000, 2)]),
            entry(Some("produce.invalid"), 1_000_000_000, &[(900_000_000, 50)]),
            entry(None, 2_000_000_000, &[(3_000, 1)]),
        ];
        Log { started_wall_ms: Some(1_700_000_000_000), comments: vec!["x".into()], entries }
    }

    fn converted(found: &Found, form: Form) -> Vec<u8> {
        let mut out = Vec::new();
        write(found, form, &mut out).expect("written");
        out
    }

    #[test]
    fn logs_survive_every_form_that_holds_counts() {
        let found = Found { form: "x", content: Content::Log(log()), lacks: Vec::new() };
        for form in [Form::Hlog, Form::Json, Form::Csv] {
            let read = parse(&converted(&found, form), "x").expect("read");
            let Content::Log(mut read) = read.content else { panic!("{form:?}") };
            if form == Form::Csv {
                // It has lines for buckets alone.
                (read.started_wall_ms, read.comments) = (log().started_wall_ms, log().comments);
            }
            assert_eq!(read, log(), "{form:?}");
        }
    }

    #[test]
    fn percentile_output_leaves_invalid_intervals_out() {
        let found = Found { form: "x", content: Content::Log(log()), lacks: Vec::new() };
        let text = String::from_utf8(converted(&found, Form::Hgrm)).expect("text");
        assert!(text.contains("Total count    =          101]"), "{text}");
        let back = parse(text.as_bytes(), "a.hgrm").expect("read");
        assert!(back.lacks[0].contains("no intervals"));
        let error = write(&back, Form::Hlog, &mut Vec::new()).expect_err("no counts");
        assert!(error.contains("no counts") && error.contains("--to csv"), "{error}");
        let csv = String::from_utf8(converted(&back, Form::Csv)).expect("text");
        assert!(csv.starts_with("name,percentile,value_ns\nall,0,3000000\n") || csv.contains("all,100,"), "{csv}");
    }

    #[test]
    fn one_tag_can_be_picked() {
        let mut content = Content::Log(log());
        let error = keep_tag(&mut content.clone(), "e2e").expect_err("none");
        assert!(error.contains("its tags are: produce, produce.invalid, (none)"), "{error}");
        keep_tag(&mut content, "produce").expect("some");
        let Content::Log(kept) = content else { panic!("a log") };
        assert_eq!(kept.entries.len(), 1);
    }

    #[test]
    fn bad_input_is_named() {
        let check = |text: &str, expect: &str| {
            let error = parse(text.as_bytes(), "dir/in").expect_err(expect);
            assert!(error.starts_with("dir/in") && error.contains(expect), "{expect}: {error}");
        };
        check("", "nothing of a histogram log");
        check("{\"a\": 1}", "neither what `corelog convert --to json` writes");
        check("{\"a\": ", "EOF");
        check("{\"started_wall_ms\": null, \"intervals\": [{}]}", "missing field");
        check(CSV_HEAD, "no line below the head");
        check(&format!("{CSV_HEAD}\na,0,1,5,6\na,0,1,x,6\n"), "line 3: this is not tag,start_s");
        check(&format!("{CSV_HEAD}\na,0,1\n"), "line 2: ");
        check(&format!("{CSV_HEAD}\na,0,-1,5,5\n"), "line 2: ");
        check(&format!("{CSV_HEAD}\n,0,1,5,{}\n,0,1,5,{}\n", i64::MAX, 1), "line 3: ");
        check("what is this\n", "line 1: this is no line of a histogram log");
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }
}
