//! What takes the place of a file is as open to others as that file was.

use std::fs::File;
use std::path::Path;

/// Gives a file that grows the permissions of the one that it will replace, if there is one, and
/// its owner in any case that of writing to it, so that another process can go on.
///
/// Where that cannot be done, as on file systems without permissions, there are none to keep.
pub fn same_permissions(file: &File, replaced: impl AsRef<Path>) {
    copy(file, replaced.as_ref(), 0o200);
}

/// The same, with other rights in any case.
#[cfg(unix)]
pub(crate) fn copy(file: &File, replaced: &Path, more: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let found = std::fs::metadata(replaced)
        .ok()
        .filter(|found| found.is_file());
    if let Some(found) = found {
        let mode = found.permissions().mode() & 0o777 | more;
        let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
    }
}

/// Elsewhere a file has those of its folder.
#[cfg(not(unix))]
pub(crate) fn copy(_file: &File, _replaced: &Path, _more: u32) {}
