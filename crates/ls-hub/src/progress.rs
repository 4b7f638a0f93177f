//! The events of a fetch, for whoever shows its progress.

use std::path::Path;
use std::time::Duration;

use crate::error::HubError;
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

/// Hears how a fetch goes on. Called from several threads; must not block.
pub type Progress<'a> = &'a (dyn Fn(Event<'_>) + Sync);
