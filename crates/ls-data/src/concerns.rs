//! What is worth a warning in the data of a run, judged by the profiles of its splits.

use std::fmt;

use ls_files::listed;
use serde::Serialize;

use crate::look_alikes::look_alikes;
use crate::profile::Profile;
use crate::text_label::LabelKind;
use crate::windows::{InputLimits, LongInputs};

/// A label with fewer examples than this is hardly learnt: of the tenth of them that is set aside
/// by default to choose the best epoch, it has one at most.
const FEW: usize = 20;
/// A class with this part of the examples, in percent, makes accuracy a score that says little.
const MOST: usize = 90;
/// Names that are listed in a sentence.
const LISTED: usize = 10;

/// Something in the data that training would take as it is, and that is likely not meant. Displayed
/// as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Concern {
    /// Rows that cannot be used.
    BadRows {
        /// The split.
        split: String,
        /// How many.
        count: usize,
        /// Those with nothing to read.
        blank: usize,
    },
    /// Labels, or types of spans, that few examples have.
    FewExamples {
        /// Each with how many it has.
        labels: Vec<(String, usize)>,
        /// Fewer than this are few.
        few: usize,
    },
    /// A class that nearly every example has.
    OneSided {
        /// The class.
        label: String,
        /// Its part of the examples, in percent.
        percent: usize,
    },
    /// Labels that differ by case, white space or as numbers are written.
    LookAlikes {
        /// A list for each, with how often each spelling stands.
        labels: Vec<Vec<(String, usize)>>,
    },
    /// Examples whose text stands in their split before.
    Repeats {
        /// The split.
        split: String,
        /// How many.
        count: usize,
        /// Of so many.
        examples: usize,
    },
    /// Texts that stand more than once, with different labels or tags.
    Contradictions {
        /// The split.
        split: String,
        /// How many differ from the first.
        count: usize,
        /// The first of them, with both places.
        shown: Vec<String>,
    },
    /// Labels that one split has and another lacks.
    Missing {
        /// The split that has none of them.
        split: String,
        /// The split that has them.
        with: String,
        /// The labels.
        labels: Vec<String>,
        /// Whether any number of labels may hold.
        #[serde(skip)]
        lists: bool,
    },
    /// Texts that stand in two splits.
    Overlap {
        /// The split that is scored.
        split: String,
        /// The split that comes before it.
        with: String,
        /// How many of its examples.
        count: usize,
        /// Of so many.
        examples: usize,
        /// The first: its place, and that in the other split.
        first: [String; 2],
    },
    /// Examples that are longer than the model may read.
    Long {
        /// The split.
        split: String,
        /// How many are cut, or read in windows.
        count: usize,
        /// Of so many.
        examples: usize,
        /// `data.max_length`.
        max_length: usize,
        /// Tokens that are cut.
        cut_tokens: usize,
        /// Of so many.
        tokens: usize,
        /// Whether they are read in windows.
        windows: bool,
    },
}

/// What is worth a warning in splits, by their names, the one to learn from first. `limits` are
/// those by which tokens were counted.
pub fn concerns(splits: &[(&str, &Profile)], limits: &InputLimits) -> Vec<Concern> {
    let mut found = Vec::new();
    for (name, profile) in splits {
        if profile.bad_rows.count > 0 {
            found.push(Concern::BadRows {
                split: name.to_string(),
                count: profile.bad_rows.count,
                blank: profile.blank,
            });
        }
    }
    if let Some((_, train)) = splits.first() {
        of_labels(train, &mut found);
    }
    if let Some(((train, learnt), others)) = splits.split_first() {
        for (name, profile) in others {
            found.extend(missing(name, profile, train, learnt));
            found.extend(missing(train, learnt, name, profile));
        }
    }
    for (name, profile) in splits {
        if profile.repeats > 0 {
            found.push(Concern::Repeats {
                split: name.to_string(),
                count: profile.repeats,
                examples: profile.examples,
            });
        }
        if profile.contradictions > 0 {
            found.push(Concern::Contradictions {
                split: name.to_string(),
                count: profile.contradictions,
                shown: profile.contradicting.clone(),
            });
        }
    }
    for (at, (name, profile)) in splits.iter().enumerate() {
        for (with, earlier) in &splits[..at] {
            let overlap = earlier.overlap(profile);
            if let Some(first) = overlap.first {
                found.push(Concern::Overlap {
                    split: name.to_string(),
                    with: with.to_string(),
                    count: overlap.count,
                    examples: profile.examples,
                    first,
                });
            }
        }
    }
    for (name, profile) in splits {
        let Some(cut) = &profile.cut else { continue };
        let windows = limits.long_inputs == LongInputs::Window;
        let count = if windows {
            cut.windowed_examples
        } else {
            cut.cut_examples
        };
        if count > 0 {
            found.push(Concern::Long {
                split: name.to_string(),
                count,
                examples: profile.examples,
                max_length: limits.max_length,
                cut_tokens: cut.cut_tokens,
                tokens: cut.tokens,
                windows,
            });
        }
    }
    found
}

