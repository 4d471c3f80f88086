//! The broker's stages for the page: means that add up, interval by interval, and percentiles of each stage.
//!
//! Percentiles of stages do not add up to the percentile of the whole, so only means are stacked. Tags are
//! `produce.STAGE` and `fetch.STAGE`, with `.CORE` behind it where cores are told apart.
//!
//! *Owns*: how a log of stages is meant. *Never*: names a stage that the log does not. *Runs on*: any thread.

use std::collections::BTreeMap;

use serde::Serialize;

use super::data::seconds;
use crate::bench::hlog::{self, Log};
use crate::bench::packed::{Bucket, Packed, Sum};
use crate::bench::summary::Latency;

/// Tags of one kind of request that are looked at; more are no stages.
const STAGES_MAX: usize = 64;

const TOTAL: &str = "total";
const UNACCOUNTED: &str = "unaccounted";

/// The stages of one kind of request.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StageView {
    /// `produce` or `fetch`.
    pub kind: String,
    pub stages: Vec<Stage>,
    pub total: Option<Latency>,
    pub unaccounted: Option<Latency>,
    /// Borders of the columns of time.
    pub start_s: Vec<f64>,
    pub end_s: Vec<f64>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stage {
    pub name: String,
    pub latency: Latency,
    /// Nanoseconds, for each column.
    pub means: Vec<f64>,
}

/// The stages in a histogram log, or why there are none.
pub fn read(text: Option<&str>, columns_max: usize) -> Result<Vec<StageView>, String> {
    let text = text.ok_or("The run has no stages: they come from a Corelog broker that serves them over HTTP.")?;
    let log = hlog::read(text.as_bytes(), "stages.hlog").unwrap_or_else(|broken| broken.read);
    let kinds = ["produce", "fetch"].into_iter().map(|kind| view(&log, kind, columns_max));
    let kinds: Vec<StageView> = kinds.filter(|view| view.stages.iter().any(|stage| stage.latency.count > 0)).collect();
    if kinds.is_empty() { Err("The run's stages.hlog has no requests in it.".to_owned()) } else { Ok(kinds) }
}

/// What was counted from one moment on: of each stage a histogram, or one of each core.
#[derive(Default)]
struct Slot<'a> {
    start_ns: u64,
    end_ns: u64,
    histograms: BTreeMap<&'a str, Vec<&'a Packed>>,
}

