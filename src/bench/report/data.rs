//! What the page shows: runs boiled down to a bounded number of points, columns and cells.
//!
//! An hour of seconds and a day of them make pages of the same size. Everything is counted from histograms: columns
//! that hold several intervals add theirs up, and invalid intervals go into none.
//!
//! *Owns*: the form of the data in the page, and its bounds. *Never*: averages percentiles. *Runs on*: any thread.

use std::collections::BTreeMap;

use serde::Serialize;

use super::stages::{self, StageView};
use crate::bench::capsule::Capsule;
use crate::bench::compare::{Comparison, compare};
use crate::bench::packed::{Packed, Sum};
use crate::bench::result::{Counts, Interval, RunResult};
use crate::bench::summary::{QUANTILES, Summary, Throughput};

/// Points of a curve for each nine: at 0 %, 90 %, 99 %, … and this many steps between.
pub const POINTS_PER_NINE: u32 = 32;

/// Cells of a heat map for each tenfold of latency.
pub const ROWS_PER_DECADE: u32 = 16;

/// Columns of time in a page, shared by its runs.
const COLUMNS_MAX: usize = 720;
const COLUMNS_OF_RUN_MAX: usize = 240;
const COLUMNS_OF_RUN_MIN: usize = 60;

/// Stretches of invalid intervals told one by one; beyond, near ones are told as one.
const STRETCHES_MAX: usize = 200;

/// Bytes of a text, and rows of a table, that come from a capsule.
const TEXT_BYTES_MAX: usize = 4096;
const ROWS_MAX: usize = 2000;

/// All that the page is drawn from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReportData {
    pub corelog: &'static str,
    pub rows_per_decade: u32,
    pub runs: Vec<RunView>,
    /// Of several runs: the verdicts, or why there are none.
    pub comparison: Option<Result<Comparison, String>>,
}

/// One run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RunView {
    pub name: String,
    pub command: String,
    /// What could not be read of the capsule.
    pub notes: Vec<String>,
    pub summary: Summary,
    /// Whether there is more than histograms: counts, mode and seed say something.
    pub known: bool,
    pub workload: Rows,
    pub machine: Rows,
    pub broker: Rows,
    pub configs: Rows,
    pub produce: MetricView,
    pub e2e: MetricView,
    pub columns: Columns,
    pub invalid: Vec<Stretch>,
    /// Why there are no stages, or what they are.
    pub stages: Result<Vec<StageView>, String>,
}

/// Names and values, in the order to show them.
pub type Rows = Vec<(String, String)>;

/// One kind of latency of one run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MetricView {
    /// Nines (−log₁₀ of the share of slower ones) and nanoseconds. The last point is the maximum, at the one slowest.
    pub curve: Vec<(f64, u64)>,
    /// For each column its cells that are not empty: row and count in turn, rows ascending. A latency of `ns` lies in
    /// row ⌊log₁₀(ns) × `rows_per_decade`⌋.
    pub heat: Vec<Vec<u64>>,
    /// Nanoseconds for each column; none where nothing was counted.
    pub p50: Vec<Option<u64>>,
    pub p99: Vec<Option<u64>>,
    pub max: Vec<Option<u64>>,
}

/// Time in steps of one interval or of several.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct Columns {
    pub start_s: Vec<f64>,
    pub end_s: Vec<f64>,
    /// Intervals in the column that count.
    pub valid: Vec<usize>,
    /// Per second of the intervals that count; none where there is none.
    pub sent: Vec<Option<f64>>,
    pub acked: Vec<Option<f64>>,
    pub acked_bytes: Vec<Option<f64>>,
    pub received: Vec<Option<f64>>,
    pub received_bytes: Vec<Option<f64>>,
    /// Times that a rebalance took or changed the partitions of a group's member, in intervals that count or not.
    pub rebalances: Vec<u64>,
}

/// Invalid intervals, one after another.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stretch {
    pub start_s: f64,
    pub end_s: f64,
    pub intervals: usize,
    /// Of the first of them.
    pub why: String,
}

impl ReportData {
    /// `differs` names what may differ between the runs, as for [`compare`].
    pub fn of(capsules: &[Capsule], differs: &[String]) -> ReportData {
        let columns_max = COLUMNS_MAX / capsules.len().max(1);
        let columns_max = columns_max.clamp(COLUMNS_OF_RUN_MIN, COLUMNS_OF_RUN_MAX);
        ReportData {
            corelog: env!("CARGO_PKG_VERSION"),
            rows_per_decade: ROWS_PER_DECADE,
            runs: capsules.iter().map(|capsule| RunView::of(capsule, columns_max)).collect(),
            comparison: (capsules.len() > 1)
                .then(|| compare(capsules, differs).map(shown).map_err(|refused| refused.to_string())),
        }
    }
}

