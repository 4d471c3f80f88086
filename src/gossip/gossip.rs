//! The gossip of one broker: datagrams in, datagrams and news out.
//!
//! Membership sends what it must; reports and deltas fill what is left of its datagrams, and besides go to a few members
//! at random, five times a second and when there is new metadata, as far as there are bytes left of the second's.
//!
//! *Owns*: the order in which a datagram is judged, the pace, and what is told of what was refused. *Never*: reads a
//! clock or sends. *Runs on*: core 0.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::base::limits::{
    GOSSIP_DATAGRAM_BYTES_MAX, GOSSIP_DELTA_BYTES_MAX, GOSSIP_MEMBERS_MAX, GOSSIP_PIECE_BYTES_MAX, GOSSIP_RATE_BYTES,
    GOSSIP_RECEIVED_MAX, GOSSIP_SEEDS_MAX,
};
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::config::Address;
use crate::gossip::deltas::{Delta, Deltas};
use crate::gossip::frame::{self, FrameWriter, Head, Refusal, Seal, SectionKind};
use crate::gossip::member::{Member, Standing};
use crate::gossip::report::{NodeReport, PartitionKey, Piece, Reporter};
use crate::gossip::rumors::{Rank, Rumors};
use crate::gossip::swim::{Swim, SwimOut, tellings};
use crate::gossip::view::View;
use crate::gossip::window::Window;

const SPREAD_MS: u64 = 200;
const SPREAD_MEMBERS: usize = 3;
/// How soon there is a turn for metadata, if the pace allows it.
const HURRY_MS: u64 = 10;
/// How often those are asked who were not heard of.
const JOIN_MS: u64 = 1_000;
/// Brokers that are asked at a time.
const ASKED_MAX: usize = 16;
/// Cores and devices are told this often, if the pace allows it.
const REPORT_MS: u64 = 1_000;
/// A report needs not reach everybody, since the next one comes: two in a hundred miss it.
const REPORT_TELLINGS: u8 = 4;
/// The share of the pace that reports of all members may take together, in hundredths.
const REPORT_SHARE: u64 = 80;
/// How often one sender is told that it is superseded, and one kind of refusal is logged.
const SUPERSEDED_MS: u64 = 1_000;
/// How often one sender is sent what it has missed.
const HELP_INTERVAL_MS: u64 = 100;
const COMPLAINT_MS: u64 = 600_000;

/// What came of a step.
#[derive(Default, Debug)]
pub struct GossipOut {
    pub datagrams: Vec<(Address, Bytes)>,
    pub events: Vec<GossipEvent>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GossipEvent {
    /// Something is thought differently of a member.
    Changed(NodeId, Standing),
    /// The metadata after the version this broker has.
    Delta(Delta),
    /// Somebody has metadata that is too long for a datagram: `ask` may have it.
    Ahead { ask: NodeId },
    /// Others have had metadata for a while that this broker has not: `ask` has it.
    DeltaGap { have: u64, seen: u64, ask: NodeId },
}

/// What was sent and received so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GossipCounts {
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// In the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
}

impl GossipCounts {
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }
}

/// Somebody whose datagrams have come.
#[derive(Default, Debug)]
struct Sender {
    generation: u64,
    window: Window,
    version: u64,
    superseded_at: Option<Instant>,
    helped_at: Option<Instant>,
}

#[derive(Debug)]
pub struct Gossip {
    seal: Seal,
    rng: Rng,
    swim: Swim,
    senders: BTreeMap<NodeId, Sender>,
    seeds: Vec<Address>,
    /// Brokers of the cluster, and how many of them there are that were never heard of.
    brokers: Vec<(NodeId, Address)>,
    strangers: usize,
    next_asked: usize,
    rumors: Rumors,
    deltas: Deltas,
    /// Who said that it has which metadata, of those who can be asked for it alone.
    ahead: Option<(u64, NodeId)>,
    reporter: Reporter,
    view: View,
    /// Of the datagrams of the present run.
    sequence: u64,
    counts: GossipCounts,
    /// What may be sent, and be told of this broker's own reports: one half for its cores, one for its partitions.
    pace: Allowance,
    core_pace: Allowance,
    partition_pace: Allowance,
    arrivals: Allowance,
    next_spread: Instant,
    next_join: Instant,
    next_report: Instant,
    complained_at: BTreeMap<Refusal, Instant>,
}

