//! What the user can do about a refusal, where a sentence helps.
//!
//! *Owns*: the advice. *Never*: says again what the code means (`wire/errors` does). *Runs on*: the main thread.

use crate::client::client::passes;
use crate::wire::errors::ErrorCode;

/// Advice for a code.
pub fn advice(error: ErrorCode) -> Option<&'static str> {
    Some(match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "`corelog topic list --internal` shows the topics that there are."
        }
        ErrorCode::TopicAlreadyExists => "Choose another name, or add --if-not-exists to take the topic as it is.",
        ErrorCode::InvalidTopicException => {
            "A name has 1 to 249 characters, which are letters, digits, `.`, `_` and `-`, and is neither `.` nor `..`."
        }
        ErrorCode::InvalidPartitions => "A topic has one partition at least; partitions are added, never taken away.",
        ErrorCode::InvalidReplicationFactor => "Leave --replication-factor out to take what the brokers have set.",
        ErrorCode::InvalidConfig => "`corelog config list --explain` shows the settings with their meaning.",
        ErrorCode::TopicDeletionDisabled => "The brokers allow it with delete.topic.enable=true.",
        ErrorCode::NonEmptyGroup => "Stop the group's consumers, or wait for their session timeouts, and try again.",
        ErrorCode::GroupSubscribedToTopic => "Stop the group's consumers that read the topic, and try again.",
        ErrorCode::GroupIdNotFound => "`corelog group list` shows the groups that there are.",
        ErrorCode::OffsetOutOfRange => "`corelog topic describe` shows which offsets there are.",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => "Ask whoever looks after the cluster for the right to do it.",
        error if passes(error.code()) || error == ErrorCode::RequestTimedOut => {
            "It may pass: try again, perhaps with a longer --timeout."
        }
        _ => return None,
    })
}
