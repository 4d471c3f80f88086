//! Two targets on one machine, measured in turns, until it is known which is faster.
//!
//! A round is the four turns A B B A, so that what drifts on the machine from minute to minute meets both alike. After
//! each round the runs so far are compared; when all ratios that count are known closely enough, no more are made.
//! That looks at how wide the intervals are and never at where they lie, so stopping early favours no verdict.
//!
//! *Owns*: the order of turns, when it is enough, and putting turns together. *Never*: measures a turn itself.
//! *Runs on*: the thread that asked.

use std::fmt;

use crate::bench::bootstrap::TURNS_MIN;
use crate::bench::capsule::Capsule;
use crate::bench::compare::{Comparison, Refused, compare};
use crate::bench::hlog::{self, Entry, Log};
use crate::bench::result::RunResult;

/// The order of turns in a round: indices of the targets.
pub const ROUND: [usize; 4] = [0, 1, 1, 0];

/// Turns that each target has in a round.
const TURNS_PER_ROUND: u32 = 2;

/// Before so many rounds nothing is known of how much turns differ.
pub const ROUNDS_MIN: u32 = TURNS_MIN as u32 / TURNS_PER_ROUND;

/// The rows of a comparison that must be known closely: those beyond need more values than most runs have.
const CLOSE_ROWS: [&str; 4] = ["p50", "p90", "p99", "mean rate"];

/// What is meant to differ between two targets of one workload.
const DIFFERS: [&str; 1] = ["broker"];

/// How long to go on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// A ratio is known closely enough when its interval reaches no further than this share to either side.
    pub tight: f64,
    pub rounds_max: u32,
}

/// Both targets' runs, put together from their turns.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub runs: [Capsule; 2],
    pub comparison: Result<Comparison, Refused>,
    pub ended: Ended,
}

/// Why no more turns were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// After so many rounds all is known closely enough.
    Tight(u32),
    RoundsMax(u32),
    /// A turn failed; what was measured is kept.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Tight(rounds) => write!(f, "the intervals are as tight as asked for after {rounds} rounds"),
            Ended::RoundsMax(rounds) => {
                write!(f, "the intervals are wider than asked for after {rounds} rounds, and no more are allowed")
            }
            Ended::Failed(why) => write!(f, "CUT SHORT: {why}; what was measured until then is kept"),
        }
    }
}

/// A turn, as it is announced and measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    pub target: usize,
    /// From 1.
    pub round: u32,
    /// From 1, within the round.
    pub number: u32,
}

/// A turn that came to no good end.
#[derive(Clone, PartialEq, Debug)]
pub struct TurnFailed {
    pub why: String,
    /// What was measured until then.
    pub kept: Option<Box<RunResult>>,
}

/// Measures in turns. `runs` say what is known of both targets before: their results are empty. `measure` makes one
/// turn, `watch` gets the comparison after each round.
pub fn versus(
    plan: Plan,
    runs: [Capsule; 2],
    measure: &mut dyn FnMut(Turn) -> Result<RunResult, TurnFailed>,
    watch: &mut dyn FnMut(u32, &Comparison),
) -> Outcome {
    assert!(plan.rounds_max >= ROUNDS_MIN, "the caller checks it");
    let mut growing = Growing { runs, is_begun: [false; 2], stages: [Log::default(), Log::default()] };
    let mut ended = Ended::RoundsMax(plan.rounds_max);
    'rounds: for round in 1..=plan.rounds_max {
        for (number, target) in (1..).zip(ROUND) {
            match measure(Turn { target, round, number }) {
                Ok(result) => growing.add(target, result),
                Err(TurnFailed { why, kept }) => {
                    kept.into_iter().for_each(|result| growing.add(target, *result));
                    ended = Ended::Failed(why);
                    break 'rounds;
                }
            }
        }
        if let Ok(comparison) = growing.compared() {
            watch(round, &comparison);
            if round >= ROUNDS_MIN && widest(&comparison).is_some_and(|widest| widest <= plan.tight) {
                ended = Ended::Tight(round);
                break;
            }
        }
    }
    let comparison = growing.compared();
    Outcome { runs: growing.finish(), comparison, ended }
}

/// How far the widest of the intervals that count reaches to either side, as a share; none while one is not known.
pub fn widest(comparison: &Comparison) -> Option<f64> {
    let rows = comparison.metrics.iter().flat_map(|metric| &metric.rows);
    let mut widest: Option<f64> = None;
    for row in rows.filter(|row| CLOSE_ROWS.contains(&row.name.as_str())) {
        let against = row.against.first()?;
        let reach = (against.high? / against.low?).sqrt() - 1.0;
        widest = Some(widest.map_or(reach, |widest| widest.max(reach)));
    }
    widest
}

