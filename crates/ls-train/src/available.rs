//! How much memory the system has left for this process.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows the limits of control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes that this process may still take: what the system has left, or what the control groups
/// (of a container, or a batch job) leave of their limits, if that is less. `None` where the system
/// does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok();
    let system = system.and_then(|text| field(&text, "MemAvailable:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left = folders(&groups)
        .into_iter()
        .filter_map(|folder| left(&folder));
    system.into_iter().chain(left).min()
}

/// A field of `/proc/meminfo`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The folders of the groups that limit memory, from the process's own up to the outermost, by the
/// text of `/proc/self/cgroup`. Inside a container the outermost is often the only one to be seen.
fn folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let root = match controllers {
            // The second version has one tree for all.
            "" => PathBuf::from(GROUPS),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Path::new(GROUPS).join("memory")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        folders.extend(path.ancestors().map(|part| root.join(part)));
    }
    folders
}

/// What a group's limit leaves, if it has one. Pages of files that were read count as taken, but go
/// where memory is needed.
fn left(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (limit, taken) = number("memory.max")
        .zip(number("memory.current"))
        .or_else(|| number("memory.limit_in_bytes").zip(number("memory.usage_in_bytes")))?;
    let statistics = read("memory.stat").unwrap_or_default();
    let inactive = statistics.lines().find_map(|line| {
        let line = line
            .strip_prefix("inactive_file ")
            .or_else(|| line.strip_prefix("total_inactive_file "))?;
        line.trim().parse::<u64>().ok()
    });
    let taken = taken.saturating_sub(inactive.unwrap_or(0));
    Some(limit.saturating_sub(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_has_left_is_in_kilobytes() {
        let text =
            "MemTotal:       16 kB\nMemFree:  2 kB\nMemAvailable:   12345 kB\nBuffers: 1 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(12345 * 1024));
        assert_eq!(field("MemTotal: 16 kB\n", "MemAvailable:"), None);
        assert_eq!(field("MemAvailable: many kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn every_group_up_to_the_outermost_is_asked() {
        let second = ["jobs/7", "jobs", ""].map(|path| Path::new(GROUPS).join(path));
        assert_eq!(folders("0::/jobs/7\n"), second);
        let first = folders("5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/c\n");
        let expected = ["memory/b", "memory"].map(|path| Path::new(GROUPS).join(path));
        assert_eq!(first, expected);
        assert!(folders("nonsense\n").is_empty());
    }

    #[test]
    fn a_group_leaves_its_limit_less_what_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(left(dir.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "300\n");
        assert_eq!(left(dir.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left(dir.path()), Some(700));
        write("memory.stat", "anon 5\ninactive_file 100\nactive_file 7\n");
        assert_eq!(left(dir.path()), Some(800));
        write("memory.current", "5000\n");
        assert_eq!(left(dir.path()), Some(0));
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.limit_in_bytes", "1000\n");
        write("memory.usage_in_bytes", "400\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 50\n");
        assert_eq!(left(dir.path()), Some(601));
    }
}
