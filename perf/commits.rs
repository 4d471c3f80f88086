//! The commit loop: how fast one core can commit, at one size after the other.
//!
//! Bare, a commit is one direct write to the next place of a ring, a file whose space was written before, and one
//! fdatasync, or one write that is durable when it ends (O_DSYNC); the next begins when that is done, or there are two
//! at a time, or sixteen as with so many segments. That is the most that any journal on this device can do, and the
//! write alone is what durability is compared with. The broker's journal makes the same commits out of entries, over
//! the same space in a file of its own, and always has something waiting.
//!
//! *Owns*: two files, removed at the end. *Never*: looks at what it writes. *Runs on*: one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use corelog::base::disk::{BLOCK_BYTES, DiskResult, FileId};
use corelog::base::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use corelog::base::time::{self, Now};
use corelog::journal::format::{COMMIT_HEAD_BYTES, DIR, ENTRY_HEAD_BYTES, EntryHead, Identity};
use corelog::journal::journal::{Entry, Journal, JournalEvent, JournalOp, JournalOut};
use corelog::shell::disk::Disk;
use corelog::shell::executor::{self, Signal};
use glommio::io::{DmaFile, OpenOptions};
use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

#[derive(Parser, Clone)]
struct Arguments {
    /// Where the file is made; on the disk to be measured.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    #[arg(long, default_value_t = 128)]
    ring_mib: u64,
    /// Bytes of a commit, a multiple of 4096.
    #[arg(long, value_delimiter = ',', default_value = "4096,16384,65536,262144,1048576")]
    sizes: Vec<usize>,
    /// The journal's commits are made of entries of so many bytes.
    #[arg(long, default_value_t = 1000)]
    entry_bytes: usize,
    /// How long each loop runs, each time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Every size's loops run so often, forwards and backwards in turn.
    #[arg(long, default_value_t = 4)]
    repeats: usize,
    /// Only this loop, for a profile.
    #[arg(long)]
    only: Option<Kind>,
    /// Write every run of every loop to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A kind of loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ValueEnum)]
enum Kind {
    Write,
    WriteAndSync,
    DurableWrite,
    TwoWrites,
    TwoWritesAndSyncs,
    ManyWrites,
    ManyWritesAndSyncs,
    Journal,
}

const KINDS: [Kind; 8] = [
    Kind::Write,
    Kind::WriteAndSync,
    Kind::DurableWrite,
    Kind::TwoWrites,
    Kind::TwoWritesAndSyncs,
    Kind::ManyWrites,
    Kind::ManyWritesAndSyncs,
    Kind::Journal,
];

impl Kind {
    /// Commits at a time, of a bare loop.
    fn lanes(self) -> usize {
        match self {
            Kind::Write | Kind::WriteAndSync | Kind::DurableWrite | Kind::Journal => 1,
            Kind::TwoWrites | Kind::TwoWritesAndSyncs => 2,
            Kind::ManyWrites | Kind::ManyWritesAndSyncs => 16,
        }
    }

    fn syncs(self) -> bool {
        matches!(self, Kind::WriteAndSync | Kind::TwoWritesAndSyncs | Kind::ManyWritesAndSyncs)
    }
}

/// What a loop has done.
#[derive(Serialize)]
struct Speed {
    commits_per_s: f64,
    p50_us: f64,
    p99_us: f64,
}

/// A loop at one size.
#[derive(Serialize)]
struct Row {
    bytes: usize,
    #[serde(rename = "loop")]
    kind: Kind,
    speeds: Vec<Speed>,
}

fn main() {
    let arguments = Arguments::parse();
    let aligned = arguments.sizes.iter().all(|size| *size > 0 && size.is_multiple_of(BLOCK_BYTES));
    assert!(aligned && arguments.repeats > 0, "sizes are multiples of {BLOCK_BYTES}, and there is a repeat");
    let executor =
        executor::builder("commits", arguments.cpu).spawn(move || run(arguments)).expect("start an executor");
    executor.join().expect("the executor ran");
}

async fn run(arguments: Arguments) {
    std::fs::create_dir_all(&arguments.dir).expect("create the directory");
    let disk = Rc::new(Disk::open(&arguments.dir, "probe").await.expect("open the directory"));
    let path = arguments.dir.join("ring");
    let file = prewritten(&path, arguments.ring_mib << 20).await;
    let durable = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DSYNC).dma_open(&path).await;
    let durable = durable.expect("open the file once more");
    let mut core = Core::open(disk, &arguments).await;
    println!("{:>10} {:>18} {:>12} {:>10} {:>10} {:>10}", "bytes", "loop", "commits/s", "MB/s", "p50 us", "p99 us");
    let mut rows = Vec::new();
    for size in &arguments.sizes {
        let mut speeds = KINDS.map(|_| Vec::new());
        for repeat in 0..arguments.repeats {
            for turn in 0..KINDS.len() {
                let place = if repeat % 2 == 0 { turn } else { KINDS.len() - 1 - turn };
                if arguments.only.is_some_and(|only| only != KINDS[place]) {
                    continue;
                }
                let speed = match KINDS[place] {
                    Kind::Journal => core.commit(&arguments, *size).await,
                    kind @ Kind::DurableWrite => commit(&durable, &arguments, *size, kind).await,
                    kind => commit(&file, &arguments, *size, kind).await,
                };
                speeds[place].push(speed);
            }
        }
        print(*size, &speeds);
        rows.extend(KINDS.iter().zip(speeds).map(|(kind, speeds)| Row { bytes: *size, kind: *kind, speeds }));
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows).expect("rows are plain");
        std::fs::write(path, text + "\n").expect("write the file");
    }
    file.close().await.expect("close the file");
    durable.close().await.expect("close the file");
    std::fs::remove_file(path).expect("remove the file");
    core.close(&arguments).await;
}

