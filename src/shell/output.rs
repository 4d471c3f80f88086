//! What waits to be sent on one connection.
//!
//! *Owns*: the slices, in order. *Never*: copies one; how much may be queued is the shard's business.
//! *Runs on*: the core that owns the connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use bytes::{Buf, Bytes};

use super::socket::{self, Sent};

#[derive(Debug, Default)]
pub struct Output {
    /// Invariant: no slice is empty.
    slices: VecDeque<Bytes>,
}

impl Output {
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.slices.push_back(slice);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The bytes to be sent next.
    pub fn front(&self) -> Option<&Bytes> {
        self.slices.front()
    }

    /// Hands the socket as much as it takes, up to `bytes_max`.
    pub fn send(&mut self, fd: RawFd, bytes_max: usize) -> io::Result<Sent> {
        let mut total = Sent { bytes: 0, blocked: false };
        while !self.slices.is_empty() && !total.blocked && total.bytes < bytes_max {
            let sent = socket::send(fd, self.slices.iter(), bytes_max - total.bytes)?;
            self.advance(sent.bytes);
            total.bytes += sent.bytes;
            total.blocked = sent.blocked;
        }
        Ok(total)
    }

    /// Forgets bytes that were sent.
    pub fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let front = self.slices.front_mut().expect("no more is sent than was queued");
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.slices.pop_front();
        }
        // An idle connection holds no memory for its past bursts.
        if self.slices.is_empty() && self.slices.capacity() > 64 {
            self.slices = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn everything_arrives_in_order_through_a_socket_that_blocks() {
        let (here, mut there) = UnixStream::pair().expect("pair");
        there.set_nonblocking(true).expect("nonblocking");
        let mut output = Output::default();
        let mut expect = Vec::new();
        for i in 0..3000u32 {
            let slice = vec![i as u8; 1 + (i as usize * 37) % 900];
            expect.extend_from_slice(&slice);
            output.push(Bytes::from(slice));
            output.push(Bytes::new());
        }
        let mut got = Vec::new();
        let mut sent = 0;
        while !output.is_empty() {
            let bytes = output.send(here.as_raw_fd(), 7001).expect("send").bytes;
            assert!(bytes <= 7001);
            sent += bytes;
            let mut chunk = [0; 5000];
            while let Ok(n) = there.read(&mut chunk) {
                got.extend_from_slice(&chunk[..n]);
            }
        }
        assert_eq!(sent, expect.len());
        assert!(got == expect);
    }
}
