//! PeerHello: what one broker of Corelog says to another before anything else. Not one of Kafka's.
//!
//! *Owns*: the two tables. *Never*: decides who is let in. *Runs on*: every core.

use bytes::Bytes;

use crate::base::ids::Incarnation;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 1000 "PeerHello", versions 0-0, flexible 0;

    message PeerHelloRequest {
        /// Empty: not of any cluster yet.
        cluster_id: Text, 0+;
        node_id: i32, 0+;
        incarnation: Incarnation, 0+;
        /// The core that has made the connection.
        core: u16, 0+;
        /// The versions of what brokers say to each other that this one speaks.
        protocol_min: i16, 0+;
        protocol_max: i16, 0+;
        /// What the other side's proof is to be over.
        nonce: Bytes, 0+;
        /// That this side has the shared key, over the nonce in the reply to the hello before. Empty: none.
        proof: Bytes, 0+;
    }

    message PeerHelloResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        /// What comes next on this connection is served. Without an error and this a proof is wanted.
        admitted: bool, 0+;
        cluster_id: Text, 0+;
        node_id: i32, 0+;
        incarnation: Incarnation, 0+;
        cores: u16, 0+;
        /// What the asker's proof is to be over.
        nonce: Bytes, 0+;
        /// That this side has the shared key, over the nonce in the hello. Empty: it has none.
        proof: Bytes, 0+;
    }
}
