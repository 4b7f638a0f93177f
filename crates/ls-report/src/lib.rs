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

pub use compare::{Compared, ComparedRun, McNemar, REPORTED};
pub use distribution::Distribution;
pub use error::{ReportError, Result};
pub use folder::{LABEL_ERRORS, PAGE, Run, scored};
pub use numbers::{bytes, duration, p_value, score, signed, title};
pub use scores::{ClassScore, Score, Scored};
pub use suspects::{ConfidentJoint, Suspect, Suspects};

use ls_files::{parent_of, write_at, write_atomic};
use serde::Serialize;

/// Refuses a page that would take the place of what one of these runs keeps: within their folders
/// only a file that ends in `.html` is one.
///
/// # Errors
///
/// [`ReportError::InRun`].
pub fn check_page<P: AsRef<Path>>(out: &Path, runs: &[P]) -> Result<()> {
    // A link is written through. What is not there yet stands in a folder that is.
    let named = || Some(parent_of(out).canonicalize().ok()?.join(out.file_name()?));
    let Some(place) = out.canonicalize().ok().or_else(named) else {
        return Ok(());
    };
    if place
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("html"))
    {
        return Ok(());
    }
    let holds = |run: &&P| {
        let run = run.as_ref().canonicalize();
        run.is_ok_and(|run| place.starts_with(run))
    };
    match runs.iter().find(holds) {
        None => Ok(()),
        Some(run) => Err(ReportError::InRun {
            path: out.into(),
            run: run.as_ref().into(),
        }),
    }
}

/// Writes the page of a run folder: to `out`, else to [`PAGE`] in the folder, as [`write_at`] does.
///
/// # Errors
///
/// If the folder holds no run, a file of the run is damaged, `out` is one ([`check_page`]), or the
/// page cannot be written.
pub fn write_page(folder: &Path, out: Option<&Path>) -> Result<PathBuf> {
    if let Some(out) = out {
        check_page(out, &[folder])?;
    }
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
