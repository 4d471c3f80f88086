//! Reads the commits of a journal that are still needed, in order, and tells a torn end from damage in the middle.
//!
//! A crash leaves the last commits torn: they were never reported as durable, and the ring ends before them. But a
//! commit says how many of those before it may not have been durable when it was begun (`CommitHead::unsure`): when it
//! is whole, what is missing before those was durable once, and was damaged since. So where the chain breaks the rest of
//! the ring is searched.
//!
//! *Owns*: the way through the ring. *Never*: reads more than one lap, or takes a commit of another run. *Runs on*:
//! core 0 before partitions are opened, and tools.

use bytes::Bytes;

use super::format::{Commit, CommitHead, Header, RING_START, Run, read_commit};
use crate::base::disk::BLOCK_BYTES;
use crate::base::limits::DISK_READ_BYTES_MAX;

const BLOCK: u64 = BLOCK_BYTES as u64;

#[derive(Debug)]
pub struct Scan {
    run: Run,
    ring_bytes: u64,
    /// The sequence behind the last commit, if that is known.
    end: Option<u64>,
    /// Where in the ring to look next. Invariant: below `ring_bytes`.
    at: u64,
    /// How far that is behind the tail, in the order of the ring.
    passed: u64,
    /// The commit that belongs there.
    expect: u64,
    mode: Mode,
    window: Window,
    /// Up to here in the ring, reads take no more than they need: a larger one failed.
    careful_until: u64,
    /// The last such read that failed, and its length.
    unreadable: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// The next commit is expected where the last one ends.
    Chain,
    /// It is not there: it did not fit before the ring's end, or it is missing.
    Wrap {
        unreadable: bool,
    },
    Search(Search),
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Search {
    /// Where the missing commit belongs.
    position: u64,
    /// It must have been there, whatever else is found.
    certain: bool,
    /// One of its places cannot be read, so that it may be there.
    unreadable: bool,
    /// The first whole commit found that does not prove that anything is missing: `at` and `passed`.
    in_doubt: Option<(u64, u64, u64)>,
}

#[derive(Debug)]
struct Window {
    start: u64,
    asked: u64,
    bytes: Bytes,
    careful: bool,
}

/// What the scan comes to next.
#[derive(Debug)]
pub enum Scanned {
    /// Read this of the file, hand it to [`Scan::on_read`], and ask again.
    Read { position: u64, len: usize },
    /// A whole commit, `position` in the file.
    Commit { position: u64, commit: Commit, bytes: Bytes },
    /// The commit of this sequence should be at `position` in the file, and was durable once. The next whole one is
    /// `found`: what comes next is that, or the end. It may be whole when its place is `unreadable`, for now or for
    /// good.
    Damaged { position: u64, sequence: u64, found: Option<u64>, unreadable: bool },
    /// There is no commit behind the last one told. Of one that was torn nobody was told that it is durable.
    End,
}

impl Scan {
    pub fn new(header: &Header) -> Scan {
        Scan {
            run: header.run,
            ring_bytes: header.ring_bytes,
            end: header.end,
            at: header.tail.position,
            passed: 0,
            expect: header.tail.sequence,
            mode: Mode::Chain,
            window: Window { start: 0, asked: 0, bytes: Bytes::new(), careful: false },
            careful_until: 0,
            unreadable: None,
        }
    }

    /// What was asked for; shorter where the file ends.
    pub fn on_read(&mut self, bytes: Bytes) {
        self.window.bytes = bytes;
    }

    /// What was asked for cannot be read.
    pub fn on_unreadable(&mut self) {
        let Window { start, asked, careful, .. } = self.window;
        if careful {
            self.unreadable = Some((start, asked));
        } else {
            self.careful_until = self.careful_until.max(start + asked);
        }
        self.window.asked = 0;
    }

    pub fn step(&mut self) -> Scanned {
        loop {
            let step = match self.mode {
                Mode::Chain => self.chain(),
                Mode::Wrap { unreadable } => self.wrap(unreadable),
                Mode::Search(search) => self.search(search),
                Mode::Ended => return Scanned::End,
            };
            match step {
                Ok(Some(scanned)) => return scanned,
                Ok(None) => {}
                Err((start, len)) => {
                    let careful = start < self.careful_until;
                    let whole = (DISK_READ_BYTES_MAX as u64).min(self.ring_bytes - start);
                    let asked = if careful { len } else { whole };
                    self.window = Window { start, asked, bytes: Bytes::new(), careful };
                    return Scanned::Read { position: RING_START + start, len: asked as usize };
                }
            }
        }
    }

