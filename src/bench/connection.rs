//! One connection to a broker: frames out, frames in, never blocking.
//!
//! *Owns*: the socket, and what is half written or half read. *Never*: knows what a frame means.
//! *Runs on*: the generator thread it belongs to.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Longer than any reply that was asked for.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Slices of one write.
const SLICES_MAX: usize = 64;

/// Output at which no more is taken on.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// What one visit reads at most, so that no connection holds up the others.
const VISIT_BYTES_MAX: usize = 4 << 20;

pub struct Connection {
    stream: TcpStream,
    state: State,
    started_ns: u64,
    output: VecDeque<Bytes>,
    output_bytes: usize,
    input: BytesMut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Connecting,
    Open,
}

/// How a visit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// The socket has no more.
    Drained,
    /// Come again without waiting for an event.
    More,
}

impl Connection {
    /// Begins to connect. It is registered for everything, edge by edge.
    pub fn open(address: SocketAddr, registry: &Registry, token: Token, now_ns: u64) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection {
            stream,
            state: State::Connecting,
            started_ns: now_ns,
            output: VecDeque::new(),
            output_bytes: 0,
            input: BytesMut::new(),
        })
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// Looks whether connecting is done. `true` once, when it has just succeeded.
    pub fn check_connected(&mut self) -> Result<bool, String> {
        if self.state == State::Open {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error().map_err(|error| error.to_string())? {
            return Err(format!("cannot be connected to: {error}"));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.state = State::Open;
                // A small request must not wait for the acknowledgement of the one before.
                self.stream.set_nodelay(true).map_err(|error| error.to_string())?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(format!("cannot be connected to: {error}")),
        }
    }

    /// Whether another frame may be sent now.
    pub fn has_room(&self) -> bool {
        self.state == State::Open && self.output_bytes < OUTPUT_BYTES_MAX
    }

    pub fn has_output(&self) -> bool {
        self.output_bytes > 0
    }

    /// Queues a frame; [`Connection::write`] sends it.
    pub fn send(&mut self, slices: Vec<Bytes>) {
        self.output_bytes += slices.iter().map(Bytes::len).sum::<usize>();
        self.output.extend(slices);
    }

    /// Writes what the socket takes.
    pub fn write(&mut self) -> Result<(), String> {
        while self.output_bytes > 0 && self.state == State::Open {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slot, slice) in slices.iter_mut().zip(&self.output) {
                *slot = IoSlice::new(slice);
                count += 1;
            }
            match self.stream.write_vectored(&slices[..count]) {
                Ok(written) => self.written(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot be written to: {error}")),
            }
        }
        Ok(())
    }

    /// Reads what there is, by way of `scratch`.
    pub fn read(&mut self, scratch: &mut [u8]) -> Result<Visit, String> {
        let mut left = VISIT_BYTES_MAX;
        while left > 0 {
            match self.stream.read(scratch) {
                Ok(0) => return Err("closed the connection".into()),
                Ok(read) => {
                    self.input.extend_from_slice(&scratch[..read]);
                    left = left.saturating_sub(read);
                    // What comes after a short read gives another event.
                    if read < scratch.len() {
                        return Ok(Visit::Drained);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Visit::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot be read from: {error}")),
            }
        }
        Ok(Visit::More)
    }

    /// The next whole frame, without its length.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, String> {
        let Some(length) = self.input.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        let bytes = usize::try_from(length).ok().filter(|bytes| (4..=FRAME_BYTES_MAX).contains(bytes));
        let Some(bytes) = bytes else {
            return Err(format!("sent a frame of {length} bytes: it does not speak Kafka's protocol"));
        };
        if self.input.len() < 4 + bytes {
            self.input.reserve(4 + bytes - self.input.len());
            return Ok(None);
        }
        self.input.advance(4);
        Ok(Some(self.input.split_to(bytes).freeze()))
    }

    /// Takes the socket out of the poll.
    pub fn close(mut self, registry: &Registry) {
        // It is closed either way.
        let _ = registry.deregister(&mut self.stream);
    }

    fn written(&mut self, mut bytes: usize) {
        self.output_bytes -= bytes;
        while bytes > 0
            && let Some(first) = self.output.front_mut()
        {
            if first.len() <= bytes {
                bytes -= first.len();
                self.output.pop_front();
            } else {
                first.advance(bytes);
                bytes = 0;
            }
        }
        // Empty slices at the end.
        if self.output_bytes == 0 {
            self.output.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn frames_go_both_ways_and_nonsense_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let poll = mio::Poll::new().expect("a poll");
        let address = listener.local_addr().expect("an address");
        let mut connection = Connection::open(address, poll.registry(), Token(0), 3).expect("it begins");
        let (mut peer, _) = listener.accept().expect("a connection");
        while !connection.check_connected().expect("it connects") {}
        let frame: Vec<u8> = [&8_000_000i32.to_be_bytes()[..], &vec![7; 8_000_000]].concat();
        let expect = frame.clone();
        let echo = std::thread::spawn(move || {
            let mut got = vec![0; 8_000_004];
            peer.read_exact(&mut got).expect("all of it");
            peer.write_all(&got).expect("taken");
            peer.write_all(&[0, 0, 0, 4, 1, 2, 3, 4, b'H', b'T', b'T', b'P']).expect("taken");
            got
        });
        connection.send(frame.chunks(1000).map(Bytes::copy_from_slice).collect());
        let mut scratch = vec![0; 65536];
        let mut frames = Vec::new();
        let error = loop {
            connection.write().expect("a peer that reads");
            let read = connection.read(&mut scratch);
            match connection.next_frame() {
                // What came before the end counts.
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => drop(read.expect("more comes")),
                Err(error) => break error,
            }
        };
        assert_eq!(echo.join().expect("no panic"), expect);
        assert!(!connection.has_output());
        assert_eq!((frames[0].len(), &frames[1][..], frames.len()), (8_000_000, &[1, 2, 3, 4][..], 2));
        assert!(error.contains("sent a frame of 1213486160 bytes"), "{error}");
    }
}
