//! AlterClientQuotas: sets and removes quotas of users and clients (KIP-546).
//!
//! *Owns*: the two tables. *Never*: knows a quota. *Runs on*: every core.

use crate::wire::codec::Float64;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 49 "AlterClientQuotas", versions 0-1, flexible 1;

    message AlterClientQuotasRequest {
        entries: Vec<EntryData>, 0+;
        validate_only: bool, 0+;
    }

    part EntryData {
        entity: Vec<EntityData>, 0+;
        ops: Vec<OpData>, 0+;
    }

    part EntityData {
        /// "user", "client-id" or "ip".
        entity_type: Text, 0+;
        /// `None`: the default entity.
        entity_name: Option<Text>, 0+, null 0+;
    }

    part OpData {
        /// "producer_byte_rate" and so on.
        key: Text, 0+;
        /// Nothing when it is removed.
        value: Float64, 0+;
        remove: bool, 0+;
    }

    message AlterClientQuotasResponse {
        throttle_time_ms: i32, 0+;
        entries: Vec<EntryResponse>, 0+;
    }

    part EntryResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        entity: Vec<EntityData>, 0+;
    }
}
