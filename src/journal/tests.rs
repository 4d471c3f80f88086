//! Tests of the journal's state machine on a test disk.

use super::format::{Commit, Header, HeaderError, RING_START, is_written, newest_header, read_commit};
use super::journal::JournalEvent;
use super::testing::{RING_BYTES, Rig, Tag, entry, path};
use crate::base::checksum::crc32;
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::Offset;
use crate::base::limits::{JOURNAL_COMMIT_BYTES_MAX, JOURNAL_ENTRY_BYTES_MAX, JOURNAL_FLUSHES_MAX};
use crate::base::testdisk::{Crash, TestDisk};
use crate::base::time::Instant;

fn header(disk: &mut TestDisk<Tag>) -> Header {
    newest_header(&disk.bytes(&path())[..RING_START as usize]).expect("of this version").expect("there is one")
}

#[test]
fn a_missing_file_is_made_and_used_again() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.disk.bytes(&path()).len() as u64, RING_START + RING_BYTES);
    let first = header(&mut rig.disk);
    assert_eq!((first.run.generation, first.count, first.ring_bytes), (1, 2, RING_BYTES));
    rig.close();
    rig.run();
    assert_eq!(rig.events, [JournalEvent::Closed]);
    assert_eq!(rig.disk.open_files(), 0);
    let writes = rig.disk.counts["write"];
    let mut rig = Rig::start(rig.disk, 2);
    rig.run();
    assert_eq!((rig.made, &rig.events[..]), (1, &[][..]));
    assert_eq!(rig.disk.counts["write"], writes + 2, "only headers are written");
    let second = header(&mut rig.disk);
    assert_eq!((second.run.generation, second.run.key), (2, 2));
    assert!(second.count > first.count);
}

#[test]
fn the_ring_grows_beside_commits_and_at_the_next_start_from_where_it_was() {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut rig = Rig::start_with(TestDisk::new(1), 1, PIECE_BYTES);
    while rig.made == 0 {
        rig.step();
    }
    assert_eq!((header(&mut rig.disk).ring_bytes, rig.journal.gauges().ring_bytes), (PIECE_BYTES, PIECE_BYTES));
    let mut sizes = Vec::new();
    for base in 0..20 {
        rig.journal.append(entry(0, base, 1, 100));
        rig.pump();
        rig.step();
        assert!(rig.journal.gauges().ring_bytes <= header(&mut rig.disk).ring_bytes, "a replay looks no further");
        sizes.push(rig.journal.gauges().ring_bytes);
    }
    assert!(sizes.contains(&PIECE_BYTES) && sizes.contains(&(2 * PIECE_BYTES)), "{sizes:?}");
    assert!(!rig.committed().is_empty());
    rig.close();
    rig.run();
    let grown = header(&mut rig.disk).ring_bytes;
    assert!(grown > PIECE_BYTES && grown < RING_BYTES, "{grown}");
    let mut rig = Rig::start_with(rig.disk, 2, PIECE_BYTES);
    rig.run();
    assert_eq!((header(&mut rig.disk).ring_bytes, rig.journal.gauges().ring_bytes), (RING_BYTES, RING_BYTES));
    assert_eq!(rig.journal.gauges().prewritten_bytes, RING_BYTES - grown);
}

#[test]
fn a_ring_that_finds_no_space_to_grow_stays_as_it_is() {
    let mut rig = Rig::start_with(TestDisk::new(1), 1, RING_BYTES / 2);
    while rig.made == 0 {
        rig.step();
    }
    rig.disk.spaceless.push((path(), RING_START + RING_BYTES - 1));
    rig.run();
    rig.journal.append(entry(0, 0, 1, 100));
    rig.run();
    assert_eq!(rig.made, 1);
    assert_eq!(rig.committed(), [(0, 1)]);
    let gauges = rig.journal.gauges();
    assert_eq!((gauges.ring_bytes, header(&mut rig.disk).ring_bytes), (RING_BYTES / 2, RING_BYTES / 2));
}

#[test]
fn a_file_of_another_size_or_without_a_header_is_made_anew() {
    let check = |damage: fn(&mut Vec<u8>)| {
        let mut rig = Rig::new(1);
        rig.journal.append(entry(0, 0, 1, 100));
        rig.run();
        rig.disk.crash(Crash::Power);
        damage(rig.disk.bytes(&path()));
        let mut rig = Rig::start(rig.disk, 1);
        rig.run();
        assert_eq!((rig.made, &rig.events[..]), (1, &[][..]));
        let bytes = rig.disk.bytes(&path());
        assert_eq!(bytes.len() as u64, RING_START + RING_BYTES);
        assert!(bytes[RING_START as usize..].iter().all(|byte| *byte == 0));
    };
    check(|bytes| bytes.truncate(5000));
    check(|bytes| bytes.push(0));
    check(|bytes| bytes[..RING_START as usize].fill(0));
    check(|bytes| {
        bytes[9] ^= 1;
        bytes[BLOCK_BYTES + 9] ^= 1;
    });
}

