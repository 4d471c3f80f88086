//! QuorumMessages: what the members of the metadata quorum tell each other. Not one of Kafka's.
//!
//! *Owns*: the two tables. *Never*: looks into the messages. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 1001 "QuorumMessages", versions 0-0, flexible 0;

    message QuorumMessagesRequest {
        /// Where the sender's core 0 listens for other brokers: who joins does not know it yet.
        host: Text, 0+;
        port: u16, 0+;
        /// In the order they were made.
        messages: Vec<Bytes>, 0+;
    }

    message QuorumMessagesResponse {
        error_code: i16, 0+;
    }
}
