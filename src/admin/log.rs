//! `corelog log`: what is in a data directory, whether it is whole, and how it becomes whole again.
//!
//! *Owns*: the subcommand, its tables, its exit codes: 0 whole, 1 damaged, 2 not done. *Never*: changes a file
//! without `--yes`, or one that a broker has open. *Runs on*: the main thread.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::log_dump::{Form, write_batch};
use crate::admin::log_files::{FileError, Survey, names, read_segment};
use crate::admin::log_journal_dump::{dump_journal, journals_json, write_journal_findings, write_journals};
use crate::admin::log_journals::{Journals, Overlay, acknowledge};
use crate::admin::log_redo::replay;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::journal::format::FileName as JournalName;
use crate::log::inspect::{FileName, LogFiles, PlacedBatch, Rest, SegmentEnd};
use crate::shell::{host, socket};

const EXAMPLES: &str = "\
Examples:
  corelog log verify ./corelog-data
  corelog log dump ./corelog-data/orders-0 --from-offset 1000 --records | head
  corelog log dump ./corelog-data/journal/0.journal
  corelog log repair ./corelog-data            # says what would be cut
  corelog log repair ./corelog-data --yes      # and cuts it";

/// Read between two lines of progress.
const PROGRESS_BYTES: u64 = 256 << 20;

