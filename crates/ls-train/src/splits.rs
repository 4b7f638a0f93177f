//! The splits of a run, read and encoded.

use std::collections::BTreeMap;

use ls_data::{
    CutReport, LabelSet, OddTags, TagKind, TagScheme, TaskKind, TextTokenizer, draw, odd_tags,
    quoted, split_fold, split_off, with_hyphen,
};
use ls_report::Distribution;

use crate::classes;
use crate::config::{DataSettings, ResolvedRun, RunConfig};
use crate::dataset::{Dataset, Encoding};
use crate::error::{Result, TrainError};
use crate::events::{Event, Observer};
use crate::largest::Lengths;
use crate::problem::Problem;
use crate::sources::{Source, Sources};

/// The splits of a run, ready for the model.
pub struct Splits {
    /// To learn from.
    pub train: Dataset,
    /// To choose the best checkpoint by.
    pub validation: Dataset,
    /// To report.
    pub test: Option<Dataset>,
    /// The labels of the training split, which number those of the others.
    pub labels: LabelSet,
    /// What the tags say; nothing where texts are labelled.
    pub tags: Option<TagsSay>,
}

/// What the tags of the training split say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagsSay {
    /// Spans, or the label of each word.
    pub kind: TagKind,
    /// Of spans the scheme that they are written in: the one that is set, else the one that allows
    /// every sentence, if one does.
    pub scheme: Option<TagScheme>,
}

impl Splits {
    /// Reads and encodes the splits of a run. Without a validation split a part of the training
    /// split is set aside, in equal shares of each class, by the seed.
    ///
    /// # Errors
    ///
    /// If a file or a row of one cannot be used, or a token is past the vocabulary.
    pub fn read(
        run: &ResolvedRun,
        sources: &Sources,
        tokenizer: &TextTokenizer,
        vocab_size: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut read = |source: &Source, observer: &mut dyn Observer| {
            encode(run, source, tokenizer, vocab_size, observer)
        };
        Self::read_by(run, sources, &mut read, observer)
    }

    /// The same of splits that `read` has or encodes, without labels.
    ///
    /// # Errors
    ///
    /// As [`Splits::read`].
    pub(crate) fn read_by(
        run: &ResolvedRun,
        sources: &Sources,
        read: &mut dyn FnMut(&Source, &mut dyn Observer) -> Result<Dataset>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let data = &run.config.data;
        let problem = run.config.problem();
        let train = read(&sources.train, observer)?;
        let labels = match &sources.labels {
            Some(names) => LabelSet::from_names(names.clone())?,
            None => {
                train.warn_of_look_alikes();
                let column = run.config.label_column();
                problem.label_set(train.seen_labels(), column)?
            }
        };
        let kind = match run.config.task {
            TaskKind::Sequence => None,
            TaskKind::Token => Some(kind_of(data, &train, &labels, observer)),
        };
        let train = train.with_labels(&labels)?;
        let tags = match kind {
            None => None,
            Some(kind) => Some(TagsSay {
                kind,
                scheme: match kind {
                    TagKind::Spans => scheme_of(data, &train, &labels)?,
                    TagKind::Labels => None,
                },
            }),
        };
        let (train, aside) = training(train, &run.config, sources.validation.is_none())?;
        // Before the other splits, whose labels would be taken for the fault.
        if matches!(problem, Problem::SingleLabel | Problem::Tags(_)) {
            classes::check_train(&labels, &train)?;
        }
        let validation = match (aside, &sources.validation) {
            (None, Some(source)) => read(source, observer)?.with_labels(&labels)?,
            (aside, _) => aside.ok_or(TrainError::EmptySplit {
                split: "validation".into(),
            })?,
        };
        let test = match &sources.test {
            // By the paper's protocol they are the same.
            Some(test) if Some(test) == sources.validation.as_ref() => Some(validation.clone()),
            Some(test) => Some(read(test, observer)?.with_labels(&labels)?),
            None => None,
        };
        let splits = [
            ("train", Some(&train), Some(&sources.train)),
            ("validation", Some(&validation), sources.validation.as_ref()),
            ("test", test.as_ref(), sources.test.as_ref()),
        ];
        let mut counted = Vec::new();
        for (split, dataset, source) in splits {
            let Some(dataset) = dataset else { continue };
            let counts = dataset.label_counts(labels.len())?;
            counted.push((split, counts.clone()));
            let names = labels.names().iter().map(String::as_str);
            let labels = match problem {
                // Every example has its number.
                Problem::Regression => Vec::new(),
                _ => names.zip(counts).collect(),
            };
            let expected = source.and_then(|source| source.expected);
            observer.event(&Event::Data {
                split,
                files: dataset.files(),
                // A part that was set aside counts with what it was taken from.
                expected: expected.filter(|expected| *expected != dataset.len_of_split()),
                labels,
                cut: &dataset.cut,
                skipped: dataset.skipped(),
            });
        }
        classes::warn_of_missing(&labels, &counted, problem == Problem::MultiLabel);
        Ok(Self {
            train,
            validation,
            test,
            labels,
            tags,
        })
    }

