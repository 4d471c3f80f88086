//! The listener for brokers, of the live binary: who is let in, and that nobody else gets anything out of it.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use binary::{Broker, PATIENCE, directory, free_cluster_ports, refuse};
use bytes::Bytes;
use corelog::base::ids::Incarnation;
use corelog::base::rng::Rng;
use corelog::broker::api::{APIS, PEER_APIS};
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::peer_hello::{PeerHelloRequest, PeerHelloResponse};
use raw::Client;

/// A broker with two cores that listens for others, and the port of the first core.
fn start(dir: &Path, arguments: &[&str]) -> (Broker, u16) {
    let port = free_cluster_ports(2);
    let listen = format!("--peer-listen=127.0.0.1:{port}");
    let broker = Broker::start(dir, &[&["--cores=2", &listen], arguments].concat());
    (broker, port)
}

fn connect(port: u16) -> Client {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Client::over(stream)
}

fn hello() -> PeerHelloRequest {
    PeerHelloRequest {
        node_id: 7,
        incarnation: Incarnation([7; 16]),
        protocol_min: 1,
        protocol_max: 9,
        nonce: Bytes::from_static(&[7; 16]),
        ..PeerHelloRequest::default()
    }
}

fn greet(client: &mut Client, hello: &PeerHelloRequest) -> PeerHelloResponse {
    client.call(0, hello)
}

#[test]
fn a_broker_alone_has_no_listener_for_others_and_needs_no_port_for_it() {
    let dir = directory();
    let port = free_cluster_ports(1);
    let taken = TcpListener::bind(("127.0.0.1", port + 10_000)).expect("a free port");
    let broker = Broker::start_on(dir.path(), &format!("127.0.0.1:{port}"), &["--cores=1"]);
    Client::connect(&broker).probe();
    broker.stop();
    let listen = format!("--peer-listen={}", taken.local_addr().expect("bound"));
    refuse(dir.path(), &["--cores=1", &listen], &["Another process listens there", "--peer-listen"]);
}

#[test]
fn nothing_is_served_before_the_greeting_and_nothing_of_it_to_clients() {
    let dir = directory();
    let (broker, port) = start(dir.path(), &[]);
    let keys =
        || APIS.iter().chain(PEER_APIS).filter(|api| api.name != "PeerHello").map(|api| (api.key, api.served_from));
    for (api_key, version) in keys() {
        let mut client = connect(port);
        let header = client.header(api_key, version);
        let body = [&header.api_key.to_be_bytes()[..], &header.version.to_be_bytes(), &[0; 20]].concat();
        client.stream.write_all(&[&(body.len() as u32).to_be_bytes()[..], &body].concat()).expect("write");
        assert_eq!(client.receive_frame(), None, "{api_key}");
    }
    let mut client = Client::connect(&broker);
    client.send(0, &hello());
    assert_eq!(client.receive_frame(), None);
    let mut client = Client::connect(&broker);
    let versions: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default());
    assert!(versions.api_keys.iter().all(|row| PEER_APIS.iter().all(|api| api.key < 1000 || api.key != row.api_key)));
    // No memory for a frame of somebody unknown.
    let mut client = connect(port);
    client.stream.write_all(&(1u32 << 20).to_be_bytes()).expect("write");
    assert_eq!(client.receive_frame(), None);
    broker.stop();
}

#[test]
fn brokers_of_this_cluster_alone_are_let_in_on_every_core() {
    let dir = directory();
    let (broker, port) = start(dir.path(), &["--cluster-id=ours", "--node-id=1"]);
    for core in 0..2 {
        let mut client = connect(port + core);
        let answer = greet(&mut client, &PeerHelloRequest { cluster_id: "ours".into(), ..hello() });
        assert_eq!((answer.error_code, answer.admitted, answer.node_id, answer.cores), (0, true, 1, 2));
        assert_eq!(answer.cluster_id.as_str(), "ours");
        let refused = [
            (PeerHelloRequest { cluster_id: "theirs".into(), ..hello() }, ErrorCode::InconsistentClusterId),
            (PeerHelloRequest { node_id: 1, ..hello() }, ErrorCode::DuplicateBrokerRegistration),
            (PeerHelloRequest { node_id: -1, ..hello() }, ErrorCode::InvalidRequest),
            (PeerHelloRequest { nonce: Bytes::new(), ..hello() }, ErrorCode::InvalidRequest),
            (PeerHelloRequest { protocol_max: 0, ..hello() }, ErrorCode::UnsupportedVersion),
        ];
        for (hello, expect) in refused {
            let answer = greet(&mut client, &hello);
            assert_eq!((answer.error_code, answer.admitted), (expect.code(), false), "{hello:?}");
            assert!(answer.error_message.is_some());
        }
        // The last one was refused: what follows it is not served.
        client.send(0, &ApiVersionsRequest::default());
        assert_eq!(client.receive_frame(), None);
    }
    broker.stop();
}

#[test]
fn with_a_shared_key_a_proof_is_wanted() {
    let dir = directory();
    let key = dir.path().join("key");
    let flag = format!("--peer-shared-key-file={}", key.display());
    refuse(dir.path(), &[&flag], &["cannot be read", "--peer-shared-key-file"]);
    std::fs::write(&key, "short").expect("write");
    refuse(dir.path(), &[&flag], &["holds 5 bytes, not 16 to 1024"]);
    std::fs::write(&key, "sixteen bytes at least\n").expect("write");
    let (broker, port) = start(dir.path(), &[&flag]);
    let mut client = connect(port);
    let answer = greet(&mut client, &hello());
    assert_eq!((answer.error_code, answer.admitted, answer.proof.len()), (0, false, 32));
    let answer = greet(&mut client, &PeerHelloRequest { proof: answer.proof, ..hello() });
    assert_eq!(answer.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    client.send(0, &ApiVersionsRequest::default());
    assert_eq!(client.receive_frame(), None);
    broker.stop();
}

#[test]
fn hostile_bytes_end_their_connection_or_get_lost_and_nobody_else_notices() {
    let dir = directory();
    let (broker, port) = start(dir.path(), &[]);
    let mut rng = Rng::new(3);
    let mut bytes = |count| (0..count).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>();
    let header = RequestHeader { api_key: 1000, version: 0, correlation_id: 1, client_id: None };
    let whole = frame::encode_request(&header, &hello()).concat();
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for round in 0..200 {
        let mut client = connect(port);
        let mut frame = if round % 2 == 0 { whole.clone() } else { bytes(40) };
        let at = 4 + bytes(1)[0] as usize % (frame.len() - 4);
        frame[at] = bytes(1)[0];
        if round % 2 == 1 {
            frame[..4].copy_from_slice(&36u32.to_be_bytes());
        }
        client.stream.write_all(&frame).expect("write");
        client.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        while client.receive_frame().is_some() {}
        datagrams.send_to(&bytes(1 + 9 * round), ("127.0.0.1", port)).expect("send");
    }
    assert!(greet(&mut connect(port), &hello()).admitted);
    Client::connect(&broker).probe();
    broker.stop();
}
