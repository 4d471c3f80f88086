//! Results of other load generators, as far as they go: kafka-producer-perf-test's output and the OpenMessaging
//! Benchmark's result files.
//!
//! Shapes from Kafka's `ProducerPerformance.java` and the OpenMessaging Benchmark's `TestResult.java`.
//!
//! *Owns*: what each of them lacks, in words. *Never*: fills a gap. *Runs on*: any thread.

use serde_json::Value;

use crate::bench::convert::{Content, Found, Percentiles};

const NS_PER_MS: f64 = 1e6;

/// The keys by which a result of the OpenMessaging Benchmark is known, with the name of what they are of.
const DISTRIBUTIONS: [(&str, &str, &str); 3] = [
    ("aggregatedPublishLatency", "produce", "aggregatedPublishLatencyQuantiles"),
    ("aggregatedPublishDelayLatency", "lateness", "aggregatedPublishDelayLatencyQuantiles"),
    ("aggregatedEndToEndLatency", "e2e", "aggregatedEndToEndLatencyQuantiles"),
];

/// The single percentiles of the same.
const SINGLES: [(&str, f64); 7] = [
    ("50pct", 0.5),
    ("75pct", 0.75),
    ("95pct", 0.95),
    ("99pct", 0.99),
    ("999pct", 0.999),
    ("9999pct", 0.9999),
    ("Max", 1.0),
];

/// kafka-producer-perf-test's last line: `N records sent, R records/sec (M MB/sec), A ms avg latency, X ms max latency,
/// A ms 50th, B ms 95th, C ms 99th, D ms 99.9th.`
pub fn read_perf_test(text: &str, name: &str) -> Result<Found, String> {
    let lines = || text.lines().enumerate().filter(|(_, line)| line.contains(" records sent,"));
    let windows = lines().filter(|(_, line)| !line.contains("99th")).count();
    let Some((number, line)) = lines().filter(|(_, line)| line.contains("99th")).last() else {
        return Err(format!(
            "{name}: the output of kafka-producer-perf-test ends before its last line, which has the percentiles; \
             the {windows} lines before it have an average and a maximum only"
        ));
    };
    let wrong = || format!("{name}, line {}: this is no last line of kafka-producer-perf-test", number + 1);
    let mut percentiles = Percentiles { name: "produce".to_owned(), count: None, mean_ns: None, values_ns: Vec::new() };
    for part in line.trim().trim_end_matches('.').split(", ") {
        let (value, what) = part.trim().split_once(' ').ok_or_else(wrong)?;
        let ms = || {
            let ms = value.parse::<f64>().ok().filter(|ms| (0.0..1e9).contains(ms));
            ms.map(|ms| (ms * NS_PER_MS).round() as u64).ok_or_else(wrong)
        };
        match what {
            "records sent" => percentiles.count = Some(value.parse().map_err(|_| wrong())?),
            "ms avg latency" => percentiles.mean_ns = Some(ms()? as f64),
            "ms max latency" => percentiles.values_ns.push((1.0, ms()?)),
            _ => {
                let quantile = what.strip_prefix("ms ").and_then(|what| what.strip_suffix("th"));
                if let Some(quantile) = quantile.and_then(|percent| percent.parse::<f64>().ok()) {
                    percentiles.values_ns.push((percent_to_quantile(quantile), ms()?));
                }
            }
        }
    }
    percentiles.values_ns.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(Found {
        form: "the output of kafka-producer-perf-test",
        content: Content::Percentiles(vec![percentiles]),
        lacks: [
            "times are in whole milliseconds, from the actual sending: a stall hides what would have been sent in it",
            "percentiles are of at most 500,000 samples, and none beyond 99.9 is told",
            "there is no distribution by time, so that `corelog compare` cannot tell chance from change",
        ]
        .map(str::to_owned)
        .to_vec(),
    })
}

pub fn is_openmessaging(value: &Value) -> bool {
    DISTRIBUTIONS
        .iter()
        .any(|(prefix, _, quantiles)| value.get(quantiles).is_some() || value.get(format!("{prefix}99pct")).is_some())
}

