//! The real binary as a process of its own, for tests over TCP.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
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
    pub http: Option<SocketAddr>,
}

impl Broker {
    pub fn start(dir: &Path, arguments: &[&str]) -> Broker {
        Broker::start_on(dir, "127.0.0.1:0", arguments)
    }

    pub fn start_on(dir: &Path, listen: &str, arguments: &[&str]) -> Broker {
        Broker::start_as(command(dir, listen, arguments))
    }

    /// Without a line for each connection that is closed because of what it sent.
    pub fn start_quiet(dir: &Path, arguments: &[&str]) -> Broker {
        let mut command = command(dir, "127.0.0.1:0", arguments);
        command.env("RUST_LOG", "corelog::shell::run=info,error");
        Broker::start_as(command)
    }

    /// A broker that says such a line before it is ready.
    pub fn start_said(command: Command, says: impl Fn(&str) -> bool) -> Broker {
        let (broker, said) = Broker::start_heard(command);
        assert!(said.iter().any(|line| says(line)), "{said:#?}");
        broker
    }

    pub fn start_as(command: Command) -> Broker {
        Broker::start_heard(command).0
    }

    /// With all that it says until it is ready.
    fn start_heard(command: Command) -> (Broker, Vec<String>) {
        let mut broker = Broker::spawn(command);
        let said = broker.hear("ready");
        let line = said.iter().find(|line| line.contains("listen ")).expect("it says where it listens");
        let address = line.split_whitespace().last().expect("a word");
        broker.address = address.parse().expect("an address");
        let line = said.iter().find(|line| line.contains("http ")).expect("it says where it serves HTTP");
        let word = line.split_whitespace().find_map(|word| word.strip_prefix("http://")?.strip_suffix('/'));
        broker.http = word.map(|address| address.parse().expect("an address"));
        (broker, said)
    }

    /// A broker that may never be ready, and whose address is not known.
    pub fn spawn(mut command: Command) -> Broker {
        let mut process = command.spawn().expect("start the binary");
        let stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        Broker { process, lines, address: "127.0.0.1:0".parse().expect("an address"), http: None }
    }

    pub fn wait_for(&self, text: &str) -> String {
        self.hear(text).pop().expect("the line that says it")
    }

    /// The lines up to one that says this.
    pub fn hear(&self, text: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line says {text:?}"));
            let done = line.contains(text);
            said.push(line);
            if done {
                return said;
            }
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    /// A page that is served over HTTP.
    pub fn get(&self, path: &str) -> String {
        let address = self.http.expect("HTTP is served");
        let (head, body) = ask(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        body
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A line of `/proc/PID/status` that is in kB, as bytes: `VmRSS` is the memory in use, `VmHWM` the most there was.
    pub fn memory_bytes(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
        let kilobytes = line.trim_start_matches(':').trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().expect("a number") << 10
    }

    /// Lets `VmHWM` begin anew.
    pub fn forget_memory_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("the process is ours");
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
    command_in(None, dir, listen, arguments)
}

/// The same in a network namespace.
pub fn command_in(space: Option<&str>, dir: &Path, listen: &str, arguments: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_corelog");
    let mut command = match space {
        None => Command::new(binary),
        Some(space) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space, binary]);
            command
        }
    };
    command.args(["serve", "--listen", listen, "--data-dir"]).arg(dir).args(arguments);
    command.stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

/// A reply over HTTP: the status line and headers, and the body.
pub fn ask(address: SocketAddr, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request).expect("write");
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    let reply = String::from_utf8(reply).expect("text");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    (head.to_owned(), body.to_owned())
}

/// The broker does not start and says all of this.
#[track_caller]
pub fn refuse(dir: &Path, arguments: &[&str], expect: &[&str]) {
    let output: std::process::Output = command(dir, "127.0.0.1:0", arguments).output().expect("start the binary");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(expect.iter().all(|part| said.contains(part)), "{expect:?}: {said}");
}

/// Beside what cargo builds: the file system of temporary files may have no direct I/O.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// The first of `count` ports in a row that nobody listens on, and that this process was not given before.
pub fn free_ports(count: u16) -> u16 {
    // Below the ports that the kernel gives to outgoing connections.
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    next_ports(&NEXT, 20_000..32_000, count, &[0])
}

/// The same for brokers that listen for each other on the ports 10000 above.
pub fn free_cluster_ports(count: u16) -> u16 {
    // Those above are below the ports of `free_ports`.
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    next_ports(&NEXT, 8_000..10_000, count, &[0, 10_000])
}

/// Spread by process, so that test binaries which run at the same time do not meet.
fn next_ports(next: &Mutex<Option<u16>>, range: Range<u16>, count: u16, above: &[u16]) -> u16 {
    let is_taken = |port: u16| above.iter().any(|above| TcpListener::bind(("127.0.0.1", port + above)).is_err());
    let mut next = next.lock().expect("no panic holds it");
    let spread = (range.end - range.start) / 24;
    let start = next.unwrap_or(range.start + (std::process::id() as u16 % spread) * 20);
    let mut bases = (start..range.end).step_by(usize::from(count));
    let base = bases.find(|&base| !(base..base + count).any(is_taken)).expect("free ports");
    *next = Some(base + count);
    base
}
