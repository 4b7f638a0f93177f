//! Folders that a command makes: nothing is replaced but what is empty.

use std::path::{Path, PathBuf};

use ls_files::{FileError, behind_links, create_folder, exists, expect_replaceable, is_folder};

use crate::error::{Result, TrainError};

/// Sees, before there is any work to be lost, that a folder is not there yet, or is empty and can
/// be replaced. Gives the path to [`ls_files::replace_folder`]: absolute, and where a link leads;
/// `what` it is for.
///
/// # Errors
///
/// If it holds something, is a file or cannot be looked at; if it has no name of its own, as `/`
/// and `..`, is the working directory, or is there and cannot be renamed, as a mount point.
pub(crate) fn new_folder(folder: &Path, what: &'static str) -> Result<PathBuf> {
    let unusable = |reason: String| TrainError::NewFolder {
        path: folder.to_owned(),
        what,
        reason,
    };
    let absolute = std::path::absolute(folder).map_err(FileError::reading(folder))?;
    // Without a slash at its end, behind which there is no link.
    let out = behind_links(absolute.components().collect::<PathBuf>());
    let reason = "which cannot be replaced; name a new folder in it";
    if out.file_name().is_none() {
        return Err(unusable(format!(
            "its path does not end in a name, but in a folder {reason}"
        )));
    }
    if !exists(&out)? {
        return Ok(out);
    }
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
    if here.is_some() && std::fs::canonicalize(&out).ok() == here {
        return Err(unusable(format!("it is the working directory, {reason}")));
    }
    if !is_folder(&out)? {
        return Err(unusable("it is a file".into()));
    }
    let mut held = std::fs::read_dir(&out).map_err(FileError::reading(folder))?;
    if held.next().is_some() {
        return Err(unusable("it is not empty; name another".into()));
    }
    match expect_replaceable(&out) {
        Err(FileError::Write { source, .. }) => Err(unusable(format!(
            "it cannot be replaced by another ({source}): name a new folder in it"
        ))),
        replaceable => Ok(replaceable.map(|()| out)?),
    }
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
