//! `ls-cli evaluate`: scores a run's best checkpoint on a split or a file.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use ls_data::FileFormat;
use ls_train::dataset::Dataset;
use ls_train::sources::{Source, Sources, known_form, named};
use ls_train::{Predictor, RunConfig, TrainError};
use serde_json::json;

use super::table::table;
use crate::args::{EvaluateArgs, ScoreFormat};
use crate::device;
use crate::output::Display;

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let device = device::select(args.device.as_deref())?;
    let (predictor, mut config) = Predictor::from_run(&args.run, &device)
        .with_context(|| format!("cannot open run {}", args.run.display()))?;
    config.data.skip_bad_rows |= args.skip_bad_rows;
    let protocol = config.data.protocol;
    let cache = config.data.cache.then(ls_data::default_cache).flatten();
    let (name, dataset) = match &args.data {
        Some(path) => {
            let source = match known_form(&config.data, path)? {
                Some(source) => source,
                None => {
                    let mut data = config.data.clone();
                    if FileFormat::from_path(path).is_ok() {
                        // The run's format is that of its own files.
                        data.format = None;
                    }
                    let mut source = named(&data, std::slice::from_ref(path), true)?;
                    if data.known().is_some() {
                        source.split.read.label_names =
                            Some(predictor.settings.labels.names().to_vec());
                    }
                    source
                }
            };
            let dataset = predictor.dataset(&source.split, cache.as_deref())?;
            ("data".to_string(), dataset)
        }
        None => split(&predictor, &config, args.split.as_deref(), cache.as_deref())?,
    };
    let mut display = Display::new();
    display.skipped(dataset.skipped());
    display.start("evaluating", dataset.lengths().len());
    let evaluation = predictor.evaluate(&dataset, protocol, |done| display.tick(done))?;
    display.finish();
    let files: Vec<String> = dataset
        .files()
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    let files = files.join(", ");
    if dataset.cut.cut_examples + dataset.cut.windowed_examples > 0 {
        display.line(format!("{files}: {}", dataset.cut));
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        ScoreFormat::Json => {
            let mut object = json!({
                "split": name,
                "path": files,
                "protocol": protocol,
                "examples": dataset.len(),
                "cut_examples": dataset.cut.cut_examples,
                "cut_words": dataset.cut.cut_words,
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
                "{name}: {files} ({} examples, {protocol} protocol), loss {:.4}",
                dataset.len(),
                evaluation.loss
            )?;
            table(&mut out, &evaluation.scores)?;
        }
    }
    Ok(())
}

/// A split of the run's configuration. A validation split that was set aside is set aside again.
fn split(
    predictor: &Predictor,
    config: &RunConfig,
    name: Option<&str>,
    cache: Option<&Path>,
) -> Result<(String, Dataset)> {
    let sources = Sources::of(config)?;
    let name = name.unwrap_or(match sources.test {
        Some(_) => "test",
        None => "validation",
    });
    let read = |source: &Source| predictor.dataset(&source.split, cache);
    let dataset = match (name, &sources.validation, &sources.test) {
        ("test", _, Some(source)) | ("validation", Some(source), _) => read(source)?,
        ("train", Some(_), _) => read(&sources.train)?,
        ("train" | "validation", None, _) => {
            let train = read(&sources.train)?;
            let (train, validation) = ls_train::splits::set_aside(&train, config)?;
            if name == "train" { train } else { validation }
        }
        _ => {
            let test = sources.test.as_ref().map(|_| "test");
            let available: Vec<&str> = ["train", "validation"].into_iter().chain(test).collect();
            return Err(TrainError::NoSplit {
                split: name.into(),
                available: available.join(", "),
            }
            .into());
        }
    };
    Ok((name.into(), dataset))
}
