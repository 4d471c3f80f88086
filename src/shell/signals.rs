//! Signals: the first SIGTERM or SIGINT stops the broker in order, the second at once. SIGXFSZ does nothing.
//!
//! *Owns*: the handlers. *Never*: does anything in one but write a byte. *Runs on*: every core reads its own byte.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level::pipe};

/// Exit status after a second signal: that of a process killed by SIGINT, as shells show it.
const STATUS_AT_ONCE: i32 = 130;

/// Installs the handlers and returns, for each core, a socket that gets a byte when the broker is to stop.
pub fn install(cores: usize) -> io::Result<Vec<UnixStream>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let mut sockets = Vec::new();
    for signal in [SIGTERM, SIGINT] {
        // Handlers run in this order: the flag is looked at before it is set.
        flag::register_conditional_shutdown(signal, STATUS_AT_ONCE, stopping.clone())?;
        flag::register(signal, stopping.clone())?;
    }
    // A file that may not grow further is a full disk to its partition, and no reason to end: the write says so too.
    flag::register(SIGXFSZ, Arc::default())?;
    for _ in 0..cores {
        let (ours, theirs) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            pipe::register(signal, ours.try_clone()?)?;
        }
        sockets.push(theirs);
    }
    Ok(sockets)
}
