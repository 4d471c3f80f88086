//! Carries out disk operations: reads, writes and syncs through io_uring with O_DIRECT, everything that the kernel
//! can only do blocking on the executor's helper thread.
//!
//! *Owns*: the table of open files of one core. *Never*: retries a failed write or sync; decides what a failure means.
//! *Runs on*: every core.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use glommio::io::{DmaFile, OpenOptions};
use glommio::sync::Semaphore;
use glommio::{GlommioError, executor};

use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::limits::{DISK_READ_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::shell::counted::CountedMap;
use crate::shell::durable::{Way, Ways};
use crate::shell::volume;

const BLOCK: u64 = BLOCK_BYTES as u64;

#[derive(Debug)]
pub struct Disk {
    /// Invariant: absolute.
    root: PathBuf,
    files: RefCell<CountedMap<FileId, OpenFile>>,
    /// Large reads take turns: each write that waits for an acknowledgement would otherwise queue at the device
    /// behind all of them.
    large_reads: Semaphore,
    last_write: Cell<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct OpenFile {
    file: Rc<DmaFile>,
    /// Up to here the file's space was written before, as far as that is known. A multiple of the block.
    written: Rc<Cell<u64>>,
    /// Of a file whose writes are durable when they end.
    durable: Option<Durable>,
}

/// The same file, opened so that a write to it is durable, and when that is the quicker way.
#[derive(Debug, Clone)]
struct Durable {
    file: Rc<DmaFile>,
    ways: Rc<RefCell<Ways>>,
}

/// Reads beyond this are large.
const LARGE_READ_BYTES: usize = 64 << 10;
/// Large reads of one core at a time.
const LARGE_READS_MAX: u64 = 1;
/// One turn of a large read on a core that writes: the longest its writes queue behind.
const TURN_BESIDE_WRITES_BYTES: usize = 256 << 10;
/// A core whose last write is longer ago does not write at present.
const WRITES_PAST: Duration = Duration::from_millis(100);

impl Disk {
    /// Must run on the executor that will use it, before that opens any other file; `probe` names a file under
    /// `root` that no other core uses at the same time.
    ///
    /// glommio finds out whether a device can be polled by reading from the first file a thread opens on it. When
    /// that file is empty nothing is read, the answer is yes, and every later read fails on devices that cannot.
    pub async fn open(root: &Path, probe: &str) -> io::Result<Disk> {
        let root = fs::canonicalize(root)?;
        let path = root.join(probe);
        let made = fs::write(&path, [0; BLOCK_BYTES]);
        let read = match &made {
            Ok(()) => path.clone(),
            // Without space for it, any file of an earlier run serves.
            Err(_) => any_file(&root).ok_or_else(|| made.expect_err("just seen"))?,
        };
        let file = OpenOptions::new().read(true).write(true).dma_open(&read).await.map_err(io_error)?;
        file.close().await.map_err(io_error)?;
        missing_is_fine(fs::remove_file(&path))?;
        Ok(Disk {
            root,
            files: RefCell::default(),
            large_reads: Semaphore::new(LARGE_READS_MAX),
            last_write: Cell::new(None),
        })
    }

    pub async fn run(&self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Write { file, position, data } => {
                let file = self.file(file)?;
                match file.durable.clone() {
                    Some(durable) => self.write_durably(file, durable, position, data).await,
                    None => self.write(file, position, data).await,
                }
            }
            DiskOp::Read { file, position, len } => self.read(&self.file(file)?.file, position, len).await,
            DiskOp::Sync { file } => sync(&self.file(file)?.file).await,
            DiskOp::Open { file, path, create } => self.open_file(file, &self.root.join(path), create, false).await,
            DiskOp::OpenDurable { file, path } => self.open_file(file, &self.root.join(path), true, true).await,
            DiskOp::Allocate { file, len } => allocate(&self.file(file)?.file, len).await,
            DiskOp::Truncate { file, len } => self.truncate(self.file(file)?, len).await,
            DiskOp::Close { file } => self.close(file).await,
            DiskOp::List { dir } => self.blocking("list", dir, |path| list(&path).map(DiskDone::Listed)).await,
            DiskOp::Rename { from, to } => {
                let to = self.root.join(to);
                self.blocking("rename", from, move |from| rename(&from, &to)).await
            }
            DiskOp::Delete { path } => {
                self.blocking("delete", path, |path| missing_is_fine(fs::remove_file(path))).await
            }
            DiskOp::DeleteDir { dir } => self.blocking("delete", dir, |path| delete_dir(&path)).await,
            DiskOp::ReadFile { path } => self.blocking("read", path, |path| read_file(&path)).await,
            DiskOp::WriteFile { path, data } => {
                self.blocking("write", path, move |path| write_file(&path, &data)).await
            }
            DiskOp::Space => self.blocking("space of", PathBuf::new(), |path| volume::space(&path)).await,
        }
    }

    /// Whether somebody waits for writes of this core every now and then.
    pub fn writes_at_present(&self) -> bool {
        self.last_write.get().is_some_and(|at| at.elapsed() < WRITES_PAST)
    }

    /// Open files at present.
    pub fn files_open(&self) -> usize {
        self.files.borrow().len()
    }

    fn file(&self, file: FileId) -> Result<OpenFile, DiskError> {
        self.files.borrow().get(&file).cloned().ok_or_else(|| DiskError {
            kind: DiskErrorKind::Failed,
            message: format!("file {:#x} is not open", file.0),
        })
    }

    async fn open_file(&self, id: FileId, path: &Path, create: bool, durable: bool) -> DiskResult {
        let what = || format!("open {}", path.display());
        let opened = OpenOptions::new().read(true).write(true).create(create).dma_open(path).await;
        let file = opened.map_err(|error| disk_error(&what(), &io_error(error)))?;
        let len = match file.file_size().await {
            Ok(len) => len,
            Err(error) => {
                let error = disk_error(&what(), &io_error(error));
                let _ = file.close().await;
                return Err(error);
            }
        };
        if create && len == 0 {
            // The file may be new: it must not vanish from its directory when what is written to it is durable.
            let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
            self.blocking("sync", directory, |path| sync_directory(&path).map(|()| DiskDone::Done)).await?;
        }
        let durable = match durable {
            true => {
                let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DSYNC).dma_open(path).await;
                let file = Rc::new(opened.map_err(|error| disk_error(&what(), &io_error(error)))?);
                Some(Durable { file, ways: Rc::default() })
            }
            false => None,
        };
        // A file that need not be there and is has what it was given before.
        let written = Rc::new(Cell::new(if create { len.next_multiple_of(BLOCK) } else { 0 }));
        let file = OpenFile { file: Rc::new(file), written, durable };
        let before = self.files.borrow_mut().insert(id, file);
        assert!(before.is_none(), "a file id is used once");
        Ok(DiskDone::Opened { len })
    }

    async fn close(&self, file: FileId) -> DiskResult {
        let removed = self.files.borrow_mut().remove(&file);
        match removed {
            Some(file) => {
                if let Some(durable) = file.durable {
                    done("close", durable.file.close_rc().await)?;
                }
                done("close", file.file.close_rc().await)
            }
            None => Ok(DiskDone::Done),
        }
    }

    async fn truncate(&self, file: OpenFile, len: u64) -> DiskResult {
        file.written.set(file.written.get().min(len.next_multiple_of(BLOCK)));
        done("truncate", file.file.truncate(len).await)
    }

    /// Writes what was written before and what was not in two parts: ext4 does a direct write without blocking only
    /// where all of the space is in one state, and a log's writes begin with the last block of the one before. A kernel
    /// worker that does it instead takes a fifth of the processor time of all writing (tuning.md).
    async fn write(&self, file: OpenFile, position: u64, data: Vec<Bytes>) -> DiskResult {
        assert!(position.is_multiple_of(BLOCK), "direct writes start at a block");
        self.last_write.set(Some(Instant::now()));
        let bytes: usize = data.iter().map(Bytes::len).sum();
        let len = bytes.next_multiple_of(BLOCK_BYTES);
        let again = file.written.get().saturating_sub(position).min(len as u64) as usize;
        let (first, second) = if again == 0 || again == len {
            (write_part(&file.file, position, &data, 0..len).await, Ok(DiskDone::Done))
        } else {
            let first = write_part(&file.file, position, &data, 0..again);
            futures_lite::future::zip(first, write_part(&file.file, position, &data, again..len)).await
        };
        first.and(second)?;
        file.written.set(file.written.get().max(position + len as u64));
        Ok(DiskDone::Done)
    }

    async fn write_durably(&self, file: OpenFile, durable: Durable, position: u64, data: Vec<Bytes>) -> DiskResult {
        let began = Instant::now();
        let bytes = data.iter().map(Bytes::len).sum();
        let way = durable.ways.borrow_mut().pick(began);
        let done = match way {
            Way::DurableWrite => self.write(OpenFile { file: durable.file, ..file }, position, data).await,
            Way::WriteAndSync => match self.write(file.clone(), position, data).await {
                Ok(_) => sync(&file.file).await,
                failed => failed,
            },
        };
        durable.ways.borrow_mut().on_written(way, bytes, began.elapsed());
        done.map_err(|error| DiskError { kind: DiskErrorKind::NotSynced, ..error })
    }

    async fn read(&self, file: &DmaFile, position: u64, len: usize) -> DiskResult {
        let mut data = BytesMut::new();
        while data.len() < len {
            let from = position + data.len() as u64;
            let start = from - from % BLOCK;
            let skip = (from - start) as usize;
            let rest = (skip + len - data.len()).next_multiple_of(BLOCK_BYTES);
            let large = rest > LARGE_READ_BYTES;
            let turn = if large { self.large_reads.acquire_permit(1).await.ok() } else { None };
            let wanted = rest.min(self.turn_bytes());
            let read = file.read_at_aligned(start, wanted).await;
            drop(turn);
            let read = read.map_err(|error| disk_error("read", &io_error(error)))?;
            // The buffer behind what was read holds stale bytes of other files: never look there.
            let fresh = read.get(skip..).unwrap_or_default();
            let fresh = &fresh[..fresh.len().min(len - data.len())];
            if data.is_empty() {
                data.reserve(if read.len() < wanted { fresh.len() } else { len });
            }
            data.extend_from_slice(fresh);
            if read.len() < wanted {
                break;
            }
        }
        Ok(DiskDone::Read(data.freeze()))
    }

    /// What a large read may ask the device for in one turn.
    fn turn_bytes(&self) -> usize {
        if self.writes_at_present() { TURN_BESIDE_WRITES_BYTES } else { DISK_READ_BYTES_MAX }
    }

    async fn blocking(
        &self,
        what: &'static str,
        path: PathBuf,
        call: impl FnOnce(PathBuf) -> io::Result<DiskDone> + Send + 'static,
    ) -> DiskResult {
        let path = self.root.join(path);
        let name = path.clone();
        let result = executor().spawn_blocking(move || call(path)).await;
        result.map_err(|error| disk_error(&format!("{what} {}", name.display()), &error))
    }
}

