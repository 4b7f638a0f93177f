//! `ls-cli evaluate`: scores a run's best checkpoint on a split or a file, or a model from
//! elsewhere on a file.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use ls_data::{DataError, FileFormat, TaskKind};
use ls_files::print;
use ls_train::config::{DataFiles, check_reading};
use ls_train::dataset::Dataset;
use ls_train::sources::{Source, Sources, known_form, named, recorded_format, with_keys};
use ls_train::{Predictor, Problem, RunConfig, TrainError};
use serde_json::{Map, Value, json};

use super::coverage::{self, expect_answers};
use super::table::table;
use crate::args::{EvaluateArgs, ScoreFormat, sets};
use crate::error::UsageError;
use crate::output::{Display, skipped};
use crate::screen::say;
use crate::{device, model};

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    if args.model.model.is_some() && args.data.is_none() {
        return Err(UsageError {
            message: "--model: which labelled file is to be scored?".into(),
            hint: Some("name it with --data FILE".into()),
        }
        .into());
    }
    let device = device::select(args.device.as_deref())?;
    let mut display = Display::default();
    let (predictor, of_run) = model::open(&args.model, &device, &mut display)?;
    predictor.check_scored()?;
    let (mut config, decided) = match (of_run, &args.data) {
        (Some(mut config), _) => {
            if !args.set.is_empty() {
                config.data = config.data.read_as(&args.set)?;
            }
            (config, Vec::new())
        }
        (None, Some(data)) => of_file(args, &predictor, data)?,
        (None, None) => return Err(UsageError::new("expected --data with --model").into()),
    };
    config.data.skip_bad_rows |= args.skip_bad_rows;
    let protocol = config.data.protocol;
    let cache = config.data.cache.then(ls_data::default_cache).flatten();
    for line in decided {
        say(line);
    }
    for note in model::notes(&args.model, &predictor)? {
        say(note);
    }
    let (name, dataset) = match &args.data {
        Some(path) => {
            let source = source(args, &predictor, &config, path)?;
            let dataset = labelled(args, &predictor, &source, cache.as_deref(), &mut display)?;
            ("data".to_string(), dataset)
        }
        None => {
            let (name, cache) = (args.split.as_deref(), cache.as_deref());
            split(&predictor, &config, name, cache, &mut display)?
        }
    };
    display.finish();
    skipped(dataset.skipped());
    let evaluation = predictor.evaluate(&dataset, protocol, &mut display)?;
    display.finish();
    let files: Vec<String> = dataset
        .files()
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    let files = files.join(", ");
    if dataset.cut.cut_examples + dataset.cut.windowed_examples > 0 {
        say(format!("{files}: {}", dataset.cut));
    }
    let mut how = Map::new();
    let mut said = vec![format!("{} examples, {protocol} protocol", dataset.len())];
    if let Some(scheme) = predictor.decoding().constrained {
        how.insert("constrained".into(), json!(scheme));
        said.push(format!("tags held to {}", scheme.name()));
    }
    let problem = predictor.problem();
    if problem == Problem::MultiLabel {
        let names = predictor.settings.labels.names();
        let holds = evaluation.calibration.thresholds(names.len());
        said.push(
            match (
                &evaluation.calibration.thresholds,
                args.model.answering.threshold,
            ) {
                (_, Some(threshold)) => format!("labels hold from {threshold} on (--threshold)"),
                (Some(_), None) => {
                    "each label holds from its own threshold on (`inspect` lists them)".into()
                }
                (None, None) => "labels hold from 0.5 on: no thresholds were fitted".into(),
            },
        );
        let each = names
            .iter()
            .zip(holds)
            .map(|(name, from)| (name.clone(), digits(from)));
        how.insert("thresholds".into(), each.collect::<Map<_, _>>().into());
    }
    let coverage = evaluation.coverage.zip(args.model.answering.abstain_below);
    if let Some((coverage, least)) = coverage {
        expect_answers(&files, problem, coverage)?;
        how.extend(coverage::fields(coverage, digits(least)));
    }
    let mut out = Vec::new();
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
            if let Some(object) = object.as_object_mut() {
                object.extend(how);
            }
            if let (Some(object), serde_json::Value::Object(scores)) = (
                object.as_object_mut(),
                serde_json::to_value(&evaluation.scores)?,
            ) {
                object.extend(scores);
            }
            writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        }
        ScoreFormat::Text => {
            let (said, loss) = (said.join(", "), evaluation.loss);
            writeln!(out, "{name}: {files} ({said}), loss {loss:.4}")?;
            if let Some((coverage, least)) = coverage {
                let at = format!(" at --abstain-below {least}");
                writeln!(out, "{}", coverage::line(problem, coverage, &at))?;
            }
            table(&mut out, &evaluation.scores)?;
        }
    }
    Ok(print(out)?)
}

/// A number with the digits that an f32 has; widened to f64 it would print noise after them.
fn digits(value: f32) -> Value {
    value.to_string().parse().map_or(Value::Null, Value::Number)
}

