//! Kafka's error codes: one row each.
//!
//! *Owns*: the codes, and which of them a client may try again. *Never*: maps an error of ours to one (whoever
//! answers does). *Runs on*: every core.
//!
//! Codes, names and what may be retried: Kafka 4.1, `org.apache.kafka.common.protocol.Errors` and the exceptions it
//! names.

use std::fmt;

/// What a client may do about a code: `again` is `RetriableException` in Kafka's clients.
macro_rules! retriable {
    (again) => {
        true
    };
    (final) => {
        false
    };
}

macro_rules! error_codes {
    ($($(#[$default:meta])? $code:literal, $name:ident, $retry:tt, $message:literal;)*) => {
        /// An error code as it goes over the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $(#[$default])? $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, in order.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// The code's meaning, or `None` if it is newer than this table.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$name),)*
                    _ => None,
                }
            }

            /// Whether the same request may succeed later. Clients of Kafka retry these by themselves.
            pub const fn retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => retriable!($retry),)*
                }
            }

            /// One sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)*
                }
            }

            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                }
            }
        }
    };
}

error_codes! {
    -1, UnknownServerError, final, "The broker met an error it has no code for.";
    #[default]
    0, None, final, "No error.";
    1, OffsetOutOfRange, final, "The offset is outside what the partition's log holds.";
    2, CorruptMessage, again, "The batch is damaged: its checksum, its size or its form is wrong.";
    3, UnknownTopicOrPartition, again, "This broker does not know the topic or partition.";
    4, InvalidFetchSize, final, "The fetch size is not valid.";
    5, LeaderNotAvailable, again, "The partition has no leader at the moment.";
    6, NotLeaderOrFollower, again, "This broker does not lead the partition, or has no replica of it.";
    7, RequestTimedOut, again, "The request was not done within its time.";
    8, BrokerNotAvailable, final, "The broker is not available.";
    9, ReplicaNotAvailable, again, "The replica is not available.";
    10, MessageTooLarge, final, "The batch is larger than the topic's max.message.bytes.";
    11, StaleControllerEpoch, final, "The controller moved to another broker.";
    12, OffsetMetadataTooLarge, final, "The text that goes with the committed offset is too long.";
    13, NetworkException, again, "The connection ended before the reply.";
    14, CoordinatorLoadInProgress, again, "The coordinator is still reading its state.";
    15, CoordinatorNotAvailable, again, "There is no coordinator at the moment.";
    16, NotCoordinator, again, "This broker is not the coordinator.";
    17, InvalidTopicException, final, "The topic's name is not valid, or the topic may not be used like this.";
    18, RecordListTooLarge, final, "The batch is larger than a segment.";
    19, NotEnoughReplicas, again, "There are fewer in-sync replicas than required; nothing was written.";
    20, NotEnoughReplicasAfterAppend, again, "The batch was written, to fewer in-sync replicas than required.";
    21, InvalidRequiredAcks, final, "The number of acks is none of -1, 0 and 1.";
    22, IllegalGeneration, final, "The group has moved on from that generation.";
    23, InconsistentGroupProtocol, final, "The member's protocols do not fit those of the group.";
    24, InvalidGroupId, final, "The group's name is not valid.";
    25, UnknownMemberId, final, "The coordinator does not know the member.";
    26, InvalidSessionTimeout, final, "The session timeout is outside what the broker allows.";
    27, RebalanceInProgress, final, "The group is rebalancing: join again.";
    28, InvalidCommitOffsetSize, final, "The offsets to be committed are too large.";
    29, TopicAuthorizationFailed, final, "Not allowed on this topic.";
    30, GroupAuthorizationFailed, final, "Not allowed on this group.";
    31, ClusterAuthorizationFailed, final, "Not allowed on this cluster.";
    32, InvalidTimestamp, final, "The timestamp is outside what the topic allows.";
    33, UnsupportedSaslMechanism, final, "The broker does not offer that SASL mechanism.";
    34, IllegalSaslState, final, "The request does not fit the state of the SASL exchange.";
    35, UnsupportedVersion, final, "The broker does not speak that version of the API.";
    36, TopicAlreadyExists, final, "There is a topic of that name.";
    37, InvalidPartitions, final, "The number of partitions is not valid.";
    38, InvalidReplicationFactor, final, "The replication factor is below 1 or above the number of brokers.";
    39, InvalidReplicaAssignment, final, "The assignment of replicas to brokers is not valid.";
    40, InvalidConfig, final, "A setting is not known or its value is not valid.";
    41, NotController, again, "This broker is not the controller.";
    42, InvalidRequest, final, "The request contradicts itself or the protocol.";
    43, UnsupportedForMessageFormat, final, "The record format does not support that.";
    44, PolicyViolation, final, "A policy of the cluster forbids it.";
    45, OutOfOrderSequenceNumber, final, "The producer's sequence numbers have a gap.";
    46, DuplicateSequenceNumber, final, "The broker has that sequence number already.";
    47, InvalidProducerEpoch, final, "The producer's epoch is too old.";
    48, InvalidTxnState, final, "The transaction is not in a state that allows that.";
    49, InvalidProducerIdMapping, final, "The producer id does not belong to the transactional id.";
    50, InvalidTransactionTimeout, final, "The transaction timeout is above what the broker allows.";
    51, ConcurrentTransactions, again, "Another change of the same transaction is still going on.";
    52, TransactionCoordinatorFenced, final, "The transaction's coordinator is another one by now.";
    53, TransactionalIdAuthorizationFailed, final, "Not allowed on this transactional id.";
    54, SecurityDisabled, final, "Security is switched off.";
    55, OperationNotAttempted, final, "Not tried, because another part of the request failed.";
    56, KafkaStorageError, again, "A disk failed under the log.";
    57, LogDirNotFound, final, "The broker has no such log directory.";
    58, SaslAuthenticationFailed, final, "The credentials are not valid.";
    59, UnknownProducerId, final, "The broker no longer knows the producer id.";
    60, ReassignmentInProgress, final, "The partition is being moved.";
    61, DelegationTokenAuthDisabled, final, "Delegation tokens are switched off.";
    62, DelegationTokenNotFound, final, "There is no such delegation token.";
    63, DelegationTokenOwnerMismatch, final, "The delegation token belongs to someone else.";
    64, DelegationTokenRequestNotAllowed, final, "Delegation tokens cannot be asked for over this connection.";
    65, DelegationTokenAuthorizationFailed, final, "Not allowed on this delegation token.";
    66, DelegationTokenExpired, final, "The delegation token has expired.";
    67, InvalidPrincipalType, final, "The type of principal is not known.";
    68, NonEmptyGroup, final, "The group has members.";
    69, GroupIdNotFound, final, "There is no such group.";
    70, FetchSessionIdNotFound, again, "There is no such fetch session: start a new one.";
    71, InvalidFetchSessionEpoch, again, "The epoch is not the next one of the fetch session.";
    72, ListenerNotFound, again, "The leader has no listener of the name that the client came through.";
    73, TopicDeletionDisabled, final, "Deleting topics is switched off.";
    74, FencedLeaderEpoch, again, "The leader epoch is older than the broker's.";
    75, UnknownLeaderEpoch, again, "The leader epoch is newer than the broker's.";
    76, UnsupportedCompressionType, final, "The client's version does not know that compression.";
    77, StaleBrokerEpoch, final, "The broker has registered anew since.";
    78, OffsetNotAvailable, again, "The new leader does not know yet how far its log is safe.";
    79, MemberIdRequired, final, "Join again with the member id given.";
    80, PreferredLeaderNotAvailable, again, "The preferred leader is not available.";
    81, GroupMaxSizeReached, final, "The group has as many members as it may.";
    82, FencedInstanceId, final, "Another member has taken the static instance id.";
    83, EligibleLeadersNotAvailable, again, "No replica that may lead is available.";
    84, ElectionNotNeeded, again, "The partition has the leader it should have.";
    85, NoReassignmentInProgress, final, "The partition is not being moved.";
    86, GroupSubscribedToTopic, final, "The group still reads the topic.";
    87, InvalidRecord, final, "A record of the batch is not valid.";
    88, UnstableOffsetCommit, again, "Offsets of an open transaction stand in the way.";
    89, ThrottlingQuotaExceeded, again, "The quota is used up: try later.";
    90, ProducerFenced, final, "A newer producer has the same transactional id.";
    91, ResourceNotFound, final, "There is no such thing.";
    92, DuplicateResource, final, "The request names the same thing twice.";
    93, UnacceptableCredential, final, "The credential is not good enough.";
    94, InconsistentVoterSet, final, "Sender and receiver do not agree on who votes.";
    95, InvalidUpdateVersion, final, "The version of the update is not valid.";
    96, FeatureUpdateFailed, final, "The features could not be updated.";
    97, PrincipalDeserializationFailure, final, "The forwarded principal cannot be read.";
    98, SnapshotNotFound, final, "There is no such snapshot.";
    99, PositionOutOfRange, final, "The position is outside the snapshot.";
    100, UnknownTopicId, again, "This broker does not know the topic id.";
    101, DuplicateBrokerRegistration, final, "Another broker has that id.";
    102, BrokerIdNotRegistered, final, "No broker of that id is registered.";
    103, InconsistentTopicId, again, "The log has another topic id than the request.";
    104, InconsistentClusterId, final, "The request means another cluster.";
    105, TransactionalIdNotFound, final, "There is no such transactional id.";
    106, FetchSessionTopicIdError, again, "The fetch session mixes topic names and topic ids.";
    107, IneligibleReplica, final, "A replica of the new in-sync set may not be in it.";
    108, NewLeaderElected, final, "Done, and the partition has a new leader.";
    109, OffsetMovedToTieredStorage, final, "The offset is in tiered storage.";
    110, FencedMemberEpoch, final, "The coordinator has fenced the member: give up all partitions and join again.";
    111, UnreleasedInstanceId, final, "Another member still uses the instance id.";
    112, UnsupportedAssignor, final, "The group does not support that assignor.";
    113, StaleMemberEpoch, final, "The member's epoch is old: wait for the next heartbeat.";
    114, MismatchedEndpointType, final, "That kind of request belongs to another kind of endpoint.";
    115, UnsupportedEndpointType, final, "The kind of endpoint is not supported.";
    116, UnknownControllerId, final, "There is no controller of that id.";
    117, UnknownSubscriptionId, final, "The telemetry subscription is not known or has changed.";
    118, TelemetryTooLarge, final, "The telemetry is larger than the broker takes.";
    119, InvalidRegistration, final, "The controller refuses the broker's registration.";
    120, TransactionAbortable, final, "The transaction failed; abort it, and go on with the same transactional id.";
    121, InvalidRecordState, final, "The record is not in a state that allows acknowledging it.";
    122, ShareSessionNotFound, again, "There is no such share session.";
    123, InvalidShareSessionEpoch, again, "The epoch is not the next one of the share session.";
    124, FencedStateEpoch, final, "The share group's state has a newer epoch.";
    125, InvalidVoterKey, final, "The voter's key is not that of the replica.";
    126, DuplicateVoter, final, "The voter is one already.";
    127, VoterNotFound, final, "There is no such voter.";
    128, InvalidRegularExpression, final, "The regular expression is not valid.";
    129, RebootstrapRequired, final, "The client's view of the cluster is too old: start from the bootstrap addresses.";
    130, StreamsInvalidTopology, final, "The topology is not valid.";
    131, StreamsInvalidTopologyEpoch, final, "The epoch of the topology is not valid.";
    132, StreamsTopologyFenced, final, "The topology is out of date.";
    133, ShareSessionLimitReached, again, "There are as many share sessions as there may be.";
}

impl ErrorCode {
    /// As it goes over the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    /// The name as Kafka's tools print it: `NOT_LEADER_OR_FOLLOWER`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, letter) in self.name().char_indices() {
            if i > 0 && letter.is_ascii_uppercase() {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_go_both_ways() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
        assert_eq!(codes, (-1..=133).collect::<Vec<i16>>());
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
        }
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(i16::MIN), None);
    }

    #[test]
    fn names_and_retries() {
        let check = |error: ErrorCode, name: &str, retriable: bool| {
            assert_eq!(error.to_string(), name);
            assert_eq!(error.retriable(), retriable, "{name}");
        };
        check(ErrorCode::None, "NONE", false);
        check(ErrorCode::NotLeaderOrFollower, "NOT_LEADER_OR_FOLLOWER", true);
        check(ErrorCode::KafkaStorageError, "KAFKA_STORAGE_ERROR", true);
        check(ErrorCode::CorruptMessage, "CORRUPT_MESSAGE", true);
        check(ErrorCode::OffsetOutOfRange, "OFFSET_OUT_OF_RANGE", false);
        check(ErrorCode::MessageTooLarge, "MESSAGE_TOO_LARGE", false);
    }
}
