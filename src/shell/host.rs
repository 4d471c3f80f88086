//! What the host must offer, checked before anything starts, each failure with its remedy.
//!
//! *Owns*: the checks, the processors to run on, the lock on the data directory. *Never*: changes the host, except for
//! raising this process's own soft limits to its hard ones. *Runs on*: the main thread, once.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::disk::{BLOCK_BYTES, DiskDone};
use crate::base::limits::CORES_MAX;
use crate::config::{Cores, Durability, Settings};
use crate::journal::format::{self, FileName};
use crate::journal::journal;
use crate::shell::executor::IO_MEMORY_BYTES;
use crate::shell::socket;
use crate::shell::volume;

/// glommio refuses to start below this limit.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Each of an executor's three rings registers the executor's direct I/O memory.
const RINGS: u64 = 3;

/// The file in a data directory that the broker using it has locked.
pub const LOCK_NAME: &str = ".lock";

/// Why the broker did not start, or could not go on: for the user to read, with what to do about it.
#[derive(Debug)]
pub struct ServeError {
    message: String,
}

impl ServeError {
    pub(super) fn new(message: String) -> ServeError {
        ServeError { message }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServeError {}

/// The data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    /// Absolute.
    pub path: PathBuf,
    /// What direct I/O must be aligned to, if the kernel says.
    pub direct_io_alignment: Option<u32>,
    _lock: File,
}

impl DataDir {
    pub fn open(path: &Path) -> Result<DataDir, ServeError> {
        let refused = |error: io::Error| {
            let name = path.display();
            ServeError::new(format!(
                "the data directory {name} cannot be used: {error}. Make it writable for this user, or choose another \
                 with --data-dir."
            ))
        };
        fs::create_dir_all(path).map_err(refused)?;
        let path = fs::canonicalize(path).map_err(refused)?;
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path.join(LOCK_NAME));
        let mut lock = lock.map_err(refused)?;
        socket::lock_file(&lock).map_err(|error| {
            let name = path.display();
            if error.kind() == io::ErrorKind::WouldBlock {
                ServeError::new(format!(
                    "the data directory {name} is in use by another broker{}. Stop that one, or choose another directory \
                     with --data-dir.",
                    holder(&mut lock).map_or(String::new(), |id| format!(", process {id}"))
                ))
            } else {
                ServeError::new(format!("the data directory {name} cannot be locked: {error}."))
            }
        })?;
        // For whoever is refused; without it the lock holds all the same.
        let _ = lock.set_len(0).and_then(|()| lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
        if let Some(name) = socket::file_system_in_memory(&lock).map_err(refused)? {
            tracing::warn!(
                "the data directory {} is in memory ({name}): all of it is gone with the power, whatever durability says",
                path.display()
            );
        }
        let direct_io_alignment = check_direct_io(&path)?;
        Ok(DataDir { path, direct_io_alignment, _lock: lock })
    }
}

/// The processors to pin executors to, in the order of cores.
pub fn processors(cores: &Cores) -> Result<Vec<usize>, ServeError> {
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if allowed.is_empty() {
        return Err(ServeError::new("the processors this process may run on cannot be read.".to_owned()));
    }
    let chosen: Vec<usize> = match cores {
        Cores::All => allowed.iter().copied().take(CORES_MAX).collect(),
        Cores::Count(count) => {
            if usize::from(*count) > allowed.len() {
                tracing::warn!("{count} cores share {} processors: good for a try, slow under load", allowed.len());
            }
            allowed.iter().copied().cycle().take(usize::from(*count)).collect()
        }
        Cores::List(list) => list.iter().map(|cpu| usize::from(*cpu)).collect(),
    };
    if let Some(missing) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(ServeError::new(format!(
            "processor {missing} of --cores is not one this process may run on (taskset or a container limits it to \
             {allowed:?})."
        )));
    }
    if chosen.is_empty() || chosen.len() > CORES_MAX {
        return Err(ServeError::new(format!("--cores must name 1 to {CORES_MAX} processors.")));
    }
    Ok(chosen)
}

