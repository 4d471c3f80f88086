//! The workloads of `perf/`: each can be run, says whose complaint it stands for, and what a good result is.
#![cfg(feature = "shell")]

use std::fs;
use std::path::{Path, PathBuf};

use corelog::bench::workload::{ReadMode, Workload};

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("perf/workloads");
    let mut files: Vec<PathBuf> = (fs::read_dir(&dir).expect("the directory is there"))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    files
}

#[test]
fn each_can_be_run() {
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let mut workload = Workload::default();
        workload.set_from_file(&path).unwrap_or_else(|error| panic!("{error}"));
        workload.check().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // So that two of them can be run on one broker, one after the other.
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
        assert_eq!(workload.topic, name, "{}", path.display());
        let measures_latency = workload.read_mode != ReadMode::CatchUp;
        assert!(workload.is_open_loop() || !measures_latency, "{}: a closed loop hides stalls", path.display());
    }
}

#[test]
fn each_says_what_it_stands_for_and_what_is_good() {
    for path in files() {
        let text = fs::read_to_string(&path).expect("it can be read");
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in ["# Stands for: ", "# Good: "] {
            let found = head.iter().filter(|line| line.starts_with(word)).count();
            assert_eq!(found, 1, "{} has `{word}` once in its head", path.display());
        }
        assert!(text.lines().all(|line| line.len() <= 120), "{}: lines of up to 120 characters", path.display());
    }
}

#[test]
fn each_that_is_named_to_people_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for path in ["README.md", "tuning.md", "src/bench/command.rs", "perf/peers.md"] {
        let text = fs::read_to_string(root.join(path)).expect("it can be read");
        for (at, _) in text.match_indices("perf/workloads/") {
            let word = text[at..].split(|c: char| c.is_whitespace() || "`)\"".contains(c)).next().unwrap_or_default();
            if word.ends_with(".toml") {
                named += 1;
                assert!(root.join(word).exists(), "{path} names {word}");
            }
        }
    }
    assert!(named >= 2, "the search finds the example of --help and one in tuning.md");
}