/// A file of zeros that the device has, not only reserved space.
async fn prewritten(path: &Path, bytes: u64) -> DmaFile {
    const PIECE_BYTES: usize = 1 << 20;
    let file = OpenOptions::new().read(true).write(true).create(true).dma_open(path).await.expect("make the file");
    file.pre_allocate(bytes, false).await.expect("reserve space");
    for position in (0..bytes).step_by(PIECE_BYTES) {
        let mut buffer = file.alloc_dma_buffer(PIECE_BYTES);
        buffer.as_bytes_mut().fill(0);
        file.write_at(buffer, position).await.expect("write");
    }
    file.fdatasync().await.expect("sync");
    file
}

/// What the loops of one size have done: medians, and what the journal's are of the bare ones'.
fn print(size: usize, speeds: &[Vec<Speed>; KINDS.len()]) {
    for (kind, speeds) in KINDS.iter().zip(speeds).filter(|(_, speeds)| !speeds.is_empty()) {
        let median = |of: fn(&Speed) -> f64| median(speeds.iter().map(of).collect());
        let commits = median(|speed| speed.commits_per_s);
        println!(
            "{size:>10} {:>18} {commits:>12.0} {:>10.1} {:>10.0} {:>10.0}",
            format!("{kind:?}"),
            commits * size as f64 / 1e6,
            median(|speed| speed.p50_us),
            median(|speed| speed.p99_us),
        );
    }
    let [_, one, _, _, two, _, _, journal] = speeds;
    for (bare, name) in [(one, "Journal / one"), (two, "Journal / two")] {
        let ratios = bare.iter().zip(journal).map(|(bare, journal)| journal.commits_per_s / bare.commits_per_s);
        let ratios: Vec<f64> = ratios.collect();
        if !ratios.is_empty() {
            println!("{size:>10} {name:>18} {:>12.2}", median(ratios));
        }
    }
}

