//! A run as files: a directory, and the same in one `.tar.zst`.
//!
//! | file | what |
//! |---|---|
//! | `workload.toml`, `command.txt` | what was asked for |
//! | `summary.json` | [`Summary`]; the run in numbers |
//! | `environment.json` | the machine, and what the broker says of itself |
//! | `intervals.jsonl` | an object a line: when, how long, why invalid, counts |
//! | `produce.hlog`, `e2e.hlog`, `lateness.hlog` | an entry for each of these lines, in order, tagged by the file's name; with `.invalid` behind it where the interval is |
//! | `setup.hlog` | tags `connect` and `metadata`, of groups `join` and `commit`: the whole run |
//! | `stages.hlog` | the broker's own, as it came |
//! | `produce.hgrm`, `e2e.hgrm` | all valid intervals together |
//!
//! *Owns*: the layout. *Never*: believes an archive, or throws away what could be read or written.
//! *Runs on*: any thread, with blocking files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::bench::environment::Environment;
use crate::bench::hgrm;
use crate::bench::hlog::{self, Log};
use crate::bench::packed::{Packed, Sum};
use crate::bench::result::{BrokerFacts, Counts, Interval, RunResult};
use crate::bench::summary::{Mode, Summary};
use crate::bench::workload::Workload;

/// What one capsule may bring into memory.
const CAPSULE_BYTES_MAX: u64 = 2 << 30;

/// Entries of an archive, with those that are not ours.
const ARCHIVE_ENTRIES_MAX: usize = 1000;

/// Directories `out`, `out-2`, … that are tried before a run is given up as unwritable.
const DIRECTORIES_TRIED_MAX: usize = 1000;

const INVALID: &str = ".invalid";
const ARCHIVE_SUFFIX: &str = ".tar.zst";

/// Names of files in a capsule, in the order of writing: small ones, which say most, first.
const FILES: [&str; 12] = [
    "workload.toml",
    "command.txt",
    "environment.json",
    "summary.json",
    "intervals.jsonl",
    "produce.hgrm",
    "e2e.hgrm",
    "setup.hlog",
    "produce.hlog",
    "e2e.hlog",
    "lateness.hlog",
    "stages.hlog",
];

/// A run with all that is needed to judge it.
#[derive(Clone, PartialEq, Debug)]
pub struct Capsule {
    /// Of its directory.
    pub name: String,
    /// TOML, complete: defaults filled in.
    pub workload: String,
    pub command: String,
    pub mode: Mode,
    pub seed: u64,
    pub environment: Environment,
    pub result: RunResult,
    /// What could not be read of it, each with its file. Not written.
    pub notes: Vec<String>,
}

/// Where a capsule lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub directory: PathBuf,
    pub archive: PathBuf,
}

/// What could not be read or written, and what there is all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapsuleError {
    message: String,
}

impl fmt::Display for CapsuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CapsuleError {}

/// A line of `intervals.jsonl`.
#[derive(Serialize, Deserialize)]
struct IntervalLine {
    start_ns: u64,
    length_ns: u64,
    invalid: Option<String>,
    #[serde(default)]
    counts: Counts,
}

/// `environment.json`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Surroundings {
    machine: Environment,
    broker: BrokerFacts,
}

impl Capsule {
    /// A run of this program, by its command line and on this machine. `data` is the broker's data directory where it
    /// is on this machine.
    pub fn of_run(name: &str, workload: &Workload, data: Option<&Path>, result: RunResult) -> Capsule {
        Capsule {
            name: name.to_owned(),
            workload: workload.to_toml(),
            command: command_line(std::env::args_os()),
            mode: if workload.is_open_loop() { Mode::OpenLoop } else { Mode::ClosedLoop },
            seed: workload.seed,
            environment: Environment::read(data),
            result,
            notes: Vec::new(),
        }
    }

    pub fn summary(&self) -> Summary {
        Summary::of(&self.name, self.mode, self.seed, &self.result)
    }

    /// Writes the directory and the archive next to it. A directory that has something in it is left alone, and one
    /// with a number behind its name taken.
    pub fn write(&self, directory: &Path) -> Result<Written, CapsuleError> {
        self.write_by(directory, |path| File::create(path))
    }

