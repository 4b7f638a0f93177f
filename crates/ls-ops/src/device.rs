//! What a program does for its device before the first use of one, and the device that tests
//! compute on.

#[cfg(feature = "cube")]
mod kernels;
mod process;
mod toolkit;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

pub use toolkit::{CUDA_FILE, cuda_toolkit};

/// Makes the environment of the process ready for whatever devices it was built for. A program
/// calls it once, first of all, while there is one thread. It touches no file.
///
/// - The compiler of CUDA kernels is told where [`cuda_toolkit`] found what it reads.
/// - On Linux, `XDG_RUNTIME_DIR` is set where it is not, to `cache`, a folder of the user's: Mesa's
///   device selection layer for Vulkan asks Wayland for the GPU of the desktop, whose library
///   complains on stderr without it.
///
/// A program that is built for the CPU alone has nothing to do.
pub fn prepare(cache: Option<&Path>) {
    if cfg!(feature = "cuda")
        && let Some(toolkit) = cuda_toolkit()
    {
        process::set_variable("CUDA_PATH", toolkit);
    }
    if cfg!(all(feature = "wgpu", target_os = "linux"))
        && let Some(cache) = cache.filter(|cache| cache.is_absolute())
        && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty())
    {
        process::set_variable("XDG_RUNTIME_DIR", cache);
    }
}

/// Runs `work`, which computes on `device`, in a thread of the pool that the CPU's kernels share
/// their work with. From any other thread each operation hands its work to the pool, sleeps and is
/// woken, which for the few rows of a sentence takes longer than the work. On other devices it runs
/// where it is.
///
/// While an operation waits for its last part, the thread may take up what others have given to the
/// pool, the `work` of another call among it, and comes back when that is done. So `work` holds no
/// lock, and counts on no value of its thread to stay as it was, as the seed of
/// [`seed_dropout`](crate::seed_dropout) is. It is for programs in which one thread computes at a
/// time: with many callers the later ones are served first, on the stack of the earlier.
///
/// # Panics
///
/// Where `work` does.
pub fn on_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if crate::is_host(device) {
        rayon::scope(|_| work())
    } else {
        work()
    }
}

/// Why a device that a program was built for cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no GPU of that number, or no driver that would know.
    NoCuda {
        /// The number that was asked for.
        index: usize,
        /// How many there are.
        found: usize,
    },
    /// [`CUDA_FILE`] is nowhere.
    NoToolkit,
    /// [`CUDA_FILE`] is where the compiler of kernels does not look.
    ToolkitNotSet {
        /// The folder that has it.
        folder: PathBuf,
    },
    /// No driver for Vulkan, Metal or DirectX 12 answers.
    NoWgpu,
}

impl std::error::Error for DeviceError {}

impl std::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCuda { index, found: 0 } => write!(
                f,
                "CUDA device {index}: no GPU found; is NVIDIA's driver (libcuda) installed?"
            ),
            Self::NoCuda { index, found } => write!(
                f,
                "CUDA device {index}: the driver has {found}, numbered from 0"
            ),
            Self::NoToolkit => write!(
                f,
                "{CUDA_FILE} not found, which compiling kernels for CUDA needs: install a CUDA \
                 toolkit or `pip install nvidia-nvvm`, and set CUDA_PATH to the folder that has it"
            ),
            Self::ToolkitNotSet { folder } => write!(
                f,
                "{CUDA_FILE} found, but not where it is looked for: set CUDA_PATH={}",
                folder.display()
            ),
            Self::NoWgpu => write!(
                f,
                "no graphics driver found: install one for Vulkan (on Debian without a GPU: \
                 mesa-vulkan-drivers)"
            ),
        }
    }
}

/// Before anything asks cubecl for a device, which settles where it keeps things.
#[cfg(feature = "cube")]
fn keep(cache: Option<&Path>) {
    if let Some(cache) = cache {
        kernels::keep(cache);
    }
}

