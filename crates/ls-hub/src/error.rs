//! The one error type of the crate: what was asked for, what was found, and the way out.

use std::path::PathBuf;
use std::time::Duration;

use ls_files::{FileError, did_you_mean};

use crate::address::{MAIN, RepoKind};

/// Result of this crate.
pub type Result<T, E = HubError> = std::result::Result<T, E>;

/// Everything that can be wrong with a repository, the cache or the way between them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither a short name nor `org/name`.
    #[error(
        "`{given}` is neither a short name nor `org/name`{}",
        did_you_mean(nearest)
    )]
    NotARepo {
        /// What was given.
        given: String,
        /// The most similar short name.
        nearest: Option<String>,
    },
    /// Neither a folder nor anything that the Hub could have.
    #[error("{}: no such folder, and no name of a model on the Hub either (a short name or `org/name`){}", path.display(), did_you_mean(nearest))]
    NoSuchModel {
        /// What was given.
        path: PathBuf,
        /// The most similar short name.
        nearest: Option<String>,
    },
    /// A revision that git cannot have.
    #[error("{repo}: `{given}` can be no branch, tag or commit")]
    NotARevision {
        /// Repository.
        repo: String,
        /// What was given.
        given: String,
    },
    /// A model that the cache does not hold.
    #[error("{repo}{}: not in the cache {}: {} missing; fetch it with `{command}`", at(revision), cache.display(), are(missing))]
    NotCached {
        /// Repository.
        repo: String,
        /// Revision.
        revision: String,
        /// Folder of the cache.
        cache: PathBuf,
        /// Files that are not there.
        missing: Vec<String>,
        /// Command that fetches them.
        command: String,
    },
    /// Something is to be fetched, but this program was built without the Hub.
    #[error(
        "{repo}: not in the cache, and this program was built without fetching: fetch it with `{command}`, or build with `--features hub`"
    )]
    NotBuiltIn {
        /// Repository.
        repo: String,
        /// Command that fetches it.
        command: String,
    },
    /// Something is to be fetched, but nothing may be asked of the network.
    #[error("{repo}{}: {} missing in the cache {}, and HF_HUB_OFFLINE is set: unset it, or bring the files there", at(revision), are(missing), cache.display())]
    Offline {
        /// Repository.
        repo: String,
        /// Revision.
        revision: String,
        /// Folder of the cache.
        cache: PathBuf,
        /// Files that are not there.
        missing: Vec<String>,
    },
    /// The address of the Hub is none.
    #[error("HF_ENDPOINT: `{endpoint}` is no address of a server: {message}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What the parser said.
        message: String,
    },
    /// The repository is gated, and access has not been granted.
    #[error("{repo}: gated: {}", gated(page, *has_token))]
    Gated {
        /// Repository.
        repo: String,
        /// Page on which its licence is accepted.
        page: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The token is not one that the Hub knows.
    #[error(
        "{repo}: the Hub does not take this token: make a new one at https://huggingface.co/settings/tokens, then set HF_TOKEN (or run `hf auth login`)"
    )]
    Token {
        /// Repository.
        repo: String,
    },
    /// The Hub refuses for another reason.
    #[error("{repo}: access refused: {message}")]
    Forbidden {
        /// Repository.
        repo: String,
        /// What the Hub said.
        message: String,
    },
    /// The repository does not exist, or whoever asks may not know that it does.
    #[error("{repo}: no such {} on the Hub, or a private one{}{}", repo_kind.name(), if *has_token { "" } else { " (no token was sent: set HF_TOKEN, or run `hf auth login`)" }, did_you_mean(nearest))]
    NoSuchRepo {
        /// Repository.
        repo: String,
        /// What was looked for.
        repo_kind: RepoKind,
        /// Whether a token was sent.
        has_token: bool,
        /// The most similar known name.
        nearest: Option<String>,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo}: no branch, tag or commit `{revision}`")]
    NoSuchRevision {
        /// Repository.
        repo: String,
        /// Revision.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{repo}: no file `{file}`{}", did_you_mean(nearest))]
    NoSuchFile {
        /// Repository.
        repo: String,
        /// File.
        file: String,
        /// The most similar file that it has.
        nearest: Option<String>,
    },
    /// The repository holds no weights that can be read here.
    #[error(
        "{repo}: no model.safetensors and no model.safetensors.index.json{}",
        instead(found)
    )]
    NoWeights {
        /// Repository.
        repo: String,
        /// Weights in other forms that it holds.
        found: Vec<String>,
    },
    /// The repository lacks something without which a model is of no use.
    #[error("{repo}: no {what}, so this is no model that can be trained here")]
    NotAModel {
        /// Repository.
        repo: String,
        /// What it lacks.
        what: &'static str,
    },
    /// A data set that the Hub does not have.
    #[error("{name}: not on the Hub; {page} says where it is")]
    NotOnHub {
        /// Data set.
        name: String,
        /// Where it is described.
        page: String,
    },
    /// A data set has no such language; the message names those it has.
    #[error("{0}")]
    NoSuchLanguage(String),
    /// A data set without a file in a form that can be read.
    #[error("{repo}: no parquet, JSON, CSV, TSV, CoNLL or text file")]
    NoData {
        /// Repository.
        repo: String,
    },
    /// The Hub asks for a pause that is too long to wait for.
    #[error("{what}: the Hub asks to wait for {} s before the next request: try again then{}", wait.as_secs(), if *has_token { "" } else { "; with a token the limits are higher" })]
    RateLimited {
        /// What was asked for.
        what: String,
        /// Pause that it asks for.
        wait: Duration,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The Hub answered with an error.
    #[error("{what}: the Hub answered {status}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Status {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What the Hub said.
        message: String,
    },
    /// The connection could not be made, or broke.
    #[error("{what}: {message}")]
    Network {
        /// What was asked for.
        what: String,
        /// What the system said.
        message: String,
    },
    /// Attempt after attempt failed without anything arriving.
    #[error(
        "{last}; gave up after {attempts} attempts in a row without progress. What has arrived is kept: the same command goes on from there"
    )]
    GaveUp {
        /// Attempts since anything arrived.
        attempts: u32,
        /// The last of them.
        last: Box<HubError>,
    },
    /// An answer of the Hub could not be understood.
    #[error("{what}: not what the Hub should answer: {message}")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// Not enough room for what is to be fetched.
    #[error("{}: {} to fetch, but only {} free: make room, or set HF_HUB_CACHE to a larger disk", path.display(), bytes(*needed), bytes(*free))]
    DiskFull {
        /// Folder of the cache.
        path: PathBuf,
        /// Bytes that are needed, with a margin.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file arrived with other content than the repository lists.
    #[error(
        "{repo}: {file}: found {algorithm} {found}, expected {expected}: what arrived was deleted; try again, and if it happens again, something between here and the Hub changes files"
    )]
    WrongHash {
        /// Repository.
        repo: String,
        /// File.
        file: String,
        /// `SHA-256`, or `git SHA-1` for files that git itself keeps.
        algorithm: &'static str,
        /// Hash of what arrived.
        found: String,
        /// Hash that the repository lists.
        expected: String,
    },
    /// A file of the cache that cannot be read, written or understood.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How many names a message lists.