    /// Makes the directory that [`Capsule::write`] will take, so that hours of measuring do not end with a place that
    /// cannot be written.
    pub fn reserve(directory: &Path) -> Result<(), CapsuleError> {
        let place = fresh_directory(directory)?;
        let probe = place.join(FILES[0]);
        let tried = File::create(&probe).and_then(|_| fs::remove_file(&probe));
        tried.map_err(|error| CapsuleError {
            message: format!("{}: {error}; choose another directory", place.display()),
        })
    }

    fn write_by(&self, directory: &Path, create: fn(&Path) -> io::Result<File>) -> Result<Written, CapsuleError> {
        let directory = fresh_directory(directory)?;
        let mut done: Vec<&str> = Vec::new();
        for file in FILES {
            let path = directory.join(file);
            let written = create(&path).and_then(|out| {
                let mut out = BufWriter::new(out);
                let has_content = self.write_file(file, &mut out)?;
                finish(out)?;
                Ok(has_content)
            });
            match written {
                Ok(true) => done.push(file),
                Ok(false) => drop(fs::remove_file(&path)),
                Err(error) => {
                    let kept = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
                    let message = format!(
                        "{}: {error}; the run is not lost, but not complete: {} holds {kept}, and this file as far as \
                         it could be written",
                        path.display(),
                        directory.display()
                    );
                    return Err(CapsuleError { message });
                }
            }
        }
        let archive = with_suffix(&directory, ARCHIVE_SUFFIX);
        create(&archive).and_then(|out| pack(&directory, &done, out)).map_err(|error| {
            // Half an archive takes room and can be read by nobody.
            let _ = fs::remove_file(&archive);
            let directory = directory.display();
            CapsuleError { message: format!("{}: {error}; the run is complete in {directory}", archive.display()) }
        })?;
        Ok(Written { directory, archive })
    }

    /// Reads a directory, an archive, or a histogram log alone. What is missing or broken beside the intervals
    /// themselves is told in `notes`.
    pub fn read(path: &Path) -> Result<Capsule, CapsuleError> {
        let shown = path.display();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let error = |message: String| CapsuleError { message };
        let metadata = fs::metadata(path).map_err(|why| error(format!("{shown}: {why}")))?;
        let files = if metadata.is_dir() {
            read_directory(path)?
        } else if name.ends_with(ARCHIVE_SUFFIX) {
            let file = File::open(path).map_err(|why| error(format!("{shown}: {why}")))?;
            read_archive(file).map_err(|why| error(format!("{shown}: {why}")))?
        } else {
            let file = File::open(path).map_err(|why| error(format!("{shown}: {why}")))?;
            let bytes = read_bounded(file, CAPSULE_BYTES_MAX).map_err(|why| error(format!("{shown}: {why}")))?;
            return Capsule::from_log(&bytes, name, path);
        };
        let name = name.strip_suffix(ARCHIVE_SUFFIX).unwrap_or(&name);
        Capsule::from_files(&Files { files, place: path.to_owned() }, name)
    }

    /// Reads several, each on a thread of its own: a run of an hour takes a third of a second.
    pub fn read_all(paths: &[&Path]) -> Result<Vec<Capsule>, CapsuleError> {
        thread::scope(|scope| {
            let readers: Vec<_> = paths.iter().map(|path| scope.spawn(|| Capsule::read(path))).collect();
            readers.into_iter().map(|reader| reader.join().expect("bytes of a file make nothing panic")).collect()
        })
    }

