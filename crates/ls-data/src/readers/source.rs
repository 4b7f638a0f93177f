//! Where rows come from: a file, or any reader.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ls_files::FileError;

use crate::error::Result;

/// Bytes of rows. No reader of rows is generic over them, so that each is compiled once.
pub(super) type Source<'a> = BufReader<Box<dyn Read + Send + 'a>>;

pub(super) fn source<'a>(reader: impl Read + Send + 'a) -> Source<'a> {
    BufReader::new(Box::new(reader))
}

pub(super) fn open(path: &Path) -> Result<File> {
    Ok(File::open(path).map_err(FileError::reading(path))?)
}
