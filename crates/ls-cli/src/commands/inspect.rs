//! `ls-cli inspect`: what a model, an adapter, a run, a tokenizer or a file of data is, and why it
//! would be refused.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ls_files::{exists, listed, plain, print};
use ls_train::config::DataFiles;
use ls_train::inspect::{Inspected, Kind, inspect};
use ls_train::{Profiles, RunConfig, TrainError};
use serde_json::{Map, Value, json};

use super::profiles;
use crate::args::{InspectArgs, sets};
use crate::error::UsageError;
use crate::numbers::bytes;
use crate::{hub, shell};

/// Names that are listed.
const LISTED: usize = 12;

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<()> {
    let at = match hub::model(&args.path, false) {
        Err(error) if !exists(&args.path)? => {
            let path = args.path.display();
            return Err(error.context(format!(
                "{path}: no such file, and no model of that name in the cache"
            )));
        }
        at => at?,
    };
    let (kind, path) = Kind::of(&at)?;
    if kind == Kind::Data && path.extension() == Some("toml".as_ref()) {
        let show = ["config", "show", "--config"].map(Path::new);
        return Err(UsageError {
            message: format!("{} is a configuration, by its name", path.display()),
            hint: Some(format!(
                "what it comes to is printed by: {}",
                command(&[&show[..], &[&path]].concat())
            )),
        }
        .into());
    }
    let (text, mut facts, refused) = match kind {
        Kind::Data => data(args, &path)?,
        kind => {
            let Inspected { mut facts, refused } = inspect(kind, &path, &at);
            if kind == Kind::Adapter {
                let base = base(&facts).unwrap_or_else(|| "not here".into());
                facts.insert("base".into(), base.into());
            }
            (table(&facts), facts, refused)
        }
    };
    let next = next(args, kind, &path, &facts, refused.is_some());
    if args.json {
        let mut object = Map::new();
        object.insert("kind".into(), kind.name().into());
        object.insert("path".into(), path.display().to_string().into());
        object.append(&mut facts);
        let refused = refused.map(|error| json!({ "error": error.chain(), "hint": error.hint() }));
        object.insert("refused".into(), refused.into());
        object.insert("next".into(), next.into());
        print(format!("{}\n", serde_json::to_string_pretty(&object)?))?;
        return Ok(());
    }
    let shown_path = plain(&path.display().to_string());
    let mut out = format!("{}: {shown_path}\n{text}", kind.name());
    // Writing to a text cannot fail.
    if let Some(error) = refused {
        let _ = writeln!(out, "refused: {}", plain_lines(&error.chain()));
        if let Some(hint) = error.hint() {
            let _ = writeln!(out, "hint: {}", plain_lines(&hint.to_string()));
        }
    }
    if let Some(next) = next {
        let _ = writeln!(out, "next: {next}");
    }
    print(out)?;
    Ok(())
}

/// An error, which has lines of its own.
fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

/// A command of this program.
fn command(words: &[&Path]) -> String {
    let program = shell::program();
    let words = words.iter().map(|word| word.as_os_str());
    shell::command(std::iter::once(program.as_os_str()).chain(words))
}

/// The command that goes on from here.
fn next(
    args: &InspectArgs,
    kind: Kind,
    path: &Path,
    facts: &Map<String, Value>,
    refused: bool,
) -> Option<String> {
    let word = |word: &'static str| Path::new(word);
    // A run that has no model yet goes on all the same.
    if kind == Kind::Run && facts.get("state") == Some(&"unfinished".into()) {
        return Some(shell::resume(path, &[]));
    }
    if refused {
        return None;
    }
    let task = facts.get("task").and_then(Value::as_str).unwrap_or("TASK");
    match kind {
        Kind::Run => Some(command(&[
            word("predict"),
            word("--run"),
            path,
            word("TEXT"),
        ])),
        Kind::Gguf => Some(command(&[word("convert"), path, word("OUT_DIR")])),
        Kind::Data => {
            let mut words = vec![word("init"), path];
            if let Some(task) = args.task {
                words.extend([word("--task"), word(task.name())]);
            }
            if let Some(model) = &args.model {
                words.extend([word("--model"), model]);
            }
            for set in &args.set {
                words.extend([word("--set"), Path::new(set)]);
            }
            Some(command(&words))
        }
        Kind::Tokenizer | Kind::Tensors => None,
        Kind::Adapter => {
            let base = named_base(facts).filter(|_| base(facts).is_some());
            let base = Path::new(base.unwrap_or("HF_DIR"));
            Some(command(&[
                word("predict"),
                word("--model"),
                base,
                word("--adapter"),
                path,
                word("--task"),
                Path::new(task),
                word("TEXT"),
            ]))
        }
        Kind::Model if facts.contains_key("predict") => Some(command(&[
            word("train"),
            word("--model"),
            path,
            word("--data"),
            word("FILE"),
        ])),
        Kind::Model => Some(command(&[
            word("predict"),
            word("--model"),
            path,
            word("--task"),
            Path::new(task),
            word("TEXT"),
        ])),
    }
}

