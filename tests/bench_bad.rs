//! `corelog bench` by the real binary when things go wrong: before a run, in the middle of it, and at its end.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory};
use corelog::base::rng::Rng;
use corelog::bench::capsule::Capsule;
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use raw::Client;

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    printed: String,
    told: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("bench").args(arguments).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn bench(arguments: &[&str]) -> Said {
    said(command(arguments).spawn().expect("the binary starts"))
}

fn said(process: Child) -> Said {
    let output = process.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), printed: text(&output.stdout), told: text(&output.stderr) }
}

#[test]
fn workloads_that_cannot_be_are_refused_with_their_place() {
    let dir = directory();
    let path = dir.path().join("w.toml");
    let check = |text: &[u8], expect: &str| {
        fs::write(&path, text).expect("written");
        let said = bench(&["--workload", path.to_str().expect("UTF-8")]);
        assert_eq!((said.code, &said.printed[..]), (Some(2), ""), "{said:?}");
        let expect = format!("error: {}: {expect}", path.display());
        assert!(said.told.starts_with(&expect), "{expect:?}: {said:?}");
    };
    check(b"rate = 10\n\n# more\nrat = 5\n", "line 4: rat is no key of a workload; there are: ");
    check(b"rate = 1\nrate = 2\n", "line 2: ");
    check(b"rate = 10\nduration = [\n", "line ");
    check(b"rate = nan", "line 1: rate: `NaN` is no number from 0 to ");
    check(b"rate = inf", "line 1: rate: `inf` is no number from 0 to ");
    check(b"rate = -0.5", "line 1: rate: `-0.5` is no number from 0 to ");
    check(b"topic = \"t\"\nrate = 1e300", "line 2: rate: `1000000");
    check(b"producers = 9223372036854775807", "line 1: producers: `9223372036854775807` is no number from 0 to ");
    check(b"producers = 9223372036854775808", "line 1: ");
    check(b"rate = { a = 1 }", "line 1: rate: ");
    check(b"rate = \"\xff\"", "cannot be read: ");
    check(&[0; 5], "line 1: ");
    let error = |path: &Path, expect: &str| {
        let said = bench(&["--workload", path.to_str().expect("UTF-8")]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.told.starts_with(&format!("error: {}: cannot be read: {expect}", path.display())), "{said:?}");
    };
    error(&dir.path().join("nowhere.toml"), "No such file");
    error(dir.path(), "Is a directory");
}

#[test]
fn rates_that_cannot_be_are_refused() {
    let check = |arguments: &[&str], expect: &str| {
        let said = bench(arguments);
        assert_eq!((said.code, &said.printed[..]), (Some(2), ""), "{said:?}");
        assert!(said.told.contains(expect), "{expect:?}: {said:?}");
    };
    for rate in ["nan", "inf", "-1", "1e10", "fast", "", "1e999"] {
        check(&["--rate", rate], &format!("--rate: `{rate}` is no number from 0 to 1000000000"));
    }
    check(&["--rate", "1e9", "--record-size", "2000"], "no machine sends that");
    check(&["--rate", "0.01", "--duration", "10s"], "not one record is due within the duration");
    check(&["--producers", "10000", "--partitions", "100000"], "producers × topics × partitions is more than");
}

/// What somebody who is no broker does with a connection.
type Stranger = fn(TcpStream) -> io::Result<()>;

/// Where a stranger listens, for as long as the test runs.
fn stranger(act: Stranger) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            thread::spawn(move || drop(act(stream)));
        }
    });
    address
}

/// Between two bytes of somebody slow.
const TRICKLE: Duration = Duration::from_millis(500);

/// Answers each request with a frame made of its correlation id plus `shift`, and `body`.
fn answer(mut stream: TcpStream, shift: i32, body: &[u8]) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let id = i32::from_be_bytes(frame[4..8].try_into().expect("4 bytes")).wrapping_add(shift);
        let length = (4 + body.len() as u32).to_be_bytes();
        stream.write_all(&[&length, &id.to_be_bytes(), body].concat())?;
    }
}

