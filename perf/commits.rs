//! The commit loop: how fast one core can commit, at one size after the other.
//!
//! Bare, a commit is one direct write to the next place of a ring, a file whose space was written before, and one
//! fdatasync; the next begins when that is done. That is the most that any journal on this device can do, and the
//! same without the fdatasync is what durability is compared with.
//!
//! *Owns*: one file, removed at the end. *Never*: looks at what it writes. *Runs on*: one core.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use corelog::base::disk::BLOCK_BYTES;
use corelog::shell::disk::Disk;
use corelog::shell::executor;
use glommio::io::{DmaFile, OpenOptions};
use hdrhistogram::Histogram;

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
    /// How long each loop runs, each time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Every size's loops run so often, forwards and backwards in turn.
    #[arg(long, default_value_t = 4)]
    repeats: usize,
}

/// A kind of loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Write,
    WriteAndSync,
}

const KINDS: [Kind; 2] = [Kind::Write, Kind::WriteAndSync];

/// What a loop has done.
struct Speed {
    commits_per_s: f64,
    p50_us: f64,
    p99_us: f64,
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
    // It finds out whether the device can be polled, which glommio gets wrong with an empty file.
    drop(Disk::open(&arguments.dir, "probe").await.expect("open the directory"));
    let path = arguments.dir.join("ring");
    let file = prewritten(&path, arguments.ring_mib << 20).await;
    println!("{:>10} {:>14} {:>12} {:>10} {:>10} {:>10}", "bytes", "loop", "commits/s", "MB/s", "p50 us", "p99 us");
    for size in &arguments.sizes {
        let mut speeds = KINDS.map(|_| Vec::new());
        for repeat in 0..arguments.repeats {
            for turn in 0..KINDS.len() {
                let place = if repeat % 2 == 0 { turn } else { KINDS.len() - 1 - turn };
                speeds[place].push(commit(&file, &arguments, *size, KINDS[place]).await);
            }
        }
        for (kind, speeds) in KINDS.iter().zip(&speeds) {
            let median = |of: fn(&Speed) -> f64| median(speeds.iter().map(of).collect());
            let commits = median(|speed| speed.commits_per_s);
            println!(
                "{size:>10} {:>14} {commits:>12.0} {:>10.1} {:>10.0} {:>10.0}",
                format!("{kind:?}"),
                commits * *size as f64 / 1e6,
                median(|speed| speed.p50_us),
                median(|speed| speed.p99_us),
            );
        }
    }
    file.close().await.expect("close the file");
    std::fs::remove_file(path).expect("remove the file");
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

/// Commits for a while.
async fn commit(file: &DmaFile, arguments: &Arguments, size: usize, kind: Kind) -> Speed {
    let mut latencies = Histogram::<u64>::new(3).expect("a histogram");
    let (start, time) = (Instant::now(), Duration::from_secs_f64(arguments.seconds));
    let (mut position, mut last) = (0, start);
    while last - start < time {
        if position + size as u64 > arguments.ring_mib << 20 {
            position = 0;
        }
        let mut buffer = file.alloc_dma_buffer(size);
        buffer.as_bytes_mut().fill(latencies.len() as u8);
        file.write_at(buffer, position).await.expect("write");
        if kind == Kind::WriteAndSync {
            file.fdatasync().await.expect("sync");
        }
        position += size as u64;
        let now = Instant::now();
        latencies.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Speed { commits_per_s: latencies.len() as f64 / (last - start).as_secs_f64(), p50_us: at(0.5), p99_us: at(0.99) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (low + high) / 2.0
}
