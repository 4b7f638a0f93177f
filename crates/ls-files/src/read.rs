//! Reads regular files whole, up to a limit, and parts of files by position.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use crate::error::{FileError, Result};

/// The largest file that is read whole. What is larger is no tokenizer.
pub const MAX_BYTES: u64 = 256 << 20;
/// The largest text that is read to be parsed. What is larger is no configuration and no index, and
/// as values it would take many times its size of memory.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Opens a regular file for reading and says how many bytes it has.
///
/// # Errors
///
/// [`FileError::NotFound`]; [`FileError::NotRegular`] for a folder, a pipe or a device;
/// [`FileError::Read`].
pub fn open_regular(path: impl AsRef<Path>) -> Result<(File, u64)> {
    let path = path.as_ref();
    let check = |found: std::fs::Metadata| {
        if found.is_file() {
            return Ok(found.len());
        }
        Err(FileError::NotRegular {
            path: path.to_path_buf(),
            found: if found.is_dir() {
                "a folder"
            } else {
                "a pipe or a device"
            },
        })
    };
    let reading = FileError::reading(path);
    // Opening a pipe waits for its writer, so it is looked at before.
    check(std::fs::metadata(path).map_err(&reading)?)?;
    let file = File::open(path).map_err(&reading)?;
    let size = check(file.metadata().map_err(&reading)?)?;
    Ok((file, size))
}

/// The bytes of a regular file.
///
/// # Errors
///
/// As [`open_regular`]; [`FileError::TooLarge`] past [`MAX_BYTES`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    read_up_to(path.as_ref(), MAX_BYTES)
}

/// Hands the lines of a regular file of any size on, one at a time: the number of each, from 1, its
/// bytes without its end, and whether it has one. The last of a file that is being written may have
/// none.
///
/// # Errors
///
/// As [`open_regular`]; [`FileError::TooLarge`] of a line past [`MAX_BYTES`]; what `each` says.
pub fn for_each_line<E: From<FileError>>(
    path: impl AsRef<Path>,
    mut each: impl FnMut(usize, &[u8], bool) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let (file, _) = open_regular(path)?;
    let (mut file, mut line) = (BufReader::new(file), Vec::new());
    for number in 1.. {
        line.clear();
        let mut rest = file.by_ref().take(MAX_BYTES);
        let count = rest
            .read_until(b'\n', &mut line)
            .map_err(FileError::reading(path))?;
        let has_end = line.pop_if(|last| *last == b'\n').is_some();
        if count as u64 == MAX_BYTES && !has_end {
            let (path, limit) = (path.to_path_buf(), MAX_BYTES);
            return Err(FileError::TooLarge { path, limit }.into());
        }
        if count == 0 {
            break;
        }
        each(number, &line, has_end)?;
    }
    Ok(())
}

/// The bytes of a regular file of at most `limit` bytes.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, size) = open_regular(path)?;
    let mut bytes = Vec::new();
    // It may grow as it is read.
    if size <= limit {
        bytes.reserve_exact(size as usize + 1);
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(FileError::reading(path))?;
    }
    if size.max(bytes.len() as u64) > limit {
        return Err(FileError::TooLarge {
            path: path.to_path_buf(),
            limit,
        });
    }
    Ok(bytes)
}

/// The text of a regular file.
///
/// # Errors
///
/// As [`read`], with [`MAX_TEXT_BYTES`]; [`FileError::NotUtf8`] with the place of the first bad
/// byte.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = read_up_to(path, MAX_TEXT_BYTES)?;
    String::from_utf8(bytes)
        .map_err(|error| not_utf8(error.as_bytes(), error.utf8_error(), path, 1))
}

/// Bytes of `path`, which begin in `line`, as text.
///
/// # Errors
///
/// [`FileError::NotUtf8`] with the place of the first bad byte.
pub fn utf8<'a>(bytes: &'a [u8], path: &Path, line: usize) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error, path, line))
}

