//! `corelog compare`: runs side by side, and which differences are more than chance.
//!
//! The first run is what the others are compared with. Runs whose workloads differ in anything that is not named by
//! `--differs` are refused; machines and brokers that differ are told of, loudly.
//!
//! *Owns*: what may differ, and the words of a verdict. *Never*: uses an invalid interval, or calls a difference that
//! chance explains. *Runs on*: any thread.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::base::rng::Rng;
use crate::bench::bootstrap::{
    self, BEYOND_MIN, Counted, Draws, INTERVALS_BEYOND_MIN, INTERVALS_MIN, Series, TURNS_MIN, TooFew,
};
use crate::bench::capsule::Capsule;
use crate::bench::packed::{Packed, Sum};
use crate::bench::result::{Interval, RunResult};
use crate::bench::summary::{Mode, QUANTILES};

/// So that the same runs always give the same intervals.
const SEED: u64 = 0x636f_6d70_6172_6521;

/// Workload keys that do not change what is measured.
const FREE_KEYS: [&str; 5] = ["seed", "bootstrap", "topic", "out", "name"];

/// Broker settings that say where a broker is and not what it does.
const FREE_SETTINGS: [&str; 11] = [
    "advertised.host",
    "advertised.listeners",
    "broker.id",
    "cluster.id",
    "data.dir",
    "http.listen",
    "listen",
    "listeners",
    "log.dir",
    "log.dirs",
    "node.id",
];

/// The value of a fact that a run does not have.
const NOT_SAID: &str = "not said";

/// What is compared: the histograms of an interval, and its counts.
static LATENCIES: &[(&str, HistogramOf)] =
    &[("produce latency", |interval| &interval.produce), ("end-to-end latency", |interval| &interval.e2e)];
static RATES: &[(&str, Unit, CountOf)] = &[
    ("acknowledged records", Unit::RecordsPerSecond, |interval| interval.counts.acked),
    ("acknowledged bytes", Unit::BytesPerSecond, |interval| interval.counts.acked_bytes),
    ("consumed records", Unit::RecordsPerSecond, |interval| interval.counts.received),
    ("consumed bytes", Unit::BytesPerSecond, |interval| interval.counts.received_bytes),
];

type HistogramOf = fn(&Interval) -> &Packed;
type CountOf = fn(&Interval) -> u64;

/// Several runs compared with the first of them.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    pub names: Vec<String>,
    /// What differs between the runs and was not named.
    pub unnamed: Vec<Difference>,
    /// What differs, and was said to.
    pub named: Vec<Difference>,
    /// What else the reader must know: files that could not be read, intervals left out.
    pub notes: Vec<String>,
    pub metrics: Vec<Metric>,
}

/// A fact that is not the same in all runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    pub name: String,
    /// In the order of the runs.
    pub values: Vec<String>,
}

/// One quantity that was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Metric {
    pub name: String,
    pub unit: Unit,
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanoseconds,
    RecordsPerSecond,
    BytesPerSecond,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// `p50` … `p99.999`, `max`, `mean rate`.
    pub name: String,
    /// In the order of the runs.
    pub values: Vec<f64>,
    /// Of the second run to the first, of the third to the first, …
    pub against: Vec<Against>,
}

/// One run's value against the first run's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Against {
    pub ratio: Option<f64>,
    /// The 95 % confidence interval of the ratio.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub verdict: Verdict,
    /// Why there is no verdict.
    pub why: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better than the first run: less latency, or more throughput.
    Faster,
    Slower,
    NotToldApart,
    /// There are too few values, or none.
    None,
}

/// Why runs are not compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Compares runs with the first. `differs` names what may differ: a fact, or a group of them by the part before a dot.
pub fn compare(runs: &[Capsule], differs: &[String]) -> Result<Comparison, Refused> {
    compare_with(runs, differs, bootstrap::DRAWS)
}

