//! Folders: created, replaced and synced so that a kill or a power cut at any moment leaves a whole
//! one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{FileError, Result};
use crate::found::{exists, is_folder};

/// Creates a folder and those above it that are missing, and syncs the folders that they are in, so
/// that what is kept in it outlives a power cut. One that is there is left as it is.
///
/// # Errors
///
/// [`FileError::Write`].
pub fn create_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if path.as_os_str().is_empty() || fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let parent = parent_of(path);
    let mut created = fs::create_dir(path);
    if matches!(&created, Err(error) if error.kind() == io::ErrorKind::NotFound) && parent != path {
        create_folder(parent)?;
        created = fs::create_dir(path);
    }
    match created {
        Ok(()) => sync_folder(parent),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_folder(path)? => Ok(()),
        Err(error) => Err(FileError::writing(path)(error)),
    }
}

/// Writes to the disk which files a folder holds: what was created in it, renamed or removed.
///
/// # Errors
///
/// [`FileError::Write`], but not where the file system or the folder's permissions do not allow it:
/// then there is nothing to be done.
pub fn sync_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    // Elsewhere a folder is no file that can be opened.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(FileError::writing(path)(error))
        }
        _ => Ok(()),
    }
}

/// Replaces a folder by what `fill` writes into an empty one, at a single moment.
///
/// The new folder is filled beside it, under a hidden name, synced file by file, and then exchanged
/// with the old one, so that a folder of this name is there and whole at every moment. Where the
/// system cannot exchange two folders, they are renamed one after the other, and
/// [`standing_folder`] finds the old one between the two.
///
/// One process at a time may replace a folder. What an earlier one has left is removed.
///
/// # Errors
///
/// [`FileError::Write`] and whatever `fill` says; the old folder then stands, unless it was the
/// folder above that could not be synced.
pub fn replace_folder<E: From<FileError>>(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let (next, last) = (sibling(path, "next"), sibling(path, "last"));
    if !exists(path)? && exists(&last)? {
        fs::rename(&last, path).map_err(FileError::writing(path))?;
    }
    for leftover in [&next, &last] {
        remove_folder(leftover)?;
    }
    fs::create_dir(&next).map_err(FileError::writing(&next))?;
    let filled = fill(&next)
        .and_then(|()| Ok(sync_all(&next)?))
        .and_then(|()| Ok(swap(path, &next, &last, exchange)?));
    if filled.is_err() {
        let _ = fs::remove_dir_all(&next);
    }
    filled
}

/// Sees that [`replace_folder`] could put another in the place of this folder, by renaming it as
/// that does, and back: a mount point cannot be renamed, nor what is in a folder where nothing may
/// be written.
///
/// # Errors
///
/// [`FileError::Write`] with what the system says.
pub fn expect_replaceable(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let last = sibling(path, "last");
    // What a stop has left there is removed by what replaces the folder.
    remove_folder(&last)?;
    fs::rename(path, &last)
        .and_then(|()| fs::rename(&last, path))
        .map_err(FileError::writing(path))
}

/// Where the folder is that [`replace_folder`] replaces: `path`, or, where a stop came between two
/// renames, beside it. None if there is none yet.
///
/// # Errors
///
/// [`FileError::Read`].
pub fn standing_folder(path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    let path = path.as_ref().to_path_buf();
    let last = sibling(&path, "last");
    // The third, because the new one may come while the old one is looked for.
    for place in [&path, &last, &path] {
        if exists(place)? {
            return Ok(Some(place.clone()));
        }
    }
    Ok(None)
}

/// Puts `next` in the place of `path`.
fn swap(
    path: &Path,
    next: &Path,
    last: &Path,
    exchange: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<()> {
    let writing = FileError::writing(path);
    let old = if !exists(path)? {
        fs::rename(next, path).map_err(writing)?;
        None
    } else if exchange(next, path).is_ok() {
        Some(next)
    } else {
        // Not every file system can, and what else is wrong the renames will say.
        fs::rename(path, last).map_err(&writing)?;
        if let Err(error) = fs::rename(next, path) {
            let _ = fs::rename(last, path);
            return Err(writing(error));
        }
        Some(last)
    };
    sync_folder(parent_of(path))?;
    if let Some(old) = old {
        // The new folder stands. If the old one cannot be removed, the next replacement does it.
        let _ = fs::remove_dir_all(old);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::writing(path)(error))
        }
        _ => Ok(()),
    }
}

