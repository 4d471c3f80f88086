//! Batches and records as text, with the fields of Kafka's dump tool, or as one JSON object a line.
//!
//! *Owns*: the words. Source: Kafka, `kafka.tools.DumpLogSegments`. *Never*: reads a file. *Runs on*: the main thread.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::base::time::TimestampType;
use crate::log::inspect::PlacedBatch;
use crate::wire::batch::BatchHeader;
use crate::wire::records::{BatchRecords, PlacedRecord};

/// How much is told, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    pub records: bool,
    pub json: bool,
}

/// Writes one batch, and its records where they are asked for.
pub fn write_batch(to: &mut impl Write, batch: &PlacedBatch, form: Form) -> io::Result<()> {
    if form.json {
        let mut line = batch_json(batch);
        if form.records {
            line["records"] = match BatchRecords::open(&batch.bytes) {
                Ok(records) => records.iter().map_while(Result::ok).map(|record| record_json(&record)).collect(),
                Err(why) => json!(why.to_string()),
            };
        }
        return writeln!(to, "{line}");
    }
    writeln!(to, "{}", batch_text(batch))?;
    if form.records {
        match BatchRecords::open(&batch.bytes) {
            Err(why) => writeln!(to, "| {why}")?,
            Ok(records) => {
                for record in &records {
                    match record {
                        Ok(record) => writeln!(to, "{}", record_text(&batch.header, &record))?,
                        Err(why) => writeln!(to, "| {why}")?,
                    }
                }
            }
        }
    }
    Ok(())
}

fn time_name(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn codec(header: &BatchHeader) -> &'static str {
    header.compression().map_or("unknown", |compression| compression.name())
}

fn batch_text(batch: &PlacedBatch) -> String {
    let header = &batch.header;
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} position: {} {}: {} size: {} magic: {} \
         compresscodec: {} crc: {} isvalid: true",
        header.base_offset,
        header.last_offset(),
        header.records_count,
        header.base_sequence,
        header.last_sequence(),
        header.producer_id,
        header.producer_epoch,
        header.partition_leader_epoch,
        header.is_transactional(),
        header.is_control(),
        batch.position,
        time_name(header),
        header.max_timestamp,
        header.size_bytes(),
        header.magic,
        codec(header),
        header.crc,
    )
}

fn batch_json(batch: &PlacedBatch) -> Value {
    let header = &batch.header;
    json!({
        "baseOffset": header.base_offset,
        "lastOffset": header.last_offset().0,
        "count": header.records_count,
        "baseSequence": header.base_sequence,
        "lastSequence": header.last_sequence(),
        "producerId": header.producer_id,
        "producerEpoch": header.producer_epoch,
        "partitionLeaderEpoch": header.partition_leader_epoch,
        "isTransactional": header.is_transactional(),
        "isControl": header.is_control(),
        "position": batch.position,
        "timestampType": time_name(header),
        "maxTimestamp": header.max_timestamp,
        "size": header.size_bytes(),
        "compression": codec(header),
        "crc": header.crc,
    })
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn size(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn sequence(header: &BatchHeader, record: &PlacedRecord) -> i64 {
    if header.base_sequence < 0 {
        return -1;
    }
    (i64::from(header.base_sequence) + i64::from(record.record.offset_delta)) & i64::from(i32::MAX)
}

fn record_text(header: &BatchHeader, record: &PlacedRecord) -> String {
    let (key, value) = (record.record.key, record.record.value);
    let names: Vec<_> = record.record.headers().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let mut line = format!(
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headerKeys: [{}]",
        record.offset,
        time_name(header),
        record.timestamp,
        size(key),
        size(value),
        sequence(header, record),
        names.join(","),
    );
    for (what, bytes) in [("key", key), ("payload", value)] {
        if let Some(text) = text(bytes) {
            line.push_str(&format!(" {what}: {text}"));
        }
    }
    line
}

fn record_json(record: &PlacedRecord) -> Value {
    let headers: Vec<Value> =
        record.record.headers().map(|(name, value)| json!({ "key": text(Some(name)), "value": text(value) })).collect();
    json!({
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "key": text(record.record.key),
        "value": text(record.record.value),
        "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compression::Compression;
    use crate::wire::records::BatchBuilder;

    fn dumped(form: Form) -> String {
        let mut builder = BatchBuilder::new(Compression::Lz4).producer(7, 1, i32::MAX);
        builder.push(1000, None, Some(b"one"));
        builder.push_with_headers(1005, Some(b"k"), None, &[(b"h", Some(b"v"))]);
        let built = builder.build();
        let batch = PlacedBatch { position: 4096, header: built.header, bytes: built.bytes };
        let mut out = Vec::new();
        write_batch(&mut out, &batch, form).expect("a vector takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_batch_has_the_fields_of_kafkas_dump_tool() {
        let text = dumped(Form { records: true, json: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let start = "baseOffset: 0 lastOffset: 1 count: 2 baseSequence: 2147483647 lastSequence: 0 producerId: 7 \
                     producerEpoch: 1 partitionLeaderEpoch: -1 isTransactional: false isControl: false \
                     position: 4096 CreateTime: 1005 size: ";
        assert!(lines[0].starts_with(start), "{}", lines[0]);
        assert!(lines[0].contains("magic: 2 compresscodec: lz4 crc: "), "{}", lines[0]);
        assert_eq!(
            lines[1],
            "| offset: 0 CreateTime: 1000 keySize: -1 valueSize: 3 sequence: 2147483647 headerKeys: [] payload: one"
        );
        assert_eq!(
            lines[2],
            "| offset: 1 CreateTime: 1005 keySize: 1 valueSize: -1 sequence: 0 headerKeys: [h] key: k"
        );
    }

    #[test]
    fn a_line_of_json_says_the_same() {
        let line: Value = serde_json::from_str(&dumped(Form { records: true, json: true })).expect("JSON");
        assert_eq!((&line["count"], &line["compression"]), (&json!(2), &json!("lz4")));
        let second = json!({
            "offset": 1, "timestamp": 1005, "key": "k", "value": null, "headers": [{ "key": "h", "value": "v" }],
        });
        assert_eq!(line["records"][1], second);
        let line: Value = serde_json::from_str(&dumped(Form { records: false, json: true })).expect("JSON");
        assert_eq!(line.get("records"), None);
    }
}
