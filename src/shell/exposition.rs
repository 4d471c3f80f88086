//! What the broker tells a Prometheus server: OpenMetrics text, written by the `prometheus-client` library.
//!
//! Names, types and help come from the tables of metrics, stages, APIs and error codes; only the prefix is here.
//!
//! *Owns*: how those tables look from outside. *Never*: counts. *Runs on*: the executors' helper threads.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::base::ids::ClientInstanceId;
use crate::base::metric::{METRICS, MetricKind, MetricRow};
use crate::base::stage::{STAGES, Timed};
use crate::base::stage_counts::Snapshot;
use crate::broker::api::APIS;
use crate::broker::report::Report;
use crate::broker::telemetry::{ClientDescription, ClientMetrics};
use crate::wire::errors::ErrorCode;
use crate::wire::otlp::Series;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "corelog";

/// The upper ends of the histograms' buckets, in nanoseconds.
const BUCKETS_NS: [u64; 24] = {
    let mut buckets = [0; 24];
    let mut at = 0;
    let mut ten: u64 = 1_000;
    while at < 23 {
        buckets[at] = ten * [1, 2, 5][at % 3];
        if at % 3 == 2 {
            ten *= 10;
        }
        at += 1;
    }
    buckets[23] = 60_000_000_000;
    buckets
};

/// The text for one report of each core.
pub fn show(reports: Vec<Report>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Reports(reports)));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a text takes everything");
    text
}

#[derive(Debug)]
struct Reports(Vec<Report>);

impl Collector for Reports {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for row in METRICS {
            self.metric(&mut encoder, row)?;
        }
        self.requests(&mut encoder)?;
        self.errors(&mut encoder)?;
        self.clients(&mut encoder)?;
        self.nodes(&mut encoder)?;
        self.stages(&mut encoder)
    }
}

