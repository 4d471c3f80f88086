//! Record batches against another implementation, both ways and in every compression.

use bytes::{Bytes, BytesMut};
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::base::time::TimestampType;
use corelog::wire::batch::{BatchLimits, check_produce};
use corelog::wire::compression::Compression;
use corelog::wire::records::{BatchBuilder, BatchRecords};
use kafka_protocol::records as theirs;

const NOW_MS: i64 = 1_700_000_000_000;

const LIMITS: BatchLimits = BatchLimits {
    max_message_bytes: 1 << 20,
    timestamp_type: TimestampType::CreateTime,
    before_max_ms: i64::MAX,
    after_max_ms: 3_600_000,
};

/// A record as both sides have it: key, value, headers.
type Plain = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn samples() -> Vec<Plain> {
    vec![
        (Some(b"key".to_vec()), Some(b"value".to_vec()), vec![]),
        (None, None, vec![(b"name".to_vec(), None), (b"other".to_vec(), Some(b"x".to_vec()))]),
        (Some(vec![]), Some(vec![]), vec![(b"empty".to_vec(), Some(vec![]))]),
        (None, Some((0..200_000u32).map(|i| (i.wrapping_mul(i) / 7) as u8).collect()), vec![]),
        (Some(vec![b'k'; 300]), Some(vec![b'v'; 100]), vec![]),
    ]
}

const COMPRESSIONS: [(Compression, theirs::Compression); 5] = [
    (Compression::None, theirs::Compression::None),
    (Compression::Gzip, theirs::Compression::Gzip),
    (Compression::Snappy, theirs::Compression::Snappy),
    (Compression::Lz4, theirs::Compression::Lz4),
    (Compression::Zstd, theirs::Compression::Zstd),
];

#[test]
fn they_read_what_we_stamp() {
    for (compression, their_compression) in COMPRESSIONS {
        for log_append_time_ms in [None, Some(NOW_MS + 5)] {
            let mut builder = BatchBuilder::new(compression).producer(5, 2, 100);
            for (key, value, headers) in &samples() {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
                builder.push_with_headers(NOW_MS, key.as_deref(), value.as_deref(), &headers);
            }
            let batch = check_produce(&builder.build().bytes, &LIMITS, NOW_MS).expect("it is whole");
            let stored = batch.stamp(Offset(1000), LeaderEpoch(3), log_append_time_ms);
            let mut bytes = BytesMut::from(&stored.slices().collect::<Vec<_>>().concat()[..]).freeze();
            let read = theirs::RecordBatchDecoder::decode(&mut bytes).expect("they can read it");
            assert_eq!(read.compression, their_compression);
            assert_eq!(read.records.iter().map(plain).collect::<Vec<_>>(), samples());
            for (index, record) in read.records.iter().enumerate() {
                assert_eq!(record.offset, 1000 + index as i64);
                assert_eq!(record.sequence, 100 + index as i32);
                assert_eq!(record.partition_leader_epoch, 3);
                assert_eq!((record.producer_id, record.producer_epoch), (5, 2));
                let is_create_time = record.timestamp_type == theirs::TimestampType::Creation;
                assert_eq!(is_create_time, log_append_time_ms.is_none());
            }
        }
    }
}

#[test]
fn we_read_what_they_build() {
    for (compression, their_compression) in COMPRESSIONS {
        let records: Vec<_> = samples().into_iter().enumerate().map(|(index, sample)| record(index, sample)).collect();
        let mut bytes = BytesMut::new();
        let options = theirs::RecordEncodeOptions { version: 2, compression: their_compression };
        theirs::RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("they can build it");
        let batch = check_produce(&bytes.freeze(), &LIMITS, NOW_MS).expect("we let it in");
        assert_eq!(batch.header.compression(), Some(compression));
        let opened = BatchRecords::open(&batch.bytes).expect("we can open it");
        let read: Vec<_> = opened.iter().collect::<Result<_, _>>().expect("every record is whole");
        assert_eq!(read.len(), records.len());
        for (ours, theirs) in read.iter().zip(&records) {
            assert_eq!((ours.offset.0, ours.timestamp), (theirs.offset, theirs.timestamp));
            let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let headers = ours.record.headers().map(|(name, value)| (name.to_vec(), own(value))).collect();
            assert_eq!((own(ours.record.key), own(ours.record.value), headers), plain(theirs));
        }
    }
}

fn plain(record: &theirs::Record) -> Plain {
    let own = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    let headers = record.headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), own(value))).collect();
    (own(&record.key), own(&record.value), headers)
}

fn record(index: usize, (key, value, headers): Plain) -> theirs::Record {
    let headers = headers
        .into_iter()
        .map(|(name, value)| (String::from_utf8(name).expect("the samples are text").into(), value.map(Bytes::from)));
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 5,
        producer_epoch: 2,
        timestamp_type: theirs::TimestampType::Creation,
        offset: index as i64,
        sequence: 100 + index as i32,
        timestamp: NOW_MS + index as i64,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: headers.collect(),
    }
}