const LISTED: usize = 5;

impl HubError {
    /// Whether what was asked for is at fault, rather than the network or the disk (exit code 2
    /// rather than 1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotARepo { .. }
                | Self::NoSuchModel { .. }
                | Self::NotARevision { .. }
                | Self::NotCached { .. }
                | Self::NotBuiltIn { .. }
                | Self::NotOnHub { .. }
                | Self::NoSuchLanguage(_)
        )
    }
}

/// The weights that a repository holds in place of safetensors, and what to do with them.
fn instead(found: &[String]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let any = |is: fn(&String) -> bool| found.iter().any(is);
    let way_out = if any(|name| name.starts_with("pytorch_model") && name.ends_with(".bin")) {
        "only safetensors are fetched: download the repository yourself and give its folder, where \
         pytorch_model.bin is read too"
    } else if any(|name| name.ends_with(".gguf")) {
        "only safetensors are fetched: download a GGUF file yourself and make a folder of it \
         (`ls-cli convert`)"
    } else {
        "ask its authors for safetensors, or convert it (load and save_pretrained in transformers) \
         and give the folder"
    };
    format!("; it holds {}: {way_out}", list(found))
}

fn list(names: &[String]) -> String {
    ls_files::listed(names, LISTED)
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", list(names))
}

fn at(revision: &str) -> String {
    if revision == MAIN {
        String::new()
    } else {
        format!("@{revision}")
    }
}

fn gated(page: &str, has_token: bool) -> String {
    if has_token {
        format!(
            "the account of this token has no access yet: accept the licence at {page} with the account that the token belongs to (some authors answer only after hours), and let the token read gated repositories"
        )
    } else {
        format!(
            "accept the licence at {page}, then set HF_TOKEN to a token of that account (or run `hf auth login`)"
        )
    }
}

/// A number of bytes as one reads it, in units of 1000: `13.48 GB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.2} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_units_of_a_thousand() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(13_476_925_163), "13.48 GB");
        assert!(bytes(u64::MAX).ends_with(" EB"));
    }

    #[test]
    fn what_is_missing_is_listed_up_to_a_limit() {
        let names: Vec<String> = (1..=7).map(|i| format!("f{i}")).collect();
        assert_eq!(are(&names[..1]), "f1 is");
        assert_eq!(are(&names), "f1, f2, f3, f4, f5 and 2 more are");
    }
}
