//! A blocking connection, and the requests of a classic member.
//!
//! *Owns*: one socket. *Never*: waits for a reply that was not asked for. *Runs on*: the thread that has it.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use corelog::wire::codec::Message;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::heartbeat::HeartbeatRequest;
use corelog::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelog::wire::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

pub const JOIN: i16 = 3;
pub const SYNC: i16 = 2;
pub const HEARTBEAT: i16 = 2;
pub const REBALANCE_IN_PROGRESS: i16 = 27;

/// One request after the other, or many at a time.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(bootstrap: &str) -> Client {
        let stream = TcpStream::connect(bootstrap).expect("a broker listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Client { stream }
    }

    /// Another handle to the same connection.
    pub fn handle(&self) -> Client {
        Client { stream: self.stream.try_clone().expect("a handle") }
    }

    pub fn send<Q: Message>(&mut self, version: i16, request: &Q) {
        let header =
            RequestHeader { api_key: Q::API.key, version, correlation_id: 1, client_id: Some("groups".into()) };
        self.stream.write_all(&frame::encode_request(&header, request).concat()).expect("the connection is open");
    }

    pub fn receive<R: Message>(&mut self, version: i16) -> R {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("a reply");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).expect("a reply");
        frame::decode_reply(R::API.key, version, Bytes::from(body)).expect("a reply of that version").1
    }

    pub fn call<Q: Message, R: Message>(&mut self, version: i16, request: &Q) -> R {
        self.send(version, request);
        self.receive(version)
    }
}

pub fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(&[0; 30]) };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// The leader gives everybody something.
pub fn sync_request(group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: Bytes::from_static(&[0; 40]),
    });
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    }
}

pub fn heartbeat_request(group: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    }
}
