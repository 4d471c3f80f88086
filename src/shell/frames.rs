//! Cuts a connection's bytes into frames.
//!
//! A large frame is read straight into a buffer of exactly its size; small ones share a read and are slices of one
//! copy of it. Between frames nothing is held, so that an idle connection costs no buffer.
//!
//! *Owns*: where one connection is in its stream. *Never*: allocates for a frame before it was admitted.
//! *Runs on*: the core that owns the connection.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::AsyncRead;
use glommio::net::TcpStream;

use super::socket;
use crate::base::time::Instant;

/// The buffer that all connections of a core read into.
pub const SCRATCH_BYTES: usize = 64 << 10;

/// From this size on a frame gets a buffer of its own and is not copied again.
const LARGE_FRAME_BYTES: usize = 16 << 10;

/// Behind a large frame another one is likely: only so much of it is read into the scratch buffer, as it will be
/// copied from there.
const LOOKAHEAD_BYTES: usize = 4 << 10;

const PREFIX_BYTES: usize = 4;

const _: () = assert!(LOOKAHEAD_BYTES <= SCRATCH_BYTES && LARGE_FRAME_BYTES <= SCRATCH_BYTES);

/// What may be done with a frame whose length was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Take,
    Wait,
    Refuse,
}

#[derive(PartialEq, Eq, Debug)]
pub enum Next {
    Frame(Bytes),
    /// Everything read so far is consumed: read again.
    Read,
    /// The next frame was told to wait. Ask again later; do not read before.
    Wait,
    /// The length is impossible or was refused. Nothing after it makes sense.
    Refuse {
        length: i32,
    },
}

#[derive(Debug, Default)]
pub struct FrameReader {
    /// Read and not yet consumed.
    held: Bytes,
    /// The beginning of a length that the end of a read has cut.
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// An admitted frame whose end has not arrived.
    body: Option<Body>,
    /// The last frame was large.
    large: bool,
    /// The last read took everything there was.
    drained: bool,
    /// When the last read ended.
    read_at: Instant,
    /// When the first byte of the frame to be cut next was read.
    began: Option<Instant>,
}

#[derive(Debug)]
struct Body {
    buffer: Vec<u8>,
    bytes: usize,
}

impl Body {
    fn missing(&self) -> usize {
        self.bytes - self.buffer.len()
    }
}

impl FrameReader {
    /// Takes the next frame from what was read. `admit` is asked once for each frame's length, unless it says wait.
    pub fn next(&mut self, mut admit: impl FnMut(usize) -> Verdict) -> Next {
        if !self.held.is_empty() {
            self.began.get_or_insert(self.read_at);
        }
        if self.body.is_none() {
            let Some(length) = self.peek_length() else {
                self.keep_prefix();
                return Next::Read;
            };
            let Ok(bytes) = usize::try_from(length) else {
                return Next::Refuse { length };
            };
            match admit(bytes) {
                Verdict::Take => {}
                Verdict::Wait => return Next::Wait,
                Verdict::Refuse => return Next::Refuse { length },
            }
            self.held.advance(PREFIX_BYTES - self.prefix_bytes);
            self.prefix_bytes = 0;
            self.large = bytes >= LARGE_FRAME_BYTES;
            if bytes <= self.held.len() {
                return Next::Frame(self.held.split_to(bytes));
            }
            self.body = Some(Body { buffer: Vec::with_capacity(bytes), bytes });
        }
        let body = self.body.as_mut().expect("set above");
        let part = self.held.split_to(self.held.len().min(body.missing()));
        body.buffer.extend_from_slice(&part);
        if body.missing() > 0 {
            self.held = Bytes::new();
            return Next::Read;
        }
        let body = self.body.take().expect("set above");
        Next::Frame(Bytes::from(body.buffer))
    }