#[test]
fn what_waits_of_all_owners_is_one_commit() {
    let mut rig = Rig::new(1);
    let writes = rig.disk.counts["write"];
    for owner in 0..50 {
        rig.journal.append(entry(owner, 10, 2, 150));
        rig.journal.append(entry(owner, 12, 1, 30));
    }
    assert_eq!(rig.journal.gauges().waiting_bytes, 50 * 180);
    rig.run();
    let expect: Vec<(u32, i64)> = (0..50).flat_map(|owner| [(owner, 12), (owner, 13)]).collect();
    assert_eq!(rig.committed(), expect);
    assert_eq!(rig.disk.counts["write"], writes + 1);
    assert!(!rig.disk.counts.contains_key("sync"), "no write needs one");
    let gauges = rig.journal.gauges();
    assert_eq!((gauges.commits, gauges.entries, gauges.waiting_bytes), (1, 100, 0));
    assert_eq!(gauges.payload_bytes, 50 * 180);
    let file = rig.disk.bytes(&path());
    let Commit { head, entries } = read_commit(&file[RING_START as usize..]).expect("a commit is there");
    assert_eq!((head.sequence, entries.len()), (1, 100));
    assert_eq!((entries[3].0.base, entries[3].0.next), (Offset(12), Offset(13)));
    let payload = &file[RING_START as usize..][entries[3].1.clone()];
    assert_eq!(payload, entry(1, 12, 1, 30).slices.concat());
}

#[test]
fn beside_a_commit_the_next_is_begun_when_much_waits_and_counts_when_both_are_durable() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed);
        for (owner, len, commits) in [(0, 100, 1), (1, 100, 1), (2, 20_000, 2), (3, 20_000, 2)] {
            rig.journal.append(entry(owner, 0, 1, len));
            rig.pump();
            assert_eq!(rig.journal.gauges().commits, commits, "after {len} bytes");
        }
        rig.run();
        assert_eq!(rig.committed(), [(0, 1), (1, 1), (2, 1), (3, 1)], "seed {seed}");
        let second = &rig.disk.bytes(&path())[RING_START as usize + BLOCK_BYTES..];
        assert_eq!(read_commit(second).map(|commit| commit.head.unsure), Some(1));
    }
}

#[test]
fn what_is_appended_before_the_journal_is_open_waits() {
    let mut rig = Rig::start(TestDisk::new(1), 1);
    rig.journal.append(entry(0, 0, 1, 100));
    rig.run();
    assert_eq!(rig.made, 1);
    assert_eq!(rig.committed(), [(0, 1)]);
}

#[test]
fn a_commit_has_its_bound_and_the_order_is_kept() {
    let mut rig = Rig::new(3);
    let mut expect = Vec::new();
    for base in 0..3 {
        for owner in 0..2 {
            rig.journal.append(entry(owner, base, 1, JOURNAL_ENTRY_BYTES_MAX / 3));
            expect.push((owner, base + 1));
        }
    }
    rig.run();
    assert_eq!(rig.committed(), expect);
    assert_eq!(rig.journal.gauges().commits, 2, "a commit is at most a quarter of the ring");
    assert!(RING_BYTES / 4 <= JOURNAL_COMMIT_BYTES_MAX as u64);
    // Together with its head it fits.
    rig.journal.append(entry(0, 10, 1, JOURNAL_ENTRY_BYTES_MAX));
    rig.run();
    assert_eq!(rig.committed(), [(0, 11)]);
}

#[test]
fn owners_are_asked_to_flush_before_the_ring_is_full_and_appends_wait_when_it_is() {
    let mut rig = Rig::new(5);
    let mut appended = 0;
    let mut asked = Vec::new();
    while rig.journal.gauges().waiting_since.is_none() {
        rig.journal.append(entry((appended % 40) as u32, appended, 1, 30_000));
        appended += 1;
        rig.run();
        asked.extend(rig.wanted());
        let used = rig.journal.gauges().used_bytes;
        assert!(asked.is_empty() || used * 8 >= RING_BYTES * 3);
        assert!(asked.len() <= JOURNAL_FLUSHES_MAX || used * 8 >= RING_BYTES * 6);
    }
    assert_eq!(asked[..5], [0, 1, 2, 3, 4], "the oldest first");
    let gauges = rig.journal.gauges();
    assert_eq!((gauges.space_waits, gauges.waiting_bytes, gauges.entries), (1, 30_000, appended as u64 - 1));
    // The second's space is of no use while the first is needed.
    rig.journal.on_flushed(1, Offset(appended));
    rig.run();
    assert!(rig.journal.gauges().waiting_since.is_some());
    let before = header(&mut rig.disk);
    rig.journal.on_flushed(0, Offset(appended));
    rig.pump();
    assert_eq!(rig.journal.gauges().entries, appended as u64 - 1, "not before a header that frees it is durable");
    rig.run();
    assert_eq!(rig.committed(), [(((appended - 1) % 40) as u32, appended)]);
    assert!(header(&mut rig.disk).tail.sequence > before.tail.sequence);
    assert_eq!(rig.journal.gauges().waiting_since, None);
}

