//! Finds a model's folder, given a folder, a short name or a repository.

use std::path::{Path, PathBuf};

use ls_files::{is_folder, nearest};

use crate::address::RepoKind;
use crate::cache::Cache;
use crate::error::{HubError, Result};
use crate::files::Files;
use crate::models;
use crate::progress::Progress;
use crate::repo::RepoRef;
use crate::settings::Settings;

/// The folder of a model.
///
/// A folder that exists wins. Otherwise `org/name` or a short name, either with `@revision`, is
/// looked up in the cache that the environment names. What is missing there is fetched where
/// `download` says so: it hears how that goes on.
///
/// # Errors
/// A name that the Hub cannot have; a model that the cache does not hold, without `download` (the
/// message has the command that fetches it) or without the feature `hub`; whatever can go wrong in
/// fetching.
///
/// # Panics
/// With `download`, inside an asynchronous task: fetching blocks.
pub fn resolve_model(path_or_id: &Path, download: Option<Progress<'_>>) -> Result<PathBuf> {
    resolve_model_with(path_or_id, download, &Settings::from_env())
}

/// As [`resolve_model`], with settings that need not be those of the environment.
///
/// # Errors
/// As [`resolve_model`].
pub fn resolve_model_with(
    path_or_id: &Path,
    download: Option<Progress<'_>>,
    settings: &Settings,
) -> Result<PathBuf> {
    if is_folder(path_or_id)? {
        return Ok(path_or_id.into());
    }
    let text = path_or_id.to_str().unwrap_or_default();
    let at: RepoRef = match text.parse() {
        Err(HubError::NotARepo { .. }) => {
            let names = models::MODELS.iter().map(|model| model.name);
            return Err(HubError::NoSuchModel {
                path: path_or_id.into(),
                nearest: nearest(text, names),
            });
        }
        parsed => parsed?,
    };
    let command = at.fetch_command();
    resolve(
        RepoKind::Model,
        at,
        Files::Weights,
        command,
        download,
        settings,
    )
}

/// The snapshot folder of a repository with these files: from the cache, or fetched where
/// `download` hears of it. `command` is what the error names that fetches it.
///
/// # Errors
/// Files that are not in the cache; with `download` as fetching says, and a program without the
/// feature `hub`.
pub fn resolve(
    kind: RepoKind,
    at: RepoRef,
    files: Files,
    command: String,
    download: Option<Progress<'_>>,
    settings: &Settings,
) -> Result<PathBuf> {
    let cache = Cache::new(&settings.cache_dir);
    match cache.look_up(kind, &at, &files)? {
        Ok(snapshot) => Ok(snapshot),
        Err(missing) => match download {
            Some(progress) => fetched(kind, at, files, command, settings, progress),
            None => Err(HubError::NotCached {
                command,
                repo: at.repo,
                revision: at.revision,
                cache: settings.cache_dir.clone(),
                missing,
            }),
        },
    }
}

#[cfg(feature = "hub")]
fn fetched(
    kind: RepoKind,
    at: RepoRef,
    files: Files,
    _command: String,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<PathBuf> {
    let request = crate::fetch::FetchRequest { kind, at, files };
    let fetcher = crate::fetch::Fetcher::new(settings.clone());
    let fetched = fetcher.fetch(&request, progress)?;
    Ok(fetched.path)
}

#[cfg(not(feature = "hub"))]
fn fetched(
    _kind: RepoKind,
    at: RepoRef,
    _files: Files,
    command: String,
    _settings: &Settings,
    _progress: Progress<'_>,
) -> Result<PathBuf> {
    Err(HubError::NotBuiltIn {
        command,
        repo: at.repo,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cache: &Path) -> Settings {
        Settings {
            cache_dir: cache.into(),
            endpoint: "http://127.0.0.1:9".into(),
            token: None,
            offline: true,
        }
    }

    fn error(given: &str, download: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let unheard: Progress<'_> = &|_| ();
        let download = download.then_some(unheard);
        let resolved = resolve_model_with(Path::new(given), download, &settings(dir.path()));
        resolved.unwrap_err().to_string()
    }

    #[test]
    fn a_folder_wins_and_the_cache_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let resolve = |path: &Path| resolve_model_with(path, None, &settings).unwrap();
        assert_eq!(resolve(dir.path()), dir.path());

        let commit = "a".repeat(40);
        let repo = dir
            .path()
            .join("models--TinyLlama--TinyLlama-1.1B-intermediate-step-1431k-3T");
        let snapshot = repo.join("snapshots").join(&commit);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), &commit).unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::write(snapshot.join(name), "x").unwrap();
        }
        assert_eq!(resolve(Path::new("tinyllama-1.1b")), snapshot);
        let pinned = format!("TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T@{commit}");
        assert_eq!(resolve(Path::new(&pinned)), snapshot);
    }

    #[test]
    fn a_model_that_is_not_there_comes_with_the_command_that_fetches_it() {
        let message = error("llama-2-7b", false);
        assert!(
            message.starts_with("meta-llama/Llama-2-7b-hf: not in the cache "),
            "{message}"
        );
        assert!(
            message.contains("`cargo xtask fetch-weights llama-2-7b`"),
            "{message}"
        );
        // Not every command that looks for a model has the flag.
        assert!(!message.contains("--download"), "{message}");
        let message = error("org/name@v2", false);
        assert!(message.starts_with("org/name@v2: "), "{message}");
        assert!(
            message.contains("`cargo xtask fetch-weights org/name@v2`"),
            "{message}"
        );
    }

    #[test]
    fn what_can_be_neither_folder_nor_model_says_so() {
        let message = error("./models/llama", false);
        assert!(
            message.starts_with("./models/llama: no such folder"),
            "{message}"
        );
        let message = error("llama-2-7", true);
        assert!(message.contains("did you mean `llama-2-7b`?"), "{message}");
        let message = error("org/name@..", false);
        assert!(message.contains("`..` can be no branch"), "{message}");
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_downloading_says_how_to_build_it() {
        let message = error("llama-2-7b", true);
        assert!(message.contains("`--features hub`"), "{message}");
        assert!(
            message.contains("`cargo xtask fetch-weights llama-2-7b`"),
            "{message}"
        );
    }

    #[cfg(feature = "hub")]
    #[test]
    fn offline_nothing_is_downloaded() {
        let message = error("llama-2-7b", true);
        assert!(message.contains("HF_HUB_OFFLINE is set"), "{message}");
    }
}
