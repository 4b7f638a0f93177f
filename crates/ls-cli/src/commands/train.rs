//! `ls-cli train`: fine-tunes by a configuration and prints the report.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_files::{StdoutError, exists, is_file, print};
use ls_train::config::DataFiles;
use ls_train::{Report, RunConfig, TrainError};

use crate::args::{RunArgs, TrainArgs, sets};
use crate::error::{Stopped, UsageError, WithHint};
use crate::numbers::{bytes, clock};
use crate::output::Display;
use crate::screen::{ended, say};
use crate::signals::Signals;
use crate::{builtin, device, hub, shell};

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let signals = Signals::listen();
    let unnamed = || -> anyhow::Error {
        let message = "--resume: of which run?".into();
        let hint = Some("name its folder: --resume RUN".into());
        UsageError { message, hint }.into()
    };
    let named = named_folder(args)?;
    let configured = args.of.config.is_some() || args.of.data.is_some();
    if args.resume.is_some() && named.is_none() && !configured {
        return Err(unnamed());
    }
    let device = device::select(args.device.as_deref())?;
    let (config, decided) = read_config(args)?;
    let mut display = Display::default().stopped_by(&signals);
    let run = match named
        .or(resumed_by_config(args)?)
        .or_else(|| config.run.clone())
    {
        Some(run) => run,
        None if args.resume.is_some() => return Err(unnamed()),
        None => free_folder(args.of.data.as_deref().unwrap_or(name(&args.of)), |taken| {
            if matches!(ls_train::unfinished(taken), Ok(Some(_))) {
                say(format!(
                    "note: {} holds a run that is not finished; to go on with it: {}",
                    taken.display(),
                    resume_command(taken, args, None)
                ));
            }
        })?,
    };
    for line in decided {
        say(line);
    }
    say(format!(
        "run folder {}, device {}",
        run.display(),
        args.device.as_deref().unwrap_or(device::default_name())
    ));
    let go = match args.resume {
        Some(_) => ls_train::resume,
        None => ls_train::train,
    };
    let result = go(&config, &run, &device, &mut display);
    display.finish();
    match result {
        Ok(report) => print(text(&report, &config)?).map_err(|error| match error {
            // Nothing is lost with it.
            StdoutError::Closed => error.into(),
            StdoutError::Failed(_) => anyhow::Error::from(error).context(format!(
                "the run is finished and saved in {}, but what is said of it could not be printed",
                run.display()
            )),
        }),
        Err(TrainError::Finished { .. }) if args.resume.is_some() => {
            // Whoever starts it again until it is done is done.
            say(format!(
                "{} holds a finished run: nothing is left to do (--set train.epochs=N trains longer)",
                run.display()
            ));
            Ok(())
        }
        Err(error @ (TrainError::Interrupted { .. } | TrainError::NotSaved { .. })) => {
            ended(error.chain());
            ended(if goes_on(&run) {
                format!("go on with: {}", resume_command(&run, args, None))
            } else {
                "the same command starts it again".into()
            });
            let code = signals.exit_code();
            Err(Stopped { code }.into())
        }
        Err(error) => Err(explained(error, &run, args)),
    }
}

/// What went wrong, with the way out where it is to go on.
fn explained(error: TrainError, run: &Path, args: &TrainArgs) -> anyhow::Error {
    let hint = way_out(&error, run, args);
    let error =
        anyhow::Error::new(error).context(format!("training into {} failed", run.display()));
    match hint {
        Some(hint) => WithHint { error, hint }.into(),
        None => error,
    }
}

/// How to go on with the run, where it can.
fn way_out(error: &TrainError, run: &Path, args: &TrainArgs) -> Option<String> {
    let command = resume_command(run, args, error.goes_on_with());
    if matches!(error, TrainError::Unfinished { .. }) {
        return Some(format!(
            "name another folder with --run to begin another run, or go on with: {command}"
        ));
    }
    if error.is_usage() || !goes_on(run) {
        return None;
    }
    match (error.hint(), error.goes_on_with()) {
        // A disk that is full, or a file that is missing, can be mended: the run then goes on from
        // where it was.
        (None, _) if args.resume.is_some() => {
            Some("once that is mended, the same command goes on".into())
        }
        (None, _) => Some(format!("go on with: {command}")),
        // It would fail again as it is.
        (Some(hint), Some(_)) => Some(format!(
            "{hint}. Settings that a run cannot change need another folder (--run); this one may \
             go on with: {command}"
        )),
        (Some(hint), None) if matches!(error, TrainError::NotFinite { .. }) => {
            Some(format!("{hint}, in another folder (--run)"))
        }
        (Some(_), None) => None,
    }
}

