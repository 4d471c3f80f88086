//! What a client pushes of its metrics: OpenTelemetry's `MetricsData` (opentelemetry-proto 1.x), as far as Kafka's
//! clients fill it in. These are gauges and sums; histograms and summaries are left out.
//!
//! *Owns*: the numbers of the fields, and the bounds on what is kept. *Never*: keeps a value twice, trusts a length or
//! a name. *Runs on*: every core.

use std::collections::BTreeMap;

use super::codec::Float64;
use super::protobuf::{FieldValue, Fields, ProtobufError};
use crate::base::limits::{TELEMETRY_CLIENT_BYTES_MAX, TELEMETRY_LABELS_MAX, TELEMETRY_TEXT_BYTES_MAX};

/// `AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA`
const DELTA: u64 = 1;

/// Memory that a value takes besides its texts.
const VALUE_BYTES: usize = 64;

/// Names and values.
pub type Labels = Vec<(String, String)>;

/// One value of a metric.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Series {
    pub metric: String,
    /// Of the resource first, then of the value. Names may repeat.
    pub labels: Labels,
}

/// The values of one push.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Measured {
    pub values: BTreeMap<Series, Float64>,
    /// Memory that they take, about.
    pub bytes: usize,
    /// Values that are no plain numbers, or too many, or whose names are too long.
    pub left_out: u64,
}

impl Measured {
    /// Errors: the bytes are no message. Nothing is known of what they hold then.
    pub fn decode(metrics_data: &[u8]) -> Result<Measured, ProtobufError> {
        let mut measured = Measured::default();
        for resource_metrics in messages(metrics_data, 1) {
            let resource_metrics = resource_metrics?;
            let mut labels = Some(Vec::new());
            for resource in messages(resource_metrics, 1) {
                read_labels(resource?, 1, &mut labels)?;
            }
            for scope_metrics in messages(resource_metrics, 2) {
                for metric in messages(scope_metrics?, 2) {
                    measured.add_metric(metric?, labels.as_ref())?;
                }
            }
        }
        Ok(measured)
    }

    fn add_metric(&mut self, metric: &[u8], labels: Option<&Labels>) -> Result<(), ProtobufError> {
        let name = match messages(metric, 1).last() {
            Some(name) => text(name?)?,
            None => None,
        };
        for field in Fields::of(metric) {
            let field = field?;
            match (field.number, field.value) {
                // Gauge and Sum.
                (5 | 7, FieldValue::Bytes(points)) => {
                    let is_delta = field.number == 7 && is_delta(points)?;
                    for point in messages(points, 1) {
                        self.add_point(point?, (name, labels), is_delta)?;
                    }
                }
                // Histogram, ExponentialHistogram, Summary.
                (9..=11, _) => self.left_out += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn add_point(
        &mut self,
        point: &[u8],
        (name, labels): (Option<&str>, Option<&Labels>),
        is_delta: bool,
    ) -> Result<(), ProtobufError> {
        let mut value = None;
        for field in Fields::of(point) {
            let field = field?;
            match (field.number, field.value) {
                (4, FieldValue::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
                (6, FieldValue::Fixed64(bits)) => value = Some(bits as i64 as f64),
                _ => {}
            }
        }
        let mut own = Some(Vec::new());
        read_labels(point, 7, &mut own)?;
        let value = value.filter(|value| value.is_finite() && !is_delta);
        let (Some(value), Some(name), Some(labels), Some(own)) = (value, name, labels, own) else {
            self.left_out += 1;
            return Ok(());
        };
        let texts = labels.iter().chain(&own).map(|(name, value)| name.len() + value.len() + VALUE_BYTES);
        let bytes = VALUE_BYTES + name.len() + texts.sum::<usize>();
        if self.bytes + bytes > TELEMETRY_CLIENT_BYTES_MAX || labels.len() + own.len() > TELEMETRY_LABELS_MAX {
            self.left_out += 1;
            return Ok(());
        }
        let series = Series { metric: name.to_owned(), labels: labels.iter().cloned().chain(own).collect() };
        // The later one counts.
        if self.values.insert(series, Float64::new(value)).is_none() {
            self.bytes += bytes;
        }
        Ok(())
    }
}

/// The messages, or texts, that a message has under one number.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], ProtobufError>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok(field) => match field.value {
            FieldValue::Bytes(bytes) if field.number == number => Some(Ok(bytes)),
            _ => None,
        },
        Err(error) => Some(Err(error)),
    })
}

