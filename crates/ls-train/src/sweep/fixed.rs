//! The keys that no sweep varies: with other values its runs could not be compared.

/// Keys that no sweep varies, and why.
pub(super) const FIXED: [(&str, &str); 30] = [
    ("run", "each run has a folder in that of the sweep"),
    ("task", "runs of two tasks have no score in common"),
    ("model", BY_KEY),
    ("data", BY_KEY),
    ("train", BY_KEY),
    ("data.fold", "--folds K takes each part in turn"),
    ("data.validation", OTHER_EXAMPLES),
    ("data.validation_fraction", OTHER_EXAMPLES),
    ("data.test", OTHER_EXAMPLES),
    ("data.protocol", OTHER_EXAMPLES),
    ("data.dataset", OTHER_EXAMPLES),
    ("data.dir", OTHER_EXAMPLES),
    ("data.language", OTHER_EXAMPLES),
    ("data.format", OTHER_EXAMPLES),
    ("data.header", OTHER_EXAMPLES),
    ("data.delimiter", OTHER_EXAMPLES),
    ("data.encoding", OTHER_EXAMPLES),
    ("data.tokens", OTHER_EXAMPLES),
    ("data.skip_bad_rows", OTHER_EXAMPLES),
    (
        "model.problem_type",
        "runs of two problems have no score in common",
    ),
    ("data.label", OTHER_LABELS),
    ("data.label_delimiter", OTHER_LABELS),
    ("data.labels", OTHER_LABELS),
    ("data.first_label", OTHER_LABELS),
    ("data.tags", OTHER_LABELS),
    ("data.scheme", OTHER_LABELS),
    ("data.tag_separator", OTHER_LABELS),
    ("data.malformed", OTHER_LABELS),
    ("data.bad_spans", OTHER_LABELS),
    (
        "train.metric_for_best_model",
        "it is the score that the runs are compared by",
    ),
];
pub(super) const OTHER_EXAMPLES: &str = "the runs would be scored on different examples";
pub(super) const OTHER_LABELS: &str = "the runs would be scored by different labels";
const BY_KEY: &str = "give them to the keys in it, such as train.epochs=1,2";
