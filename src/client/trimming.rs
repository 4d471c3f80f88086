//! Logs that are to begin later.
//!
//! *Owns*: asking each partition's leader. *Never*: asks again: the first request may have been carried out.
//! *Runs on*: a thread that may wait.

use std::collections::BTreeMap;

use crate::client::client::{Client, To};
use crate::client::error::{ClientError, Refusal};
use crate::client::offsets::{Led, TopicPartition, by_topic};
use crate::wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};

impl Client {
    /// Deletes everything below these offsets; says where the logs begin then.
    pub fn delete_records(
        &mut self,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Result<i64, Refusal>>, ClientError> {
        let Led { by_leader, refused } = self.led(offsets.keys())?;
        let mut begins: BTreeMap<_, _> = refused.into_iter().map(|(place, refusal)| (place, Err(refusal))).collect();
        for (leader, places) in by_leader {
            let topics = by_topic(places.into_iter().map(|place| (place, offsets[place]))).into_iter();
            let row = |(partition_index, offset)| DeleteRecordsPartition { partition_index, offset };
            let topics = topics.map(|(name, rows)| DeleteRecordsTopic {
                name: name.into(),
                partitions: rows.into_iter().map(row).collect(),
            });
            let request = DeleteRecordsRequest { topics: topics.collect(), timeout_ms: self.wait_ms() };
            let reply: DeleteRecordsResponse = self.ask(To::Node(leader), &request, |_| Vec::new())?;
            for topic in &reply.topics {
                for row in &topic.partitions {
                    let place = TopicPartition { topic: topic.name.to_string(), partition: row.partition_index };
                    begins.insert(place, Refusal::of(row.error_code, None).map_or(Ok(row.low_watermark), Err));
                }
            }
        }
        Ok(begins)
    }
}