fn is_delta(sum: &[u8]) -> Result<bool, ProtobufError> {
    let mut is_delta = false;
    for field in Fields::of(sum) {
        let field = field?;
        if let (2, FieldValue::Varint(temporality)) = (field.number, field.value) {
            is_delta = temporality == DELTA;
        }
    }
    Ok(is_delta)
}

/// Adds the attributes that a message has under one number. `None`: there are too many, or too long ones.
fn read_labels(message: &[u8], number: u32, labels: &mut Option<Labels>) -> Result<(), ProtobufError> {
    for attribute in messages(message, number) {
        let attribute = attribute?;
        let (mut name, mut value) = (Some(""), Some(String::new()));
        for field in Fields::of(attribute) {
            let field = field?;
            match (field.number, field.value) {
                (1, FieldValue::Bytes(bytes)) => name = text(bytes)?,
                (2, FieldValue::Bytes(any)) => value = any_value(any)?,
                _ => {}
            }
        }
        match (labels.as_mut(), name, value) {
            (Some(list), Some(name), Some(value)) if list.len() < TELEMETRY_LABELS_MAX => {
                list.push((name.to_owned(), value));
            }
            _ => *labels = None,
        }
    }
    Ok(())
}

/// An `AnyValue` in words. `None`: too long, or a list of others.
fn any_value(any: &[u8]) -> Result<Option<String>, ProtobufError> {
    let mut value = Some(String::new());
    for field in Fields::of(any) {
        let field = field?;
        value = match (field.number, field.value) {
            (1, FieldValue::Bytes(bytes)) => text(bytes)?.map(str::to_owned),
            (2, FieldValue::Varint(truth)) => Some((truth != 0).to_string()),
            (3, FieldValue::Varint(number)) => Some((number as i64).to_string()),
            (4, FieldValue::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
            _ => None,
        };
    }
    Ok(value)
}

/// `None`: too long.
fn text(bytes: &[u8]) -> Result<Option<&str>, ProtobufError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError)?;
    Ok((text.len() <= TELEMETRY_TEXT_BYTES_MAX).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// A field that is a text or a message.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [&field[..], content].concat()
    }

    fn fixed(number: u8, bits: u64) -> Vec<u8> {
        [&[number << 3 | 1][..], &bits.to_le_bytes()].concat()
    }

    fn attribute(number: u8, name: &str, any: &[u8]) -> Vec<u8> {
        bytes(number, &[bytes(1, name.as_bytes()), bytes(2, any)].concat())
    }

    fn metric(name: &str, data: &[u8]) -> Vec<u8> {
        bytes(2, &[bytes(1, name.as_bytes()), data.to_vec()].concat())
    }

    fn gauge(points: &[Vec<u8>]) -> Vec<u8> {
        bytes(5, &points.iter().flat_map(|point| bytes(1, point)).collect::<Vec<u8>>())
    }

    /// Everything of one resource.
    fn data(resource: &[u8], metrics: &[Vec<u8>]) -> Vec<u8> {
        bytes(1, &[bytes(1, resource), bytes(2, &metrics.concat())].concat())
    }

    /// As `name{label=value} = number`.
    fn shown(measured: &Measured) -> Vec<String> {
        let labels = |series: &Series| series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let rows = measured.values.iter().map(|(series, value)| {
            let labels: Vec<String> = labels(series);
            format!("{}{{{}}} = {}", series.metric, labels.join(","), value.get())
        });
        rows.collect()
    }

    fn sample() -> Vec<u8> {
        let sum = |temporality: u8| bytes(7, &[bytes(1, &fixed(6, -5i64 as u64)), vec![0x10, temporality]].concat());
        let labelled = [fixed(4, 1.5f64.to_bits()), attribute(7, "node.id", &[0x18, 3])].concat();
        let resource = attribute(1, "group_id", &bytes(1, b"g"));
        let metrics = [
            metric("a", &gauge(&[labelled.clone(), fixed(4, 2f64.to_bits())])),
            metric("b", &sum(2)),
            metric("delta", &sum(1)),
            metric("nan", &gauge(&[fixed(4, f64::NAN.to_bits())])),
            metric("nothing", &gauge(&[labelled[9..].to_vec()])),
            metric("histogram", &bytes(9, b"")),
            metric("a", &gauge(&[fixed(4, 3f64.to_bits())])),
        ];
        data(&resource, &metrics)
    }

    #[test]
    fn gauges_and_sums_are_kept_with_their_labels() {
        let measured = Measured::decode(&sample()).expect("sound");
        assert_eq!(shown(&measured), ["a{group_id=g} = 3", "a{group_id=g,node.id=3} = 1.5", "b{group_id=g} = -5"]);
        assert_eq!(measured.left_out, 4);
        assert_eq!(Measured::decode(b""), Ok(Measured::default()));
    }

    #[test]
    fn attributes_are_texts() {
        let check = |any: &[u8], expect: Option<&str>| {
            let point = [fixed(4, 1f64.to_bits()), attribute(7, "x", any)].concat();
            let measured = Measured::decode(&data(b"", &[metric("m", &gauge(&[point]))])).expect("sound");
            let expect: Vec<String> = expect.map(|value| format!("m{{x={value}}} = 1")).into_iter().collect();
            assert_eq!(shown(&measured), expect);
        };
        check(&bytes(1, "grö".as_bytes()), Some("grö"));
        check(&[0x10, 1], Some("true"));
        check(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some("-1"));
        check(&fixed(4, 0.5f64.to_bits()), Some("0.5"));
        check(b"", Some(""));
        check(&bytes(5, b""), None);
        check(&bytes(1, &[b'x'; TELEMETRY_TEXT_BYTES_MAX]), Some(&"x".repeat(TELEMETRY_TEXT_BYTES_MAX)));
        check(&bytes(1, &[b'x'; TELEMETRY_TEXT_BYTES_MAX + 1]), None);
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let labels: Vec<u8> = (0..=TELEMETRY_LABELS_MAX).flat_map(|_| attribute(7, "x", &bytes(1, b"y"))).collect();
        let point = fixed(4, 1f64.to_bits());
        let metrics = [
            metric("m", &gauge(&[[point.clone(), labels].concat()])),
            metric(&"m".repeat(TELEMETRY_TEXT_BYTES_MAX + 1), &gauge(std::slice::from_ref(&point))),
        ];
        let measured = Measured::decode(&data(b"", &metrics)).expect("sound");
        assert_eq!((measured.values.len(), measured.left_out), (0, 2));
        let resource: Vec<u8> = (0..15).flat_map(|_| attribute(1, "x", &bytes(1, &[b'y'; 255]))).collect();
        let many: Vec<Vec<u8>> =
            (0..1000).map(|at| metric(&at.to_string(), &gauge(std::slice::from_ref(&point)))).collect();
        let measured = Measured::decode(&data(&resource, &many)).expect("sound");
        assert!(measured.bytes <= TELEMETRY_CLIENT_BYTES_MAX && measured.values.len() > 100);
        assert_eq!(measured.values.len() as u64 + measured.left_out, 1000);
    }

    #[test]
    fn any_bytes_are_values_or_an_error() {
        let (mut rng, whole) = (Rng::new(5), sample());
        for cut in 0..whole.len() {
            assert_eq!(Measured::decode(&whole[..cut]).is_ok(), cut == 0, "cut at {cut}");
        }
        for _ in 0..20_000 {
            let mut damaged = whole.clone();
            for _ in 0..=rng.below(4) {
                let at = rng.below(damaged.len() as u64) as usize;
                damaged[at] = rng.next_u64() as u8;
            }
            if let Ok(measured) = Measured::decode(&damaged) {
                assert!(measured.values.len() < damaged.len());
            }
        }
    }
}
