//! Downloads one file from the Hub to its place in the cache.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ls_files::{AtomicFile, FileError, create_folder, sweep, write_atomic};

use super::hub::{Again, Failure, Hub, RemoteFile};
use super::lock;
use super::part::Part;
use crate::error::{HubError, Result};
use crate::progress::{Event, Progress};

/// The longest pause that is waited for when the Hub asks for one.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pauses grow up to this many times the first one.
const GROWTH: u32 = 60;

/// One call of [`Fetcher::fetch`](super::Fetcher::fetch).
pub(super) struct Run<'a> {
    pub(super) hub: &'a Hub<'a>,
    /// Attempts in a row without a byte arriving after which it gives up.
    pub(super) attempts: u32,
    /// Pause after the first failure.
    pub(super) pause: Duration,
    pub(super) has_token: bool,
    pub(super) repo: &'a str,
    pub(super) repo_dir: PathBuf,
    pub(super) locks_dir: PathBuf,
    pub(super) progress: Progress<'a>,
    /// Set when a file failed, so that the others end too.
    pub(super) stop: AtomicBool,
    /// Bytes that came over the network.
    pub(super) received: AtomicU64,
}

impl Run<'_> {
    /// The folder in which a commit's files stand by their names.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo_dir.join("snapshots").join(commit)
    }

    /// The folder in which a repository's files stand by their contents.
    pub(super) fn blobs(&self) -> PathBuf {
        self.repo_dir.join("blobs")
    }

    fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.blobs().join(file.content.id())
    }

    /// Name that older versions of Python's huggingface_hub give a blob that is not complete.
    fn incomplete(&self, file: &RemoteFile) -> PathBuf {
        self.blobs()
            .join(format!("{}.incomplete", file.content.id()))
    }

    /// Bytes of a file that are still to come.
    pub(super) fn missing(&self, commit: &str, file: &RemoteFile) -> u64 {
        let len = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len()).ok();
        if self.is_there(commit, file) {
            return 0;
        }
        // One that is too long is thrown away.
        let there = len(&self.incomplete(file)).filter(|len| *len <= file.size);
        file.size - there.unwrap_or(0)
    }

    /// Whether a file is in the cache: its blob, or, where links are not to be had and Python moves
    /// the blob there, the file itself in the snapshot.
    fn is_there(&self, commit: &str, file: &RemoteFile) -> bool {
        let blob = std::fs::metadata(self.blob(file));
        blob.is_ok_and(|found| found.len() == file.size) || self.stands_itself(commit, file)
    }

    /// Whether the file itself, and no link to it, is in the snapshot.
    fn stands_itself(&self, commit: &str, file: &RemoteFile) -> bool {
        let found = std::fs::symlink_metadata(self.snapshot(commit).join(&file.path));
        found.is_ok_and(|found| found.is_file() && found.len() == file.size)
    }

    /// Brings a file to its place in the snapshot. `is_last`: of those that have its content.
    pub(super) fn fetch(&self, commit: &str, file: &RemoteFile, is_last: bool) -> Result<()> {
        let blob = self.blob(file);
        let is_there = || self.is_there(commit, file);
        if !is_there() {
            create_dir(&self.blobs())?;
            create_dir(&self.locks_dir)?;
            let lock = self.locks_dir.join(format!("{}.lock", file.content.id()));
            let waiting = || {
                (self.progress)(Event::Waiting {
                    file: &file.path,
                    lock: &lock,
                });
            };
            let Some(_held) = lock::take(&lock, &self.stop, waiting)? else {
                return Err(self.stopped(file));
            };
            // Another process may have fetched it meanwhile.
            if !is_there() {
                self.download(commit, file, &blob)?;
            }
        }
        self.link(commit, file, is_last)?;
        (self.progress)(Event::Finished { file: &file.path });
        Ok(())
    }

    /// Another file failed, and its error is the one that is reported.
    fn stopped(&self, file: &RemoteFile) -> HubError {
        HubError::Network {
            what: format!("{}: {}", self.repo, file.path),
            message: "stopped, because another file failed".into(),
        }
    }

    fn download(&self, commit: &str, file: &RemoteFile, blob: &Path) -> Result<()> {
        let mut part = Part::open(self.incomplete(file), &file.content, file.size)?;
        (self.progress)(Event::Started {
            file: &file.path,
            size: file.size,
            present: part.len(),
        });
        let mut restarted = false;
        // What is complete but not yet checked counts as continued: it was left by another process.
        let mut may_restart = part.is_complete() && file.size > 0;
        loop {
            self.receive(commit, file, &mut part)?;
            may_restart |= part.is_continued();
            match part.check() {
                Ok(()) => return part.finish(blob),
                Err(_) if may_restart && !restarted => {
                    (self.progress)(Event::Restarted { file: &file.path });
                    part.restart()?;
                    restarted = true;
                }
                Err(found) => {
                    part.delete()?;
                    return Err(HubError::WrongHash {
                        repo: self.repo.into(),
                        file: file.path.clone(),
                        algorithm: file.content.algorithm(),
                        found,
                        expected: file.content.id().into(),
                    });
                }
            }
        }
    }

    fn receive(&self, commit: &str, file: &RemoteFile, part: &mut Part) -> Result<()> {
        let arrived = |bytes: u64| {
            self.received.fetch_add(bytes, Ordering::Relaxed);
            (self.progress)(Event::Received {
                file: &file.path,
                bytes,
            });
            if self.stop.load(Ordering::Relaxed) {
                return Err(self.stopped(file));
            }
            Ok(())
        };
        self.persist(|| {
            let before = part.len();
            let result = self.hub.receive(commit, file, part, arrived);
            (part.len() > before, result)
        })
    }

    /// Repeats what fails for a while. An attempt says whether anything arrived in it: only those
    /// without count against the limit, so that a connection that breaks every few minutes still
    /// brings a large file.
    pub(super) fn persist<T>(
        &self,
        mut attempt: impl FnMut() -> (bool, Result<T, Failure>),
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            let (arrived, result) = attempt();
            let Failure { error, again } = match result {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failures = if arrived { 1 } else { failures + 1 };
            let growth = 2u32.saturating_pow(failures - 1).min(GROWTH);
            let wait = match again {
                Again::Never => return Err(*error),
                Again::Soon => self.pause * growth,
                // The Hub counts requests over minutes.
                Again::Limited(None) => self.pause * GROWTH,
                Again::Limited(Some(wait)) if wait <= PATIENCE => wait,
                Again::Limited(Some(wait)) => {
                    return Err(HubError::RateLimited {
                        what: self.repo.into(),
                        wait,
                        has_token: self.has_token,
                    });
                }
            };
            if failures >= self.attempts {
                return Err(HubError::GaveUp {
                    attempts: failures,
                    last: error,
                });
            }
            (self.progress)(Event::Retrying {
                error: &error,
                wait,
            });
            let start = Instant::now();
            while start.elapsed() < wait {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(*error);
                }
                let left = wait.saturating_sub(start.elapsed());
                std::thread::sleep(left.min(Duration::from_millis(100)));
            }
        }
    }

    /// Puts a blob into the snapshot: a relative link, as Python makes it, so that the cache can be
    /// moved.
    fn link(&self, commit: &str, file: &RemoteFile, is_last: bool) -> Result<()> {
        let place = self.snapshot(commit).join(&file.path);
        let up = "../".repeat(2 + file.path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{}", file.content.id()));
        let is_linked = std::fs::read_link(&place).is_ok_and(|found| found == target);
        if is_linked || self.stands_itself(commit, file) {
            return Ok(());
        }
        if let Some(folder) = place.parent() {
            create_dir(folder)?;
        }
        if self.has_link(&target, &place)? {
            return Ok(());
        }
        put_itself(&self.blob(file), &place, is_last)
    }

    /// Whether a link could be put there. Not every file system has them: exFAT, for one.
    #[cfg(unix)]
    fn has_link(&self, target: &Path, place: &Path) -> Result<bool> {
        use std::io::ErrorKind::{PermissionDenied, Unsupported};
        // Beside the blobs, because whatever is in a snapshot counts as a file of it.
        match ls_files::put_link(target, place, self.blobs()) {
            Err(FileError::Write { source, .. })
                if matches!(source.kind(), PermissionDenied | Unsupported) =>
            {
                Ok(false)
            }
            made => Ok(made.map(|()| true)?),
        }
    }

    /// They need a privilege there.
    #[cfg(not(unix))]
    fn has_link(&self, _target: &Path, _place: &Path) -> Result<bool> {
        Ok(false)
    }

    /// Notes which commit a branch or tag stands for.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.repo_dir.join("refs").join(revision);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == commit) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            create_dir(folder)?;
            sweep(folder);
        }
        Ok(write_atomic(path, commit)?)
    }
}

