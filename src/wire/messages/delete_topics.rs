//! DeleteTopics (KIP-4; messages: KIP-599; topic ids: KIP-516).
//!
//! *Owns*: the two tables. *Never*: deletes. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 20 "DeleteTopics", versions 1-6, flexible 4;

    message DeleteTopicsRequest {
        topics: Vec<DeleteTopicState>, 6+;
        topic_names: Vec<Text>, 0-5;
        timeout_ms: i32, 0+;
    }

    part DeleteTopicState {
        /// `None`: look for the id.
        name: Option<Text>, 6+, null 6+;
        topic_id: TopicId, 6+;
    }

    message DeleteTopicsResponse {
        throttle_time_ms: i32, 1+;
        responses: Vec<DeletableTopicResult>, 0+;
    }

    part DeletableTopicResult {
        /// `None`: the id asked for is not known. Before version 6 there is no null: it reads as "".
        name: Option<Text>, 0+, null 6+;
        topic_id: TopicId, 6+;
        error_code: i16, 0+;
        error_message: Option<Text>, 5+, null 5+;
    }
}
