//! What the data of a run is like, as it is read for training, and what training would refuse.

use std::path::Path;

use ls_data::{
    Concern, DataError, InputLimits, LabelSet, Profile, ProfileOptions, Scheme, TagKind, TaskKind,
    TextTokenizer, concerns,
};
use ls_files::exists;
use ls_model::Checkpoint;

use crate::begun::Begun;
use crate::classes;
use crate::config::{RunConfig, check_metric_of_tags};
use crate::dataset::classes_of;
use crate::error::{Result, TrainError};
use crate::loss::check_weights;
use crate::problem::Problem;
use crate::read_files::ReadFiles;
use crate::sources::Sources;
use crate::splits::parts;

/// The splits of a run, looked at.
#[derive(Debug)]
pub struct Profiles {
    /// Each split with its name, the one to learn from first.
    pub splits: Vec<(&'static str, Profile)>,
    /// What is worth a warning in them.
    pub concerns: Vec<Concern>,
    /// How long an input may be, and what happens to longer ones.
    pub limits: InputLimits,
    /// Whether the model's tokenizer has counted the tokens: without it nothing is known of what
    /// would be cut.
    pub measured: bool,
    labels: LabelSet,
    vocab_size: usize,
}

impl Profiles {
    /// Reads every split that the configuration speaks of, by the tokenizer of a model where one is
    /// named and there. Rows that cannot be used are counted, as is everything else that
    /// [`Profiles::check`] would refuse.
    ///
    /// # Errors
    ///
    /// If the model is there and it or its tokenizer cannot be used, or it has not the layers that
    /// are named, or none for such an adapter: that is seen before the data are read. If a file
    /// cannot be read or has no row that can be used.
    pub fn of(config: &RunConfig, model: Option<&Path>) -> Result<Self> {
        // As train does, which looks at the model first.
        let tokenizer = match model {
            Some(path) if exists(path)? => {
                let model = Checkpoint::open(path)?;
                let mut config = config.clone();
                config.model.path = path.to_path_buf();
                let mut run = config.resolve(&model.config);
                let begun = Begun::on_model(&mut run, &model, &mut ReadFiles::default())?;
                let (settings, reading) = (&run.config.model, run.config.data.reading());
                let tokenizer = TextTokenizer::for_reading(settings.tokenizer_dir()?, reading)?;
                let of_adapter = begun.and_then(|begun| begun.vocab_size());
                Some((tokenizer, of_adapter.unwrap_or(model.config.vocab_size)))
            }
            _ => None,
        };
        let limits = config.input_limits();
        let problem = config.problem();
        let sources = Sources::of(config)?;
        let mut options = ProfileOptions {
            kind: config.data.scheme.map(Scheme::kind),
            tokens: tokenizer
                .as_ref()
                .map(|(tokenizer, _)| (tokenizer, &limits)),
            vocab_size: tokenizer.as_ref().map(|(_, vocab_size)| *vocab_size),
        };
        let named = [
            ("train", Some(&sources.train)),
            ("validation", sources.validation.as_ref()),
            ("test", sources.test.as_ref()),
        ];
        let mut splits = Vec::new();
        for (name, source) in named {
            if let Some(source) = source {
                let split = Profile::of(&source.split, config.task, &options)?;
                // What the tags say is decided once, from the split to learn from.
                options.kind = options.kind.or(kind_of(&split));
                splits.push((name, split));
            }
        }
        let labels = match &sources.labels {
            Some(names) => LabelSet::from_names(names.clone())?,
            None => {
                let (_, train) = &splits[0];
                problem.label_set(&train.labels, config.label_column())?
            }
        };
        let named: Vec<(&str, &Profile)> =
            splits.iter().map(|(name, split)| (*name, split)).collect();
        Ok(Self {
            concerns: concerns(&named, &limits),
            measured: tokenizer.is_some(),
            vocab_size: options.vocab_size.unwrap_or_default(),
            splits,
            limits,
            labels,
        })
    }

    /// The split of a name.
    pub fn split(&self, name: &str) -> Option<&Profile> {
        let mut splits = self.splits.iter();
        splits.find(|split| split.0 == name).map(|split| &split.1)
    }

    /// Refuses what training refuses before it loads a model, in the same words.
    ///
    /// # Errors
    ///
    /// If a row cannot be used and is not to be skipped; if there is only one label to
    /// learn, a later split has a label that train has not, or nothing is left to choose the best
    /// epoch by; if the metric is none of such tags.
    pub fn check(&self, config: &RunConfig) -> Result<()> {
        for (at, (_, split)) in self.splits.iter().enumerate() {
            let bad = &split.bad_rows;
            if bad.count > 0 && !config.data.skip_bad_rows {
                let path = split.files.first().cloned().unwrap_or_default();
                return Err(TrainError::Data(DataError::BadRows {
                    path,
                    shown: bad.shown.clone(),
                    count: bad.count,
                }));
            }
            if let Some(past) = split.past {
                return Err(TrainError::TokenId {
                    path: split.files.get(past.file).cloned().unwrap_or_default(),
                    line: past.line,
                    id: past.id,
                    vocab_size: self.vocab_size,
                });
            }
            let classes = classes_of(&split.labels, &split.files, &self.labels)?;
            if at == 0 {
                self.check_train(split, &classes, config)?;
            }
        }
        check_weights(&config.train, &self.labels)?;
        let kind = config.data.scheme.map(Scheme::kind);
        let kind = kind.or_else(|| kind_of(&self.splits.first()?.1));
        match (kind, &config.train.metric_for_best_model) {
            (Some(kind), Some(metric)) => check_metric_of_tags(metric, kind),
            _ => Ok(()),
        }
    }

    fn check_train(&self, train: &Profile, classes: &[usize], config: &RunConfig) -> Result<()> {
        let set_aside = self.split("validation").is_none();
        if matches!(config.problem(), Problem::MultiLabel | Problem::Regression) {
            return parts(train.examples, None, config, set_aside).map(|_| ());
        }
        let mut counts = vec![0; self.labels.len()];
        for (class, seen) in classes.iter().zip(&train.labels) {
            counts[*class] = seen.count;
        }
        let words = train.task == TaskKind::Token;
        if set_aside || config.data.max_train_samples.is_some() {
            // Which examples are left out does not matter here, only of which class they are.
            let strata: Option<Vec<usize>> = (!words).then(|| {
                let each = counts.iter().enumerate();
                each.flat_map(|(class, count)| std::iter::repeat_n(class, *count))
                    .collect()
            });
            let (rest, _) = parts(train.examples, strata.as_deref(), config, set_aside)?;
            if let Some(strata) = strata {
                counts.fill(0);
                for at in rest {
                    counts[strata[at]] += 1;
                }
            }
        }
        classes::check_counts(&self.labels, &counts, &train.files, words)
    }
}

/// What the tags of a split say, if it has tags.
fn kind_of(split: &Profile) -> Option<TagKind> {
    let kind = match split.spans {
        Some(_) => TagKind::Spans,
        None => TagKind::Labels,
    };
    (split.task == TaskKind::Token).then_some(kind)
}