fn not_utf8(bytes: &[u8], error: std::str::Utf8Error, path: &Path, line: usize) -> FileError {
    let at = error.valid_up_to();
    let (lines, column) = place(&bytes[..at]);
    FileError::NotUtf8 {
        path: path.to_path_buf(),
        line: line + lines - 1,
        column,
        byte: bytes[at],
    }
}

/// The result of reading, or none where the file does not exist.
///
/// # Errors
///
/// What `result` says, unless it is [`FileError::NotFound`].
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(FileError::NotFound { .. }) => Ok(None),
        result => result.map(Some),
    }
}

/// Fills `bytes` from byte `at` of a file on. Threads may share the file.
///
/// # Errors
///
/// The system's, and `UnexpectedEof` where the file ends before.
pub fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, at);
    #[cfg(windows)]
    {
        let (mut bytes, mut at) = (bytes, at);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    bytes = &mut bytes[read..];
                    at += read as u64;
                }
            }
        }
        return Ok(());
    }
    // No threads there.
    #[cfg(not(any(unix, windows)))]
    {
        let mut file = file;
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        file.read_exact(bytes)
    }
}

/// Line and column, from 1, of the byte behind `before`.
pub(crate) fn place(before: &[u8]) -> (usize, usize) {
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n');
    (line, before.len() - start.map_or(0, |end| end + 1) + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_a_folder_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let error = read(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: no such file", path.display())
        );
        assert!(optional(read(&path)).unwrap().is_none());
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(": found a folder, expected a regular file"),
            "{error}"
        );
    }

    #[test]
    fn lines_come_one_at_a_time_with_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let lines = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut found = Vec::new();
            for_each_line(&path, |number, line, has_end| {
                found.push((number, line.to_vec(), has_end));
                Ok::<_, FileError>(())
            })
            .unwrap();
            found
        };
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [(1, vec![], true)]);
        let expected = [
            (1, b"a\r".to_vec(), true),
            (2, vec![], true),
            (3, vec![0xff], false),
        ];
        assert_eq!(lines(b"a\r\n\n\xff"), expected);
        let stopped = for_each_line(&path, |number, _, _| {
            Err(FileError::NotFound {
                path: number.to_string().into(),
            })
        });
        assert!(stopped.unwrap_err().to_string().starts_with("1:"));
        assert!(for_each_line(dir.path(), |_, _, _| Ok::<_, FileError>(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_refused_without_waiting_for_them() {
        let error = read("/dev/zero").unwrap_err().to_string();
        let expected = "/dev/zero: found a pipe or a device, expected a regular file";
        assert_eq!(error, expected);
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            assert!(matches!(read(&pipe), Err(FileError::NotRegular { .. })));
        }
    }

    #[test]
    fn a_file_past_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge.json");
        // Without its bytes: the file is a hole.
        let file = File::create(&path).unwrap();
        let refused = |error: FileError, most: u64| match error {
            FileError::TooLarge { limit, .. } => assert_eq!(limit, most),
            other => panic!("{other}"),
        };
        file.set_len(MAX_TEXT_BYTES + 1).unwrap();
        refused(read_text(&path).unwrap_err(), MAX_TEXT_BYTES);
        let json = crate::read_json::<serde_json::Value>(&path).unwrap_err();
        refused(json, MAX_TEXT_BYTES);
        assert!(read(&path).is_ok());
        file.set_len(MAX_BYTES + 1).unwrap();
        refused(read(&path).unwrap_err(), MAX_BYTES);
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        for (bytes, expected) in [
            (&b"caf\xe9"[..], ":1:4: byte 0xe9"),
            (b"a\n\nb\xff", ":3:2: byte 0xff"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = read_text(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_part_is_read_at_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"0123456789").unwrap();
        let (file, size) = open_regular(&path).unwrap();
        assert_eq!(size, 10);
        let mut part = [0; 3];
        for at in [7, 0, 4] {
            read_exact_at(&file, &mut part, at).unwrap();
            assert_eq!(part, b"0123456789"[at as usize..][..3]);
        }
        let end = read_exact_at(&file, &mut part, 8).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
