//! Folders that a command makes: nothing is replaced.

use std::path::{Path, PathBuf};

use ls_files::{FileError, create_folder, exists, is_folder};

use crate::error::{Result, TrainError};

/// Sees that a folder is not there yet or empty; `what` it is for.
///
/// # Errors
///
/// If it holds something, is a file or cannot be looked at.
pub(crate) fn expect_empty(folder: &Path, what: &'static str) -> Result<()> {
    if !exists(folder)? {
        return Ok(());
    }
    if !is_folder(folder)? {
        return Err(unusable(folder, what, "it is a file"));
    }
    let mut held = std::fs::read_dir(folder).map_err(FileError::reading(folder))?;
    if held.next().is_some() {
        return Err(unusable(folder, what, "it is not empty; name another"));
    }
    Ok(())
}

/// Sees that a folder can be put in the place of this one, and gives its absolute path; `what` it
/// is for.
///
/// # Errors
///
/// If it has no name of its own, as `/` and `..`, or is the working directory.
pub(crate) fn expect_replaceable(folder: &Path, what: &'static str) -> Result<PathBuf> {
    let absolute = std::path::absolute(folder).map_err(FileError::reading(folder))?;
    let reason = "which cannot be replaced; name a new folder in it";
    if absolute.file_name().is_none() {
        let reason = format!("its path does not end in a name, but in a folder {reason}");
        return Err(unusable(folder, what, &reason));
    }
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
    // What is not there yet is not where this program works.
    if here.is_some() && std::fs::canonicalize(&absolute).ok() == here {
        let reason = format!("it is the working directory, {reason}");
        return Err(unusable(folder, what, &reason));
    }
    Ok(absolute)
}

/// Creates the folder above, where it is missing.
///
/// # Errors
///
/// If it cannot be created.
pub(crate) fn create_above(folder: &Path) -> Result<()> {
    if let Some(above) = folder.parent().filter(|above| *above != Path::new("")) {
        create_folder(above)?;
    }
    Ok(())
}

fn unusable(path: &Path, what: &'static str, reason: &str) -> TrainError {
    TrainError::NewFolder {
        path: path.to_owned(),
        what,
        reason: reason.into(),
    }
}
