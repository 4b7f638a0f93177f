//! Where the run comes from: its configuration, the machine, hashes of what went in.

use ls_files::Hashed;
use serde_json::Value;

use super::parts::{Section, missing};
use super::table::{Table, data};
use crate::folder::Run;
use crate::html::{Markup, el};

/// The configuration.
pub(super) fn settings(run: &Run) -> Section {
    let text = el("pre")
        .attr("tabindex", "0")
        .attr("aria-label", "config.toml");
    let text = text.child(el("code").text(&run.config_text));
    let summary =
        el("summary").text("config.toml: what the run was told, and what followed from it");
    Section {
        id: "configuration",
        title: "Configuration",
        body: el("details").child(summary).child(text).into(),
    }
}

/// The machine and the hashes.
pub(super) fn environment(run: &Run) -> Section {
    let body = match &run.environment {
        None => missing("The run folder has no environment.json."),
        Some(environment) => {
            let mut facts = Table::new("Where it ran").texts("").texts("");
            for (key, value) in environment.iter().filter(|(key, _)| *key != "sha256") {
                let value = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                facts.row([Markup::text(key), data(value)]);
            }
            if let Some(finished) = &run.finished {
                facts.row([Markup::text("finished by"), data(&finished.version)]);
            }
            let mut hashes = Table::new("SHA-256 of what went in")
                .texts("file")
                .texts("SHA-256");
            for pair in environment
                .get("sha256")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let part = |at: usize| pair[at].as_str().unwrap_or_default().to_string();
                let hash = el("span").class("hash").text(part(1));
                hashes.row([data(part(0)), hash.into()]);
            }
            let weights = run
                .settings
                .as_ref()
                .and_then(|settings| settings.base_weights.as_ref());
            if let Some(weights) = weights {
                let name = match weights.hashed {
                    Hashed::Whole => "weights of the base model",
                    Hashed::Sample => "weights of the base model (a sample of them)",
                };
                let hash = el("span").class("hash").text(&weights.sha256);
                hashes.row([Markup::text(name), hash.into()]);
            }
            [facts.markup(), hashes.markup()].into_iter().collect()
        }
    };
    Section {
        id: "environment",
        title: "Environment",
        body,
    }
}
