//! What is known of other brokers from their reports.
//!
//! *Owns*: that nothing older takes the place of something newer, however late it comes. *Never*: more than its bounds.
//! *Runs on*: core 0.

use std::collections::BTreeMap;

use crate::base::bug::{self, Bug};
use crate::base::ids::{CoreId, NodeId, PartitionIndex, TopicId};
use crate::base::limits::{CORES_MAX, GOSSIP_MEMBERS_MAX, GOSSIP_PARTITIONS_MAX};
use crate::base::time::Instant;
use crate::gossip::report::{CoreReport, DeviceReport, PartitionKey, Piece, PieceId, Position};
use crate::gossip::window::Window;

#[derive(Default, Debug)]
pub struct View {
    nodes: BTreeMap<NodeId, NodeView>,
    partitions: BTreeMap<PartitionKey, (PieceId, Position)>,
}

/// One broker, as it was told last.
#[derive(Default, Debug)]
pub struct NodeView {
    generation: u64,
    pieces: Window,
    /// When a piece of it came last.
    pub heard: Instant,
    cores: BTreeMap<CoreId, (u64, CoreReport)>,
    devices: BTreeMap<u8, (u64, DeviceReport)>,
}

impl NodeView {
    pub fn cores(&self) -> impl Iterator<Item = &CoreReport> {
        self.cores.values().map(|(_, core)| core)
    }

    pub fn devices(&self) -> impl Iterator<Item = &DeviceReport> {
        self.devices.values().map(|(_, device)| device)
    }
}

impl View {
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeView)> {
        self.nodes.iter().map(|(node, view)| (*node, view))
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.get(&node)
    }

    /// How far a partition's leader was when it told, and who that is.
    pub fn position(&self, topic: TopicId, partition: PartitionIndex) -> Option<(NodeId, Position)> {
        self.partitions.get(&(topic, partition)).map(|(piece, position)| (piece.node, *position))
    }

    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Whether the piece was new: then others should hear of it. Parts of it that are older than what is known are left
    /// out all the same.
    pub(super) fn take(&mut self, piece: Piece, now: Instant) -> bool {
        let id = piece.id;
        if !self.nodes.contains_key(&id.node) && self.nodes.len() == GOSSIP_MEMBERS_MAX {
            return false;
        }
        let node = self.nodes.entry(id.node).or_default();
        if id.generation < node.generation {
            return false;
        }
        if id.generation > node.generation {
            *node = NodeView { generation: id.generation, ..NodeView::default() };
        }
        if !node.pieces.accept(id.sequence) {
            return false;
        }
        node.heard = now;
        for core in piece.cores.into_iter().filter(|core| usize::from(core.core.0) < CORES_MAX) {
            replace_older(&mut node.cores, core.core, id.sequence, core);
        }
        for device in piece.devices {
            replace_older(&mut node.devices, device.device, id.sequence, device);
        }
        for (key, position) in piece.partitions {
            self.take_position(id, key, position);
        }
        true
    }

    /// A later leader epoch counts, whoever tells. One epoch has one leader, and of what that told the later counts.
    fn take_position(&mut self, id: PieceId, key: PartitionKey, position: Position) {
        let is_newer = bug::on(Bug::TakeStaleReports)
            || match self.partitions.get(&key) {
                None => self.partitions.len() < GOSSIP_PARTITIONS_MAX,
                Some((_, known)) if known.epoch != position.epoch => position.epoch > known.epoch,
                Some((piece, _)) => piece.node == id.node && *piece < id,
            };
        if is_newer {
            self.partitions.insert(key, (id, position));
        }
    }

    /// The broker is no part of the cluster any more.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.partitions.retain(|_, (piece, _)| piece.node != node);
    }

    /// Forgets partitions of topics that are no more.
    pub fn keep_topics(&mut self, exists: impl Fn(TopicId) -> bool) {
        self.partitions.retain(|(topic, _), _| exists(*topic));
    }
}

