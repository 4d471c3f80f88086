//! One connection: bytes in, bytes out, never blocking.
//!
//! *Owns*: the socket and what is half read or half written. *Never*: knows what a frame means.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

/// Requests up to this are gathered and written together; larger ones are written from where they lie.
pub const GATHERED_BYTES_MAX: usize = 16 << 10;

/// What is read at once, at least.
const READ_BYTES: usize = 256 << 10;

/// Larger than any reply that `--fetch-bytes` can ask for.
const FRAME_BYTES_MAX: usize = 1 << 30;

pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// What of `input` is read from the socket and not yet taken as frames.
    unread: Range<usize>,
    staged: Vec<u8>,
    /// Goes out after `staged`, without its first `HEAD_BYTES`.
    large: Option<Rc<[u8]>>,
    /// Bytes of `staged` and then `large` that are gone.
    written: usize,
}

/// Length, API key, version, correlation id: what differs between two sendings of the same request lies in here.
pub const HEAD_BYTES: usize = 12;

impl Connection {
    pub fn open(address: &str) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let set = stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true));
        set.map_err(|error| format!("cannot set up the socket: {error}"))?;
        Ok(Connection { stream, input: Vec::new(), unread: 0..0, staged: Vec::new(), large: None, written: 0 })
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether another request may be staged: nothing may follow a large one.
    pub fn has_room(&self) -> bool {
        self.large.is_none() && self.staged.len() < 1 << 20
    }

    pub fn has_output(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Queues a whole frame with this correlation id.
    pub fn stage(&mut self, frame: &Rc<[u8]>, correlation_id: i32) {
        assert!(self.has_room());
        let start = self.staged.len();
        if frame.len() <= GATHERED_BYTES_MAX {
            self.staged.extend_from_slice(frame);
        } else {
            self.staged.extend_from_slice(&frame[..HEAD_BYTES]);
            self.large = Some(frame.clone());
        }
        self.staged[start + 8..start + HEAD_BYTES].copy_from_slice(&correlation_id.to_be_bytes());
    }

    /// Writes what the socket takes at once.
    pub fn write(&mut self) -> Result<(), String> {
        let rest = self.large.as_ref().map_or(&[][..], |large| &large[HEAD_BYTES..]);
        let total = self.staged.len() + rest.len();
        let first = &self.staged[self.written.min(self.staged.len())..];
        let second = &rest[self.written.saturating_sub(self.staged.len())..];
        match self.stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Ok(written) => self.written += written,
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(format!("cannot write: {error}")),
        }
        if self.written == total {
            self.written = 0;
            self.staged.clear();
            self.large = None;
        }
        Ok(())
    }

    /// Reads what is there, once.
    pub fn read(&mut self) -> Result<(), String> {
        self.make_room();
        match self.stream.read(&mut self.input[self.unread.end..]) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(read) => {
                self.unread.end += read;
                Ok(())
            }
            Err(error) if is_later(&error) => Ok(()),
            Err(error) => Err(format!("cannot read: {error}")),
        }
    }

    /// The next whole frame without its length; [`Connection::bytes`] has it until the next read.
    pub fn next_frame(&mut self) -> Result<Option<Range<usize>>, String> {
        let Some(length) = self.frame_length()? else { return Ok(None) };
        if self.unread.len() < 4 + length {
            return Ok(None);
        }
        let start = self.unread.start + 4;
        self.unread.start = start + length;
        Ok(Some(start..start + length))
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    fn frame_length(&self) -> Result<Option<usize>, String> {
        let Some(length) = self.input[self.unread.clone()].first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(length) if (4..=FRAME_BYTES_MAX).contains(&length) => Ok(Some(length)),
            _ => Err(format!("the server sent a frame of {length} bytes")),
        }
    }

    /// Moves what is half read to the front when the rest of its frame would not fit behind it.
    fn make_room(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        let frame = self.frame_length().ok().flatten().map_or(0, |length| 4 + length);
        let wanted = frame.max(self.unread.len() + READ_BYTES);
        if self.unread.start + wanted > self.input.len() {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if wanted > self.input.len() {
            self.input.resize(wanted, 0);
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
