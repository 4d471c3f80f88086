//! How long it takes to compare two runs of an hour, from their archives to the verdicts.
//!
//! 3,600 intervals each, with the buckets that 20,000 lognormal latencies a second fill. Wanted: under two seconds.
//! Found: 0.84 s (0.82 to 0.85), of which reading takes 0.40 s on two processors (AMD EPYC, two virtual processors).

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelog::base::histogram::Histogram;
use corelog::base::rng::Rng;
use corelog::bench::capsule::Capsule;
use corelog::bench::compare::compare;
use corelog::bench::environment::Environment;
use corelog::bench::packed::Packed;
use corelog::bench::result::{Counts, Interval, RunResult};
use corelog::bench::summary::Mode;
use criterion::{Criterion, criterion_group, criterion_main};

const INTERVALS: u64 = 3_600;
const RECORDS: u64 = 20_000;

/// Near enough to a normal number: twelve uniform ones.
fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
}

fn histogram(rng: &mut Rng, middle_ns: f64, records: u64) -> Packed {
    let mut histogram = Histogram::of_client();
    (0..records).for_each(|_| histogram.record((middle_ns * (0.5 * normal(rng)).exp()) as u64));
    Packed::from(&histogram)
}

fn capsule(name: &str, seed: u64) -> Capsule {
    let mut rng = Rng::new(seed);
    let mut result = RunResult::begin(1_700_000_000_000);
    let mut level = 0.0;
    for i in 0..INTERVALS {
        level = 0.8 * level + 0.05 * normal(&mut rng);
        let middle_ns = 1e6 * f64::exp(level);
        result.intervals.push(Interval {
            start_ns: i * 1_000_000_000,
            length_ns: 1_000_000_000,
            invalid: None,
            produce: histogram(&mut rng, middle_ns, RECORDS),
            e2e: histogram(&mut rng, 2.0 * middle_ns, RECORDS),
            lateness: histogram(&mut rng, 5e3, RECORDS / 10),
            counts: Counts { sent: RECORDS, acked: RECORDS, received: RECORDS, ..Counts::default() },
        });
    }
    Capsule {
        name: name.to_owned(),
        workload: "rate = 20000\n".to_owned(),
        command: String::new(),
        mode: Mode::OpenLoop,
        seed,
        environment: Environment::default(),
        result,
        notes: Vec::new(),
    }
}

fn hours(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let archives: Vec<PathBuf> = (["a", "b"].iter().zip(1..))
        .map(|(name, seed)| capsule(name, seed).write(&dir.path().join(name)).expect("written").archive)
        .collect();
    let paths: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
    let read = || Capsule::read_all(&paths).expect("read");
    let mut group = c.benchmark_group("two hours");
    group.sample_size(10).measurement_time(Duration::from_secs(15));
    group.bench_function("read", |b| b.iter(|| black_box(read())));
    let runs = read();
    group.bench_function("compare", |b| b.iter(|| black_box(compare(&runs, &[]).expect("compared"))));
    group.bench_function("read and compare", |b| b.iter(|| black_box(compare(&read(), &[]).expect("compared"))));
    group.finish();
}

criterion_group!(benches, hours);
criterion_main!(benches);