impl Gossip {
    /// `me.generation` is the time of the start, or anything that is larger for later runs of this broker.
    pub fn new(me: Member, seal: Seal, mut rng: Rng, now: Instant) -> Gossip {
        let engine_rng = Rng::new(rng.next_u64());
        let next_spread = now.after_ms(rng.below(SPREAD_MS));
        Gossip {
            seal,
            swim: Swim::new(me, engine_rng),
            senders: BTreeMap::new(),
            seeds: Vec::new(),
            brokers: Vec::new(),
            strangers: 0,
            next_asked: 0,
            rumors: Rumors::default(),
            deltas: Deltas::default(),
            ahead: None,
            reporter: Reporter::default(),
            view: View::default(),
            sequence: 0,
            counts: GossipCounts::default(),
            pace: Allowance::full(GOSSIP_RATE_BYTES, now),
            core_pace: Allowance::full(GOSSIP_PIECE_BYTES_MAX as u64, now),
            partition_pace: Allowance::full(GOSSIP_PIECE_BYTES_MAX as u64, now),
            arrivals: Allowance::full(GOSSIP_RECEIVED_MAX, now),
            next_spread,
            next_join: now,
            next_report: now.after_ms(rng.below(REPORT_MS)),
            complained_at: BTreeMap::new(),
            rng,
        }
    }

    /// Where to ask when nobody is known. More than the bound are left out.
    pub fn join(&mut self, seed: Address) {
        if self.seeds.len() < GOSSIP_SEEDS_MAX && !self.seeds.contains(&seed) {
            self.seeds.push(seed);
        }
    }

    /// The brokers of the cluster, as metadata has them: those that were never heard of are asked.
    pub fn set_brokers(&mut self, brokers: impl IntoIterator<Item = (NodeId, Address)>) {
        let me = self.me().node;
        self.brokers = brokers.into_iter().filter(|(node, _)| *node != me).take(GOSSIP_MEMBERS_MAX).collect();
        self.count_strangers();
    }

    /// Members that are known otherwise, as the runs they are.
    pub fn introduce(&mut self, members: impl IntoIterator<Item = Member>, now: Instant, out: &mut GossipOut) {
        let mut swim = SwimOut::default();
        self.swim.introduce(members, now, &mut swim);
        self.carry_out(swim, now, out);
    }

    /// This run ends.
    pub fn leave(&mut self, now: Instant, out: &mut GossipOut) {
        let mut swim = SwimOut::default();
        self.swim.leave(now, &mut swim);
        self.carry_out(swim, now, out);
    }

    /// What this broker has measured of itself. What it measured before of anything else still counts.
    pub fn report(&mut self, report: NodeReport) {
        self.reporter.add(report);
    }

    /// Tells no more of partitions that are led elsewhere.
    pub fn keep_partitions(&mut self, is_led: impl Fn(&PartitionKey) -> bool) {
        self.reporter.keep_partitions(is_led);
    }

    /// This broker knows by itself what was committed: others are told, soon.
    pub fn on_committed(&mut self, delta: Delta, now: Instant) {
        if self.deltas.keeps(&delta) {
            return;
        }
        self.deltas.advance(delta.to);
        self.hurry(now);
        let tellings = tellings(self.swim.active() + 1);
        if delta.bytes.len() <= GOSSIP_DELTA_BYTES_MAX {
            self.rumors.add(Rank::Delta, delta.write(), tellings);
            self.deltas.keep(delta, now);
        } else {
            self.rumors.add(Rank::Ahead, numbered(self.me().node, delta.to), tellings);
        }
    }

