//! HdrHistogram's percentile output (`.hgrm`), which its plotters take: values in milliseconds.
//!
//! *Owns*: the layout and the steps of the percentiles (`Histogram.outputPercentileDistribution` of HdrHistogram, five
//! steps to each halving of what is left). *Never*: reads one back as a histogram: its counts are those of the steps
//! alone. *Runs on*: any thread.

use std::io::{self, Write};

use crate::bench::packed::Packed;

const STEPS_PER_HALVING: f64 = 5.0;
const UNIT_NS: f64 = 1e6;

/// One step of the output.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    pub value_ns: u64,
    /// 0 to 1.
    pub quantile: f64,
    /// Values up to this one.
    pub count: u64,
}

/// The steps, up to the quantile 1. None of an empty histogram.
pub fn steps(histogram: &Packed) -> Vec<Step> {
    let total = histogram.count();
    let mut steps = Vec::new();
    let mut percent: f64 = 0.0;
    let mut count = 0;
    for bucket in histogram.buckets() {
        count += bucket.count;
        let reached = 100.0 * count as f64 / total as f64;
        while percent <= reached {
            steps.push(Step { value_ns: bucket.highest, quantile: percent / 100.0, count });
            if percent >= 100.0 {
                break;
            }
            let halvings = (100.0 / (100.0 - percent)).log2().floor() + 1.0;
            percent += 100.0 / (STEPS_PER_HALVING * halvings.exp2());
            // The last value is not repeated for every step that it could stand for.
            if count == total {
                percent = 100.0;
            }
        }
    }
    steps
}

/// Writes the standard layout. An empty histogram has the head and the foot alone.
pub fn write(histogram: &Packed, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    for Step { value_ns, quantile, count } in steps(histogram) {
        let value = value_ns as f64 / UNIT_NS;
        write!(out, "{value:12.3} {quantile:14.12} {count:10}")?;
        if quantile < 1.0 { writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))? } else { writeln!(out)? }
    }
    let (mean, deviation) = histogram.moments();
    let (mean, deviation, max) = (mean / UNIT_NS, deviation / UNIT_NS, histogram.max_ns() as f64 / UNIT_NS);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", histogram.count())?;
    let (buckets, sub_buckets) = histogram.layout();
    writeln!(out, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]")
}

/// What a `.hgrm` file holds of values: its steps.
pub fn read(text: &str, file: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first.starts_with('#') || first == "Value" {
            continue;
        }
        let step = || {
            let value: f64 = first.parse().ok()?;
            let quantile: f64 = words.next()?.parse().ok()?;
            let count: u64 = words.next()?.parse().ok()?;
            let fits = (0.0..1e13).contains(&value) && (0.0..=1.0).contains(&quantile);
            fits.then(|| Step { value_ns: (value * UNIT_NS).round() as u64, quantile, count })
        };
        let step = { step }();
        let step = step.filter(|step| steps.last().is_none_or(|last| last.count <= step.count));
        steps.push(step.ok_or_else(|| {
            format!("{file}, line {}: this is no line of percentile output (VALUE PERCENTILE COUNT …)", number + 1)
        })?);
    }
    if steps.is_empty() {
        return Err(format!("{file}: there is no line of percentile output in it"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;

    fn packed(values: impl IntoIterator<Item = u64>) -> Packed {
        let mut histogram = Histogram::of_client();
        values.into_iter().for_each(|value| histogram.record(value));
        Packed::from(&histogram)
    }

    #[test]
    fn the_steps_are_the_librarys() {
        for values in [vec![], vec![7_000_000], (1..100_000u64).map(|v| v * 1000).collect(), vec![1_000_000; 50]] {
            let packed = packed(values);
            let library = packed.unpack();
            let found: Vec<(u64, u64)> = steps(&packed).iter().map(|step| (step.value_ns, step.count)).collect();
            let mut count = 0;
            let expect: Vec<(u64, u64)> = (library.as_hdr().iter_quantiles(5))
                .map(|step| {
                    count += step.count_since_last_iteration();
                    (step.value_iterated_to(), count)
                })
                .collect();
            assert_eq!(found, expect);
        }
    }

    #[test]
    fn the_layout_is_the_standard_one() {
        let mut out = Vec::new();
        write(&packed([1_000_000, 2_000_000, 2_000_000, 10_000_000]), &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "       Value     Percentile TotalCount 1/(1-Percentile)",
                "",
                "       1.000 0.000000000000          1           1.00",
            ]
        );
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "      10.002 1.000000000000          4",
                "#[Mean    =        3.750, StdDeviation   =        3.631]",
                "#[Max     =       10.002, Total count    =            4]",
                "#[Buckets =           23, SubBuckets     =         2048]",
            ]
        );
        let read = read(&text, "x").expect("read");
        assert_eq!((read.len(), read[0].count, read[0].value_ns), (lines.len() - 5, 1, 1_000_000));
    }

    #[test]
    fn what_is_no_percentile_output_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = read(text, "a.hgrm").expect_err(expect);
            assert!(error.starts_with("a.hgrm") && error.contains(expect), "{error}");
        };
        check("", "there is no line");
        check("Value Percentile TotalCount 1/(1-Percentile)\n\nx 0.5 2 2.0", "line 3: this is no line");
        check("1.0 0.5", "line 1");
        check("1.0 1.5 2", "line 1");
        check("1.0 0.5 2\n2.0 0.6 1", "line 2");
    }
}
