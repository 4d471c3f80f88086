//! Two nodes of a cluster that answer what a script says: roles that move, versions from long ago, one that is down.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelog::client::client::Client;
use corelog::wire::codec::{Api, Message};
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::api_versions;
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use corelog::wire::messages::find_coordinator::FindCoordinatorResponse;
use corelog::wire::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelog::wire::reader::Reader;

/// Each request is noted by its API, version and node.
pub struct Scripted {
    pub addresses: [SocketAddr; 2],
    asked: Arc<Mutex<Vec<(i16, i16, usize)>>>,
}

/// What a node is asked, and how often that API was asked before, by whomever.
pub struct Question {
    pub node: usize,
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub body: Reader,
    pub before: usize,
    pub addresses: [SocketAddr; 2],
}

impl Question {
    pub fn reply<M: Message>(&self, reply: &M) -> Vec<Bytes> {
        encode_reply(self.key, self.version, self.correlation_id, reply)
    }

    pub fn body<M: Message>(&mut self) -> M {
        decode_body(&mut self.body, self.version).expect("a request of ours")
    }

    /// Both nodes; the partition of topic `t` is led by this one, which controls the cluster too.
    pub fn metadata(&self, leader: usize) -> Vec<Bytes> {
        let broker = |node: usize| MetadataResponseBroker {
            node_id: node as i32,
            host: self.addresses[node].ip().to_string().into(),
            port: i32::from(self.addresses[node].port()),
            rack: None,
        };
        let partition = MetadataResponsePartition { leader_id: leader as i32, ..Default::default() };
        let topic = MetadataResponseTopic { name: Some("t".into()), partitions: vec![partition], ..Default::default() };
        self.reply(&MetadataResponse {
            brokers: vec![broker(0), broker(1)],
            controller_id: leader as i32,
            topics: vec![topic],
            ..Default::default()
        })
    }

    pub fn coordinator(&self, node: usize, error: ErrorCode) -> Vec<Bytes> {
        let address = self.addresses[node];
        self.reply(&FindCoordinatorResponse {
            error_code: error.code(),
            node_id: node as i32,
            host: address.ip().to_string().into(),
            port: i32::from(address.port()),
            ..Default::default()
        })
    }
}

impl Scripted {
    /// The versions are what it says it speaks.
    pub fn start(versions: &[(Api, i16, i16)], answer: fn(Question) -> Vec<Bytes>) -> Scripted {
        Scripted::start_first(2, versions, answer)
    }

    /// The same, with only so many of the nodes up.
    pub fn start_first(up: usize, versions: &[(Api, i16, i16)], answer: fn(Question) -> Vec<Bytes>) -> Scripted {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let row = |(api, min_version, max_version): &(Api, i16, i16)| ApiVersion {
            api_key: api.key,
            min_version: *min_version,
            max_version: *max_version,
        };
        let spoken = ApiVersionsResponse { api_keys: versions.iter().map(row).collect(), ..Default::default() };
        for (node, listener) in listeners.into_iter().enumerate().take(up) {
            let (asked, spoken) = (asked.clone(), spoken.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (asked, spoken) = (asked.clone(), spoken.clone());
                    let mut stream = stream.expect("a connection");
                    thread::spawn(move || {
                        while let Some(frame) = read_frame(&mut stream) {
                            let slices = answered(frame, node, addresses, &asked, &spoken, answer);
                            stream.write_all(&slices.concat()).expect("a client that reads");
                        }
                    });
                }
            });
        }
        Scripted { addresses, asked }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.addresses[0].to_string(), "test", Duration::from_secs(20)).expect("it answers")
    }

    /// Version and node of each request of an API.
    pub fn asked(&self, api: Api) -> Vec<(i16, usize)> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|(key, ..)| *key == api.key).map(|(_, version, node)| (*version, *node)).collect()
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame.into())
}

fn answered(
    frame: Bytes,
    node: usize,
    addresses: [SocketAddr; 2],
    asked: &Mutex<Vec<(i16, i16, usize)>>,
    spoken: &ApiVersionsResponse,
    answer: fn(Question) -> Vec<Bytes>,
) -> Vec<Bytes> {
    let mut body = Reader::new(frame);
    let header = decode_header(&mut body).expect("a header of ours");
    let (key, version, correlation_id) = (header.api_key, header.version, header.correlation_id);
    if key == api_versions::API.key {
        return encode_reply(key, version, correlation_id, spoken);
    }
    let mut asked = asked.lock().expect("no panic");
    let before = asked.iter().filter(|(other, ..)| *other == key).count();
    asked.push((key, version, node));
    answer(Question { node, key, version, correlation_id, body, before, addresses })
}
