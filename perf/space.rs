//! What the space a file is written into costs: direct writes to some files at a time, one thread each, into space that
//! was only reserved, that was written before, or that is written with zeros ahead of each write; with an fdatasync
//! after each write, and without.
//!
//! *Owns*: its files, removed at the end. *Never*: looks at what it writes. *Runs on*: a thread for each file.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use corelog::base::disk::BLOCK_BYTES;

const MIB: u64 = 1 << 20;
/// Zeros written ahead at a time.
const ZEROS_BYTES: u64 = MIB;

#[derive(Parser)]
struct Arguments {
    /// Where the files are made; on the disk to be measured.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 16)]
    files: usize,
    /// Each file's space. Reserved space should last for the whole time.
    #[arg(long, default_value_t = 256)]
    file_mib: u64,
    /// KiB of a write, multiples of 4.
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    kib: Vec<u64>,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Space {
    Reserved,
    Written,
    ZerosAhead,
}

fn main() {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.dir).expect("create the directory");
    println!("{:>8} {:>12} {:>6} {:>10}  of each repeat", "KiB", "space", "synced", "MiB/s");
    for &kib in &arguments.kib {
        for space in [Space::Reserved, Space::Written, Space::ZerosAhead] {
            for synced in [false, true] {
                let mut speeds: Vec<f64> =
                    (0..arguments.repeats).map(|_| measure(&arguments, kib << 10, space, synced)).collect();
                let all: Vec<String> = speeds.iter().map(|speed| format!("{speed:.0}")).collect();
                speeds.sort_by(f64::total_cmp);
                let median = speeds[speeds.len() / 2];
                println!("{kib:>8} {:>12} {synced:>6} {median:>10.0}  {}", format!("{space:?}"), all.join(" "));
            }
        }
    }
}

/// MiB a second of all files together.
fn measure(arguments: &Arguments, write_bytes: u64, space: Space, synced: bool) -> f64 {
    let file_bytes = arguments.file_mib * MIB;
    let paths: Vec<PathBuf> = (0..arguments.files).map(|file| arguments.dir.join(format!("space-{file}"))).collect();
    let files: Vec<File> = paths.iter().map(|path| prepare(path, space, file_bytes)).collect();
    let (written, stop, begin) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(files.len() + 1));
    let speed = thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                let (data, zeros) = (Aligned::new(1, write_bytes), Aligned::new(0, ZEROS_BYTES));
                let (mut position, mut zeroed) = (0, 0);
                begin.wait();
                while !stop.load(Ordering::Relaxed) {
                    if position + write_bytes > file_bytes {
                        assert!(space == Space::Written, "the files are too small for the time");
                        position = 0;
                    }
                    while space == Space::ZerosAhead && zeroed < position + write_bytes {
                        file.write_all_at(zeros.bytes(), zeroed).expect("write zeros");
                        zeroed += ZEROS_BYTES;
                    }
                    file.write_all_at(data.bytes(), position).expect("write");
                    if synced {
                        file.sync_data().expect("sync");
                    }
                    position += write_bytes;
                    written.fetch_add(write_bytes, Ordering::Relaxed);
                }
            });
        }
        begin.wait();
        let began = Instant::now();
        thread::sleep(Duration::from_secs_f64(arguments.seconds));
        let speed = written.load(Ordering::Relaxed) as f64 / MIB as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        speed
    });
    for path in &paths {
        fs::remove_file(path).expect("remove a file");
    }
    speed
}

fn prepare(path: &Path, space: Space, bytes: u64) -> File {
    let file = OpenOptions::new().create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(path);
    let file = file.expect("make a file");
    if space == Space::Written {
        let zeros = Aligned::new(0, ZEROS_BYTES);
        for position in (0..bytes).step_by(ZEROS_BYTES as usize) {
            file.write_all_at(zeros.bytes(), position).expect("write zeros");
        }
    } else {
        let done = Command::new("fallocate").arg("-l").arg(bytes.to_string()).arg(path).status();
        assert!(done.is_ok_and(|status| status.success()), "fallocate reserves the space");
    }
    file.sync_all().expect("sync");
    file
}

/// Bytes that begin at a block, as direct writes want them.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(byte: u8, len: u64) -> Aligned {
        let len = len as usize;
        let memory = vec![byte; len + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}
