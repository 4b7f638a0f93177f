//! [`Compared`]: sees that all runs of a sweep are scored on the same examples by the same labels.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ls_data::{LongInputs, TaskKind, TextTokenizer};

use super::choices::Choices;
use super::fixed::{OTHER_EXAMPLES, OTHER_LABELS};
use crate::config::{Protocol, RunConfig};
use crate::error::TrainError;
use crate::sources::Sources;

/// Keys that decide which words are cut, beside the tokenizer.
const CUTTING: [&str; 5] = [
    "data.max_length",
    "data.long_inputs",
    "data.words",
    "data.special_tokens",
    "data.label_position",
];

/// Compares the configurations of a sweep, one after the other.
pub(super) struct Compared<'a> {
    choices: &'a Choices,
    /// SHA-256 of the tokenizers of models; nothing of one that cannot be read.
    tokenizers: BTreeMap<PathBuf, Option<String>>,
}

impl<'a> Compared<'a> {
    /// Of a sweep none of whose configurations has been seen.
    pub(super) fn new(choices: &'a Choices) -> Self {
        Self {
            choices,
            tokenizers: BTreeMap::new(),
        }
    }

    /// Sees that nothing varies that decides, under this configuration, what is scored.
    ///
    /// # Errors
    ///
    /// With the keys that do.
    pub(super) fn check(&mut self, config: &RunConfig) -> Result<(), TrainError> {
        let choices = self.choices;
        let varies = |key: &str| choices.varied().any(|varied| varied.key == key);
        let mut refused: Vec<(&str, String)> = Vec::new();
        let mut refuse = |key: &'static str, why: String| {
            if varies(key) && !refused.iter().any(|(known, _)| *known == key) {
                refused.push((key, why));
            }
        };
        if ["data.train", "train.seed"].into_iter().any(varies) && self.sets_aside(config) {
            let why = format!("where a part of it is set aside: {OTHER_EXAMPLES}");
            refuse("data.train", why);
            let why = format!(
                "where it chooses the part of data.train that is set aside: {OTHER_EXAMPLES}; \
                 --seeds N trains every combination with the same seeds, 1 to N"
            );
            refuse("train.seed", why);
        }
        if config.data.skip_bad_rows {
            for key in ["data.text", "data.text_append", "data.text_pair"] {
                let why = "where rows without a text are skipped (data.skip_bad_rows)";
                refuse(key, format!("{why}: {OTHER_EXAMPLES}"));
            }
        }
        if config.task == TaskKind::Token {
            let metric = config.train.metric_for_best_model.as_deref();
            let by_loss = metric == Some("loss");
            let why = format!("where words are labelled: {OTHER_EXAMPLES}");
            refuse("data.text", why);
            refuse("data.offsets", format!("here: {OTHER_LABELS}"));
            if metric.is_some_and(|metric| !metric.starts_with("span_")) {
                let why = format!("where not spans are compared: {OTHER_LABELS}");
                refuse("data.train_scheme", why);
            }
            let why = if config.data.protocol == Protocol::Paper {
                "by the protocol paper, which does not score words that are cut"
            } else {
                "where runs are compared by the loss, which knows only what is not cut"
            };
            let why = || format!("{why}: {OTHER_EXAMPLES}");
            let cut = config.data.long_inputs == Some(LongInputs::Truncate);
            if config.data.protocol == Protocol::Paper || by_loss && cut {
                for key in CUTTING {
                    refuse(key, why());
                }
                let models = ["model.path", "model.adapter"];
                if models.into_iter().any(varies) && self.another_tokenizer(config) {
                    for key in models {
                        refuse(key, format!("of other tokenizers {}", why()));
                    }
                }
            }
            if by_loss {
                refuse("data.long_inputs", why());
                refuse("data.label_position", why());
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let faults = refused.into_iter();
        Err(TrainError::Config {
            origin: "the command line".into(),
            faults: faults
                .map(|(key, why)| format!("{key}: cannot take several values {why}"))
                .collect(),
        })
    }

    /// Whether the checkpoint is chosen on a part of the training split.
    fn sets_aside(&self, config: &RunConfig) -> bool {
        if self.choices.folds.is_some() || config.data.fold.is_some() {
            return true;
        }
        match Sources::of(config) {
            Ok(sources) => sources.validation.is_none(),
            // Its runs will say what is wrong.
            Err(_) => config.data.validation.is_none() && config.data.dataset.is_none(),
        }
    }

    /// Whether a model's tokenizer is none of those before. One that cannot be read fails its runs.
    fn another_tokenizer(&mut self, config: &RunConfig) -> bool {
        // What cannot be looked at fails its runs.
        let Ok(path) = config.model.tokenizer_dir() else {
            return false;
        };
        if !self.tokenizers.contains_key(path) {
            let read = TextTokenizer::for_reading(path, config.data.reading());
            let sha256 = read.ok().map(|tokenizer| tokenizer.sha256_of_files());
            self.tokenizers.insert(path.to_path_buf(), sha256);
        }
        let mut known = self.tokenizers.values().flatten();
        let first = known.next();
        known.any(|sha256| Some(sha256) != first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;
    use crate::error::Result;

    fn plan(text: &str, set: &[&str], folds: Option<usize>) -> Result<Plan> {
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let text = format!("model.path = 'm'\ndata.train = 'a.csv'\n{text}");
        Plan::new(Choices::new(&set, None, folds)?, |set| {
            RunConfig::from_toml(&text, "run.toml", set)
        })
    }

    #[track_caller]
    fn refused(text: &str, set: &[&str], parts: &[&str]) {
        let error = plan(text, set, None).unwrap_err();
        assert!(error.is_usage());
        let error = error.to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }

    const TEXTS: &str = "task = 'sequence'\n";
    const WORDS: &str = "task = 'token'\ndata.format = 'conll'\ndata.validation = 'v.csv'\n";

    #[test]
    fn examples_that_are_scored_do_not_vary() {
        let train = "data.train=a.csv,b.csv";
        refused(TEXTS, &[train], &["a part of it is set aside"]);
        let set = [train, "data.validation=v.csv"];
        assert_eq!(plan(TEXTS, &set, None).unwrap().runs().len(), 2);
        assert!(plan(TEXTS, &set, Some(3)).is_err());
    }

    #[test]
    fn a_seed_that_parts_the_examples_does_not_vary() {
        let seeds = "train.seed=1,2";
        refused(TEXTS, &[seeds], &["train.seed: cannot", "--seeds N"]);
        let set = [seeds, "data.validation=v.csv"];
        assert_eq!(plan(TEXTS, &set, None).unwrap().runs().len(), 2);
        assert!(plan(TEXTS, &set, Some(3)).is_err());
        let set = [seeds, "data.validation=v.csv", "data.fold=1/3"];
        refused(TEXTS, &set, &["train.seed: cannot"]);
        // By the paper's protocol the test split chooses.
        let set = [seeds, "data.test=v.csv", "data.protocol=paper"];
        assert!(plan(TEXTS, &set, None).is_ok());
    }

    #[test]
    fn words_that_are_not_scored_do_not_vary() {
        let paper = "data.protocol=paper";
        for set in [
            "data.max_length=8,16",
            "data.words=text,split",
            "data.special_tokens=text,parse",
            "data.label_position=first,last",
        ] {
            let key = set.split('=').next().unwrap();
            refused(WORDS, &[paper, set], &[key, "by the protocol paper"]);
            assert!(plan(WORDS, &[set], None).is_ok(), "{set}");
            let loss = "train.metric_for_best_model=loss";
            let cut = "data.long_inputs=truncate";
            refused(WORDS, &[loss, cut, set], &[key, "by the loss"]);
        }
        let loss = "train.metric_for_best_model=loss";
        refused(
            WORDS,
            &[loss, "data.long_inputs=window,truncate"],
            &["loss"],
        );
        refused(WORDS, &[loss, "data.train_scheme=iob2,iobes"], &["spans"]);
        // Of texts each is scored, however much of it is read.
        let set = [paper, "data.test=t.csv", "data.max_length=8,16"];
        assert!(plan(TEXTS, &set, None).is_ok());
    }

    #[test]
    fn models_that_cut_other_words_are_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let model = model.join("../../datasets/demo/model");
        for name in ["same", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            for entry in std::fs::read_dir(&model).unwrap() {
                let from = entry.unwrap().path();
                let to = folder.path().join(name).join(from.file_name().unwrap());
                std::fs::copy(&from, &to).unwrap();
            }
        }
        let file = folder.path().join("other/tokenizer.json");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + "\n").unwrap();
        let paths = |name: &str| {
            let other = folder.path().join(name);
            format!("model.path={},{}", model.display(), other.display())
        };
        let paper = "data.protocol=paper";
        assert!(plan(WORDS, &[paper, &paths("same")], None).is_ok());
        assert!(plan(WORDS, &[&paths("other")], None).is_ok());
        refused(WORDS, &[paper, &paths("other")], &["of other tokenizers"]);
    }

    #[test]
    fn what_is_read_of_the_files_does_not_vary() {
        for (set, why) in [
            ("data.label=a,b", OTHER_LABELS),
            ("data.first_label=0,1", OTHER_LABELS),
            ("data.tags=1,2", OTHER_LABELS),
            ("data.scheme=iob2,iobes", OTHER_LABELS),
            ("data.malformed=repair,refuse", OTHER_LABELS),
            ("data.bad_spans=widen,refuse", OTHER_LABELS),
            ("data.tag_separator=_,-", OTHER_LABELS),
            ("data.tokens=0,1", OTHER_EXAMPLES),
            ("data.skip_bad_rows=true,false", OTHER_EXAMPLES),
            ("data.header=true,false", OTHER_EXAMPLES),
            ("data.encoding=utf-8,latin-1", OTHER_EXAMPLES),
            ("data.text=a,b", OTHER_EXAMPLES),
            ("data.offsets=bytes,utf16", OTHER_LABELS),
        ] {
            let key = set.split('=').next().unwrap();
            refused(WORDS, &[set], &[key, why]);
        }
        assert!(plan(TEXTS, &["data.text=a,b"], None).is_ok());
        let skip = "data.skip_bad_rows=true";
        refused(TEXTS, &[skip, "data.text=a,b"], &["data.text: cannot"]);
    }
}
