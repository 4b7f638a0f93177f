//! [`label_errors`]: which labels of a run's training split are likely wrong, by models that did
//! not learn from them: the run's configuration is trained once without each part of the split.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ls_files::{FileError, exists, optional};
use ls_model::Checkpoint;
use ls_report::{ConfidentJoint, Suspect, Suspects};
use serde::Deserialize;

use crate::bounds::STEPS;
use crate::config::{Protocol, RunConfig};
use crate::dataset::{Dataset, Example};
use crate::error::{Result, TrainError};
use crate::events::Observer;
use crate::opened::Opened;
use crate::predict::Predictor;
use crate::prediction::Prediction;
use crate::problem::Problem;
use crate::resume::config_of_run;
use crate::run_dir::RunDir;
use crate::shared::Shared;
use crate::sources::{Source, Sources};
use crate::splits::training;
use crate::sweep::{Choices, Plan, sweep};

/// Trains the configuration of a run once without each of `folds` parts of its training split, and
/// writes `label_errors.json` into the run folder, with the labels that are likely wrong by the
/// probabilities of the model that did not learn from them (confident learning, Northcutt et al.
/// 2021).
///
/// No label has a part in what judges it: the models are those of the last step, since their
/// checkpoints would be chosen by the part that they are asked about, and have no temperature,
/// which would be fitted to it.
///
/// The models are a sweep in `label-errors/` of the run folder, which goes on where it was ended,
/// and is removed once its labels are written.
///
/// # Errors
///
/// If there is no such run, or it learns numbers or labels that do not exclude each other; if its
/// training data are not what they were, or have fewer examples than `folds`; if a part cannot be
/// trained; [`TrainError::Interrupted`] if the observer asked to stop.
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
    let plan = Plan::new(choices, |_| Ok::<_, TrainError>(of_judges(config.clone())))?;
    // Such searches take as long as many trainings, and repeat what the checks would say.
    let quiet = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::with_default(quiet, || check(&plan, folds, &folder))?;
    let place = folder.label_errors_sweep();
    let outcome = sweep(&plan, &place, device, observer)?;
    if let Some((run, reason)) = outcome.failed.first() {
        let mut begun = false;
        for planned in plan.runs() {
            begun |= exists(place.join(&planned.name))?;
        }
        if !begun {
            // Nothing is in it that could go on.
            fs::remove_dir_all(&place).map_err(FileError::writing(&place))?;
        }
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

/// The configuration of the models that judge: that of the run, without what they do not need, and
/// without what would let the labels that they judge have a part in them.
fn of_judges(mut config: RunConfig) -> RunConfig {
    let train = &mut config.train;
    train.baselines = false;
    train.tensorboard = false;
    train.report = false;
    train.temperature_scaling = false;
    train.early_stopping_patience = None;
    // The one evaluation is that of the last step, whose model is the best so.
    train.eval_steps = Some(STEPS.most as usize);
    if config.data.dataset.is_none() {
        config.data.test = None;
    }
    config
}

/// Sees, before any part is trained, that each can be, and that the data are those that the run
/// learned from.
fn check(plan: &Plan, folds: usize, folder: &RunDir) -> Result<()> {
    #[derive(Default, Deserialize)]
    struct Noted {
        sha256: Vec<(String, String)>,
    }
    let noted: Option<Noted> = optional(ls_files::read_json(folder.environment()))?;
    let noted = noted.unwrap_or_default().sha256;
    let mut shared = Shared::by_runs(BTreeMap::new());
    // The last part is the first that would be empty.
    for planned in plan.runs().iter().rev() {
        let checkpoint = Checkpoint::open(&planned.config.model.path)?;
        let run = planned.config.clone().resolve(&checkpoint.config);
        let mut opened = Opened::of(run, checkpoint, &mut ())?;
        for file in &opened.sources.train.split.files {
            let path = file.display().to_string();
            let expected = noted.iter().find(|(noted, _)| *noted == path);
            let found = opened.read.sha256_of(file);
            if let (Some((_, expected)), Some(found)) = (expected, found)
                && *expected != found
            {
                return Err(TrainError::DataChanged {
                    path: file.clone(),
                    found,
                    expected: expected.clone(),
                });
            }
        }
        match opened.splits(&mut shared, &mut ()) {
            Ok(_) => {}
            Err(TrainError::EmptySplit { .. }) => {
                let path = folder.root().into();
                return Err(TrainError::TooManyFolds { path, folds });
            }
            Err(error) => {
                return Err(TrainError::FoldFailed {
                    run: planned.name.clone(),
                    reason: error.chain(),
                });
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_no_part_in_the_model_that_judges_it() {
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n\
                    data.test = 'b.csv'\ntrain.temperature_scaling = true\n\
                    train.early_stopping_patience = 2\ntrain.eval_steps = 3\n";
        let config = of_judges(RunConfig::from_toml(text, "", &[]).unwrap());
        assert!(!config.train.temperature_scaling);
        assert_eq!(config.train.early_stopping_patience, None);
        assert_eq!(config.train.eval_steps, Some(1 << 40));
        assert_eq!(config.data.test, None);
        // As it is written and read again.
        let text = config.to_toml().unwrap();
        assert_eq!(RunConfig::from_toml(&text, "", &[]).unwrap(), config);
    }
}
