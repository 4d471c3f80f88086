//! DescribeConfigs: settings of topics and brokers (KIP-133; synonyms: KIP-226; documentation: KIP-569).
//!
//! *Owns*: the two tables. *Never*: knows a setting. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 32 "DescribeConfigs", versions 1-4, flexible 4;

    message DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>, 0+;
        include_synonyms: bool, 1+;
        include_documentation: bool, 3+;
    }

    part DescribeConfigsResource {
        /// 2: topic. 4: broker. 8: loggers of a broker. 32: group.
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        /// `None` or none: all settings.
        configuration_keys: Option<Vec<Text>>, 0+, null 0+;
    }

    message DescribeConfigsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<DescribeConfigsResult>, 0+;
    }

    part DescribeConfigsResult {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        configs: Vec<DescribeConfigsResourceResult>, 0+;
    }

    part DescribeConfigsResourceResult {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
        read_only: bool, 0+;
        /// 1: of the topic. 2, 3: changed while running, of the broker, of all. 4: static, of the broker. 5: default.
        /// 6: of a logger. 8: of the group.
        config_source: i8, 1+, default -1;
        is_sensitive: bool, 0+;
        synonyms: Vec<DescribeConfigsSynonym>, 1+;
        /// 1: boolean, 2: string, 3: int, 4: short, 5: long, 6: double, 7: list, 8: class, 9: password.
        config_type: i8, 3+;
        documentation: Option<Text>, 3+, null 0+;
    }

    part DescribeConfigsSynonym {
        name: Text, 1+;
        value: Option<Text>, 1+, null 0+;
        source: i8, 1+;
    }
}