fn compare_with(runs: &[Capsule], differs: &[String], draws: usize) -> Result<Comparison, Refused> {
    if runs.len() < 2 {
        return Err(Refused { message: "one run cannot be compared: give two or more".to_owned() });
    }
    let mut notes: Vec<String> = runs.iter().flat_map(|run| run.notes.iter().cloned()).collect();
    let (named, unnamed) = differences(runs, differs, &mut notes);
    refuse_other_workloads(&unnamed)?;
    let names = names(runs);
    for (name, run) in names.iter().zip(runs) {
        let (all, valid) = (run.result.intervals.len(), run.result.valid().count());
        if valid == 0 {
            return Err(Refused { message: format!("{name} has no valid interval: there is nothing to compare") });
        }
        if valid < all {
            notes.push(format!("{name}: {} of {all} intervals are invalid and left out", all - valid));
        }
        if run.result.totals.lost > 0 {
            notes.push(format!("{name}: LOST {} records", run.result.totals.lost));
        }
    }
    let mut metrics = Vec::new();
    for (name, of) in LATENCIES {
        metrics.extend(latency(name, runs, *of, draws));
    }
    for (name, unit, of) in RATES {
        metrics.extend(rate(name, *unit, runs, *of, draws));
    }
    Ok(Comparison { names, unnamed, named, notes, metrics })
}

/// Names to tell runs apart by: those of the capsules, with their place when two are the same.
fn names(runs: &[Capsule]) -> Vec<String> {
    let is_single = |name: &str| runs.iter().filter(|run| run.name == name).count() == 1;
    let numbered = runs.iter().enumerate().map(|(number, run)| match is_single(&run.name) {
        true => run.name.clone(),
        false => format!("{} (number {})", run.name, number + 1),
    });
    numbered.collect()
}

fn latency(name: &str, runs: &[Capsule], of: HistogramOf, draws: usize) -> Option<Metric> {
    let histograms: Vec<Vec<&Packed>> = runs.iter().map(|run| run.result.valid().map(of).collect()).collect();
    let totals: Vec<Packed> = histograms.iter().map(|run| Sum::of(run.iter().copied())).collect();
    if totals.iter().any(Packed::is_empty) {
        return None;
    }
    // One at a time in memory: a run of an hour takes 50 MB in this form.
    let drawn: Vec<Vec<Result<Draws, TooFew>>> = (histograms.iter().enumerate())
        .map(|(number, run)| {
            let series = Series::of(run, &turns(&runs[number].result));
            let of_quantile = |(at, quantile): (usize, &f64)| {
                let mut rng = Rng::new(SEED ^ ((number * QUANTILES.len() + at) as u64));
                series.draw(*quantile, draws, &mut rng)
            };
            QUANTILES.iter().enumerate().map(of_quantile).collect()
        })
        .collect();
    let values: Vec<Vec<u64>> = totals.iter().map(|total| total.values_at(&QUANTILES)).collect();
    let mut rows: Vec<Row> = (0..QUANTILES.len())
        .map(|at| Row {
            name: percentile_name(QUANTILES[at]),
            values: values.iter().map(|run| run[at] as f64).collect(),
            against: (1..runs.len()).map(|run| against(&drawn[0][at], &drawn[run][at], Better::Less)).collect(),
        })
        .collect();
    for row in &mut rows {
        for (run, against) in row.against.iter_mut().enumerate() {
            against.ratio.get_or_insert(row.values[run + 1] / row.values[0]);
        }
    }
    let maxima: Vec<f64> = totals.iter().map(|total| total.max_ns() as f64).collect();
    let why = "a maximum is one event: nothing says how often it comes";
    let single = |value: &f64| Against::without(Some(value / maxima[0]), why.to_owned());
    rows.push(Row { name: "max".to_owned(), against: maxima[1..].iter().map(single).collect(), values: maxima });
    Some(Metric { name: name.to_owned(), unit: Unit::Nanoseconds, rows })
}

