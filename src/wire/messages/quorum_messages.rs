//! QuorumMessages: what the members of the metadata quorum tell each other. Not one of Kafka's.
//!
//! *Owns*: the two tables. *Never*: looks into the messages. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;

api! {
    API: 1001 "QuorumMessages", versions 0-0, flexible 0;

    message QuorumMessagesRequest {
        /// In the order they were made.
        messages: Vec<Bytes>, 0+;
    }

    message QuorumMessagesResponse {
        error_code: i16, 0+;
    }
}
