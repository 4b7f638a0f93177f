#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answers;
mod calibration;
mod chart;
mod compare;
mod distribution;
mod error;
mod folder;
mod html;
mod mistakes;
mod numbers;
mod page;
mod scores;
mod settings;
mod suspects;

use std::path::{Path, PathBuf};

pub use compare::{Compared, ComparedRun, McNemar};
pub use distribution::Distribution;
pub use error::{ReportError, Result};
pub use folder::{LABEL_ERRORS, PAGE, Run};
pub use numbers::{p_value, score, signed, title};
pub use suspects::{ConfidentJoint, Suspect, Suspects};

use ls_files::{write_at, write_atomic};
use serde::Serialize;

/// Writes the page of a run folder: to `out`, else to [`PAGE`] in the folder, as [`write_at`] does.
///
/// # Errors
///
/// If the folder holds no run, a file of the run is damaged, or the page cannot be written.
pub fn write_page(folder: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let page = page::of_run(&Run::read(folder)?)?;
    let out = out.map_or_else(|| folder.join(PAGE), Path::to_path_buf);
    write_at(&out, page)?;
    Ok(out)
}

/// Writes the page of a run into its folder when all is there but `report.json`, with what will
/// stand in that file.
///
/// # Errors
///
/// As [`write_page`].
pub fn write_last_page(folder: &Path, report: &impl Serialize) -> Result<()> {
    let page = page::of_run(&Run::ending_with(folder, report)?)?;
    Ok(write_atomic(folder.join(PAGE), page)?)
}

/// Writes the page of a comparison, as [`write_at`] does.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_comparison(compared: &Compared, out: &Path) -> Result<()> {
    Ok(write_at(out, page::comparison::of_runs(compared))?)
}
