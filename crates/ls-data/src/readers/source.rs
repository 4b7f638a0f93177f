//! Where rows come from: a file, or any reader, as UTF-8 without a byte order mark; and a look at
//! its beginning.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use ls_files::FileError;

use super::encoding::{TextEncoding, Undecodable, Utf8};
use crate::error::{DataError, Result};

/// Bytes of rows. No reader of rows is generic over them, so that each is compiled once.
pub(crate) type Source<'a> = BufReader<Box<dyn Read + Send + 'a>>;

pub(crate) fn source<'a>(
    reader: impl Read + Send + 'a,
    encoding: Option<TextEncoding>,
) -> Source<'a> {
    BufReader::new(Box::new(Utf8::new(reader, encoding)))
}

/// A file of a data set, which is read more than once: a pipe cannot be, and a device has no end.
pub(super) fn open(path: &Path) -> Result<File> {
    Ok(ls_files::open_regular(path)?.0)
}

/// Turns an error in reading a [`Source`] into one that knows the file, for `map_err`.
pub(super) fn reading(path: &Path) -> impl Fn(io::Error) -> DataError {
    |error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Undecodable { line, fault }) => DataError::Undecodable {
            path: path.to_path_buf(),
            line: *line,
            fault: fault.clone(),
        },
        None => FileError::reading(path)(error).into(),
    }
}

/// The bytes as UTF-8; `line` is the line in which they begin.
pub(super) fn utf8<'a>(bytes: &'a [u8], path: &Path, line: usize) -> Result<&'a str> {
    ls_files::utf8(bytes, path, line).map_err(|error| match error {
        FileError::NotUtf8 {
            path,
            line,
            column,
            byte,
        } => DataError::NotUtf8 {
            path,
            line,
            column,
            byte,
        },
        other => other.into(),
    })
}

/// Most bytes that are looked at before rows are read.
const MOST: usize = 1 << 16;

/// The beginning of a source.
pub(super) struct Peeked<'a> {
    pub(super) start: Vec<u8>,
    /// Whether that is all of it.
    pub(super) whole: bool,
    /// The source from its beginning on.
    pub(super) source: Source<'a>,
}

/// Looks at the lines of a source up to the one at which `enough` says so of all that was read and
/// of its last line. No more is waited for, so that rows which come one by one are read one by one.
/// A fault of reading comes where it stands.
pub(super) fn peek<'a>(
    mut source: Source<'a>,
    mut enough: impl FnMut(&[u8], &[u8]) -> bool,
) -> Peeked<'a> {
    let mut start = Vec::new();
    let mut whole = false;
    let mut fault = None;
    while start.len() < MOST {
        let begin = start.len();
        let most = (MOST - begin) as u64;
        match source.by_ref().take(most).read_until(b'\n', &mut start) {
            Ok(0) => {
                whole = true;
                break;
            }
            Ok(_) if enough(&start, &start[begin..]) => break,
            Ok(_) => {}
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    let begin = Cursor::new(start.clone()).chain(Fault(fault));
    Peeked {
        start,
        whole,
        source: BufReader::new(Box::new(begin.chain(source))),
    }
}

/// Fails once, if at all.
struct Fault(Option<io::Error>);

impl Read for Fault {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