impl Reports {
    /// One line for each core.
    fn metric(&self, encoder: &mut DescriptorEncoder<'_>, row: &MetricRow) -> fmt::Result {
        let kind = match row.kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
        };
        let mut family = encoder.encode_descriptor(row.name, help(row.doc()), None, kind)?;
        for (core, report) in self.0.iter().enumerate() {
            let value = report.metrics.get(row.metric);
            let labels = [("core", core.to_string())];
            let encoder = family.encode_family(&labels)?;
            match row.kind {
                MetricKind::Counter => ConstCounter::new(value).encode(encoder)?,
                MetricKind::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)?,
            }
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let doc = "Requests whose API and version are served";
        let mut family = encoder.encode_descriptor("requests", doc, None, MetricType::Counter)?;
        for (core, report) in self.0.iter().enumerate() {
            for (key, count) in report.requests.requests() {
                let labels = [("core", core.to_string()), ("api", api_name(key).to_owned())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn errors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let doc = "Partitions that a Produce or Fetch reply gave an error for";
        let mut family = encoder.encode_descriptor("errors", doc, None, MetricType::Counter)?;
        for (core, report) in self.0.iter().enumerate() {
            for (key, code, count) in report.requests.errors() {
                let error =
                    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |error| error.name().to_owned());
                let labels = [("core", core.to_string()), ("api", api_name(key).to_owned()), ("error", error)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// What other brokers have told of themselves, by gossip.
    fn nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let nodes = || self.0.iter().flat_map(|report| &report.nodes);
        let cores = nodes().flat_map(|(node, report)| {
            report.cores.iter().map(|core| {
                let values = [f64::from(core.load_permille) / 1e3, f64::from(core.latency.p99_us) / 1e6];
                ([("node", node.to_string()), ("its_core", core.core.to_string())], values)
            })
        });
        let devices = nodes().flat_map(|(node, report)| {
            report.devices.iter().map(|device| {
                let values = [f64::from(device.full_permille) / 1e3, f64::from(device.p99_us) / 1e6];
                ([("node", node.to_string()), ("device", device.device.to_string())], values)
            })
        });
        let load = ("node_load_ratio", "Share of the last second or so that a core of another broker worked");
        let p99 = ("node_produce_p99_seconds", "What 99 in 100 Produce requests there took at most, of late");
        gauges(encoder, [load, p99], &cores.collect::<Vec<_>>())?;
        let full = ("node_device_full_ratio", "Share of another broker's volume that is used");
        let slow = ("node_device_p99_seconds", "What 99 in 100 Produce requests there waited for the device at most");
        gauges(encoder, [full, slow], &devices.collect::<Vec<_>>())
    }

    /// What each client has pushed last, to whichever core. Names and labels are the clients' own, so the names are
    /// values of a label here: they can neither clash with the broker's nor be what no name can be.
    fn clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut latest: BTreeMap<ClientInstanceId, &ClientMetrics> = BTreeMap::new();
        for pushed in self.0.iter().flat_map(|report| &report.clients) {
            let known = latest.entry(pushed.client.instance).or_insert(pushed);
            if known.pushed_at < pushed.pushed_at {
                *known = pushed;
            }
        }
        if latest.is_empty() {
            return Ok(());
        }
        let doc = "What clients have measured, as they pushed it last (KIP-714)";
        let mut family = encoder.encode_descriptor("client_metric", doc, None, MetricType::Gauge)?;
        for pushed in latest.values() {
            for (series, value) in &pushed.measured.values {
                let labels = client_labels(&pushed.client, series);
                ConstGauge::new(value.get()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// All cores together.
    fn stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let doc = "Time of requests in each stage; stage=total is all of it, stage=unaccounted what no stage claims";
        let unit = Unit::Seconds;
        let mut family = encoder.encode_descriptor("request_stage", doc, Some(&unit), MetricType::Histogram)?;
        let mut all = Snapshot::default();
        self.0.iter().for_each(|report| all.add(&report.stages));
        for timed in Timed::ALL {
            for row in STAGES.iter().filter(|row| row.is_of(timed)) {
                let labels = [("api", timed.name()), ("stage", row.name)];
                let counts = buckets(all.histogram(timed, row.stage as usize).counted());
                let sum = all.sum_ns(timed, row.stage as usize) as f64 / 1e9;
                let count = all.requests[timed as usize];
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &counts, None)?;
            }
        }
        Ok(())
    }
}

/// Their labels, and the numbers.
type TwoNumbers = ([(&'static str, String); 2], [f64; 2]);

/// Two numbers of each of these, as two families.
fn gauges(encoder: &mut DescriptorEncoder<'_>, families: [(&str, &str); 2], rows: &[TwoNumbers]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    for (at, (name, doc)) in families.into_iter().enumerate() {
        let mut family = encoder.encode_descriptor(name, doc, None, MetricType::Gauge)?;
        for (labels, values) in rows {
            ConstGauge::new(values[at]).encode(family.encode_family(labels)?)?;
        }
    }
    Ok(())
}

/// The library puts the full stop.
fn help(doc: &str) -> &str {
    doc.trim_end_matches('.')
}

/// Who measured what. A label that the client brings gives way to one of the same name before it.
fn client_labels(client: &ClientDescription, series: &Series) -> Vec<(String, String)> {
    let mut labels = vec![
        ("client_instance_id".to_owned(), client.instance.to_string()),
        ("client_id".to_owned(), client.client_id.clone()),
        ("client_software_name".to_owned(), client.software_name.clone()),
        ("client_software_version".to_owned(), client.software_version.clone()),
        ("client_source_address".to_owned(), client.address.clone()),
        ("metric".to_owned(), series.metric.clone()),
    ];
    for (name, value) in &series.labels {
        let name = label_name(name);
        if labels.iter().all(|(other, _)| *other != name) {
            labels.push((name, value.clone()));
        }
    }
    labels
}

/// With underscores for what the name of a label cannot have.
fn label_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_start_matches('_');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("label_{name}")
    } else {
        name.into()
    }
}

fn api_name(key: i16) -> &'static str {
    APIS.iter().find(|api| api.key == key).map_or("?", |api| api.name)
}

/// Upper ends in seconds, and how many lie in each bucket.
fn buckets(counted: impl Iterator<Item = (u64, u64)>) -> Vec<(f64, u64)> {
    let mut buckets: Vec<(f64, u64)> = BUCKETS_NS.iter().map(|ns| (*ns as f64 / 1e9, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for (ns, count) in counted {
        let at = BUCKETS_NS.partition_point(|end| *end < ns);
        buckets[at].1 += count;
    }
    buckets
}
