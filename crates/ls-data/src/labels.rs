//! Label sets: the order of the classes, and names to ids and back.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, unknown_label};
use crate::example::{SequenceExample, TokenExample};
use crate::text_label::TextLabel;

/// Target of a position that carries no label: the loss and the scores skip it.
pub const IGNORE_INDEX: i64 = -100;

/// Class names in the order of their ids. On disk it is the plain list of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct LabelSet {
    names: Vec<String>,
    ids: HashMap<String, usize>,
}

impl LabelSet {
    /// Takes the names in the given order.
    ///
    /// # Errors
    /// An empty list, an empty name, a name given twice.
    pub fn from_names(names: Vec<String>) -> Result<Self> {
        if names.is_empty() {
            return Err(DataError::NoLabels);
        }
        let mut ids = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(DataError::EmptyLabelName { index });
            }
            if ids.insert(name.clone(), index).is_some() {
                return Err(DataError::DuplicateLabel { name: name.clone() });
            }
        }
        Ok(Self { names, ids })
    }

    /// The labels that occur, sorted: by value when all of them are integers (`2` before `10`),
    /// else as text. Examples without a label are passed over.
    ///
    /// # Errors
    /// No example has a label.
    pub fn from_sequence_examples(examples: &[SequenceExample]) -> Result<Self> {
        let labels = examples.iter().filter_map(|e| e.label.as_ref());
        Self::of_classes(labels.flat_map(TextLabel::names).map(String::as_str))
    }

    /// As [`LabelSet::from_sequence_examples`], of the labels themselves, in any order and number.
    ///
    /// # Errors
    /// There are none.
    pub fn of_classes<'a>(labels: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let seen: BTreeSet<&str> = labels.into_iter().collect();
        let mut names: Vec<String> = seen.into_iter().map(str::to_string).collect();
        if names.iter().all(|n| n.parse::<i64>().is_ok()) {
            names.sort_by_key(|n| n.parse::<i64>().unwrap_or_default());
        }
        Self::from_names(names)
    }

    /// The tags that occur: `O` first, then by type, and inside a type `B-` before `I-`.
    ///
    /// Where any tag has a span prefix (`B-`, `I-`, `E-`, `S-`, `L-`, `U-`), `O` is in the set even
    /// if no word carries it; a set of plain tags (parts of speech) gets no `O` of ours.
    ///
    /// # Errors
    /// No example has tags.
    pub fn from_token_examples(examples: &[TokenExample]) -> Result<Self> {
        let tags = examples.iter().filter_map(|e| e.tags.as_ref()).flatten();
        Self::of_tags(tags.map(String::as_str))
    }

    /// As [`LabelSet::from_token_examples`], of the tags themselves, in any order and number.
    ///
    /// # Errors
    /// There are none.
    pub fn of_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut seen: BTreeSet<&str> = tags.into_iter().collect();
        if seen.iter().any(|tag| span_prefix(tag).is_some()) {
            seen.insert("O");
        }
        let mut names: Vec<String> = seen.into_iter().map(str::to_string).collect();
        names.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        Self::from_names(names)
    }

    /// Id of a name.
    pub fn id(&self, name: &str) -> Option<usize> {
        self.ids.get(name).copied()
    }

    /// Name of an id.
    ///
    /// # Panics
    /// If the id is past the set.
    pub fn name(&self, id: usize) -> &str {
        &self.names[id]
    }

    /// The names in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Always false: an empty set cannot be made.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Id of the label of the example at `path:line`.
    ///
    /// # Errors
    /// The label is not in the set; the message names the place, the labels and the nearest one.
    pub fn encode(&self, label: &str, path: &Path, line: usize) -> Result<usize> {
        self.id(label)
            .ok_or_else(|| unknown_label(label, &self.names, path, line))
    }

    /// Ids of the tags of the example at `path:line`.
    ///
    /// # Errors
    /// As [`LabelSet::encode`], for the first tag that is not in the set.
    pub fn encode_tags(&self, tags: &[String], path: &Path, line: usize) -> Result<Vec<usize>> {
        tags.iter()
            .map(|tag| self.encode(tag, path, line))
            .collect()
    }

    /// How many of `labels` each class has, in the order of the ids; names outside the set are not
    /// counted.
    pub fn count<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let mut counts = vec![0; self.len()];
        for id in labels.into_iter().filter_map(|label| self.id(label)) {
            counts[id] += 1;
        }
        counts
    }

    /// Reads a JSON list of names, as [`LabelSet::save`] writes it.
    ///
    /// # Errors
    /// The file is missing, is no JSON list of strings, or is no label set.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(ls_files::read_json(path)?)
    }

    /// Writes the names as a JSON list (`labels.json` of a run folder). The file appears whole or
    /// not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(ls_files::write_json(path, &self.names)?)
    }
}

