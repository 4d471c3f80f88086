//! A member: one run of a broker, and where its datagrams go.
//!
//! *Owns*: which of two runs of one broker counts, and the form of a member in bytes. *Never*: looks an address up.
//! *Runs on*: core 0.

use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::config::Address;

/// Equal when node and generation are: one run has one address, and where only the run matters the address is left out.
#[derive(Clone, Debug)]
pub struct Member {
    pub node: NodeId,
    /// Larger for later runs of the same broker: the time it started, and more if others know of a larger one.
    pub generation: u64,
    /// Where it takes datagrams: its first peer port.
    pub address: Address,
}

/// What is thought of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Alive,
    /// Somebody had no answer from it, directly or through others.
    Suspected,
    /// It had time to object and did not, or it said that it leaves.
    Gone,
}

impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        (self.node, self.generation) == (other.node, other.generation)
    }
}

impl Eq for Member {}

impl Member {
    /// Whether others take it for a member that can be reached.
    pub fn can_be_told(&self) -> bool {
        self.node.0 >= 0 && self.address.host.len() <= usize::from(u8::MAX) && is_host(&self.address.host)
    }

    /// Appends the whole of it: node, generation, port, length of the host, host.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.write_run(out);
        out.extend_from_slice(&self.address.port.to_le_bytes());
        let host = self.address.host.as_bytes();
        let len = u8::try_from(host.len()).expect("a host name is shorter than 256 bytes");
        out.push(len);
        out.extend_from_slice(host);
    }

    /// Appends node and generation alone.
    pub(super) fn write_run(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Member> {
        let (node, generation) = Member::read_run(fields)?;
        let port = fields.u16()?;
        let [len] = fields.take()?;
        let (host, rest) = fields.0.split_at_checked(usize::from(len))?;
        fields.0 = rest;
        let host = std::str::from_utf8(host).ok().filter(|host| is_host(host))?.to_owned();
        Some(Member { node, generation, address: Address { host, port } })
    }

    pub(super) fn read_run(fields: &mut Fields<'_>) -> Option<(NodeId, u64)> {
        let node = fields.i32().filter(|node| *node >= 0).map(NodeId)?;
        Some((node, fields.u64()?))
    }
}

/// Letters of names and addresses only: it is printed, and handed to a resolver.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-_%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_both_ways_and_foreign_bytes_do_not() {
        let address = Address { host: "broker-1.example".into(), port: 19092 };
        let member = Member { node: NodeId(7), generation: 1 << 50, address };
        let mut bytes = Vec::new();
        member.write(&mut bytes);
        let read = Member::read(&mut Fields(&bytes)).unwrap();
        assert_eq!((&read, &read.address), (&member, &member.address));
        for len in 0..bytes.len() {
            assert_eq!(Member::read(&mut Fields(&bytes[..len])), None, "{len}");
        }
        for (at, byte) in [(3, 0x80), (14, 0), (15, b'\n'), (15, b' '), (15, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert_eq!(Member::read(&mut Fields(&bytes)), None, "{at}: {byte}");
        }
    }
}
