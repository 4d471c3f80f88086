//! One partition as the metadata has it: where its replicas are, which of them are in sync, and who leads it.
//!
//! There may be 100,000 of these in each core's image, so a state is 40 bytes and one allocation of 4 bytes a replica
//! (a test holds it to that): everything else is said in bits over the replicas.
//!
//! *Owns*: what a state may be, and its binary form. *Never*: decides on a change. *Runs on*: every core.

use super::record::{RecordError, take};
use crate::base::ids::{LeaderEpoch, NodeId, PartitionEpoch};
use crate::base::limits::PARTITION_REPLICAS_MAX;

/// Invariants, which [`PartitionState::new`] checks, also of bytes from disk: there is a replica, and none twice; the
/// others are among the replicas; nobody is in the ISR and the ELR, and somebody is in one of them; the leader is in
/// the ISR; nobody is being added and removed; epochs are not negative.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    replicas: Box<[NodeId]>,
    isr: Members,
    elr: Members,
    adding: Members,
    removing: Members,
    /// Position among the replicas.
    leader: u8,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
}

/// The same with everything spelled out, to make a state of.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PartitionParts {
    /// The first is the preferred leader.
    pub replicas: Vec<NodeId>,
    /// Have everything that consumers may see.
    pub isr: Vec<NodeId>,
    /// Left the ISR while it was below `min.insync.replicas`, and so have everything too (KIP-966).
    pub elr: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

/// A bit for each replica, by its position.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Members(u16);

const NO_LEADER: u8 = u8::MAX;

const _: () = assert!(PARTITION_REPLICAS_MAX <= Members::MAX);

impl Members {
    const MAX: usize = 16;

    fn first(count: usize) -> Members {
        assert!(count <= Members::MAX);
        Members(((1_u32 << count) - 1) as u16)
    }

    fn has(self, position: usize) -> bool {
        position < Members::MAX && self.0 & 1 << position != 0
    }

    fn meet(self, other: Members) -> bool {
        self.0 & other.0 != 0
    }

    fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

impl PartitionState {
    /// Of a new partition: the first replica leads, and all are in sync.
    pub fn initial(replicas: &[NodeId]) -> Result<PartitionState, &'static str> {
        PartitionState {
            replicas: replicas.into(),
            isr: Members::first(replicas.len().min(Members::MAX)),
            elr: Members::default(),
            adding: Members::default(),
            removing: Members::default(),
            leader: 0,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        }
        .checked()
    }

