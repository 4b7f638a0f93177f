//! A Python to compare with, where there is one.

use std::path::PathBuf;
use std::process::Command;

/// A Python with transformers: `LS_LLAMA_PYTHON`, or `python3` if it has it.
pub fn python() -> Option<PathBuf> {
    let given = std::env::var_os("LS_LLAMA_PYTHON").map(PathBuf::from);
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import torch, transformers"])
        .output()
        .is_ok_and(|output| output.status.success());
    let which = python.display();
    assert!(
        found || given.is_none(),
        "LS_LLAMA_PYTHON has no transformers: {which}"
    );
    found.then_some(python)
}