/// Both runs, turn by turn.
struct Growing {
    runs: [Capsule; 2],
    is_begun: [bool; 2],
    stages: [Log; 2],
}

impl Growing {
    fn compared(&self) -> Result<Comparison, Refused> {
        compare(&self.runs, &DIFFERS.map(str::to_owned))
    }

    /// Puts a turn behind those before, as much later as it was by the wall clock.
    fn add(&mut self, target: usize, turn: RunResult) {
        let result = &mut self.runs[target].result;
        if !std::mem::replace(&mut self.is_begun[target], true) {
            result.started_wall_ms = turn.started_wall_ms;
            result.broker = turn.broker;
        }
        let after_ms = u64::try_from(turn.started_wall_ms - result.started_wall_ms).unwrap_or(0);
        // Should the wall clock be set back, turns stay apart all the same.
        let first_free_ns = result.intervals.last().map_or(0, |last| last.start_ns + 2 * last.length_ns);
        let after_ns = (after_ms * 1_000_000).max(first_free_ns);
        for mut interval in turn.intervals {
            interval.start_ns += after_ns;
            result.intervals.push(interval);
        }
        result.connect.merge(&turn.connect);
        result.metadata.merge(&turn.metadata);
        result.join.merge(&turn.join);
        result.commit.merge(&turn.commit);
        result.totals += turn.totals;
        for (at, topic) in turn.topics.into_iter().enumerate() {
            match result.topics.get_mut(at) {
                Some(sum) => sum.add(&topic),
                None => result.topics.push(topic),
            }
        }
        if let Some(writes) = turn.writes {
            *result.writes.get_or_insert_default() += writes;
        }
        for (message, count) in turn.complaints {
            match result.complaints.iter_mut().find(|(known, _)| *known == message) {
                Some((_, sum)) => *sum += count,
                None => result.complaints.push((message, count)),
            }
        }
        if let Some(text) = turn.stages_hlog {
            let log = hlog::read(text.as_bytes(), "stages.hlog").unwrap_or_else(|broken| broken.read);
            let stages = &mut self.stages[target];
            stages.started_wall_ms.get_or_insert(result.started_wall_ms);
            let later = |entry: Entry| Entry { start_ns: entry.start_ns + after_ns, ..entry };
            stages.entries.extend(log.entries.into_iter().map(later));
        }
    }

