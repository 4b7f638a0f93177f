//! Writes a file whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{FileError, Result};

/// Writes a file so that a reader, or a crash at any moment, sees the old content or the new one,
/// never a part.
///
/// # Errors
///
/// [`FileError::Write`]; the old file is then untouched.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref())
        .map_err(FileError::writing(&file.path))?;
    file.commit()
}

/// A file that is written piece by piece and takes its place when it is whole.
///
/// What is written goes, buffered, to a temporary file in the same folder. [`AtomicFile::commit`]
/// syncs it and renames it over the target; without that it is deleted.
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
    writer: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Begins a file that will be `path`.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`] if the folder does not exist or cannot be written in.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tmp-");
        // A temporary file is private by default and would stay so; the umask still applies.
        #[cfg(unix)]
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(mode);
        let temporary = builder
            .tempfile_in(folder(path))
            .map_err(FileError::writing(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            writer: BufWriter::with_capacity(1 << 16, temporary),
        })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// [`FileError::Write`]; an old file of that name is then untouched.
    pub fn commit(self) -> Result<()> {
        let Self { path, writer } = self;
        let commit = || -> io::Result<()> {
            let temporary = writer.into_inner().map_err(|error| error.into_error())?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map_err(|error| error.error)?;
            // Without this a crash may undo the rename. The file is in its place by now, so a
            // folder that cannot be opened or synced is no fault: some file systems sync no
            // folders.
            #[cfg(unix)]
            let _ = std::fs::File::open(folder(&path)).and_then(|folder| folder.sync_all());
            Ok(())
        };
        commit().map_err(FileError::writing(&path))
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

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole_and_no_rubbish_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        write_atomic(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
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
    }
}