/// Syncs a folder and everything in it.
fn sync_all(path: &Path) -> Result<()> {
    let reading = FileError::reading(path);
    for entry in fs::read_dir(path).map_err(&reading)? {
        let entry = entry.map_err(&reading)?;
        let kind = entry.file_type().map_err(&reading)?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            sync_file(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// Writes to the disk what was written to a file.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    let mut options = File::options();
    // Windows syncs for writing only.
    options.read(true).write(cfg!(windows));
    let file = options.open(path).map_err(FileError::writing(path))?;
    file.sync_all().map_err(FileError::writing(path))
}

/// The folder that a path is in; `.` for a name alone.
pub fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The hidden name beside a folder: `.NAME.SUFFIX`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fill(text: &str) -> impl FnOnce(&Path) -> Result<()> {
        move |dir| {
            fs::create_dir(dir.join("below")).unwrap();
            crate::write_atomic(dir.join("below/a"), text)?;
            crate::write_atomic(dir.join("b"), text)
        }
    }

    fn text(dir: &Path) -> String {
        let [a, b] = ["below/a", "b"].map(|name| fs::read_to_string(dir.join(name)).unwrap());
        assert_eq!(a, b);
        a
    }

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_folder_is_replaced_and_no_rubbish_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best");
        assert_eq!(standing_folder(&best).unwrap(), None);
        for round in ["first", "second", "third"] {
            replace_folder(&best, fill(round)).unwrap();
            assert_eq!((text(&best).as_str(), count(dir.path())), (round, 1));
            assert_eq!(standing_folder(&best).unwrap(), Some(best.clone()));
        }
        let error = replace_folder(&best, |dir| {
            fill("half")(dir).unwrap();
            Err::<(), _>(FileError::NotFound { path: dir.into() })
        });
        assert!(error.is_err());
        assert_eq!((text(&best).as_str(), count(dir.path())), ("third", 1));
    }

    #[test]
    fn without_an_exchange_it_is_two_renames() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best");
        let (next, last) = (sibling(&best, "next"), sibling(&best, "last"));
        replace_folder(&best, fill("old")).unwrap();
        fs::create_dir(&next).unwrap();
        fill("new")(&next).unwrap();
        let never = |_: &Path, _: &Path| Err(io::ErrorKind::InvalidInput.into());
        swap(&best, &next, &last, never).unwrap();
        assert_eq!((text(&best).as_str(), count(dir.path())), ("new", 1));
    }

    #[test]
    fn a_stop_at_any_moment_leaves_a_whole_folder_that_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best");
        let (next, last) = (sibling(&best, "next"), sibling(&best, "last"));
        // Between the two renames.
        replace_folder(&last, fill("old")).unwrap();
        replace_folder(&next, fill("new")).unwrap();
        assert_eq!(text(&standing_folder(&best).unwrap().unwrap()), "old");
        // As the new folder is filled anew: what stood is still found if that stops too.
        let error = replace_folder(&best, |_| {
            assert_eq!(text(&standing_folder(&best).unwrap().unwrap()), "old");
            Err::<(), _>(FileError::NotFound { path: best.clone() })
        });
        assert!(error.is_err());
        assert_eq!((text(&best).as_str(), count(dir.path())), ("old", 1));
        // As the old folder is removed, after the exchange or the renames.
        for old in [&next, &last] {
            fs::create_dir(old).unwrap();
            fs::write(old.join("b"), "a part of it").unwrap();
            assert_eq!(text(&standing_folder(&best).unwrap().unwrap()), "old");
        }
        replace_folder(&best, fill("new")).unwrap();
        assert_eq!((text(&best).as_str(), count(dir.path())), ("new", 1));
    }

    /// A mount point needs a test of its own (`tests/cli/convert.rs`).
    #[test]
    fn what_cannot_be_renamed_is_not_replaceable() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        replace_folder(&folder, fill("old")).unwrap();
        expect_replaceable(&folder).unwrap();
        assert_eq!((text(&folder).as_str(), count(dir.path())), ("old", 1));
        let error = expect_replaceable(dir.path().join("gone")).unwrap_err();
        assert!(error.to_string().contains("gone: cannot write"), "{error}");
        assert_eq!(count(dir.path()), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reader_always_finds_a_whole_folder() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best");
        replace_folder(&best, fill("0")).unwrap();
        // A file system that cannot exchange has a moment without one.
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let exchanges = exchange(&other, &best).and_then(|()| exchange(&other, &best));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..50 {
                    replace_folder(&best, fill(&round.to_string())).unwrap();
                }
            });
            while !writer.is_finished() {
                let found = File::open(&best).is_ok();
                assert!(found || exchanges.is_err());
                assert!(standing_folder(&best).unwrap().is_some());
            }
        });
    }

    #[test]
    fn folders_are_created_with_those_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_folder(&path).unwrap();
        create_folder(&path).unwrap();
        create_folder("").unwrap();
        assert!(path.is_dir());
        fs::write(path.join("file"), "").unwrap();
        for taken in ["file", "file/below"] {
            let taken = path.join(taken);
            let error = create_folder(&taken).unwrap_err().to_string();
            assert!(error.contains("file"), "{error}");
        }
    }
}
