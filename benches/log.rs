//! What the log costs beside the disk: giving a batch its place and planning its write, and planning a read of the
//! tail. Batches are checked before and their checksums are not touched, so no CRC is in these numbers.
//!
//! `cargo bench --no-default-features --bench log`

use std::hint::black_box;
use std::path::PathBuf;

use corelog::base::disk::{DiskDone, DiskOp};
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::base::time::{Instant, Now};
use corelog::config::TopicSettings;
use corelog::log::cache::{ReadBy, TailCache};
use corelog::log::log::{Log, LogOut, Read};
use corelog::log::reach::MustReach;
use corelog::log::read::ReadWish;
use corelog::wire::batch::Batch;
use corelog::wire::compression::Compression;
use corelog::wire::records::BatchBuilder;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const NOW: Now = Now { mono: Instant(1), wall_ms: 1_000_000 };

/// A log whose disk does everything at once and keeps nothing.
struct Bench {
    log: Log,
    cache: TailCache,
    out: LogOut,
}

impl Bench {
    fn new() -> Bench {
        let mut out = LogOut::default();
        let log = Log::open(1, PathBuf::from("bench-0"), TopicSettings::default(), MustReach::default(), NOW, &mut out);
        let mut bench = Bench { log, cache: TailCache::new(64 << 20), out };
        bench.complete();
        bench
    }

    fn append(&mut self, batch: &Batch) {
        let batch = batch.clone();
        let appended = self.log.append(batch, LeaderEpoch(0), NOW, &mut self.cache, &mut self.out);
        black_box(appended.expect("the log is open"));
    }

    fn complete(&mut self) {
        while let Some((op, what)) = self.out.disk.pop() {
            let done = match what {
                DiskOp::List { .. } => DiskDone::Listed(Vec::new()),
                DiskOp::Open { .. } => DiskDone::Opened { len: 0 },
                DiskOp::ReadFile { .. } | DiskOp::Read { .. } => unreachable!("nothing is read from this disk"),
                _ => DiskDone::Done,
            };
            self.log.on_disk(op, Ok(done), &mut self.cache, NOW, &mut self.out);
        }
        self.out.events.clear();
    }
}

fn batch(bytes: usize, producer: bool) -> Batch {
    let builder = BatchBuilder::new(Compression::None);
    let mut builder = if producer { builder.producer(1, 0, 0) } else { builder };
    builder.push(1, None, Some(&vec![b'x'; bytes]));
    builder.build()
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    // As many as arrive while one write is in flight.
    for (name, bytes, per_write) in
        [("1 KB, a write each", 1000, 1), ("1 KB, 64 a write", 1000, 64), ("256 KiB, 4 a write", 256 << 10, 4)]
    {
        let batch = batch(bytes, false);
        let mut bench = Bench::new();
        group.throughput(Throughput::Elements(per_write));
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..per_write {
                    bench.append(&batch);
                }
                bench.complete();
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("1 KB, idempotent, first of its producer", |b| {
        let batch = batch(1000, true);
        b.iter_batched_ref(
            Bench::new,
            |bench| {
                bench.append(&batch);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read of the tail");
    for (name, bytes, bytes_max) in
        [("1 MiB in 1 KB batches", 1000, 1 << 20), ("1 MiB in 256 KiB batches", 256 << 10, 1 << 20)]
    {
        let batch = batch(bytes, false);
        let mut bench = Bench::new();
        while bench.log.size_bytes() < 16 << 20 {
            bench.append(&batch);
            bench.complete();
        }
        let end = bench.log.end();
        group.bench_function(name, |b| {
            b.iter(|| {
                let (from, by) = (Offset(end.0 / 2), ReadBy::Consumer);
                let wish = ReadWish { from, until: end, bytes_max, at_least_one: true, by };
                let read = bench.log.read(wish, &mut bench.cache, &mut bench.out);
                assert!(matches!(black_box(read), Ok(Read::Ready(_))));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
