//! Chooses the files that are needed from the listing of a repository.

use std::collections::{BTreeMap, BTreeSet};

use ls_files::{ShardIndex, nearest};

use super::download::Run;
use super::hub::RemoteFile;
use crate::error::{HubError, Result};
use crate::files::{self, CONFIG, INDEX, SINGLE, TOKENIZERS};

type Tree = BTreeMap<String, RemoteFile>;

/// What stands beside the weights and is taken if it is there.
const BESIDE: [&str; 5] = [
    CONFIG,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
];
/// The older form of a tokenizer, of use only where there is no `tokenizer.json`.
const OLDER: [&str; 3] = ["vocab.json", "merges.txt", "added_tokens.json"];
/// The files of a model. If its weights are spread over several, the index is fetched to know
/// which.
pub(super) fn weights<'a>(
    run: &Run<'_>,
    commit: &str,
    tree: &'a Tree,
) -> Result<Vec<&'a RemoteFile>> {
    let repo = || run.repo.to_string();
    let names: BTreeSet<&str> = tree.keys().map(String::as_str).collect();
    let weights = if names.contains(SINGLE) {
        vec![SINGLE.into()]
    } else if let Some(index) = tree.get(INDEX) {
        run.fetch(commit, index, true)?;
        let mut weights = ShardIndex::read(run.snapshot(commit).join(INDEX))?.shards;
        weights.push(INDEX.into());
        weights
    } else {
        let other = |path: &&str| {
            [
                ".bin",
                ".pth",
                ".pt",
                ".gguf",
                ".safetensors",
                ".h5",
                ".msgpack",
            ]
            .iter()
            .any(|end| path.ends_with(end))
        };
        let found = names.iter().copied().filter(other);
        return Err(HubError::NoWeights {
            repo: repo(),
            found: found.map(String::from).collect(),
        });
    };
    let lacking = |what| HubError::NotAModel { repo: repo(), what };
    if !names.contains(CONFIG) {
        return Err(lacking(CONFIG));
    }
    if !TOKENIZERS.iter().any(|name| names.contains(name)) {
        return Err(lacking("tokenizer.json"));
    }
    let beside = beside_weights(&names).into_iter().map(String::from);
    named(run.repo, tree, &beside.chain(weights).collect::<Vec<_>>())
}

/// Files by their paths.
pub(super) fn named<'a>(
    repo: &str,
    tree: &'a Tree,
    names: &[String],
) -> Result<Vec<&'a RemoteFile>> {
    let find = |name: &String| {
        tree.get(name).ok_or_else(|| HubError::NoSuchFile {
            repo: repo.into(),
            file: name.clone(),
            nearest: nearest(name, tree.keys().map(String::as_str)),
        })
    };
    names.iter().map(find).collect()
}

/// The files of a data set.
pub(super) fn data<'a>(repo: &str, tree: &'a Tree) -> Result<Vec<&'a RemoteFile>> {
    let files = tree.values().filter(|file| files::is_data(&file.path));
    let files: Vec<&RemoteFile> = files.collect();
    if files.is_empty() {
        return Err(HubError::NoData { repo: repo.into() });
    }
    Ok(files)
}

/// Files other than weights of a model that has the files `names`.
fn beside_weights(names: &BTreeSet<&str>) -> Vec<&'static str> {
    let older: &[&str] = if names.contains("tokenizer.json") {
        &[]
    } else {
        &OLDER
    };
    let all = BESIDE.iter().chain(older).copied();
    all.filter(|name| names.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_tokenizer_is_taken_only_without_the_newer() {
        let newer = [
            "config.json",
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "README.md",
        ];
        assert_eq!(
            beside_weights(&newer.into()),
            ["config.json", "tokenizer.json"]
        );
        let older = ["vocab.json", "merges.txt", "generation_config.json"];
        assert_eq!(beside_weights(&older.into()), ["vocab.json", "merges.txt"]);
    }
}
