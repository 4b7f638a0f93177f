//! The files that a run has read, by which it sees whether they change under it.

use std::path::{Path, PathBuf};

use ls_files::{FileStamp, exists, optional, sha256_of_file};

use crate::error::{Result, TrainError};
use crate::sources::Source;

/// Files and what they held when they were first looked at.
#[derive(Debug, Default)]
pub(crate) struct ReadFiles(Vec<ReadFile>);

#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    stamp: FileStamp,
    sha256: String,
}

impl ReadFiles {
    /// Notes what a file holds, before it is read.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn add(&mut self, path: &Path) -> Result<()> {
        if self.0.iter().any(|file| file.path == path) {
            return Ok(());
        }
        // First: what changes after it shows.
        let stamp = FileStamp::of(path)?;
        self.0.push(ReadFile {
            path: path.to_path_buf(),
            stamp,
            sha256: sha256_of_file(path)?,
        });
        Ok(())
    }

    /// As [`ReadFiles::add`], if there is a file.
    ///
    /// # Errors
    ///
    /// If the system does not say so, or it cannot be read.
    pub(crate) fn add_optional(&mut self, path: &Path) -> Result<()> {
        if exists(path)? {
            self.add(path)?;
        }
        Ok(())
    }

    /// Sees that every file holds what it held. One that was touched or replaced by an equal one
    /// does.
    ///
    /// # Errors
    ///
    /// [`TrainError::FileChanged`]; a file that can no longer be read.
    pub(crate) fn check(&self) -> Result<()> {
        for ReadFile {
            path,
            stamp,
            sha256,
        } in &self.0
        {
            let same = match optional(FileStamp::of(path))? {
                Some(now) => now == *stamp || sha256_of_file(path)? == *sha256,
                None => false,
            };
            if !same {
                return Err(TrainError::FileChanged { path: path.clone() });
            }
        }
        Ok(())
    }

    /// The SHA-256 of a file that was added.
    pub(crate) fn sha256_of(&self, path: &Path) -> Option<String> {
        let file = self.0.iter().find(|file| file.path == path);
        file.map(|file| file.sha256.clone())
    }

    /// The file that was added with a SHA-256.
    pub(crate) fn path_of(&self, sha256: &str) -> Option<&Path> {
        let file = self.0.iter().find(|file| file.sha256 == sha256);
        file.map(|file| file.path.as_path())
    }

    /// Those of a split's files in their order, and of the names of labels beside each.
    pub(crate) fn of(&self, source: Option<&Source>) -> Vec<String> {
        let files = source.into_iter().flat_map(|source| &source.split.files);
        let files = files.flat_map(|file| [file.clone(), file.with_file_name("label.json")]);
        files.filter_map(|file| self.sha256_of(&file)).collect()
    }

    /// The SHA-256 of every file by its name, wherever it lies.
    pub(crate) fn sha256_by_name(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().filter_map(|file| {
            let name = file.path.file_name()?;
            Some((name.to_string_lossy().into_owned(), file.sha256.clone()))
        })
    }

    /// The SHA-256 of every file by its path, as it was read.
    pub(crate) fn sha256(&self) -> impl Iterator<Item = (String, String)> {
        let files = self.0.iter();
        files.map(|file| (file.path.display().to_string(), file.sha256.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_a_touch_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let [path, none] = ["train.csv", "none"].map(|name| dir.path().join(name));
        std::fs::write(&path, "a,b\n").unwrap();
        let mut files = ReadFiles::default();
        files.add(&path).unwrap();
        files.add(&path).unwrap();
        files.add_optional(&none).unwrap();
        assert!(files.add(&none).is_err());
        files.check().unwrap();
        let sha256 = ls_files::sha256(b"a,b\n");
        let expected = [(path.display().to_string(), sha256)];
        assert!(files.sha256().eq(expected));

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a,b\n").unwrap();
        files.check().unwrap();
        for change in [
            |path| std::fs::write(path, "a,c\n"),
            |path| std::fs::remove_file(path),
        ] {
            change(&path).unwrap();
            let error = files.check().unwrap_err();
            assert!(matches!(error, TrainError::FileChanged { .. }), "{error}");
        }
    }
}