fn rate(name: &str, unit: Unit, runs: &[Capsule], of: CountOf, draws: usize) -> Option<Metric> {
    let column = |run: &Capsule, of: &dyn Fn(&Interval) -> f64| run.result.valid().map(of).collect::<Vec<f64>>();
    let counts: Vec<Vec<f64>> = runs.iter().map(|run| column(run, &|interval| of(interval) as f64)).collect();
    let lengths: Vec<Vec<f64>> =
        runs.iter().map(|run| column(run, &|interval| interval.length_ns as f64 / 1e9)).collect();
    let values: Vec<f64> =
        counts.iter().zip(&lengths).map(|(c, l)| c.iter().sum::<f64>() / l.iter().sum::<f64>()).collect();
    if values.iter().any(|value| !value.is_finite() || *value <= 0.0) {
        return None;
    }
    let drawn: Vec<Result<Draws, TooFew>> = (0..runs.len())
        .map(|run| {
            let turns = turns(&runs[run].result);
            let counted = Counted { counts: &counts[run], lengths: &lengths[run], turns: &turns };
            bootstrap::draw_rate(counted, draws, &mut Rng::new(SEED ^ run as u64))
        })
        .collect();
    let mut against: Vec<Against> = drawn[1..].iter().map(|run| against(&drawn[0], run, Better::More)).collect();
    for (run, against) in against.iter_mut().enumerate() {
        against.ratio.get_or_insert(values[run + 1] / values[0]);
    }
    let rows = vec![Row { name: "mean rate".to_owned(), values, against }];
    Some(Metric { name: name.to_owned(), unit, rows })
}

/// How many valid intervals there are in each turn that has any. Turns are told by the time between them.
fn turns(result: &RunResult) -> Vec<usize> {
    let turns = result.intervals.chunk_by(|before, after| after.follows(before));
    let mut turns: Vec<usize> = turns.map(|turn| turn.iter().filter(|i| i.invalid.is_none()).count()).collect();
    turns.retain(|intervals| *intervals > 0);
    turns
}

#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
}

fn against(first: &Result<Draws, TooFew>, other: &Result<Draws, TooFew>, better: Better) -> Against {
    let (first, other) = match (first, other) {
        (Ok(first), Ok(other)) => (first, other),
        (Err(few), _) => return Against::without(None, format!("too few to tell: the first run has {few}")),
        (_, Err(few)) => return Against::without(None, format!("too few to tell: this run has {few}")),
    };
    let ratio = bootstrap::ratio(first, other);
    let verdict = match better {
        Better::Less if ratio.high < 1.0 => Verdict::Faster,
        Better::Less if ratio.low > 1.0 => Verdict::Slower,
        Better::More if ratio.high < 1.0 => Verdict::Slower,
        Better::More if ratio.low > 1.0 => Verdict::Faster,
        _ => Verdict::NotToldApart,
    };
    Against { ratio: Some(ratio.ratio), low: Some(ratio.low), high: Some(ratio.high), verdict, why: None }
}

impl Against {
    fn without(ratio: Option<f64>, why: String) -> Against {
        Against { ratio, low: None, high: None, verdict: Verdict::None, why: Some(why) }
    }
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooFew::Intervals(count) => write!(f, "{count} intervals, and {INTERVALS_MIN} are needed"),
            TooFew::Turns(count) => write!(f, "{count} turns, and {TURNS_MIN} are needed"),
            TooFew::Values(count) => write!(f, "{count} values beyond it, and {BEYOND_MIN} are needed"),
            TooFew::IntervalsBeyond(count) => {
                write!(f, "values beyond it in {count} intervals, and {INTERVALS_BEYOND_MIN} are needed")
            }
        }
    }
}