/// Checks io_uring and raises the limits. Returns how much memory may be locked, in bytes.
pub fn check_kernel(cores: usize) -> Result<u64, ServeError> {
    check_io_uring()?;
    let files = socket::raise_limit(libc::RLIMIT_NOFILE);
    if let Err(error) = files {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let memlock = socket::raise_limit(libc::RLIMIT_MEMLOCK).map_err(|error| {
        ServeError::new(format!("the limit of locked memory (RLIMIT_MEMLOCK) cannot be read or raised: {error}."))
    })?;
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(ServeError::new(format!(
            "this process may lock {memlock} bytes of memory, and io_uring needs {MEMLOCK_BYTES_MIN}. Raise the limit: \
             `ulimit -l unlimited` in the shell, `LimitMEMLOCK=infinity` in a systemd unit, `--ulimit memlock=-1` for \
             docker run, or `* - memlock unlimited` in /etc/security/limits.conf."
        )));
    }
    let wanted = RINGS * IO_MEMORY_BYTES as u64 * cores as u64;
    // Root may lock more than its limit says.
    let privileged = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if memlock < wanted && !privileged {
        tracing::warn!(
            "this process may lock {memlock} bytes of memory; with {wanted} (ulimit -l {}) direct I/O is cheaper",
            wanted >> 10
        );
    }
    Ok(memlock)
}

fn check_io_uring() -> Result<(), ServeError> {
    let Err(error) = socket::try_io_uring() else { return Ok(()) };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let remedy = match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), "1" | "2") => "Allow it: `sysctl kernel.io_uring_disabled=0`.",
        (Some(libc::EPERM), _) => {
            "A seccomp filter forbids it, as container runtimes do by default: for docker run, \
             `--security-opt seccomp=unconfined` or a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register."
        }
        (Some(libc::ENOSYS), _) => "The kernel has none: Linux 5.8 or later is needed, 5.15 or later is advised.",
        (Some(libc::ENOMEM), _) => "Raise the limit of locked memory: `ulimit -l unlimited`.",
        _ => "Linux 5.8 or later with io_uring is needed.",
    };
    Err(ServeError::new(format!("io_uring cannot be used: {error}. {remedy}")))
}

/// Whether the journals that are still to be made find room. They are made with the first partition of a core that needs
/// one, when it is late to hear of it.
pub fn check_journal_space(data: &DataDir, settings: &Settings, cores: usize) -> Result<(), ServeError> {
    if settings.journal_bytes == 0 || settings.durability == Durability::Write {
        return Ok(());
    }
    let dir = &data.path;
    let Ok(DiskDone::Space { usable_bytes, .. }) = volume::space(dir) else { return Ok(()) };
    let lens = journal_lens(dir);
    let wanted = journal::file_bytes(settings.journal_bytes);
    let missing = (0..cores as u16).map(|core| wanted.saturating_sub(lens.get(&core).copied().unwrap_or(0)));
    let missing: u64 = missing.sum();
    // Those of cores that are not there any more go before others are made.
    let usable_bytes = usable_bytes + lens.range(cores as u16..).map(|(_, len)| len).sum::<u64>();
    if missing <= usable_bytes {
        return Ok(());
    }
    let (name, mib) = (dir.display(), |bytes: u64| bytes.div_ceil(1 << 20));
    let what = format!(
        "the data directory {name} has {} MiB of space left, and the commit journals of {cores} cores need {} MiB more \
         (journal.bytes for each core). Free some, set --journal-bytes lower, or to 0 for no journal, or use fewer --cores",
        usable_bytes >> 20,
        mib(missing)
    );
    if is_used(dir) {
        tracing::warn!("{what}: the broker ends when a partition needs a journal that finds no room");
        return Ok(());
    }
    Err(ServeError::new(format!("{what}.")))
}