    fn chain(&mut self) -> Result<Option<Scanned>, Wanted> {
        if self.end == Some(self.expect) {
            self.mode = Mode::Ended;
            return Ok(None);
        }
        let at = self.at;
        if let Some((commit, bytes)) = self.look(at, |scan, head| head.sequence == scan.expect)? {
            return Ok(Some(self.take(at, 0, commit, bytes)));
        }
        self.mode = Mode::Wrap { unreadable: self.is_unreadable(at) };
        Ok(None)
    }

    fn wrap(&mut self, unreadable: bool) -> Result<Option<Scanned>, Wanted> {
        let gap = self.ring_bytes - self.at;
        // It may have had room in the gap: the ring may have been smaller then.
        let is_wrapped = |scan: &Scan, head: &CommitHead| {
            head.sequence == scan.expect && scan.passed + gap + head.padded_bytes() <= scan.ring_bytes
        };
        if self.at > 0
            && let Some((commit, bytes)) = self.look(0, is_wrapped)?
        {
            return Ok(Some(self.take(0, gap, commit, bytes)));
        }
        let unreadable = unreadable || (self.at > 0 && self.is_unreadable(0));
        let certain = unreadable || self.end.is_some();
        self.mode = Mode::Search(Search { position: self.at, certain, unreadable, in_doubt: None });
        Ok(None)
    }

    fn take(&mut self, at: u64, gap: u64, commit: Commit, bytes: Bytes) -> Scanned {
        let taken = commit.head.padded_bytes();
        self.passed += gap + taken;
        self.at = (at + taken) % self.ring_bytes;
        self.expect = commit.head.sequence + 1;
        self.mode = Mode::Chain;
        Scanned::Commit { position: RING_START + at, commit, bytes }
    }

    /// Looks for any later commit at the next block.
    fn search(&mut self, search: Search) -> Result<Option<Scanned>, Wanted> {
        if self.passed >= self.ring_bytes {
            self.mode = Mode::Ended;
            return Ok(search.certain.then_some(Scanned::Damaged {
                position: RING_START + search.position,
                sequence: self.expect,
                found: None,
                unreadable: search.unreadable,
            }));
        }
        let is_later = |scan: &Scan, head: &CommitHead| {
            let upto = scan.end.unwrap_or(scan.expect + 1 + scan.ring_bytes / BLOCK);
            head.sequence > scan.expect && head.sequence < upto
        };
        let found = self.look(self.at, is_later)?.map(|(commit, _)| commit.head);
        let here = found.map(|head| (self.at, self.passed, head.sequence));
        let proof = found.is_some_and(|head| head.sequence > self.expect + u64::from(head.unsure));
        let first = search.in_doubt.or(here);
        if let Some((at, passed, sequence)) = first.filter(|_| search.certain || proof) {
            let damaged = Scanned::Damaged {
                position: RING_START + search.position,
                sequence: self.expect,
                found: Some(sequence),
                unreadable: search.unreadable,
            };
            (self.at, self.passed, self.expect) = (at, passed, sequence);
            self.mode = Mode::Chain;
            return Ok(Some(damaged));
        }
        self.mode = Mode::Search(Search { in_doubt: first, ..search });
        let by = found.map_or(BLOCK, |head| head.padded_bytes());
        self.passed += by;
        self.at = (self.at + by) % self.ring_bytes;
        Ok(None)
    }

    /// The whole commit at this place of the ring, if it is one of this run and is wanted.
    fn look(
        &mut self,
        at: u64,
        is_wanted: impl Fn(&Scan, &CommitHead) -> bool,
    ) -> Result<Option<(Commit, Bytes)>, Wanted> {
        let Some(block) = self.bytes(at, BLOCK)? else { return Ok(None) };
        let Some(head) = CommitHead::read(&block).filter(|head| head.run == self.run) else { return Ok(None) };
        let bytes = head.padded_bytes();
        let fits = at + bytes <= self.ring_bytes && self.passed + bytes <= self.ring_bytes;
        if !fits || !is_wanted(self, &head) {
            return Ok(None);
        }
        let Some(bytes) = self.bytes(at, bytes)? else { return Ok(None) };
        Ok(read_commit(&bytes).map(|commit| (commit, bytes)))
    }

    /// `None` where the file ends or cannot be read.
    fn bytes(&self, at: u64, len: u64) -> Result<Option<Bytes>, Wanted> {
        if self.unreadable == Some((at, len)) {
            return Ok(None);
        }
        let window = &self.window;
        if at < window.start || at + len > window.start + window.asked {
            return Err((at, len));
        }
        let start = (at - window.start) as usize;
        let end = start + len as usize;
        Ok((end <= window.bytes.len()).then(|| window.bytes.slice(start..end)))
    }

    fn is_unreadable(&self, at: u64) -> bool {
        self.unreadable.is_some_and(|(start, _)| start == at)
    }
}

/// A part of the ring that must be read first.
type Wanted = (u64, u64);