/// A result file of the OpenMessaging Benchmark: values in milliseconds.
pub fn read_openmessaging(value: &Value, name: &str) -> Result<Found, String> {
    let mut all = Vec::new();
    for (prefix, of, quantiles) in DISTRIBUTIONS {
        let mut values_ns = Vec::new();
        let map = value.get(quantiles).and_then(Value::as_object);
        for (percent, ms) in map.into_iter().flatten() {
            let wrong = || format!("{name}: {quantiles}: `{percent}: {ms}` is no percentile in milliseconds");
            let quantile = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            let ns = ms.as_f64().and_then(to_ns).ok_or_else(wrong)?;
            values_ns.push((percent_to_quantile(quantile.ok_or_else(wrong)?), ns));
        }
        if values_ns.is_empty() {
            let singles = SINGLES.iter().filter_map(|(suffix, quantile)| {
                let ms = value.get(format!("{prefix}{suffix}"))?.as_f64()?;
                Some((*quantile, to_ns(ms)?))
            });
            values_ns.extend(singles);
        }
        if values_ns.is_empty() {
            continue;
        }
        values_ns.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean_ns = value.get(format!("{prefix}Avg")).and_then(Value::as_f64).map(|ms| ms * NS_PER_MS);
        all.push(Percentiles { name: of.to_owned(), count: None, mean_ns, values_ns });
    }
    if all.is_empty() {
        return Err(format!("{name}: this result of the OpenMessaging Benchmark has no percentile in it"));
    }
    let mut lacks = vec![
        "percentiles are kept, and no counts: histograms cannot be added up or compared with confidence".to_owned(),
        "end-to-end times of 0 ms and less were not counted, so that its low percentiles are too high".to_owned(),
    ];
    if all.iter().all(|percentiles| percentiles.name != "e2e") {
        lacks.push("there are no end-to-end times".to_owned());
    }
    Ok(Found { form: "a result of the OpenMessaging Benchmark", content: Content::Percentiles(all), lacks })
}

/// The nearest number with eight digits, so that 99.9 becomes 0.999 and not its neighbour.
fn percent_to_quantile(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e8
}

fn to_ns(ms: f64) -> Option<u64> {
    (0.0..1e9).contains(&ms).then(|| (ms * NS_PER_MS).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::convert::parse;

    const PERF_TEST: &str = "\
[2025-01-01 00:00:00,000] WARN something\n\
49998 records sent, 9999.6 records/sec (9.54 MB/sec), 1.2 ms avg latency, 250.0 ms max latency.\n\
50010 records sent, 10002.0 records/sec (9.54 MB/sec), 0.7 ms avg latency, 9.0 ms max latency.\n\
100000 records sent, 9997.000900 records/sec (9.53 MB/sec), 0.97 ms avg latency, 250.00 ms max latency, 1 ms 50th, \
2 ms 95th, 9 ms 99th, 119 ms 99.9th.\n";

    fn percentiles(text: &str) -> Vec<Percentiles> {
        match parse(text.as_bytes(), "in").expect("read") {
            Found { content: Content::Percentiles(all), lacks, .. } => {
                assert!(lacks.len() >= 2);
                all
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kafkas_perf_test_is_read_as_far_as_it_goes() {
        let ms = |quantile, ms: u64| (quantile, ms * 1_000_000);
        assert_eq!(
            percentiles(PERF_TEST),
            [Percentiles {
                name: "produce".into(),
                count: Some(100_000),
                mean_ns: Some(970_000.0),
                values_ns: vec![ms(0.5, 1), ms(0.95, 2), ms(0.99, 9), ms(0.999, 119), ms(1.0, 250)],
            }]
        );
        let cut = &PERF_TEST[..PERF_TEST.find("100000").expect("there")];
        let error = parse(cut.as_bytes(), "in").expect_err("cut off");
        assert!(error.contains("the 2 lines before it"), "{error}");
        let error = parse(PERF_TEST.replace("9 ms 99th", "x ms 99th").as_bytes(), "in").expect_err("nonsense");
        assert!(error.starts_with("in, line 4: "), "{error}");
    }

    #[test]
    fn the_openmessaging_benchmark_is_read_as_far_as_it_goes() {
        let whole = r#"{"workload": "w", "publishRate": [1.0], "aggregatedPublishLatencyAvg": 1.5,
            "aggregatedPublishLatency99pct": 9.5,
            "aggregatedPublishLatencyQuantiles": {"50.0": 1.25, "99.0": 9.5, "100.0": 20.0},
            "aggregatedEndToEndLatency50pct": 2.0, "aggregatedEndToEndLatencyMax": 30.0}"#;
        let all = percentiles(whole);
        assert_eq!(all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["produce", "e2e"]);
        assert_eq!(all[0].values_ns, [(0.5, 1_250_000), (0.99, 9_500_000), (1.0, 20_000_000)]);
        assert_eq!((all[0].mean_ns, all[1].mean_ns), (Some(1_500_000.0), None));
        assert_eq!(all[1].values_ns, [(0.5, 2_000_000), (1.0, 30_000_000)]);
        let error = parse(whole.replace("20.0", "\"x\"").as_bytes(), "in").expect_err("nonsense");
        assert!(error.contains("aggregatedPublishLatencyQuantiles: `100.0: \"x\"`"), "{error}");
    }
}
