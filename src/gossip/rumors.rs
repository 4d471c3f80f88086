//! What is to be passed on: each piece of news a few times, the most wanted and newest first.
//!
//! *Owns*: the order, and the bound. *Never*: knows what a rumor says. *Runs on*: core 0.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::limits::GOSSIP_RUMORS_BYTES_MAX;
use crate::gossip::frame::{FrameWriter, SectionKind};

/// What goes first when there is not room for all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Delta,
    /// Who has metadata that must be asked for.
    Ahead,
    /// Cores and devices, or partitions.
    Report,
}

#[derive(Debug)]
struct Rumor {
    bytes: Bytes,
    tellings_left: u8,
}

/// Rank, how often it was told, and when it came: the smallest is next.
type Turn = (Rank, u8, Reverse<u64>);

#[derive(Default, Debug)]
pub(super) struct Rumors {
    turns: BTreeMap<Turn, Rumor>,
    bytes: usize,
    came: u64,
}

impl Rumors {
    pub fn add(&mut self, rank: Rank, bytes: Bytes, tellings: u8) {
        assert!(tellings > 0);
        self.came += 1;
        self.bytes += bytes.len();
        self.turns.insert((rank, 0, Reverse(self.came)), Rumor { bytes, tellings_left: tellings });
        while self.bytes > GOSSIP_RUMORS_BYTES_MAX
            && let Some((_, rumor)) = self.turns.pop_last()
        {
            self.bytes -= rumor.bytes.len();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts as many into a datagram as fit.
    pub fn fill(&mut self, writer: &mut FrameWriter) {
        let mut told = Vec::new();
        for (turn, rumor) in &self.turns {
            if writer.room() < RUMOR_BYTES_MIN {
                break;
            }
            if rumor.bytes.len() <= writer.room() {
                let kind = match turn.0 {
                    Rank::Delta => SectionKind::Delta,
                    Rank::Ahead => SectionKind::Ahead,
                    Rank::Report => SectionKind::Report,
                };
                writer.push(kind, &rumor.bytes);
                told.push(*turn);
            }
        }
        for turn in told {
            let Some(mut rumor) = self.turns.remove(&turn) else { continue };
            rumor.tellings_left -= 1;
            if rumor.tellings_left == 0 {
                self.bytes -= rumor.bytes.len();
            } else {
                self.turns.insert((turn.0, turn.1 + 1, turn.2), rumor);
            }
        }
    }
}

/// No rumor is shorter.
const RUMOR_BYTES_MIN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::gossip::frame::{Head, Seal, open};

    fn told(rumors: &mut Rumors) -> Vec<(SectionKind, usize, u8)> {
        let seal = Seal::new("x", None);
        let head = Head { from: NodeId(0), generation: 1, sequence: 1, version: 0 };
        let mut writer = FrameWriter::new(head, &seal);
        rumors.fill(&mut writer);
        let bytes = writer.finish(&seal);
        let (_, sections) = open(&bytes, &seal).unwrap();
        sections.into_iter().map(|(kind, section)| (kind, section.len(), section[0])).collect()
    }

    #[test]
    fn what_is_wanted_and_new_goes_first_and_each_so_often() {
        use SectionKind::{Delta, Report};
        let mut rumors = Rumors::default();
        for (rank, len, mark, tellings) in
            [(Rank::Report, 400, 1, 2), (Rank::Report, 400, 2, 2), (Rank::Delta, 300, 3, 1), (Rank::Report, 400, 4, 2)]
        {
            rumors.add(rank, Bytes::from(vec![mark; len]), tellings);
        }
        assert_eq!(told(&mut rumors), [(Delta, 300, 3), (Report, 400, 4), (Report, 400, 2)]);
        assert_eq!(told(&mut rumors), [(Report, 400, 1), (Report, 400, 4)]);
        assert_eq!(told(&mut rumors), [(Report, 400, 2), (Report, 400, 1)]);
        assert!(rumors.is_empty() && rumors.bytes == 0);
    }

    #[test]
    fn the_oldest_of_the_least_wanted_is_forgotten_first() {
        let mut rumors = Rumors::default();
        rumors.add(Rank::Delta, Bytes::from(vec![1; 500]), 3);
        for mark in 0..200 {
            rumors.add(Rank::Report, Bytes::from(vec![mark; 400]), 3);
            assert!(rumors.bytes <= GOSSIP_RUMORS_BYTES_MAX);
        }
        assert_eq!(rumors.turns.len(), 1 + (GOSSIP_RUMORS_BYTES_MAX - 500) / 400);
        assert_eq!(told(&mut rumors)[..2], [(SectionKind::Delta, 500, 1), (SectionKind::Report, 400, 199)]);
    }
}
