//! What the stages of one request cost: its stamps, with the readings of the clock that are made for them alone, and
//! counting them when it is over. Against it, what the same would cost with a clock or a histogram that are not ours.

use std::hint::black_box;
use std::time::{self, SystemTime};

use corelog::base::histogram::Histogram;
use corelog::base::stage::{Arrival, LITTLE_BYTES, SPANS, Stage, Stopwatch, Timed, Trace};
use corelog::base::stage_counts::StageCounts;
use corelog::base::time::Instant;
use corelog::broker::report::Report;
use corelog::shell::clock::Clock;
use corelog::shell::exposition;
use corelog::shell::stage_log::StageLog;
use criterion::{Criterion, criterion_group, criterion_main};

/// The stamps of a Produce of one batch, as the shard sets them: of a small request, or one of which all work has
/// readings of its own. The readings at the beginning of steps are made anyway; here they are made up.
fn stamps(watch: &mut Stopwatch, now: Instant, is_small: bool) -> Trace {
    let bytes = if is_small { LITTLE_BYTES - 1 } else { LITTLE_BYTES };
    let after = |us: u64| Instant(now.0 + us * 1000);
    let mut trace = Arrival { first_byte: now, waited: None, last_byte: after(3) }.trace();
    watch.start_step(after(5));
    watch.arrived(&mut trace, Stage::Queue);
    watch.worked_on(bytes, &mut trace, Stage::Decode);
    let mut part = black_box(trace.fork());
    watch.arrived(&mut part, Stage::MeshHop);
    watch.waited(&mut part, Stage::Queue);
    watch.worked_on(bytes, &mut part, Stage::Check);
    watch.worked(&mut part, Stage::Append);
    let mut part = black_box(part);
    part.waited_until(Stage::WriteQueue, after(20));
    part.waited_until(Stage::DeviceWrite, after(120));
    part.waited_until(Stage::Sync, after(120));
    let part = black_box(part);
    watch.start_step(after(120));
    trace.join(&part);
    watch.waited(&mut trace, Stage::AckWait);
    watch.worked_on(bytes, &mut trace, Stage::Encode);
    let mut trace = black_box(trace);
    trace.waited_until(Stage::ReplyQueue, after(130));
    trace.waited_until(Stage::SocketWrite, after(140));
    trace
}

fn read_system() -> Instant {
    static ZERO: std::sync::OnceLock<time::Instant> = std::sync::OnceLock::new();
    Instant(ZERO.get_or_init(time::Instant::now).elapsed().as_nanos() as u64)
}

fn stages(criterion: &mut Criterion) {
    let clock = Clock::start();
    let mut group = criterion.benchmark_group("stages");
    group.bench_function("a reading of our clock", |bencher| bencher.iter(|| black_box(clock.instant())));
    group.bench_function("a step's time from our clock", |bencher| bencher.iter(|| black_box(clock.now())));
    group.bench_function("a reading of the system's clock", |bencher| bencher.iter(|| black_box(read_system())));

    let mut counts = StageCounts::default();
    let mut request = |watch: &mut Stopwatch, is_small: bool| {
        let trace = stamps(watch, black_box(Instant(1_000_000)), is_small);
        counts.record(Timed::Produce, &trace);
    };
    let mut ours = clock.stopwatch();
    group.bench_function("a request", |bencher| bencher.iter(|| request(&mut ours, true)));
    group.bench_function("a request of 1 KiB or more", |bencher| bencher.iter(|| request(&mut ours, false)));
    let mut system = Stopwatch::new(read_system);
    group.bench_function("a request with the system's clock", |bencher| bencher.iter(|| request(&mut system, true)));
    let mut still = Stopwatch::default();
    group.bench_function("a request without a clock", |bencher| bencher.iter(|| request(&mut still, true)));

    let mut histograms: Vec<Histogram> = (0..SPANS + 2).map(|_| Histogram::of_stage()).collect();
    let values: Vec<u64> = (0..11).map(|i| 1000 << i).collect();
    group.bench_function("eleven values into histograms of the library", |bencher| {
        bencher.iter(|| {
            for (histogram, value) in histograms.iter_mut().zip(&values) {
                histogram.record(black_box(*value));
            }
        });
    });
    group.bench_function("a report of a core", |bencher| bencher.iter(|| black_box(counts.snapshot())));
    let report = Report { stages: counts.snapshot(), ..Report::default() };
    group.bench_function("a report as OpenMetrics text", |bencher| {
        bencher.iter(|| black_box(exposition::show(vec![report.clone()])));
    });
    let log = StageLog::new(None, SystemTime::now(), Instant(0));
    group.bench_function("a report as an interval of a log", |bencher| {
        bencher.iter(|| black_box(log.show(&report.stages, Instant(1_000_000_000))));
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
