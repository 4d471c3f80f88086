//! A broker of our own for the time of a run: a child process on a temporary directory and a free port.
//!
//! *Owns*: the process and the directory, both gone at the end. *Never*: keeps data. *Runs on*: the main thread, and
//! one that reads what the broker logs.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bench::control::BenchError;
use crate::bench::stages::StagesAddress;
use crate::bench::workload::Workload;

const START_WAIT: Duration = Duration::from_secs(60);

/// Intervals in which it is told what the broker's stages took: a broker keeps a few thousand.
const STAGE_INTERVALS: u64 = 600;

/// Lines of the broker's log that an error repeats.
const LINES_TOLD: usize = 5;

/// See the module. Dropping it ends the broker.
pub struct Embedded {
    process: Child,
    directory: PathBuf,
    /// `HOST:PORT`.
    pub address: String,
    /// Where it serves what its stages took.
    pub stages: Option<StagesAddress>,
}

impl Embedded {
    /// Starts this program's own `serve` below `parent`, on these processors (all of them if there are none), with
    /// `settings` as more of its flags, for that workload.
    pub fn start(
        parent: &Path,
        processors: &[usize],
        workload: &Workload,
        settings: &[String],
    ) -> Result<Embedded, BenchError> {
        let failed = |what: &str, error: std::io::Error| BenchError::new(format!("cannot {what}: {error}"));
        let program = std::env::current_exe().map_err(|error| failed("find this program's file", error))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("corelog-bench-{}-{}", std::process::id(), since.as_nanos());
        let directory = parent.join(name);
        fs::create_dir_all(&directory)
            .map_err(|error| failed(&format!("make {} for the embedded broker", directory.display()), error))?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&directory);
        if !processors.is_empty() {
            // A range, since a number alone would be a count.
            let list: Vec<_> = processors.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
            command.args(["--cores", &list.join(",")]);
        }
        let interval_ms = (workload.interval_ns.max(workload.duration_ns / STAGE_INTERVALS) / 1_000_000).to_string();
        for (flag, other, value) in
            [("--http", "--http-listen", "127.0.0.1:0"), ("--metrics-interval-ms", "", &interval_ms)]
        {
            let is_flag = |given: &str| !given.is_empty() && (given == flag || given == other);
            if !settings.iter().any(|setting| is_flag(setting.split('=').next().unwrap_or(setting))) {
                command.args([flag, value]);
            }
        }
        command.args(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What the terminal sends to this program must not end the broker before the run.
        command.process_group(0).env("RUST_LOG", "corelog::shell::run=info,warn");
        let process = command.spawn().inspect_err(|_| drop(fs::remove_dir_all(&directory)));
        let process = process.map_err(|error| failed("start the embedded broker", error))?;
        let mut embedded = Embedded { process, directory, address: String::new(), stages: None };
        embedded.wait_until_ready()?;
        Ok(embedded)
    }

    /// Where its data is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the broker, and removes what it wrote.
    pub fn stop(self) {
        drop(self);
    }

    fn wait_until_ready(&mut self) -> Result<(), BenchError> {
        let Some(stderr) = self.process.stderr.take() else {
            return Err(BenchError::new("the embedded broker has no log to read"));
        };
        let (sender, lines) = mpsc::channel();
        // Goes on reading to the broker's end, or the broker would wait for room in the pipe.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let _ = sender.send(line);
            }
        });
        let mut told = VecDeque::new();
        loop {
            match lines.recv_timeout(START_WAIT) {
                Ok(line) => {
                    let after = |word: &str| line.split_whitespace().skip_while(|other| *other != word).nth(1);
                    if let Some(address) = after("listen") {
                        self.address = address.to_owned();
                    }
                    if let Some(address) = after("http") {
                        self.stages = StagesAddress::parse(address).ok();
                    }
                    if line.trim_end().ends_with("ready") && !self.address.is_empty() {
                        return Ok(());
                    }
                    told.push_back(line);
                    if told.len() > LINES_TOLD {
                        told.pop_front();
                    }
                }
                Err(why) => {
                    let what = match why {
                        RecvTimeoutError::Timeout => "did not get ready",
                        RecvTimeoutError::Disconnected => "ended at once",
                    };
                    let log: Vec<_> = told.into();
                    return Err(BenchError::new(format!("the embedded broker {what}; it said:\n{}", log.join("\n"))));
                }
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Nothing of it is to be kept, so there is nothing to wait for but its end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
