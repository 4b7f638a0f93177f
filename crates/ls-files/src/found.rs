//! Whether something is there: yes, no, or the system does not say.
//!
//! `Path::exists` and its kin answer "no" to every error, so that a file that cannot be looked at
//! is said to be missing. Where the answer decides what is said or done, it is asked for here.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::error::{FileError, Result};

/// Whether a file or folder of this name is there. A link whose target is missing is not.
///
/// # Errors
///
/// [`FileError::Read`] where the system does not say.
///
/// ```
/// assert!(!ls_files::exists("none").unwrap());
/// // A file has nothing below it that could be there or not.
/// # let dir = tempfile::tempdir().unwrap();
/// # let file = dir.path().join("file");
/// # std::fs::write(&file, "").unwrap();
/// # #[cfg(unix)]
/// assert!(ls_files::exists(file.join("below")).is_err());
/// ```
pub fn exists(path: impl AsRef<Path>) -> Result<bool> {
    Ok(metadata(path.as_ref())?.is_some())
}

/// Whether a regular file of this name is there.
///
/// # Errors
///
/// As [`exists`].
pub fn is_file(path: impl AsRef<Path>) -> Result<bool> {
    Ok(metadata(path.as_ref())?.is_some_and(|found| found.is_file()))
}

/// Whether a folder of this name is there.
///
/// # Errors
///
/// As [`exists`].
pub fn is_folder(path: impl AsRef<Path>) -> Result<bool> {
    Ok(metadata(path.as_ref())?.is_some_and(|found| found.is_dir()))
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(FileError::reading(path)),
    }
}

/// What changes when a file does: its size, its times and which file it is. As long as it is the
/// same, so are the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device, inode and the time of the last change of either content or name, on systems that
    /// have them.
    unix: Option<(u64, u64, i64, i64)>,
}

impl FileStamp {
    /// The stamp of a file as it is now.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`], [`FileError::Read`].
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = fs::metadata(path).map_err(FileError::reading(path))?;
        #[cfg(unix)]
        let unix = {
            use std::os::unix::fs::MetadataExt as _;
            Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let unix = None;
        Ok(Self {
            size: found.len(),
            modified: found.modified().ok(),
            unix,
        })
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_say_is_an_error_that_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink(dir.path().join("none"), &dangling).unwrap();

        assert!(exists(&file).unwrap() && is_file(&file).unwrap() && !is_folder(&file).unwrap());
        assert!(is_folder(dir.path()).unwrap() && !is_file(dir.path()).unwrap());
        assert!(!exists(dir.path().join("none")).unwrap() && !exists(&dangling).unwrap());
        let long = dir.path().join("n".repeat(300));
        for (path, says) in [
            (file.join("below"), "Not a directory"),
            (long, "File name too long"),
            (circle, "symbolic links"),
        ] {
            for asked in [exists(&path), is_file(&path), is_folder(&path)] {
                let error = asked.unwrap_err();
                let FileError::Read {
                    path: named,
                    source,
                } = &error
                else {
                    panic!("{error}");
                };
                assert_eq!(named, &path);
                assert!(source.to_string().contains(says), "{source}");
            }
        }
    }

    #[test]
    fn a_stamp_changes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&path, "abc").unwrap();
        fs::write(&other, "abc").unwrap();
        let before = FileStamp::of(&path).unwrap();
        assert_eq!(before, FileStamp::of(&path).unwrap());
        // Of the same size, and with the old time: another file all the same.
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(written).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(before, FileStamp::of(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(FileStamp::of(&path).is_err());
    }
}
