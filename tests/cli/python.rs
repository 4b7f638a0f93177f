//! A Python to compare with, where there is one.

use std::path::PathBuf;
use std::process::Command;

/// A Python with transformers: `LS_LLAMA_PYTHON`, or `python3` if it has it.
pub fn python() -> Option<PathBuf> {
    let given = std::env::var_os("LS_LLAMA_PYTHON").is_some();
    let found = python_with("torch, transformers");
    assert!(
        found.is_some() || !given,
        "LS_LLAMA_PYTHON has no transformers"
    );
    found
}

/// The same Python, if it has these modules.
pub fn python_with(modules: &str) -> Option<PathBuf> {
    let given = std::env::var_os("LS_LLAMA_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .output()
        .is_ok_and(|output| output.status.success());
    found.then_some(python)
}
