//! How much space the volume of a directory has.
//!
//! *Owns*: the one call for it. *Never*: decides what is enough. *Runs on*: the executors' helper threads.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::disk::DiskDone;

/// All of it, and what this process may still use.
pub fn space(dir: &Path) -> io::Result<DiskDone> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte and outlives the call, which writes nothing but `found`.
    let result = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a call that succeeds has filled in the whole struct.
    let found = unsafe { found.assume_init() };
    let bytes = |blocks: libc::fsblkcnt_t| blocks.saturating_mul(found.f_frsize);
    Ok(DiskDone::Space { total_bytes: bytes(found.f_blocks), usable_bytes: bytes(found.f_bavail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_space_and_what_is_missing_has_none() {
        let Ok(DiskDone::Space { total_bytes, usable_bytes }) = space(&std::env::temp_dir()) else {
            panic!("no space is told")
        };
        assert!(usable_bytes <= total_bytes && total_bytes > 1 << 20, "{usable_bytes} of {total_bytes}");
        let missing = std::env::temp_dir().join("is-not-there");
        assert_eq!(space(&missing).expect_err("it is not there").kind(), io::ErrorKind::NotFound);
        let zero = Path::new("a\0b");
        assert_eq!(space(zero).expect_err("no path has a zero").kind(), io::ErrorKind::InvalidInput);
    }
}