    /// The split that is scored at the end, and its name.
    pub(crate) fn reported(&self) -> (&'static str, &Dataset) {
        match &self.test {
            Some(test) => ("test", test),
            None => ("validation", &self.validation),
        }
    }

    /// Tokens of each input.
    pub fn lengths(&self) -> Lengths<'_> {
        let scored = [Some(&self.validation), self.test.as_ref()];
        Lengths {
            train: self.train.lengths(),
            evaluated: scored.into_iter().flatten().map(Dataset::lengths).collect(),
        }
    }

    /// What was cut, by split.
    pub(crate) fn cut(&self) -> BTreeMap<String, CutReport> {
        let test = self.test.as_ref().map(|test| ("test", test));
        let splits = [("train", &self.train), ("validation", &self.validation)];
        let splits = splits.into_iter().chain(test);
        splits
            .map(|(name, split)| (name.to_string(), split.cut))
            .collect()
    }

    /// Labels and lengths, by split.
    ///
    /// # Errors
    ///
    /// If the file of a split can no longer be read.
    pub(crate) fn distributions(&self, problem: Problem) -> Result<BTreeMap<String, Distribution>> {
        let test = self.test.as_ref().map(|test| ("test", test));
        let splits = [("train", &self.train), ("validation", &self.validation)];
        let mut all = BTreeMap::new();
        for (name, split) in splits.into_iter().chain(test) {
            let labels = match problem {
                Problem::Regression => Vec::new(),
                _ => {
                    let names = self.labels.names().iter().cloned();
                    names.zip(split.label_counts(self.labels.len())?).collect()
                }
            };
            all.insert(name.to_string(), Distribution::new(labels, split.lengths()));
        }
        Ok(all)
    }
}

/// A split, read and encoded as a run wants it, without labels.
///
/// # Errors
///
/// If a file or a row of one cannot be used, or a token is past the vocabulary.
pub(crate) fn encode(
    run: &ResolvedRun,
    source: &Source,
    tokenizer: &TextTokenizer,
    vocab_size: usize,
    observer: &mut dyn Observer,
) -> Result<Dataset> {
    let data = &run.config.data;
    let encoding = Encoding {
        tokenizer,
        vocab_size,
        limits: run.limits,
        label_position: data.label_position,
    };
    let cache = data.cache.then(ls_data::default_cache).flatten();
    let (split, task) = (&source.split, run.config.task);
    Dataset::encode(split, task, encoding, cache.as_deref(), observer)
}

