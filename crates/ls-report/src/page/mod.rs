//! The page of a run: one HTML file that asks nothing of anybody. No script is in it, and its
//! policy allows none; styles and charts are within. A section whose data a run folder lacks says
//! so.

pub(crate) mod comparison;
mod confusion;
mod curves;
mod data;
mod errors;
mod labels;
mod origin;
mod overview;
mod parts;
mod scores;
mod sureness;
mod table;

use crate::error::Result;
use crate::folder::Run;
use parts::document;

/// The page of a run.
///
/// # Errors
///
/// If its answers cannot be scored.
pub(crate) fn of_run(run: &Run) -> Result<String> {
    let scored = run.scored()?;
    let mut sections = vec![
        overview::section(run),
        scores::section(run, scored.as_ref()),
        scores::classes(run, scored.as_ref()),
    ];
    sections.extend(confusion::section(run, scored.as_ref()));
    sections.extend(sureness::section(run));
    sections.push(curves::section(run));
    sections.push(data::section(run));
    sections.push(errors::section(run));
    sections.extend(labels::section(run));
    sections.push(origin::settings(run));
    sections.push(origin::environment(run));
    let lead = overview::lead(run, scored.as_ref());
    Ok(document(&run.name(), lead, sections))
}
