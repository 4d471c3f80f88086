//! A disk that loses at a power cut what was not flushed, with a file system on it.
//!
//! A FUSE file system of one file, served by this process, is the disk; a loop device makes it a block device, so
//! that a flush from the file system above arrives as an fsync. Written blocks are kept in memory until then. At the
//! cut each of them is lost, kept, taken back to an earlier version, or torn between its sectors, independently of
//! the others: the file below then holds what a disk would hold after the loss of power. What is written later goes
//! nowhere, so that everything above can be taken down in order.
#![allow(dead_code)]

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corelog::base::rng::Rng;

use crate::binary::PATIENCE;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// A write of the kernel's, at most.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Of each block, beside the one that is safe.
const VERSIONS_MAX: usize = 4;
/// How long a cut waits for a flush.
const FLUSH_WAIT: Duration = Duration::from_millis(100);

type Block = [u8; BLOCK];

/// What a device would have in its own memory.
struct Cached {
    image: File,
    bytes: u64,
    /// Newest last. Invariant: never an empty list.
    unsynced: HashMap<u64, Vec<Block>>,
    is_cut: bool,
    /// A cut that waits for the next flush.
    planned: Option<Planned>,
}

struct Planned {
    rng: Rng,
    over: Arc<AtomicBool>,
    losses: Sender<Losses>,
}

pub struct LossyDisk {
    /// The one file of the FUSE file system.
    disk: PathBuf,
    /// Where the file system above is mounted.
    pub at: PathBuf,
    cached: Arc<Mutex<Cached>>,
}

/// What a cut did to the blocks that had not been flushed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Losses {
    pub lost: usize,
    pub kept: usize,
    pub earlier: usize,
    pub torn: usize,
}

impl LossyDisk {
    /// With an empty file system, mounted; or why this machine has none.
    pub fn new(dir: &Path, bytes: u64) -> Result<LossyDisk, String> {
        let [image, disk, at] = ["image", "disk", "mounted"].map(|name| dir.join(name));
        let text = |error: std::io::Error| error.to_string();
        File::create(&disk).map_err(text)?;
        fs::create_dir(&at).map_err(text)?;
        let image = OpenOptions::new().read(true).write(true).create_new(true).open(image).map_err(text)?;
        image.set_len(bytes).map_err(text)?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.map_err(|error| format!("/dev/fuse: {error}"))?;
        let cached = Cached { image, bytes, unsynced: HashMap::new(), is_cut: false, planned: None };
        let lossy = LossyDisk { disk, at, cached: Arc::new(Mutex::new(cached)) };
        let (serving, cached) = (fuse.try_clone().map_err(text)?, lossy.cached.clone());
        thread::spawn(move || serve(serving, &cached));
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100000,user_id=0,group_id=0", "corelog"]);
        run(mount.arg(&lossy.disk).stdin(Stdio::from(fuse)))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", "nodiscard"]).arg(&lossy.disk))?;
        lossy.mount()?;
        Ok(lossy)
    }

    /// Mounts the file system, which recovers as after any crash.
    pub fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).args([&self.disk, &self.at]))
    }

    /// The power fails now, and `over` is set just before. Until [`LossyDisk::restore`] nothing that is written lasts.
    pub fn cut(&self, rng: &mut Rng, over: &AtomicBool) -> Losses {
        over.store(true, Ordering::SeqCst);
        self.cached.lock().expect("the server lives").cut(rng)
    }

    /// The same when the next flush is asked for and nothing of it is done, or now if there is none for a while.
    pub fn cut_at_flush(&self, rng: &mut Rng, over: &Arc<AtomicBool>) -> Losses {
        let (sender, losses) = mpsc::channel();
        let planned = Planned { rng: Rng::new(rng.next_u64()), over: over.clone(), losses: sender };
        self.cached.lock().expect("the server lives").planned = Some(planned);
        if let Ok(losses) = losses.recv_timeout(FLUSH_WAIT) {
            return losses;
        }
        let planned = self.cached.lock().expect("the server lives").planned.take();
        match planned {
            Some(_) => self.cut(rng, over),
            None => losses.recv().expect("it was sent before"),
        }
    }

    /// Power is back: unmounts, forgets what was not kept, mounts.
    pub fn restore(&self) -> Result<(), String> {
        unmount(&self.at);
        let mut cached = self.cached.lock().expect("the server lives");
        cached.unsynced.clear();
        cached.is_cut = false;
        drop(cached);
        self.mount()
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        unmount(&self.at);
        unmount(&self.disk);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim()))
}

fn unmount(at: &Path) {
    let start = Instant::now();
    // The kernel closes the files of a killed broker's rings a moment after the process is gone.
    while let Err(why) = run(Command::new("umount").arg(at)) {
        if why.contains("not mounted") || start.elapsed() > PATIENCE {
            return;
        }
        thread::yield_now();
    }
}

impl Cached {
    /// What a block is if nothing more is flushed.
    fn safe(&self, number: u64) -> Block {
        let mut block = [0; BLOCK];
        self.image.read_exact_at(&mut block, number * BLOCK as u64).expect("the image is there");
        block
    }

    fn newest(&self, number: u64) -> Block {
        let version = self.unsynced.get(&number).and_then(|versions| versions.last());
        version.copied().unwrap_or_else(|| self.safe(number))
    }

    fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let len = len.min(self.bytes.saturating_sub(position) as usize);
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let at = position + data.len() as u64;
            let skip = (at % BLOCK as u64) as usize;
            let end = BLOCK.min(skip + len - data.len());
            data.extend_from_slice(&self.newest(at / BLOCK as u64)[skip..end]);
        }
        data
    }

    fn write(&mut self, position: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = position + done as u64;
            let (number, skip) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let part = &data[done..data.len().min(done + BLOCK - skip)];
            let mut block = self.newest(number);
            block[skip..skip + part.len()].copy_from_slice(part);
            let versions = self.unsynced.entry(number).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(block);
            done += part.len();
        }
    }

    fn cut(&mut self, rng: &mut Rng) -> Losses {
        self.is_cut = true;
        let mut losses = Losses::default();
        let mut blocks: Vec<u64> = self.unsynced.keys().copied().collect();
        // In the order of the disk, so that a seed means the same each time.
        blocks.sort_unstable();
        for number in blocks {
            let versions = &self.unsynced[&number];
            let newest = versions[versions.len() - 1];
            let mut block = self.safe(number);
            match rng.below(4) {
                0 => losses.lost += 1,
                1 => {
                    losses.kept += 1;
                    block = newest;
                }
                2 => {
                    losses.earlier += 1;
                    block = versions[rng.below(versions.len() as u64) as usize];
                }
                _ => {
                    losses.torn += 1;
                    for sector in (0..BLOCK).step_by(SECTOR).filter(|_| rng.below(2) == 0) {
                        block[sector..sector + SECTOR].copy_from_slice(&newest[sector..sector + SECTOR]);
                    }
                }
            }
            self.image.write_all_at(&block, number * BLOCK as u64).expect("space for the image");
        }
        losses
    }

    /// Every write that was answered is safe from here on.
    fn flush(&mut self) {
        if let Some(mut planned) = self.planned.take() {
            planned.over.store(true, Ordering::SeqCst);
            let losses = self.cut(&mut planned.rng);
            planned.losses.send(losses).expect("somebody waits for it");
        }
        if self.is_cut {
            return;
        }
        for (number, versions) in self.unsynced.drain() {
            let newest = versions.last().expect("never an empty list");
            self.image.write_all_at(newest, number * BLOCK as u64).expect("space for the image");
        }
    }
}

// The kernel's side: linux/fuse.h, protocol 7.31. The root of this file system is the file itself.

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const HEADER_BYTES: usize = 40;
/// Of the arguments of a write, before its data.
const WRITE_IN_BYTES: usize = 40;
const ENOSYS: i32 = 38;
/// Large writes; as many pages as one may have.
const INIT_FLAGS: u32 = 1 << 5 | 1 << 22;
/// Past the page cache, which would outlive a cut.
const FOPEN_DIRECT_IO: u32 = 1;

/// Answers until the file system is unmounted.
fn serve(mut fuse: File, cached: &Mutex<Cached>) {
    let mut buffer = vec![0; WRITE_BYTES_MAX + BLOCK];
    loop {
        let request = match fuse.read(&mut buffer) {
            Ok(read) => &buffer[..read],
            // Not yet mounted.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                thread::yield_now();
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let opcode = number32(request, 4);
        let unique = &request[8..16];
        if matches!(opcode, FORGET | INTERRUPT | BATCH_FORGET) {
            continue;
        }
        let reply = answer(opcode, &request[HEADER_BYTES..], &mut cached.lock().expect("the test lives"));
        let (error, body) = match reply {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut frame = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        frame.extend(error.to_ne_bytes());
        frame.extend(unique);
        frame.extend(body);
        // A request that was interrupted needs no reply, and gets an error here.
        let _ = fuse.write(&frame);
    }
}

fn answer(opcode: u32, arguments: &[u8], cached: &mut Cached) -> Result<Vec<u8>, i32> {
    Ok(match opcode {
        INIT => {
            let readahead = number32(arguments, 8);
            // Two counts of background requests, bytes of a write, time granularity, pages of a request.
            let counts = 16u32 << 16 | 16;
            let pages = (WRITE_BYTES_MAX / BLOCK) as u32;
            let words = [7, 31, readahead, INIT_FLAGS, counts, WRITE_BYTES_MAX as u32, 1, pages];
            let mut body = words.map(u32::to_ne_bytes).concat();
            body.resize(64, 0);
            body
        }
        GETATTR | SETATTR => {
            // Valid for no time. Inode, size, 512-byte blocks, times; then mode, links and the rest.
            let longs = [0, 0, 1, cached.bytes, cached.bytes / 512, 0, 0, 0];
            let mut body = longs.map(u64::to_ne_bytes).concat();
            body.extend([0, 0, 0, 0o100_600, 1, 0, 0, 0, BLOCK as u32, 0].map(u32::to_ne_bytes).concat());
            body
        }
        OPEN => [0, 0, FOPEN_DIRECT_IO, 0].map(u32::to_ne_bytes).concat(),
        READ => cached.read(number64(arguments, 8), number32(arguments, 16) as usize),
        WRITE => {
            let data = &arguments[WRITE_IN_BYTES..];
            cached.write(number64(arguments, 8), data);
            [data.len() as u32, 0].map(u32::to_ne_bytes).concat()
        }
        FSYNC => {
            cached.flush();
            Vec::new()
        }
        FLUSH | RELEASE => Vec::new(),
        STATFS => vec![0; 80],
        _ => return Err(ENOSYS),
    })
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
