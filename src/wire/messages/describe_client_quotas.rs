//! DescribeClientQuotas: which quotas users and clients have (KIP-546).
//!
//! *Owns*: the two tables. *Never*: knows a quota. *Runs on*: every core.

use crate::wire::codec::Float64;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 48 "DescribeClientQuotas", versions 0-1, flexible 1;

    message DescribeClientQuotasRequest {
        components: Vec<ComponentData>, 0+;
        /// Only entities of exactly these types.
        strict: bool, 0+;
    }

    part ComponentData {
        /// "user", "client-id" or "ip".
        entity_type: Text, 0+;
        /// 0: the name in `match_value`. 1: the default entity. 2: any.
        match_type: i8, 0+;
        match_value: Option<Text>, 0+, null 0+;
    }

    message DescribeClientQuotasResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        /// `None` after an error.
        entries: Option<Vec<EntryData>>, 0+, null 0+, default Some(Vec::new());
    }

    part EntryData {
        entity: Vec<EntityData>, 0+;
        values: Vec<ValueData>, 0+;
    }

    part EntityData {
        entity_type: Text, 0+;
        /// `None`: the default entity.
        entity_name: Option<Text>, 0+, null 0+;
    }

    part ValueData {
        /// "producer_byte_rate" and so on.
        key: Text, 0+;
        value: Float64, 0+;
    }
}