    fn finish(mut self) -> [Capsule; 2] {
        for (run, stages) in self.runs.iter_mut().zip(&self.stages) {
            if stages.entries.is_empty() {
                continue;
            }
            let mut text = Vec::new();
            stages.write(&mut text).expect("memory takes everything");
            run.result.stages_hlog = Some(String::from_utf8_lossy(&text).into_owned());
        }
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::bench::bootstrap::testing::Wandering;
    use crate::bench::compare::Verdict;
    use crate::bench::environment::Environment;
    use crate::bench::packed::Packed;
    use crate::bench::result::{Counts, Interval};
    use crate::bench::summary::Mode;

    const SECOND_NS: u64 = 1_000_000_000;
    const INTERVALS: usize = 12;

    fn runs() -> [Capsule; 2] {
        ["a", "b"].map(|name| Capsule {
            name: name.to_owned(),
            workload: "rate = 100\n".to_owned(),
            command: String::new(),
            mode: Mode::OpenLoop,
            seed: 1,
            environment: Environment::default(),
            result: RunResult::begin(0),
            notes: Vec::new(),
        })
    }

    /// A turn made up: the n-th of all, each 20 s after the one before.
    fn turn(number: i64, scale: f64) -> RunResult {
        let shape = Wandering { intervals: INTERVALS, values: 300, correlation: 0.2, stray: 0.02, scale };
        let mut result = RunResult::begin(1_700_000_000_000 + number * 20_000);
        result.broker.cluster_id = format!("cluster {scale}");
        result.broker.configs = vec![("log.segment.bytes".to_owned(), scale.to_string())];
        for (at, produce) in (0..).zip(shape.run(&mut Rng::new(number as u64))) {
            let counts = Counts { sent: 300, acked: 300, ..Counts::default() };
            let (start_ns, e2e, lateness) = (at * SECOND_NS, Packed::empty(), Packed::empty());
            result.intervals.push(Interval {
                start_ns,
                length_ns: SECOND_NS,
                invalid: None,
                produce,
                e2e,
                lateness,
                counts,
            });
        }
        result.totals = Counts { sent: 3600, acked: 3600, ..Counts::default() };
        result.complaints = vec![("something".to_owned(), 1)];
        let entry = Entry {
            tag: Some("produce.total".to_owned()),
            start_ns: 0,
            length_ns: SECOND_NS,
            histogram: result.intervals[0].produce.clone(),
        };
        let stages = Log { started_wall_ms: Some(result.started_wall_ms), comments: Vec::new(), entries: vec![entry] };
        let mut text = Vec::new();
        stages.write(&mut text).expect("written");
        result.stages_hlog = String::from_utf8(text).ok();
        result
    }

    fn measured(plan: Plan, scales: [f64; 2], fails_at: Option<i64>) -> (Outcome, Vec<usize>, Vec<u32>) {
        let (mut order, mut watched) = (Vec::new(), Vec::new());
        let mut measure = |next: Turn| {
            let number = order.len() as i64;
            order.push(next.target);
            let result = turn(number, scales[next.target]);
            match fails_at == Some(number) {
                true => Err(TurnFailed { why: "it is down".to_owned(), kept: (number > 0).then(|| Box::new(result)) }),
                false => Ok(result),
            }
        };
        let outcome = versus(plan, runs(), &mut measure, &mut |round, _| watched.push(round));
        (outcome, order, watched)
    }

    #[test]
    fn turns_alternate_until_all_is_known_closely() {
        let (outcome, order, watched) = measured(Plan { tight: 0.2, rounds_max: 9 }, [1.0, 1.5], None);
        assert_eq!(outcome.ended, Ended::Tight(2));
        assert_eq!((order, watched), (vec![0, 1, 1, 0, 0, 1, 1, 0], vec![1, 2]));
        let comparison = outcome.comparison.expect("compared");
        let median = &comparison.metrics[0].rows[0].against[0];
        assert_eq!(median.verdict, Verdict::Slower);
        assert!(median.low > Some(1.2) && median.high < Some(1.8), "{median:?}");
        assert!(comparison.unnamed.is_empty() && !comparison.named.is_empty(), "brokers may differ");
    }

    #[test]
    fn rounds_have_an_end() {
        let (outcome, order, _) = measured(Plan { tight: 1e-6, rounds_max: 3 }, [1.0, 1.0], None);
        assert_eq!((outcome.ended, order.len()), (Ended::RoundsMax(3), 12));
        let verdicts = outcome.comparison.expect("compared").metrics[0].rows[..3].to_vec();
        assert!(verdicts.iter().all(|row| row.against[0].verdict == Verdict::NotToldApart), "{verdicts:?}");
    }

    #[test]
    fn turns_stand_where_the_clock_had_them() {
        let (outcome, ..) = measured(Plan { tight: 0.5, rounds_max: 2 }, [1.0, 1.0], None);
        for (run, starts_s) in outcome.runs.iter().zip([[0, 60, 80, 140], [0, 20, 80, 100]]) {
            let result = &run.result;
            let begun: Vec<u64> = result.intervals.iter().step_by(INTERVALS).map(|i| i.start_ns / SECOND_NS).collect();
            assert_eq!(begun, starts_s);
            assert_eq!((result.totals.acked, result.intervals.len()), (4 * 3600, 4 * INTERVALS));
            assert_eq!(result.complaints, [("something".to_owned(), 4)]);
            assert_eq!(result.broker.cluster_id, "cluster 1");
            let stages = hlog::read(result.stages_hlog.as_deref().expect("some").as_bytes(), "x").expect("a log");
            let begun: Vec<u64> = stages.entries.iter().map(|entry| entry.start_ns / SECOND_NS).collect();
            assert_eq!(begun, starts_s);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_turns_apart() {
        let mut growing = Growing { runs: runs(), is_begun: [false; 2], stages: [Log::default(), Log::default()] };
        [9, 3, 4].into_iter().for_each(|number| growing.add(0, turn(number, 1.0)));
        let starts: Vec<u64> = growing.runs[0].result.intervals.iter().map(|i| i.start_ns / SECOND_NS).collect();
        assert_eq!((starts[11], starts[12], starts[23], starts[24]), (11, 13, 24, 26));
    }

    #[test]
    fn a_turn_that_fails_ends_it_and_loses_nothing() {
        let plan = Plan { tight: 0.1, rounds_max: 2 };
        let (outcome, order, _) = measured(plan, [1.0, 2.0], Some(6));
        assert_eq!((outcome.ended.to_string().contains("it is down"), order.len()), (true, 7));
        assert_eq!(outcome.runs.map(|run| run.result.intervals.len() / INTERVALS), [3, 4]);
        assert!(outcome.comparison.is_ok());
        let (outcome, ..) = measured(plan, [1.0, 2.0], Some(0));
        assert!(outcome.comparison.expect_err("nothing measured").to_string().contains("no valid interval"));
    }
}
