//! Resolves Hugging Face Hub names to folders: from the Hub's cache, or fetched with `--download`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_data::catalog::{self, DatasetSpec, HubSource};
use ls_files::{exists, is_file, is_folder};
use ls_hub::{Files, HubError, Progress, RepoKind, RepoRef, Settings};
use ls_train::config::{DataSettings, ModelSettings};

use crate::downloads::Downloads;
use crate::error::{UsageError, WithHint};

/// The folder of a model: itself, or the snapshot of a short name or `org/name` in the cache.
///
/// # Errors
///
/// If it is neither, or cannot be fetched. The loader refuses a file, and a path that does not look
/// like a Hub name.
pub fn model(path: &Path, download: bool) -> Result<PathBuf> {
    let name = path.to_str().unwrap_or_default();
    let named = ls_hub::looks_like_hub_id(name);
    if !(named || download) || is_folder(path)? || is_file(path)? {
        return Ok(path.into());
    }
    let resolved = downloading(download, |download| ls_hub::resolve_model(path, download));
    resolved.with_context(|| format!("{} is no folder here", path.display()))
}

/// The folder of the model of a configuration, which may be one that the adapter names that the run
/// begins from.
///
/// # Errors
///
/// As [`model`].
pub fn configured(settings: &ModelSettings, download: bool) -> Result<PathBuf> {
    let found = model(&settings.path, download).map_err(with_download);
    let Some(adapter) = &settings.adapter else {
        return found;
    };
    let of_adapter = || ls_train::config::base_of_adapter(adapter).ok().flatten();
    found.map_err(|error| match of_adapter() {
        Some(base) if base == settings.path => error.context(format!(
            "model.path, the base model of the adapter {}",
            adapter.display()
        )),
        _ => error,
    })
}

/// The way out that commands with `--download` have besides, where this build can fetch.
fn with_download(error: anyhow::Error) -> anyhow::Error {
    let is_missing = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(HubError::NotCached { .. }))
    };
    if !cfg!(feature = "hub") || !error.chain().any(is_missing) {
        return error;
    }
    let hint = "or let this command fetch it: --download".into();
    WithHint { error, hint }.into()
}

/// The folder of a model that was named for its tokenizer: as [`model`] finds it, and there.
///
/// # Errors
///
/// As [`model`]; if there is nothing at the path.
pub fn named_model(path: &Path) -> Result<PathBuf> {
    let found = model(path, false)?;
    if !exists(&found)? {
        let message = format!("--model {}: no such folder", path.display());
        return Err(UsageError::new(message).into());
    }
    Ok(found)
}

/// Fills in the folder of a known data set: `datasets/NAME` if it exists, else the cache's, else,
/// with `--download`, what the Hub has.
///
/// # Errors
///
/// If it cannot be fetched. The reader reports a data set that is nowhere, and what it looked for.
pub fn data(data: &mut DataSettings, download: bool) -> Result<()> {
    let Some(known) = data.known() else {
        return Ok(());
    };
    if data.dir.is_some() || is_folder(known.default_dir())? {
        return Ok(());
    }
    let settings = Settings::from_env();
    let language = data.language.as_deref();
    for source in &known.hub {
        match resolve(&known, source, language, false, &settings) {
            Ok(dir) => {
                data.dir = Some(dir);
                return Ok(());
            }
            // A cache that cannot be read may hold it.
            Err(error) if matches!(error.downcast_ref(), Some(HubError::File(_))) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    match known.hub.first() {
        Some(source) if download => {
            data.dir = Some(resolve(&known, source, language, true, &settings)?);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn resolve(
    known: &DatasetSpec,
    source: &HubSource,
    language: Option<&str>,
    download: bool,
    settings: &Settings,
) -> Result<PathBuf> {
    let at = RepoRef::new(&source.repo, &source.revision)?;
    let files = Files::Named(known.hub_files(source, language.as_slice())?);
    // A set of one's own has no name that the downloader knows; its repository has.
    let name = match catalog::find(&known.name) {
        Some(_) => known.name.clone(),
        None => format!("{}@{}", source.repo, source.revision),
    };
    let command = format!("cargo xtask fetch-data {name}");
    let resolved = downloading(download, |download| {
        ls_hub::resolve(RepoKind::Dataset, at, files, command, download, settings)
    });
    Ok(resolved?)
}

/// Resolves, and shows the progress of what is fetched where `download` says that it may be.
fn downloading<T>(download: bool, resolve: impl FnOnce(Option<Progress<'_>>) -> T) -> T {
    let downloads = Downloads::default();
    resolve(download.then_some(&|event| downloads.hear(&event)))
}