/// `p50`, `p99.9`.
pub fn percentile_name(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What differs between runs: first what `differs` names, then the rest.
fn differences(runs: &[Capsule], differs: &[String], notes: &mut Vec<String>) -> (Vec<Difference>, Vec<Difference>) {
    let facts: Vec<BTreeMap<String, String>> = runs.iter().map(|run| facts(run, notes)).collect();
    let mut all: Vec<&String> = facts.iter().flat_map(BTreeMap::keys).collect();
    all.sort();
    all.dedup();
    let of = |name: &String| {
        // A log alone says nothing of itself, which is no difference.
        let known: Vec<Option<&String>> = facts.iter().filter(|run| !run.is_empty()).map(|run| run.get(name)).collect();
        if known.iter().all(|value| *value == known[0]) {
            return None;
        }
        let value = |run: &BTreeMap<String, String>| run.get(name).cloned().unwrap_or_else(|| NOT_SAID.to_owned());
        Some(Difference { name: name.clone(), values: facts.iter().map(value).collect() })
    };
    all.into_iter().filter_map(of).partition(|difference| differs.iter().any(|name| covers(name, &difference.name)))
}

/// A name covers itself and everything below it, with or without the group in front.
fn covers(name: &str, fact: &str) -> bool {
    let is_within = |fact: &str| fact.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    is_within(fact) || fact.split_once('.').is_some_and(|(_, inner)| is_within(inner))
}

fn facts(run: &Capsule, notes: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    // Of a log alone nothing is known, and `notes` says so already.
    if run.workload.is_empty() && run.environment.facts.is_empty() {
        return facts;
    }
    let kind = match run.mode {
        Mode::OpenLoop => "open",
        Mode::ClosedLoop => "closed",
    };
    facts.insert("workload.loop".to_owned(), kind.to_owned());
    match run.workload.parse::<toml::Table>() {
        Ok(table) => {
            for (key, value) in table.iter().filter(|(key, _)| !FREE_KEYS.contains(&key.as_str())) {
                flatten(&format!("workload.{key}"), value, &mut facts);
            }
        }
        Err(error) => notes.push(format!("{}: workload.toml: {}: it is not compared", run.name, error.message())),
    }
    let machine = run.environment.facts.iter().map(|(name, value)| (format!("machine.{name}"), value.clone()));
    facts.extend(machine);
    let broker = &run.result.broker;
    facts.insert("broker.count".to_owned(), broker.brokers.len().to_string());
    facts.insert("broker.api_versions".to_owned(), broker.api_versions.join(", "));
    let told = [("broker.software", broker.software.clone()), ("broker.features", broker.features.join(", "))];
    facts.extend(told.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)));
    let settings = broker.configs.iter().filter(|(name, _)| !FREE_SETTINGS.contains(&name.as_str()));
    facts.extend(settings.map(|(name, value)| (format!("broker.{name}"), value.clone())));
    facts
}

fn flatten(name: &str, value: &toml::Value, facts: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, facts));
        }
        toml::Value::String(text) => drop(facts.insert(name.to_owned(), text.clone())),
        other => drop(facts.insert(name.to_owned(), other.to_string())),
    }
}

