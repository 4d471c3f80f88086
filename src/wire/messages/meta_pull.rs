//! MetaPull: a broker without a vote asks another for the metadata that it lacks. Not one of Kafka's.
//!
//! *Owns*: the two tables. *Never*: looks into the answer. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;

api! {
    API: 1002 "MetaPull", versions 0-0, flexible 0;

    message MetaPullRequest {
        /// Up to where in the quorum's log the asker has everything. 0: it has nothing.
        version: i64, 0+;
    }

    message MetaPullResponse {
        error_code: i16, 0+;
        /// What comes next there, in the form of the quorum's messages. Empty: nothing can be told.
        answer: Bytes, 0+;
    }
}
