//! IncrementalAlterConfigs: single settings of a thing (KIP-339).
//!
//! *Owns*: the two tables. *Never*: knows a setting. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 44 "IncrementalAlterConfigs", versions 0-1, flexible 1;

    message IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource>, 0+;
        validate_only: bool, 0+;
    }

    part AlterConfigsResource {
        /// 2: topic. 4: broker. 8: loggers of a broker. 32: group.
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        configs: Vec<AlterableConfig>, 0+;
    }

    part AlterableConfig {
        name: Text, 0+;
        /// 0: set. 1: delete. 2: append. 3: subtract.
        config_operation: i8, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    message IncrementalAlterConfigsResponse {
        throttle_time_ms: i32, 0+;
        responses: Vec<AlterConfigsResourceResponse>, 0+;
    }

    part AlterConfigsResourceResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
    }
}
