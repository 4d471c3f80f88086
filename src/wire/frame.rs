//! Frames: the headers before a message, and the length before both.
//!
//! *Owns*: which header a version has, and that nothing follows a message. *Never*: decides whether a version is
//! offered. *Runs on*: every core.
//!
//! Frames come and are given to the reader without their length; frames made here have it.

use bytes::Bytes;

use super::codec::Message;
use super::messages;
use super::reader::{DecodeError, Reader};
use super::text::Text;
use super::writer::Writer;

/// What precedes every request (Kafka: `RequestHeader.json`, version 1, or 2 in flexible versions).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestHeader {
    pub api_key: i16,
    pub version: i16,
    /// Chosen by the client, repeated in the reply.
    pub correlation_id: i32,
    pub client_id: Option<Text>,
}

/// The first version of an API with flexible headers and bodies, or `None` for an API without tables.
pub fn flexible_from(api_key: i16) -> Option<i16> {
    messages::api(api_key).map(|api| api.flexible_from)
}

/// Reads the header of a request and leaves the reader at its body.
///
/// An API or version without tables has an unknown header: the fields up to the correlation id stand in the same
/// place in all of them, and only those are read, so that the client can be told.
pub fn decode_header(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
    let api_key = reader.i16()?;
    let version = reader.i16()?;
    let correlation_id = reader.i32()?;
    let mut header = RequestHeader { api_key, version, correlation_id, client_id: None };
    if let Some(version) = messages::api(api_key).and_then(|api| api.version(version)) {
        // Never in the compact form: a broker must be able to read it before it knows the version.
        header.client_id = reader.text(false).map_err(|error| error.within("RequestHeader", "client_id"))?;
        if version.flexible {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
    }
    Ok(header)
}

/// Reads the body of a request or reply. Nothing may follow it.
pub fn decode_body<M: Message>(reader: &mut Reader, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// A whole reply frame, as slices in order. Panics if `version` has no table or `M` is not of `api_key`.
pub fn encode_reply<M: Message>(api_key: i16, version: i16, correlation_id: i32, reply: &M) -> Vec<Bytes> {
    assert_eq!(api_key, M::API.key, "the reply is one to the request's API");
    let mut writer = Writer::new();
    writer.start_frame();
    writer.i32(correlation_id);
    if reply_header_is_flexible(api_key, version) {
        writer.uvarint(0);
    }
    reply.encode(&mut writer, version);
    writer.finish_frame()
}

/// A whole request frame, as slices in order. Panics if the version has no table or `M` is not of the API.
pub fn encode_request<M: Message>(header: &RequestHeader, request: &M) -> Vec<Bytes> {
    assert_eq!(header.api_key, M::API.key, "the header names the request's API");
    let mut writer = Writer::new();
    writer.start_frame();
    put_header(&mut writer, header, header.version >= M::API.flexible_from);
    request.encode(&mut writer, header.version);
    writer.finish_frame()
}

/// A request whose body was not read, with its header and without a length.
pub fn with_header(header: &RequestHeader, body: &[u8]) -> Bytes {
    let mut writer = Writer::new();
    writer.start_frame();
    put_header(&mut writer, header, flexible_from(header.api_key).is_some_and(|first| header.version >= first));
    let head = writer.finish_frame().concat();
    Bytes::from([&head[4..], body].concat())
}

fn put_header(writer: &mut Writer, header: &RequestHeader, is_flexible: bool) {
    writer.i16(header.api_key);
    writer.i16(header.version);
    writer.i32(header.correlation_id);
    writer.text(header.client_id.as_ref(), false);
    if is_flexible {
        writer.uvarint(0);
    }
}

/// The correlation id and body of a reply to a request of that API and version. Nothing may follow the body.
pub fn decode_reply<M: Message>(api_key: i16, version: i16, frame: Bytes) -> Result<(i32, M), DecodeError> {
    let (correlation_id, reply, reader) = decode_reply_start(api_key, version, frame)?;
    reader.finish()?;
    Ok((correlation_id, reply))
}

/// The same, and the reader with what follows the body: brokers of others send more than belongs to it, and Kafka's
/// clients do not look.
pub fn decode_reply_start<M: Message>(
    api_key: i16,
    version: i16,
    frame: Bytes,
) -> Result<(i32, M, Reader), DecodeError> {
    assert_eq!(api_key, M::API.key, "the reply is one to the request's API");
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    if reply_header_is_flexible(api_key, version) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    let reply = M::decode(&mut reader, version)?;
    Ok((correlation_id, reply, reader))
}

/// ApiVersions replies never have the flexible header: the client that asks does not know yet what we speak.
fn reply_header_is_flexible(api_key: i16, version: i16) -> bool {
    api_key != messages::api_versions::API.key && flexible_from(api_key).is_some_and(|from| version >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::wire::messages::produce::{ProduceRequest, ProduceResponse};
    use crate::wire::reader::Fault;

    fn frame(slices: Vec<Bytes>) -> Vec<u8> {
        slices.concat()
    }

    fn header(api_key: i16, version: i16) -> RequestHeader {
        RequestHeader { api_key, version, correlation_id: 7, client_id: Some(Text::from("me")) }
    }

    #[test]
    fn a_header_is_read_as_its_version_has_it() {
        let check = |bytes: &[u8], expect: RequestHeader, left: usize| {
            let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
            assert_eq!(decode_header(&mut reader), Ok(expect));
            assert_eq!(reader.remaining(), left, "{bytes:x?}");
        };
        check(b"\0\0\0\x08\0\0\0\x07\0\x02me_", header(0, 8), 1);
        check(b"\0\0\0\x09\0\0\0\x07\0\x02me\0_", header(0, 9), 1);
        check(b"\0\0\0\x09\0\0\0\x07\0\x02me\x01\x05\x03abc_", header(0, 9), 1);
        check(b"\0\x12\0\x03\0\0\0\x07\xff\xff\0", RequestHeader { client_id: None, ..header(18, 3) }, 0);
        // Known only up to the correlation id.
        check(b"\0\x12\0\x63\0\0\0\x07\0\x02me\0", RequestHeader { client_id: None, ..header(18, 99) }, 5);
        check(b"\x7f\xff\0\0\0\0\0\x07junk", RequestHeader { client_id: None, ..header(i16::MAX, 0) }, 4);
        check(b"\x80\0\x80\0\0\0\0\x07", RequestHeader { client_id: None, ..header(i16::MIN, i16::MIN) }, 0);
    }

    #[test]
    fn requests_and_replies_are_whole_frames() {
        let request = ApiVersionsRequest { client_software_name: "a".into(), client_software_version: "1".into() };
        let check = |version: i16, expect: &[u8]| {
            assert_eq!(frame(encode_request(&header(18, version), &request)), expect);
        };
        check(2, b"\0\0\0\x0c\0\x12\0\x02\0\0\0\x07\0\x02me");
        check(3, b"\0\0\0\x12\0\x12\0\x03\0\0\0\x07\0\x02me\0\x02a\x021\0");

        let produce = ProduceResponse::default();
        assert_eq!(frame(encode_reply(0, 8, 7, &produce)), b"\0\0\0\x0c\0\0\0\x07\0\0\0\0\0\0\0\0");
        assert_eq!(frame(encode_reply(0, 9, 7, &produce)), b"\0\0\0\x0b\0\0\0\x07\0\x01\0\0\0\0\0");
        // Never the flexible header, even in a flexible version.
        let versions = ApiVersionsResponse { error_code: 35, ..Default::default() };
        assert_eq!(frame(encode_reply(18, 0, 7, &versions)), b"\0\0\0\x0a\0\0\0\x07\0\x23\0\0\0\0");
        assert_eq!(frame(encode_reply(18, 3, 7, &versions)), b"\0\0\0\x0c\0\0\0\x07\0\x23\x01\0\0\0\0\0");
    }

    #[test]
    fn a_reply_is_read_back_and_nothing_may_follow() {
        for version in [8, 9, 13] {
            let slices = encode_reply(0, version, 7, &ProduceResponse { throttle_time_ms: 5, ..Default::default() });
            let bytes = Bytes::from(slices.concat()).slice(4..);
            let (correlation_id, reply) = decode_reply::<ProduceResponse>(0, version, bytes.clone()).expect("ours");
            assert_eq!((correlation_id, reply.throttle_time_ms), (7, 5));
            let longer = Bytes::from([&bytes[..], b"x"].concat());
            let error = decode_reply::<ProduceResponse>(0, version, longer).expect_err("a byte too many");
            assert_eq!((error.at(), error.fault()), (bytes.len(), Fault::Trailing { bytes: 1 }));
        }
    }

    #[test]
    fn a_version_without_a_table_is_an_error() {
        for version in [i16::MIN, -1, 2, 14, i16::MAX] {
            let error = decode_body::<ProduceRequest>(&mut Reader::new(Bytes::new()), version).expect_err("no table");
            assert_eq!(error.fault(), Fault::Version { version });
        }
    }

    #[test]
    fn an_error_names_the_innermost_field() {
        // One topic "t" with one partition 0, whose records are cut short.
        let body = b"\xff\xff\0\x01\0\0\0\x05\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\x09xyz";
        let error = decode_body::<ProduceRequest>(&mut Reader::new(Bytes::from_static(body)), 3).expect_err("cut");
        assert_eq!(error.to_string(), "PartitionProduceData.records: 9 bytes wanted, 3 left (at byte 27)");
    }
}