    /// Metadata does not wait for the next turn, but for what may come together with it.
    fn hurry(&mut self, now: Instant) {
        self.next_spread = self.next_spread.min(now.after_ms(HURRY_MS));
    }

    /// This broker has the metadata up to here, by whatever way.
    pub fn set_version(&mut self, version: u64) {
        self.deltas.advance(version);
    }

    pub fn version(&self) -> u64 {
        self.deltas.have()
    }

    /// How far the metadata of this broker are behind the latest that it has heard of.
    pub fn behind(&self) -> u64 {
        let seen = self.senders.values().map(|sender| sender.version).max().unwrap_or(0);
        seen.saturating_sub(self.deltas.have())
    }

    pub fn me(&self) -> &Member {
        self.swim.me()
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn view_mut(&mut self) -> &mut View {
        &mut self.view
    }

    pub fn counts(&self) -> &GossipCounts {
        &self.counts
    }

    pub fn standing(&self, node: NodeId) -> Option<Standing> {
        self.swim.standing(node)
    }

    /// All others that were ever heard of.
    pub fn standings(&self) -> impl Iterator<Item = (NodeId, Standing)> + '_ {
        self.swim.standings()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let join = self.has_somebody_to_ask().then_some(self.next_join);
        let spread = (self.swim.active() > 0).then_some(self.next_spread);
        [join, spread, self.swim.next_deadline(), self.deltas.gap_deadline()].into_iter().flatten().min()
    }

    /// A datagram came. When it is refused nothing has changed but the counts.
    pub fn on_datagram(
        &mut self,
        from: &Address,
        bytes: &[u8],
        now: Instant,
        out: &mut GossipOut,
    ) -> Result<(), Refusal> {
        self.counts.received += 1;
        self.counts.received_bytes += bytes.len() as u64;
        let result = self.judge(from, bytes, now, out);
        if let Err(refusal) = result {
            self.counts.refused[refusal as usize] += 1;
            self.complain(refusal, from, now);
        }
        result
    }

    fn judge(&mut self, from: &Address, bytes: &[u8], now: Instant, out: &mut GossipOut) -> Result<(), Refusal> {
        self.arrivals.refill(GOSSIP_RECEIVED_MAX, GOSSIP_RECEIVED_MAX, now);
        if !self.arrivals.afford(1) {
            return Err(Refusal::Flood);
        }
        self.arrivals.spend(1);
        let (head, sections) = frame::open(bytes, &self.seal)?;
        self.judge_head(head, from, now, out)?;
        self.deltas.see(head.version, now);
        self.help(head, from, now, out);
        let mut swim = SwimOut::default();
        let mut result = Ok(());
        for (kind, section) in sections {
            result = result.and(self.on_section(head.from, kind, section, now, &mut swim, out));
        }
        self.carry_out(swim, now, out);
        result
    }

    fn judge_head(&mut self, head: Head, from: &Address, now: Instant, out: &mut GossipOut) -> Result<(), Refusal> {
        if head.from == self.me().node {
            return Err(Refusal::Ourselves);
        }
        if !self.senders.contains_key(&head.from) && self.senders.len() == GOSSIP_MEMBERS_MAX {
            return Err(Refusal::TooManyMembers);
        }
        let sender = self.senders.entry(head.from).or_default();
        if head.generation < sender.generation {
            let generation = sender.generation;
            let may_tell = sender.superseded_at.is_none_or(|at| at.after_ms(SUPERSEDED_MS) <= now);
            if may_tell {
                sender.superseded_at = Some(now);
                self.send(from, Some((SectionKind::Superseded, &numbered(head.from, generation))), now, out);
            }
            return Err(Refusal::OldGeneration);
        }
        if head.generation > sender.generation {
            *sender = Sender { generation: head.generation, ..Sender::default() };
        }
        if !sender.window.accept(head.sequence) {
            return Err(Refusal::Replayed);
        }
        sender.version = sender.version.max(head.version);
        Ok(())
    }

