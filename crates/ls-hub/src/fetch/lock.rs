//! The lock of a blob, the same as Python's: whoever holds it fetches, the others wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ls_files::FileError;

use crate::error::Result;

/// How often a lock that another process holds is tried.
const EVERY: Duration = Duration::from_millis(200);

/// Held until it is dropped; the system lets go of it if the process dies.
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock at `path`, waiting for as long as it takes; none if `stop` is set meanwhile.
/// `waiting` is called once if it has to wait.
///
/// On a file system without locks there is none to hold: two processes then do the work twice, and
/// the check of what arrived finds what they may do to each other.
pub(super) fn take(path: &Path, stop: &AtomicBool, waiting: impl Fn()) -> Result<Option<Lock>> {
    let mut said = false;
    loop {
        let file = open(path).map_err(FileError::writing(path))?;
        match file.try_lock() {
            Ok(()) if is_current(&file, path) => return Ok(Some(Lock { _file: file })),
            // Whoever held it deleted the file, so that others would lock another one.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                if !said {
                    waiting();
                    said = true;
                }
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                std::thread::sleep(EVERY);
            }
            Err(TryLockError::Error(_)) => return Ok(Some(Lock { _file: file })),
        }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // As Python: whoever shares the cache may wait for the lock.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o664).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

#[cfg(unix)]
fn is_current(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_current(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_lock_is_waited_for_and_the_wait_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let stop = AtomicBool::new(false);
        let said = AtomicU32::new(0);
        let count = || {
            said.fetch_add(1, Ordering::Relaxed);
        };
        let held = take(&path, &stop, count).unwrap();
        assert_eq!(said.load(Ordering::Relaxed), 0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&path, &stop, count).unwrap());
            std::thread::sleep(2 * EVERY);
            drop(held);
            assert!(waiter.join().unwrap().is_some());
        });
        assert!(start.elapsed() >= 2 * EVERY);
        assert_eq!(said.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn waiting_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let stop = AtomicBool::new(false);
        let _held = take(&path, &stop, || ()).unwrap().unwrap();
        let stopped = take(&path, &stop, || stop.store(true, Ordering::Relaxed)).unwrap();
        assert!(stopped.is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_was_deleted_is_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let file = open(&path).unwrap();
        assert!(is_current(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_current(&file, &path));
        let other = open(&path).unwrap();
        assert!(!is_current(&file, &path) && is_current(&other, &path));
    }
}
