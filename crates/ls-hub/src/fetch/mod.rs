//! Fetching: from a repository's revision to a complete snapshot in the cache.
//!
//! hf-hub resolves revisions. What it leaves to its callers is here: a list of files with their
//! SHA-256, and their bytes from any place on (`hub`), which of them are needed (`choose`), room on
//! the disk, and for each file a lock that is waited for, a download that goes on where it stopped,
//! and a check of what arrived (`download`).

mod choose;
mod download;
mod hub;
mod lock;
mod part;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ls_files::{FileError, sweep};

use crate::address::RepoKind;
use crate::cache::Cache;
use crate::error::{HubError, Result};
use crate::files::Files;
use crate::repo::RepoRef;
use crate::settings::Settings;

use download::Run;
use hub::{Hub, RemoteFile};

pub use crate::progress::{Event, Progress};

/// Bytes that stay free beside what is fetched.
const MARGIN: u64 = 64 << 20;

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// What the repository holds.
    pub kind: RepoKind,
    /// Repository and revision.
    pub at: RepoRef,
    /// Files that are needed.
    pub files: Files,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The snapshot: a folder with the files by their names.
    pub path: PathBuf,
    /// The commit that the revision stands for.
    pub commit: String,
    /// The files, by their path in the repository; none if the Hub had not to be asked.
    pub files: Vec<String>,
    /// Bytes that came over the network for their contents.
    pub bytes_downloaded: u64,
}

/// Fetches from one Hub into one cache.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// Hub, cache and token.
    pub settings: Settings,
    /// Files at a time.
    pub jobs: usize,
    /// Attempts in a row without a byte arriving after which it gives up.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each, up to 60 times as long.
    pub pause: Duration,
    /// How long an answer may bring nothing before it counts as cut.
    pub silence: Duration,
}

impl Fetcher {
    /// Four files at a time, six attempts, a first pause of a second, a minute of silence.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            jobs: 4,
            attempts: 6,
            pause: Duration::from_secs(1),
            silence: Duration::from_secs(60),
        }
    }

    /// Fetches what the cache does not hold, checks it, and makes the snapshot that Python's
    /// huggingface_hub would make.
    ///
    /// If everything is there, fetching again only asks for the commit and the list of files, and
    /// for nothing if the revision is a commit and the files are weights or named. What was begun
    /// is kept, so that the next call goes on from there.
    ///
    /// # Errors
    /// Everything in [`HubError`] but what concerns names.
    ///
    /// # Panics
    /// Inside an asynchronous task: this blocks.
    pub fn fetch(&self, request: &FetchRequest, progress: Progress<'_>) -> Result<Fetched> {
        let FetchRequest { kind, at, files } = request;
        let cache = Cache::new(&self.settings.cache_dir);
        let cached = cache.look_up(*kind, at, files)?;
        let unchanging = at.is_pinned() && *files != Files::Data;
        match cached {
            Ok(path) if unchanging || self.settings.offline => {
                return Ok(Fetched {
                    commit: cache.commit(*kind, at)?.unwrap_or_default(),
                    path,
                    files: Vec::new(),
                    bytes_downloaded: 0,
                });
            }
            Err(missing) if self.settings.offline => {
                return Err(HubError::Offline {
                    repo: at.repo.clone(),
                    revision: at.revision.clone(),
                    cache: self.settings.cache_dir.clone(),
                    missing,
                });
            }
            _ => {}
        }

        let hub = Hub::new(&self.settings, self.silence, *kind, &at.repo)?;
        let run = Run {
            hub: &hub,
            attempts: self.attempts,
            pause: self.pause,
            has_token: self.settings.token.is_some(),
            repo: &at.repo,
            repo_dir: cache.repo_dir(*kind, &at.repo),
            locks_dir: cache.locks_dir(*kind, &at.repo),
            progress,
            stop: AtomicBool::new(false),
            received: AtomicU64::new(0),
        };
        let commit = if at.is_pinned() {
            at.revision.clone()
        } else {
            run.persist(|| (false, hub.commit(&at.revision)))?
        };
        let tree = run.persist(|| (false, hub.tree(&commit)))?;
        let chosen = match files {
            Files::Weights => choose::weights(&run, &commit, &tree)?,
            Files::Named(names) => choose::named(&at.repo, &tree, names)?,
            Files::Data => choose::data(&at.repo, &tree)?,
        };

        let missing = contents(&chosen)
            .iter()
            .map(|same| run.missing(&commit, same[0]))
            .sum();
        progress(Event::Plan {
            at,
            commit: &commit,
            files: chosen.len(),
            bytes: chosen.iter().map(|file| file.size).sum(),
            missing,
        });
        if missing > 0 {
            check_room(cache.dir(), missing)?;
        }
        sweep(run.blobs());
        self.fetch_all(&run, &commit, &chosen)?;
        // Only now: a branch whose snapshot is not complete must not be found.
        if !at.is_pinned() {
            run.write_ref(&at.revision, &commit)?;
        }
        Ok(Fetched {
            path: run.snapshot(&commit),
            commit,
            files: chosen.into_iter().map(|file| file.path.clone()).collect(),
            bytes_downloaded: run.received.into_inner(),
        })
    }

    /// Fetches files, [`jobs`](Self::jobs) at a time, until all are there or one fails.
    fn fetch_all(&self, run: &Run<'_>, commit: &str, files: &[&RemoteFile]) -> Result<()> {
        let mut queue = contents(files);
        // Small files first: if access is refused or a file is malformed, that shows before
        // gigabytes have come.
        queue.sort_by_key(|same| same[0].size);
        let queue = Mutex::new(VecDeque::from(queue));
        let failed = Mutex::new(None);
        let unlock = PoisonError::into_inner;
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.clamp(1, files.len().max(1)) {
                scope.spawn(|| {
                    while !run.stop.load(Ordering::Relaxed) {
                        let Some(same) = queue.lock().unwrap_or_else(unlock).pop_front() else {
                            break;
                        };
                        let last = same.len() - 1;
                        let mut each = same.iter().enumerate();
                        let result =
                            each.try_for_each(|(at, file)| run.fetch(commit, file, at == last));
                        if let Err(error) = result {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(error);
                            run.stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Files by their content: those with the same share a blob, and none of the lists is empty.
fn contents<'a>(files: &[&'a RemoteFile]) -> Vec<Vec<&'a RemoteFile>> {
    let mut contents: BTreeMap<&str, Vec<&RemoteFile>> = BTreeMap::new();
    for file in files {
        contents.entry(file.content.id()).or_default().push(file);
    }
    contents.into_values().collect()
}

/// Refuses to begin what the disk has no room for.
fn check_room(cache: &Path, missing: u64) -> Result<()> {
    download::create_dir(cache)?;
    let free = fs4::available_space(cache).map_err(FileError::reading(cache))?;
    let needed = missing.saturating_add(MARGIN);
    if free < needed {
        return Err(HubError::DiskFull {
            path: cache.into(),
            needed,
            free,
        });
    }
    Ok(())
}
