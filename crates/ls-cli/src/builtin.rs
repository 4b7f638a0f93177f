//! The demonstration embedded in the program: configurations, data and a tiny pretrained LLaMA.

use std::path::{Path, PathBuf};

use ls_files::{Result, create_folder, sweep, write_atomic};

macro_rules! demo {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../datasets/demo/", $path)))),*]
    };
}

/// Files of `datasets/demo` by their path in it. Made by the scripts there.
const FILES: &[(&str, &[u8])] = demo![
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "sentiment/train.tsv",
    "sentiment/validation.tsv",
    "sentiment/test.tsv",
    "ner/train.conll",
    "ner/validation.conll",
    "ner/test.conll",
];

/// A built-in configuration's text, by its name.
pub fn config(name: &Path) -> Option<&'static str> {
    match name.to_str()? {
        "demo-sentiment" => Some(include_str!("../../../configs/demo-sentiment.toml")),
        "demo-ner" => Some(include_str!("../../../configs/demo-ner.toml")),
        _ => None,
    }
}

/// Where the files of the built-in configurations are unpacked below `runs`.
pub fn root(runs: &Path) -> PathBuf {
    runs.join(concat!("demo-files-", env!("CARGO_PKG_VERSION")))
}

/// Unpacks the files of the built-in configurations below `runs` and returns their folder. A file
/// that is already there with the same bytes is left alone.
///
/// # Errors
///
/// If a file cannot be written.
pub fn unpack(runs: &Path) -> Result<PathBuf> {
    let root = root(runs);
    for (path, bytes) in FILES {
        let path = root.join(path);
        if ls_files::read(&path).is_ok_and(|found| found == *bytes) {
            continue;
        }
        if let Some(dir) = path.parent() {
            create_folder(dir)?;
            sweep(dir);
        }
        // Whole or not at all, also when two programs unpack at once.
        write_atomic(&path, bytes)?;
    }
    Ok(root)
}

/// The text of a built-in configuration with its files at `root`.
pub fn relocate(text: &str, root: &Path) -> String {
    text.replace(
        "datasets/demo",
        &root.display().to_string().replace('\\', "/"),
    )
}