#[test]
fn strangers_are_told_from_brokers_and_named() {
    let strangers: &[(&str, Stranger)] = &[
        ("closes at once", drop_it),
        ("speaks HTTP", |mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("announces 2 GiB", |mut stream| stream.write_all(&i32::MAX.to_be_bytes())),
        ("announces less than nothing", |mut stream| stream.write_all(&(-5i32).to_be_bytes())),
        ("says half a frame", |mut stream| stream.write_all(&[0, 0, 0, 9, 0, 0])),
        ("answers with nothing", |stream| answer(stream, 0, b"")),
        ("answers something else", |stream| answer(stream, 1, &[0; 10])),
        ("has 2^31 - 1 APIs", |stream| answer(stream, 0, &[0, 0, 0x7f, 0xff, 0xff, 0xff])),
        ("speaks nothing we do", |stream| answer(stream, 0, &[0; 12])),
        ("refuses", |stream| answer(stream, 0, &[0, 35, 0, 0, 0, 0])),
        ("sends noise", noise),
        ("trickles", trickle),
    ];
    for (name, act) in strangers {
        let address = stranger(*act).to_string();
        let began = Instant::now();
        let said = bench(&["--bootstrap", &address]);
        assert!(began.elapsed() < PATIENCE, "{name}: it is waited for");
        assert_eq!((said.code, &said.printed[..]), (Some(1), ""), "{name}: {said:?}");
        assert!(said.told.starts_with("error: ") && said.told.contains(&address), "{name}: {said:?}");
        assert_eq!(said.told.lines().count(), 1, "{name}: {said:?}");
    }
}

fn drop_it(stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Both)
}

fn noise(mut stream: TcpStream) -> io::Result<()> {
    let mut rng = Rng::new(7);
    loop {
        stream.write_all(&rng.next_u64().to_be_bytes())?;
    }
}

#[test]
fn a_broker_that_is_down_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let check = |bootstrap: &str, expect: &str| {
        let said = bench(&["--bootstrap", bootstrap]);
        assert_eq!((said.code, &said.printed[..]), (Some(1), ""), "{said:?}");
        assert!(said.told.contains(bootstrap) && said.told.contains(expect), "{said:?}");
    };
    check(&closed, "cannot be connected to");
    check("no-such-host.invalid:9092", "");
}

/// A byte now and then, of a frame that is never whole.
fn trickle(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&1_000_000i32.to_be_bytes())?;
    loop {
        stream.write_all(&[0])?;
        thread::sleep(TRICKLE);
    }
}

/// What a proxy does with the bytes that go through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Pass,
    /// Replies become noise.
    Noise,
    /// Replies go nowhere.
    Silence,
    /// Every connection is closed in the middle of a reply, and each new one too.
    Cut,
    /// One bit of some pieces is turned round, in both directions.
    Flip,
}

const DEEDS: [Deed; 5] = [Deed::Pass, Deed::Noise, Deed::Silence, Deed::Cut, Deed::Flip];

/// Stands between the generator and a broker that believes to have the proxy's address.
struct Proxy {
    address: SocketAddr,
    deed: Arc<AtomicU8>,
    connections: Arc<AtomicU64>,
}

/// Where proxies listen: the broker has the same port on another address of this machine.
const PROXY_HOST: &str = "127.0.0.2";

impl Proxy {
    fn start(broker: &Broker) -> Proxy {
        let target = broker.address;
        let listener = TcpListener::bind((PROXY_HOST, target.port())).expect("the broker's port on another address");
        let address = listener.local_addr().expect("an address");
        let (deed, connections) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let (shared, count) = (deed.clone(), connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (client, server) = (stream.expect("a connection"), TcpStream::connect(target));
                let Ok(server) = server else { continue };
                let seed = count.fetch_add(1, Ordering::Relaxed);
                for (from, to, replies) in [(&client, &server, false), (&server, &client, true)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let deed = shared.clone();
                    thread::spawn(move || drop(carry(from, to, replies, &deed, seed)));
                }
            }
        });
        Proxy { address, deed, connections }
    }

    fn set(&self, deed: Deed) {
        let place = DEEDS.iter().position(|other| *other == deed).expect("one of them");
        self.deed.store(place as u8, Ordering::Relaxed);
    }
}