/// A CUDA device by its number.
///
/// Compiled kernels and the results of tuning are kept in `cache`, for the next process. A
/// `cubecl.toml` (or a `burn.toml` with a section `cubecl`) in the current folder or above it says
/// all that instead, and cubecl's own variables (`CUBECL_*`) win in any case.
///
/// # Errors
///
/// If it is not there, or [`CUDA_FILE`] is not: without this the first kernel would panic.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize, cache: Option<&Path>) -> Result<Device, DeviceError> {
    keep(cache);
    let found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
    if index >= found {
        return Err(DeviceError::NoCuda { index, found });
    }
    let folder = cuda_toolkit().ok_or(DeviceError::NoToolkit)?;
    // cubecl looks in `CUDA_PATH`, which `prepare` sets where it can, and in these.
    let known = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(PathBuf::from);
    let is_set = std::env::var_os("CUDA_PATH").is_some_and(|path| folder == Path::new(&path));
    if !is_set && !known.contains(&folder) {
        return Err(DeviceError::ToolkitNotSet { folder });
    }
    Ok(Device::cuda(index))
}

/// The GPU that wgpu takes by itself.
///
/// The results of tuning are kept in `cache`, as for CUDA; kernels are not, since cubecl hands
/// their source to the driver.
///
/// # Errors
///
/// If there is none: without this the first kernel would panic.
#[cfg(feature = "wgpu")]
pub fn wgpu(cache: Option<&Path>) -> Result<Device, DeviceError> {
    keep(cache);
    if Device::enumerate(burn::tensor::DeviceType::Wgpu).is_empty() {
        return Err(DeviceError::NoWgpu);
    }
    Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
}

/// The variable that names the device of the tests.
const OF_TESTS: &str = "LS_TEST_DEVICE";

/// The device that the workspace's tests compute on: the CPU, or what `LS_TEST_DEVICE` names
/// (`wgpu`, `cuda`).
///
/// # Panics
///
/// If its backend is not built in, or the device is not there.
#[doc(hidden)]
#[must_use]
pub fn of_tests() -> Device {
    let name = std::env::var(OF_TESTS).unwrap_or_default();
    let device: Result<Device, DeviceError> = match name.as_str() {
        #[cfg(feature = "flex")]
        "" | "cpu" => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => wgpu(None),
        #[cfg(feature = "cuda")]
        "cuda" => cuda(0, None),
        _ => panic!("{OF_TESTS}={name:?} is no device that these tests were built for"),
    };
    device.unwrap_or_else(|error| panic!("{error}"))
}

/// A tolerance of the workspace's tests, relative to the largest value, on the device that they
/// compute on: CUDA multiplies f32 as TF32 (10 bits) where that is faster.
#[doc(hidden)]
#[must_use]
pub fn tolerance_of_tests(tolerance: f32) -> f32 {
    match std::env::var(OF_TESTS).as_deref() {
        Ok("cuda") => tolerance.max(1e-2),
        _ => tolerance,
    }
}

/// Whether a test runs on the CPU. Elsewhere it says why it does not, and `cargo xtask gpu-parity`
/// puts the reason into its table.
#[doc(hidden)]
#[must_use]
#[allow(
    clippy::print_stdout,
    reason = "a test prints, and its harness takes it"
)]
pub fn tests_are_on_the_cpu(otherwise: &str) -> bool {
    let cpu = crate::is_host(&of_tests());
    if !cpu {
        println!("left out: {otherwise}");
    }
    cpu
}
#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn work_on_the_cpu_runs_in_the_kernels_pool_and_its_panics_come_out() {
        let device = Device::flex();
        assert!(rayon::current_thread_index().is_none());
        let text = String::from("borrowed");
        let (place, length) = on_pool(&device, || (rayon::current_thread_index(), text.len()));
        assert!(place.is_some());
        assert_eq!(length, 8);
        // From a thread of the pool it is that one.
        let [outer, inner] = on_pool(&device, || {
            let outer = rayon::current_thread_index();
            [outer, on_pool(&device, rayon::current_thread_index)]
        });
        assert_eq!(outer, inner);
        let panics = std::panic::catch_unwind(|| on_pool(&device, || panic!("in a test")));
        assert!(panics.is_err());
    }
}