impl RunView {
    fn of(capsule: &Capsule, columns_max: usize) -> RunView {
        let result = &capsule.result;
        let groups = grouped(&result.intervals, columns_max);
        let mut summary = capsule.summary();
        summary.name = shortened(&summary.name);
        summary.complaints.truncate(ROWS_MAX);
        summary.complaints.iter_mut().for_each(|(message, _)| *message = shortened(message));
        RunView {
            name: shortened(&capsule.name),
            command: shortened(&capsule.command),
            notes: capsule.notes.iter().take(ROWS_MAX).map(|note| shortened(note)).collect(),
            known: !capsule.workload.is_empty() || !capsule.command.is_empty() || result.totals != Counts::default(),
            summary,
            workload: bounded(flattened(&capsule.workload)),
            machine: bounded(capsule.environment.facts.clone().into_iter().collect()),
            broker: bounded(broker(result)),
            configs: bounded(result.broker.configs.clone()),
            produce: MetricView::of(result, &groups, |interval| &interval.produce),
            e2e: MetricView::of(result, &groups, |interval| &interval.e2e),
            columns: Columns::of(&groups),
            invalid: stretches(&result.intervals),
            stages: stages::read(result.stages_hlog.as_deref(), columns_max),
        }
    }
}

impl MetricView {
    fn of(result: &RunResult, groups: &[&[Interval]], of: fn(&Interval) -> &Packed) -> MetricView {
        let columns: Vec<Packed> = groups.iter().map(|group| Sum::of(valid(group).map(of))).collect();
        let value = |column: &Packed, quantile: f64| (!column.is_empty()).then(|| column.value_at(quantile));
        MetricView {
            curve: curve(&Sum::of(result.valid().map(of))),
            heat: columns.iter().map(cells).collect(),
            p50: columns.iter().map(|column| value(column, QUANTILES[0])).collect(),
            p99: columns.iter().map(|column| value(column, QUANTILES[2])).collect(),
            max: columns.iter().map(|column| value(column, 1.0)).collect(),
        }
    }
}

impl Columns {
    fn of(groups: &[&[Interval]]) -> Columns {
        let mut columns = Columns::default();
        for group in groups {
            let (first, last) = (&group[0], &group[group.len() - 1]);
            columns.start_s.push(seconds(first.start_ns));
            columns.end_s.push(seconds(last.start_ns.saturating_add(last.length_ns)));
            let valid: Vec<&Interval> = valid(group).collect();
            columns.valid.push(valid.len());
            let rate = Throughput::of(&valid);
            let known = |rate: f64| (!valid.is_empty()).then(|| rate.round());
            columns.sent.push(known(rate.sent_records));
            columns.acked.push(known(rate.acked_records));
            columns.acked_bytes.push(known(rate.acked_bytes));
            columns.received.push(known(rate.received_records));
            columns.received_bytes.push(known(rate.received_bytes));
            columns.rebalances.push(group.iter().map(|interval| interval.counts.rebalances).sum());
        }
        columns
    }
}

/// The page has its own tables of what differs, and tells the notes of a run with the run.
fn shown(mut comparison: Comparison) -> Comparison {
    comparison.unnamed.truncate(ROWS_MAX);
    comparison.named.clear();
    comparison.notes.clear();
    comparison.unnamed.iter_mut().for_each(|difference| difference.values.clear());
    comparison
}

/// Points evenly spaced in nines, as far as there are values to tell them apart, and the maximum.
fn curve(histogram: &Packed) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let last = (histogram.count() as f64).log10();
    let steps = (last * f64::from(POINTS_PER_NINE)).floor() as u32;
    let mut nines: Vec<f64> = (0..=steps).map(|step| f64::from(step) / f64::from(POINTS_PER_NINE)).collect();
    nines.push(last);
    let quantiles: Vec<f64> = nines.iter().map(|nines| 1.0 - 10f64.powf(-nines)).collect();
    let values = histogram.values_at(&quantiles);
    let mut points: Vec<(f64, u64)> = nines.iter().map(|nines| rounded(*nines)).zip(values).collect();
    points.last_mut().expect("one was pushed").1 = histogram.max_ns();
    points
}

fn cells(histogram: &Packed) -> Vec<u64> {
    let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
    for bucket in histogram.buckets() {
        let middle = bucket.lowest as f64 / 2.0 + bucket.highest as f64 / 2.0;
        let row = (middle.max(1.0).log10() * f64::from(ROWS_PER_DECADE)) as u64;
        *rows.entry(row).or_default() += bucket.count;
    }
    rows.into_iter().flat_map(|(row, count)| [row, count]).collect()
}