/// Carries one direction of a connection until it ends.
fn carry(mut from: TcpStream, mut to: TcpStream, replies: bool, deed: &AtomicU8, seed: u64) -> io::Result<()> {
    let mut rng = Rng::new(seed);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Both);
        }
        let piece = &mut buffer[..read];
        match DEEDS[usize::from(deed.load(Ordering::Relaxed))] {
            Deed::Noise if replies => piece.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8),
            Deed::Silence if replies => continue,
            Deed::Cut if replies => {
                to.write_all(&piece[..read.min(7)])?;
                return to.shutdown(Shutdown::Both);
            }
            Deed::Flip if rng.below(4) == 0 => piece[rng.below(read as u64) as usize] ^= 1 << rng.below(8),
            _ => {}
        }
        to.write_all(piece)?;
    }
}

/// The usual load, which is light: the machine has other things to do.
const LOAD: [&str; 22] = [
    "--rate",
    "1000",
    "--partitions",
    "4",
    "--producers",
    "2",
    "--consumers",
    "2",
    "--warmup",
    "0s",
    "--interval",
    "200ms",
    "--duration",
    "60s",
    "--request-timeout",
    "1s",
    "--delivery-timeout",
    "3s",
    "--late-max",
    "30s",
    "--threads",
    "1",
];

/// Records in the first partition from which on a run has some intervals behind it: 300 are due a second.
const BEGUN: i64 = 450;

/// Runs the usual load, does something in the middle of it, and returns what was said at the end, with the capsule.
fn disturbed(broker: &Broker, bootstrap: SocketAddr, out: &Path, act: impl FnOnce(&Child)) -> (Said, Capsule) {
    let bootstrap = bootstrap.to_string();
    let arguments = [&["--bootstrap", &bootstrap, "--out", out.to_str().expect("UTF-8")], &LOAD[..]].concat();
    let process = command(&arguments).spawn().expect("the binary starts");
    wait_for_records(broker, BEGUN);
    act(&process);
    let said = said(process);
    let capsule = Capsule::read(out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said, capsule)
}

