//! `ls-cli report`: writes the page of a run, and looks for label errors where it is asked to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_files::print;
use ls_report::write_page;
use ls_train::{TrainError, label_errors};

use crate::args::ReportArgs;
use crate::error::{Stopped, WithHint};
use crate::output::Display;
use crate::screen::{ended, say};
use crate::signals::Signals;
use crate::{device, shell};

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<()> {
    // What is wrong with the run is said before anything is trained.
    let page = || write_page(&args.run, args.out.as_deref()).map_err(TrainError::from);
    let mut out = page()?;
    if args.label_errors {
        look_for_label_errors(args)?;
        out = page()?;
    }
    let found = std::fs::metadata(&out).ok().filter(|found| found.is_file());
    // A pipe has no size.
    let size = found.map(|found| format!(" ({} kB)", found.len().div_ceil(1000)));
    let out = shell::from_here(&out).display();
    Ok(print(format!("{out}{}\n", size.unwrap_or_default()))?)
}

fn look_for_label_errors(args: &ReportArgs) -> Result<()> {
    let signals = Signals::listen();
    let device = device::select(args.device.as_deref())?;
    let mut display = Display::default().stopped_by(&signals);
    let found = label_errors(&args.run, args.folds, &device, &mut display);
    display.finish();
    match found {
        Ok(found) => {
            let file = args.run.join(ls_report::LABEL_ERRORS);
            say(format!(
                "{} of {} labels are likely wrong; {} names {}",
                found.estimated_errors.round(),
                found.examples,
                shell::from_here(&file).display(),
                found.found.len()
            ));
            Ok(())
        }
        Err(error @ (TrainError::Interrupted { .. } | TrainError::NotSaved { .. })) => {
            ended(error.chain());
            let again = shell::command(std::env::args_os());
            ended(format!("go on with: {again}"));
            let code = signals.exit_code();
            Err(Stopped { code }.into())
        }
        Err(error @ TrainError::SweepDiffers { .. }) => Err(WithHint {
            error: error.into(),
            hint: format!(
                "remove {} to begin again, or say the same --folds",
                shell::from_here(&left_by(&args.run)).display()
            ),
        }
        .into()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot look for label errors of {}", args.run.display())),
    }
}

/// Where an earlier search was ended.
fn left_by(run: &Path) -> PathBuf {
    run.join("label-errors")
}
