//! Writes a file whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{FileError, Result};
use crate::folders::{parent_of, sync_file, sync_folder};
use crate::permissions;
use crate::temporary::Temporary;

/// Writes a file so that a reader, a kill or a power cut at any moment leaves the old content or
/// the new one, never a part.
///
/// # Errors
///
/// [`FileError::Write`]; unless it was the folder that could not be synced, the old file is then
/// untouched.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref())
        .map_err(FileError::writing(&file.path))?;
    file.commit()
}

/// Writes what somebody asked for to a path of theirs: as [`write_atomic`] a file, behind a
/// symbolic link the one that it leads to. A pipe or a device is written to as it is, and a file
/// that is read-only is left alone, though its folder would let it be replaced.
///
/// # Errors
///
/// [`FileError::Write`], or [`FileError::NotRegular`] of a folder.
pub fn write_at(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let bytes = bytes.as_ref();
    let writing = || FileError::writing(path);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(FileError::NotRegular {
            path: path.to_path_buf(),
            found: "a folder",
        }),
        Ok(found) if !found.is_file() => {
            let written = File::options().write(true).open(path);
            let written = written.and_then(|mut file| file.write_all(bytes));
            written.map_err(writing())
        }
        Ok(found) if found.permissions().readonly() => {
            let kind = io::ErrorKind::PermissionDenied;
            Err(writing()(io::Error::new(kind, "the file is read-only")))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(writing()(error)),
        _ => write_atomic(behind_links(path), bytes),
    }
}

/// Where a path leads that is a link, maybe to what is not there yet: what is put there takes the
/// place of that, and the link stays.
pub fn behind_links(path: impl Into<PathBuf>) -> PathBuf {
    /// As many as Linux follows: links that lead in a circle lead nowhere.
    const MOST: usize = 40;
    let mut path = path.into();
    for _ in 0..MOST {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = parent_of(&path).join(target);
    }
    path
}

/// Moves a file that is written to the end to where it is kept, in the place of one that is there:
/// the file is synced, renamed, and then the folder is synced.
///
/// For a file that has a name of its own while it grows, so that it can be continued after a kill.
/// [`AtomicFile`] is for those that cannot.
///
/// # Errors
///
/// [`FileError::Write`].
pub fn put_in_place(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if let Ok(file) = File::open(from) {
        permissions::copy(&file, to, 0);
    }
    sync_file(from)?;
    fs::rename(from, to).map_err(FileError::writing(to))?;
    sync_folder(parent_of(to))
}

/// A file that is written piece by piece and takes its place when it is whole.
///
/// What is written goes, buffered, to a temporary file in the same folder. [`AtomicFile::commit`]
/// syncs it, renames it over the target and syncs the folder; without that it is deleted. What a
/// kill leaves of it, [`sweep`](crate::sweep) removes.
///
/// ```
/// use std::io::Write;
/// use ls_files::{AtomicFile, FileError};
///
/// # fn main() -> ls_files::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("lines.txt");
/// let mut file = AtomicFile::create(&path)?;
/// writeln!(file, "first").map_err(FileError::writing(&path))?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(ls_files::read_text(&path)?, "first\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    writer: BufWriter<Temporary>,
}

impl AtomicFile {
    /// Begins a file that will be `path`.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] if the folder does not exist or cannot be written in.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let temporary = Temporary::create_in(parent_of(path)).map_err(FileError::writing(path))?;
        permissions::copy(temporary.file(), path, 0);
        Ok(Self {
            path: path.to_path_buf(),
            writer: BufWriter::with_capacity(1 << 16, temporary),
        })
    }

    /// The file with what was written so far, for reading. It stays readable under whatever name
    /// the file takes, also under none.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`].
    pub fn reader(&mut self) -> Result<File> {
        self.writer
            .flush()
            .and_then(|()| self.writer.get_ref().file().try_clone())
            .map_err(FileError::writing(&self.path))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`]; unless it was the folder that could not be synced, an old file of that
    /// name is then untouched.
    pub fn commit(self) -> Result<()> {
        let Self { path, writer } = self;
        let commit = || -> io::Result<()> {
            let temporary = writer.into_inner().map_err(|error| error.into_error())?;
            temporary.persist(&path)
        };
        commit().map_err(FileError::writing(&path))?;
        // Without this a power cut may undo the rename.
        sync_folder(parent_of(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole_and_no_rubbish_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        write_atomic(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        let reader = file.reader().unwrap();
        let mut found = [0; 4];
        crate::read_exact_at(&reader, &mut found, 0).unwrap();
        assert_eq!((&found, fs::read(&path).unwrap()), (b"half", b"old".into()));
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_atomic(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/report.json");
        let error = write_atomic(&path, "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: cannot write", path.display())
        );
        // A folder is in the way.
        assert!(write_atomic(dir.path(), "x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_its_own_name_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let [part, path] = ["out.part", "out"].map(|name| dir.path().join(name));
        fs::write(&path, "old").unwrap();
        fs::write(&part, "new").unwrap();
        put_in_place(&part, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = put_in_place(&part, &path).unwrap_err().to_string();
        assert!(error.contains("out.part"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_was_asked_for_is_written_behind_links_and_into_pipes_and_no_read_only_file() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let [file, link, new, none, round, pipe] =
            ["file", "link", "new", "none", "round", "pipe"].map(|name| dir.path().join(name));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        symlink("none", &new).unwrap();
        symlink("round", &round).unwrap();
        for (path, at) in [(&link, &file), (&new, &none)] {
            write_at(path, "page").unwrap();
            assert!(fs::symlink_metadata(path).unwrap().is_symlink());
            assert_eq!(fs::read(at).unwrap(), b"page");
        }
        for path in [&round, &dir.path().to_path_buf()] {
            let error = write_at(path, "x").unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        assert!(fs::symlink_metadata(&round).unwrap().is_symlink());
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_at(&pipe, "page").unwrap();
        assert_eq!(reader.join().unwrap(), b"page");
        assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
        let mut readonly = fs::metadata(&file).unwrap().permissions();
        readonly.set_readonly(true);
        fs::set_permissions(&file, readonly).unwrap();
        for path in [&file, &link] {
            let error = write_at(path, "more").unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(source, "the file is read-only");
            assert_eq!(fs::read(&file).unwrap(), b"page");
        }
    }

    #[cfg(unix)]
    #[test]
    fn written_files_have_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let [ours, usual] = ["ours", "usual"].map(|name| dir.path().join(name));
        fs::write(&usual, b"x").unwrap();
        write_atomic(&ours, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&usual));
        // Those of the file that is replaced, where there is one.
        for wanted in [0o600, 0o444] {
            for path in [&ours, &usual] {
                fs::set_permissions(path, fs::Permissions::from_mode(wanted)).unwrap();
            }
            write_atomic(&ours, b"y").unwrap();
            assert_eq!(mode(&ours), mode(&usual));
            let part = dir.path().join("part");
            fs::write(&part, b"z").unwrap();
            put_in_place(&part, &ours).unwrap();
            assert_eq!(mode(&ours), mode(&usual));
        }
    }
}
