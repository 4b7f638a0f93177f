//! Finds what the compiler of CUDA kernels reads besides the driver: `libdevice.10.bc`, the
//! functions (`exp`, `log`, `sin`, ...) that are linked into kernels, or the headers of CUDA where
//! kernels go through NVRTC (`cuda-nvrtc`).
//!
//! cubecl reads them from `CUDA_PATH` or the usual folders of a toolkit, when the first kernel
//! needs one. The driver does not bring them, so they may also lie beside the program, or come with
//! Python's packages.

use std::path::{Path, PathBuf};

/// The file that is needed, in a folder laid out as a CUDA toolkit.
pub const CUDA_FILE: &str = if cfg!(feature = "cuda-nvrtc") {
    "include/cuda_runtime.h"
} else {
    "nvvm/libdevice/libdevice.10.bc"
};

/// The first folder with [`CUDA_FILE`] in it: `CUDA_PATH`, the program's own, `/usr/local/cuda*`,
/// `/opt/cuda`, `/usr/lib/cuda`, `/usr`, NVIDIA's packages of the active Python environment
/// (`VIRTUAL_ENV`, `CONDA_PREFIX`), of the user and of the system.
///
/// `None` if it is in none of them: the first kernel that needs it would fail.
#[must_use]
pub fn cuda_toolkit() -> Option<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let program = std::env::current_exe().ok();
    let program = program.and_then(|path| Some(path.parent()?.to_path_buf()));
    let pythons = [
        variable("VIRTUAL_ENV"),
        variable("CONDA_PREFIX"),
        variable("HOME").map(|home| home.join(".local")),
    ];
    find(
        variable("CUDA_PATH").into_iter().chain(program).collect(),
        Path::new("/"),
        &pythons.into_iter().flatten().collect::<Vec<_>>(),
    )
}

/// Looks through the folders that come `first`, those of the file system under `root`, and
/// `lib/python3.N/site-packages` of the `pythons`.
fn find(first: Vec<PathBuf>, root: &Path, pythons: &[PathBuf]) -> Option<PathBuf> {
    let mut folders = first;
    folders.push(root.join("usr/local/cuda"));
    // The newest first, by name.
    let local = entries(&root.join("usr/local"));
    let versions = local.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("cuda-")
    });
    folders.extend(versions.rev());
    for folder in ["opt/cuda", "usr/lib/cuda", "usr"] {
        folders.push(root.join(folder));
    }
    let system = [root.join("usr/local"), root.join("usr")];
    for python in pythons.iter().chain(&system) {
        for version in entries(&python.join("lib")).into_iter().rev() {
            // `nvidia/cu13`, `nvidia/cuda_nvcc`, ...: the name differs between versions.
            for packages in ["site-packages/nvidia", "dist-packages/nvidia"] {
                folders.extend(entries(&version.join(packages)));
            }
        }
    }
    folders
        .into_iter()
        .find(|folder| folder.join(CUDA_FILE).is_file())
}

/// What a folder holds, by name; nothing if it is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A folder of its own for each test, without a dependency for it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("ls-ops-toolkit-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Puts the file into a folder that is laid out as a toolkit.
        fn put(&self, toolkit: &str) -> PathBuf {
            let toolkit = self.0.join(toolkit);
            let file = toolkit.join(CUDA_FILE);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            toolkit
        }

        fn find(&self) -> Option<PathBuf> {
            find(
                vec![self.0.join("named"), self.0.join("program")],
                &self.0,
                &[self.0.join("venv"), self.0.join("home/.local")],
            )
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Put in from the last place to the first, each is found before those that are there.
    #[test]
    fn every_place_is_looked_at_in_order() {
        let folder = Folder::new("order");
        assert_eq!(folder.find(), None);
        for toolkit in [
            "usr/lib/python3/dist-packages/nvidia/cuda_nvcc",
            "usr/local/lib/python3.13/site-packages/nvidia/cu13",
            "home/.local/lib/python3.11/site-packages/nvidia/cuda_nvcc",
            "venv/lib/python3.12/site-packages/nvidia/cu13",
            "usr",
            "usr/lib/cuda",
            "opt/cuda",
            "usr/local/cuda-12.4",
            "usr/local/cuda-13.0",
            "usr/local/cuda",
            "program",
            "named",
        ] {
            let expected = folder.put(toolkit);
            assert_eq!(folder.find(), Some(expected), "{toolkit}");
        }
    }

    #[test]
    fn a_toolkit_without_the_file_is_passed_over() {
        let folder = Folder::new("without");
        std::fs::create_dir_all(folder.0.join("named/nvvm/libdevice")).unwrap();
        std::fs::create_dir_all(folder.0.join("usr/local/cuda/bin")).unwrap();
        let expected = folder.put("venv/lib/python3.9/site-packages/nvidia/cu12");
        assert_eq!(folder.find(), Some(expected));
    }
}