fn replace_older<K: Ord, V>(map: &mut BTreeMap<K, (u64, V)>, key: K, sequence: u64, value: V) {
    if map.get(&key).is_none_or(|(known, _)| *known < sequence) {
        map.insert(key, (sequence, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{LeaderEpoch, Offset};
    use crate::gossip::report::LatencyDigest;

    const KEY: (TopicId, PartitionIndex) = (TopicId([1; 16]), PartitionIndex(0));

    fn piece(node: i32, generation: u64, sequence: u64) -> Piece {
        let id = PieceId { node: NodeId(node), generation, sequence };
        Piece { id, cores: Vec::new(), devices: Vec::new(), partitions: Vec::new() }
    }

    fn at(epoch: i32, end: i64) -> Position {
        Position { epoch: LeaderEpoch(epoch), log_end: Offset(end), high_watermark: Offset(end) }
    }

    #[test]
    fn positions_never_go_back() {
        let mut view = View::default();
        for (from, position, is_news, expect) in [
            ((1, 5, 3), at(4, 100), true, (1, at(4, 100))),
            ((1, 5, 3), at(4, 200), false, (1, at(4, 100))),
            ((1, 5, 2), at(4, 90), true, (1, at(4, 100))),
            ((1, 5, 4), at(4, 110), true, (1, at(4, 110))),
            // Another says it leads in the same epoch: there is one leader in each.
            ((2, 9, 1), at(4, 500), true, (1, at(4, 110))),
            ((2, 9, 2), at(5, 105), true, (2, at(5, 105))),
            // The old leader has not heard of it yet.
            ((1, 5, 5), at(4, 120), true, (2, at(5, 105))),
            // It restarted, and something from before comes late.
            ((2, 10, 1), at(5, 106), true, (2, at(5, 106))),
            ((2, 9, 3), at(6, 1), false, (2, at(5, 106))),
        ] {
            let mut piece = piece(from.0, from.1, from.2);
            piece.partitions.push((KEY, position));
            assert_eq!(view.take(piece, Instant(1)), is_news, "{from:?}");
            assert_eq!(view.position(KEY.0, KEY.1), Some((NodeId(expect.0), expect.1)), "{from:?}");
        }
        view.forget(NodeId(2));
        assert_eq!((view.partitions(), view.nodes().count()), (0, 1));
    }

    #[test]
    fn cores_and_devices_never_go_back_and_begin_anew_with_a_run() {
        let mut view = View::default();
        let tell = |view: &mut View, generation, sequence, core: u16, load_permille| {
            let mut piece = piece(1, generation, sequence);
            piece.cores.push(CoreReport { core: CoreId(core), load_permille, latency: LatencyDigest::default() });
            piece.devices.push(DeviceReport { device: 0, full_permille: load_permille, p99_us: 0 });
            view.take(piece, Instant(sequence))
        };
        let loads = |view: &View| {
            let node = view.node(NodeId(1)).unwrap();
            let cores: Vec<u16> = node.cores().map(|core| core.load_permille).collect();
            (cores, node.devices().next().unwrap().full_permille)
        };
        assert!(tell(&mut view, 1, 2, 0, 20) && tell(&mut view, 1, 3, 1, 30) && tell(&mut view, 1, 1, 0, 10));
        assert_eq!(loads(&view), (vec![20, 30], 30));
        assert!(tell(&mut view, 1, 4, CORES_MAX as u16, 40));
        assert_eq!(loads(&view), (vec![20, 30], 40));
        assert!(tell(&mut view, 2, 1, 0, 50));
        assert_eq!(loads(&view), (vec![50], 50));
        assert!(!tell(&mut view, 1, 9, 0, 60));
    }

    #[test]
    fn topics_that_are_no_more_are_forgotten() {
        let mut view = View::default();
        let mut piece = piece(1, 1, 1);
        piece.partitions = (0..4).map(|topic| ((TopicId([topic; 16]), PartitionIndex(0)), at(1, 1))).collect();
        assert!(view.take(piece, Instant(0)));
        view.keep_topics(|topic| topic.0[0] < 2);
        assert_eq!(view.partitions(), 2);
    }
}
