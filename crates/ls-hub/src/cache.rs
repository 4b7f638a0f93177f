//! The cache that Python's huggingface_hub keeps: where a snapshot is, and whether it is complete.
//!
//! ```text
//! <cache>/models--org--name/blobs/<hash>                    a file, called by its content
//! <cache>/models--org--name/snapshots/<commit>/<path>       a link to it
//! <cache>/models--org--name/refs/<revision>                 the commit of a branch or tag
//! <cache>/.locks/models--org--name/<hash>.lock              held while a blob is fetched
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ls_files::{ShardIndex, optional};

use crate::address::RepoKind;
use crate::files::{self, CONFIG, Files, INDEX, SINGLE, TOKENIZERS};
use crate::repo::{RepoRef, is_commit};

/// A cache folder. Looking something up needs no network and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which need not exist; [`Settings::cache_dir`](crate::Settings) says
    /// which one is meant.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder of the cache.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of a repository: `models--org--name`.
    pub fn repo_dir(&self, kind: RepoKind, repo: &str) -> PathBuf {
        self.dir.join(repo_folder(kind, repo))
    }

    /// The folder of the locks of a repository's blobs.
    #[cfg(feature = "hub")]
    pub(crate) fn locks_dir(&self, kind: RepoKind, repo: &str) -> PathBuf {
        self.dir.join(".locks").join(repo_folder(kind, repo))
    }

    /// The commit that a revision stood for when it was last fetched.
    pub fn commit(&self, kind: RepoKind, at: &RepoRef) -> Option<String> {
        if at.is_pinned() {
            return Some(at.revision.clone());
        }
        let path = self.repo_dir(kind, &at.repo).join("refs");
        let commit = std::fs::read_to_string(path.join(&at.revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// The snapshot folder, if all `files` are in it. For [`Files::Data`], whose names only the Hub
    /// knows, one is enough.
    pub fn find(&self, kind: RepoKind, at: &RepoRef, files: &Files) -> Option<PathBuf> {
        self.look_up(kind, at, files).ok()
    }

    /// As [`find`](Self::find), but says which files are missing: `everything` if there is no
    /// snapshot.
    ///
    /// # Errors
    /// The names of the files that are missing.
    pub(crate) fn look_up(
        &self,
        kind: RepoKind,
        at: &RepoRef,
        files: &Files,
    ) -> Result<PathBuf, Vec<String>> {
        let repo_dir = self.repo_dir(kind, &at.repo);
        let snapshot = self
            .commit(kind, at)
            .map(|commit| repo_dir.join("snapshots").join(commit))
            .filter(|snapshot| snapshot.is_dir())
            .ok_or_else(|| vec!["everything".to_string()])?;
        // A link whose blob is gone does not exist.
        let lacks = |name: &str| !snapshot.join(name).exists();
        let missing: Vec<String> = match files {
            Files::Weights => missing_of_model(&snapshot),
            Files::Named(names) => names.iter().filter(|name| lacks(name)).cloned().collect(),
            Files::Data if has_data(&snapshot) => Vec::new(),
            Files::Data => vec!["every data file".into()],
        };
        if missing.is_empty() {
            Ok(snapshot)
        } else {
            Err(missing)
        }
    }
}

/// The name of a repository's folder in the cache, and of its locks' folder.
fn repo_folder(kind: RepoKind, repo: &str) -> String {
    format!("{}--{}", kind.plural(), repo.replace('/', "--"))
}

fn missing_of_model(snapshot: &Path) -> Vec<String> {
    let has = |name: &str| snapshot.join(name).exists();
    let mut missing = Vec::new();
    if !has(CONFIG) {
        missing.push(CONFIG.to_string());
    }
    if !TOKENIZERS.into_iter().any(has) {
        missing.push(TOKENIZERS[0].to_string());
    }
    match optional(ShardIndex::read(snapshot.join(INDEX))) {
        Ok(Some(index)) => missing.extend(index.shards.into_iter().filter(|shard| !has(shard))),
        Ok(None) if has(SINGLE) => {}
        Ok(None) => missing.push(SINGLE.to_string()),
        // A file that cannot be understood is as good as none.
        Err(_) => missing.push(INDEX.to_string()),
    }
    missing
}

/// Whether a snapshot has at least one file of a data set.
fn has_data(snapshot: &Path) -> bool {
    let mut open = vec![snapshot.to_path_buf()];
    let mut seen = BTreeSet::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                // Links may go round in circles.
                if path.canonicalize().is_ok_and(|path| seen.insert(path)) {
                    open.push(path);
                }
            } else if path.exists() && files::is_data(&entry.file_name().to_string_lossy()) {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache with `files` in a snapshot of `org/name`, and a branch `main` that points to it.
    fn cache(files: &[(&str, &str)]) -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("models--org--name");
        let snapshot = repo.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(repo.join("refs/pr")).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        std::fs::write(repo.join("refs/pr/1"), format!("{COMMIT}\n")).unwrap();
        for (name, text) in files {
            std::fs::write(snapshot.join(name), text).unwrap();
        }
        let cache = Cache::new(dir.path());
        (dir, cache)
    }

    fn look_up(cache: &Cache, at: &str) -> Result<PathBuf, Vec<String>> {
        cache.look_up(RepoKind::Model, &at.parse().unwrap(), &Files::Weights)
    }

    const INDEXED: &str = r#"{"weight_map":{"a":"s-1.safetensors","b":"s-2.safetensors"}}"#;

    #[test]
    fn a_complete_model_is_found_by_branch_and_by_commit() {
        let (dir, cache) = cache(&[
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            (SINGLE, "x"),
        ]);
        let snapshot = dir.path().join("models--org--name/snapshots").join(COMMIT);
        for at in [
            "org/name",
            "org/name@main",
            "org/name@pr/1",
            &format!("org/name@{COMMIT}"),
        ] {
            assert_eq!(look_up(&cache, at).unwrap(), snapshot);
        }
        for at in [
            "org/name@v1",
            "org/other",
            &format!("org/name@{}", "f".repeat(40)),
        ] {
            assert_eq!(look_up(&cache, at).unwrap_err(), ["everything"], "{at}");
        }
        let at = "org/name".parse().unwrap();
        assert_eq!(cache.find(RepoKind::Dataset, &at, &Files::Weights), None);
    }

    #[test]
    fn a_model_lacking_a_shard_is_not_complete() {
        let tokenizer = ("tokenizer.model", "x");
        let (_dir, cache) = cache(&[
            ("config.json", "{}"),
            tokenizer,
            (INDEX, INDEXED),
            ("s-1.safetensors", "x"),
        ]);
        assert_eq!(
            look_up(&cache, "org/name").unwrap_err(),
            ["s-2.safetensors"]
        );
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let (_dir, empty) = cache(&[("README.md", "")]);
        let expected = ["config.json", "tokenizer.json", SINGLE];
        assert_eq!(look_up(&empty, "org/name").unwrap_err(), expected);
        let (_dir, broken) = cache(&[
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            (INDEX, "{"),
        ]);
        assert_eq!(look_up(&broken, "org/name").unwrap_err(), [INDEX]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_without_its_blob_counts_as_missing() {
        let (dir, cache) = cache(&[("config.json", "{}"), ("tokenizer.json", "{}")]);
        let snapshot = dir.path().join("models--org--name/snapshots").join(COMMIT);
        std::os::unix::fs::symlink("../../blobs/gone", snapshot.join(SINGLE)).unwrap();
        assert_eq!(look_up(&cache, "org/name").unwrap_err(), [SINGLE]);
    }

    #[test]
    fn named_and_data_files_are_looked_up() {
        let (_dir, cache) = cache(&[("train.csv", "a"), ("README.md", "b")]);
        let at: RepoRef = "org/name".parse().unwrap();
        let look_up = |files: &Files| cache.look_up(RepoKind::Model, &at, files);
        assert!(look_up(&Files::Named(vec!["train.csv".into()])).is_ok());
        let both = Files::Named(vec!["train.csv".into(), "test.csv".into()]);
        assert_eq!(look_up(&both).unwrap_err(), ["test.csv"]);
        assert!(look_up(&Files::Data).is_ok());
    }

    #[test]
    fn a_ref_that_holds_no_commit_is_none() {
        let (dir, cache) = cache(&[]);
        std::fs::write(dir.path().join("models--org--name/refs/main"), "../../etc").unwrap();
        let at: RepoRef = "org/name".parse().unwrap();
        assert_eq!(cache.commit(RepoKind::Model, &at), None);
    }
}