/// Returns when so many records are in the first partition of the load's topic.
fn wait_for_records(broker: &Broker, count: i64) {
    let until = Instant::now() + PATIENCE;
    let partitions = vec![ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "corelog-bench".into(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let mut client = Client::connect(broker);
    while Instant::now() < until {
        let reply: ListOffsetsResponse = client.call(5, &request);
        if reply.topics[0].partitions[0].offset >= count {
            return;
        }
        thread::yield_now();
    }
    panic!("the load does not begin");
}

/// It says so in its first line, names the address, and keeps what was measured.
fn assert_cut_short(said: &Said, capsule: &Capsule, why: &str) {
    assert_eq!(said.code, Some(1), "{said:?}");
    let first = said.printed.lines().next().unwrap_or_default();
    assert!(first.starts_with("CUT SHORT: ") && first.contains(why), "{why:?}: {said:?}");
    assert!(said.printed.contains("the run ended after "), "{said:?}");
    assert!(said.printed.contains("\nproduce  "), "no figures: {said:?}");
    let result = &capsule.result;
    assert!(result.intervals.len() >= 2 && result.totals.acked >= BEGUN as u64, "{:?}", result.totals);
    let measured: u64 = result.intervals.iter().map(|interval| interval.counts.acked).sum();
    assert!(measured > 0 && measured <= result.totals.acked, "{measured} of {:?}", result.totals);
    assert!(said.printed.contains("kept in "), "{said:?}");
}

#[test]
fn a_broker_that_is_killed_leaves_what_was_measured() {
    let dir = directory();
    let broker = Broker::start(&dir.path().join("data"), &["--cores", "1"]);
    let pid = broker.id().to_string();
    let address = broker.address;
    let kill = |_: &Child| assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
    let (said, capsule) = disturbed(&broker, address, &dir.path().join("run"), kill);
    assert_cut_short(&said, &capsule, &address.to_string());
    assert!(said.printed.contains(&format!("note: {address} cannot be connected to")), "{said:?}");
}

#[test]
fn a_broker_that_goes_silent_is_told_from_a_slow_one() {
    let dir = directory();
    let broker = Broker::start(&dir.path().join("data"), &["--cores", "1"]);
    let stop = |_: &Child| broker.signal("-STOP");
    let (said, capsule) = disturbed(&broker, broker.address, &dir.path().join("run"), stop);
    assert_cut_short(&said, &capsule, &broker.address.to_string());
    assert!(said.printed.contains("does not answer: no reply within --request-timeout"), "{said:?}");
}

#[test]
fn an_interrupted_run_is_kept() {
    let dir = directory();
    let broker = Broker::start(&dir.path().join("data"), &["--cores", "1"]);
    let interrupt = |bench: &Child| {
        assert!(Command::new("kill").args(["-INT", &bench.id().to_string()]).status().expect("kill").success());
    };
    let (said, capsule) = disturbed(&broker, broker.address, &dir.path().join("run"), interrupt);
    assert_cut_short(&said, &capsule, "it was interrupted");
}

#[test]
fn a_broker_that_turns_to_nonsense_is_named() {
    let check = |deed: Deed| {
        let dir = directory();
        let broker = Broker::start(&dir.path().join("data"), &["--cores", "1", "--advertised-host", PROXY_HOST]);
        let proxy = Proxy::start(&broker);
        let (said, capsule) = disturbed(&broker, proxy.address, &dir.path().join("run"), |_| proxy.set(deed));
        assert_cut_short(&said, &capsule, &proxy.address.to_string());
    };
    // Each waits most of its time.
    thread::scope(|scope| {
        for deed in [Deed::Noise, Deed::Silence, Deed::Cut] {
            scope.spawn(move || check(deed));
        }
    });
}

#[test]
fn damaged_bytes_never_end_the_generator() {
    let dir = directory();
    let broker = Broker::start_quiet(&dir.path().join("data"), &["--cores", "1", "--advertised-host", PROXY_HOST]);
    let proxy = Proxy::start(&broker);
    let out = dir.path().join("run");
    let (said, _) = disturbed(&broker, proxy.address, &out, |bench| {
        proxy.set(Deed::Flip);
        // A damaged reply ends its connection.
        let until = Instant::now() + PATIENCE;
        let enough = proxy.connections.load(Ordering::Relaxed) + 60;
        while proxy.connections.load(Ordering::Relaxed) < enough && Instant::now() < until {
            thread::yield_now();
        }
        proxy.set(Deed::Pass);
        assert!(Command::new("kill").args(["-INT", &bench.id().to_string()]).status().expect("kill").success());
    });
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(!said.told.contains("panicked") && said.printed.contains("\nproduce  "), "{said:?}");
}

#[test]
fn a_full_disk_costs_nothing_but_what_did_not_fit() {
    let dir = directory();
    let broker = Broker::start(&dir.path().join("data"), &["--cores", "1"]);
    let bootstrap = broker.address.to_string();
    let check = |blocks: &str, expect: &str| {
        let out = dir.path().join(format!("run-{blocks}"));
        // A limit of a file's size, in blocks of 512 bytes: writing beyond it fails as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_corelog"), "bench", "--bootstrap", &bootstrap]);
        limited.args(["--rate", "2000", "--duration", "1s", "--interval", "100ms", "--warmup", "0s"]);
        limited.args(["--late-max", "30s", "--out", out.to_str().expect("UTF-8")]);
        limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = said(limited.spawn().expect("sh starts"));
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.printed.contains("2,000 sent, 2,000 acked") && said.printed.contains("\nproduce  "), "{said:?}");
        assert!(said.told.contains(expect) && said.told.contains(out.to_str().expect("UTF-8")), "{said:?}");
    };
    check("1", "File too large");
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_run() {
    let dir = directory();
    let broker = Broker::start(&dir.path().join("data"), &["--cores", "1"]);
    let bootstrap = broker.address.to_string();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    for out in [file.join("run"), Path::new("/proc/run").to_path_buf()] {
        let out = out.to_str().expect("UTF-8");
        // A minute of load would be lost.
        let said = bench(&[&["--bootstrap", &bootstrap, "--out", out], &LOAD[..]].concat());
        assert_eq!((said.code, &said.printed[..]), (Some(1), ""), "{said:?}");
        assert!(said.told.contains(out), "{said:?}");
    }
}