#[test]
fn an_owner_asked_is_not_asked_again_before_it_answers() {
    let mut rig = Rig::new(5);
    for base in 0..16 {
        rig.journal.append(entry(0, base, 1, 30_000));
        rig.run();
    }
    assert_eq!(rig.wanted(), [0]);
    rig.journal.on_flushed(0, Offset(1));
    rig.run();
    assert_eq!(rig.wanted(), [0], "it did not free enough");
    rig.journal.on_flushed(0, Offset(16));
    rig.run();
    assert!(rig.wanted().is_empty());
    assert_eq!(rig.journal.gauges().used_bytes, 0);
}

#[test]
fn an_owner_is_not_asked_to_flush_what_is_not_committed_yet() {
    let mut rig = Rig::new(5);
    rig.journal.append(entry(0, 0, 1, JOURNAL_ENTRY_BYTES_MAX));
    rig.run();
    rig.journal.append(entry(1, 0, 1, JOURNAL_ENTRY_BYTES_MAX));
    rig.pump();
    assert_eq!(rig.wanted(), [0], "the other has nothing that it could flush, and would not answer");
    rig.run();
    assert_eq!(rig.wanted(), [1]);
}

#[test]
fn the_ring_goes_round_for_ever() {
    let mut rig = Rig::new(7);
    for base in 0..400 {
        let owner = (base % 3) as u32;
        rig.journal.append(entry(owner, base, 1, 1 + (base as usize * 7919) % 90_000));
        rig.run();
        for owner in rig.wanted() {
            rig.journal.on_flushed(owner, Offset(base + 1));
        }
    }
    let gauges = rig.journal.gauges();
    assert_eq!((gauges.entries, gauges.space_waits), (400, 0));
    assert!(gauges.written_bytes > 10 * RING_BYTES);
}

#[test]
fn what_is_flushed_or_forgotten_while_it_waits_is_not_written() {
    let mut rig = Rig::start(TestDisk::new(1), 1);
    for owner in 0..3 {
        rig.journal.append(entry(owner, 0, 1, 100));
        rig.journal.append(entry(owner, 1, 1, 100));
    }
    rig.journal.on_flushed(1, Offset(1));
    rig.journal.forget(2);
    rig.run();
    assert_eq!(rig.made, 1);
    assert_eq!(rig.committed(), [(0, 1), (0, 2), (1, 2)]);
    assert_eq!(rig.journal.gauges().waiting_bytes, 0);
}

#[test]
fn nothing_is_said_of_a_forgotten_owner_and_its_number_serves_again() {
    let mut rig = Rig::new(1);
    rig.journal.append(entry(0, 0, 1, 100));
    rig.journal.append(entry(1, 0, 1, 100));
    rig.pump();
    rig.journal.forget(0);
    rig.journal.append(entry(0, 70, 1, 100));
    rig.run();
    assert_eq!(rig.committed(), [(1, 1), (0, 71)]);
    rig.journal.forget(0);
    rig.journal.forget(1);
    rig.close();
    rig.run();
    assert_eq!(header(&mut rig.disk).tail.sequence, 3, "nothing is needed");
}

#[test]
fn a_failed_write_ends_commits_for_good() {
    let mut rig = Rig::new(1);
    rig.journal.append(entry(0, 0, 1, 100));
    rig.run();
    rig.committed();
    rig.disk.fail_syncs = true;
    rig.journal.append(entry(0, 1, 1, 100));
    rig.pump();
    rig.journal.append(entry(0, 2, 1, 100));
    let writes = rig.disk.counts["write"];
    rig.run();
    rig.journal.append(entry(0, 3, 1, 100));
    rig.run();
    let [JournalEvent::Failed { message }] = &rig.events[..] else { panic!("{:?}", rig.events) };
    assert!(message.contains("writing the commit journal (journal/0.journal)"), "{message}");
    assert_eq!(rig.disk.counts["write"], writes + 1, "a failed write is not repeated");
    assert_eq!(rig.journal.gauges().waiting_bytes, 0);
    rig.events.clear();
    rig.disk.fail_syncs = false;
    rig.close();
    rig.run();
    assert_eq!(rig.events, [JournalEvent::Closed]);
    assert_eq!(header(&mut rig.disk).tail.sequence, 1, "what was committed stays");
}