/// Whether a folder holds a run that is not finished. One that cannot be looked at would not go on
/// either.
fn goes_on(run: &Path) -> bool {
    matches!(ls_train::unfinished(run), Ok(Some(_)))
}

/// The command that goes on with a run, and sets one more key, as a shell takes it. What a command
/// that goes on changes is said again: the run may not have come to where it is written down.
fn resume_command(run: &Path, args: &TrainArgs, more: Option<&str>) -> String {
    let mut flags = Vec::new();
    if let Some(device) = &args.device {
        flags.extend(["--device", device]);
    }
    if args.resume.is_some() {
        let config = args.of.config.as_deref().and_then(Path::to_str);
        flags.extend(config.into_iter().flat_map(|config| ["--config", config]));
        let key = |set: &str| set.split('=').next().map(|key| key.trim().to_owned());
        let others = args
            .of
            .set
            .iter()
            .filter(|set| key(set) != more.and_then(key));
        flags.extend(others.flat_map(|set| ["--set", set]));
    }
    flags.extend(more.into_iter().flat_map(|set| ["--set", set]));
    shell::resume(run, &flags)
}

/// The run folder that the flags name.
fn named_folder(args: &TrainArgs) -> Result<Option<PathBuf>> {
    match (&args.resume, &args.run) {
        (Some(Some(resumed)), Some(run)) if resumed != run => Err(UsageError::new(format!(
            "--resume names {} and --run {}: name one",
            resumed.display(),
            run.display()
        ))
        .into()),
        (Some(Some(resumed)), _) => Ok(Some(resumed.clone())),
        (_, run) => Ok(run.clone()),
    }
}

/// The run that goes on by its own configuration: its folder, wherever that was moved since the
/// configuration was written.
fn resumed_by_config(args: &TrainArgs) -> Result<Option<PathBuf>> {
    let (Some(_), Some(config)) = (&args.resume, &args.of.config) else {
        return Ok(None);
    };
    let told = sets(&args.of.set, "run");
    if told || config.file_name() != Some("config.toml".as_ref()) {
        return Ok(None);
    }
    let folder = ls_files::parent_of(config);
    Ok(ls_train::is_run(folder)?.then(|| folder.to_path_buf()))
}

/// The configuration of a run that begins or goes on, and what was decided where it is of files
/// alone.
fn read_config(args: &TrainArgs) -> Result<(RunConfig, Vec<String>)> {
    let of_run = match (&args.resume, &args.of.config, &args.of.data) {
        (Some(_), None, None) => named_folder(args)?,
        _ => resumed_by_config(args)?,
    };
    match of_run {
        Some(run) if args.of.data.is_none() => {
            let config = ls_train::config_of_run(&run, &args.of.set)?;
            Ok((found(config, &args.of)?, Vec::new()))
        }
        _ => read_new(&args.of, || builtin::unpack(Path::new("runs"))),
    }
}

/// The configuration of a run that begins, by its name or of files alone, with the folders that it
/// is of; and what was decided in the second case. `root` puts the files of the built-in ones
/// somewhere.
pub(super) fn read_new(
    args: &RunArgs,
    root: impl FnOnce() -> ls_files::Result<PathBuf>,
) -> Result<(RunConfig, Vec<String>)> {
    let Some(train) = &args.data else {
        let config = read_named(name(args), &args.set, root)?;
        return Ok((found(config, args)?, Vec::new()));
    };
    let model = args.model.as_deref();
    let mut keys = ["model.path", "model.adapter"].into_iter();
    if model.is_none() && !keys.any(|key| sets(&args.set, key)) {
        let message = "--data: which model is to be trained?".into();
        let hint = "name it with --model HF_DIR, or an adapter to begin from with --set \
                    model.adapter=DIR";
        let hint = Some(hint.into());
        return Err(UsageError { message, hint }.into());
    }
    let files = DataFiles {
        model,
        train,
        validation: args.validation.as_deref(),
        test: args.test.as_deref(),
        task: args.task,
    };
    let (config, decided) = RunConfig::of_files(&files, &args.set)?;
    Ok((found(config, args)?, decided))
}

/// The configuration with the folders of model and data set that it is of.
fn found(mut config: RunConfig, args: &RunArgs) -> Result<RunConfig> {
    config.data.skip_bad_rows |= args.skip_bad_rows;
    config.model.path = hub::configured(&config.model, args.download)?;
    hub::data(&mut config.data, args.download)?;
    Ok(config)
}