    /// Sends somebody who is behind what it lacks, if it must have missed it.
    fn help(&mut self, head: Head, to: &Address, now: Instant, out: &mut GossipOut) {
        let Some(sender) = self.senders.get_mut(&head.from) else { return };
        let may_help = sender.helped_at.is_none_or(|at| at.after_ms(HELP_INTERVAL_MS) <= now);
        if let Some(delta) = self.deltas.help(head.version, now).filter(|_| may_help) {
            sender.helped_at = Some(now);
            let section = delta.write();
            self.send(to, Some((SectionKind::Delta, &section)), now, out);
        }
    }

    fn on_section(
        &mut self,
        from: NodeId,
        kind: SectionKind,
        section: &[u8],
        now: Instant,
        swim: &mut SwimOut,
        out: &mut GossipOut,
    ) -> Result<(), Refusal> {
        match kind {
            SectionKind::Swim => self.swim.on_message(from, section, now, swim)?,
            SectionKind::Report => {
                let piece = Piece::read(section).ok_or(Refusal::Nonsense)?;
                if piece.id.node != self.me().node && self.view.take(piece, now) {
                    self.rumors.add(Rank::Report, Bytes::copy_from_slice(section), REPORT_TELLINGS);
                }
            }
            SectionKind::Delta => {
                let delta = Delta::read(section).ok_or(Refusal::Nonsense)?;
                if bug::on(Bug::TakeStaleMetadata) && delta.to <= self.deltas.have() {
                    out.events.push(GossipEvent::Delta(delta.clone()));
                }
                if self.deltas.take(delta, now) {
                    let tellings = tellings(self.swim.active() + 1);
                    self.rumors.add(Rank::Delta, Bytes::copy_from_slice(section), tellings);
                    self.hurry(now);
                }
                out.events.extend(std::iter::from_fn(|| self.deltas.next(now)).map(GossipEvent::Delta));
            }
            SectionKind::Ahead => {
                let (node, version) = Member::read_run(&mut Fields(section)).ok_or(Refusal::Nonsense)?;
                if version > self.deltas.have() && self.ahead.is_none_or(|(known, _)| known < version) {
                    self.ahead = Some((version, node));
                    self.deltas.see(version, now);
                    let tellings = tellings(self.swim.active() + 1);
                    self.rumors.add(Rank::Ahead, Bytes::copy_from_slice(section), tellings);
                    self.hurry(now);
                    // Not all ask the one who began it.
                    let has_it = self.senders.get(&from).is_some_and(|sender| sender.version >= version);
                    out.events.push(GossipEvent::Ahead { ask: if has_it { from } else { node } });
                }
            }
            SectionKind::Superseded => {
                let (node, generation) = Member::read_run(&mut Fields(section)).ok_or(Refusal::Nonsense)?;
                if node == self.me().node && generation > self.me().generation {
                    tracing::info!(generation, "others know of a later run of this broker: passing it");
                    self.swim.rejoin(generation.saturating_add(1), now, swim);
                }
            }
            SectionKind::Join => {
                let member = Member::read(&mut Fields(section)).ok_or(Refusal::Nonsense)?;
                if member.node != from {
                    return Err(Refusal::Nonsense);
                }
                self.swim.introduce([member.clone()], now, swim);
                self.swim.announce(member, now, swim);
            }
        }
        Ok(())
    }

    pub fn on_timeout(&mut self, now: Instant, out: &mut GossipOut) {
        let mut swim = SwimOut::default();
        self.swim.on_timeout(now, &mut swim);
        self.carry_out(swim, now, out);
        if self.next_join <= now && self.has_somebody_to_ask() {
            self.next_join = now.after_ms(JOIN_MS);
            self.ask_around(now, out);
        }
        if self.next_spread <= now && self.swim.active() > 0 {
            self.next_spread = now.after_ms(SPREAD_MS - SPREAD_MS / 8 + self.rng.below(SPREAD_MS / 4));
            self.spread(now, out);
        }
        self.tell_gap(now, out);
    }

