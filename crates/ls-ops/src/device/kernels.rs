//! Where cubecl keeps compiled kernels and the results of tuning.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::records::RecordLevel;

/// Has them kept in a folder, unless the user says where in a file.
///
/// By default cubecl keeps no compiled kernels, and the results of tuning in `target/environment`
/// of the package that the current folder belongs to. Processes may share the folder: it becomes a
/// database that several can write.
pub(super) fn keep(folder: &Path) {
    let here = std::env::current_dir().unwrap_or_default();
    if is_configured(&here) {
        return;
    }
    let mut config = CubeClRuntimeConfig::default();
    if is_ready(folder) {
        config.compilation.cache = true;
        config.environment.path = CacheConfig::Directory(folder.into());
    } else {
        // Else cubecl would try again for every kernel, and warn each time.
        config.autotune.disable_cache = true;
        config.environment.records.level = RecordLevel::Off;
    }
    // The first to say so, since no device has been made; if not, what is set stays.
    let _ = CubeClRuntimeConfig::try_set(config.override_from_env());
}

/// How a database begins.
const DATABASE: &[u8; 16] = b"SQLite format 3\0";

/// Whether the folder can be written to. A file in the place of the database that is none, as an
/// accident leaves it, is removed: cubecl would do without one from then on.
fn is_ready(folder: &Path) -> bool {
    let file = folder.join("default.db");
    let mut start = [0; DATABASE.len()];
    let read = File::open(&file).and_then(|mut file| file.read_exact(&mut start));
    if read.is_ok() && &start != DATABASE {
        for part in ["default.db", "default.db-wal", "default.db-tshm"] {
            let _ = fs::remove_file(folder.join(part));
        }
    }
    let open = || OpenOptions::new().append(true).create(true).open(&file);
    fs::create_dir_all(folder).and_then(|()| open()).is_ok()
}

/// Whether cubecl finds a file of its own from a folder: in it or above it.
fn is_configured(folder: &Path) -> bool {
    folder.ancestors().any(|folder| {
        let whole = CubeClRuntimeConfig::file_names();
        let mut sections = CubeClRuntimeConfig::section_file_names().iter();
        whole.iter().any(|name| folder.join(name).is_file())
            || sections.any(|(name, section)| {
                CubeClRuntimeConfig::from_section_file_path(folder.join(name), section).is_ok()
            })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_user_is_seen_from_below() {
        let root = std::env::temp_dir().join(format!("ls-ops-kernels-{}", std::process::id()));
        let below = root.join("a/b");
        fs::create_dir_all(&below).unwrap();
        let sees = |name: &str, text: &str| {
            fs::write(root.join(name), text).unwrap();
            let found = is_configured(&below);
            fs::remove_file(root.join(name)).unwrap();
            found
        };
        assert!(!is_configured(&below));
        assert!(sees("cubecl.toml", ""));
        assert!(sees("burn.toml", "[cubecl.compilation]\ncache = false\n"));
        // burn's own settings alone say nothing of kernels.
        assert!(!sees("burn.toml", "[fusion]\n"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_folder_is_made_ready_and_what_is_no_database_goes() {
        let root = std::env::temp_dir().join(format!("ls-ops-ready-{}", std::process::id()));
        let file = root.join("kernels/default.db");
        assert!(is_ready(&root.join("kernels")));
        let after = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            assert!(is_ready(&root.join("kernels")));
            fs::read(&file).unwrap()
        };
        assert_eq!(after(b"anything but a database"), b"");
        let database = [DATABASE.as_slice(), b"..."].concat();
        assert_eq!(after(&database), database);
        // Below a file there is no folder.
        assert!(!is_ready(&file.join("kernels")));
        fs::remove_dir_all(root).unwrap();
    }
}