/// Puts the file itself where there can be no link to it: the blob, as Python does, or a copy if
/// others need that too.
fn put_itself(blob: &Path, place: &Path, is_last: bool) -> Result<()> {
    // What stands there is not this file, so nobody misses it.
    let _ = std::fs::remove_file(place);
    if is_last {
        return Ok(std::fs::rename(blob, place).map_err(FileError::writing(place))?);
    }
    if std::fs::hard_link(blob, place).is_ok() {
        return Ok(());
    }
    sweep(place.parent().unwrap_or(place));
    let mut from = std::fs::File::open(blob).map_err(FileError::reading(blob))?;
    let mut to = AtomicFile::create(place)?;
    std::io::copy(&mut from, &mut to).map_err(FileError::writing(place))?;
    Ok(to.commit()?)
}

pub(super) fn create_dir(path: &Path) -> Result<()> {
    Ok(create_folder(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_no_links_the_file_itself_takes_the_place_of_what_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let (blob, place) = (dir.path().join("blob"), dir.path().join("config.json"));
        std::fs::write(&blob, "new").unwrap();
        std::fs::write(&place, "what stands there").unwrap();
        let other = dir.path().join("other");
        for (to, is_last) in [(&other, false), (&place, true)] {
            put_itself(&blob, to, is_last).unwrap();
            assert_eq!(std::fs::read_to_string(to).unwrap(), "new");
            assert_eq!(blob.exists(), !is_last);
        }
        assert!(put_itself(&blob, &place, false).is_err());
    }
}