    /// Writes one of [`FILES`]; says whether there is anything to write into it.
    fn write_file(&self, file: &str, out: &mut impl Write) -> io::Result<bool> {
        let result = &self.result;
        match file {
            "workload.toml" => out.write_all(self.workload.as_bytes())?,
            "command.txt" => writeln!(out, "{}", self.command)?,
            "environment.json" => {
                let surroundings = Surroundings { machine: self.environment.clone(), broker: result.broker.clone() };
                serde_json::to_writer_pretty(&mut *out, &surroundings)?;
            }
            "summary.json" => out.write_all(self.summary().to_json().as_bytes())?,
            "intervals.jsonl" => {
                for Interval { start_ns, length_ns, invalid, counts, .. } in &result.intervals {
                    let (start_ns, length_ns, counts) = (*start_ns, *length_ns, *counts);
                    let line = IntervalLine { start_ns, length_ns, invalid: invalid.clone(), counts };
                    serde_json::to_writer(&mut *out, &line)?;
                    out.write_all(b"\n")?;
                }
            }
            "setup.hlog" => {
                let mut writer = hlog::Writer::begin(out, result.started_wall_ms, &[])?;
                let length_ns = result.intervals.iter().map(|interval| interval.length_ns).sum();
                let setup = [("connect", &result.connect), ("metadata", &result.metadata)];
                let of_groups = [("join", &result.join), ("commit", &result.commit)];
                let of_groups = of_groups.into_iter().filter(|(_, histogram)| !histogram.is_empty());
                for (tag, histogram) in setup.into_iter().chain(of_groups) {
                    writer.write(Some(tag), 0, length_ns, &Packed::from(histogram))?;
                }
            }
            "stages.hlog" => {
                let Some(text) = &result.stages_hlog else { return Ok(false) };
                out.write_all(text.as_bytes())?;
            }
            _ => {
                let (tag, kind) = file.split_once('.').expect("a name of FILES");
                let of = histogram_of(tag);
                if result.intervals.iter().all(|interval| of(interval).is_empty()) && tag != "produce" {
                    return Ok(false);
                }
                if kind == "hgrm" {
                    hgrm::write(&Sum::of(result.valid().map(of)), out)?;
                } else {
                    self.write_log(tag, out)?;
                }
            }
        }
        Ok(true)
    }

    fn write_log(&self, tag: &str, out: &mut impl Write) -> io::Result<()> {
        let comment = format!("Logged by corelog {}, values in nanoseconds", env!("CARGO_PKG_VERSION"));
        let mut writer = hlog::Writer::begin(out, self.result.started_wall_ms, &[&comment])?;
        let of = histogram_of(tag);
        let invalid_tag = format!("{tag}{INVALID}");
        for interval in &self.result.intervals {
            let tag = if interval.invalid.is_some() { &invalid_tag } else { tag };
            writer.write(Some(tag), interval.start_ns, interval.length_ns, of(interval))?;
        }
        Ok(())
    }

    fn from_files(files: &Files, name: &str) -> Result<Capsule, CapsuleError> {
        let mut notes = Vec::new();
        let summary: Summary = files.json("summary.json", &mut notes);
        let surroundings: Surroundings = files.json("environment.json", &mut notes);
        let mut result = RunResult::begin(summary.started_wall_ms);
        result.intervals = files.intervals(&mut notes)?;
        if let Some(log) = files.log("setup.hlog", &mut notes) {
            let of = |tag| Sum::of(log.tagged(tag).map(|entry| &entry.histogram)).unpack();
            (result.connect, result.metadata) = (of("connect"), of("metadata"));
            (result.join, result.commit) = (of("join"), of("commit"));
        }
        result.totals = summary.totals;
        result.topics = summary.topics;
        result.writes = summary.writes;
        result.complaints = summary.complaints;
        result.broker = surroundings.broker;
        result.stages_hlog = files.files.get("stages.hlog").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Capsule {
            name: name.to_owned(),
            workload: files.text("workload.toml", &mut notes),
            command: files.text("command.txt", &mut notes).trim_end().to_owned(),
            mode: summary.mode,
            seed: summary.seed,
            environment: surroundings.machine,
            result,
            notes,
        })
    }

    /// A log of any program: the entries tagged `produce` and `e2e`, or all entries when none is tagged so.
    fn from_log(bytes: &[u8], name: String, path: &Path) -> Result<Capsule, CapsuleError> {
        let mut notes = vec![format!("{}: a histogram log alone: nothing is known of the run", path.display())];
        let log = kept(hlog::read(bytes, &path.display().to_string()), &mut notes);
        if log.entries.is_empty() {
            return Err(CapsuleError { message: notes.pop().unwrap_or_default() });
        }
        let mut result = RunResult::begin(log.started_wall_ms.unwrap_or(0));
        let ours = |tag: Option<&str>| tag.map(|tag| tag.trim_end_matches(INVALID)).is_some_and(is_tag);
        let any_ours = log.entries.iter().any(|entry| ours(entry.tag.as_deref()));
        let tags = if any_ours { &["produce", "e2e", "lateness"][..] } else { &["produce"] };
        for tag in tags {
            let entries = log
                .entries
                .iter()
                .filter(|entry| !any_ours || entry.tag.as_deref().is_some_and(|t| t.trim_end_matches(INVALID) == *tag));
            place(&mut result.intervals, tag, &entries.cloned().collect::<Vec<_>>());
        }
        Ok(Capsule {
            name,
            workload: String::new(),
            command: String::new(),
            mode: Mode::default(),
            seed: 0,
            environment: Environment::default(),
            result,
            notes,
        })
    }
}

