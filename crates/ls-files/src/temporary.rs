//! Files that are not whole yet: their names, and removing those that a kill has left.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Beginning of the name of a file that is not whole yet; 16 hexadecimal digits follow.
const PREFIX: &str = ".tmp-";
/// What cannot be locked (a link, or anything where the file system knows no locks) is left over
/// when nobody has written to it for so long.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A file under a temporary name, deleted unless it is given its own.
///
/// It is locked as long as it is open, by which [`sweep`] tells it from those that a killed process
/// has left: the system takes the lock off them, whatever became of the process.
#[derive(Debug)]
pub(crate) struct Temporary {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    /// Creates a file in a folder.
    pub(crate) fn create_in(folder: &Path) -> io::Result<Self> {
        loop {
            let path = temporary_name(folder);
            let mut options = OpenOptions::new();
            let file = match options.read(true).write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let swept = match file.try_lock() {
                // Between the two calls another process may have taken it for one that was left.
                Ok(()) => fs::symlink_metadata(&path).is_err_and(is_not_found),
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(_)) => false,
            };
            if !swept {
                return Ok(Self {
                    file,
                    path,
                    placed: false,
                });
            }
        }
    }

    /// The file that is open.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and gives it its own name.
    pub(crate) fn persist(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A name for what is to have another one soon.
pub(crate) fn temporary_name(folder: &Path) -> PathBuf {
    let random = RandomState::new().build_hasher().finish();
    folder.join(format!("{PREFIX}{random:016x}"))
}

/// Removes what killed processes have left in a folder of files that were not whole yet, and
/// nothing else: neither files of other names nor what a living process is writing. One that cannot
/// be removed stays for the next time.
pub fn sweep(folder: impl AsRef<Path>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if !entry.file_name().to_str().is_some_and(is_temporary) {
            continue;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_file() => {
                if let Some(_held) = left(&path) {
                    let _ = fs::remove_file(&path);
                }
            }
            // A link cannot be locked, but has its own name a moment later.
            Ok(kind) if kind.is_symlink() && is_old(entry.metadata()) => {
                let _ = fs::remove_file(&path);
            }
            _ => {}
        }
    }
}

/// Whether a name is that of a file that is not whole yet.
fn is_temporary(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The file, locked, if no process writes to it. Whoever removes it holds the lock until it is
/// gone: a writer that has created it and not locked it yet then sees the lock, or that the name is
/// gone, and takes another.
fn left(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    let left = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => is_old(file.metadata()),
    };
    left.then_some(file)
}

fn is_old(found: io::Result<Metadata>) -> bool {
    let written = found.and_then(|found| found.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age > DAY)
}

fn is_not_found(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut living = Temporary::create_in(dir.path()).unwrap();
        let left = dir.path().join(".tmp-0123456789abcdef");
        let others = [".tmp-backup", ".tmp-0123456789abcdeg", "report.json"];
        for name in others.map(|name| dir.path().join(name)) {
            fs::write(name, "theirs").unwrap();
        }
        fs::write(&left, "half").unwrap();
        fs::create_dir(dir.path().join(".tmp-fedcba9876543210")).unwrap();
        sweep(dir.path());
        assert!(!left.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), others.len() + 2);
        living.write_all(b"whole").unwrap();
        let path = dir.path().join("whole");
        living.persist(&path).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
    }

    #[test]
    fn a_file_stays_locked_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".tmp-0123456789abcdef");
        // Created by a writer that has not come to its lock.
        let writer = File::create(&path).unwrap();
        let held = left(&path).unwrap();
        assert!(matches!(writer.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        writer.try_lock().unwrap();
        assert!(left(&path).is_none());
    }

    #[test]
    fn writers_and_sweepers_at_once_lose_nothing() {
        const ROUNDS: usize = 1500;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let writers = std::sync::atomic::AtomicUsize::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let temporary = Temporary::create_in(folder);
                        // A moment of writing, without syncs, so that many files are made.
                        std::thread::sleep(Duration::from_micros(50));
                        let kept = temporary.map(|written| fs::metadata(&written.path).is_ok());
                        if !matches!(kept, Ok(true)) {
                            writers.store(0, Ordering::Relaxed);
                            panic!("{kept:?}");
                        }
                    }
                    writers.fetch_sub(1, Ordering::Relaxed);
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while writers.load(Ordering::Relaxed) > 0 {
                        sweep(folder);
                    }
                });
            }
        });
    }
}
