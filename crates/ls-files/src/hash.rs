//! The SHA-256 of a file, and bytes in hexadecimal.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{FileError, Result};
use crate::read::open_regular;

/// The SHA-256 of a regular file of any size, in hexadecimal, as `sha256sum` writes it.
///
/// # Errors
///
/// As [`open_regular`].
pub fn sha256_of_file(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let (mut file, _) = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::reading(path)(error)),
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    sha256_of_parts([bytes])
}

/// The SHA-256 of bytes that follow each other, in hexadecimal.
pub fn sha256_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Bytes in hexadecimal, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "hello\n").unwrap();
        let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(sha256_of_file(&path).unwrap(), hello);
        assert_eq!(sha256_of_parts([&b"hel"[..], b"lo\n"]), hello);
        // More than one buffer, and not a whole number of them.
        let bytes = vec![7; (1 << 20) + 5];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), sha256(&bytes));
    }

    #[test]
    fn what_is_no_regular_file_has_no_hash() {
        let dir = tempfile::tempdir().unwrap();
        let error = sha256_of_file(dir.path()).unwrap_err();
        assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
        let error = sha256_of_file(dir.path().join("none")).unwrap_err();
        assert!(matches!(error, FileError::NotFound { .. }), "{error}");
    }

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
        assert_eq!(hex(&[]), "");
    }
}
