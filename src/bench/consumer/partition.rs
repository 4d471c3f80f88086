//! One partition as a consumer sees it.
//!
//! *Owns*: the position, and what has to be known before it can move. *Never*: knows how it is asked.
//! *Runs on*: the consumer's thread.

use super::StartAt;

/// The special timestamps of ListOffsets.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

pub(super) struct Partition {
    /// Over all topics.
    pub index: u32,
    /// Whether it is to be read: a group may have given it to another member.
    pub is_owned: bool,
    /// Who leads it: a place among the consumer's links.
    pub link: Option<usize>,
    pub leader_epoch: i32,
    pub stage: Stage,
    /// The next offset to be received.
    pub position: i64,
    pub high_watermark: i64,
    pub end: End,
    pub retry_at_ns: u64,
    /// It is part of the fetches of its link.
    pub is_fetched: bool,
    /// The link's session has it, at some position.
    pub in_session: bool,
    /// It is among what has changed since the link's last fetch.
    pub is_marked: bool,
    /// Offsets that were deleted before they were received.
    pub skipped_offsets: i64,
    pub came: Came,
}

/// Records of the run that came of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Came {
    pub records: u64,
    pub duplicates: u64,
    pub reordered: u64,
}

/// What has to be asked for before records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Where to begin.
    Unplaced,
    /// Out of range: whether the log begins later by now.
    AfterStart,
    /// Out of range, and not deleted: where the log ends.
    BeforeEnd,
    Fetching,
}

/// Up to where it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Open,
    /// To what the log holds at the moment, which is to be asked for.
    Wanted,
    At(i64),
}

impl Partition {
    pub fn new(index: u32, end: End) -> Partition {
        Partition {
            index,
            is_owned: true,
            link: None,
            leader_epoch: -1,
            stage: Stage::Unplaced,
            position: 0,
            high_watermark: 0,
            end,
            retry_at_ns: 0,
            is_fetched: false,
            in_session: false,
            is_marked: false,
            skipped_offsets: 0,
            came: Came::default(),
        }
    }

    /// What ListOffsets is to be asked, if anything.
    pub fn question(&self, start: StartAt) -> Option<i64> {
        match (self.stage, start) {
            (Stage::Unplaced, StartAt::Earliest) | (Stage::AfterStart, _) => Some(EARLIEST),
            (Stage::Unplaced, StartAt::Latest) | (Stage::BeforeEnd, _) => Some(LATEST),
            (Stage::Fetching, _) => (self.end == End::Wanted).then_some(LATEST),
        }
    }

    /// Takes the answer. Gives what is to be told to people about it.
    pub fn on_offset(&mut self, offset: i64) -> Option<&'static str> {
        let position = self.position;
        // -1 for "no record" is the start of an empty log.
        let offset = offset.max(0);
        let stage = std::mem::replace(&mut self.stage, Stage::Fetching);
        match stage {
            Stage::Unplaced => {
                self.position = offset;
                self.high_watermark = offset;
            }
            Stage::AfterStart if offset > position => {
                self.skipped_offsets = self.skipped_offsets.saturating_add(offset.saturating_sub(position));
                self.position = offset;
                return Some("records were deleted before they were read");
            }
            Stage::AfterStart => self.stage = Stage::BeforeEnd,
            Stage::BeforeEnd if offset < position => {
                self.position = offset;
                return Some("the log ends before what had been read from it");
            }
            Stage::BeforeEnd => {}
            Stage::Fetching => self.end = End::At(offset),
        }
        None
    }

    /// Somebody else reads it from now on.
    pub fn give_up(&mut self) {
        self.is_owned = false;
        self.end = End::Open;
    }

    /// It is read again, from there.
    pub fn take_over(&mut self, position: i64, end: End) {
        let (leader_epoch, skipped_offsets, came) = (self.leader_epoch, self.skipped_offsets, self.came);
        *self = Partition { leader_epoch, skipped_offsets, came, ..Partition::new(self.index, end) };
        (self.stage, self.position, self.high_watermark) = (Stage::Fetching, position, position);
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Fetching && matches!(self.end, End::At(end) if self.position >= end)
    }

    pub fn lag_records(&self) -> u64 {
        u64::try_from(self.high_watermark.saturating_sub(self.position)).unwrap_or(0)
    }
}
