//! The real binary as a process of its own, for tests over TCP.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Broker {
    process: Child,
    lines: Receiver<String>,
    pub address: SocketAddr,
}

impl Broker {
    pub fn start(dir: &Path, arguments: &[&str]) -> Broker {
        Broker::start_on(dir, "127.0.0.1:0", arguments)
    }

    pub fn start_on(dir: &Path, listen: &str, arguments: &[&str]) -> Broker {
        let mut process = command(dir, listen, arguments).spawn().expect("start the binary");
        let stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        let mut broker = Broker { process, lines, address: "127.0.0.1:0".parse().expect("an address") };
        let line = broker.wait_for("listen ");
        let address = line.split_whitespace().last().expect("a word");
        broker.address = address.parse().expect("an address");
        broker.wait_for("ready");
        broker
    }

    pub fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line says {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Ends the process as a crash would: nothing of it runs any more.
    pub fn kill(mut self) {
        self.process.kill().expect("kill -9");
        self.process.wait().expect("wait");
    }

    /// Ends the process as an operator would.
    pub fn stop(mut self) {
        self.signal("-TERM");
        assert_eq!(self.exit_code(), Some(0));
    }

    /// The exit code, after at most [`PATIENCE`].
    pub fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return status.code();
            }
            thread::yield_now();
        }
        panic!("the broker does not end");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn command(dir: &Path, listen: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["serve", "--listen", listen, "--data-dir"]).arg(dir).args(arguments);
    command.stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

/// On the file system of the sources: that of temporary files may have no direct I/O.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory")
}

/// The first of `count` ports in a row that nobody listens on.
pub fn free_ports(count: u16) -> u16 {
    let taken = |port| TcpListener::bind(("127.0.0.1", port)).is_err();
    // Below the ports that the kernel gives to outgoing connections, spread by process so that test binaries which
    // run at the same time do not meet.
    let start = 20_000 + (std::process::id() % 500) as u16 * 20;
    (start..32_000).step_by(usize::from(count)).find(|&base| !(base..base + count).any(taken)).expect("free ports")
}
