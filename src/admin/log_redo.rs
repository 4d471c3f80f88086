//! Replays the journals of a data directory as a broker would when it starts, with plain files.
//!
//! *Owns*: carrying out the disk operations of a replay. *Never*: decides what is replayed; asks whether a loss is
//! accepted. *Runs on*: the main thread, while no broker has the files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::admin::log_files::{FileError, replace_small};
use crate::admin::log_journals::{Journals, read};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::journal::replay::{Event, Loss, Replay, Topics};

/// Writes what the journals hold to its segments, and empties them; those that are damaged are put aside.
pub fn replay(data: &Path, journals: &Journals) -> Result<(), FileError> {
    let failed = |why: String| FileError { path: data.to_owned(), why: io::Error::other(why) };
    let headers = journals.files.iter().filter_map(|file| file.header.as_ref());
    // Without any header there is nobody to be told from.
    let (cluster, node) =
        headers.map(|header| (header.identity.cluster.clone(), header.identity.node)).next().unwrap_or_default();
    // However many cores there will be: a journal of none is removed by the broker.
    let mut asked = Vec::new();
    let mut replay = Replay::start(cluster, node, u16::MAX, Loss::Accepted, 0, &mut asked);
    let mut disk = PlainDisk { root: data.to_owned(), files: BTreeMap::new() };
    let directory = |topic, partition| journals.directory(topic, partition).map(PathBuf::from);
    // What is lost was said before.
    let owned = |_, _| Vec::new();
    let topics = Topics { directory: &directory, owned: &owned };
    while let Some((op, disk_op)) = asked.pop() {
        match replay.on_disk(op, disk.carry_out(disk_op), topics, &mut asked) {
            None => {}
            Some(Event::Redone(_)) if replay.empty(&mut asked).is_none() => {}
            Some(Event::Redone(_) | Event::Emptied) => break,
            Some(Event::Failed { message }) => return Err(failed(message)),
        }
    }
    Ok(())
}

struct PlainDisk {
    root: PathBuf,
    files: BTreeMap<FileId, File>,
}

impl PlainDisk {
    fn carry_out(&mut self, op: DiskOp) -> DiskResult {
        self.try_to(op).map_err(|error| DiskError {
            kind: match error.kind() {
                io::ErrorKind::NotFound => DiskErrorKind::NotFound,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
                _ => DiskErrorKind::Failed,
            },
            message: error.to_string(),
        })
    }

    fn try_to(&mut self, op: DiskOp) -> io::Result<DiskDone> {
        match op {
            DiskOp::List { dir } => return list(&self.root.join(dir)),
            DiskOp::Open { file, path, create } => {
                let path = self.root.join(path);
                let is_new = create && !path.exists();
                let opened = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&path)?;
                if is_new {
                    sync_parent(&path)?;
                }
                let len = opened.metadata()?.len();
                self.files.insert(file, opened);
                return Ok(DiskDone::Opened { len });
            }
            DiskOp::Read { file, position, len } => {
                return Ok(DiskDone::Read(read(self.file(file)?, position, len)?.into()));
            }
            DiskOp::Write { file, position, data } => {
                let mut bytes = data.concat();
                bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
                let mut file = self.file(file)?;
                file.seek(SeekFrom::Start(position))?;
                file.write_all(&bytes)?;
            }
            DiskOp::Sync { file } => self.file(file)?.sync_all()?,
            DiskOp::Truncate { file, len } => self.file(file)?.set_len(len)?,
            DiskOp::Close { file } => drop(self.files.remove(&file)),
            DiskOp::Rename { from, to } => {
                fs::rename(self.root.join(from), self.root.join(&to))?;
                sync_parent(&self.root.join(to))?;
            }
            DiskOp::Delete { path } => fs::remove_file(self.root.join(path))?,
            DiskOp::ReadFile { path } => return Ok(DiskDone::Read(fs::read(self.root.join(path))?.into())),
            DiskOp::WriteFile { path, data } => {
                replace_small(&self.root.join(path), &data).map_err(|error| error.why)?;
            }
            DiskOp::OpenDurable { .. } | DiskOp::Allocate { .. } | DiskOp::DeleteDir { .. } | DiskOp::Space => {
                unreachable!("a replay asks for none of these")
            }
        }
        Ok(DiskDone::Done)
    }

    fn file(&self, file: FileId) -> io::Result<&File> {
        self.files.get(&file).ok_or_else(|| io::Error::other("the file is not open"))
    }
}

fn list(dir: &Path) -> io::Result<DiskDone> {
    fs::create_dir_all(dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            names.push((name, metadata.len()));
        }
    }
    names.sort();
    Ok(DiskDone::Listed(names))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
