//! `ls-cli sweep`: trains every combination of values, seeds and folds, and prints them side by
//! side.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use ls_files::print;
use ls_train::sweep::{BEST, Choices, Outcome, Plan, Spread, sweep};
use ls_train::{RunConfig, TrainError};

use super::train::{expect_config, read_named};
use crate::args::SweepArgs;
use crate::error::{Stopped, WithHint};
use crate::output::Display;
use crate::screen::{ended, say};
use crate::signals::Signals;
use crate::{builtin, device, hub, shell};

/// Where faults come from that no single combination has.
const TYPED: &str = "the command line";

/// Runs the command.
pub fn run(args: &SweepArgs) -> Result<()> {
    let signals = Signals::listen();
    let choices = match Choices::new(&args.set, args.seeds, args.folds) {
        Ok(choices) => choices,
        Err(error) => {
            expect_config(&args.config)?;
            return Err(error.into());
        }
    };
    let device = device::select(args.device.as_deref())?;
    let mut named = None;
    let plan = match plan(args, choices.clone(), &mut named) {
        Ok(plan) => plan,
        Err(error) => match Plan::recorded(&choices, &folder(args, named.as_deref()))? {
            Some(plan) => plan,
            None => return Err(error),
        },
    };
    let folder = folder(args, named.as_deref());
    let mut display = Display::default().stopped_by(&signals);
    let runs = plan.runs().len();
    say(format!(
        "sweep of {runs} runs in {}, device {}",
        folder.display(),
        args.device.as_deref().unwrap_or(device::default_name())
    ));
    let result = sweep(&plan, &folder, &device, &mut display);
    display.finish();
    match result {
        Ok(outcome) => {
            let printed = print(text(&plan, &outcome, &folder)?);
            match outcome.failed.len() {
                0 => Ok(printed?),
                // Also where nobody reads what was printed.
                failed => Err(WithHint {
                    error: anyhow!("{failed} of {runs} runs failed"),
                    hint: "the same command takes them again; one whose numbers were no numbers, \
                           once its folder is removed"
                        .into(),
                }
                .into()),
            }
        }
        Err(error @ (TrainError::Interrupted { .. } | TrainError::NotSaved { .. })) => {
            ended(error.chain());
            let again = shell::command(std::env::args_os());
            ended(format!("go on with: {again}"));
            let code = signals.exit_code();
            Err(Stopped { code }.into())
        }
        Err(error @ TrainError::FileChanged { .. }) => Err(WithHint {
            error: anyhow::Error::new(error)
                .context(format!("the sweep in {} cannot go on", folder.display())),
            hint: "put it back as it was; or name another folder with --run, to train all runs on \
                   what it is now"
                .into(),
        }
        .into()),
        Err(error) => Err(error.into()),
    }
}

/// Every run of the command. `named` becomes the run folder that the configuration names.
fn plan(args: &SweepArgs, choices: Choices, named: &mut Option<PathBuf>) -> Result<Plan> {
    let keys = choices.keys.clone();
    let root = || builtin::unpack(Path::new("runs"));
    let mut last = Vec::new();
    let read = |set: &[String]| -> Result<RunConfig> {
        last = set.to_vec();
        let mut config = read_named(&args.config, set, root)?;
        config.data.skip_bad_rows |= args.skip_bad_rows;
        config.model.path = hub::configured(&config.model, args.download)?;
        hub::data(&mut config.data, args.download)?;
        *named = config.run.clone();
        Ok(config)
    };
    let error = match Plan::new(choices, read) {
        Ok(plan) => return Ok(plan),
        Err(error) => error,
    };
    if !matches!(error.downcast_ref(), Some(TrainError::Config { origin, .. }) if origin != TYPED) {
        return Err(error);
    }
    let several = || (0..last.len().min(keys.len())).filter(|at| keys[*at].varies());
    // Several values that were meant as one: with it there is no fault.
    let as_one = several().find(|at| {
        let mut set = last.clone();
        set[*at] = format!("{}={}", keys[*at].key, keys[*at].values.join(","));
        let read = read_named(&args.config, &set, root);
        read.is_ok_and(|config| config.check_adapter().is_ok())
    });
    let values: Vec<&str> = several().map(|at| last[at].as_str()).collect();
    let error = match error.downcast() {
        Ok(TrainError::Config { origin, faults }) if !values.is_empty() => TrainError::Config {
            origin: format!("{origin} with {}", values.join(" ")),
            faults,
        }
        .into(),
        Ok(error) => error.into(),
        Err(error) => error,
    };
    Err(match as_one {
        Some(at) => WithHint {
            error,
            hint: format!(
                "a value with a comma in it goes in quotes: --set '{}=\"A,B\",C'",
                keys[at].key
            ),
        }
        .into(),
        None => error,
    })
}

