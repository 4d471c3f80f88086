//! A broker as the metadata has it.
//!
//! *Owns*: what is known of a broker, and its binary form. *Never*: decides on a change. *Runs on*: every core.

use super::record::{RecordError, put_text, take, take_text};
use crate::base::ids::{BrokerEpoch, DirectoryId, NodeId};
use crate::config::Address;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: NodeId,
    /// Of the process: random, so that another one with the same id is told from it.
    pub incarnation: [u8; 16],
    pub epoch: BrokerEpoch,
    /// Where its records are. Who comes back without this one has lost them.
    pub directory: DirectoryId,
    /// Where clients are taken by any core.
    pub shared: Address,
    /// Where clients are taken by each core; empty where the broker has no such listeners.
    pub per_core: Vec<Address>,
    /// Where core 0 takes other brokers; each further core does one port on.
    pub peer: Address,
    pub cores: u16,
    pub rack: Option<String>,
    /// Not heard from, or not ready yet: leads nothing, and is in no ISR.
    pub fenced: bool,
    /// Is about to go: leads nothing, and is in no ISR.
    pub shutting_down: bool,
}

impl Broker {
    /// May lead, and be in an ISR.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }

    /// Whether it had that data directory. Of who did not tell nothing else is known.
    pub fn may_have_had(&self, directory: DirectoryId) -> bool {
        self.directory == directory || self.directory == DirectoryId::UNKNOWN
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0.to_be_bytes());
        out.extend_from_slice(&self.incarnation);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        put_address(out, &self.shared);
        let listeners = u16::try_from(self.per_core.len()).expect("one for each core");
        out.extend_from_slice(&listeners.to_be_bytes());
        self.per_core.iter().for_each(|address| put_address(out, address));
        put_address(out, &self.peer);
        out.extend_from_slice(&self.cores.to_be_bytes());
        out.push(u8::from(self.rack.is_some()));
        put_text(out, self.rack.as_deref().unwrap_or_default());
        out.push(u8::from(self.fenced));
        out.push(u8::from(self.shutting_down));
        out.extend_from_slice(&self.directory.0);
    }

    pub(super) fn decode(bytes: &mut &[u8]) -> Result<Broker, RecordError> {
        let broker = Broker::decode_before_directories(bytes)?;
        Ok(Broker { directory: DirectoryId(take(bytes)?), ..broker })
    }

    /// Of before brokers told which directory they have.
    pub(super) fn decode_before_directories(bytes: &mut &[u8]) -> Result<Broker, RecordError> {
        let id = NodeId(i32::from_be_bytes(take(bytes)?));
        let incarnation = take(bytes)?;
        let epoch = BrokerEpoch(i64::from_be_bytes(take(bytes)?));
        let shared = take_address(bytes)?;
        let listeners = u16::from_be_bytes(take(bytes)?);
        let per_core = (0..listeners).map(|_| take_address(bytes)).collect::<Result<_, _>>()?;
        let peer = take_address(bytes)?;
        let cores = u16::from_be_bytes(take(bytes)?);
        let (has_rack, rack) = (take_flag(bytes)?, take_text(bytes)?);
        if !has_rack && !rack.is_empty() {
            return Err(RecordError { message: "a broker has a rack and has none" });
        }
        let (fenced, shutting_down) = (take_flag(bytes)?, take_flag(bytes)?);
        let rack = has_rack.then_some(rack);
        if id.0 < 0 || epoch.0 < 0 || cores == 0 {
            return Err(RecordError { message: "a broker's id or epoch is negative, or it has no cores" });
        }
        let directory = DirectoryId::UNKNOWN;
        Ok(Broker { id, incarnation, epoch, directory, shared, per_core, peer, cores, rack, fenced, shutting_down })
    }
}

fn put_address(out: &mut Vec<u8>, address: &Address) {
    put_text(out, &address.host);
    out.extend_from_slice(&address.port.to_be_bytes());
}

fn take_address(bytes: &mut &[u8]) -> Result<Address, RecordError> {
    Ok(Address { host: take_text(bytes)?, port: u16::from_be_bytes(take(bytes)?) })
}

fn take_flag(bytes: &mut &[u8]) -> Result<bool, RecordError> {
    match take(bytes)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(RecordError { message: "a flag is neither 0 nor 1" }),
    }
}