    /// Reads once; 0 bytes are the end of the stream. Call only after [`Next::Read`]. `scratch` may be shared by all
    /// connections of the core: nothing stays in it.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.held.is_empty());
        match &self.body {
            Some(body) if body.missing() >= LARGE_FRAME_BYTES => self.poll_body(cx, stream, scratch),
            _ => self.poll_scratch(cx, stream, scratch),
        }
    }

    fn poll_scratch(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let missing = self.body.as_ref().map_or(0, Body::missing);
        let bytes_max = if self.large { scratch.len().min(missing + LOOKAHEAD_BYTES) } else { scratch.len() };
        let read = std::task::ready!(Pin::new(stream).poll_read(cx, &mut scratch[..bytes_max]))?;
        self.held = Bytes::copy_from_slice(&scratch[..read]);
        self.drained = read < bytes_max;
        Poll::Ready(Ok(read))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let body = self.body.as_mut().expect("the caller has looked");
        let missing = body.missing();
        if !self.drained {
            let ahead = &mut scratch[..LOOKAHEAD_BYTES];
            match socket::receive(stream.as_raw_fd(), &mut body.buffer, missing, ahead) {
                Ok(read) => {
                    self.held = Bytes::copy_from_slice(&ahead[..read.saturating_sub(missing)]);
                    self.drained = read < missing + LOOKAHEAD_BYTES;
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // The stream's own read knows how to wait, but wants initialised memory: give it a little.
        let start = body.buffer.len();
        let bytes_max = missing.min(LOOKAHEAD_BYTES);
        body.buffer.resize(start + bytes_max, 0);
        let polled = Pin::new(stream).poll_read(cx, &mut body.buffer[start..]);
        let read = match &polled {
            Poll::Ready(Ok(read)) => *read,
            _ => 0,
        };
        body.buffer.truncate(start + read);
        self.drained = read < bytes_max;
        polled
    }

    /// What was read last was there at this time.
    pub fn on_read(&mut self, at: Instant) {
        self.read_at = at;
    }

    /// When the first and the last byte of the frame just cut were read. To be asked once for each.
    pub fn came(&mut self) -> (Instant, Instant) {
        (self.began.take().unwrap_or(self.read_at), self.read_at)
    }

    fn peek_length(&self) -> Option<i32> {
        let mut bytes = self.prefix;
        let rest = PREFIX_BYTES - self.prefix_bytes;
        bytes[self.prefix_bytes..].copy_from_slice(self.held.get(..rest)?);
        Some(i32::from_be_bytes(bytes))
    }

    fn keep_prefix(&mut self) {
        let end = self.prefix_bytes + self.held.len();
        self.prefix[self.prefix_bytes..end].copy_from_slice(&self.held);
        self.prefix_bytes = end;
        self.held = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::shell::executor;
    use glommio::net::TcpListener;
    use std::future::poll_fn;
    use std::io::Write;
    use std::thread;

    fn frame(bytes: usize, seed: u8) -> Vec<u8> {
        let mut frame = (bytes as u32).to_be_bytes().to_vec();
        frame.extend((0..bytes).map(|at| seed.wrapping_add(at as u8)));
        frame
    }

    /// Sends `bytes` in pieces of `piece` and returns what the reader makes of them.
    fn read_all(bytes: Vec<u8>, mut piece: impl FnMut() -> usize + Send + 'static) -> Vec<Bytes> {
        let processor = core_affinity::get_core_ids().expect("processors")[0].id;
        let executor = executor::builder("test", processor).make().expect("an executor");
        executor.run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = listener.local_addr().expect("bound");
            let sender = thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).expect("connect");
                stream.set_nodelay(true).expect("nodelay");
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                    stream.write_all(now).expect("write");
                    rest = later;
                }
            });
            let mut stream = listener.accept().await.expect("accept");
            let mut reader = FrameReader::default();
            let mut scratch = vec![0; SCRATCH_BYTES];
            let mut frames = Vec::new();
            let mut waits = 0;
            loop {
                // Every second frame is told to wait once: that must change nothing.
                let next = reader.next(|_| {
                    waits += 1;
                    if waits % 2 == 0 { Verdict::Wait } else { Verdict::Take }
                });
                match next {
                    Next::Frame(frame) => frames.push(frame),
                    Next::Wait => {}
                    Next::Refuse { length } => panic!("refused {length}"),
                    Next::Read => {
                        let read = poll_fn(|cx| reader.poll_read(cx, &mut stream, &mut scratch));
                        if read.await.expect("read") == 0 {
                            break;
                        }
                    }
                }
            }
            assert!(reader.held.is_empty() && reader.body.is_none() && reader.prefix_bytes == 0);
            sender.join().expect("the sender ends");
            frames
        })
    }

    #[test]
    fn frames_of_all_sizes_come_whole_and_in_order_however_they_are_cut() {
        let sizes = [
            &[0, 1, 3, 4, 5, 100, 0, 0, 7][..],
            &[LARGE_FRAME_BYTES - 1, LARGE_FRAME_BYTES, LARGE_FRAME_BYTES + 1, 20, LOOKAHEAD_BYTES, 2][..],
            &[SCRATCH_BYTES - 4, SCRATCH_BYTES - 3, SCRATCH_BYTES, 200_000, 3, 300_000, 300_001, 9][..],
            &[1_000_000, 1, 1_000_001, 5000][..],
        ];
        for sizes in sizes {
            for pieces in [1..8, 500..3000, 60_000..70_000, 1 << 20..1 << 21] {
                if pieces.end == 8 && sizes.iter().sum::<usize>() > 100_000 {
                    continue;
                }
                let bytes = sizes.iter().zip(1..).flat_map(|(&size, seed)| frame(size, seed)).collect();
                let mut rng = Rng::new(pieces.end as u64);
                let span = (pieces.end - pieces.start) as u64;
                let frames = read_all(bytes, move || pieces.start + (rng.next_u64() % span) as usize);
                assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), sizes);
                for (got, seed) in frames.iter().zip(1..) {
                    assert!(got[..] == frame(got.len(), seed)[4..], "a frame of {} bytes", got.len());
                }
            }
        }
    }

    #[test]
    fn impossible_and_refused_lengths_end_the_stream_without_an_allocation() {
        for (length, expect) in [(-1, -1), (i32::MIN, i32::MIN), (i32::MAX, i32::MAX), (1001, 1001)] {
            let mut reader =
                FrameReader { held: Bytes::copy_from_slice(&i32::to_be_bytes(length)), ..FrameReader::default() };
            let next = reader.next(|bytes| if bytes > 1000 { Verdict::Refuse } else { Verdict::Take });
            assert_eq!(next, Next::Refuse { length: expect });
            assert!(reader.body.is_none());
        }
    }
}