    pub fn new(parts: &PartitionParts) -> Result<PartitionState, &'static str> {
        let replicas: Box<[NodeId]> = parts.replicas.as_slice().into();
        let members = |nodes: &[NodeId]| {
            let mut members = Members::default();
            for node in nodes {
                let position = replicas.iter().position(|replica| replica == node);
                let position = position.filter(|position| *position < Members::MAX);
                members.0 |= 1 << position.ok_or("a node that is no replica is said to be one")?;
            }
            if members.count() == nodes.len() { Ok(members) } else { Err("a node is named twice") }
        };
        let leader = match parts.leader {
            None => NO_LEADER,
            Some(node) => replicas.iter().position(|replica| *replica == node).ok_or("the leader is no replica")? as u8,
        };
        PartitionState {
            isr: members(&parts.isr)?,
            elr: members(&parts.elr)?,
            adding: members(&parts.adding)?,
            removing: members(&parts.removing)?,
            leader,
            leader_epoch: parts.leader_epoch,
            partition_epoch: parts.partition_epoch,
            replicas,
        }
        .checked()
    }

    fn checked(self) -> Result<PartitionState, &'static str> {
        let count = self.replicas.len();
        if count == 0 || count > PARTITION_REPLICAS_MAX {
            return Err("a partition has no replicas, or too many");
        }
        let twice = |position: usize| self.replicas[..position].contains(&self.replicas[position]);
        if (0..count).any(|position| twice(position) || self.replicas[position].0 < 0) {
            return Err("a partition is twice on a node, or on none");
        }
        let all = Members::first(count).0;
        if [self.isr, self.elr, self.adding, self.removing].iter().any(|members| members.0 & !all != 0) {
            return Err("a node that is no replica is said to be one");
        }
        if self.isr.meet(self.elr) || self.adding.meet(self.removing) {
            return Err("a replica is two things that exclude each other");
        }
        if self.isr.count() + self.elr.count() == 0 {
            return Err("nobody has what the partition holds");
        }
        if self.leader != NO_LEADER && !self.isr.has(usize::from(self.leader)) {
            return Err("the leader is not in sync");
        }
        if self.leader_epoch.0 < 0 || self.partition_epoch.0 < 0 {
            return Err("an epoch is negative");
        }
        Ok(self)
    }

    pub fn parts(&self) -> PartitionParts {
        PartitionParts {
            replicas: self.replicas.to_vec(),
            isr: self.isr().collect(),
            elr: self.elr().collect(),
            adding: self.adding().collect(),
            removing: self.removing().collect(),
            leader: self.leader(),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
        }
    }

    /// The preferred leader comes first. While the partition is moved, those it leaves come last.
    pub fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    /// Have everything that consumers may see. In the order of the replicas, as those below.
    pub fn isr(&self) -> impl Iterator<Item = NodeId> {
        self.members(self.isr)
    }

    pub fn isr_len(&self) -> usize {
        self.isr.count()
    }

    /// Left the ISR while it was below `min.insync.replicas`, and so have everything too (KIP-966).
    pub fn elr(&self) -> impl Iterator<Item = NodeId> {
        self.members(self.elr)
    }

    /// Replicas that a reassignment adds.
    pub fn adding(&self) -> impl Iterator<Item = NodeId> {
        self.members(self.adding)
    }

    /// Replicas that go once those being added are in sync.
    pub fn removing(&self) -> impl Iterator<Item = NodeId> {
        self.members(self.removing)
    }

    /// Whether nothing has changed since the partition was made.
    pub(super) fn is_initial(&self) -> bool {
        self.partition_epoch == PartitionEpoch(0)
    }

    pub fn is_moving(&self) -> bool {
        self.adding.count() + self.removing.count() > 0
    }

    pub fn has_replica(&self, node: NodeId) -> bool {
        self.replicas.contains(&node)
    }

    pub fn in_isr(&self, node: NodeId) -> bool {
        self.is_member(self.isr, node)
    }

    pub fn in_elr(&self, node: NodeId) -> bool {
        self.is_member(self.elr, node)
    }

    pub fn preferred_leader(&self) -> NodeId {
        self.replicas[0]
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.replicas.get(usize::from(self.leader)).copied()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    fn members(&self, members: Members) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().enumerate().filter(move |(position, _)| members.has(*position)).map(|(_, node)| *node)
    }

    fn is_member(&self, members: Members, node: NodeId) -> bool {
        self.members(members).any(|member| member == node)
    }

    /// Replicas, the four sets as bits over them, the leader's position, the epochs.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_nodes(out, &self.replicas);
        for members in [self.isr, self.elr, self.adding, self.removing] {
            out.extend_from_slice(&members.0.to_be_bytes());
        }
        out.push(self.leader);
        out.extend_from_slice(&self.leader_epoch.0.to_be_bytes());
        out.extend_from_slice(&self.partition_epoch.0.to_be_bytes());
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        nodes_bytes(&self.replicas) + 4 * 2 + 1 + 4 + 4
    }

    pub(super) fn decode(bytes: &mut &[u8]) -> Result<PartitionState, RecordError> {
        let replicas = take_nodes(bytes)?.into();
        let mut members = || take(bytes).map(|bits| Members(u16::from_be_bytes(bits)));
        let [isr, elr, adding, removing] = [members()?, members()?, members()?, members()?];
        let [leader] = take(bytes)?;
        let leader_epoch = LeaderEpoch(i32::from_be_bytes(take(bytes)?));
        let partition_epoch = PartitionEpoch(i32::from_be_bytes(take(bytes)?));
        let state = PartitionState { replicas, isr, elr, adding, removing, leader, leader_epoch, partition_epoch };
        state.checked().map_err(|message| RecordError { message })
    }
}

