//! `ls-cli init`: looks at data, says what it found, and writes a configuration that trains on it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ls_data::splits_beside;
use ls_files::{exists, is_folder, plain, print, write_at, write_atomic};
use ls_train::config::{DataFiles, json_schema};
use ls_train::{Profiles, RunConfig, not_labelled, starter};

use super::profiles;
use crate::args::{InitArgs, sets};
use crate::error::{UsageError, WithHint};
use crate::{hub, shell};

/// The model of a configuration that names none: the smallest that `cargo xtask fetch-weights`
/// knows by a short name, which two CPU cores train in minutes.
const MODEL: &str = "smollm2-135m";
/// The schema by which editors complete the configuration, beside it.
const SCHEMA: &str = "ls-llama.schema.json";

/// Runs the command.
pub fn run(args: &InitArgs) -> Result<()> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => of_data(&args.data),
    };
    not_there_yet(&out)?;
    out_can_be_written(&out)?;
    let begins = sets(&args.set, "model.adapter");
    let default = (!begins).then_some(Path::new(MODEL));
    let mut files = DataFiles {
        model: args.model.as_deref().or(default),
        train: &args.data,
        validation: args.validation.as_deref(),
        test: args.test.as_deref(),
        task: args.task,
    };
    let (mut config, mut decided) = RunConfig::of_files(&files, &args.set)?;
    let (beside, said) = beside(&config, &args.data)?;
    let [validation, test] = &beside;
    if validation.is_some() || test.is_some() {
        files.validation = files.validation.or(validation.as_deref());
        files.test = files.test.or(test.as_deref());
        // What the other files say too: whether they part their fields in the same way.
        (config, decided) = RunConfig::of_files(&files, &args.set)?;
    }
    config.data.skip_bad_rows |= args.skip_bad_rows;
    let lines = decided.iter().chain(&said);
    let mut lines: String = lines.map(|line| plain(line) + "\n").collect();
    let written = written(args, &config, &out, &mut lines);
    // Last, because who reads no more of it wants the configuration all the same.
    let printed = print(lines);
    written?;
    Ok(printed?)
}

/// Writes the configuration to `out`, with what was found on the way said in `lines`.
fn written(args: &InitArgs, config: &RunConfig, out: &Path, lines: &mut String) -> Result<()> {
    let folder = match &args.model {
        Some(path) if !ls_hub::looks_like_hub_id(&path.to_string_lossy()) => {
            Some(hub::named_model(path)?)
        }
        // A name on the Hub that is not in the cache: the model is not here.
        _ => hub::model(&config.model.path, false).ok(),
    };
    let found = Profiles::of(config, folder.as_deref())?;
    lines.push_str(&profiles::text(&found, "the model is not here"));
    found
        .check(config)
        .map_err(|error| refused(error, config))?;
    let text = text(config, &found)?;
    not_there_yet(out)?;
    write_at(out, text)?;
    let schema = ls_files::parent_of(out).join(SCHEMA);
    if !exists(&schema)? {
        let content = serde_json::to_string_pretty(&json_schema())?;
        write_atomic(&schema, content + "\n")?;
    }
    lines.push_str(&format!(
        "\nwritten: {}\nnext:\n  {}\n",
        out.display(),
        train(out)
    ));
    Ok(())
}

/// The splits beside the data that neither a flag nor a key speaks of, as `[validation, test]`, and
/// what is said of them. A file that nobody named is taken only if it has labels.
fn beside(config: &RunConfig, train: &Path) -> Result<([Option<PathBuf>; 2], Vec<String>)> {
    let mut said = Vec::new();
    let data = &config.data;
    let mut found = splits_beside(train).map_err(ls_train::TrainError::from)?;
    let named = [
        (
            "validation",
            data.validation.is_some() || data.fold.is_some(),
        ),
        ("test", data.test.is_some() || data.fold.is_some()),
    ];
    for (file, (split, is_named)) in found.iter_mut().zip(named) {
        let Some(path) = file.take().filter(|_| !is_named) else {
            continue;
        };
        match not_labelled(config, &path)? {
            None => {
                said.push(format!(
                    "  found beside it: data.{split} = \"{}\"",
                    path.display()
                ));
                *file = Some(path);
            }
            Some(error) => said.push(format!(
                "  found beside it and left alone, as it has no labels that can be read: {error}"
            )),
        }
    }
    Ok((found, said))
}

/// The configuration's file, where none is named: here, with the name of the data.
fn of_data(data: &Path) -> PathBuf {
    let name = data.file_stem().unwrap_or("run".as_ref());
    Path::new(name).with_added_extension("toml")
}

/// A file that is there is somebody's work.
fn not_there_yet(out: &Path) -> Result<()> {
    if !exists(out)? {
        return Ok(());
    }
    let message = format!(
        "{} is there already, and is not written over",
        out.display()
    );
    let hint = Some("name another file: --out FILE".into());
    Err(UsageError { message, hint }.into())
}

/// That the folder is there is seen before the data are read, which may take minutes.
fn out_can_be_written(out: &Path) -> Result<()> {
    let folder = ls_files::parent_of(out);
    if is_folder(folder)? {
        return Ok(());
    }
    let message = format!(
        "{}: no such folder, for {}",
        folder.display(),
        out.display()
    );
    Err(UsageError::new(message).into())
}

/// The command that trains by a configuration.
fn train(out: &Path) -> String {
    let program = shell::program();
    let words = [program.as_os_str(), "train".as_ref(), "--config".as_ref()];
    shell::command(words.into_iter().chain([out.as_os_str()]))
}

fn text(config: &RunConfig, found: &Profiles) -> Result<String> {
    let name = config.model.path.to_string_lossy();
    let missing = if ls_hub::looks_like_hub_id(&name) {
        format!("It is not on this machine: `cargo xtask fetch-weights {name}` fetches it.")
    } else {
        "It is not on this machine.".into()
    };
    let keys = starter(config, found, &missing)?;
    Ok(format!(
        "#:schema {SCHEMA}\n# `ls-cli train --config` and the path of this file trains by it. Paths in \
         it count from the\n# folder in which that is run: the one in which `ls-cli init` was run. \
         `ls-cli config docs` lists every key.\n{keys}"
    ))
}

/// Why no configuration is written: training would end with the same error.
fn refused(error: ls_train::TrainError, config: &RunConfig) -> anyhow::Error {
    let of_rows = matches!(
        error,
        ls_train::TrainError::Data(ls_data::DataError::BadRows { .. })
    );
    let error =
        anyhow::Error::new(error).context("nothing is written, because train would refuse it");
    if of_rows && !config.data.skip_bad_rows {
        let hint = "mend these rows, or leave them out with --skip-bad-rows".into();
        return WithHint { error, hint }.into();
    }
    error
}
