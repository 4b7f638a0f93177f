//! A file that is arriving: its bytes on disk, and their hash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ls_files::{FileError, hex, sync_folder};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::Result;

/// The content that a file must have, which also is the name of its blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// SHA-256 of a file that git keeps elsewhere (LFS, Xet), in hexadecimal.
    Sha256(String),
    /// Git's own id of a file: SHA-1 of `blob`, its length and its bytes.
    Git(String),
}

impl Content {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Sha256(id) | Self::Git(id) => id,
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git SHA-1",
        }
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha1(Sha1),
}

impl Hasher {
    fn new(content: &Content, size: u64) -> Self {
        match content {
            Content::Sha256(_) => Self::Sha256(Sha256::new()),
            Content::Git(_) => Self::Sha1(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// The beginning of a file: `<blob>.incomplete`.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    content: Content,
    hasher: Hasher,
    size: u64,
    len: u64,
    /// Whether it was brought by more than one request.
    continued: bool,
}

impl Part {
    /// Opens what is there, or begins. What is there is read, for its hash.
    pub(super) fn open(path: PathBuf, content: &Content, size: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(FileError::writing(&path))?;
        let mut part = Self {
            hasher: Hasher::new(content, size),
            content: content.clone(),
            path,
            file,
            size,
            len: 0,
            continued: false,
        };
        part.read_existing()?;
        Ok(part)
    }

    fn read_existing(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = match self.file.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(FileError::reading(&self.path)(source).into());
                }
            };
            if count == 0 {
                return Ok(());
            }
            if self.len + count as u64 > self.size {
                return self.restart();
            }
            self.hasher.update(&buffer[..count]);
            self.len += count as u64;
        }
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_complete(&self) -> bool {
        self.len == self.size
    }

    /// Bytes that are there as another request begins.
    pub(super) fn begin_attempt(&mut self) -> u64 {
        self.continued |= self.len > 0;
        self.len
    }

    /// Whether it was brought by more than one request, so that a wrong hash may come from how they
    /// were put together.
    pub(super) fn is_continued(&self) -> bool {
        self.continued
    }

    /// Appends bytes, which must not be more than are missing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(FileError::writing(&self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<()> {
        // A new file instead of a shorter one: where locks do not work, another process may be
        // writing to the old one.
        std::fs::remove_file(&self.path).map_err(FileError::writing(&self.path))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        self.file = options
            .open(&self.path)
            .map_err(FileError::writing(&self.path))?;
        self.hasher = Hasher::new(&self.content, self.size);
        self.len = 0;
        self.continued = false;
        Ok(())
    }

    /// Compares the hash of a complete part with what it must be, and says what it is if that is
    /// something else.
    pub(super) fn check(&mut self) -> std::result::Result<(), String> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(&self.content, self.size));
        let found = hasher.finish();
        if found == self.content.id() {
            Ok(())
        } else {
            Err(found)
        }
    }

    /// Moves a checked part to its place.
    pub(super) fn finish(self, blob: &Path) -> Result<()> {
        // Blobs are later known by their size alone: none may be there whose bytes are not.
        self.file
            .sync_data()
            .map_err(FileError::writing(&self.path))?;
        std::fs::rename(&self.path, blob).map_err(FileError::writing(blob))?;
        Ok(sync_folder(blob.parent().unwrap_or(blob))?)
    }

    /// Deletes a part that is of no use.
    pub(super) fn delete(self) -> Result<()> {
        Ok(std::fs::remove_file(&self.path).map_err(FileError::writing(&self.path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as `git hash-object` and `sha256sum` give them for `hello\n`.
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    fn contents() -> [Content; 2] {
        [Content::Git(GIT.into()), Content::Sha256(SHA256.into())]
    }

    #[test]
    fn a_part_is_hashed_across_openings() {
        for content in contents() {
            let dir = tempfile::tempdir().unwrap();
            let (path, blob) = (dir.path().join("p.incomplete"), dir.path().join("p"));
            let mut part = Part::open(path.clone(), &content, 6).unwrap();
            part.write(b"hel").unwrap();
            assert!(!part.is_continued() && !part.is_complete());
            drop(part);
            let mut part = Part::open(path.clone(), &content, 6).unwrap();
            assert_eq!(part.begin_attempt(), 3);
            assert!(part.is_continued());
            part.write(b"lo\n").unwrap();
            assert!(part.is_complete());
            part.check().unwrap();
            part.finish(&blob).unwrap();
            assert_eq!(std::fs::read(blob).unwrap(), b"hello\n");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_wrong_hash_is_seen_and_a_restart_forgets_it() {
        for content in contents() {
            let dir = tempfile::tempdir().unwrap();
            let mut part = Part::open(dir.path().join("p"), &content, 6).unwrap();
            part.write(b"hullo\n").unwrap();
            assert_ne!(part.check().unwrap_err(), content.id());
            part.restart().unwrap();
            assert_eq!(part.len(), 0);
            part.write(b"hello\n").unwrap();
            part.check().unwrap();
        }
    }

    #[test]
    fn a_part_that_is_too_long_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, b"much too long").unwrap();
        let part = Part::open(path.clone(), &contents()[0], 6).unwrap();
        assert_eq!(part.len(), 0);
        assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
    }

    #[test]
    fn an_empty_file_is_complete_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Content::Git("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".into());
        let mut part = Part::open(dir.path().join("p"), &empty, 0).unwrap();
        assert!(part.is_complete());
        part.check().unwrap();
    }
}