/// A byte with their number, then the nodes.
pub(super) fn put_nodes(out: &mut Vec<u8>, nodes: &[NodeId]) {
    assert!(nodes.len() <= PARTITION_REPLICAS_MAX);
    out.push(nodes.len() as u8);
    nodes.iter().for_each(|node| out.extend_from_slice(&node.0.to_be_bytes()));
}

pub(super) fn nodes_bytes(nodes: &[NodeId]) -> usize {
    1 + 4 * nodes.len()
}

pub(super) fn take_nodes(bytes: &mut &[u8]) -> Result<Vec<NodeId>, RecordError> {
    let [count] = take(bytes)?;
    if usize::from(count) > PARTITION_REPLICAS_MAX {
        return Err(RecordError { message: "a partition has too many replicas" });
    }
    (0..count).map(|_| take(bytes).map(|id| NodeId(i32::from_be_bytes(id)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::nodes;
    use super::*;

    /// On 5, 3 and 4; 3 leads.
    fn parts() -> PartitionParts {
        PartitionParts {
            replicas: nodes(&[5, 3, 4]),
            isr: nodes(&[3]),
            elr: nodes(&[5]),
            adding: nodes(&[4]),
            removing: nodes(&[5]),
            leader: Some(NodeId(3)),
            leader_epoch: LeaderEpoch(7),
            partition_epoch: PartitionEpoch(9),
        }
    }

    #[test]
    fn a_state_is_small() {
        assert_eq!(size_of::<PartitionState>(), 40);
        assert_eq!(size_of::<NodeId>(), 4);
    }

    #[test]
    fn a_state_says_what_it_was_made_of() {
        let state = PartitionState::new(&parts()).expect("sound");
        assert_eq!(state.parts(), parts());
        assert!(state.in_isr(NodeId(3)) && !state.in_isr(NodeId(4)) && !state.in_isr(NodeId(9)));
        assert!(state.in_elr(NodeId(5)) && state.has_replica(NodeId(4)) && state.is_moving());
        assert_eq!((state.preferred_leader(), state.isr_len()), (NodeId(5), 1));
        let none = PartitionState::new(&PartitionParts { isr: vec![], leader: None, ..parts() }).expect("sound");
        assert_eq!((none.leader(), none.isr_len()), (None, 0));
        let initial = PartitionState::initial(&nodes(&[2, 1])).expect("sound");
        let wanted = PartitionParts { replicas: nodes(&[2, 1]), isr: nodes(&[2, 1]), ..PartitionParts::default() };
        assert_eq!(initial.parts(), PartitionParts { leader: Some(NodeId(2)), ..wanted });
    }

    #[test]
    fn what_no_state_can_be_is_refused() {
        let many: Vec<i32> = (0..=PARTITION_REPLICAS_MAX as i32).collect();
        for (wrong, part) in [
            (PartitionParts { replicas: vec![], isr: vec![], ..PartitionParts::default() }, "no replicas"),
            (PartitionParts { replicas: nodes(&many), isr: nodes(&[0]), ..PartitionParts::default() }, "too many"),
            (PartitionParts { replicas: nodes(&[5, 3, 4, 3]), ..parts() }, "twice"),
            (PartitionParts { replicas: nodes(&[5, 3, 4, -1]), ..parts() }, "on none"),
            (PartitionParts { isr: nodes(&[3, 9]), ..parts() }, "no replica"),
            (PartitionParts { isr: nodes(&[3, 3]), ..parts() }, "twice"),
            (PartitionParts { isr: nodes(&[3, 5]), ..parts() }, "exclude each other"),
            (PartitionParts { adding: nodes(&[5]), ..parts() }, "exclude each other"),
            (PartitionParts { isr: vec![], elr: vec![], leader: None, ..parts() }, "nobody has"),
            (PartitionParts { leader: Some(NodeId(4)), ..parts() }, "not in sync"),
            (PartitionParts { leader: Some(NodeId(9)), ..parts() }, "leader is no replica"),
            (PartitionParts { leader_epoch: LeaderEpoch(-1), ..parts() }, "negative"),
        ] {
            let message = PartitionState::new(&wrong).expect_err("cannot be");
            assert!(message.contains(part), "{wrong:?}: {message}");
        }
    }
}
