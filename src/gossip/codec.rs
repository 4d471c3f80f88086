//! The membership engine's messages in bytes: bounded, and refused as a whole when anything in them is wrong.
//!
//! *Owns*: their form. *Never*: panics on any bytes. *Runs on*: core 0.

use std::fmt;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member as Update, Message, State};

use crate::base::fields::Fields;
use crate::config::Address;
use crate::gossip::member::Member;

#[derive(Clone, Copy, Debug)]
pub(super) enum CodecError {
    /// There is no room for one more: the datagram is full.
    Full,
    Malformed,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CodecError::Full => "no room is left",
            CodecError::Malformed => "malformed",
        })
    }
}

impl std::error::Error for CodecError {}

#[derive(Debug)]
pub(super) struct MemberCodec;

impl Codec<Member> for MemberCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Member>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(64);
        header.src.write(&mut bytes);
        bytes.extend_from_slice(&header.src_incarnation.to_le_bytes());
        header.dst.write_run(&mut bytes);
        let (kind, probe, third) = match &header.message {
            Message::Ping(probe) => (0, Some(*probe), None),
            Message::Ack(probe) => (1, Some(*probe), None),
            Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
            Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
            Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
            Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        bytes.push(kind);
        bytes.extend(probe);
        if let Some(third) = third {
            third.write(&mut bytes);
        }
        put(&bytes, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Member>, CodecError> {
        take(buf, read_header)
    }

    fn encode_member(&mut self, update: &Update<Member>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(48);
        update.id().write(&mut bytes);
        bytes.extend_from_slice(&update.incarnation().to_le_bytes());
        bytes.push(match update.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put(&bytes, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Update<Member>, CodecError> {
        take(buf, read_member)
    }
}

pub(super) fn read_header(fields: &mut Fields<'_>) -> Option<Header<Member>> {
    let src = Member::read(fields)?;
    let src_incarnation = fields.u16()?;
    let (node, generation) = Member::read_run(fields)?;
    // It is only compared with the receiver, whose address is known to itself.
    let dst = Member { node, generation, address: Address { host: String::new(), port: 0 } };
    let [kind] = fields.take()?;
    let probe_number = if kind < 6 { fields.take().map(|[probe]| probe)? } else { 0 };
    let message = match kind {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: Member::read(fields)?, probe_number },
        3 => Message::IndirectPing { origin: Member::read(fields)?, probe_number },
        4 => Message::IndirectAck { target: Member::read(fields)?, probe_number },
        5 => Message::ForwardedAck { origin: Member::read(fields)?, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return None,
    };
    Some(Header { src, src_incarnation, dst, message })
}

pub(super) fn read_member(fields: &mut Fields<'_>) -> Option<Update<Member>> {
    let member = Member::read(fields)?;
    let incarnation = fields.u16()?;
    let state = match fields.take()? {
        [0] => State::Alive,
        [1] => State::Suspect,
        [2] => State::Down,
        _ => return None,
    };
    Some(Update::new(member, incarnation, state))
}

fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

/// The engine hands out one piece of memory: all of it is the buffer's first chunk.
fn take<T>(mut buf: impl Buf, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, CodecError> {
    let chunk = buf.chunk();
    let mut fields = Fields(chunk);
    let value = read(&mut fields).ok_or(CodecError::Malformed)?;
    let used = chunk.len() - fields.0.len();
    buf.advance(used);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;

    fn member(node: i32) -> Member {
        let address = Address { host: format!("host-{node}"), port: 9000 };
        Member { node: NodeId(node), generation: 77, address }
    }

    #[test]
    fn messages_go_both_ways_and_cut_ones_are_refused() {
        let messages = [
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: member(3), probe_number: 3 },
            Message::IndirectPing { origin: member(3), probe_number: 4 },
            Message::IndirectAck { target: member(3), probe_number: 5 },
            Message::ForwardedAck { origin: member(3), probe_number: 6 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header { src: member(1), src_incarnation: 9, dst: member(2), message };
            let mut bytes = Vec::new();
            MemberCodec.encode_header(&header, &mut bytes).unwrap();
            let mut rest = &bytes[..];
            assert_eq!(MemberCodec.decode_header(&mut rest).unwrap(), header);
            assert!(rest.is_empty());
            for len in 0..bytes.len() {
                assert!(MemberCodec.decode_header(&bytes[..len]).is_err(), "{header:?} {len}");
            }
            assert!(MemberCodec.encode_header(&header, &mut [0u8; 20][..]).is_err());
        }
    }

    #[test]
    fn updates_go_both_ways_and_cut_ones_are_refused() {
        for state in [State::Alive, State::Suspect, State::Down] {
            let update = Update::new(member(5), 3, state);
            let mut bytes = Vec::new();
            MemberCodec.encode_member(&update, &mut bytes).unwrap();
            assert_eq!(MemberCodec.decode_member(&bytes[..]).unwrap(), update);
            for len in 0..bytes.len() {
                assert!(MemberCodec.decode_member(&bytes[..len]).is_err(), "{len}");
            }
            *bytes.last_mut().unwrap() = 3;
            assert!(MemberCodec.decode_member(&bytes[..]).is_err());
            assert!(MemberCodec.encode_member(&update, &mut [0u8; 20][..]).is_err());
        }
    }
}