/// The configuration of a file, or the built-in one of a name, whose files `root` puts somewhere.
pub(super) fn read_named(
    config: &Path,
    set: &[String],
    root: impl FnOnce() -> ls_files::Result<PathBuf>,
) -> Result<RunConfig> {
    expect_config(config)?;
    match builtin::config(config) {
        Some(text) if !is_file(config)? => {
            let text = builtin::relocate(text, &root()?);
            let name = config.display().to_string();
            Ok(RunConfig::from_toml(&text, &name, set)?)
        }
        _ => Ok(RunConfig::from_file(config, set)?),
    }
}

/// Sees that there is a configuration, a file or a built-in one.
pub(super) fn expect_config(config: &Path) -> Result<()> {
    if exists(config)? || builtin::config(config).is_some() {
        return Ok(());
    }
    Err(UsageError {
        message: format!("configuration {} does not exist", config.display()),
        hint: Some("name a file, or demo-sentiment or demo-ner".into()),
    }
    .into())
}

/// The name of the configuration.
fn name(args: &RunArgs) -> &Path {
    args.config
        .as_deref()
        .unwrap_or(Path::new("demo-sentiment"))
}

/// `runs/NAME`, or `runs/NAME-2` and so on if that is taken, of which `passed` hears.
pub(super) fn free_folder(config: &Path, passed: impl Fn(&Path)) -> Result<PathBuf> {
    let name = config
        .file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or("run");
    let taken = |path: &Path| {
        std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file()
    };
    let candidates = (1..).map(|n| {
        Path::new("runs").join(if n == 1 {
            name.to_string()
        } else {
            format!("{name}-{n}")
        })
    });
    let free = |path: &PathBuf| {
        let taken = taken(path);
        if taken {
            passed(path);
        }
        !taken
    };
    candidates
        .into_iter()
        .find(free)
        .context("no free name for a run folder")
}

/// What is printed of a finished run.
fn text(report: &Report, config: &RunConfig) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let metric = &report.metric;
    let value = |scores: &ls_train::Scores, loss: f64| {
        if metric == "loss" {
            loss
        } else {
            scores.get(metric).unwrap_or(f64::NAN)
        }
    };
    let split = &report.reported_split;
    writeln!(
        out,
        "{:<24} {:.4}   ({} protocol{})",
        format!("{split} {metric}"),
        value(&report.scores, report.loss),
        report.protocol,
        report
            .published_split
            .map(|name| format!("; published as the {name} split"))
            .unwrap_or_default()
    )?;
    if let Some(form) = &report.form {
        writeln!(out, "data                     {form}")?;
    }
    for baseline in report.baselines.iter().rev() {
        writeln!(
            out,
            "  {:<22} {:.4}",
            baseline.name,
            value(&baseline.scores, f64::NAN)
        )?;
    }
    writeln!(
        out,
        "best checkpoint          {} (step {}, validation {metric} {:.4})",
        report.run.join("best").display(),
        report.best.step,
        report.best.value
    )?;
    if split == "validation" {
        writeln!(
            out,
            "  (this split also chose the checkpoint: name data.test for a score it had no part in)"
        )?;
    }
    if report.reported_split_fitted {
        writeln!(
            out,
            "  (the thresholds of the labels were fitted to the {split} split too: they favour its F1)"
        )?;
    }
    let memory = report
        .peak_memory
        .map(|peak| format!(", peak memory {}", bytes(peak)))
        .unwrap_or_default();
    let skipped = match report.skipped_steps {
        0 => String::new(),
        skipped => format!(" ({skipped} skipped: no numbers)"),
    };
    writeln!(
        out,
        "training                 {} steps{skipped} in {}, {:.0} tokens/s{memory}",
        report.steps,
        clock(report.train_seconds),
        report.tokens_per_second
    )?;
    let page = report.run.join(ls_report::PAGE);
    if page.is_file() {
        writeln!(out, "page                     {}", page.display())?;
    }
    let run = shell::command([shell::from_here(&report.run)]);
    let example = match config.task {
        ls_data::TaskKind::Sequence => "the soup was cold , but everything after it was a joy",
        ls_data::TaskKind::Token => "Jordan opened a new factory in Preston",
    };
    let program = shell::command([shell::program()]);
    writeln!(
        out,
        "\nnext:\n  {program} predict --run {run} \"{example}\"\n  {program} evaluate --run {run}"
    )?;
    writeln!(
        out,
        "  {program} init FILE   (looks at your own data and writes a configuration for it)"
    )?;
    Ok(out)
}