/// The settings for a file of which no more is said, and what was decided.
fn of_file(
    args: &EvaluateArgs,
    predictor: &Predictor,
    data: &Path,
) -> Result<(RunConfig, Vec<String>)> {
    let files = DataFiles {
        model: Some(&predictor.settings.base_model),
        train: data,
        validation: None,
        test: None,
        task: Some(predictor.settings.task),
    };
    check_reading(&args.set)?;
    // That of the model, whatever the labels of the file look like.
    let settings = &predictor.settings;
    let problem = (settings.task == TaskKind::Sequence).then(|| {
        let problem = settings.problem_type.unwrap_or_default();
        format!("model.problem_type={}", problem.name())
    });
    let set: Vec<String> = args.set.iter().cloned().chain(problem).collect();
    Ok(RunConfig::of_files(&files, &set)?)
}

/// How a file is read by the settings of a run, or by those that were found in it.
fn source(
    args: &EvaluateArgs,
    predictor: &Predictor,
    config: &RunConfig,
    path: &Path,
) -> Result<Source> {
    if let Some(source) = known_form(&config.data, path)? {
        return Ok(source);
    }
    let mut data = config.data.clone();
    let said = args.set.iter().any(|set| set.starts_with("data.format"));
    let own = recorded_format(&data, path).is_some();
    if args.model.run.is_some() && !said && !own && FileFormat::from_path(path).is_ok() {
        // The run's format is that of its own files, and this one's ending is another.
        data.format = None;
    }
    let format = data.format.as_deref().and_then(FileFormat::from_name);
    let format = format.or_else(|| FileFormat::from_path(path).ok());
    if args.model.run.is_some() && format == Some(FileFormat::Jsonl) {
        data = with_keys(&data, |key| sets(&args.set, &format!("data.{key}")));
    }
    let mut source = named(&data, &[path.to_path_buf()], true)?;
    if data.known().is_some() {
        source.split.read.label_names = Some(predictor.settings.labels.names().to_vec());
    }
    Ok(source)
}

/// The file with the model's labels.
fn labelled(
    args: &EvaluateArgs,
    predictor: &Predictor,
    source: &Source,
    cache: Option<&Path>,
    display: &mut Display,
) -> Result<Dataset> {
    let error = match predictor.dataset(&source.split, cache, display) {
        Ok(dataset) => return Ok(dataset),
        Err(error) => error,
    };
    let integers = match &error {
        TrainError::Data(DataError::NamesNeeded { .. }) => true,
        TrainError::UnknownLabels { found, .. } => {
            found.iter().all(|label| label.parse::<i64>().is_ok())
        }
        _ => return Err(error.into()),
    };
    let names = predictor.settings.labels.names();
    let unnamed = source.split.read.label_names.is_none();
    // A model from elsewhere numbers its labels, as does whoever names them in its order. Those of
    // a training here were numbered by their names.
    let numbered = !predictor.recorded || args.model.overrides.labels.is_some();
    if integers && unnamed && numbered {
        let mut source = source.clone();
        source.split.read.label_names = Some(names.to_vec());
        return Ok(predictor.dataset(&source.split, cache, display)?);
    }
    let in_order = || {
        let quoted = names.iter().map(|name| format!("{name:?}"));
        quoted.collect::<Vec<_>>().join(",")
    };
    let way_out = if integers && unnamed {
        format!(
            "if the integers count the model's labels, name these in the order of the integers: \
             --set 'data.labels=[{}]'",
            in_order()
        )
    } else if args.model.run.is_some() {
        return Err(error.into());
    } else {
        let mut numbered = names.iter().enumerate();
        let why = if numbered.all(|(id, name)| *name == format!("LABEL_{id}")) {
            "no file of the model names its labels"
        } else {
            "if they are the model's by other names"
        };
        format!("{why}: give the file's in the order of the head with --labels A,B,C")
    };
    Err(error.with_way_out(way_out).into())
}

/// A split of the run's configuration. A validation split that was set aside is set aside again.
fn split(
    predictor: &Predictor,
    config: &RunConfig,
    name: Option<&str>,
    cache: Option<&Path>,
    display: &mut Display,
) -> Result<(String, Dataset)> {
    let sources = Sources::of(config)?;
    let name = name.unwrap_or(match sources.test {
        Some(_) => "test",
        None => "validation",
    });
    let mut read = |source: &Source| predictor.dataset(&source.split, cache, display);
    let dataset = match (name, &sources.validation, &sources.test) {
        ("test", _, Some(source)) | ("validation", Some(source), _) => read(source)?,
        ("train", validation, _) => {
            let train = read(&sources.train)?;
            ls_train::splits::training(train, config, validation.is_none())?.0
        }
        ("validation", None, _) => {
            let train = read(&sources.train)?;
            let (train, aside) = ls_train::splits::training(train, config, true)?;
            aside.unwrap_or(train)
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
