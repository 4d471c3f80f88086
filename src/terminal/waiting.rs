//! A line that says what is waited for, once that takes long.
//!
//! *Owns*: the line on standard error, taken away at the end. *Never*: writes to what is no terminal.
//! *Runs on*: a thread of its own.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Until then nobody wonders.
const QUIET: Duration = Duration::from_secs(2);

const TICK: Duration = Duration::from_millis(500);

/// See the module. Dropping it takes the line away.
pub struct Waiting {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Waiting {
    /// `what` is a text such as "for 127.0.0.1:9092".
    pub fn start(what: String) -> Waiting {
        if !io::stderr().is_terminal() {
            return Waiting { thread: None };
        }
        let (sender, ended) = mpsc::channel();
        let start = Instant::now();
        let thread = thread::spawn(move || {
            let mut pause = QUIET;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = TICK;
                eprint!("\r\x1b[2Kwaiting {what}, {} s", start.elapsed().as_secs());
                let _ = io::stderr().flush();
            }
            if pause == TICK {
                eprint!("\r\x1b[2K");
            }
        });
        Waiting { thread: Some((sender, thread)) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It only prints.
            let _ = thread.join();
        }
    }
}