/// The labels of `there` that `here` lacks, each with its name.
fn missing(split: &str, here: &Profile, with: &str, there: &Profile) -> Option<Concern> {
    let lacks = |name: &String| here.labels.iter().all(|seen| seen.name != *name);
    let labels = there.labels.iter().map(|seen| &seen.name);
    let labels: Vec<String> = labels.filter(|name| lacks(name)).cloned().collect();
    (!labels.is_empty()).then(|| Concern::Missing {
        split: split.into(),
        with: with.into(),
        labels,
        lists: here.label_kind == LabelKind::Classes,
    })
}

fn of_labels(train: &Profile, found: &mut Vec<Concern>) {
    let all = train.labels.iter();
    let all: Vec<(String, usize)> = all.map(|seen| (seen.name.clone(), seen.count)).collect();
    // Of spans their types are what is learnt: `I-PER` is rare where names are one word.
    let counted = train.spans.as_ref().unwrap_or(&all);
    let few = counted.iter().filter(|(_, count)| *count < FEW);
    let few: Vec<(String, usize)> = few.cloned().collect();
    if !few.is_empty() {
        found.push(Concern::FewExamples {
            labels: few,
            few: FEW,
        });
    }
    let largest = all.iter().max_by_key(|(_, count)| *count);
    // Of lists each label is a question of its own, and accuracy is none of their scores.
    let one_of_all = train.label_kind == LabelKind::Class;
    let largest = largest.filter(|_| one_of_all);
    if let (Some((label, count)), None, 2..) = (largest, &train.spans, all.len()) {
        let total: usize = all.iter().map(|(_, count)| count).sum();
        let percent = count * 100 / total.max(1);
        if percent >= MOST {
            found.push(Concern::OneSided {
                label: label.clone(),
                percent,
            });
        }
    }
    let counted = all.iter().map(|(name, count)| (name.as_str(), *count));
    found.extend(Concern::of_look_alikes(counted));
}

impl Concern {
    /// That some of these labels, each with its count, look the same, if they do.
    pub fn of_look_alikes<'a>(labels: impl IntoIterator<Item = (&'a str, usize)>) -> Option<Self> {
        let alike = look_alikes(labels);
        let owned = |(name, count): (&str, usize)| (name.to_string(), count);
        let class = |same: Vec<(&str, usize)>| same.into_iter().map(owned).collect();
        (!alike.is_empty()).then(|| Self::LookAlikes {
            labels: alike.into_iter().map(class).collect(),
        })
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |labels: &[(String, usize)]| {
            let each = labels
                .iter()
                .map(|(name, count)| format!("{name:?} ({count})"));
            each.collect::<Vec<String>>()
        };
        match self {
            Self::BadRows {
                split,
                count,
                blank,
            } => {
                write!(f, "{split}: rows that cannot be used: {count}")?;
                match blank {
                    0 => Ok(()),
                    _ => write!(f, ", of which {blank} have nothing to read"),
                }
            }
            Self::FewExamples { labels, few } => write!(
                f,
                "train: fewer than {few} examples of {}",
                listed(each(labels), LISTED)
            ),
            Self::OneSided { label, percent } => write!(
                f,
                "train: {percent}% have the label {label:?}, so that accuracy says little: \
                 train.metric_for_best_model = \"f1_macro\" chooses by all labels"
            ),
            Self::LookAlikes { labels } => write!(
                f,
                "labels that look the same are learnt as different ones: {}; if they are one, \
                 write it in one way",
                listed(labels.iter().map(|same| each(same).join(" and ")), LISTED)
            ),
            Self::Repeats {
                split,
                count,
                examples,
            } => write!(f, "{split}: {count} of {examples} repeat an earlier text"),
            Self::Contradictions {
                split,
                count,
                shown,
            } => write!(
                f,
                "{split}: repeated with another answer: {count} ({})",
                match count.saturating_sub(shown.len()) {
                    0 => shown.join("; "),
                    more => format!("{}; and {more} more", shown.join("; ")),
                }
            ),
            Self::Missing {
                split,
                with,
                labels,
                lists,
            } => write!(
                f,
                "labels of {with} that {split} has no example of, so that {}: {}",
                match (split.as_str(), lists) {
                    ("train", false) => "they are wrong",
                    ("train", true) => "they are missed",
                    (_, false) => "they are not scored",
                    (_, true) => "each counts as 0 in the macro scores",
                },
                listed(labels.iter().map(|name| format!("{name:?}")), LISTED)
            ),
            Self::Overlap {
                split,
                with,
                count,
                examples,
                first: [here, there],
            } => write!(
                f,
                "{split}: {count} of {examples} stand in {with} too, so that {split} scores too \
                 well ({here} as {there})"
            ),
            Self::Long {
                split,
                count,
                examples,
                max_length,
                cut_tokens,
                tokens,
                windows,
            } => {
                write!(
                    f,
                    "{split}: {count} of {examples} are longer than data.max_length = {max_length}: "
                )?;
                let percent = 100.0 * *cut_tokens as f64 / (*tokens).max(1) as f64;
                match windows {
                    true => write!(f, "they are read in windows"),
                    false => write!(f, "{percent:.1}% of all tokens are cut"),
                }
            }
        }
    }
}