/// The bytes of a capsule's files, and where they came from.
struct Files {
    files: BTreeMap<String, Vec<u8>>,
    place: PathBuf,
}

impl Files {
    /// What is missing or nonsense is empty, and noted.
    fn json<T: Default + for<'a> Deserialize<'a>>(&self, file: &str, notes: &mut Vec<String>) -> T {
        let Some(bytes) = self.bytes(file, notes) else { return T::default() };
        serde_json::from_slice(bytes).unwrap_or_else(|error| {
            notes.push(format!("{}: {error}; it is left out", self.place.join(file).display()));
            T::default()
        })
    }

    fn text(&self, file: &str, notes: &mut Vec<String>) -> String {
        self.bytes(file, notes).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    fn bytes(&self, file: &str, notes: &mut Vec<String>) -> Option<&[u8]> {
        let bytes = self.files.get(file);
        if bytes.is_none() {
            notes.push(format!("{}: is missing", self.place.join(file).display()));
        }
        bytes.map(Vec::as_slice)
    }

    fn log(&self, file: &str, notes: &mut Vec<String>) -> Option<Log> {
        let bytes = self.files.get(file)?;
        Some(kept(hlog::read(bytes, &self.place.join(file).display().to_string()), notes))
    }

    fn intervals(&self, notes: &mut Vec<String>) -> Result<Vec<Interval>, CapsuleError> {
        let mut intervals = Vec::new();
        if let Some(bytes) = self.bytes("intervals.jsonl", notes) {
            for (number, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
                match serde_json::from_slice(line) {
                    Ok(line) => intervals.push(interval(line)),
                    Err(error) => {
                        let place = self.place.join("intervals.jsonl");
                        notes.push(format!("{}, line {}: {error}; read up to there", place.display(), number + 1));
                        break;
                    }
                }
            }
        }
        let lines = intervals.len();
        let mut logs = 0;
        for tag in ["produce", "e2e", "lateness"] {
            let file = format!("{tag}.hlog");
            let Some(log) = self.log(&file, notes) else { continue };
            logs += 1;
            place(&mut intervals, tag, &log.entries);
            if lines > 0 && log.entries.len() != lines {
                let place = self.place.join(&file);
                notes.push(format!("{}: has {} of {lines} intervals", place.display(), log.entries.len()));
            }
        }
        if logs == 0 {
            let place = self.place.display();
            let message =
                format!("{place}: is no capsule of a run: it has none of produce.hlog, e2e.hlog, lateness.hlog");
            return Err(CapsuleError { message });
        }
        Ok(intervals)
    }
}

/// Gives each interval its histogram of one log, in order; makes the intervals that there are not yet.
fn place(intervals: &mut Vec<Interval>, tag: &str, entries: &[hlog::Entry]) {
    for (number, entry) in entries.iter().enumerate() {
        if number == intervals.len() {
            let is_invalid = entry.tag.as_deref().is_some_and(|tag| tag.ends_with(INVALID));
            let invalid = is_invalid.then(|| "marked so in the log".to_owned());
            let (start_ns, length_ns, counts) = (entry.start_ns, entry.length_ns, Counts::default());
            intervals.push(interval(IntervalLine { start_ns, length_ns, invalid, counts }));
        }
        let interval = &mut intervals[number];
        let slot = match tag {
            "produce" => &mut interval.produce,
            "e2e" => &mut interval.e2e,
            _ => &mut interval.lateness,
        };
        *slot = entry.histogram.clone();
    }
}

fn interval(line: IntervalLine) -> Interval {
    let IntervalLine { start_ns, length_ns, invalid, counts } = line;
    let empty = Packed::empty();
    Interval { start_ns, length_ns, invalid, produce: empty.clone(), e2e: empty.clone(), lateness: empty, counts }
}

/// As a shell would take it.
fn command_line(arguments: impl Iterator<Item = OsString>) -> String {
    let quoted = arguments.map(|argument| {
        let argument = argument.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
        let quoted = format!("'{}'", argument.replace('\'', "'\\''"));
        if !argument.is_empty() && argument.chars().all(is_plain) { argument.into_owned() } else { quoted }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn is_tag(tag: &str) -> bool {
    matches!(tag, "produce" | "e2e" | "lateness")
}

fn histogram_of(tag: &str) -> fn(&Interval) -> &Packed {
    match tag {
        "produce" => |interval| &interval.produce,
        "e2e" => |interval| &interval.e2e,
        _ => |interval| &interval.lateness,
    }
}

/// A log, or as much of it as was whole, with a note.
fn kept(read: Result<Log, Box<hlog::Broken>>, notes: &mut Vec<String>) -> Log {
    read.unwrap_or_else(|broken| {
        notes.push(broken.to_string());
        broken.read
    })
}

fn fresh_directory(wanted: &Path) -> Result<PathBuf, CapsuleError> {
    for number in 1..=DIRECTORIES_TRIED_MAX {
        let path = if number == 1 { wanted.to_owned() } else { with_suffix(wanted, &format!("-{number}")) };
        let is_free = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !path.exists(),
        };
        if !is_free || with_suffix(&path, ARCHIVE_SUFFIX).exists() {
            continue;
        }
        return match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(error) => {
                Err(CapsuleError { message: format!("{}: {error}; choose another directory", path.display()) })
            }
        };
    }
    let message =
        format!("{}: it and {DIRECTORIES_TRIED_MAX} like it are taken; choose another directory", wanted.display());
    Err(CapsuleError { message })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(suffix);
    name.into()
}

fn pack(directory: &Path, files: &[&str], archive: File) -> io::Result<()> {
    let name = directory.file_name().unwrap_or("run".as_ref());
    let mut builder = tar::Builder::new(zstd::Encoder::new(BufWriter::new(archive), 3)?);
    for file in files {
        builder.append_path_with_name(directory.join(file), Path::new(name).join(file))?;
    }
    finish(builder.into_inner()?.finish()?)
}

/// Brings everything to the device, so that a full disk is told of here and not by the kernel's log.
fn finish(out: BufWriter<File>) -> io::Result<()> {
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // A pipe or a device has nothing to bring there.
    if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
}

fn read_directory(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, CapsuleError> {
    let mut files = BTreeMap::new();
    let mut left = CAPSULE_BYTES_MAX;
    for name in FILES {
        let path = path.join(name);
        let read = match File::open(&path) {
            Ok(file) => read_bounded(file, left),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
        let bytes = read.map_err(|why| CapsuleError { message: format!("{}: {why}", path.display()) })?;
        left -= bytes.len() as u64;
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

/// The files of a capsule in an archive, whatever directory they stand in. Others are passed over.
fn read_archive(archive: impl Read) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let broken = |error: io::Error| format!("the archive is cut off, damaged or none ({error})");
    let inflated = zstd::Decoder::new(BufReader::new(archive)).map_err(broken)?;
    // What is passed over counts too: reading it takes time.
    let mut archive = tar::Archive::new(inflated.take(CAPSULE_BYTES_MAX + 1));
    let mut files = BTreeMap::new();
    let mut left = CAPSULE_BYTES_MAX;
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let entry = entry.map_err(broken)?;
        if number == ARCHIVE_ENTRIES_MAX {
            return Err(format!("the archive has more than {ARCHIVE_ENTRIES_MAX} entries, and no capsule has"));
        }
        let path = entry.path().map_err(broken)?.into_owned();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !entry.header().entry_type().is_file() || !FILES.contains(&name) || files.contains_key(name) {
            continue;
        }
        let size = entry.size();
        let bytes = read_bounded(entry, left).map_err(broken)?;
        if bytes.len() as u64 != size {
            return Err(format!("the archive is cut off within {name}"));
        }
        left -= bytes.len() as u64;
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

fn read_bounded(from: impl Read, left: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(left + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > left {
        return Err(io::Error::other(format!("it is larger than {CAPSULE_BYTES_MAX} bytes, and no run is")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;

    fn packed(value_ns: u64, count: u64) -> Packed {
        let mut histogram = Histogram::of_client();
        histogram.record_n(value_ns, count);
        Packed::from(&histogram)
    }

    fn capsule() -> Capsule {
        let mut result = RunResult::begin(1_700_000_000_123);
        for i in 0..5u64 {
            result.intervals.push(Interval {
                start_ns: i * 1_000_000_001,
                length_ns: 1_000_000_001,
                invalid: (i == 2).then(|| "the generator was 7 ms late".to_owned()),
                produce: packed(1_000_000 * (i + 1), 100),
                e2e: packed(2_000_000 * (i + 1), 90 + i),
                lateness: packed(1_000, 100),
                counts: Counts { sent: 100 + i, acked: 100, ..Counts::default() },
            });
        }
        result.connect.record(300_000);
        result.totals = Counts { sent: 510, acked: 500, lost: 1, ..Counts::default() };
        result.complaints = vec![("the broker hung up".to_owned(), 3)];
        result.broker.configs = vec![("log.segment.bytes".to_owned(), "1".to_owned())];
        result.stages_hlog = Some("#[Histogram log format version 1.3]\n".to_owned());
        let mut environment = Environment::default();
        environment.set("kernel", Some("6.1\n".to_owned()));
        environment.set("cpu.governor", None);
        Capsule {
            name: "run".to_owned(),
            workload: "rate = 5\n".to_owned(),
            command: "corelog bench --rate 5".to_owned(),
            mode: Mode::ClosedLoop,
            seed: 42,
            environment,
            result,
            notes: Vec::new(),
        }
    }

    fn written() -> (tempfile::TempDir, Written) {
        let dir = tempfile::tempdir().expect("a directory");
        let written = capsule().write(&dir.path().join("a/run")).expect("written");
        (dir, written)
    }

    #[test]
    fn a_capsule_is_read_back_from_either_form() {
        let (_dir, written) = written();
        assert_eq!(Capsule::read(&written.directory), Ok(capsule()));
        assert_eq!(Capsule::read(&written.archive), Ok(capsule()));
        let hgrm = fs::read_to_string(written.directory.join("produce.hgrm")).expect("written");
        assert!(hgrm.contains("Total count    =          400]"), "{hgrm}");
    }

    #[test]
    fn command_lines_can_be_given_to_a_shell() {
        let check = |arguments: &[&str], expect: &str| {
            assert_eq!(command_line(arguments.iter().map(OsString::from)), expect);
        };
        check(&["./corelog", "bench", "--rate=5"], "./corelog bench --rate=5");
        check(&["a b", "", "it's", "$x;"], r"'a b' '' 'it'\''s' '$x;'");
    }

    #[test]
    fn a_second_run_does_not_touch_the_first() {
        let (_dir, first) = written();
        let second = capsule().write(&first.directory).expect("written");
        assert!(second.directory.ends_with("run-2") && second.archive.ends_with("run-2.tar.zst"), "{second:?}");
        assert_eq!(Capsule::read(&second.directory).expect("read").name, "run-2");
        assert_eq!(Capsule::read(&first.directory), Ok(capsule()));
    }

    #[test]
    fn what_is_missing_or_broken_is_noted_and_the_rest_read() {
        let check = |break_it: &dyn Fn(&Path), expect: &[&str], intervals: usize| {
            let (_dir, written) = written();
            break_it(&written.directory);
            let read = Capsule::read(&written.directory).expect("read all the same");
            assert_eq!(read.notes.len(), expect.len(), "{:?}", read.notes);
            read.notes.iter().zip(expect).for_each(|(note, part)| assert!(note.contains(part), "{part}: {note}"));
            assert_eq!(read.result.intervals.len(), intervals);
            assert_eq!(read.result.intervals[2].invalid.is_some(), intervals == 5);
        };
        let cut = |file: &'static str, keep: f64| {
            move |dir: &Path| {
                let bytes = fs::read(dir.join(file)).expect("written");
                let length = (bytes.len() as f64 * keep) as usize;
                fs::write(dir.join(file), &bytes[..length]).expect("cut");
            }
        };
        let remove = |file: &'static str| move |dir: &Path| fs::remove_file(dir.join(file)).expect("written");
        check(&remove("summary.json"), &["summary.json: is missing"], 5);
        check(&remove("workload.toml"), &["workload.toml: is missing"], 5);
        check(&remove("intervals.jsonl"), &["intervals.jsonl: is missing"], 5);
        check(&remove("lateness.hlog"), &[], 5);
        check(&cut("environment.json", 0.5), &["environment.json: EOF"], 5);
        check(&cut("e2e.hlog", 0.9), &["run/e2e.hlog, line 10: the log is cut off here", "has 4 of 5"], 5);
        check(&cut("intervals.jsonl", 0.9), &["intervals.jsonl, line 5: EOF", "has 5 of 4", "5 of 4", "5 of 4"], 5);
    }

    #[test]
    fn archives_that_are_none_are_refused() {
        let (dir, written) = written();
        let whole = fs::read(&written.archive).expect("written");
        let path = dir.path().join("b.tar.zst");
        let check = |bytes: &[u8], expect: &str| {
            fs::write(&path, bytes).expect("written");
            let error = Capsule::read(&path).expect_err(expect).to_string();
            assert!(error.contains("b.tar.zst: ") && error.contains(expect), "{expect}: {error}");
        };
        check(b"", "cut off, damaged or none");
        check(b"not an archive at all, but long enough to be one", "cut off, damaged or none");
        for cut in [10, whole.len() / 2, whole.len() - 5] {
            check(&whole[..cut], "cut off");
        }
        let compress = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("compressed");
        let tar = zstd::decode_all(&whole[..]).expect("whole");
        // Not between two blocks: there it would end like any other.
        check(&compress(&tar[..tar.len() / 1024 * 512 + 7]), "cut off");
        let mut builder = tar::Builder::new(Vec::new());
        for i in 0..=ARCHIVE_ENTRIES_MAX {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_cksum();
            builder.append_data(&mut header, format!("{i}"), io::empty()).expect("appended");
        }
        check(&compress(&builder.into_inner().expect("finished")), "more than 1000 entries");
    }

    #[test]
    fn a_log_alone_is_a_run_of_which_nothing_else_is_known() {
        let (dir, written) = written();
        let read = Capsule::read(&written.directory.join("e2e.hlog")).expect("read");
        let counts: Vec<u64> = read.result.intervals.iter().map(|interval| interval.e2e.count()).collect();
        assert_eq!(counts, [90, 91, 92, 93, 94]);
        assert!(read.result.intervals[2].invalid.is_some());
        let foreign = dir.path().join("other.hlog");
        fs::write(&foreign, "50000 records sent\n").expect("written");
        let error = Capsule::read(&foreign).expect_err("foreign").to_string();
        assert!(error.contains("other.hlog, line 1: "), "{error}");
        let error = Capsule::read(&dir.path().join("nothing")).expect_err("none").to_string();
        assert!(error.contains("nothing: No such file"), "{error}");
    }

    #[test]
    fn a_full_disk_is_named_and_what_was_written_kept() {
        // Every write to it fails as on a full disk.
        fn full() -> io::Result<File> {
            File::options().write(true).open("/dev/full")
        }
        fn full_at_e2e(path: &Path) -> io::Result<File> {
            if path.ends_with("e2e.hlog") { full() } else { File::create(path) }
        }
        fn full_at_archive(path: &Path) -> io::Result<File> {
            if path.to_string_lossy().ends_with(ARCHIVE_SUFFIX) { full() } else { File::create(path) }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("run");
        let error = capsule().write_by(&place, full_at_e2e).expect_err("full").to_string();
        assert!(error.contains("run/e2e.hlog: No space left on device"), "{error}");
        assert!(error.contains("setup.hlog, produce.hlog, and this file as far as"), "{error}");
        let kept = Capsule::read(&place).expect("kept");
        let without_e2e = |interval: Interval| Interval { e2e: Packed::empty(), lateness: Packed::empty(), ..interval };
        let expect: Vec<Interval> = capsule().result.intervals.into_iter().map(without_e2e).collect();
        assert_eq!(kept.result.intervals, expect);

        let place = dir.path().join("whole");
        let error = capsule().write_by(&place, full_at_archive).expect_err("full").to_string();
        assert!(error.contains("whole.tar.zst: No space left") && error.contains("complete in "), "{error}");
        assert_eq!(Capsule::read(&place).map(|read| read.result), Ok(capsule().result));
        assert!(!dir.path().join("whole.tar.zst").exists());

        let blocked = dir.path().join("file");
        fs::write(&blocked, "").expect("written");
        let error = capsule().write(&blocked.join("run")).expect_err("below a file").to_string();
        assert!(error.contains("file/run: ") && error.contains("choose another directory"), "{error}");
    }
}