#[test]
fn a_journal_that_finds_no_space_says_so() {
    let mut disk = TestDisk::new(1);
    disk.capacity = 500_000;
    let mut rig = Rig::start(disk, 1);
    rig.journal.append(entry(0, 0, 1, 100));
    rig.run();
    let [JournalEvent::OpenFailed { message }] = &rig.events[..] else { panic!("{:?}", rig.events) };
    assert!(message.contains("making the commit journal"), "{message}");
    rig.events.clear();
    rig.close();
    rig.run();
    assert_eq!((rig.events, rig.disk.open_files()), (vec![JournalEvent::Closed], 0));
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let mut rig = Rig::new(1);
    rig.disk.crash(Crash::Power);
    let bytes = rig.disk.bytes(&path());
    bytes[4] = 2;
    let sum = crc32(&bytes[..BLOCK_BYTES - 4]).to_le_bytes();
    bytes[BLOCK_BYTES - 4..BLOCK_BYTES].copy_from_slice(&sum);
    assert_eq!(Header::decode(&bytes[..BLOCK_BYTES]), Err(HeaderError::Version(2)));
    let mut rig = Rig::start(rig.disk, 1);
    rig.run();
    let [JournalEvent::OpenFailed { message }] = &rig.events[..] else { panic!("{:?}", rig.events) };
    assert!(message.contains("version 2"), "{message}");
}

#[test]
fn closing_at_any_moment_ends_in_closed() {
    for steps in 0..30 {
        let mut rig = Rig::start(TestDisk::new(steps), 1);
        rig.journal.append(entry(0, 0, 1, 100));
        for _ in 0..steps {
            rig.step();
        }
        rig.close();
        while rig.step() {}
        assert_eq!(rig.events.last(), Some(&JournalEvent::Closed), "after {steps} steps");
        assert_eq!(rig.disk.open_files(), 0);
    }
}

#[test]
fn a_file_that_is_made_anew_never_shows_old_commits_without_a_header() {
    let mut cut_short = 0;
    for seed in 0..60 {
        let mut rig = Rig::new(seed);
        for base in 0..20 {
            rig.journal.append(entry(0, base, 1, 3000));
            rig.run();
        }
        rig.disk.crash(Crash::Power);
        let mut longer = rig.disk.bytes(&path()).clone();
        longer.push(0);
        rig.disk.put(&path(), longer);
        let mut rig = Rig::start(rig.disk, 2);
        for _ in 0..seed % 6 {
            rig.step();
        }
        rig.disk.crash(Crash::Power);
        let file = rig.disk.bytes(&path());
        let (headers, ring) = file.split_at(file.len().min(RING_START as usize));
        let has_header = newest_header(headers).is_ok_and(|header| header.is_some());
        cut_short += u32::from(!has_header);
        assert!(has_header || !is_written(ring), "seed {seed}");
    }
    assert!(cut_short > 10);
}

#[test]
fn who_waits_too_long_for_space_is_handed_back_what_it_appended() {
    let mut rig = Rig::new(5);
    // This one's segment cannot be written.
    rig.journal.append(entry(0, 0, 1, 30_000));
    rig.run();
    let mut base = 0;
    while rig.journal.gauges().waiting_since.is_none() {
        base += 1;
        rig.journal.append(entry(1, base, 1, 30_000));
        rig.run();
        rig.journal.on_flushed(1, Offset(base));
    }
    rig.journal.append(entry(2, 7, 1, 30_000));
    rig.run();
    rig.events.clear();
    let due = rig.journal.next_deadline().expect("somebody waits");
    rig.now.mono = Instant(due.0 - 1);
    rig.pump();
    assert_eq!(rig.events, []);
    rig.now.mono = due;
    rig.pump();
    let handed_back = |owner: u32| JournalEvent::HandedBack { owner };
    assert_eq!(rig.events, [JournalEvent::Overdue { holder: Some(0) }, handed_back(1), handed_back(2)]);
    assert_eq!((rig.journal.next_deadline(), rig.journal.gauges().waiting_bytes), (None, 0));
    rig.events.clear();
    // From now on at once, and without being said again.
    rig.journal.append(entry(1, base + 1, 1, 30_000));
    rig.run();
    assert_eq!(rig.events, [handed_back(1)]);
    assert_eq!((rig.journal.gauges().handed_back, rig.journal.gauges().space_waits), (3, 1));
    rig.events.clear();
    rig.journal.on_flushed(0, Offset(1));
    rig.journal.append(entry(1, base + 2, 1, 30_000));
    rig.run();
    rig.events.clear();
    rig.journal.append(entry(1, base + 3, 1, 30_000));
    rig.run();
    assert_eq!(rig.committed(), [(1, base + 4)]);
}