/// Of the journals there are, by core.
fn journal_lens(dir: &Path) -> BTreeMap<u16, u64> {
    let files = fs::read_dir(dir.join(format::DIR)).into_iter().flatten().flatten();
    let journals = files.filter_map(|file| match FileName::parse(&file.file_name().to_string_lossy()) {
        Some(FileName::Journal(core)) => Some((core.0, file.metadata().ok()?.len())),
        Some(FileName::Damaged(..)) | None => None,
    });
    journals.collect()
}

/// The process that has locked the file, as it says.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn check_direct_io(dir: &Path) -> Result<Option<u32>, ServeError> {
    let path = dir.join(".direct-io-check");
    let tried = try_direct_io(&path);
    let _ = fs::remove_file(&path);
    let name = dir.display();
    let error = match tried {
        Ok(Some(alignment)) if alignment as usize > BLOCK_BYTES => {
            return Err(ServeError::new(format!(
                "direct I/O in {name} must be aligned to {alignment} bytes, and Corelog writes blocks of {BLOCK_BYTES}. \
                 Choose a directory on another device with --data-dir."
            )));
        }
        Ok(alignment) => return Ok(alignment),
        Err(error) => error,
    };
    Err(ServeError::new(match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => format!(
            "the file system of {name} does not support direct I/O. Choose a directory on ext4, XFS or another file \
             system that does, with --data-dir."
        ),
        Some(libc::ENOSPC | libc::EDQUOT) if is_used(dir) => {
            tracing::warn!("the data directory {name} has no space left ({error}): what it holds is served");
            return Ok(None);
        }
        Some(libc::ENOSPC | libc::EDQUOT) => format!(
            "the data directory {name} has no space left: {error}. Free some, or choose another with --data-dir."
        ),
        _ => format!(
            "no file can be written in the data directory {name}: {error}. Make it writable for this user, or choose \
             another with --data-dir."
        ),
    }))
}

/// Writes a block as the broker writes them. The alignment that the kernel tells is not tried when it is too large.
fn try_direct_io(path: &Path) -> io::Result<Option<u32>> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let alignment = socket::direct_io_alignment(&file);
    if alignment.is_none_or(|alignment| alignment as usize <= BLOCK_BYTES) {
        let memory = vec![0; 2 * BLOCK_BYTES];
        let start = (memory.as_ptr() as usize).next_multiple_of(BLOCK_BYTES) - memory.as_ptr() as usize;
        file.write_all_at(&memory[start..start + BLOCK_BYTES], 0)?;
        file.sync_data()?;
    }
    Ok(alignment)
}

/// A broker has run here before.
fn is_used(dir: &Path) -> bool {
    fs::read_dir(dir.join("meta")).is_ok_and(|mut files| files.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_made_and_locked_against_a_second_broker() {
        let parent = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let path = parent.path().join("deep/data");
        let first = DataDir::open(&path).expect("the first may");
        assert!(first.path.is_absolute());
        let error = DataDir::open(&path).expect_err("the second may not");
        let said = format!("in use by another broker, process {}. Stop that one", std::process::id());
        assert!(error.to_string().contains(&said), "{error}");
        drop(first);
        DataDir::open(&path).expect("the lock ends with its owner");
    }

    #[test]
    fn a_file_system_without_direct_io_is_named_as_the_reason() {
        let error = check_direct_io(Path::new("/proc/self")).expect_err("/proc takes no files");
        assert!(error.to_string().contains("/proc/self"), "{error}");
    }

    #[test]
    fn processors_are_taken_from_those_allowed() {
        let all = processors(&Cores::All).expect("all");
        assert!(!all.is_empty());
        let more = all.len() as u16 + 1;
        assert_eq!(processors(&Cores::Count(more)).expect("shared").len(), usize::from(more));
        assert_eq!(processors(&Cores::List(vec![all[0] as u16])).expect("one"), vec![all[0]]);
        let error = processors(&Cores::List(vec![u16::MAX])).expect_err("there is no such processor");
        assert!(error.to_string().contains("65535"), "{error}");
    }

    #[test]
    fn this_host_can_run_a_broker() {
        assert!(check_kernel(1).expect("the kernel offers what is needed") >= MEMLOCK_BYTES_MIN);
    }
}