/// Parts of equal length, the last one of each turn perhaps shorter.
fn grouped(intervals: &[Interval], columns_max: usize) -> Vec<&[Interval]> {
    let length = intervals.len().div_ceil(columns_max).max(1);
    let turns = intervals.chunk_by(|before, after| after.follows(before));
    // No run has turns by the hundred; a log that jumps all the time is divided without a look at them.
    if turns.clone().count() > columns_max {
        return intervals.chunks(length).collect();
    }
    turns.flat_map(|turn| turn.chunks(length)).collect()
}

fn valid(group: &[Interval]) -> impl Iterator<Item = &Interval> {
    group.iter().filter(|interval| interval.invalid.is_none())
}

fn stretches(intervals: &[Interval]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for interval in intervals {
        let Some(why) = &interval.invalid else { continue };
        let (start_s, end_s) =
            (seconds(interval.start_ns), seconds(interval.start_ns.saturating_add(interval.length_ns)));
        match stretches.last_mut() {
            Some(last) if (start_s - last.end_s).abs() < 1e-3 => {
                last.end_s = end_s;
                last.intervals += 1;
            }
            _ => stretches.push(Stretch { start_s, end_s, intervals: 1, why: shortened(why) }),
        }
    }
    while stretches.len() > STRETCHES_MAX {
        stretches = stretches.chunks(2).map(joined).collect();
    }
    stretches
}

fn joined(stretches: &[Stretch]) -> Stretch {
    let mut joined = stretches[0].clone();
    for next in &stretches[1..] {
        joined.end_s = next.end_s;
        joined.intervals += next.intervals;
    }
    joined
}

/// `[a.b] c = 1` as `a.b.c` and `1`. What is not TOML is shown as it is.
fn flattened(toml: &str) -> Rows {
    let mut rows = Rows::new();
    match toml.parse::<toml::Table>() {
        Ok(table) => table.iter().for_each(|(key, value)| flatten(key.clone(), value, &mut rows)),
        Err(_) if toml.trim().is_empty() => {}
        Err(_) => rows.push(("workload.toml".into(), toml.into())),
    }
    rows
}

fn flatten(name: String, value: &toml::Value, rows: &mut Rows) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(key, value)| flatten(format!("{name}.{key}"), value, rows));
        }
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            values.iter().enumerate().for_each(|(at, value)| flatten(format!("{name}[{at}]"), value, rows));
        }
        toml::Value::String(text) => rows.push((name, shortened(text))),
        other => rows.push((name, other.to_string())),
    }
}

