//! The real binary as a process: start, refusals with their reasons, hostile connections, stop.
#![cfg(feature = "shell")]

mod binary;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use binary::{Broker, command, directory};

/// An ApiVersions v0 request with its length.
fn api_versions(correlation_id: i32) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 14, 0, 18, 0, 0];
    frame.extend(correlation_id.to_be_bytes());
    frame.extend(b"\0\x04test");
    frame
}

/// Reads one reply and returns its correlation id.
fn reply(stream: &mut TcpStream) -> i32 {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a reply in time");
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).expect("the whole reply");
    i32::from_be_bytes(body[..4].try_into().expect("4 bytes"))
}

/// The broker ends the connection, in whichever way, without a reply.
fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    let mut stream = broker.connect();
    let pipelined: Vec<u8> = (0..500).flat_map(api_versions).collect();
    stream.write_all(&pipelined).expect("write");
    for i in 0..500 {
        assert_eq!(reply(&mut stream), i);
    }
    for byte in api_versions(7) {
        stream.write_all(&[byte]).expect("write");
    }
    assert_eq!(reply(&mut stream), 7);
}

#[test]
fn hostile_connections_are_closed_and_others_are_served_on() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    let mut served = broker.connect();
    for (i, bytes) in [
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\x80\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"\0\0\0\x01\0",
        b"\0\0\0\x08\x7f\x7f\x7f\x7f\0\0\0\0",
    ]
    .iter()
    .enumerate()
    {
        let mut hostile = broker.connect();
        hostile.write_all(bytes).expect("write");
        assert_closed(&mut hostile);
        served.write_all(&api_versions(i as i32)).expect("write");
        assert_eq!(reply(&mut served), i as i32);
    }
    // The largest request announced and never sent holds nobody else up.
    let mut silent = broker.connect();
    silent.write_all(&(100u32 << 20).to_be_bytes()).expect("write");
    served.write_all(&api_versions(99)).expect("write");
    assert_eq!(reply(&mut served), 99);
}

#[test]
fn idle_and_surplus_connections_are_closed() {
    let dir = directory();
    let arguments = ["--cores", "1", "--max-connections", "2", "--connections-max-idle-ms", "3000"];
    let broker = Broker::start(dir.path(), &arguments);
    let (mut first, mut second) = (broker.connect(), broker.connect());
    for stream in [&mut first, &mut second] {
        stream.write_all(&api_versions(1)).expect("write");
        assert_eq!(reply(stream), 1);
    }
    assert_closed(&mut broker.connect());
    assert_closed(&mut first);
    assert_closed(&mut second);
    let mut third = broker.connect();
    third.write_all(&api_versions(2)).expect("write");
    assert_eq!(reply(&mut third), 2);
}

#[test]
fn a_signal_stops_the_broker_in_order_whatever_is_connected() {
    for signal in ["-TERM", "-INT"] {
        let dir = directory();
        let mut broker = Broker::start(dir.path(), &["--cores", "2"]);
        let _idle = broker.connect();
        let mut half = broker.connect();
        half.write_all(&api_versions(1)[..9]).expect("write");
        let mut busy = broker.connect();
        busy.write_all(&api_versions(1)).expect("write");
        assert_eq!(reply(&mut busy), 1);
        broker.signal(signal);
        assert_eq!(broker.exit_code(), Some(0));
        broker.wait_for("stopped");
        // The lock and the port are free again at once.
        let listen = broker.address.to_string();
        let mut again = command(dir.path(), &listen, &["--cores", "2"]).spawn().expect("start the binary");
        let mut lines = BufReader::new(again.stderr.take().expect("a pipe")).lines();
        let ready = lines.any(|line| line.expect("text").contains("ready"));
        again.kill().expect("kill");
        again.wait().expect("wait");
        assert!(ready);
    }
}

#[test]
fn what_makes_a_start_impossible_is_said_with_a_remedy() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    let other = directory();
    let taken = broker.address.to_string();
    let port = broker.address.port();
    let refuse = |dir: &Path, listen: &str, arguments: &[&str], expect: &str| {
        let output: Output = command(dir, listen, arguments).output().expect("start the binary");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expect), "{said}");
    };
    refuse(dir.path(), "127.0.0.1:0", &[], "in use by another broker");
    refuse(other.path(), &taken, &[], &format!("ss -ltnp 'sport = :{port}'"));
    let anywhere = "127.0.0.1:0";
    refuse(other.path(), anywhere, &["--http", &taken], "choose another port with --http-listen");
    refuse(other.path(), anywhere, &["--http", "192.0.2.1:0"], "choose another with --http-listen");
    refuse(other.path(), "192.0.2.1:9092", &[], "no such address");
    refuse(other.path(), "127.0.0.1:0", &["--cores", "1000-1000"], "processor");
    refuse(Path::new("/proc/self"), "127.0.0.1:0", &[], "--data-dir");
}
