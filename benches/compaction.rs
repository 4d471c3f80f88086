//! What compaction costs its core: a log of keyed records, from the first slice to the last, on a disk that does
//! everything at once. Its pauses take no time here; the disk's reads copy nothing.
//!
//! `cargo bench --no-default-features --bench compaction`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use corelog::base::disk::{BLOCK_BYTES, DiskDone, DiskOp, FileId};
use corelog::base::ids::LeaderEpoch;
use corelog::base::rng::Rng;
use corelog::base::siphash::HashKey;
use corelog::base::time::{Instant, Now};
use corelog::config::{CleanupPolicy, Durability, Ratio, TopicSettings};
use corelog::log::cache::TailCache;
use corelog::log::clean::{CleanCounts, CleanOrder};
use corelog::log::log::{Log, LogEvent, LogOut};
use corelog::log::reach::MustReach;
use corelog::wire::batch::Batch;
use corelog::wire::compression::Compression;
use corelog::wire::records::BatchBuilder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LOG_BYTES: u64 = 64 << 20;
const SEGMENT_BYTES: u64 = 16 << 20;
/// What a producer makes a batch of by default.
const BATCH_BYTES: usize = 16 << 10;

/// Name, bytes of a value, how many different keys, compression.
const SHAPES: [(&str, usize, u64, Compression); 6] = [
    ("1 KB, 10,000 keys", 1000, 10_000, Compression::None),
    ("1 KB, 1,000,000 keys", 1000, 1_000_000, Compression::None),
    ("100 B, 10,000 keys", 100, 10_000, Compression::None),
    ("100 B, 1,000,000 keys", 100, 1_000_000, Compression::None),
    ("1 KB, 10,000 keys, lz4", 1000, 10_000, Compression::Lz4),
    ("1 KB, 10,000 keys, zstd", 1000, 10_000, Compression::Zstd),
];

/// The files of a log, and the log.
#[derive(Clone, Default)]
struct Files {
    named: BTreeMap<PathBuf, Bytes>,
    open: BTreeMap<FileId, PathBuf>,
}

struct Bench {
    files: Files,
    log: Log,
    cache: TailCache,
    now: Now,
    out: LogOut,
}

impl Bench {
    fn open(files: Files) -> Bench {
        let settings = TopicSettings {
            cleanup_policy: CleanupPolicy { delete: false, compact: true },
            min_cleanable_dirty_ratio: Ratio(0),
            segment_bytes: SEGMENT_BYTES,
            durability: Durability::Write,
            ..TopicSettings::default()
        };
        let now = Now { mono: Instant(1), wall_ms: 1_000_000 };
        let mut out = LogOut::default();
        let log = Log::open(1, PathBuf::from("bench-0"), settings, MustReach::default(), now, &mut out);
        let mut bench = Bench { files, log, cache: TailCache::new(1), now, out };
        bench.complete();
        bench
    }

    /// A log of keyed records, closed.
    fn filled(value_bytes: usize, keys: u64, compression: Compression) -> Files {
        let mut bench = Bench::open(Files::default());
        let mut rng = Rng::new(1);
        let mut bytes = 0;
        while bytes < LOG_BYTES {
            let batch = batch(value_bytes, keys, compression, &mut rng);
            let appended = bench.log.append(batch.clone(), LeaderEpoch(0), bench.now, &mut bench.cache, &mut bench.out);
            appended.expect("the log is open");
            bench.complete();
            bytes += (BATCH_BYTES.max(batch.bytes.len())) as u64;
        }
        bench.log.close(&mut bench.cache, bench.now, &mut bench.out);
        bench.complete();
        Files { open: BTreeMap::new(), ..bench.files }
    }

    /// Compacts the log, to the end.
    fn clean(&mut self) -> CleanCounts {
        let order = CleanOrder { key: HashKey([1, 2]), bytes_max: 128 << 20 };
        assert!(self.log.clean(order, self.now, &mut self.out), "there is something to compact");
        loop {
            if let Some(counts) = self.complete() {
                return counts;
            }
            self.now.mono = self.log.next_deadline().expect("it rests").max(self.now.mono);
            self.log.on_timeout(self.now, &mut self.cache, &mut self.out);
        }
    }