/// A file in one of the directories below, that is not empty.
fn any_file(root: &Path) -> Option<PathBuf> {
    let directories = fs::read_dir(root).ok()?.filter_map(|entry| fs::read_dir(entry.ok()?.path()).ok());
    let mut files = directories.flatten().filter_map(Result::ok);
    let is_one = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
    files.find(is_one).map(|entry| entry.path())
}

async fn sync(file: &DmaFile) -> DiskResult {
    let synced = file.fdatasync().await.map_err(|error| NotSynced::of(io_error(error)));
    synced.map(|()| DiskDone::Done).map_err(|error| disk_error("sync", &error))
}

/// Writes that part of `data`, and of the zeros after it, to its place in what begins at `position`.
async fn write_part(file: &DmaFile, position: u64, data: &[Bytes], part: Range<usize>) -> DiskResult {
    let mut written = part.start;
    // A write ends early when the device is nearly full; what it says about the rest is worth knowing.
    while written < part.end {
        let mut buffer = file.alloc_dma_buffer(part.end - written);
        gather(data, written, buffer.as_bytes_mut());
        let wrote = file.write_at(buffer, position + written as u64).await;
        let wrote = wrote.map_err(|error| disk_error("write", &io_error(error)))?;
        if wrote < BLOCK_BYTES {
            return Err(disk_error("write", &io::Error::from_raw_os_error(libc::ENOSPC)));
        }
        written += wrote - wrote % BLOCK_BYTES;
    }
    Ok(DiskDone::Done)
}

