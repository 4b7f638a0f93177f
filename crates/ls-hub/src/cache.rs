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

use ls_files::{FileError, Result, ShardIndex, exists, is_folder, optional, read_text};

use crate::address::RepoKind;
use crate::files::{self, CONFIG, Files, SINGLE, TOKENIZERS, WEIGHTS};
use crate::repo::{RepoRef, is_commit, is_repo_id};

/// The model whose snapshot a folder is, wherever its cache lies: `org/name` of
/// `models--org--name/snapshots/<commit>`.
pub fn model_of_snapshot(folder: &Path) -> Option<String> {
    let above = folder.parent()?;
    if above.file_name()? != "snapshots" {
        return None;
    }
    let repo = above.parent()?.file_name()?.to_str()?;
    let (org, name) = repo.strip_prefix("models--")?.split_once("--")?;
    let repo = format!("{org}/{name}");
    is_repo_id(&repo).then_some(repo)
}

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
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn commit(&self, kind: RepoKind, at: &RepoRef) -> Result<Option<String>> {
        if at.is_pinned() {
            return Ok(Some(at.revision.clone()));
        }
        let path = self.repo_dir(kind, &at.repo).join("refs");
        let commit = optional(read_text(path.join(&at.revision)))?;
        let commit = commit.map(|commit| commit.trim().to_string());
        Ok(commit.filter(|commit| is_commit(commit)))
    }

    /// The snapshot folder, if all `files` are in it. For [`Files::Data`], whose names only the Hub
    /// knows, one is enough.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn find(&self, kind: RepoKind, at: &RepoRef, files: &Files) -> Result<Option<PathBuf>> {
        Ok(self.look_up(kind, at, files)?.ok())
    }

    /// As [`find`](Self::find), but says which files are missing: `everything` if there is no
    /// snapshot.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub(crate) fn look_up(&self, kind: RepoKind, at: &RepoRef, files: &Files) -> Result<Found> {
        let repo_dir = self.repo_dir(kind, &at.repo);
        let everything = || Ok(Err(vec!["everything".to_string()]));
        let Some(commit) = self.commit(kind, at)? else {
            return everything();
        };
        let snapshot = repo_dir.join("snapshots").join(commit);
        if !is_folder(&snapshot)? {
            return everything();
        }
        let missing: Vec<String> = match files {
            Files::Weights => missing_of_model(&snapshot)?,
            Files::Named(names) => {
                let mut missing = Vec::new();
                for name in names {
                    // A link whose blob is gone does not exist.
                    if !exists(snapshot.join(name))? {
                        missing.push(name.clone());
                    }
                }
                missing
            }
            Files::Data if has_data(&snapshot)? => Vec::new(),
            Files::Data => vec!["every data file".into()],
        };
        Ok(if missing.is_empty() {
            Ok(snapshot)
        } else {
            Err(missing)
        })
    }
}

/// A snapshot, or the names of what is missing.
pub(crate) type Found = Result<PathBuf, Vec<String>>;

/// The name of a repository's folder in the cache, and of its locks' folder.
fn repo_folder(kind: RepoKind, repo: &str) -> String {
    format!("{}--{}", kind.plural(), repo.replace('/', "--"))
}

fn missing_of_model(snapshot: &Path) -> Result<Vec<String>> {
    let has = |name: &str| exists(snapshot.join(name));
    let mut missing = Vec::new();
    if !has(CONFIG)? {
        missing.push(CONFIG.to_string());
    }
    let mut tokenizer = false;
    for name in TOKENIZERS {
        tokenizer |= has(name)?;
    }
    if !tokenizer {
        missing.push(TOKENIZERS[0].to_string());
    }
    missing.extend(missing_weights(snapshot)?);
    Ok(missing)
}

fn missing_weights(snapshot: &Path) -> Result<Vec<String>> {
    let has = |name: &str| exists(snapshot.join(name));
    for (single, index) in WEIGHTS {
        if has(single)? {
            return Ok(Vec::new());
        }
        match optional(ShardIndex::read(snapshot.join(index))) {
            Ok(Some(index)) => {
                let mut missing = Vec::new();
                for shard in index.shards {
                    if !has(&shard)? {
                        missing.push(shard);
                    }
                }
                return Ok(missing);
            }
            Ok(None) => {}
            Err(error @ FileError::Read { .. }) => return Err(error),
            // A file that cannot be understood is as good as none.
            Err(_) => return Ok(vec![index.to_string()]),
        }
    }
    Ok(vec![SINGLE.to_string()])
}

/// Whether a snapshot has at least one file of a data set.
fn has_data(snapshot: &Path) -> Result<bool> {
    let mut open = vec![snapshot.to_path_buf()];
    let mut seen = BTreeSet::new();
    while let Some(dir) = open.pop() {
        let reading = FileError::reading(&dir);
        for entry in std::fs::read_dir(&dir).map_err(&reading)? {
            let entry = entry.map_err(&reading)?;
            let path = entry.path();
            if is_folder(&path)? {
                // Links may go round in circles.
                if seen.insert(path.canonicalize().map_err(&reading)?) {
                    open.push(path);
                }
            } else if files::is_data(&entry.file_name().to_string_lossy()) && exists(&path)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::INDEX;

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

    fn look_up(cache: &Cache, at: &str) -> Found {
        let at = at.parse().unwrap();
        cache
            .look_up(RepoKind::Model, &at, &Files::Weights)
            .unwrap()
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
        let found = cache.find(RepoKind::Dataset, &at, &Files::Weights);
        assert_eq!(found.unwrap(), None);
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
    fn pickles_count_where_there_are_no_safetensors() {
        let beside = [("config.json", "{}"), ("tokenizer.json", "{}")];
        let [(single, index), (pickle, pickles)] = WEIGHTS;
        let with = |files: &[(&str, &str)]| cache(&[&beside[..], files].concat());
        let (_dir, whole) = with(&[(pickle, "x")]);
        assert!(look_up(&whole, "org/name").is_ok());
        let (_dir, parts) = with(&[(pickles, INDEXED), ("s-1.safetensors", "x")]);
        assert_eq!(
            look_up(&parts, "org/name").unwrap_err(),
            ["s-2.safetensors"]
        );
        let (_dir, both) = with(&[(pickle, "x"), (index, INDEXED)]);
        let expected = ["s-1.safetensors", "s-2.safetensors"];
        assert_eq!(look_up(&both, "org/name").unwrap_err(), expected);
        // An index that a larger model left behind.
        let (_dir, left) = with(&[(index, INDEXED), (single, "x")]);
        assert!(look_up(&left, "org/name").is_ok());
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
        let look_up = |files: &Files| cache.look_up(RepoKind::Model, &at, files).unwrap();
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
        assert_eq!(cache.commit(RepoKind::Model, &at).unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_looked_at_is_not_said_to_be_missing() {
        let model = [
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            (SINGLE, "x"),
        ];
        let at: RepoRef = "org/name".parse().unwrap();
        for name in ["snapshots/{}/tokenizer.json", "snapshots/{}", "refs/main"] {
            let (dir, cache) = cache(&model);
            let repo = dir.path().join("models--org--name");
            let path = repo.join(name.replace("{}", COMMIT));
            std::fs::rename(&path, repo.join("away")).unwrap();
            std::os::unix::fs::symlink(&path, &path).unwrap();
            let error = cache
                .find(RepoKind::Model, &at, &Files::Weights)
                .unwrap_err();
            assert!(error.to_string().contains("cannot read"), "{error}");
        }
    }
}