/// Commits for a while.
async fn commit(file: &DmaFile, arguments: &Arguments, size: usize, kind: Kind) -> Speed {
    let latencies = RefCell::new(Histogram::<u64>::new_with_max(LATENCY_MAX_NS, 3).expect("the bounds are fine"));
    let (start, time) = (Instant::now(), Duration::from_secs_f64(arguments.seconds));
    let next = Cell::new(0);
    let lane = async || {
        let mut last = start;
        while last - start < time {
            let position = if next.get() + size as u64 > arguments.ring_mib << 20 { 0 } else { next.get() };
            next.set(position + size as u64);
            let mut buffer = file.alloc_dma_buffer(size);
            buffer.as_bytes_mut().fill(position as u8);
            file.write_at(buffer, position).await.expect("write");
            if kind.syncs() {
                file.fdatasync().await.expect("sync");
            }
            let now = Instant::now();
            latencies.borrow_mut().saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
    };
    let mut lanes: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(lane());
    for _ in 1..kind.lanes() {
        let more = futures_lite::future::zip(lanes, lane());
        lanes = Box::pin(async {
            let ((), ()) = more.await;
        });
    }
    lanes.await;
    speed(&latencies.borrow(), start.elapsed())
}

/// A journal, and what stands around it on a core of the broker.
struct Core {
    disk: Rc<Disk>,
    journal: Journal,
    out: JournalOut,
    done: Rc<Done>,
    began: Instant,
    /// Of the next entry.
    next: i64,
}

#[derive(Default)]
struct Done {
    results: RefCell<Vec<(JournalOp, DiskResult)>>,
    signal: Signal,
}

impl Core {
    async fn open(disk: Rc<Disk>, arguments: &Arguments) -> Core {
        let identity = Identity { cluster: "commits".into(), node: 0, core: CoreId(0), cores: 1 };
        let mut out = JournalOut::default();
        let mut journal = Journal::new(identity, arguments.ring_mib << 20, 1, FileId::new(0, 0));
        journal.open(&mut out);
        let mut core = Core { disk, journal, out, done: Rc::default(), began: Instant::now(), next: 0 };
        while !core.step().await.iter().any(|event| matches!(event, JournalEvent::Made { .. })) {}
        core.journal.begin();
        core
    }

    /// Commits for a while. What the next commit takes waits already when one ends.
    async fn commit(&mut self, arguments: &Arguments, size: usize) -> Speed {
        let mut latencies = Histogram::<u64>::new_with_max(LATENCY_MAX_NS, 3).expect("the bounds are fine");
        let (start, duration) = (Instant::now(), Duration::from_secs_f64(arguments.seconds));
        // The last entry of each commit, in flight or waiting.
        let mut ends = VecDeque::new();
        while self.journal.gauges().waiting_bytes == 0 {
            ends.push_back(self.append(arguments.entry_bytes, size));
            self.pump();
        }
        let mut last = start;
        while !ends.is_empty() {
            for event in self.step().await {
                let (owner, next, times) = match event {
                    JournalEvent::Committed { owner, next, times } if ends.front() == Some(&next) => {
                        (owner, next, times)
                    }
                    // The flush is said below, as soon as a commit is whole.
                    JournalEvent::Committed { .. } | JournalEvent::FlushWanted { .. } => continue,
                    other => panic!("{other:?}"),
                };
                ends.pop_front();
                last = Instant::now();
                latencies.saturating_record(times.safe.since_ns(times.began));
                // As if the segment had it at once.
                self.journal.on_flushed(owner, next);
                self.pump();
                if last - start < duration {
                    ends.push_back(self.append(arguments.entry_bytes, size));
                }
            }
        }
        speed(&latencies, last - start)
    }

    /// What fills a commit of that size. Where its last entry ends.
    fn append(&mut self, entry_bytes: usize, size: usize) -> Offset {
        static PAYLOAD: [u8; 1 << 16] = [7; 1 << 16];
        let mut left = size - COMMIT_HEAD_BYTES;
        while left > ENTRY_HEAD_BYTES {
            let len = entry_bytes.min(left - ENTRY_HEAD_BYTES).min(PAYLOAD.len());
            self.journal.append(Entry {
                owner: 0,
                head: EntryHead {
                    truncations: 0,
                    topic: TopicId([1; 16]),
                    partition: PartitionIndex(0),
                    epoch: LeaderEpoch(0),
                    segment: Offset(0),
                    position: 0,
                    base: Offset(self.next),
                    next: Offset(self.next + 1),
                    len: len as u32,
                },
                slices: vec![Bytes::from_static(&PAYLOAD[..len])],
            });
            self.next += 1;
            left -= ENTRY_HEAD_BYTES + len;
        }
        Offset(self.next)
    }

    fn now(&self) -> Now {
        Now { mono: time::Instant(self.began.elapsed().as_nanos() as u64), wall_ms: 0 }
    }

    fn pump(&mut self) {
        self.journal.pump(self.now(), &mut self.out);
        for (op, disk_op) in self.out.disk.drain(..) {
            let (disk, done) = (self.disk.clone(), self.done.clone());
            let task = async move {
                let result = disk.run(disk_op).await;
                done.results.borrow_mut().push((op, result));
                done.signal.give();
            };
            glommio::spawn_local(task).detach();
        }
    }

    /// Waits for the disk, and tells what came of it.
    async fn step(&mut self) -> Vec<JournalEvent> {
        self.pump();
        self.done.signal.wait().await;
        let results = std::mem::take(&mut *self.done.results.borrow_mut());
        for (op, result) in results {
            self.journal.on_disk(op, result, self.now(), &mut self.out);
        }
        std::mem::take(&mut self.out.events)
    }

    async fn close(mut self, arguments: &Arguments) {
        self.journal.close(&mut self.out);
        while !self.step().await.contains(&JournalEvent::Closed) {}
        std::fs::remove_dir_all(arguments.dir.join(DIR)).expect("remove the journal");
    }
}

fn speed(latencies: &Histogram<u64>, time: Duration) -> Speed {
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Speed { commits_per_s: latencies.len() as f64 / time.as_secs_f64(), p50_us: at(0.5), p99_us: at(0.99) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (low + high) / 2.0
}
