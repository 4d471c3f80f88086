//! BrokerRegistration: a broker that starts tells the controller where it is and gets an epoch (KIP-631).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::{Incarnation, TopicId};
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 62 "BrokerRegistration", versions 0-4, flexible 0;

    message BrokerRegistrationRequest {
        broker_id: i32, 0+;
        cluster_id: Text, 0+;
        incarnation_id: Incarnation, 0+;
        listeners: Vec<Listener>, 0+;
        features: Vec<Feature>, 0+;
        rack: Option<Text>, 0+, null 0+;
        is_migrating_zk_broker: bool, 1+;
        log_dirs: Vec<TopicId>, 2+;
        /// Of the run that was shut down in order before this one (KIP-966).
        previous_broker_epoch: i64, 3+, default -1;
    }

    part Listener {
        name: Text, 0+;
        host: Text, 0+;
        port: u16, 0+;
        security_protocol: i16, 0+;
    }

    part Feature {
        name: Text, 0+;
        min_supported_version: i16, 0+;
        max_supported_version: i16, 0+;
    }

    message BrokerRegistrationResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        broker_epoch: i64, 0+, default -1;
    }
}
