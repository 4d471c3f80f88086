//! `corelog report`: one or more runs as one HTML file that needs nothing else, and no network.
//!
//! The page is `page.html`, with the style, the script and the data put into it. Texts of a run are data: they go in
//! as JSON, and the script shows them as text.
//!
//! *Owns*: the file and the command. *Never*: overwrites a file that is no report. *Runs on*: the main thread.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bench::capsule::Capsule;
use crate::terminal::printed;

mod data;
mod stages;

pub use data::{POINTS_PER_NINE, ReportData};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// By what a report is known, near its beginning.
const MARK: &str = "<meta name=\"generator\" content=\"corelog report\">";
const MARK_WITHIN_BYTES: u64 = 1024;

/// More than a picture can tell apart.
const RUNS_MAX: usize = 16;

const EXAMPLES: &str = "\
A RUN is the directory of a run, its .tar.zst, or a histogram log (.hlog) of any program. Several runs are overlaid,
compared with the first as `corelog compare` does, and their environments, workloads and broker settings shown where
they differ.

Examples:
  corelog report runs/monday
  corelog report runs/monday runs/tuesday.tar.zst --out week.html
  corelog report acks-1 acks-all --differs workload.acks --out acks.html
  corelog report other.hlog --out - > other.html";

pub fn command() -> Command {
    let runs = Arg::new("run").value_name("RUN").required(true).num_args(1..);
    let out = Arg::new("out").long("out").value_name("FILE").default_value("report.html");
    let differs = Arg::new("differs").long("differs").value_name("NAME").action(ArgAction::Append);
    Command::new("report")
        .about("Draw runs as one self-contained HTML file")
        .after_help(EXAMPLES)
        .arg(runs.value_parser(value_parser!(PathBuf)).help("Runs to draw, at most 16"))
        .arg(differs.help("What is meant to differ between the runs, as for `corelog compare`; can be repeated"))
        .arg(out.value_parser(value_parser!(PathBuf)).help("Where to write it; - is standard output"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let runs: Vec<&PathBuf> = matches.get_many("run").expect("clap asks for one").collect();
    let out: &PathBuf = matches.get_one("out").expect("it has a default");
    let differs: Vec<String> = matches.get_many("differs").into_iter().flatten().cloned().collect();
    printed::ended(report(&runs, &differs, out).map(|notes| {
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        if out.as_os_str() != "-" {
            eprintln!("{}", out.display());
        }
    }))
}

/// The whole page.
pub fn html(data: &ReportData) -> String {
    let json = escaped(&serde_json::to_string(data).expect("it has only texts, numbers and lists"));
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + json.len());
    let mut rest = PAGE;
    for (place, content) in [("{{css}}", STYLE), ("{{data}}", json.as_str()), ("{{js}}", SCRIPT)] {
        let (before, after) = rest.split_once(place).expect("the page has a place for each");
        page.push_str(before);
        page.push_str(content);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// JSON in which nothing can end the element that it stands in. These characters occur in its texts alone.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// Writes the report, and returns what could not be read.
fn report(runs: &[&PathBuf], differs: &[String], out: &Path) -> Result<Vec<String>, String> {
    if runs.len() > RUNS_MAX {
        return Err(format!("{} runs are more than one page can tell apart; give at most {RUNS_MAX}", runs.len()));
    }
    let is_stdout = out.as_os_str() == "-";
    if !is_stdout {
        check_target(out)?;
    }
    let paths: Vec<&Path> = runs.iter().map(|path| path.as_path()).collect();
    let mut capsules = Capsule::read_all(&paths).map_err(|error| error.to_string())?;
    name_apart(&mut capsules, runs);
    let page = html(&ReportData::of(&capsules, differs));
    if is_stdout {
        printed::print(page.as_bytes())?;
    } else {
        write_whole(out, page.as_bytes())?;
    }
    Ok(capsules.into_iter().flat_map(|capsule| capsule.notes).collect())
}

/// Runs of one name are called by their paths, and one given twice by its place in the row too.
fn name_apart(capsules: &mut [Capsule], runs: &[&PathBuf]) {
    for by_path in [true, false] {
        let names: Vec<String> = capsules.iter().map(|capsule| capsule.name.clone()).collect();
        for (at, capsule) in capsules.iter_mut().enumerate() {
            if names.iter().filter(|name| **name == names[at]).count() > 1 {
                capsule.name =
                    if by_path { runs[at].display().to_string() } else { format!("{} ({})", names[at], at + 1) };
            }
        }
    }
}

/// What is there already may be an older report and nothing else.
fn check_target(out: &Path) -> Result<(), String> {
    let shown = out.display();
    // A device or a pipe has nothing that could be lost, and reading it may never end.
    if fs::metadata(out).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return Ok(());
    }
    let mut start = Vec::new();
    match fs::File::open(out) {
        Ok(file) => file.take(MARK_WITHIN_BYTES).read_to_end(&mut start).map_err(|why| format!("{shown}: {why}"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{shown}: {error}; choose another file with --out")),
    };
    if start.is_empty() || String::from_utf8_lossy(&start).contains(MARK) {
        return Ok(());
    }
    Err(format!("{shown} is there and is no report; it is left as it is: choose another file with --out"))
}

/// Whoever has the old report open never sees half of the new one.
fn write_whole(out: &Path, bytes: &[u8]) -> Result<(), String> {
    // A device or a pipe is written to; it cannot be replaced.
    if fs::metadata(out).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(out, bytes).map_err(|why| format!("{}: {why}", out.display()));
    }
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = out.with_file_name(name);
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, out)).map_err(|why| {
        // It may not even have come to be.
        let _ = fs::remove_file(&part);
        format!("{}: {why}; nothing was written", out.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
        assert!(EXAMPLES.lines().filter(|line| line.starts_with("  ")).all(|line| line.contains("corelog report")));
    }

    #[test]
    fn no_text_can_leave_the_data() {
        let hostile = "</script><script>alert(1)</script><!-- & \u{2028} {{js}}";
        let json = serde_json::to_string(hostile).expect("text");
        let escaped = escaped(&json);
        assert!(!escaped.contains(['<', '>', '&', '\u{2028}']), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).expect("still JSON"), hostile);
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let page = html(&ReportData::of(&[], &[]));
        let start = &page[..MARK_WITHIN_BYTES as usize];
        assert!(start.contains(MARK) && start.contains("default-src 'none'"));
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "src=", "@import", "url(/", "fetch(", "innerHTML", "{{"] {
            assert!(!elsewhere.contains(word), "{word}");
        }
    }

    #[test]
    fn only_a_report_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.html");
        let check = |content: &str, expect: bool| {
            fs::write(&path, content).expect("written");
            assert_eq!(check_target(&path).is_ok(), expect, "{content}");
        };
        assert_eq!(check_target(&path), Ok(()));
        check("", true);
        check("<html>mine", false);
        check(&html(&ReportData::of(&[], &[])), true);
        write_whole(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        let error = write_whole(&dir.path().join("no/a.html"), b"new").expect_err("no directory");
        assert!(error.contains("no/a.html: No such file") && error.contains("nothing was written"), "{error}");
        let error = check_target(dir.path()).expect_err("a directory");
        assert!(error.contains("Is a directory"), "{error}");
    }
}
