//! Journals as text, or as JSON.
//!
//! *Owns*: the words. *Never*: reads a file but for the records of a dump. *Runs on*: the main thread.

use std::fs::File;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::admin::log_dump::{Form, write_batch};
use crate::admin::log_files::{FileError, at};
use crate::admin::log_journals::{CommitRow, EntryRow, JournalFile, Journals, read};
use crate::base::ids::LeaderEpoch;
use crate::journal::format::RING_START;
use crate::log::inspect::{PlacedBatch, SegmentReader};

/// One line a journal; then what is wrong with them.
pub fn write_journals(out: &mut impl Write, journals: &Journals, size: fn(u64) -> String) -> io::Result<()> {
    if journals.files.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = journals.files.iter().map(|file| file.path.display().to_string()).collect();
    let wide = paths.iter().map(String::len).max().unwrap_or(0).max(7);
    writeln!(out, "\n{:wide$}  {:>8}  {:>8}  {:>10}  STATE", "JOURNAL", "COMMITS", "ENTRIES", "SIZE")?;
    for (file, path) in journals.files.iter().zip(&paths) {
        let (commits, entries) = (file.commits.len(), file.entries.len());
        let bytes = size(file.payload_bytes());
        writeln!(out, "{path:wide$}  {commits:>8}  {entries:>8}  {bytes:>10}  {}", verdict(file))?;
    }
    for file in &journals.files {
        write_journal_findings(out, file)?;
    }
    if journals.are_of_nobody() {
        writeln!(out, "  whose their entries are is not known: the metadata cannot be read")?;
    }
    Ok(())
}

fn verdict(file: &JournalFile) -> &'static str {
    match file {
        _ if file.is_aside() => "DAMAGED, replayed and put aside",
        JournalFile { refused: Some(_), .. } => "does not belong here",
        JournalFile { is_missing: true, .. } => "MISSING",
        JournalFile { damages, .. } if !damages.is_empty() => "DAMAGED",
        JournalFile { header: None, .. } => "never used",
        JournalFile { entries, .. } if entries.is_empty() => "whole, empty",
        _ => "whole, to be replayed",
    }
}

pub fn write_journal_findings(out: &mut impl Write, file: &JournalFile) -> io::Result<()> {
    let path = file.path.display();
    for (position, what) in &file.damages {
        if file.is_missing {
            writeln!(out, "  {path}: {what}")?;
        } else {
            writeln!(out, "  {path}: at byte {position}: {what}")?;
        }
    }
    if let Some(why) = &file.refused {
        writeln!(out, "  {path}: {why}; move it out of the data directory if it is not needed")?;
    }
    Ok(())
}

pub fn journals_json(journals: &Journals) -> Value {
    journals.files.iter().map(journal_json).collect()
}

fn journal_json(file: &JournalFile) -> Value {
    let damages: Vec<Value> =
        file.damages.iter().map(|(position, why)| json!({ "position": position, "why": why })).collect();
    json!({
        "file": file.path.display().to_string(),
        "whole": file.is_whole(),
        "missing": file.is_missing,
        "putAside": file.is_aside(),
        "refused": file.refused,
        "commits": file.commits.len(),
        "entries": file.entries.len(),
        "bytes": file.payload_bytes(),
        "damages": damages,
    })
}

