//! `ls-cli evaluate`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_data::FileFormat;
use ls_train::dataset::Examples;
use ls_train::{Predictor, RunConfig, TrainError};
use serde_json::json;

use super::table::table;
use crate::args::{EvaluateArgs, ScoreFormat};
use crate::device;
use crate::output::Display;

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let device = device::select(args.device.as_deref())?;
    let (predictor, config) = Predictor::from_run(&args.run, &device)
        .with_context(|| format!("cannot open run {}", args.run.display()))?;
    let (name, path, examples) = match &args.data {
        Some(path) => {
            let mut data = config.data.clone();
            if FileFormat::from_path(path).is_ok() {
                // The run's format is that of its own files.
                data.format = None;
            }
            let examples = Examples::read(path, config.task, &data, true)?;
            ("data".to_string(), path.clone(), examples)
        }
        None => split(&config, args.split.as_deref())?,
    };
    let mut display = Display::new();
    display.start("evaluating", examples.len());
    let (evaluation, dataset) = predictor.evaluate(&path, examples, |done| display.tick(done))?;
    display.finish();
    if dataset.cut.cut_examples > 0 {
        display.line(format!("{}: {}", path.display(), dataset.cut));
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        ScoreFormat::Json => {
            let mut object = json!({
                "split": name,
                "path": path,
                "examples": dataset.len(),
                "cut_examples": dataset.cut.cut_examples,
                "loss": evaluation.loss,
            });
            if let (Some(object), serde_json::Value::Object(scores)) = (
                object.as_object_mut(),
                serde_json::to_value(&evaluation.scores)?,
            ) {
                object.extend(scores);
            }
            writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        }
        ScoreFormat::Text => {
            writeln!(
                out,
                "{name}: {} ({} examples), loss {:.4}",
                path.display(),
                dataset.len(),
                evaluation.loss
            )?;
            table(&mut out, &evaluation.scores)?;
        }
    }
    Ok(())
}

/// The examples of a split of the run's configuration. A validation split that was set aside is set aside again.
fn split(config: &RunConfig, name: Option<&str>) -> Result<(String, PathBuf, Examples)> {
    let data = &config.data;
    let available: Vec<&str> = [
        Some("train"),
        Some("validation"),
        data.test.as_ref().map(|_| "test"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let name = name.unwrap_or(if data.test.is_some() {
        "test"
    } else {
        "validation"
    });
    let read = |path: &Path| Examples::read(path, config.task, data, true);
    let (path, examples) = match (name, &data.validation, &data.test) {
        ("test", _, Some(path)) | ("validation", Some(path), _) => (path, read(path)?),
        ("train", Some(_), _) => (&data.train, read(&data.train)?),
        ("train" | "validation", None, _) => {
            let (train, validation) = ls_train::trainer::set_aside(read(&data.train)?, config)?;
            (
                &data.train,
                if name == "train" { train } else { validation },
            )
        }
        _ => {
            return Err(TrainError::NoSplit {
                split: name.into(),
                available: available.join(", "),
            }
            .into());
        }
    };
    Ok((name.into(), path.clone(), examples))
}
