//! What a generator thread begins with, and what the threads of a run tell each other.
//!
//! *Owns*: the form of both. *Never*: changes once the thread runs, but for the counts. *Runs on*: the thread that makes
//! the run, then a generator thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, Sender};

use mio::Poll;

use super::Report;
use crate::bench::consumer::Consumer;
use crate::bench::control::Cluster;
use crate::bench::member::Member;
use crate::bench::producer::Producer;
use crate::bench::scout::{Answer, Mailbox, Question};
use crate::bench::workload::Workload;
use crate::shell::clock::Clock;
use crate::wire::messages::api_versions::ApiVersionsResponse;

/// What a thread begins with.
pub struct Plan {
    /// Which of the threads it is.
    pub thread: usize,
    pub workload: Arc<Workload>,
    pub clock: Clock,
    pub cluster: Arc<Cluster>,
    pub poll: Poll,
    pub mailbox: Mailbox,
    pub answers: Receiver<Answer>,
    pub questions: Sender<(Question, Mailbox)>,
    pub reports: Sender<Report>,
    pub stop: Arc<AtomicBool>,
    /// With the number of each over the whole run.
    pub producers: Vec<(u32, Producer)>,
    pub consumers: Vec<Consumer>,
    /// One for each consumer if there are groups, otherwise none.
    pub members: Vec<Member>,
    /// What the brokers speak.
    pub versions: ApiVersionsResponse,
    pub together: Arc<Together>,
    pub cpu: Option<usize>,
}

/// What the threads of a run tell each other.
#[derive(Debug)]
pub struct Together {
    /// Threads whose producers are not done: consumers have come to the end only when there are none.
    pub producing: AtomicUsize,
    /// Threads whose consumers have not come to the end: members leave their groups only when there are none.
    pub draining: AtomicUsize,
    /// Members of groups that have their share, and how many partitions they have together.
    pub settled: AtomicUsize,
    pub placed: AtomicUsize,
}

impl Together {
    pub fn new(threads: usize) -> Together {
        Together {
            producing: AtomicUsize::new(threads),
            draining: AtomicUsize::new(threads),
            settled: AtomicUsize::new(0),
            placed: AtomicUsize::new(0),
        }
    }
}
