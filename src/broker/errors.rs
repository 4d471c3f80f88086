//! The one place where refusals become Kafka's error codes.
//!
//! *Owns*: the mapping. *Never*: decides to refuse. *Runs on*: every core.

use crate::log::log::{AppendError, ReadError};
use crate::replica::partition::Refusal;
use crate::wire::errors::ErrorCode;

pub fn of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Batch(error) => error.code(),
        Refusal::Append(error) => of_append(error),
        Refusal::NotWritten { .. } | Refusal::Unavailable => ErrorCode::KafkaStorageError,
        Refusal::Deleted => ErrorCode::UnknownTopicOrPartition,
        Refusal::NotDeletable => ErrorCode::PolicyViolation,
        Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        Refusal::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        Refusal::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        Refusal::NotLeader => ErrorCode::NotLeaderOrFollower,
        Refusal::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
        Refusal::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        Refusal::TimedOut => ErrorCode::RequestTimedOut,
    }
}

/// What a person is told beside the code, in Produce from version 8.
pub fn refusal_message(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::Batch(error) => Some(error.to_string()),
        Refusal::Append(AppendError::Offline { message }) => Some(message.clone()),
        Refusal::Append(error) => Some(format!("{error:?}")),
        Refusal::NotWritten { full: true, message } => Some(format!(
            "the data directory has no space left ({message}); nothing of the batch was kept, send it again when there is space"
        )),
        Refusal::NotWritten { full: false, message } => {
            Some(format!("the write failed ({message}); nothing of the batch was kept"))
        }
        Refusal::Unavailable => Some("the partition's log is not available; the broker's log says why".into()),
        Refusal::Deleted
        | Refusal::NotDeletable
        | Refusal::OffsetOutOfRange
        | Refusal::FencedEpoch
        | Refusal::UnknownEpoch
        | Refusal::NotLeader
        | Refusal::NotEnoughReplicas
        | Refusal::NotEnoughReplicasAfterAppend
        | Refusal::TimedOut => None,
    }
}

pub fn of_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange => ErrorCode::OffsetOutOfRange,
        ReadError::Offline { .. } | ReadError::Io { .. } => ErrorCode::KafkaStorageError,
    }
}

fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        AppendError::LargerThanSegment => ErrorCode::RecordListTooLarge,
        AppendError::LeaderEpochBehind { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::Offline { .. } => ErrorCode::KafkaStorageError,
    }
}
