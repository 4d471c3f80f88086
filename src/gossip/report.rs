//! What a broker tells of itself: how far its partitions are, how busy its cores, how full and slow its devices.
//!
//! A report goes out in pieces that fit a datagram beside others. Cores and devices are one kind of piece, some
//! partitions another: those that have changed since they were told, new leader epochs first, in turn.
//!
//! *Owns*: the form of a piece, and which piece is next. *Never*: measures anything. *Runs on*: core 0.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::base::fields::{Fields, put_varint};
use crate::base::ids::{CoreId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use crate::base::limits::GOSSIP_PIECE_BYTES_MAX;
use crate::base::time::Instant;

/// A partition that has not changed is told again after this time, for those who did not hear of it.
const RETELL_MS: u64 = 60_000;

const CORES: u8 = 0;
const DEVICES: u8 = 1;
const PARTITIONS: u8 = 2;

const HEAD_BYTES: usize = 4 + 8 + 8;
/// A tag, a topic's id, and a count.
const TOPIC_BYTES: usize = 1 + 16 + 2;
/// Devices in one piece.
const DEVICES_TOLD_MAX: usize = 16;
/// Partitions that are looked at for one piece, and those that are candidates for it.
const LOOKS_MAX: usize = 2000;
const DUE_MAX: usize = GOSSIP_PIECE_BYTES_MAX / 4;

/// Four varints: an index, an epoch, an offset, and how far the high watermark is behind it.
const PARTITION_BYTES_MAX: usize = 5 + 5 + 10 + 10;
const CORE_BYTES: usize = 2 + 2 + 4 * 4;
const DEVICE_BYTES: usize = 1 + 2 + 4;

pub type PartitionKey = (TopicId, PartitionIndex);

/// What there is to tell of late: a part of the whole, or all of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NodeReport {
    pub cores: Vec<CoreReport>,
    pub devices: Vec<DeviceReport>,
    /// Those that are led here.
    pub partitions: BTreeMap<PartitionKey, Position>,
}

/// One core since it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CoreReport {
    pub core: CoreId,
    /// The share of time it was not idle, in thousandths.
    pub load_permille: u16,
    pub latency: LatencyDigest,
}

/// How long requests took, from their arrival to their reply.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LatencyDigest {
    pub requests: u32,
    pub p50_us: u32,
    pub p99_us: u32,
    pub max_us: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DeviceReport {
    /// The place of its directory in the broker's settings.
    pub device: u8,
    pub full_permille: u16,
    /// Of its writes and syncs.
    pub p99_us: u32,
}

/// How far a partition's leader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub epoch: LeaderEpoch,
    pub log_end: Offset,
    pub high_watermark: Offset,
}

/// Whose piece it is, and which: later ones of a run have larger numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PieceId {
    pub node: NodeId,
    pub generation: u64,
    pub sequence: u64,
}

/// A piece, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub id: PieceId,
    pub cores: Vec<CoreReport>,
    pub devices: Vec<DeviceReport>,
    pub partitions: Vec<(PartitionKey, Position)>,
}

impl Piece {
    pub fn read(bytes: &[u8]) -> Option<Piece> {
        if bytes.len() > GOSSIP_PIECE_BYTES_MAX {
            return None;
        }
        let mut fields = Fields(bytes);
        let node = fields.i32().filter(|node| *node >= 0).map(NodeId)?;
        let id = PieceId { node, generation: fields.u64()?, sequence: fields.u64()? };
        let mut piece = Piece { id, cores: Vec::new(), devices: Vec::new(), partitions: Vec::new() };
        while !fields.is_empty() {
            match fields.take()? {
                [CORES] => read_many(&mut fields, &mut piece.cores, read_core)?,
                [DEVICES] => read_many(&mut fields, &mut piece.devices, read_device)?,
                [PARTITIONS] => {
                    let topic = TopicId(fields.take()?);
                    read_many(&mut fields, &mut piece.partitions, |fields| read_partition(topic, fields))?;
                }
                _ => return None,
            }
        }
        Some(piece)
    }
}

/// Each takes a byte at least, so the bytes left bound what is read.
fn read_many<T>(fields: &mut Fields<'_>, into: &mut Vec<T>, read: impl Fn(&mut Fields<'_>) -> Option<T>) -> Option<()> {
    for _ in 0..fields.u16()? {
        into.push(read(fields)?);
    }
    Some(())
}