/// Prints every commit that is still needed, with its entries.
pub fn dump_journal(
    out: &mut impl Write,
    journal: &JournalFile,
    journals: &Journals,
    form: Form,
) -> Result<io::Result<()>, FileError> {
    let file = at(&journal.path, File::open(&journal.path))?;
    let mut entries = journal.entries.iter().peekable();
    if let Err(why) = write_head(out, journal, form) {
        return Ok(Err(why));
    }
    for commit in &journal.commits {
        let mut lines = Vec::new();
        while let Some(entry) = entries.next_if(|entry| entry.sequence == commit.sequence) {
            let batches = if form.records { batches(&file, entry, journal)? } else { Vec::new() };
            lines.push((entry, batches));
        }
        if let Err(why) = write_commit(out, commit, &lines, journals, form) {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

/// Those of an entry's payload, placed as they will be in the segment.
fn batches(file: &File, entry: &EntryRow, journal: &JournalFile) -> Result<Vec<PlacedBatch>, FileError> {
    let payload = at(&journal.path, read(file, entry.position, entry.head.len as usize))?;
    let mut reader = SegmentReader::new(entry.head.base, LeaderEpoch(0), payload.len() as u64);
    let mut batches = Vec::new();
    reader.push(&payload, |batch| {
        batches.push(PlacedBatch { position: entry.head.position + batch.position, ..batch.clone() });
    });
    Ok(batches)
}

fn write_head(out: &mut impl Write, journal: &JournalFile, form: Form) -> io::Result<()> {
    let Some(header) = &journal.header else { return Ok(()) };
    let identity = &header.identity;
    if form.json {
        let line = json!({
            "clusterId": identity.cluster,
            "nodeId": identity.node,
            "core": identity.core.0,
            "cores": identity.cores,
            "generation": header.run.generation,
            "ringBytes": header.ring_bytes,
            "tailPosition": RING_START + header.tail.position,
            "tailSequence": header.tail.sequence,
            "closedAt": header.end,
        });
        return writeln!(out, "{line}");
    }
    let closed = header.end.map_or("not closed".to_owned(), |end| format!("closed before commit {end}"));
    writeln!(
        out,
        "Dumping {}\nclusterId: {} nodeId: {} core: {} of {} generation: {} ringBytes: {} from commit: {} position: {} \
         {closed}",
        journal.path.display(),
        identity.cluster,
        identity.node,
        identity.core,
        identity.cores,
        header.run.generation,
        header.ring_bytes,
        header.tail.sequence,
        RING_START + header.tail.position,
    )
}

fn write_commit(
    out: &mut impl Write,
    commit: &CommitRow,
    entries: &[(&EntryRow, Vec<PlacedBatch>)],
    journals: &Journals,
    form: Form,
) -> io::Result<()> {
    let CommitRow { sequence, position, bytes, entries: count } = commit;
    if form.json {
        let entries: Vec<Value> = entries.iter().map(|(entry, _)| entry_json(entry, journals)).collect();
        writeln!(out, "{}", json!({ "commit": sequence, "position": position, "size": bytes, "entries": entries }))?;
    } else {
        writeln!(out, "commit: {sequence} position: {position} size: {bytes} entries: {count} isvalid: true")?;
    }
    for (entry, batches) in entries {
        if !form.json {
            writeln!(out, "| {}", entry_text(entry, journals))?;
        }
        for batch in batches {
            write_batch(out, batch, form)?;
        }
    }
    Ok(())
}

fn entry_text(entry: &EntryRow, journals: &Journals) -> String {
    let head = &entry.head;
    let whose = journals.directory(head.topic, head.partition);
    format!(
        "{} topicId: {} partition: {} segment: {} position: {} baseOffset: {} lastOffset: {} partitionLeaderEpoch: {} \
         size: {}",
        whose.as_deref().unwrap_or("(no topic any more)"),
        head.topic,
        head.partition,
        head.segment,
        head.position,
        head.base,
        head.next.0 - 1,
        head.epoch,
        head.len,
    )
}

fn entry_json(entry: &EntryRow, journals: &Journals) -> Value {
    let head = &entry.head;
    json!({
        "directory": journals.directory(head.topic, head.partition),
        "topicId": head.topic.to_string(),
        "partition": head.partition.0,
        "segment": head.segment.0,
        "position": head.position,
        "baseOffset": head.base.0,
        "lastOffset": head.next.0 - 1,
        "partitionLeaderEpoch": head.epoch.0,
        "size": head.len,
    })
}