fn refuse_other_workloads(unnamed: &[Difference]) -> Result<(), Refused> {
    let workload: Vec<&Difference> = unnamed.iter().filter(|d| d.name.starts_with("workload.")).collect();
    // A run of which no workload is known differs in everything: the notes say so.
    let is_known = |run: usize| workload.iter().any(|d| d.values[run] != NOT_SAID);
    let runs = workload.first().map_or(0, |difference| difference.values.len());
    if workload.is_empty() || (0..runs).any(|run| !is_known(run)) {
        return Ok(());
    }
    let lines = workload.iter().map(|d| format!("\n  {}: {}", d.name, d.values.join(" | ")));
    let names: Vec<&str> = workload.iter().map(|d| d.name.trim_start_matches("workload.")).collect();
    Err(Refused {
        message: format!(
            "these runs did not do the same:{}\nTo compare them all the same, say that it is meant: --differs {}",
            lines.collect::<String>(),
            names.join(" --differs ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;
    use crate::bench::bootstrap::testing::Wandering;
    use crate::bench::environment::Environment;
    use crate::bench::result::Counts;

    const BASE: Wandering = Wandering { intervals: 30, values: 80, correlation: 0.3, stray: 0.1, scale: 1.0 };

    fn capsule(name: &str, produce: Vec<Packed>) -> Capsule {
        let mut result = RunResult::begin(0);
        result.intervals = (produce.into_iter().enumerate())
            .map(|(number, produce)| Interval {
                start_ns: number as u64 * 1_000_000_000,
                length_ns: 1_000_000_000,
                invalid: None,
                counts: Counts { acked: produce.count(), ..Counts::default() },
                produce,
                e2e: Packed::empty(),
                lateness: Packed::empty(),
            })
            .collect();
        let mut environment = Environment::default();
        environment.set("kernel.release", Some("6.12".to_owned()));
        Capsule {
            name: name.to_owned(),
            workload: "rate = 1000\nseed = 1\n[records]\nsize = 100\n".to_owned(),
            command: String::new(),
            mode: Mode::OpenLoop,
            seed: 1,
            environment,
            result,
            notes: Vec::new(),
        }
    }

    fn run(name: &str, scale: f64, seed: u64) -> Capsule {
        capsule(name, Wandering { scale, ..BASE }.run(&mut Rng::new(seed)))
    }

    fn row<'a>(comparison: &'a Comparison, metric: &str, name: &str) -> &'a Row {
        let metric = comparison.metrics.iter().find(|found| found.name == metric).expect("there");
        metric.rows.iter().find(|row| row.name == name).expect("there")
    }

    #[test]
    fn each_run_is_told_from_the_first() {
        let runs = [run("a", 1.0, 1), run("b", 0.5, 2), run("c", 3.0, 3)];
        let comparison = compare_with(&runs, &[], 200).expect("compared");
        let median = row(&comparison, "produce latency", "p50");
        let verdicts: Vec<Verdict> = median.against.iter().map(|against| against.verdict).collect();
        assert_eq!(verdicts, [Verdict::Faster, Verdict::Slower]);
        assert_eq!(median.values.len(), 3);
        let few = &row(&comparison, "produce latency", "p99.999").against[0];
        assert_eq!(few.verdict, Verdict::None);
        assert!(few.why.as_ref().expect("told").contains("20 are needed") && few.ratio.is_some());
        assert_eq!(row(&comparison, "produce latency", "max").against[1].verdict, Verdict::None);
        let rate = &row(&comparison, "acknowledged records", "mean rate");
        assert_eq!((rate.values[0], rate.against[0].verdict), (80.0, Verdict::NotToldApart));
        assert_eq!(comparison.metrics.len(), 2, "nothing was consumed");
        // The same question has the same answer.
        assert_eq!(compare_with(&runs, &[], 200), Ok(comparison));
    }

    #[test]
    fn equal_runs_are_not_told_apart_as_often_as_promised() {
        // Of 200 pairs 5 % may be told apart: at most 19 by three standard deviations.
        let (mut apart, mut all) = (0, 0);
        for seed in 0..200 {
            let runs = [run("a", 1.0, 2 * seed + 1000), run("b", 1.0, 2 * seed + 1001)];
            let comparison = compare_with(&runs, &[], 200).expect("compared");
            all += 1;
            apart +=
                usize::from(row(&comparison, "produce latency", "p50").against[0].verdict != Verdict::NotToldApart);
        }
        assert!(apart <= 19, "{apart} of {all}");
        let same = run("a", 1.0, 7);
        let comparison = compare_with(&[same.clone(), same], &[], 200).expect("compared");
        for row in comparison.metrics.iter().flat_map(|metric| &metric.rows) {
            assert!(matches!(row.against[0].verdict, Verdict::NotToldApart | Verdict::None), "{row:?}");
        }
        assert_eq!(comparison.names, ["a (number 1)", "a (number 2)"]);
    }

    #[test]
    fn invalid_intervals_are_left_out() {
        let (a, mut b) = (run("a", 1.0, 1), run("b", 1.0, 2));
        for interval in &mut b.result.intervals[..5] {
            interval.invalid = Some("late".to_owned());
            interval.produce = Packed::from(&{
                let mut histogram = Histogram::of_client();
                histogram.record_n(60_000_000_000, 1_000_000);
                histogram
            });
        }
        let comparison = compare_with(&[a.clone(), b.clone()], &[], 100).expect("compared");
        assert!(row(&comparison, "produce latency", "max").values[1] < 1e9);
        assert_eq!(comparison.notes, ["b: 5 of 30 intervals are invalid and left out"]);
        b.result.intervals.iter_mut().for_each(|interval| interval.invalid = Some("late".to_owned()));
        let error = compare_with(&[a, b], &[], 100).expect_err("nothing left").to_string();
        assert!(error.contains("b has no valid interval"), "{error}");
    }

    #[test]
    fn other_workloads_are_refused_unless_meant() {
        let check = |change: &dyn Fn(&mut Capsule), differs: &[&str], expect: Result<(usize, usize), &str>| {
            let (a, mut b) = (run("a", 1.0, 1), run("b", 1.0, 2));
            change(&mut b);
            let differs: Vec<String> = differs.iter().map(|name| (*name).to_owned()).collect();
            match (compare_with(&[a, b], &differs, 20), expect) {
                (Ok(comparison), Ok(expect)) => {
                    assert_eq!((comparison.unnamed.len(), comparison.named.len()), expect, "{comparison:?}");
                }
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{expect}: {error}"),
                (found, expect) => panic!("{found:?} and not {expect:?}"),
            }
        };
        let rate = |run: &mut Capsule| run.workload = run.workload.replace("1000", "2000");
        let size = |run: &mut Capsule| run.workload = run.workload.replace("100\n", "200\n");
        let kernel = |run: &mut Capsule| run.environment.set("kernel.release", Some("5.4".to_owned()));
        let both = |run: &mut Capsule| {
            rate(run);
            kernel(run);
        };
        check(&|_| {}, &[], Ok((0, 0)));
        check(&|run| run.workload = run.workload.replace("seed = 1", "seed = 2"), &[], Ok((0, 0)));
        check(
            &rate,
            &[],
            Err("workload.rate: 1000 | 2000\nTo compare them all the same, say that it is meant: --differs rate"),
        );
        check(&rate, &["rate"], Ok((0, 1)));
        check(&rate, &["workload"], Ok((0, 1)));
        check(&rate, &["rat", "kernel"], Err("--differs rate"));
        check(&size, &["records"], Ok((0, 1)));
        check(&size, &["workload.records.size"], Ok((0, 1)));
        check(&|run| run.mode = Mode::ClosedLoop, &[], Err("loop: open | closed"));
        check(&kernel, &[], Ok((1, 0)));
        check(&kernel, &["kernel"], Ok((0, 1)));
        check(&both, &["rate"], Ok((1, 1)));
        check(&|run| run.result.broker.configs.push(("a.b".into(), "1".into())), &["broker"], Ok((0, 1)));
        check(&|run| run.result.broker.configs.push(("data.dir".into(), "x".into())), &[], Ok((0, 0)));
        // A log alone has nothing to differ in.
        check(&|run| (run.workload, run.environment) = (String::new(), Environment::default()), &[], Ok((0, 0)));
        check(&|run| run.workload = "rate = \n".to_owned(), &[], Ok((2, 0)));
    }

    #[test]
    fn turns_are_told_by_the_time_between_them() {
        let mut result = run("a", 1.0, 1).result;
        assert_eq!(turns(&result), [30]);
        for (number, interval) in result.intervals.iter_mut().enumerate() {
            interval.start_ns += (number as u64 / 10) * 600_000_000;
            interval.invalid = (3..12).contains(&number).then(|| "late".to_owned());
        }
        assert_eq!(turns(&result), [3, 8, 10]);
        result.intervals.clear();
        assert!(turns(&result).is_empty());
    }

    #[test]
    fn percentiles_have_their_usual_names() {
        let names: Vec<String> = QUANTILES.iter().map(|quantile| percentile_name(*quantile)).collect();
        assert_eq!(names, ["p50", "p90", "p99", "p99.9", "p99.99", "p99.999"]);
    }
}
