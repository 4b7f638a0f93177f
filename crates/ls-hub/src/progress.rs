//! The events of a fetch, for whoever shows its progress.

use std::path::Path;
use std::time::Duration;

use crate::error::{HubError, bytes};
use crate::repo::RepoRef;

/// What goes on in a fetch (`fetch::Fetcher::fetch`, with the feature `hub`). Files are named by
/// their path in the repository.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It is known what is to be done.
    Plan {
        /// Repository and revision.
        at: &'a RepoRef,
        /// Commit that the revision stands for.
        commit: &'a str,
        /// Number of files.
        files: usize,
        /// Bytes of all of them.
        bytes: u64,
        /// Bytes that are not in the cache.
        missing: u64,
    },
    /// A file's download begins or goes on.
    Started {
        /// File.
        file: &'a str,
        /// Bytes that it has.
        size: u64,
        /// Bytes that are there from before.
        present: u64,
    },
    /// Bytes arrived.
    Received {
        /// File.
        file: &'a str,
        /// How many more there are.
        bytes: u64,
    },
    /// What was kept of an earlier download does not belong to this file: it begins anew.
    Restarted {
        /// File.
        file: &'a str,
    },
    /// A file is complete and checked.
    Finished {
        /// File.
        file: &'a str,
    },
    /// Another process fetches this file.
    Waiting {
        /// File.
        file: &'a str,
        /// Lock that the other process holds.
        lock: &'a Path,
    },
    /// Something failed and is tried again.
    Retrying {
        /// What failed.
        error: &'a HubError,
        /// Pause before the next attempt.
        wait: Duration,
    },
}

impl Event<'_> {
    /// What is said of it in a line; nothing of what comes all the time.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Self::Plan {
                at,
                commit,
                files,
                bytes: all,
                missing,
            } => {
                let what = match files {
                    1 => "1 file".to_string(),
                    _ => format!("{files} files"),
                };
                let all = bytes(*all);
                let left = match missing {
                    0 => "all in the cache".into(),
                    _ => format!("{} to fetch", bytes(*missing)),
                };
                format!("{at} ({commit}): {what}, {all}, {left}")
            }
            Self::Started {
                file,
                size,
                present: present @ 1..,
            } => format!("{file}: goes on at {} of {}", bytes(*present), bytes(*size)),
            Self::Started { .. } | Self::Received { .. } | Self::Finished { .. } => return None,
            Self::Restarted { file } => format!(
                "{file}: what was kept of an earlier download does not belong to it: fetching it anew"
            ),
            Self::Waiting { file, lock } => format!(
                "{file}: another process fetches it: waiting for {}",
                lock.display()
            ),
            Self::Retrying { error, wait } => {
                format!(
                    "{error}; trying again in {:.0} s",
                    wait.as_secs_f64().ceil()
                )
            }
        })
    }
}

/// Hears how a fetch goes on. Called from several threads; must not block.
pub type Progress<'a> = &'a (dyn Fn(Event<'_>) + Sync);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_all_the_time_is_not_said() {
        let at = RepoRef::new("org/tiny", "main").unwrap();
        let plan = |files, missing| Event::Plan {
            at: &at,
            commit: "0123",
            files,
            bytes: 2_000_000,
            missing,
        };
        let words = |event: Event<'_>| event.words();
        let said = |event| words(event).unwrap();
        assert!(said(plan(1, 0)).ends_with(" (0123): 1 file, 2.00 MB, all in the cache"));
        assert!(said(plan(2, 500_000)).ends_with(" (0123): 2 files, 2.00 MB, 500.00 kB to fetch"));
        let started = |present| Event::Started {
            file: "a",
            size: 2_000_000,
            present,
        };
        assert_eq!(said(started(500_000)), "a: goes on at 500.00 kB of 2.00 MB");
        assert_eq!(words(started(0)), None);
        assert_eq!(
            words(Event::Received {
                file: "a",
                bytes: 1
            }),
            None
        );
        assert_eq!(words(Event::Finished { file: "a" }), None);
    }
}
