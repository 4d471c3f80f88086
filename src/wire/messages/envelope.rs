//! Envelope: a client's request that its broker passes on to the controller (KIP-590).
//!
//! *Owns*: the two tables. *Never*: looks into what is passed on. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;

api! {
    API: 58 "Envelope", versions 0-0, flexible 0;

    message EnvelopeRequest {
        /// The request with its header, without a length.
        request_data: Bytes, 0+;
        request_principal: Option<Bytes>, 0+, null 0+;
        client_host_address: Bytes, 0+;
    }

    message EnvelopeResponse {
        /// The reply with its header, without a length; null with an error of the envelope itself.
        response_data: Option<Bytes>, 0+, null 0+;
        error_code: i16, 0+;
    }
}