fn view(log: &Log, kind: &str, columns_max: usize) -> StageView {
    let mut names: Vec<&str> = Vec::new();
    let mut slots: BTreeMap<u64, Slot<'_>> = BTreeMap::new();
    for entry in &log.entries {
        let tag = entry.tag.as_deref().and_then(|tag| tag.strip_prefix(kind)?.strip_prefix('.'));
        let Some(tag) = tag else { continue };
        let name = tag.split_once('.').map_or(tag, |(name, _core)| name);
        if !names.contains(&name) {
            if names.len() == STAGES_MAX {
                continue;
            }
            names.push(name);
        }
        let slot = slots.entry(entry.start_ns).or_default();
        slot.start_ns = entry.start_ns;
        slot.end_ns = slot.end_ns.max(entry.start_ns.saturating_add(entry.length_ns));
        slot.histograms.entry(name).or_default().push(&entry.histogram);
    }
    let slots: Vec<Slot<'_>> = slots.into_values().collect();
    let columns: Vec<&[Slot<'_>]> = slots.chunks(slots.len().div_ceil(columns_max).max(1)).collect();
    let latency = |name: &str| {
        let sum = sum(&slots, name);
        Latency { mean_ns: mean_ns(&sum), ..Latency::of(&sum) }
    };
    let whole = |name: &str| names.contains(&name).then(|| latency(name));
    let stages = names.iter().filter(|name| ![TOTAL, UNACCOUNTED].contains(name)).map(|name| Stage {
        name: (*name).to_owned(),
        latency: latency(name),
        means: columns.iter().map(|column| mean_ns(&sum(column, name)).round()).collect(),
    });
    StageView {
        kind: kind.to_owned(),
        stages: stages.collect(),
        total: whole(TOTAL),
        unaccounted: whole(UNACCOUNTED),
        start_s: columns.iter().filter_map(|column| Some(seconds(column.first()?.start_ns))).collect(),
        end_s: columns.iter().filter_map(|column| Some(seconds(column.last()?.end_ns))).collect(),
    }
}

/// The mean with everything in the first bucket taken for nothing: most requests spend no time in most stages, and half
/// a bucket for each stage would come to more than many a request takes.
fn mean_ns(histogram: &Packed) -> f64 {
    let told_apart = histogram.buckets().filter(|bucket| bucket.lowest > 0);
    let middle = |bucket: Bucket| (bucket.lowest as f64 + bucket.highest as f64 + 1.0) / 2.0;
    let sum: f64 = told_apart.map(|bucket| middle(bucket) * bucket.count as f64).sum();
    if sum > 0.0 { sum / histogram.count() as f64 } else { 0.0 }
}

fn sum(slots: &[Slot<'_>], name: &str) -> Packed {
    Sum::of(slots.iter().filter_map(|slot| slot.histograms.get(name)).flatten().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;
    use crate::base::stage::STAGES;

    fn log(lines: &[(&str, u64, u64, u64)]) -> String {
        let mut writer = hlog::Writer::begin(Vec::new(), 0, &[]).expect("written");
        for (tag, second, value_ns, count) in lines {
            let mut histogram = Histogram::of_stage();
            histogram.record_n(*value_ns, *count);
            let (start_ns, packed) = (second * 1_000_000_000, Packed::from(&histogram));
            writer.write(Some(tag), start_ns, 1_000_000_000, &packed).expect("written");
        }
        String::from_utf8(writer.finish().expect("written")).expect("text")
    }

    #[test]
    fn cores_are_added_up_and_time_is_split() {
        let text = log(&[
            ("produce.check.0", 0, 100_000, 1),
            ("produce.check.1", 0, 300_000, 1),
            ("produce.total", 0, 900_000, 2),
            ("produce.unaccounted", 0, 2_000, 2),
            ("fetch.encode", 0, 50_000, 1),
            ("produce.check.0", 1, 500_000, 4),
            ("other.check", 1, 7, 4),
        ]);
        let views = read(Some(&text), 240).expect("stages");
        assert_eq!(views.iter().map(|view| view.kind.as_str()).collect::<Vec<_>>(), ["produce", "fetch"]);
        let produce = &views[0];
        let names: Vec<&str> = produce.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(
            (names, &produce.start_s[..], &produce.end_s[..]),
            (vec!["check"], &[0.0, 1.0][..], &[1.0, 2.0][..])
        );
        let check = &produce.stages[0];
        assert_eq!(check.latency.count, 6);
        for (mean, expect) in check.means.iter().zip([200_000.0, 500_000.0]) {
            assert!((mean / expect - 1.0).abs() < 0.01, "{mean}");
        }
        assert_eq!(produce.total.map(|total| total.count), Some(2));
        assert_eq!(read(Some(&text), 1).expect("stages")[0].stages[0].means.len(), 1);
        assert!(views[1].total.is_none());
    }

    #[test]
    fn requests_that_spend_no_time_in_a_stage_make_no_mean() {
        let text = log(&[("fetch.queue", 0, 0, 300), ("fetch.encode", 0, 0, 3), ("fetch.encode.1", 0, 80_000, 1)]);
        let views = read(Some(&text), 240).expect("stages");
        let means: Vec<f64> = views[0].stages.iter().map(|stage| stage.means[0]).collect();
        assert_eq!(means[0], 0.0);
        assert!((means[1] / 20_000.0 - 1.0).abs() < 0.01, "{means:?}");
        assert_eq!(views[0].stages[1].latency.mean_ns.round(), means[1]);
    }

    #[test]
    fn the_page_knows_every_stage_of_the_broker() {
        for row in STAGES.iter().filter(|row| ![TOTAL, UNACCOUNTED].contains(&row.name)) {
            let known = format!("'{}'", row.name);
            assert!(include_str!("page.js").contains(&known), "{} would be drawn as of no kind", row.name);
        }
        for name in [TOTAL, UNACCOUNTED] {
            assert!(STAGES.iter().any(|row| row.name == name), "{name}");
        }
    }

    #[test]
    fn what_has_no_stages_says_so() {
        for (text, expect) in [
            (None, "The run has no stages"),
            (Some(log(&[])), "no requests"),
            (Some(log(&[("produce.check", 0, 1, 0)])), "no requests"),
            (Some("nonsense".into()), "no requests"),
        ] {
            let error = read(text.as_deref(), 10).expect_err(expect);
            assert!(error.contains(expect), "{error}");
        }
    }
}
