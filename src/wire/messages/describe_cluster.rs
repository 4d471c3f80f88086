//! DescribeCluster: the brokers (KIP-700; controllers: KIP-919; fenced brokers: KIP-1073).
//!
//! *Owns*: the two tables. *Never*: holds metadata. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

/// Kinds of endpoints that may be asked for.
pub const ENDPOINT_BROKERS: i8 = 1;
pub const ENDPOINT_CONTROLLERS: i8 = 2;

/// Not one of Kafka's: where the broker that is asked listens for other brokers, and it alone.
pub const ENDPOINT_PEER: i8 = 100;

api! {
    API: 60 "DescribeCluster", versions 0-2, flexible 0;

    message DescribeClusterRequest {
        include_cluster_authorized_operations: bool, 0+;
        /// One of the kinds above.
        endpoint_type: i8, 1+, default 1;
        include_fenced_brokers: bool, 2+;
    }

    message DescribeClusterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        endpoint_type: i8, 1+, default 1;
        cluster_id: Text, 0+;
        controller_id: i32, 0+, default -1;
        brokers: Vec<DescribeClusterBroker>, 0+;
        /// A bit per operation; the default means "not asked for".
        cluster_authorized_operations: i32, 0+, default i32::MIN;
    }

    part DescribeClusterBroker {
        broker_id: i32, 0+;
        host: Text, 0+;
        port: i32, 0+;
        rack: Option<Text>, 0+, null 0+;
        is_fenced: bool, 2+;
    }
}
