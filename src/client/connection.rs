//! A blocking connection to one of several brokers: a request goes out, its reply comes in.
//!
//! *Owns*: the socket, the choice of versions, which address is tried next. *Never*: knows what is asked, or asks
//! twice. *Runs on*: a thread that may wait.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::error::{ClientError, Kind, error_name};
use crate::wire::codec::Message;
use crate::wire::frame::{RequestHeader, decode_reply_start, encode_request};
use crate::wire::messages;
use crate::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};

const CONNECT_WAIT: Duration = Duration::from_secs(5);

const REPLY_BYTES_MAX: usize = 64 << 20;

pub struct Connection {
    /// Where to try next, one after the other.
    addresses: Vec<String>,
    next: usize,
    stream: Option<Stream>,
    versions: ApiVersionsResponse,
    correlation_id: i32,
    client_id: &'static str,
    answer_wait: Duration,
    /// What the last connecting took.
    pub connect_time: Duration,
}

struct Stream {
    tcp: TcpStream,
    address: String,
}

impl Connection {
    /// Connects to the first of the addresses, HOST:PORT with commas between them, that answers, and learns what it
    /// speaks. Replies are waited for so long.
    pub fn open(bootstrap: &str, client_id: &'static str, answer_wait: Duration) -> Result<Connection, ClientError> {
        let mut connection = Connection {
            addresses: bootstrap.split(',').map(|address| address.trim().to_owned()).collect(),
            next: 0,
            stream: None,
            versions: ApiVersionsResponse::default(),
            correlation_id: 0,
            client_id,
            answer_wait,
            connect_time: Duration::ZERO,
        };
        connection.connected()?;
        Ok(connection)
    }

    /// The highest version of an API that both sides speak, up to `last`.
    pub fn version(&self, api_key: i16, last: i16) -> Result<i16, ClientError> {
        let not_spoken = |message| ClientError::new(Kind::NotSpoken, message);
        let api = messages::api(api_key).ok_or_else(|| not_spoken(format!("API {api_key} has no table")))?;
        let row = self.versions.api_keys.iter().find(|row| row.api_key == api_key);
        let row = row.ok_or_else(|| not_spoken(format!("{} does not speak {}", self.address(), api.name)))?;
        let (first, theirs) = (row.min_version, row.max_version);
        let version = theirs.min(api.versions.last).min(last);
        if version < first.max(api.versions.first) {
            return Err(not_spoken(format!(
                "{} speaks {} in versions {first} to {theirs}, and this program in {} to {}",
                self.address(),
                api.name,
                api.versions.first,
                api.versions.last.min(last),
            )));
        }
        Ok(version)
    }

    /// What the broker said it speaks.
    pub fn versions(&self) -> &ApiVersionsResponse {
        &self.versions
    }

    /// Asks once. After an error the connection is made anew, to the next address, by the next question.
    pub fn ask<Q: Message, A: Message>(&mut self, request: &Q) -> Result<A, ClientError> {
        self.ask_within(self.answer_wait, request)
    }

    pub fn ask_within<Q: Message, A: Message>(&mut self, wait: Duration, request: &Q) -> Result<A, ClientError> {
        self.ask_as(i16::MAX, wait, request)
    }

    /// The same in a version up to `last`.
    pub fn ask_as<Q: Message, A: Message>(&mut self, last: i16, wait: Duration, request: &Q) -> Result<A, ClientError> {
        self.connected()?;
        let version = self.version(Q::API.key, last)?;
        self.exchange(version, wait, request)
    }

    /// Who is asked.
    pub fn address(&self) -> &str {
        self.stream.as_ref().map_or("the broker", |stream| &stream.address)
    }

    /// A sentence about who is asked.
    pub fn refused(&self, message: &str) -> ClientError {
        ClientError::new(Kind::Refused(None), format!("{} {message}", self.address()))
    }

    /// One more address to ask when those known so far are gone.
    pub fn remember(&mut self, address: &str) {
        if !self.addresses.iter().any(|known| known == address) {
            self.addresses.push(address.to_owned());
        }
    }

    /// The next question goes to that address.
    pub fn move_to(&mut self, address: &str) {
        self.remember(address);
        self.stream = None;
        self.next = self.addresses.iter().position(|known| known == address).unwrap_or(0);
    }