/// Why it was not done. Nothing was changed, unless it says so.
#[derive(Debug)]
enum Refusal {
    File(FileError),
    /// There is nothing of ours.
    NoLog(PathBuf),
    InUse(PathBuf),
    /// Of one partition, while the journals of this data directory have something of it.
    Journaled(PathBuf),
    /// Journals that a broker would refuse.
    Journals(String),
    Output(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::File(FileError { path, why }) => write!(f, "{}: {why}", path.display()),
            Refusal::NoLog(path) => write!(
                f,
                "{} holds no partition's log; give the broker's data directory, or one partition's (topic-0) in it",
                path.display()
            ),
            Refusal::InUse(path) => {
                write!(f, "a broker has {} in use; stop it first. Nothing was changed", path.display())
            }
            Refusal::Journaled(data) => {
                let data = data.display();
                write!(
                    f,
                    "the journals in {data} hold some of it; give {data}, to repair all of it. Nothing was changed"
                )
            }
            Refusal::Journals(why) => write!(f, "{why}. Nothing was changed"),
            Refusal::Output(why) => write!(f, "the output cannot be written: {why}"),
        }
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Refusal {
        Refusal::File(error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Output(error)
    }
}

pub fn command() -> Command {
    let path = |help: &'static str| {
        Arg::new("path").value_name("PATH").required(true).value_parser(value_parser!(PathBuf)).help(help)
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let anywhere = "A data directory, or the directory of one partition in it";
    let verify = Command::new("verify")
        .about("Read every batch, index, snapshot and journal, and say whether all is whole")
        .arg(path(anywhere))
        .arg(flag("json", "For programs: one object"));
    let dump = Command::new("dump")
        .about("Print the batches of a partition or of one segment, as Kafka's dump tool does, or a journal's entries")
        .arg(path("The directory of a partition, one of its .log files, or a .journal file"))
        .arg(flag("records", "The records as well"))
        .arg(flag("json", "For programs: an object a line"))
        .arg(
            Arg::new("from-offset")
                .long("from-offset")
                .value_name("N")
                .value_parser(value_parser!(i64).range(0..))
                .default_value("0")
                .help("Begin with the batch that holds this offset"),
        );
    let repair = Command::new("repair")
        .about("Cut off what is damaged, after saying what that is")
        .long_about(
            "Cut off what is damaged, after saying what that is. Batches after the first bad one are not the log's any \
             more: what is cut is kept beside it, in files that end in .cut. What journals hold is written to its segments \
             before, and a damaged journal is put aside.",
        )
        .arg(path(anywhere))
        .arg(flag("yes", "Do it; without this, only say what would be done"))
        .arg(flag("json", "For programs: one object"));
    Command::new("log")
        .about("Look into the files of a broker that is stopped: verify, dump, repair")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(EXAMPLES)
        .subcommands([verify, dump, repair])
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("verify", matches)) => verify(matches),
        Some(("dump", matches)) => dump(matches),
        Some(("repair", matches)) => repair(matches),
        _ => unreachable!("clap asks for one of these"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads may stop early, as `head` does.
        Err(Refusal::Output(why)) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("error: {refusal}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is whole.
fn verify(matches: &ArgMatches) -> Result<bool, Refusal> {
    let path = path_of(matches);
    let lock = lock(path)?;
    if lock.is_none() {
        eprintln!("note: a broker has these files; what it writes now may be found half there");
    }
    let found = Found::at(path)?;
    let mut out = io::stdout().lock();
    if matches.get_flag("json") {
        writeln!(out, "{:#}", found.json())?;
    } else {
        found.write_tables(&mut out)?;
        if found.needs_repair() {
            writeln!(out, "\n`corelog log repair {}` says what it would cut and delete.", path.display())?;
        }
    }
    Ok(found.is_whole())
}

fn dump(matches: &ArgMatches) -> Result<bool, Refusal> {
    let path = path_of(matches);
    let from = Offset(*matches.get_one::<i64>("from-offset").expect("it has a default"));
    let form = Form { records: matches.get_flag("records"), json: matches.get_flag("json") };
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(name) = path.file_name().and_then(|name| JournalName::parse(&name.to_string_lossy())) {
        return dump_of_journal(&mut out, path, name, form);
    }
    let (dir, segments) = segments_of(path)?;
    // A file that is asked for by itself is shown as it is.
    let overlay = if path.is_dir() { Journals::take(path)?.overlay(path) } else { Overlay::default() };
    let mut epoch = LeaderEpoch(0);
    let mut whole = true;
    for (at, &base) in segments.iter().enumerate() {
        if segments.get(at + 1).is_some_and(|next| *next <= from) {
            continue;
        }
        let file = FileName::Segment(base).path(&dir);
        if !form.json {
            writeln!(out, "Dumping {}\nLog starting offset: {base}", file.display())?;
        }
        let mut failed = None;
        let on_batch = |batch: &PlacedBatch| {
            if batch.header.last_offset() >= from && failed.is_none() {
                failed = write_batch(&mut out, batch, form).err();
            }
        };
        let end = read_segment(&file, base, epoch, &overlay, on_batch, |_| ())?;
        if let Some(why) = failed {
            return Err(why.into());
        }
        epoch = end.epoch;
        whole &= !matches!(end.rest, Rest::Bad { .. });
        if let Some(what) = rest_text(&end) {
            out.flush()?;
            eprintln!("{}: {what}", file.display());
        }
    }
    out.flush()?;
    Ok(whole)
}

/// Whether it is whole.
fn dump_of_journal(out: &mut impl Write, path: &Path, name: JournalName, form: Form) -> Result<bool, Refusal> {
    let journals = Journals::take(path.parent().unwrap_or(Path::new("")))?;
    let journal = journals.file(path, name)?;
    dump_journal(out, &journal, &journals, form)??;
    out.flush()?;
    write_journal_findings(&mut io::stderr().lock(), &journal)?;
    Ok(journal.refused.is_none() && journal.damages.is_empty())
}

/// Whether all is whole, now or already before.
fn repair(matches: &ArgMatches) -> Result<bool, Refusal> {
    let path = path_of(matches);
    let Some(_lock) = lock(path)? else { return Err(Refusal::InUse(path.to_owned())) };
    let found = Found::at(path)?;
    let (yes, json) = (matches.get_flag("yes"), matches.get_flag("json"));
    let mut out = io::stdout().lock();
    if !json {
        found.write_plan(&mut out)?;
        if found.is_whole() {
            writeln!(out, "All of it is whole: there is nothing to repair.")?;
        } else if !yes {
            writeln!(out, "\nNothing was changed. Add --yes to do this; what is cut is kept in .cut files.")?;
        }
    }
    if !yes {
        if json {
            writeln!(out, "{:#}", found.json())?;
        }
        return Ok(found.is_whole());
    }
    let after = if found.needs_repair() { found.repair(path)? } else { found };
    if json {
        writeln!(out, "{:#}", after.json())?;
    } else {
        writeln!(out, "\nAfter the repair:")?;
        after.write_tables(&mut out)?;
    }
    Ok(after.is_whole())
}

/// All there is at a path.
struct Found {
    surveys: Vec<Survey>,
    journals: Journals,
    /// The path is the data directory that the journals are in.
    is_all: bool,
}

impl Found {
    fn at(path: &Path) -> Result<Found, Refusal> {
        let journals = Journals::take(path)?;
        let is_all = journals.dir.is_some() && path.canonicalize().ok() == journals.dir;
        let surveys = survey(path, &journals, is_all)?;
        Ok(Found { surveys, journals, is_all })
    }

    fn is_whole(&self) -> bool {
        self.surveys.iter().all(Survey::is_whole) && (!self.is_all || self.journals.are_whole())
    }

    fn needs_repair(&self) -> bool {
        let journals_are_whole = !self.is_all || self.journals.are_whole();
        self.surveys.iter().any(Survey::can_be_repaired) || !journals_are_whole
    }

    /// First what journals have is brought to its place, then what is still bad is cut.
    fn repair(self, path: &Path) -> Result<Found, Refusal> {
        let mut found = self;
        if let Some(data) = found.journals.dir.clone() {
            let has_journaled = |survey: &Survey| survey.overlay.asks_anything();
            if !found.is_all && found.surveys.iter().any(has_journaled) {
                return Err(Refusal::Journaled(data));
            }
            if found.is_all && found.journals.files.iter().any(|file| !file.is_aside() && !file.is_idle()) {
                found.check_journals()?;
                replay(&data, &found.journals)?;
                found = Found::at(path)?;
            }
        }
        for survey in found.surveys.iter().filter(|survey| survey.is_to_be_changed()) {
            survey.repair()?;
        }
        let lacking = found.surveys.iter().filter(|survey| survey.cut.is_some() || survey.missing().is_some());
        let lacking: Vec<PathBuf> = lacking.map(|survey| survey.dir.clone()).collect();
        found.journals.forget_durable(&lacking)?;
        if found.is_all {
            acknowledge(&found.journals)?;
        }
        Found::at(path)
    }

    fn check_journals(&self) -> Result<(), Refusal> {
        let refused = self.journals.files.iter().find_map(|file| Some((&file.path, file.refused.as_ref()?)));
        if let Some((path, why)) = refused {
            return Err(Refusal::Journals(format!("{}: {why}", path.display())));
        }
        if self.journals.are_of_nobody() {
            let why = "the metadata cannot be read, so that it is not known whose the journals' entries are";
            return Err(Refusal::Journals(why.to_owned()));
        }
        Ok(())
    }

    fn write_tables(&self, out: &mut impl Write) -> io::Result<()> {
        write_table(out, &self.surveys)?;
        if self.is_all { write_journals(out, &self.journals, size) } else { Ok(()) }
    }

    fn write_plan(&self, out: &mut impl Write) -> io::Result<()> {
        for survey in self.surveys.iter().filter(|survey| !survey.is_whole()) {
            write_plan(out, survey)?;
        }
        let journals = if self.is_all { &self.journals.files[..] } else { &[] };
        for file in journals.iter().filter(|file| !file.is_whole()) {
            writeln!(out)?;
            write_journal_findings(out, file)?;
            let path = file.path.display();
            if file.is_aside() {
                writeln!(out, "  rename {path}, which was replayed and put aside")?;
            } else if file.is_missing {
                writeln!(out, "  give {path} up, with whatever only it had")?;
            } else if file.refused.is_none() {
                let (entries, bytes) = (file.entries.len(), size(file.payload_bytes()));
                writeln!(out, "  write {entries} entries of {path} to their segments ({bytes}), and put it aside")?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let partitions: Vec<Value> = self.surveys.iter().map(survey_json).collect();
        let journals = if self.is_all { journals_json(&self.journals) } else { json!([]) };
        json!({ "whole": self.is_whole(), "partitions": partitions, "journals": journals })
    }
}

fn path_of(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>("path").expect("it is required")
}

/// Keeps brokers away from the data directory that this is, or is in. `None` when one has it.
fn lock(path: &Path) -> Result<Option<File>, Refusal> {
    let places = [Some(path), path.parent()];
    let found = places.into_iter().flatten().map(|dir| dir.join(host::LOCK_NAME)).find(|file| file.exists());
    // A copy of a log has none, and no broker.
    let at_hand = found.unwrap_or_else(|| path.to_owned());
    let refused = |why| FileError { path: at_hand.clone(), why };
    let file = File::open(&at_hand).map_err(refused)?;
    match socket::lock_file(&file) {
        Ok(()) => Ok(Some(file)),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(why) => Err(refused(why).into()),
    }
}

/// The partitions' directories that `path` is or holds, by name.
fn partitions(path: &Path, journals: &Journals, is_all: bool) -> Result<Vec<PathBuf>, Refusal> {
    let found = names(path)?;
    if !LogFiles::of(found.iter().cloned()).segments.is_empty() {
        return Ok(vec![path.to_owned()]);
    }
    let mut dirs = Vec::new();
    for dir in found.iter().map(|name| path.join(name)).filter(|dir| dir.is_dir()) {
        if !LogFiles::of(names(&dir)?).segments.is_empty() {
            dirs.push(dir);
        }
    }
    if is_all {
        dirs.extend(journals.directories().map(|name| path.join(name)));
    }
    dirs.sort_unstable();
    dirs.dedup();
    if dirs.is_empty() { Err(Refusal::NoLog(path.to_owned())) } else { Ok(dirs) }
}

/// A partition's directory and those of its segments that are meant.
fn segments_of(path: &Path) -> Result<(PathBuf, Vec<Offset>), Refusal> {
    let (dir, found) = if path.is_dir() {
        (path, names(path)?)
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        (path.parent().unwrap_or(Path::new("")), name.into_iter().collect())
    };
    let segments = LogFiles::of(found).segments;
    if segments.is_empty() { Err(Refusal::NoLog(path.to_owned())) } else { Ok((dir.to_owned(), segments)) }
}

fn survey(path: &Path, journals: &Journals, is_all: bool) -> Result<Vec<Survey>, Refusal> {
    let dirs = partitions(path, journals, is_all)?;
    let shows = io::stderr().is_terminal();
    let (mut read, mut told) = (0u64, 0u64);
    let mut surveys = Vec::with_capacity(dirs.len());
    for (at, dir) in dirs.iter().enumerate() {
        let survey = Survey::take(dir, journals.overlay(dir), |bytes| {
            read += bytes as u64;
            if shows && read - told >= PROGRESS_BYTES {
                told = read;
                let name = name_of(dir);
                eprint!("\r\x1b[K{} of {} partitions, {} read, in {name}", at + 1, dirs.len(), size(read));
            }
        })?;
        surveys.push(survey);
    }
    if told > 0 {
        eprint!("\r\x1b[K");
    }
    Ok(surveys)
}

fn name_of(dir: &Path) -> String {
    let name = dir.canonicalize().ok().and_then(|dir| dir.file_name().map(|name| name.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| dir.display().to_string())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn rest_text(end: &SegmentEnd) -> Option<String> {
    match &end.rest {
        Rest::None => None,
        Rest::Unused { bytes } => Some(format!("unused space from byte {} on: {}", end.position, size(*bytes))),
        Rest::Older { bytes } => {
            let earlier = "what the file has of an earlier segment";
            Some(format!("unused space from byte {} on, with {earlier}: {}", end.position, size(*bytes)))
        }
        Rest::Bad { bytes, why } => {
            let (position, next) = (end.position, end.next);
            Some(format!("bad from byte {position} on ({}), where offset {next} belongs: {why}", size(*bytes)))
        }
    }
}

fn verdict(survey: &Survey) -> &'static str {
    match survey {
        Survey { cut: Some(_), .. } => "DAMAGED",
        Survey { unreadable, .. } if !unreadable.is_empty() => "DAMAGED",
        Survey { gaps, .. } if !gaps.is_empty() => "DAMAGED",
        _ if survey.missing().is_some() => "DAMAGED",
        _ if survey.doubt().is_some() => "whole, and may lack its end",
        Survey { untrue, .. } if !untrue.is_empty() => "batches whole, index or snapshot not",
        _ if survey.overlay.entries() > 0 => "whole with what is in the journal",
        _ if survey.unused_bytes() > 0 => "whole, not closed",
        _ => "whole",
    }
}

fn write_table(out: &mut impl Write, surveys: &[Survey]) -> io::Result<()> {
    let wide = surveys.iter().map(|survey| name_of(&survey.dir).len()).max().unwrap_or(0).max(9);
    writeln!(
        out,
        "{:wide$}  SEGMENTS  {:>25}  {:>10}  {:>12}  {:>10}  STATE",
        "PARTITION", "OFFSETS", "BATCHES", "RECORDS", "SIZE"
    )?;
    for survey in surveys {
        let (from, to) = survey.offsets();
        let offsets = if from == to { format!("none, next {to}") } else { format!("{from} to {}", to.0 - 1) };
        writeln!(
            out,
            "{:wide$}  {:>8}  {offsets:>25}  {:>10}  {:>12}  {:>10}  {}",
            name_of(&survey.dir),
            survey.ends.len(),
            survey.batches(),
            survey.records(),
            size(survey.bytes()),
            verdict(survey),
        )?;
    }
    for survey in surveys.iter().filter(|survey| !survey.is_whole()) {
        write_findings(out, survey)?;
    }
    Ok(())
}

fn write_findings(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    writeln!(out, "\n{}", name_of(&survey.dir))?;
    if let Some(cut) = &survey.cut {
        let path = FileName::Segment(cut.segment).path(&survey.dir);
        writeln!(out, "  {}: bad from byte {} on, offset {}: {}", path.display(), cut.position, cut.offset, cut.why)?;
    }
    for (file, what) in &survey.untrue {
        writeln!(
            out,
            "  {}: {what}; a repair deletes it, and the broker goes on without",
            file.path(&survey.dir).display()
        )?;
    }
    for what in survey.unreadable.iter().chain(&survey.gaps) {
        writeln!(out, "  {what}")?;
    }
    if let Some((from, to)) = survey.missing() {
        writeln!(out, "  offsets {from} to {} were durable once: a journal had them, or it was noted", to.0 - 1)?;
    }
    if let Some(doubt) = survey.doubt() {
        writeln!(out, "  may lack batches that were acknowledged, from offset {} on: {doubt}", survey.offsets().1)?;
    }
    Ok(())
}

fn write_plan(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    write_findings(out, survey)?;
    if survey.overlay.entries() > 0 {
        let (entries, bytes) = (survey.overlay.entries(), size(survey.overlay.bytes()));
        writeln!(out, "  write {entries} entries of the journal to their segments ({bytes})")?;
    }
    if let Some(cut) = &survey.cut {
        let path = FileName::Segment(cut.segment).path(&survey.dir);
        writeln!(out, "  cut {} at byte {}", path.display(), cut.position)?;
        for base in &cut.later {
            writeln!(out, "  put aside {}", FileName::Segment(*base).path(&survey.dir).display())?;
        }
        let lost = match survey.known_end().0 - cut.offset.0 {
            0 => format!("what followed offset {}", cut.offset.0 - 1),
            known => format!("offsets {} to {} ({known})", cut.offset, cut.offset.0 + known - 1),
        };
        writeln!(out, "  lost: {lost}, {} in all", size(survey.cut_bytes()))?;
    }
    if let Some((from, to)) = survey.missing().filter(|_| survey.cut.is_none()) {
        writeln!(out, "  lost: offsets {from} to {} ({})", to.0 - 1, to.0 - from.0)?;
    }
    if survey.doubt().is_some() {
        writeln!(out, "  lost: whatever else it had from offset {} on", survey.known_end())?;
    }
    for file in survey.doomed() {
        writeln!(out, "  delete {}", file.path(&survey.dir).display())?;
    }
    if !survey.can_be_repaired() {
        writeln!(out, "  nothing can be done: the batches are as their producer sent them")?;
    }
    Ok(())
}

fn survey_json(survey: &Survey) -> Value {
    let (from, to) = survey.offsets();
    let path = |file: FileName| file.path(&survey.dir).display().to_string();
    let cut = survey.cut.as_ref().map(|cut| {
        json!({
            "file": path(FileName::Segment(cut.segment)),
            "position": cut.position,
            "offset": cut.offset.0,
            "laterSegments": cut.later.iter().map(|base| path(FileName::Segment(*base))).collect::<Vec<_>>(),
            "bytes": survey.cut_bytes(),
            "knownEnd": survey.known_end().0,
            "why": cut.why,
        })
    });
    let untrue: Vec<Value> =
        survey.untrue.iter().map(|(file, what)| json!({ "file": path(*file), "why": what })).collect();
    json!({
        "partition": name_of(&survey.dir),
        "whole": survey.is_whole(),
        "segments": survey.ends.len(),
        "firstOffset": from.0,
        "nextOffset": to.0,
        "batches": survey.batches(),
        "records": survey.records(),
        "bytes": survey.bytes(),
        "unusedBytes": survey.unused_bytes(),
        "journalEntries": survey.overlay.entries(),
        "journalBytes": survey.overlay.bytes(),
        "doubt": survey.doubt(),
        "missing": survey.missing().map(|(from, to)| json!({ "from": from.0, "next": to.0 })),
        "gaps": survey.gaps,
        "cut": cut,
        "untrueFiles": untrue,
        "unreadableBatches": survey.unreadable,
        "otherFiles": survey.files.strangers,
    })
}
