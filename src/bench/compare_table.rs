//! `corelog compare` on the command line: its flags, and the comparison as a table.
//!
//! *Owns*: how numbers and verdicts look. *Never*: decides one, or colours what no terminal shows.
//! *Runs on*: the main thread.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bench::capsule::Capsule;
use crate::bench::compare::{Against, Comparison, Difference, Metric, Unit, Verdict, compare};
use crate::terminal::paint::Paint;
use crate::terminal::printed;

/// Runs that are compared at once.
const RUNS_MAX: usize = 26;

const EXAMPLES: &str = "\
A run is the directory that `corelog bench --out` wrote, its .tar.zst, or a .hlog file of any program. The first is
what the others are compared with. Ratios come with 95 % confidence intervals (moving-block bootstrap over the
intervals of the runs); a difference is called one only where the interval leaves out 1. Each line is a verdict of its
own: of twenty lines about equal runs, one may be wrong. Intervals tell what chance did within these runs; what
changed on the machine between them is for you to keep still, or to even out by `corelog bench --versus`.

Examples:
  corelog compare before after
  corelog compare kafka.tar.zst corelog.tar.zst --differs broker
  corelog compare acks1 acksall --differs acks --json > comparison.json";

pub fn command() -> Command {
    let runs = Arg::new("runs").value_name("RUN").num_args(2..=RUNS_MAX).required(true);
    let differs = Arg::new("differs").long("differs").value_name("NAME").action(ArgAction::Append);
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    Command::new("compare")
        .about("Compare runs, and say which differences are more than chance")
        .after_long_help(EXAMPLES)
        .arg(runs.value_parser(value_parser!(PathBuf)).help("Capsules or histogram logs, two or more"))
        .arg(
            differs
                .help("What is meant to differ: a fact, or a group such as workload, machine, broker; may be repeated"),
        )
        .arg(json.help("For programs: one object, values in nanoseconds and per second"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    printed::ended(try_run(matches))
}

fn try_run(matches: &ArgMatches) -> Result<(), String> {
    let paths: Vec<&Path> = matches.get_many::<PathBuf>("runs").into_iter().flatten().map(PathBuf::as_path).collect();
    let differs: Vec<String> = matches.get_many("differs").into_iter().flatten().cloned().collect();
    let runs = Capsule::read_all(&paths).map_err(|error| error.to_string())?;
    let comparison = compare(&runs, &differs).map_err(|error| error.to_string())?;
    let text = match matches.get_flag("json") {
        true => serde_json::to_string_pretty(&comparison).expect("names and numbers") + "\n",
        false => table(&comparison, printed::is_coloured()),
    };
    printed::print(text.as_bytes())
}

/// The comparison for people.
pub fn table(comparison: &Comparison, is_coloured: bool) -> String {
    let paint = Paint { is_coloured };
    let mut out = String::new();
    for (number, name) in comparison.names.iter().enumerate() {
        let role = if number == 0 { "  (the others are compared with it)" } else { "" };
        line(&mut out, &format!("{}  {name}{role}", letter(number)));
    }
    if !comparison.unnamed.is_empty() {
        let head = "NOT THE SAME CONDITIONS: these differ, and --differs does not name them";
        line(&mut out, &format!("\n{}", paint.warn(head)));
        differences(&mut out, &comparison.unnamed);
    }
    if !comparison.named.is_empty() {
        line(&mut out, "\nMeant to differ:");
        differences(&mut out, &comparison.named);
    }
    for note in &comparison.notes {
        line(&mut out, &format!("\n{} {note}", paint.warn("note:")));
    }
    for other in 1..comparison.names.len() {
        for metric in &comparison.metrics {
            out.push('\n');
            metric_table(&mut out, metric, other, &paint);
        }
    }
    out
}

fn metric_table(out: &mut String, metric: &Metric, other: usize, paint: &Paint) {
    let (a, b) = ('A', letter(other));
    let ratio = format!("{b}/{a}");
    let head = format!("{:<24}{a:>12}{b:>12}{ratio:>9}  {:<17}", metric.name, "95 % interval");
    line(out, &paint.head(&head));
    for row in &metric.rows {
        let Against { ratio, low, high, verdict, why } = &row.against[other - 1];
        let (first, value) = (shown(row.values[0], metric.unit), shown(row.values[other], metric.unit));
        let ratio = ratio.map(ratio_text).unwrap_or_default();
        let interval = low.zip(*high).map(|(low, high)| format!("{} – {}", ratio_text(low), ratio_text(high)));
        let verdict = match verdict {
            Verdict::Faster => paint.good("faster"),
            Verdict::Slower => paint.bad("slower"),
            Verdict::NotToldApart => "not told apart".to_owned(),
            Verdict::None => why.clone().unwrap_or_default(),
        };
        let interval = interval.unwrap_or_default();
        line(out, &format!("  {:<22}{first:>12}{value:>12}{ratio:>9}  {interval:<17}  {verdict}", row.name));
    }
}

fn differences(out: &mut String, differences: &[Difference]) {
    for Difference { name, values } in differences {
        line(out, &format!("  {name}"));
        for (number, value) in values.iter().enumerate() {
            line(out, &format!("    {}  {value}", letter(number)));
        }
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("a text takes everything");
}

fn letter(number: usize) -> char {
    char::from(b'A' + (number % 26) as u8)
}

fn ratio_text(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 100.0 => format!("{ratio:.0}"),
        ratio if ratio >= 10.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.3}"),
    }
}

/// A number with its unit, three or four digits.
fn shown(value: f64, unit: Unit) -> String {
    let scales: &[(f64, &str)] = match unit {
        Unit::Nanoseconds => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
        Unit::RecordsPerSecond => &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")],
        Unit::BytesPerSecond => &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")],
    };
    let (scale, name) = scales.iter().find(|(scale, _)| value >= *scale).unwrap_or(&scales[scales.len() - 1]);
    let scaled = value / scale;
    let digits = if scaled >= 100.0 { 1 } else { 2 };
    format!("{scaled:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::Row;

    fn comparison() -> Comparison {
        let against = |low: f64, high: f64, verdict| Against {
            ratio: Some((low * high).sqrt()),
            low: Some(low),
            high: Some(high),
            verdict,
            why: None,
        };
        let row = |name: &str, values: [f64; 3], against: [Against; 2]| Row {
            name: name.to_owned(),
            values: values.to_vec(),
            against: against.to_vec(),
        };
        let few = Against { ratio: None, low: None, high: None, verdict: Verdict::None, why: Some("too few".into()) };
        let rows = vec![
            row(
                "p50",
                [1_234_567.0, 1.1e6, 2e9],
                [against(0.88, 0.91, Verdict::Faster), against(1500.0, 1700.0, Verdict::Slower)],
            ),
            row("p99.9", [9_999.0, 999.0, 0.0], [against(0.5, 2.0, Verdict::NotToldApart), few]),
        ];
        Comparison {
            names: vec!["base".into(), "new".into(), "odd".into()],
            unnamed: vec![Difference {
                name: "machine.kernel".into(),
                values: vec!["6".into(), "7".into(), "6".into()],
            }],
            named: Vec::new(),
            notes: vec!["something".into()],
            metrics: vec![Metric { name: "produce latency".into(), unit: Unit::Nanoseconds, rows }],
        }
    }

    #[test]
    fn the_table_reads_well() {
        let expect = "\
A  base  (the others are compared with it)
B  new
C  odd

NOT THE SAME CONDITIONS: these differ, and --differs does not name them
  machine.kernel
    A  6
    B  7
    C  6

note: something

produce latency                    A           B      B/A  95 % interval
  p50                        1.23 ms     1.10 ms    0.895  0.880 – 0.910      faster
  p99.9                     10.00 µs    999.0 ns    1.000  0.500 – 2.000      not told apart

produce latency                    A           C      C/A  95 % interval
  p50                        1.23 ms      2.00 s     1597  1500 – 1700        slower
  p99.9                     10.00 µs     0.00 ns                              too few
";
        assert_eq!(table(&comparison(), false), expect);
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(!table(&comparison(), false).contains('\x1b'));
        let coloured = table(&comparison(), true);
        assert!(coloured.contains("\x1b[32mfaster\x1b[0m") && coloured.contains("\x1b[31mslower\x1b[0m"));
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }
}