    /// Connects, unless it is. Tries each address once.
    fn connected(&mut self) -> Result<(), ClientError> {
        if self.stream.is_some() {
            return Ok(());
        }
        let mut failures = Vec::new();
        for _ in 0..self.addresses.len() {
            let address = self.addresses[self.next % self.addresses.len()].clone();
            match self.open_at(&address) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(error.message().to_owned()),
            }
            self.stream = None;
            self.next = (self.next + 1) % self.addresses.len();
        }
        Err(ClientError::no_answer(failures.join("; ")))
    }

    fn open_at(&mut self, address: &str) -> Result<(), ClientError> {
        let start = Instant::now();
        let tcp = connect(address, CONNECT_WAIT.min(self.answer_wait))?;
        self.connect_time = start.elapsed();
        let set = tcp.set_nodelay(true).and_then(|()| tcp.set_write_timeout(Some(self.answer_wait)));
        set.map_err(|error| ClientError::no_answer(format!("{address}: {error}")))?;
        self.stream = Some(Stream { tcp, address: address.to_owned() });
        // The version that every broker answers.
        let reply: ApiVersionsResponse = self.exchange(0, self.answer_wait, &ApiVersionsRequest::default())?;
        if reply.error_code != 0 {
            return Err(self.refused(&format!("does not say what it speaks: {}", error_name(reply.error_code))));
        }
        self.versions = reply;
        Ok(())
    }

    fn exchange<Q: Message, A: Message>(
        &mut self,
        version: i16,
        wait: Duration,
        request: &Q,
    ) -> Result<A, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let (api_key, correlation_id) = (Q::API.key, self.correlation_id);
        let header = RequestHeader { api_key, version, correlation_id, client_id: Some(self.client_id.into()) };
        let Some(stream) = &mut self.stream else { return Err(ClientError::no_answer("not connected")) };
        let sent = stream.tcp.write_all(&encode_request(&header, request).concat());
        let frame = sent.and_then(|()| read_frame(&mut stream.tcp, Instant::now() + wait));
        let name = Q::API.name;
        let decoded = match frame {
            Ok(frame) => decode_reply_start::<A>(api_key, version, frame)
                .map_err(|error| format!("sent a {name} reply that is none: {error}")),
            Err(error) => Err(format!("does not answer {name}: {}", plain(&error, wait))),
        };
        match decoded {
            Ok((id, reply, _)) if id == correlation_id => Ok(reply),
            Ok((id, ..)) => Err(self.give_up(&format!("answered request {id} when {correlation_id} was asked"))),
            Err(message) => Err(self.give_up(&message)),
        }
    }

    fn give_up(&mut self, message: &str) -> ClientError {
        let error = ClientError::no_answer(format!("{} {message}", self.address()));
        self.stream = None;
        self.next = (self.next + 1) % self.addresses.len();
        error
    }
}

/// The first address of a HOST:PORT.
pub fn resolve(address: &str) -> Result<SocketAddr, ClientError> {
    Ok(resolve_all(address)?[0])
}

/// At least one.
fn resolve_all(address: &str) -> Result<Vec<SocketAddr>, ClientError> {
    match address.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(all) if all.is_empty() => Err(ClientError::no_answer(format!("{address} is the name of no machine"))),
        Ok(all) => Ok(all),
        Err(error) => Err(ClientError::no_answer(format!("{address} is not found: {error}"))),
    }
}

/// To whichever of a machine's addresses takes the connection: a broker may listen on one of them alone.
fn connect(address: &str, wait: Duration) -> Result<TcpStream, ClientError> {
    let mut failed = None;
    for socket in resolve_all(address)? {
        match TcpStream::connect_timeout(&socket, wait) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failed = Some(error),
        }
    }
    let error = failed.expect("there was one address at least");
    Err(ClientError::no_answer(format!("{address} cannot be connected to: {error}")))
}

fn plain(error: &io::Error, wait: Duration) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("it did not come within {} s", wait.as_secs()),
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        _ => error.to_string(),
    }
}

fn read_frame(stream: &mut TcpStream, until: Instant) -> io::Result<Bytes> {
    let mut reader = Patient { stream, until };
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let bytes = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| (4..=REPLY_BYTES_MAX).contains(bytes));
    let Some(bytes) = bytes else {
        let length = i32::from_be_bytes(length);
        return Err(io::Error::other(format!("it sent a frame of {length} bytes, which is not Kafka's protocol")));
    };
    let mut frame = Vec::new();
    // Memory grows with what comes, not with what is claimed.
    reader.take(bytes as u64).read_to_end(&mut frame)?;
    if frame.len() < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.into())
}

/// Reads until a moment, however slowly the bytes come.
struct Patient<'a> {
    stream: &'a mut TcpStream,
    until: Instant,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}