fn read_core(fields: &mut Fields<'_>) -> Option<CoreReport> {
    let (core, load_permille) = (CoreId(fields.u16()?), fields.u16()?.min(1000));
    let [requests, p50_us, p99_us, max_us] = [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
    Some(CoreReport { core, load_permille, latency: LatencyDigest { requests, p50_us, p99_us, max_us } })
}

fn read_device(fields: &mut Fields<'_>) -> Option<DeviceReport> {
    let [device] = fields.take()?;
    Some(DeviceReport { device, full_permille: fields.u16()?.min(1000), p99_us: fields.u32()? })
}

fn read_partition(topic: TopicId, fields: &mut Fields<'_>) -> Option<(PartitionKey, Position)> {
    let index = i32::try_from(fields.varint()?).ok()?;
    let epoch = i32::try_from(fields.varint()?).ok()?;
    let log_end = i64::try_from(fields.varint()?).ok()?;
    let behind = i64::try_from(fields.varint()?).ok().filter(|behind| *behind <= log_end)?;
    let position =
        Position { epoch: LeaderEpoch(epoch), log_end: Offset(log_end), high_watermark: Offset(log_end - behind) };
    Some(((topic, PartitionIndex(index)), position))
}

/// This broker's own report, and what of it was told when.
#[derive(Default, Debug)]
pub(super) struct Reporter {
    cores: BTreeMap<CoreId, CoreReport>,
    devices: BTreeMap<u8, DeviceReport>,
    partitions: BTreeMap<PartitionKey, Position>,
    told: BTreeMap<PartitionKey, (Position, Instant)>,
    /// Led with an epoch that was not told yet.
    elected: BTreeSet<PartitionKey>,
    /// Where the last piece of partitions ended.
    cursor: Option<PartitionKey>,
    next_core: usize,
    sequence: u64,
}

impl Reporter {
    /// What is in the report takes the place of what was known of the same cores, devices and partitions.
    pub fn add(&mut self, report: NodeReport) {
        self.cores.extend(report.cores.into_iter().map(|core| (core.core, core)));
        self.devices.extend(report.devices.into_iter().map(|device| (device.device, device)));
        for (key, position) in report.partitions {
            if self.told.get(&key).is_none_or(|(told, _)| told.epoch != position.epoch) {
                self.elected.insert(key);
            }
            self.partitions.insert(key, position);
        }
    }

    /// The others are not led here any more.
    pub fn keep_partitions(&mut self, is_led: impl Fn(&PartitionKey) -> bool) {
        self.partitions.retain(|key, _| is_led(key));
        self.told.retain(|key, _| self.partitions.contains_key(key));
        self.elected.retain(|key| self.partitions.contains_key(key));
    }

    /// Cores and devices, if there are any: so many cores as fit, in turn.
    pub fn next_of_cores(&mut self, node: NodeId, generation: u64) -> Option<Vec<u8>> {
        if self.cores.is_empty() && self.devices.is_empty() {
            return None;
        }
        let mut out = self.head(node, generation);
        let devices = self.devices.len().min(DEVICES_TOLD_MAX);
        put_head(&mut out, DEVICES, devices);
        for device in self.devices.values().take(devices) {
            out.push(device.device);
            out.extend_from_slice(&device.full_permille.to_le_bytes());
            out.extend_from_slice(&device.p99_us.to_le_bytes());
        }
        let cores = self.cores.len();
        let fit = cores.min((GOSSIP_PIECE_BYTES_MAX - out.len() - 3) / CORE_BYTES);
        put_head(&mut out, CORES, fit);
        for core in self.cores.values().cycle().skip(self.next_core).take(fit) {
            out.extend_from_slice(&core.core.0.to_le_bytes());
            out.extend_from_slice(&core.load_permille.to_le_bytes());
            let latency = &core.latency;
            for number in [latency.requests, latency.p50_us, latency.p99_us, latency.max_us] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.next_core = (self.next_core + fit) % cores.max(1);
        Some(out)
    }

    /// Partitions with something to tell, if there are any among those whose turn it is.
    pub fn next_of_partitions(&mut self, node: NodeId, generation: u64, now: Instant) -> Option<Vec<u8>> {
        let (due, looked_up_to) = self.next_due(now);
        if due.is_empty() {
            self.cursor = looked_up_to;
            return None;
        }
        let mut out = self.head(node, generation);
        let mut topic: Option<(TopicId, usize, u16)> = None;
        let mut are_all_told = true;
        for key in due {
            let position = self.partitions[&key];
            let is_same = topic.is_some_and(|(topic, ..)| topic == key.0);
            let head_bytes = if is_same { 0 } else { TOPIC_BYTES };
            if out.len() + head_bytes + PARTITION_BYTES_MAX > GOSSIP_PIECE_BYTES_MAX {
                are_all_told = false;
                break;
            }
            if !is_same {
                out.push(PARTITIONS);
                out.extend_from_slice(&key.0.0);
                topic = Some((key.0, out.len(), 0));
                out.extend_from_slice(&[0; 2]);
            }
            put_partition(&mut out, key.1, position);
            let (_, at, count) = topic.as_mut().expect("there is one since the lines above");
            *count += 1;
            out[*at..*at + 2].copy_from_slice(&count.to_le_bytes());
            self.told.insert(key, (position, now));
            if !self.elected.remove(&key) {
                self.cursor = Some(key);
            }
        }
        if are_all_told {
            self.cursor = looked_up_to;
        }
        Some(out)
    }

    /// The next few, each once: new leaders, then whatever has changed or was told long ago, on from where the last
    /// piece ended; and where this ends.
    fn next_due(&self, now: Instant) -> (Vec<PartitionKey>, Option<PartitionKey>) {
        let partitions = &self.partitions;
        let mut due: Vec<PartitionKey> = self.elected.iter().copied().take(DUE_MAX).collect();
        let mut looked_up_to = self.cursor;
        let behind = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let before = self.cursor.map_or(Bound::Excluded(PartitionKey::default()), Bound::Included);
        let in_turn = partitions.range((behind, Bound::Unbounded)).chain(partitions.range((Bound::Unbounded, before)));
        for (key, position) in in_turn.take(LOOKS_MAX) {
            if due.len() == DUE_MAX {
                break;
            }
            looked_up_to = Some(*key);
            let was_told = |(told, at): &(Position, Instant)| told == position && now < at.after_ms(RETELL_MS);
            if !self.elected.contains(key) && !self.told.get(key).is_some_and(was_told) {
                due.push(*key);
            }
        }
        (due, looked_up_to)
    }

    fn head(&mut self, node: NodeId, generation: u64) -> Vec<u8> {
        self.sequence += 1;
        let mut out = Vec::with_capacity(GOSSIP_PIECE_BYTES_MAX);
        out.extend_from_slice(&node.0.to_le_bytes());
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        assert_eq!(out.len(), HEAD_BYTES);
        out
    }
}

fn put_head(out: &mut Vec<u8>, tag: u8, count: usize) {
    out.push(tag);
    out.extend_from_slice(&(count as u16).to_le_bytes());
}

fn put_partition(out: &mut Vec<u8>, index: PartitionIndex, position: Position) {
    let behind = position.log_end.0.saturating_sub(position.high_watermark.0);
    for number in [i64::from(index.0), i64::from(position.epoch.0), position.log_end.0, behind] {
        put_varint(out, u64::try_from(number).unwrap_or(0));
    }
}

const _: () = assert!(HEAD_BYTES + 3 + DEVICES_TOLD_MAX * DEVICE_BYTES + 3 + CORE_BYTES < GOSSIP_PIECE_BYTES_MAX);
const _: () = assert!(HEAD_BYTES + TOPIC_BYTES + PARTITION_BYTES_MAX < GOSSIP_PIECE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(4);

    fn position(epoch: i32, end: i64) -> Position {
        Position { epoch: LeaderEpoch(epoch), log_end: Offset(end), high_watermark: Offset(end / 2) }
    }

    fn key(topic: u8, index: i32) -> (TopicId, PartitionIndex) {
        (TopicId([topic; 16]), PartitionIndex(index))
    }

    fn report(partitions: i32) -> NodeReport {
        let latency = LatencyDigest { requests: 9, p50_us: 100, p99_us: 2000, max_us: u32::MAX };
        NodeReport {
            cores: (0..40).map(|core| CoreReport { core: CoreId(core), load_permille: 999, latency }).collect(),
            devices: vec![DeviceReport { device: 0, full_permille: 512, p99_us: 7 }],
            partitions: (0..partitions).map(|at| (key((at % 3) as u8, at), position(1, i64::from(at) << 20))).collect(),
        }
    }

    /// All partitions of the pieces that are due at `now`.
    fn tell(reporter: &mut Reporter, now: Instant) -> Vec<((TopicId, PartitionIndex), Position)> {
        let mut told = Vec::new();
        while let Some(bytes) = reporter.next_of_partitions(ME, 1, now) {
            assert!(bytes.len() <= GOSSIP_PIECE_BYTES_MAX);
            let piece = Piece::read(&bytes).unwrap();
            assert!(!piece.partitions.is_empty());
            told.extend(piece.partitions);
        }
        told
    }

    #[test]
    fn each_partition_is_told_once_and_again_when_it_changes() {
        let mut reporter = Reporter::default();
        let mut now_report = report(300);
        reporter.add(now_report.clone());
        let now = Instant(5);
        let told = tell(&mut reporter, now);
        assert_eq!(told.len(), 300);
        assert_eq!(told.into_iter().collect::<BTreeMap<_, _>>(), now_report.partitions);
        reporter.add(now_report.clone());
        assert_eq!(tell(&mut reporter, now), []);

        now_report.partitions.insert(key(0, 0), position(1, 77));
        now_report.partitions.insert(key(2, 299), position(2, 5));
        reporter.add(now_report.clone());
        let told = tell(&mut reporter, now);
        assert_eq!(told, [(key(2, 299), position(2, 5)), (key(0, 0), position(1, 77))], "the new leader first");
        assert_eq!(tell(&mut reporter, now.after_ms(RETELL_MS)).len(), 300, "for those who did not hear");

        reporter.keep_partitions(|led| *led != key(0, 0));
        assert_eq!((reporter.told.len(), reporter.partitions.len()), (299, 299));
    }

    #[test]
    fn all_cores_are_told_in_turn() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.next_of_cores(ME, 1), None);
        let all = report(0);
        reporter.add(all.clone());
        let mut cores = BTreeMap::new();
        for sequence in 1..=3 {
            let piece = Piece::read(&reporter.next_of_cores(ME, 8).unwrap()).unwrap();
            assert_eq!(piece.id, PieceId { node: ME, generation: 8, sequence });
            assert_eq!(piece.devices, all.devices);
            cores.extend(piece.cores.into_iter().map(|core| (core.core, core)));
        }
        assert_eq!(cores.into_values().collect::<Vec<_>>(), all.cores);
    }

    #[test]
    fn torn_pieces_and_offsets_that_cannot_be_are_refused() {
        let mut reporter = Reporter::default();
        reporter.add(report(20));
        let mut whole =
            [reporter.next_of_cores(ME, 1).unwrap(), reporter.next_of_partitions(ME, 1, Instant(1)).unwrap()];
        for bytes in &whole {
            let mut read = 0;
            for len in 0..bytes.len() {
                read += usize::from(Piece::read(&bytes[..len]).is_some());
            }
            assert!(read <= 3, "only between its parts: {read}");
        }
        whole[0][3] = 0x80;
        assert_eq!(Piece::read(&whole[0]), None);
        let with = |numbers: [u64; 4]| {
            let mut bytes = whole[1][..HEAD_BYTES + 17].to_vec();
            bytes.extend_from_slice(&[1, 0]);
            numbers.into_iter().for_each(|number| put_varint(&mut bytes, number));
            Piece::read(&bytes)
        };
        assert!(with([0, 0, 5, 5]).is_some());
        for numbers in [[1 << 31, 0, 5, 5], [0, 1 << 31, 5, 5], [0, 0, 5, 6], [0, 0, 1 << 63, 0]] {
            assert_eq!(with(numbers), None, "{numbers:?}");
        }
        assert_eq!(Piece::read(&[0; GOSSIP_PIECE_BYTES_MAX + 1]), None);
    }
}
