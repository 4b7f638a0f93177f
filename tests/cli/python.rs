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

/// The same Python, if it has these modules, or else that of `LS_LLAMA_OTHER_PYTHON`, which need
/// not have transformers.
pub fn python_with(modules: &str) -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let python = of("LS_LLAMA_PYTHON").unwrap_or_else(|| "python3".into());
    let all = [Some(python), of("LS_LLAMA_OTHER_PYTHON")];
    all.into_iter().flatten().find(|python| {
        let asked = Command::new(python)
            .args(["-c", &format!("import {modules}")])
            .output();
        asked.is_ok_and(|output| output.status.success())
    })
}