/// Copies `data` from its byte `skip` on into `buffer` until that is full, and zeros what is left of it: a direct
/// buffer comes with whatever was in its memory before.
fn gather(data: &[Bytes], mut skip: usize, buffer: &mut [u8]) {
    let mut filled = 0;
    for slice in data {
        let skipped = skip.min(slice.len());
        skip -= skipped;
        let room = buffer.len() - filled;
        let slice = &slice[skipped..];
        let slice = &slice[..slice.len().min(room)];
        buffer[filled..filled + slice.len()].copy_from_slice(slice);
        filled += slice.len();
    }
    buffer[filled..].fill(0);
}

async fn allocate(file: &DmaFile, len: u64) -> DiskResult {
    let result = file.pre_allocate(len, false).await.map_err(io_error);
    match result {
        // The file system cannot reserve: at least extend the file.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
            done("allocate", file.truncate(len).await)
        }
        result => result.map(|()| DiskDone::Done).map_err(|error| disk_error("allocate", &error)),
    }
}

fn list(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            if let Some(parent) = dir.parent() {
                sync_directory(parent)?;
            }
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        // Names that are not text cannot be ours.
        if let (true, Ok(name)) = (kind.is_file(), entry.file_name().into_string()) {
            files.push((name, entry.metadata()?.len()));
        }
    }
    files.sort();
    Ok(files)
}