    /// Carries out all that is asked for, and what that asks for.
    fn complete(&mut self) -> Option<CleanCounts> {
        let mut counts = None;
        loop {
            for event in self.out.events.drain(..) {
                if let LogEvent::Cleaned { result } = event {
                    counts = Some(result.expect("it is compacted"));
                }
            }
            let Some((op, what)) = self.out.disk.pop() else { return counts };
            let done = self.files.carry_out(what);
            self.log.on_disk(op, Ok(done), &mut self.cache, self.now, &mut self.out);
        }
    }
}

impl Files {
    fn carry_out(&mut self, op: DiskOp) -> DiskDone {
        match op {
            DiskOp::List { .. } => {
                let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
                DiskDone::Listed(self.named.iter().map(|(path, bytes)| (name(path), bytes.len() as u64)).collect())
            }
            DiskOp::Open { file, path, .. } => {
                let len = self.named.entry(path.clone()).or_default().len() as u64;
                self.open.insert(file, path);
                DiskDone::Opened { len }
            }
            DiskOp::Read { file, position, len } => {
                let bytes = &self.named[&self.open[&file]];
                let from = bytes.len().min(position as usize);
                DiskDone::Read(bytes.slice(from..bytes.len().min(from + len)))
            }
            DiskOp::ReadFile { path } => DiskDone::Read(self.named[&path].clone()),
            DiskOp::Write { file, position, data } => {
                self.write(file, position as usize, &data);
                DiskDone::Done
            }
            DiskOp::WriteFile { path, data } => {
                self.named.insert(path, data);
                DiskDone::Done
            }
            DiskOp::Truncate { file, len } => {
                self.named.get_mut(&self.open[&file]).expect("it is open").truncate(len as usize);
                DiskDone::Done
            }
            DiskOp::Rename { from, to } => {
                let bytes = self.named.remove(&from).expect("it is there");
                self.open.values_mut().filter(|path| **path == from).for_each(|path| path.clone_from(&to));
                self.named.insert(to, bytes);
                DiskDone::Done
            }
            DiskOp::Delete { path } => {
                self.named.remove(&path);
                DiskDone::Done
            }
            _ => DiskDone::Done,
        }
    }

    /// Files are written from front to back.
    fn write(&mut self, file: FileId, position: usize, data: &[Bytes]) {
        let written = self.named.get_mut(&self.open[&file]).expect("it is open");
        let mut bytes = std::mem::take(written).try_into_mut().unwrap_or_default();
        bytes.resize(position, 0);
        data.iter().for_each(|slice| bytes.extend_from_slice(slice));
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        *written = bytes.freeze();
    }
}

fn batch(value_bytes: usize, keys: u64, compression: Compression, rng: &mut Rng) -> Batch {
    let mut builder = BatchBuilder::new(compression);
    let mut value = vec![0; value_bytes];
    for _ in 0..(BATCH_BYTES / (value_bytes + 20)).max(1) {
        // A compressor makes them half as long.
        value[..value_bytes / 2].fill_with(|| rng.next_u64() as u8);
        builder.push(1, Some(format!("key {:010}", rng.below(keys)).as_bytes()), Some(&value));
    }
    builder.build()
}

fn compaction(c: &mut Criterion) {
    let mut group = c.benchmark_group("compaction");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (name, value_bytes, keys, compression) in SHAPES {
        let files = Bench::filled(value_bytes, keys, compression);
        let counts = Bench::open(files.clone()).clean();
        group.throughput(Throughput::Bytes(counts.read_bytes));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let mut bench = Bench::open(files.clone());
                    let begun = Clock::now();
                    assert_eq!(bench.clean(), counts);
                    spent += begun.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compaction);
criterion_main!(benches);
