//! The folder of splits that were encoded before: where it is, and how large it may grow.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that the entries may take together, unless `LS_LLAMA_CACHE_LIMIT` says otherwise.
const LIMIT: u64 = 20 << 30;
/// The ending of an entry's name.
pub(crate) const ENTRY: &str = "bin";

/// Where encoded splits are kept: `LS_LLAMA_CACHE`, else `ls-llama` in `XDG_CACHE_HOME`, else
/// `~/.cache/ls-llama`. Everything in it may be removed at any time.
pub fn default_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("LS_LLAMA_CACHE") {
        return Some(dir.into());
    }
    let base = match set("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(set("HOME").or_else(|| set("USERPROFILE"))?).join(".cache"),
    };
    Some(base.join("ls-llama"))
}

/// Bytes that the entries may take together: what `LS_LLAMA_CACHE_LIMIT` says (`500M`, `20G`), else
/// 20 GiB.
pub(crate) fn limit() -> u64 {
    let Some(said) = std::env::var_os("LS_LLAMA_CACHE_LIMIT").filter(|said| !said.is_empty())
    else {
        return LIMIT;
    };
    let said = said.to_string_lossy();
    bytes(&said).unwrap_or_else(|| {
        tracing::warn!(
            "LS_LLAMA_CACHE_LIMIT: expected a number of bytes such as 500M or 20G, found {said:?}; \
             the cache may take 20G"
        );
        LIMIT
    })
}

/// A number of bytes with `K`, `M`, `G` or `T` behind it, or without.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let number = if shift > 0 {
        &text[..text.len() - 1]
    } else {
        text
    };
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Marks an entry as used now, and as in use for as long as `file` is open. Where the system does
/// neither, the entry is the older for it.
pub(crate) fn in_use(file: &File) {
    let _ = file.try_lock_shared();
    let _ = file.set_modified(SystemTime::now());
}

/// Whether this is a key as [`SplitSource::key`](crate::SplitSource::key) makes them.
pub(crate) fn is_key(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a name is that of an entry: other programs have files that end alike
/// (`pytorch_model.bin`).
fn is_entry(name: &str) -> bool {
    let stem = name
        .strip_suffix(ENTRY)
        .and_then(|stem| stem.strip_suffix('.'));
    stem.is_some_and(is_key)
}

/// Removes the entries that were used longest ago until all of them take `limit` bytes at most.
/// `kept`, and whatever a run has open, stays.
pub(crate) fn make_room(folder: &Path, kept: &Path, limit: u64) {
    let mut entries: Vec<(SystemTime, u64, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            // Of a link the file behind it is not the cache's.
            let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let path = entry.path();
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(is_entry);
            ours.then(|| {
                (
                    data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    data.len(),
                    path,
                )
            })
        })
        .collect();
    entries.sort();
    let mut size: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in entries {
        if size <= limit {
            return;
        }
        if path != kept && !is_in_use(&path) && std::fs::remove_file(&path).is_ok() {
            tracing::info!(
                "{}: removed: the cache took more than {limit} bytes",
                path.display()
            );
            size -= bytes;
        }
    }
}

fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_is_a_number_of_bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("500M", Some(500 << 20)),
            (" 20 g ", Some(20 << 30)),
            ("2T", Some(2 << 40)),
            ("", None),
            ("G", None),
            ("-1", None),
            ("1.5G", None),
            ("99999999999T", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_entries_used_longest_ago_go_first_and_none_in_use_or_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |name: &str, age: u64| {
            let path = dir.path().join(name);
            std::fs::write(&path, [0; 100]).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(used).unwrap();
            path
        };
        let [old, used, open, new] = [("a", 50), ("b", 90), ("c", 80), ("d", 1)]
            .map(|(digit, age)| entry(&format!("{}.bin", digit.repeat(64)), age));
        let others = [
            "pytorch_model.bin".into(),
            format!("{}.bin", "a".repeat(63)),
            format!("{}.bin", "A".repeat(64)),
            format!("{}.bin", "g".repeat(64)),
            format!("{}.bin.bin", "a".repeat(64)),
            "a".repeat(64),
        ]
        .map(|name| entry(&name, 99));
        let folder = dir.path().join(format!("{}.bin", "e".repeat(64)));
        std::fs::create_dir(&folder).unwrap();
        let reader = File::open(&used).unwrap();
        in_use(&reader);
        drop(reader);
        let reader = File::open(&open).unwrap();
        reader.lock_shared().unwrap();

        make_room(dir.path(), &new, 400);
        assert!(old.exists());
        make_room(dir.path(), &new, 300);
        assert!(!old.exists() && used.exists() && open.exists() && new.exists());
        make_room(dir.path(), &new, 0);
        assert!(!used.exists() && open.exists() && new.exists());
        for other in others.iter().chain([&folder]) {
            assert!(other.exists(), "{}", other.display());
        }
        drop(reader);
        make_room(dir.path(), &new, 0);
        assert!(!open.exists() && new.exists());
    }
}