/// The base model that an adapter names.
fn named_base(facts: &Map<String, Value>) -> Option<&str> {
    let keys = ["base_model", "base_model_name_or_path"];
    keys.iter().find_map(|key| facts.get(*key)?.as_str())
}

/// The folder of the base model of an adapter, if it is here.
fn base(facts: &Map<String, Value>) -> Option<String> {
    let folder = hub::named_model(Path::new(named_base(facts)?)).ok()?;
    Some(folder.display().to_string())
}

type OfData = (String, Map<String, Value>, Option<TrainError>);

/// A file of examples, as `train --data` would read it.
fn data(args: &InspectArgs, path: &Path) -> Result<OfData> {
    let model: Option<PathBuf> = match &args.model {
        Some(model) => Some(hub::named_model(model)?),
        None => None,
    };
    let begins = sets(&args.set, "model.adapter");
    // Without a name it is not looked at, but of an adapter it is known.
    let unnamed = (!begins).then_some(Path::new("none"));
    let files = DataFiles {
        model: model.as_deref().or(unnamed),
        train: path,
        validation: None,
        test: None,
        task: args.task,
    };
    let mut facts = Map::new();
    let (config, decided) = match RunConfig::of_files(&files, &args.set) {
        Ok(found) => found,
        // What the command line says wrongly is no fault of the file.
        Err(error @ TrainError::Config { .. }) => return Err(error.into()),
        Err(error) => return Ok((String::new(), facts, Some(error))),
    };
    let lines: Vec<String> = decided.iter().map(|line| plain(line)).collect();
    let mut text = format!("{}\n", lines.join("\n"));
    facts.insert("found".into(), decided.into());
    facts.insert("task".into(), config.task.name().into());
    let model = match model {
        None if begins => hub::model(&config.model.path, false).ok(),
        model => model,
    };
    let found = match Profiles::of(&config, model.as_deref()) {
        Ok(found) => found,
        Err(error) => return Ok((text, facts, Some(error))),
    };
    let uncounted = match model {
        Some(_) => "the model is not here",
        None => "no model was named (--model)",
    };
    text.push_str(&profiles::text(&found, uncounted));
    profiles::add_json(&found, &mut facts)?;
    Ok((text, facts, found.check(&config).err()))
}

/// A line for each fact.
fn table(facts: &Map<String, Value>) -> String {
    let width = facts.keys().map(|name| name.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (name, value) in facts {
        let shown = match (name.as_str(), value.as_u64()) {
            ("bytes", Some(count)) => format!("{count} ({})", bytes(count)),
            _ => shown(name, value),
        };
        let _ = writeln!(text, "  {name:<width$}  {}", plain(&shown));
    }
    text
}

/// A value of a name, in one line.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // A score, as the other commands print it.
            Some(score) if name == "value" => format!("{score:.4}"),
            // Settings as they were written, a whole number without its fraction.
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        Value::Array(values) => listed(values.iter().map(|value| shown(name, value)), LISTED),
        Value::Object(object) => {
            let each = object.iter().map(|(name, value)| match value {
                Value::Array(values) => {
                    let sizes: Vec<String> = values.iter().map(|size| shown(name, size)).collect();
                    format!("{name} [{}]", sizes.join(", "))
                }
                value => format!("{name} {}", shown(name, value)),
            });
            listed(each, LISTED)
        }
    }
}
