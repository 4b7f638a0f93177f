//! `ls-cli train`: fine-tunes by a configuration and prints the report.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_files::{StdoutError, print};
use ls_train::config::DataFiles;
use ls_train::{Report, RunConfig};

use crate::args::TrainArgs;
use crate::error::UsageError;
use crate::output::{Display, bytes, duration};
use crate::{builtin, device, hub};

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let device = device::select(args.device.as_deref())?;
    let (mut config, decided) = read_config(args)?;
    config.data.skip_bad_rows |= args.skip_bad_rows;
    config.model.path = hub::model(&config.model.path, args.download)?;
    hub::data(&mut config.data, args.download)?;
    let run = match args.run.clone().or_else(|| config.run.clone()) {
        Some(run) => run,
        None => free_folder(args.data.as_deref().unwrap_or(name(args)))?,
    };
    let mut display = Display::new();
    for line in decided {
        display.line(line);
    }
    display.line(format!(
        "run folder {}, device {}",
        run.display(),
        args.device.as_deref().unwrap_or(device::default_name())
    ));
    let result = ls_train::train(&config, &run, &device, &mut display);
    display.finish();
    let report = result.with_context(|| format!("training into {} failed", run.display()))?;
    print(text(&report, &config)?).map_err(|error| match error {
        // Nothing is lost with it.
        StdoutError::Closed => error.into(),
        StdoutError::Failed(_) => anyhow::Error::from(error).context(format!(
            "the run is finished and saved in {}, but what is said of it could not be printed",
            run.display()
        )),
    })
}

/// The configuration, by its name or of files alone, and what was decided in that case.
fn read_config(args: &TrainArgs) -> Result<(RunConfig, Vec<String>)> {
    if let (Some(model), Some(train)) = (&args.model, &args.data) {
        let files = DataFiles {
            model,
            train,
            validation: args.validation.as_deref(),
            test: args.test.as_deref(),
            task: args.task,
        };
        return Ok(RunConfig::of_files(&files, &args.set)?);
    }
    let config = name(args);
    if !config.is_file() {
        if let Some(text) = builtin::config(config) {
            let root = builtin::unpack(Path::new("runs"))?;
            let name = config.display().to_string();
            let text = builtin::relocate(text, &root);
            return Ok((RunConfig::from_toml(&text, &name, &args.set)?, Vec::new()));
        }
        if !config.exists() {
            return Err(UsageError {
                message: format!("configuration {} does not exist", config.display()),
                hint: Some("name a file, or demo-sentiment or demo-ner".into()),
            }
            .into());
        }
    }
    Ok((RunConfig::from_file(config, &args.set)?, Vec::new()))
}

/// The name of the configuration.
fn name(args: &TrainArgs) -> &Path {
    args.config
        .as_deref()
        .unwrap_or(Path::new("demo-sentiment"))
}

/// `runs/NAME`, or `runs/NAME-2` and so on if that is taken.
fn free_folder(config: &Path) -> Result<PathBuf> {
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
    candidates
        .into_iter()
        .find(|path| !taken(path))
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
    let memory = report
        .peak_memory
        .map(|peak| format!(", peak memory {}", bytes(peak)))
        .unwrap_or_default();
    writeln!(
        out,
        "training                 {} steps in {}, {:.0} tokens/s{memory}",
        report.steps,
        duration(report.train_seconds),
        report.tokens_per_second
    )?;
    let run = shown(&report.run);
    let example = match config.task {
        ls_data::TaskKind::Sequence => "the soup was cold , but everything after it was a joy",
        ls_data::TaskKind::Token => "Jordan opened a new factory in Preston",
    };
    let program = std::env::args().next().unwrap_or("ls-cli".into());
    writeln!(
        out,
        "\nnext:\n  {program} predict --run {run} \"{example}\"\n  {program} evaluate --run {run}"
    )?;
    writeln!(
        out,
        "  {program} train --config FILE   (configs/ has examples; README.md shows one for your own CSV)"
    )?;
    Ok(out)
}

/// A path relative to here where it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
