//! Puts a symbolic link in its place, whatever stood there before.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::error::{FileError, Result};
use crate::folders::{parent_of, sync_folder};
use crate::temporary::temporary_name;

/// Makes `place` a link to `target`, at a single moment: whoever looks finds what stood there or
/// the link, never nothing. The folder is synced.
///
/// Where something is there, the link is made under a temporary name in `beside`, a folder of the
/// same file system in which it is in nobody's way, and renamed. What a kill leaves of it,
/// [`sweep`](crate::sweep) removes from there a day later.
///
/// # Errors
///
/// [`FileError::Write`]; unless it was the folder that could not be synced, what stood there is
/// then untouched.
pub fn put_link(
    target: impl AsRef<Path>,
    place: impl AsRef<Path>,
    beside: impl AsRef<Path>,
) -> Result<()> {
    let (target, place) = (target.as_ref(), place.as_ref());
    let made = match symlink(target, place) {
        Err(error) if is_taken(&error) => replace(target, place, beside.as_ref()),
        made => made,
    };
    made.map_err(FileError::writing(place))?;
    sync_folder(parent_of(place))
}

fn replace(target: &Path, place: &Path, beside: &Path) -> io::Result<()> {
    let new = loop {
        let new = temporary_name(beside);
        match symlink(target, &new) {
            Err(error) if is_taken(&error) => {}
            made => {
                made?;
                break new;
            }
        }
    };
    fs::rename(&new, place).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sweep;

    #[test]
    fn a_link_takes_the_place_of_nothing_a_file_or_a_link_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [place, beside] = ["place", "beside"].map(|name| dir.path().join(name));
        fs::create_dir(&beside).unwrap();
        let says = |target: &str| assert_eq!(fs::read_link(&place).unwrap(), Path::new(target));
        put_link("first", &place, &beside).unwrap();
        says("first");
        put_link("second", &place, &beside).unwrap();
        says("second");
        fs::remove_file(&place).unwrap();
        fs::write(&place, "a file").unwrap();
        put_link("third", &place, &beside).unwrap();
        says("third");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let error = put_link("fourth", &place, &beside).unwrap_err().to_string();
        assert!(error.contains("place: cannot write"), "{error}");
        assert!(place.is_dir());
        assert_eq!(fs::read_dir(&beside).unwrap().count(), 0);
    }

    /// What a kill between the link and its renaming leaves.
    #[test]
    fn a_link_that_a_kill_left_is_swept_after_a_day_and_a_fresh_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [old, fresh] = [(); 2].map(|()| temporary_name(dir.path()));
        let theirs = dir.path().join("theirs");
        for link in [&old, &fresh, &theirs] {
            symlink("none", link).unwrap();
        }
        for link in [&old, &theirs] {
            // Of the link itself, which the standard library cannot date.
            let mut touch = Command::new("touch");
            let touched = touch.args(["-h", "-t", "202001010000"]).arg(link).status();
            assert!(touched.unwrap().success());
        }
        sweep(dir.path());
        let is_there = |link: &Path| fs::symlink_metadata(link).is_ok();
        assert!(!is_there(&old) && is_there(&fresh) && is_there(&theirs));
    }
}