impl TryFrom<Vec<String>> for LabelSet {
    type Error = DataError;
    fn try_from(names: Vec<String>) -> Result<Self> {
        Self::from_names(names)
    }
}

impl From<LabelSet> for Vec<String> {
    fn from(set: LabelSet) -> Self {
        set.names
    }
}

/// Rank of the prefix and the type of a tag like `B-PER`.
fn span_prefix(tag: &str) -> Option<(usize, &str)> {
    let (prefix, entity_type) = tag.split_once('-')?;
    let rank = ["B", "I", "L", "E", "U", "S"]
        .iter()
        .position(|p| *p == prefix)?;
    Some((rank, entity_type))
}

fn sort_key(tag: &str) -> (bool, &str, usize) {
    match span_prefix(tag) {
        Some((rank, entity_type)) => (true, entity_type, rank),
        None => (tag != "O", tag, 0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use ls_files::FileError;

    use super::*;

    fn sequence(label: &str) -> SequenceExample {
        SequenceExample {
            text: "x".into(),
            text_pair: None,
            label: Some(label.into()),
            line: 1,
            extra: None,
        }
    }

    fn names(set: &LabelSet) -> Vec<&str> {
        set.names().iter().map(String::as_str).collect()
    }

    #[test]
    fn integers_sort_by_value_and_words_as_text() {
        let set = |labels: &[&str]| {
            let examples: Vec<_> = labels.iter().map(|l| sequence(l)).collect();
            LabelSet::from_sequence_examples(&examples).unwrap()
        };
        assert_eq!(names(&set(&["10", "2", "-1", "2"])), ["-1", "2", "10"]);
        assert_eq!(names(&set(&["b", "10", "2", "a"])), ["10", "2", "a", "b"]);
        assert!(matches!(
            LabelSet::from_sequence_examples(&[]),
            Err(DataError::NoLabels)
        ));
    }

    #[test]
    fn tags_put_o_first_then_types_with_b_before_i() {
        let example = |tags: &[&str]| TokenExample {
            tokens: vec!["x".into(); tags.len()],
            tags: Some(tags.iter().map(|t| t.to_string()).collect()),
            line: 1,
            extra: None,
        };
        let set = |tags: &[&str]| LabelSet::from_token_examples(&[example(tags)]).unwrap();
        assert_eq!(
            names(&set(&["I-PER", "B-creative-work", "B-PER", "O", "B-LOC"])),
            ["O", "B-LOC", "B-PER", "I-PER", "B-creative-work"]
        );
        assert_eq!(names(&set(&["I-PER"])), ["O", "I-PER"]);
        assert_eq!(names(&set(&["VERB", "NOUN"])), ["NOUN", "VERB"]);
    }

    #[test]
    fn bad_sets_are_refused() {
        let set =
            |names: &[&str]| LabelSet::from_names(names.iter().map(|n| n.to_string()).collect());
        assert!(matches!(set(&[]), Err(DataError::NoLabels)));
        assert!(matches!(
            set(&["a", " "]),
            Err(DataError::EmptyLabelName { index: 1 })
        ));
        assert!(
            matches!(set(&["a", "b", "a"]), Err(DataError::DuplicateLabel { name }) if name == "a")
        );
        assert!(serde_json::from_str::<LabelSet>(r#"["a","a"]"#).is_err());
    }

    #[test]
    fn an_unknown_label_names_the_place_and_the_nearest() {
        let set = LabelSet::from_names(vec!["negative".into(), "positive".into()]).unwrap();
        let error = set
            .encode("postive", Path::new("train.csv"), 7)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "train.csv:7: unknown label `postive`; the labels are `negative`, `positive`; did you mean `positive`?"
        );
        assert_eq!(set.encode("positive", Path::new("x"), 1).unwrap(), 1);
        assert_eq!(set.count(["positive", "positive", "other"]), [0, 2]);
    }

    #[test]
    fn a_set_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.json");
        let set = LabelSet::from_names(vec!["Sci/Tech".into(), "näh".into()]).unwrap();
        set.save(&path).unwrap();
        assert_eq!(LabelSet::load(&path).unwrap(), set);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        fs::write(&path, "[\"a\", 3]").unwrap();
        assert!(matches!(
            LabelSet::load(&path),
            Err(DataError::File(FileError::Malformed { line: 1, .. }))
        ));
        assert!(matches!(
            LabelSet::load(&dir.path().join("no")),
            Err(DataError::File(FileError::NotFound { .. }))
        ));
    }
}
