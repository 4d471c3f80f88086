//! A client that deletes the oldest records of partitions: what it was told is deleted stays deleted.

use corelog::broker::api::key;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};

use crate::check::Part;
use crate::client::{Context, Wire, decode};
use crate::plan::{MS, TrimmerPlan};

const DELETE_RECORDS: (i16, i16) = (key::DELETE_RECORDS, 2);
/// Stands for the high watermark.
const EVERYTHING: i64 = -1;

pub struct Trimmer {
    plan: TrimmerPlan,
    /// What is to be deleted, and where the log must begin then.
    wire: Wire<(Part, i64)>,
    again_at: u64,
}

impl Trimmer {
    pub fn new(plan: TrimmerPlan) -> Trimmer {
        Trimmer { wire: Wire::to_leader(plan.targets[0]), plan, again_at: 0 }
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        self.wire.on_closed(context);
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if !context.load || !self.wire.is_due(self.again_at, context) {
            return;
        }
        let part = self.plan.targets[context.rng.below(self.plan.targets.len() as u64) as usize];
        let (start, end) = (context.model.start(part), context.model.end(part));
        let all = context.rng.below(8) == 0;
        let before = if all { EVERYTHING } else { start + context.rng.below((end - start).max(0) as u64 + 1) as i64 };
        let row = DeleteRecordsPartition { partition_index: part.1, offset: before };
        let name = context.plan.topics[part.0].name.as_str().into();
        let topic = DeleteRecordsTopic { name, partitions: vec![row] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
        self.wire.send(DELETE_RECORDS, &request, (part, start.max(before)), context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some(((part, before), frame)) = self.wire.next_reply() {
            let reply: DeleteRecordsResponse = decode(DELETE_RECORDS, frame);
            let row = &reply.topics[0].partitions[0];
            if row.error_code == 0 {
                context.model.on_start(part, row.low_watermark, before);
            } else {
                // A new leader may not know yet how much is committed.
                let is_short = context.plan.may_lose(part.0) || context.plan.nodes > 1;
                let lost = row.error_code == ErrorCode::OffsetOutOfRange.code() && is_short;
                let expected = [
                    ErrorCode::KafkaStorageError,
                    ErrorCode::NotLeaderOrFollower,
                    ErrorCode::UnknownTopicOrPartition,
                    ErrorCode::RequestTimedOut,
                ];
                self.wire.lose_leader(context);
                let is_fine = lost || expected.iter().any(|code| code.code() == row.error_code);
                assert!(is_fine, "{part:?}: a deletion is refused with error {}", row.error_code);
            }
            self.again_at = context.now + context.rng.below(self.plan.pause_ms * MS);
        }
        self.on_time(context);
    }
}
