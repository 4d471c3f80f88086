//! Several brokers on real processes.
#![cfg(feature = "shell")]

mod binary;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use binary::{directory, free_ports};

#[test]
fn a_cluster_to_try_things_with_starts_a_killed_broker_again_and_stops_with_a_signal() {
    let dir = directory();
    let port = free_ports(3).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["cluster", "local", "--brokers=1", "--cores=1", "--restart-after=1s", "--port", &port, "--dir"]);
    let mut process = command.arg(dir.path()).stdout(Stdio::piped()).spawn().expect("start the binary");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut hear = |text: &str| {
        let said = lines.find_map(|line| line.ok().filter(|line| line.contains(text)));
        said.unwrap_or_else(|| panic!("no line says {text:?}"))
    };
    hear(&format!("connect    127.0.0.1:{port}"));
    hear("ready");
    let broker = std::fs::read_to_string(dir.path().join("broker-1/.lock")).expect("it runs");
    let kill = |signal: &str, process: &str| {
        assert!(Command::new("kill").args([signal, process]).status().expect("kill").success());
    };
    kill("-9", broker.trim());
    hear("broker 1 has ended, by signal 9; it is started again after 1 s");
    hear("broker 1 is started again");
    kill("-INT", &process.id().to_string());
    hear("stopped");
    assert!(process.wait().expect("wait").success());
}