/// The folder of the sweep; `named` is the run folder that the configuration names.
fn folder(args: &SweepArgs, named: Option<&Path>) -> PathBuf {
    match (&args.run, named) {
        (Some(folder), _) => folder.clone(),
        (None, Some(run)) => with_ending(run),
        (None, None) => with_ending(&Path::new("runs").join(name(&args.config))),
    }
}

/// The name of a configuration.
fn name(config: &Path) -> &str {
    let name = config.file_stem().and_then(|name| name.to_str());
    name.unwrap_or("run")
}

/// The folder of a sweep beside that of a run.
fn with_ending(run: &Path) -> PathBuf {
    // Without a slash at the end, behind which the folder would stand in that of the run.
    let run: PathBuf = run.components().collect();
    let mut name = run.into_os_string();
    name.push("-sweep");
    name.into()
}

/// What is printed of a sweep.
fn text(plan: &Plan, outcome: &Outcome, folder: &Path) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (name, error) in &outcome.failed {
        writeln!(out, "{name} failed: {error}\n")?;
    }
    let Some(metric) = &outcome.metric else {
        if outcome.failed.len() < plan.runs().len() {
            writeln!(
                out,
                "the runs were scored by different metrics: set train.metric_for_best_model"
            )?;
        }
        return Ok(out);
    };
    let choices = plan.choices();
    let mut over = Vec::new();
    over.extend(choices.seeds.map(|seeds| format!("{seeds} seeds")));
    over.extend(choices.folds.map(|folds| format!("{folds} folds")));
    let means = match over.len() {
        0 => String::new(),
        _ => format!(", mean ± sample deviation over {}", over.join(" and ")),
    };
    writeln!(out, "{metric}{means}\n")?;
    out.extend(table(outcome).into_bytes());
    if outcome.test_chose {
        writeln!(
            out,
            "\nby the protocol paper the test split has chosen the checkpoints, and this best too"
        )?;
    }
    let Some(best) = outcome.best else {
        writeln!(out, "\nno best: of no combination every run finished")?;
        return Ok(out);
    };
    let values = outcome.combinations[best].values.iter();
    let values: Vec<String> = values
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let program = shell::command([shell::program()]);
    let config = shell::command([shell::from_here(&folder.join(BEST))]);
    writeln!(out)?;
    if !values.is_empty() {
        writeln!(out, "best                     {}", values.join(" "))?;
    }
    writeln!(out, "configuration            {config}")?;
    let run = outcome
        .best_run
        .as_ref()
        .filter(|_| choices.folds.is_none());
    let run = run.map(|run| shell::command([shell::from_here(&folder.join(run))]));
    if let Some(run) = &run {
        writeln!(out, "its best run             {run}")?;
    }
    writeln!(out, "\nnext:")?;
    match run {
        Some(run) => writeln!(out, "  {program} evaluate --run {run}")?,
        // Each of the models has not seen a part of the examples.
        None => writeln!(out, "  {program} train --config {config} --run DIR")?,
    }
    Ok(out)
}

/// A line for each combination, the best with a star.
fn table(outcome: &Outcome) -> String {
    let shown = |spread: &Option<Spread>| match spread {
        None => "-".to_owned(),
        Some(Spread { mean, deviation }) => {
            let deviation = deviation.map(|deviation| format!(" ± {deviation:.4}"));
            format!("{mean:.4}{}", deviation.unwrap_or_default())
        }
    };
    let rows = &outcome.combinations;
    let keys = rows.first().map(|row| &row.values[..]).unwrap_or_default();
    let has_test = rows.iter().any(|row| row.test.is_some());
    let all_done = rows.iter().all(|row| row.finished == row.runs);
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(keys.iter().map(|(key, _)| key.clone()));
    lines[0].push("validation".into());
    lines[0].extend(has_test.then(|| "test".to_owned()));
    lines[0].extend((!all_done).then(|| "finished".to_owned()));
    for (at, row) in rows.iter().enumerate() {
        let star = if outcome.best == Some(at) { "*" } else { "" };
        let mut line = vec![star.to_owned()];
        line.extend(row.values.iter().map(|(_, value)| ls_files::shown(value)));
        line.push(shown(&row.validation));
        line.extend(has_test.then(|| shown(&row.test)));
        line.extend((!all_done).then(|| format!("{} of {}", row.finished, row.runs)));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}