    fn has_somebody_to_ask(&self) -> bool {
        let is_alone = self.swim.active() == 0;
        self.strangers > 0 || is_alone && (!self.seeds.is_empty() || !self.brokers.is_empty())
    }

    fn count_strangers(&mut self) {
        let strangers = self.brokers.iter().filter(|(node, _)| self.swim.standing(*node).is_none());
        self.strangers = strangers.count();
    }

    /// Those who know nobody ask everybody they have an address of, others the brokers they have not heard of: some at a
    /// time.
    fn ask_around(&mut self, now: Instant, out: &mut GossipOut) {
        let is_alone = self.swim.active() == 0;
        let mut section = Vec::new();
        self.me().write(&mut section);
        let mut asked: Vec<Address> = if is_alone { self.seeds.clone() } else { Vec::new() };
        let wanted = self.brokers.iter().filter(|(node, _)| is_alone || self.swim.standing(*node).is_none());
        let wanted: Vec<&Address> = wanted.map(|(_, address)| address).collect();
        let turn = wanted.len().min(ASKED_MAX);
        asked.extend(wanted.iter().cycle().skip(self.next_asked % wanted.len().max(1)).take(turn).copied().cloned());
        self.next_asked = self.next_asked.wrapping_add(turn);
        for address in &asked {
            self.send(address, Some((SectionKind::Join, &section)), now, out);
        }
        self.count_strangers();
    }

    /// Begins new rumors of this broker, and tells what there is to a few.
    fn spread(&mut self, now: Instant, out: &mut GossipOut) {
        self.begin_rumors(now);
        self.pace.refill(GOSSIP_RATE_BYTES, GOSSIP_RATE_BYTES, now);
        for member in self.swim.pick(SPREAD_MEMBERS, &mut self.rng) {
            if self.rumors.is_empty() || !self.pace.afford(GOSSIP_DATAGRAM_BYTES_MAX as u64) {
                break;
            }
            self.send(&member.address, None, now, out);
        }
    }

    /// All members share the pace, since each of them passes on what each begins.
    fn begin_rumors(&mut self, now: Instant) {
        let members = self.swim.active() as u64 + 1;
        let rate = GOSSIP_RATE_BYTES * REPORT_SHARE / 100 / 2;
        // Thousandths of a byte: of a thousand members each begins a byte or two in a second.
        let share = rate * 1000 / (members * u64::from(REPORT_TELLINGS));
        let piece = 1000 * GOSSIP_PIECE_BYTES_MAX as u64;
        let (node, generation) = (self.me().node, self.me().generation);
        self.core_pace.refill(share, piece, now);
        self.partition_pace.refill(share, piece, now);
        if self.next_report <= now && self.core_pace.is_positive() {
            self.next_report = now.after_ms(REPORT_MS);
            if let Some(bytes) = self.reporter.next_of_cores(node, generation) {
                self.core_pace.spend(1000 * bytes.len() as u64);
                self.rumors.add(Rank::Report, Bytes::from(bytes), REPORT_TELLINGS);
            }
        }
        if self.partition_pace.is_positive()
            && let Some(bytes) = self.reporter.next_of_partitions(node, generation, now)
        {
            self.partition_pace.spend(1000 * bytes.len() as u64);
            self.rumors.add(Rank::Report, Bytes::from(bytes), REPORT_TELLINGS);
        }
    }

