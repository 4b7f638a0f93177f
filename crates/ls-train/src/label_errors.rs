//! [`label_errors`]: which labels of a run's training split are likely wrong, by models that did
//! not learn from them: the run's configuration is trained once without each part of the split.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ls_files::{FileError, exists};
use ls_report::{ConfidentJoint, Suspect, Suspects};

use crate::config::Protocol;
use crate::dataset::{Dataset, Example};
use crate::error::{Result, TrainError};
use crate::events::Observer;
use crate::predict::Predictor;
use crate::prediction::Prediction;
use crate::problem::Problem;
use crate::resume::config_of_run;
use crate::run_dir::RunDir;
use crate::sources::{Source, Sources};
use crate::splits::training;
use crate::sweep::{Choices, Plan, sweep};

/// Trains the configuration of a run once without each of `folds` parts of its training split, and
/// writes `label_errors.json` into the run folder, with the labels that are likely wrong by the
/// probabilities of the model that did not learn from them (confident learning, Northcutt et al.
/// 2021).
///
/// The models are a sweep in `label-errors/` of the run folder, which goes on where it was ended,
/// and is removed once its labels are written.
///
/// # Errors
///
/// If there is no such run, or it learns numbers or labels that do not exclude each other; if a
/// part cannot be trained; [`TrainError::Interrupted`] if the observer asked to stop.
pub fn label_errors(
    run: &Path,
    folds: usize,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Suspects> {
    let folder = RunDir::at(run);
    let config = config_of_run(run, &[])?;
    let what = match config.problem() {
        Problem::SingleLabel | Problem::Tags(_) => None,
        Problem::MultiLabel => Some("any number of labels of a text"),
        Problem::Regression => Some("numbers"),
    };
    if let Some(what) = what {
        let path = run.to_path_buf();
        return Err(TrainError::NoLabelErrors { path, what });
    }
    let choices = Choices::new(&[], None, Some(folds))?;
    let plan = Plan::new(choices, |_| {
        let mut config = config.clone();
        // What is looked for needs none of these.
        config.train.baselines = false;
        config.train.tensorboard = false;
        config.train.report = false;
        if config.data.dataset.is_none() {
            config.data.test = None;
        }
        Ok::<_, TrainError>(config)
    })?;
    let place = folder.label_errors_sweep();
    let outcome = sweep(&plan, &place, device, observer)?;
    if let Some((run, reason)) = outcome.failed.first() {
        let (run, reason) = (run.clone(), reason.clone());
        return Err(TrainError::FoldFailed { run, reason });
    }
    let mut held_out = Vec::new();
    for planned in plan.runs() {
        held_out.push(HeldOut::of_run(
            &place.join(&planned.name),
            device,
            observer,
        )?);
    }
    let found = suspects(folds, &held_out)?;
    ls_files::write_json(folder.label_errors(), &found)?;
    if exists(&place)? {
        fs::remove_dir_all(&place).map_err(FileError::writing(&place))?;
    }
    Ok(found)
}

/// The part of the training split that a model did not learn from, and what it thinks of it.
struct HeldOut {
    source: Source,
    dataset: Dataset,
    labels: Vec<String>,
    /// What has a label of its own, a text or a word.
    units: Vec<Unit>,
}

struct Unit {
    example: usize,
    /// Number of the word, of a tagger.
    word: Option<usize>,
    given: usize,
    probabilities: Vec<f64>,
}

impl HeldOut {
    /// Of a run that left a part of the training split out.
    fn of_run(run: &Path, device: &Device, observer: &mut dyn Observer) -> Result<Self> {
        let (predictor, config) = Predictor::from_run(run, device, observer)?;
        let source = Sources::of(&config)?.train;
        let cache = config.data.cache.then(ls_data::default_cache).flatten();
        let train = predictor.dataset(&source.split, cache.as_deref(), observer)?;
        let (rest, part) = training(train, &config, true)?;
        let dataset = part.unwrap_or(rest);
        let answers = predictor.evaluate(&dataset, Protocol::Strict, observer)?;
        let mut units = Vec::new();
        for (example, prediction) in answers.predictions.iter().enumerate() {
            let gold = dataset.example(example)?.gold;
            let unit = |word, given: usize, probabilities: &[f32]| Unit {
                example,
                word,
                given,
                probabilities: probabilities.iter().map(|p| f64::from(*p)).collect(),
            };
            match prediction {
                Prediction::Sequence(decision) => {
                    let gold = gold.classes().first();
                    units.extend(gold.map(|gold| unit(None, *gold, &decision.probabilities)));
                }
                Prediction::Token(words) => {
                    let words = words.iter().zip(gold.classes()).enumerate();
                    units.extend(words.filter_map(|(at, (decision, gold))| {
                        let decision = decision.as_ref()?;
                        Some(unit(Some(at), *gold, &decision.probabilities))
                    }));
                }
                Prediction::MultiLabel { .. } | Prediction::Abstained(_) => {}
            }
        }
        Ok(Self {
            source,
            dataset,
            labels: predictor.settings.labels.names().to_vec(),
            units,
        })
    }
}

/// The labels that are likely wrong.
fn suspects(folds: usize, held_out: &[HeldOut]) -> Result<Suspects> {
    let labels = held_out.first().map(|part| part.labels.clone());
    let labels = labels.unwrap_or_default();
    let units = || {
        let parts = held_out.iter().enumerate();
        parts.flat_map(|(part, held_out)| held_out.units.iter().map(move |unit| (part, unit)))
    };
    let given: Vec<usize> = units().map(|(_, unit)| unit.given).collect();
    let probabilities: Vec<Vec<f64>> = units()
        .map(|(_, unit)| unit.probabilities.clone())
        .collect();
    let joint = ConfidentJoint::new(&given, &probabilities);
    let all: Vec<(usize, &Unit)> = units().collect();
    let mut found: Vec<Option<Suspect>> = vec![None; joint.suspects.len()];
    for (part, held_out) in held_out.iter().enumerate() {
        let mut own: BTreeMap<usize, Vec<(usize, &Unit, usize)>> = BTreeMap::new();
        for (rank, (unit, suggested)) in joint.suspects.iter().enumerate() {
            let (of, unit) = all[*unit];
            if of == part {
                let here = own.entry(unit.example).or_default();
                here.push((rank, unit, *suggested));
            }
        }
        let (dataset, source) = (&held_out.dataset, &held_out.source.split);
        // Texts are not kept: the files are read again.
        dataset.for_each_example(source, |index, example| {
            for (rank, unit, suggested) in own.get(&index).into_iter().flatten() {
                let (file, line) = dataset.origin(index)?;
                let (text, text_pair, word) = match example {
                    Example::Sequence(example) => {
                        (example.text.clone(), example.text_pair.clone(), None)
                    }
                    Example::Token(example) => {
                        let word = unit.word.map(|at| (at, example.tokens[at].clone()));
                        (example.tokens.join(" "), None, word)
                    }
                };
                found[*rank] = Some(Suspect {
                    file: file.display().to_string(),
                    line,
                    text,
                    text_pair,
                    word,
                    given: labels[unit.given].clone(),
                    suggested: labels[*suggested].clone(),
                    score_given: unit.probabilities[unit.given],
                    score_suggested: unit.probabilities[*suggested],
                });
            }
            Ok(())
        })?;
    }
    Ok(Suspects {
        folds,
        examples: given.len(),
        estimated_errors: joint.estimated_errors(&given),
        labels,
        thresholds: joint.thresholds,
        confident_joint: joint.counts,
        found: found.into_iter().flatten().collect(),
    })
}