fn rename(from: &Path, to: &Path) -> io::Result<DiskDone> {
    fs::rename(from, to)?;
    for path in [to, from] {
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
        if from.parent() == to.parent() {
            break;
        }
    }
    Ok(DiskDone::Done)
}

fn read_file(path: &Path) -> io::Result<DiskDone> {
    if fs::metadata(path)?.len() > SMALL_FILE_BYTES_MAX as u64 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than a small file may be"));
    }
    fs::read(path).map(|data| DiskDone::Read(Bytes::from(data)))
}

fn write_file(path: &Path, data: &[u8]) -> io::Result<DiskDone> {
    assert!(data.len() <= SMALL_FILE_BYTES_MAX, "a small file is written whole");
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let mut file = fs::File::create(&beside)?;
    file.write_all(data)?;
    file.sync_all().map_err(NotSynced::of)?;
    rename(&beside, path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all().map_err(NotSynced::of)
}

fn delete_dir(path: &Path) -> io::Result<DiskDone> {
    missing_is_fine(fs::remove_dir_all(path))?;
    // Also of one that is missing: nobody knows whether whoever removed it came to this.
    if let Some(parent) = path.parent() {
        sync_directory(parent)?;
    }
    Ok(DiskDone::Done)
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<DiskDone> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(DiskDone::Done),
    }
}

fn done<T>(what: &str, result: Result<T, GlommioError<()>>) -> DiskResult {
    result.map(|_| DiskDone::Done).map_err(|error| disk_error(what, &io_error(error)))
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Marks the error of a sync, which means more than the same error of another call.
#[derive(Debug)]
struct NotSynced(io::Error);

impl NotSynced {
    fn of(error: io::Error) -> io::Error {
        io::Error::other(NotSynced(error))
    }
}

impl fmt::Display for NotSynced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not synced: {}", self.0)
    }
}

impl std::error::Error for NotSynced {}