fn broker(result: &RunResult) -> Rows {
    let broker = &result.broker;
    let rows = [
        ("cluster id", broker.cluster_id.clone()),
        ("brokers", broker.brokers.join(", ")),
        ("software", broker.software.clone()),
        ("features", broker.features.join(", ")),
        ("APIs", broker.api_versions.join(", ")),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn bounded(mut rows: Rows) -> Rows {
    let more = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    for (name, value) in &mut rows {
        *name = shortened(name);
        *value = shortened(value);
    }
    if more > 0 {
        rows.push((format!("{more} more"), "left out here; the run's own files have them".into()));
    }
    rows
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_BYTES_MAX).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

pub(super) fn seconds(ns: u64) -> f64 {
    rounded(ns as f64 / 1e9)
}

/// To what a picture can show.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;

    fn packed(values: &[(u64, u64)]) -> Packed {
        let mut histogram = Histogram::of_client();
        values.iter().for_each(|(value, count)| histogram.record_n(*value, *count));
        Packed::from(&histogram)
    }

    fn interval(number: u64, invalid: bool, values: &[(u64, u64)]) -> Interval {
        Interval {
            start_ns: number * 1_000_000_000,
            length_ns: 1_000_000_000,
            invalid: invalid.then(|| "late".to_owned()),
            produce: packed(values),
            e2e: Packed::empty(),
            lateness: Packed::empty(),
            counts: Counts { acked: 100, ..Counts::default() },
        }
    }

    #[test]
    fn a_curve_ends_at_the_one_slowest() {
        assert_eq!(curve(&packed(&[])), []);
        assert_eq!(curve(&packed(&[(1_000_000, 1)])).len(), 2);
        let points = curve(&packed(&[(1_000_000, 900), (20_000_000, 99), (700_000_000, 1)]));
        // Three nines in steps, and the end.
        assert_eq!(points.len(), 3 * POINTS_PER_NINE as usize + 2);
        let at = |nines: f64| points.iter().rfind(|(x, _)| *x <= nines).expect("a point").1 / 1_000_000;
        assert_eq!([at(0.0), at(0.5), at(1.5), at(2.9), at(3.0)], [1, 1, 20, 20, 700]);
    }

    #[test]
    fn cells_hold_every_count_in_its_row() {
        let cells = cells(&packed(&[(1_000_000, 5), (1_010_000, 5), (10_100_000, 1), (0, 2)]));
        assert_eq!(cells.chunks(2).map(|cell| cell[1]).sum::<u64>(), 13);
        // 10⁶ ns and a little is the sixth decade's first row.
        assert_eq!(cells[2..], [6 * 16, 10, 7 * 16, 1]);
    }

    #[test]
    fn long_runs_get_as_many_columns_as_there_may_be() {
        for (count, columns, longest) in [(0, 0, 0), (1, 1, 1), (240, 240, 1), (241, 121, 2), (3600, 240, 15)] {
            let intervals: Vec<Interval> = (0..count).map(|i| interval(i, false, &[])).collect();
            let groups = grouped(&intervals, 240);
            assert_eq!((groups.len(), groups.iter().map(|g| g.len()).max().unwrap_or(0)), (columns, longest));
            assert_eq!(groups.iter().map(|group| group.len() as u64).sum::<u64>(), count);
        }
        // A column holds intervals of one turn, unless there would be too many columns.
        let turns: Vec<Interval> = (0..70).map(|i| interval(i + i / 7 * 5, false, &[])).collect();
        assert!(
            grouped(&turns, 14)
                .iter()
                .all(|group| group.last().expect("some").start_ns < group[0].start_ns + 5_000_000_000)
        );
        assert_eq!((grouped(&turns, 14).len(), grouped(&turns, 9).len()), (20, 9));
    }

    #[test]
    fn invalid_intervals_are_in_no_column_but_in_their_stretch() {
        let rows = [(0, false), (1, true), (2, true), (3, false), (4, false), (5, true)];
        let intervals: Vec<Interval> =
            rows.iter().map(|(at, invalid)| interval(*at, *invalid, &[(1_000_000 * (at + 1), 10)])).collect();
        let mut result = RunResult::begin(0);
        result.intervals = intervals.clone();
        let groups = grouped(&intervals, 3);
        let metric = MetricView::of(&result, &groups, |interval| &interval.produce);
        assert_eq!(
            metric.p50.iter().map(|p50| p50.map(|ns| ns / 1_000_000)).collect::<Vec<_>>(),
            [Some(1), Some(4), Some(5)]
        );
        assert_eq!(metric.heat.iter().map(|column| column[1]).collect::<Vec<_>>(), [10, 10, 10]);
        assert_eq!(Columns::of(&groups).acked, [Some(100.0); 3]);
        let stretches = stretches(&intervals);
        let told: Vec<_> = stretches.iter().map(|s| (s.start_s, s.end_s, s.intervals, s.why.as_str())).collect();
        assert_eq!(told, [(1.0, 3.0, 2, "late"), (5.0, 6.0, 1, "late")]);
        let alone = grouped(&intervals, 6);
        assert_eq!(Columns::of(&alone).acked[1..4], [None, None, Some(100.0)]);
    }

    #[test]
    fn stretches_are_bounded_and_lose_no_interval() {
        let intervals: Vec<Interval> = (0..4001).map(|i| interval(i, i % 2 == 0, &[])).collect();
        let stretches = stretches(&intervals);
        assert!(stretches.len() <= STRETCHES_MAX);
        assert_eq!(stretches.iter().map(|stretch| stretch.intervals).sum::<usize>(), 2001);
        assert_eq!((stretches[0].start_s, stretches.last().map(|s| s.end_s)), (0.0, Some(4001.0)));
    }

    #[test]
    fn a_workload_is_shown_key_by_key() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let rows = flattened(text);
            let rows: Vec<(&str, &str)> = rows.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(rows, expect, "{text}");
        };
        check("", &[]);
        check("seed = 7\n[topic]\nname = \"a<b>\"\n", &[("seed", "7"), ("topic.name", "a<b>")]);
        check("[[g]]\nn = 1\n[[g]]\nn = 2\n", &[("g[0].n", "1"), ("g[1].n", "2")]);
        check("sizes = [1, 2]\n", &[("sizes", "[1, 2]")]);
        check("not toml", &[("workload.toml", "not toml")]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = format!("{}é", "a".repeat(TEXT_BYTES_MAX - 1));
        assert_eq!(shortened(&text), format!("{}…", "a".repeat(TEXT_BYTES_MAX - 1)));
        let rows = bounded(vec![("a".into(), "b".into()); ROWS_MAX + 3]);
        assert_eq!((rows.len(), rows[ROWS_MAX].0.as_str()), (ROWS_MAX + 1, "3 more"));
    }
}
