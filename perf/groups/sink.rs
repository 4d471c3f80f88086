//! What a heartbeat costs at least: one thread that waits for all connections and answers each heartbeat at once.
//!
//! A request costs the waiting, a read and a write, and nothing else. What the broker has beyond that is its own.
//!
//! *Owns*: its connections. *Never*: looks at more of a request than its length and its number. *Runs on*: one thread.

use std::io::{ErrorKind, Read, Write};

use corelog::wire::messages::heartbeat;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::client::HEARTBEAT;
use crate::report::Report;

const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
/// Of one read; no connection sends more at a time.
const READ_BYTES: usize = 64 << 10;
/// Where a request's number lies: behind length, API and version.
const NUMBER_AT: usize = 8;

/// Serves until it is killed.
pub fn serve(address: &str) -> Report {
    let mut poll = Poll::new().expect("a poll");
    let mut listener = TcpListener::bind(address.parse().expect("an address")).expect("the address is free");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("the listener is polled");
    println!("listening on {}", listener.local_addr().expect("bound"));
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let (mut events, mut buffer) = (Events::with_capacity(EVENTS), vec![0; READ_BYTES]);
    loop {
        poll.poll(&mut events, None).expect("polled");
        for event in &events {
            if event.token() != LISTENER {
                let place = &mut connections[event.token().0];
                if place.as_mut().is_some_and(|stream| !answer(stream, &mut buffer)) {
                    *place = None;
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true).expect("a socket of TCP");
                let token = Token(connections.len());
                poll.registry().register(&mut stream, token, Interest::READABLE).expect("the connection is polled");
                connections.push(Some(stream));
            }
        }
    }
}

/// Whether the connection goes on.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    let read = match stream.read(buffer) {
        Ok(0) => return false,
        Ok(read) => read,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let mut replies = Vec::new();
    let mut rest = &buffer[..read];
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (request, behind) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        let asked = [request[4], request[5], request[6], request[7]];
        let (key, version) = (heartbeat::API.key.to_be_bytes(), HEARTBEAT.to_be_bytes());
        assert!(asked == [key[0], key[1], version[0], version[1]], "only heartbeats are answered");
        // Number, throttle time, error.
        replies.extend_from_slice(&10u32.to_be_bytes());
        replies.extend_from_slice(&request[NUMBER_AT..NUMBER_AT + 4]);
        replies.extend_from_slice(&[0; 6]);
        rest = behind;
    }
    stream.write_all(&replies).is_ok()
}