fn disk_error(what: &str, error: &io::Error) -> DiskError {
    let kind = match error.raw_os_error() {
        _ if error.get_ref().is_some_and(|inner| inner.is::<NotSynced>()) => DiskErrorKind::NotSynced,
        Some(libc::ENOENT) => DiskErrorKind::NotFound,
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => DiskErrorKind::Full,
        Some(libc::EMFILE | libc::ENFILE) => DiskErrorKind::TooManyFiles,
        _ => DiskErrorKind::Failed,
    };
    DiskError { kind, message: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::executor;
    use std::process::Command;
    use tempfile::TempDir;

    const FILE: FileId = FileId(7);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let processor = core_affinity::get_core_ids().expect("processors")[0].id;
        executor::builder("test", processor).make().expect("an executor").run(test)
    }

    /// A directory on the file system of the sources: that of temporary files may have no direct I/O.
    fn directory() -> TempDir {
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory")
    }

    async fn open(disk: &Disk, create: bool) -> DiskResult {
        disk.run(DiskOp::Open { file: FILE, path: "file".into(), create }).await
    }

    async fn read(disk: &Disk, position: u64, len: usize) -> Bytes {
        match disk.run(DiskOp::Read { file: FILE, position, len }).await {
            Ok(DiskDone::Read(data)) => data,
            other => panic!("{other:?}"),
        }
    }

    fn slices(data: &[u8], piece: usize) -> Vec<Bytes> {
        data.chunks(piece).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn what_was_written_is_read_at_any_alignment_and_padding_is_zeros() {
        let dir = directory();
        run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            assert_eq!(open(&disk, true).await, Ok(DiskDone::Opened { len: 0 }));
            let data: Vec<u8> = (0..2_500_000u32).map(|i| (i / 3) as u8 | 1).collect();
            // Leave other bytes in the buffers that the padded write is going to get.
            let noise = vec![Bytes::from(vec![0xee; data.len()])];
            assert_eq!(disk.run(DiskOp::Write { file: FILE, position: 0, data: noise }).await, Ok(DiskDone::Done));
            let write = DiskOp::Write { file: FILE, position: BLOCK, data: slices(&data, 100_001) };
            assert_eq!(disk.run(write).await, Ok(DiskDone::Done));
            assert_eq!(disk.run(DiskOp::Sync { file: FILE }).await, Ok(DiskDone::Done));

            let end = BLOCK as usize + data.len();
            let padded = end.next_multiple_of(BLOCK_BYTES);
            let mut expect = vec![0xee; BLOCK_BYTES];
            expect.extend_from_slice(&data);
            expect.resize(padded, 0);
            for (position, len) in [
                (0, 1),
                (0, 4096),
                (4095, 2),
                (4096, 4096),
                (5000, 1000),
                (1, 1 << 20),
                (8191, (1 << 20) + 1),
                (12_345, 2_400_000),
                (end - 10, 10),
                (end - 10, 5000),
                (padded - 1, 100),
                (padded, 100),
                (padded + 777, 100),
                (3, 0),
                (0, 10_000_000),
            ] {
                let want = &expect[position.min(padded)..(position + len).min(padded)];
                assert!(read(&disk, position as u64, len).await[..] == *want, "{len} bytes at {position}");
            }
            assert_eq!(disk.run(DiskOp::Close { file: FILE }).await, Ok(DiskDone::Done));
            assert_eq!(disk.files_open(), 0);
            assert_eq!(open(&disk, false).await, Ok(DiskDone::Opened { len: padded as u64 }));
        });
    }

    /// As a log does it: each write begins with the block that the one before left half full.
    #[test]
    fn a_file_grows_by_writes_that_begin_with_its_last_block() {
        let dir = directory();
        run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            assert_eq!(open(&disk, true).await, Ok(DiskDone::Opened { len: 0 }));
            assert_eq!(disk.run(DiskOp::Allocate { file: FILE, len: 4 << 20 }).await, Ok(DiskDone::Done));
            let data: Vec<u8> = (0..3_000_000u32).map(|i| (i / 5) as u8).collect();
            let mut end = 0;
            for bytes in [1, 4095, 4096, 5000, 100, 300_001, 8192 - 100, 1 << 20, 70_000] {
                let start = end - end % BLOCK_BYTES;
                end += bytes;
                let write = DiskOp::Write { file: FILE, position: start as u64, data: slices(&data[start..end], 999) };
                assert_eq!(disk.run(write).await, Ok(DiskDone::Done));
                assert!(read(&disk, 0, end).await == data[..end], "after {end} bytes");
                let padding = read(&disk, end as u64, end.next_multiple_of(BLOCK_BYTES) - end).await;
                assert!(padding.iter().all(|byte| *byte == 0), "after {end} bytes");
            }
            // Cut, and written again with something else.
            assert_eq!(disk.run(DiskOp::Truncate { file: FILE, len: 10_000 }).await, Ok(DiskDone::Done));
            let write = DiskOp::Write { file: FILE, position: 8192, data: slices(&data[1..50_000], 5000) };
            assert_eq!(disk.run(write).await, Ok(DiskDone::Done));
            assert!(read(&disk, 8192, 49_999).await == data[1..50_000]);
            assert!(read(&disk, 0, 8192).await == data[..8192]);
        });
    }

    #[test]
    fn a_durable_file_is_written_both_ways_and_needs_no_sync() {
        let dir = directory();
        run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            let opened = disk.run(DiskOp::OpenDurable { file: FILE, path: "file".into() }).await;
            assert_eq!(opened, Ok(DiskDone::Opened { len: 0 }));
            let data: Vec<u8> = (0..40 * 5000u32).map(|i| (i / 7) as u8).collect();
            // The first is a try of one way, the second takes the other.
            for write in 0..40 {
                let (position, data) = (write * 2 * BLOCK, slices(&data[write as usize * 5000..][..5000], 999));
                assert_eq!(disk.run(DiskOp::Write { file: FILE, position, data }).await, Ok(DiskDone::Done));
            }
            for write in 0..40 {
                let expect = &data[write as usize * 5000..][..5000];
                assert!(read(&disk, write * 2 * BLOCK, 5000).await == *expect);
            }
            assert_eq!(disk.run(DiskOp::Close { file: FILE }).await, Ok(DiskDone::Done));
            assert_eq!(disk.files_open(), 0);
        });
    }

    #[test]
    fn files_are_made_listed_resized_renamed_and_deleted() {
        let dir = directory();
        run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            let failed = open(&disk, false).await.expect_err("there is no such file");
            assert_eq!(failed.kind, DiskErrorKind::NotFound);
            assert_eq!(disk.run(DiskOp::List { dir: "a/b".into() }).await, Ok(DiskDone::Listed(vec![])));
            let done = Ok(DiskDone::Done);
            let data = Bytes::from_static(b"small");
            let write = |path: &str| DiskOp::WriteFile { path: path.into(), data: data.clone() };
            assert_eq!(disk.run(write("a/b/2")).await, done);
            assert_eq!(disk.run(write("a/b/2")).await, done);
            assert_eq!(disk.run(write("a/b/1")).await, done);
            let read = disk.run(DiskOp::ReadFile { path: "a/b/2".into() }).await;
            assert_eq!(read, Ok(DiskDone::Read(data.clone())));
            let rename = DiskOp::Rename { from: "a/b/1".into(), to: "a/3".into() };
            assert_eq!(disk.run(rename).await, done);
            let listed = disk.run(DiskOp::List { dir: "a/b".into() }).await;
            assert_eq!(listed, Ok(DiskDone::Listed(vec![("2".to_owned(), 5)])));
            for _ in 0..2 {
                assert_eq!(disk.run(DiskOp::Delete { path: "a/b/2".into() }).await, done);
                assert_eq!(disk.run(DiskOp::DeleteDir { dir: "a".into() }).await, done);
            }
            let read = disk.run(DiskOp::ReadFile { path: "a/3".into() }).await;
            assert_eq!(read.expect_err("deleted").kind, DiskErrorKind::NotFound);

            assert_eq!(open(&disk, true).await, Ok(DiskDone::Opened { len: 0 }));
            for (op, len) in [
                (DiskOp::Allocate { file: FILE, len: 1 << 20 }, 1 << 20),
                (DiskOp::Truncate { file: FILE, len: 5000 }, 5000),
                (DiskOp::Truncate { file: FILE, len: 9000 }, 9000),
            ] {
                assert_eq!(disk.run(op).await, done);
                let listed = disk.run(DiskOp::List { dir: "".into() }).await;
                assert_eq!(listed, Ok(DiskDone::Listed(vec![("file".to_owned(), len)])));
            }
            // The end of the file lies inside a block: what is behind it is not shown.
            assert_eq!(super::tests::read(&disk, 8990, 100).await, vec![0; 10]);
        });
    }

    #[test]
    fn a_rest_is_gathered_from_any_byte_on_and_padded() {
        let data = [&b"abc"[..], b"", b"de", b"fghi"].map(Bytes::from_static);
        for (skip, expect) in
            [(0, b"abcdefghi\0"), (2, b"cdefghi\0\0\0"), (3, b"defghi\0\0\0\0"), (7, b"hi\0\0\0\0\0\0\0\0")]
        {
            let mut buffer = *b"##########";
            gather(&data, skip, &mut buffer);
            assert_eq!(&buffer, expect);
        }
    }

    #[test]
    fn the_error_of_a_sync_is_told_apart_from_the_same_of_another_call() {
        let error = || io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(disk_error("write", &error()).kind, DiskErrorKind::Full);
        let not_synced = disk_error("sync", &NotSynced::of(error()));
        assert_eq!(not_synced.kind, DiskErrorKind::NotSynced);
        assert_eq!(not_synced.message, format!("sync: not synced: {}", error()));
    }

    #[test]
    fn a_file_that_is_not_open_is_an_error() {
        let dir = directory();
        run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            let error = disk.run(DiskOp::Sync { file: FILE }).await.expect_err("not open");
            assert_eq!(error.kind, DiskErrorKind::Failed);
            assert!(error.message.contains("0x7"), "{error}");
        });
    }

    #[test]
    fn a_full_device_is_told_apart_from_a_broken_one() {
        let dir = directory();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).status();
        if !mount.is_ok_and(|status| status.success()) {
            eprintln!("only root can mount: not run");
            return;
        }
        let error = run(async {
            let disk = Disk::open(dir.path(), ".probe").await.expect("open");
            open(&disk, true).await.expect("open");
            let data = vec![Bytes::from(vec![1; 2 << 20])];
            let result = disk.run(DiskOp::Write { file: FILE, position: 0, data }).await;
            disk.run(DiskOp::Close { file: FILE }).await.expect("close");
            result
        });
        let unmounted = Command::new("umount").arg(dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
        assert_eq!(error.expect_err("2 MiB do not fit into 1").kind, DiskErrorKind::Full);
    }
}
