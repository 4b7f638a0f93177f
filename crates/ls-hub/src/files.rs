//! [`Files`]: the files of a repository that a model or a data set needs.

/// The weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of the files that the weights are spread over, where there is no [`SINGLE`]: that one
/// wins, as in the loader.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Every form of weights that the loader reads, a single file and its list of several, the one that
/// is preferred first. Pickles are read where they are in the cache, and not fetched.
pub(crate) const WEIGHTS: [(&str, &str); 2] = [
    (SINGLE, INDEX),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];
/// What a model is of no use without.
pub(crate) const CONFIG: &str = "config.json";
/// A tokenizer is any of these.
pub(crate) const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "vocab.json"];
/// Files of a data set that can be read.
const DATA: [&str; 8] = [
    ".parquet", ".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".conll", ".txt",
];

/// Which files of a repository are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// What a model is trained from: `config.json`, the tokenizer, and the weights as safetensors
    /// at the top of the repository (not `original/`, not `consolidated*`, not pickles).
    Weights,
    /// These, by their path in the repository.
    Named(Vec<String>),
    /// Whatever a data set holds as parquet, JSON, CSV, TSV, CoNLL columns or plain text.
    Data,
}

/// Whether [`Files::Data`] takes a file.
pub(crate) fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    !name.starts_with('.')
        && !["dataset_infos.json", "license.txt", "requirements.txt"].contains(&name.as_str())
        && DATA.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_files_are_told_by_their_ends() {
        for path in [
            "train.jsonl",
            "data/a.PARQUET",
            "a/b/eng.train.txt",
            "x.conll",
        ] {
            assert!(is_data(path), "{path}");
        }
        for path in [
            "README.md",
            ".gitattributes",
            "data/.a.json",
            "dataset_infos.json",
            "s.py",
            "LICENSE.txt",
        ] {
            assert!(!is_data(path), "{path}");
        }
    }
}