    fn tell_gap(&mut self, now: Instant, out: &mut GossipOut) {
        if self.deltas.gap_deadline().is_none_or(|at| at > now) {
            return;
        }
        let have = self.deltas.have();
        self.ahead = self.ahead.filter(|(version, _)| *version > have);
        let claims = self.senders.iter().map(|(node, sender)| (sender.version, *node));
        let ahead: Vec<(u64, NodeId)> = claims.chain(self.ahead).filter(|(version, _)| *version > have).collect();
        let seen = ahead.iter().map(|(version, _)| *version).max().unwrap_or(0);
        if !self.deltas.gap_is_due(seen, now) || ahead.is_empty() {
            return;
        }
        let (_, ask) = ahead[self.rng.below(ahead.len() as u64) as usize];
        out.events.push(GossipEvent::DeltaGap { have, seen, ask });
    }

    /// Seals what membership wants sent, with rumors beside it, and tells of changes.
    fn carry_out(&mut self, swim: SwimOut, now: Instant, out: &mut GossipOut) {
        for (to, message) in swim.messages {
            self.send(&to.address, Some((SectionKind::Swim, &message)), now, out);
        }
        out.events.extend(swim.changes.into_iter().map(|(node, standing)| GossipEvent::Changed(node, standing)));
    }

    /// A section, if any, and as many rumors as fit and the pace allows.
    fn send(&mut self, to: &Address, section: Option<(SectionKind, &[u8])>, now: Instant, out: &mut GossipOut) {
        self.sequence += 1;
        let head = Head {
            from: self.me().node,
            generation: self.me().generation,
            sequence: self.sequence,
            version: self.deltas.have(),
        };
        let mut writer = FrameWriter::new(head, &self.seal);
        if let Some((kind, bytes)) = section {
            writer.push(kind, bytes);
        }
        self.pace.refill(GOSSIP_RATE_BYTES, GOSSIP_RATE_BYTES, now);
        if self.pace.afford(GOSSIP_DATAGRAM_BYTES_MAX as u64) {
            self.rumors.fill(&mut writer);
        }
        let datagram = writer.finish(&self.seal);
        self.pace.spend(datagram.len() as u64);
        self.counts.sent += 1;
        self.counts.sent_bytes += datagram.len() as u64;
        out.datagrams.push((to.clone(), datagram));
    }

    /// Once, and then again when it has gone on for long.
    fn complain(&mut self, refusal: Refusal, from: &Address, now: Instant) {
        if self.complained_at.get(&refusal).is_some_and(|at| now < at.after_ms(COMPLAINT_MS)) {
            return;
        }
        self.complained_at.insert(refusal, now);
        let count = self.counts.refused(refusal);
        tracing::warn!(%from, count, "a datagram of gossip was refused: {refusal}");
    }
}

/// A node and a number: read as [`Member::read_run`] does.
fn numbered(node: NodeId, number: u64) -> Bytes {
    Bytes::from([&node.0.to_le_bytes()[..], &number.to_le_bytes()].concat())
}

/// What may be used in a time, saved up to a bound. It may be overdrawn, by no more than that.
#[derive(Debug)]
struct Allowance {
    left: i64,
    at: Instant,
}

impl Allowance {
    fn full(bound: u64, now: Instant) -> Allowance {
        Allowance { left: bound as i64, at: now }
    }

    fn refill(&mut self, per_second: u64, bound: u64, now: Instant) {
        let ns = now.since_ns(self.at);
        let more = u128::from(ns) * u128::from(per_second) / 1_000_000_000;
        if more > 0 {
            // What is less than one is not lost.
            let used_ns = more * 1_000_000_000 / u128::from(per_second);
            self.at = Instant(self.at.0 + u64::try_from(used_ns).unwrap_or(ns));
            self.left = self.left.saturating_add(i64::try_from(more).unwrap_or(i64::MAX)).min(bound as i64);
        }
        self.left = self.left.max(-(bound as i64));
    }

    fn is_positive(&self) -> bool {
        self.left > 0
    }

    fn afford(&self, wanted: u64) -> bool {
        self.left >= wanted as i64
    }

    fn spend(&mut self, used: u64) {
        self.left = self.left.saturating_sub_unsigned(used);
    }
}