/// What the tags of the training split say, as it is set or else by their names; and notes of what
/// was decided, and of tags that fit no scheme.
fn kind_of(
    data: &DataSettings,
    train: &Dataset,
    labels: &LabelSet,
    observer: &mut dyn Observer,
) -> TagKind {
    let names = || labels.names().iter().map(String::as_str);
    let kind = match data.scheme {
        Some(scheme) => scheme.kind(),
        None => TagKind::of(names()),
    };
    let mut note = |text: String| observer.event(&Event::Note(&text));
    match kind {
        TagKind::Labels if data.scheme.is_none() => {
            let entities = match labels.id("O") {
                Some(_) => "; entities need tags such as `B-PER`, `I-PER` and `O`",
                None => "",
            };
            note(format!(
                "no tag has a prefix ({}): each is the label of its word, scored by accuracy and \
                 F1 (data.scheme = \"labels\"){entities}",
                quoted(labels.names())
            ));
        }
        TagKind::Labels => {}
        // What a known data set holds is known.
        TagKind::Spans if data.dataset.is_some() => {}
        TagKind::Spans => {
            let odd = odd_tags(names());
            for tags in &odd {
                let place = tags
                    .names
                    .iter()
                    .find_map(|name| train.place_of_label(name));
                let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
                let set = tags.separator.as_ref().zip(tags.names.first());
                let set = set.map(|(separator, first)| {
                    let read = with_hyphen(first, separator);
                    format!("; data.tag_separator = {separator:?} reads it as `{read}`")
                });
                note(format!("{place}{tags}{}", set.unwrap_or_default()));
            }
            // A prefix alone is a tag of a scheme.
            if !odd.iter().all(OddTags::are_prefixes) && data.scheme.is_none() {
                note(
                    "data.scheme = \"iob2\" (or another scheme) refuses tags that are not of it, \
                     with their place; \"labels\" takes every tag for the label of its word"
                        .into(),
                );
            }
        }
    }
    kind
}

/// The scheme of the training split's spans.
///
/// # Errors
///
/// If the split's file can no longer be read.
fn scheme_of(data: &DataSettings, train: &Dataset, labels: &LabelSet) -> Result<Option<TagScheme>> {
    let said = data.scheme_of_labels();
    if said.is_some() {
        return Ok(said);
    }
    let mut fault = None;
    let sentences = (0..train.len()).map_while(|index| match train.example(index) {
        Ok(example) => {
            let tags = example.gold.classes().iter();
            Some(tags.map(|tag| labels.name(*tag)).collect::<Vec<_>>())
        }
        Err(error) => {
            fault = Some(error);
            None
        }
    });
    let scheme = TagScheme::infer(sentences);
    fault.map_or(Ok(scheme), Err)
}

/// The examples that train, and with `set_aside` those that choose the best checkpoint in place of
/// a split of their own: the fold `data.fold`, or `data.validation_fraction` of them. Of the others
/// `data.max_train_samples` train. Both are drawn in equal shares of each class, by the run's seed.
///
/// # Errors
///
/// If either part is empty.
pub fn training(
    train: Dataset,
    config: &RunConfig,
    set_aside: bool,
) -> Result<(Dataset, Option<Dataset>)> {
    let most = config.data.max_train_samples;
    if !set_aside && most.is_none_or(|most| most >= train.len()) {
        return Ok((train, None));
    }
    let (rest, part) = parts(train.len(), train.strata()?.as_deref(), config, set_aside)?;
    let part = set_aside.then(|| train.part(&part)).transpose()?;
    Ok((train.part(&rest)?, part))
}

/// Which of `count` examples [`training`] takes for which part; `strata` are their classes.
///
/// # Errors
///
/// If either part is empty.
pub(crate) fn parts(
    count: usize,
    strata: Option<&[usize]>,
    config: &RunConfig,
    set_aside: bool,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let seed = config.train.seed;
    let (rest, part) = match config.data.fold {
        _ if !set_aside => ((0..count).collect(), Vec::new()),
        Some(fold) => split_fold(count, fold.parts(), fold.part() - 1, seed, strata),
        None => split_off(count, config.data.validation_fraction, seed, strata),
    };
    if rest.is_empty() || set_aside && part.is_empty() {
        let split = if rest.is_empty() {
            "train"
        } else {
            "validation"
        };
        return Err(TrainError::EmptySplit {
            split: split.into(),
        });
    }
    let Some(most) = config.data.max_train_samples else {
        return Ok((rest, part));
    };
    let of_rest: Option<Vec<usize>> =
        strata.map(|strata| rest.iter().map(|example| strata[*example]).collect());
    let drawn = draw(rest.len(), most, seed, of_rest.as_deref());
    Ok((drawn.into_iter().map(|at| rest[at]).collect(), part))
}
