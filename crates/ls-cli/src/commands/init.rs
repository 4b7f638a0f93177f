//! `ls-cli init`: looks at data, says what it found, and writes a configuration that trains on it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ls_data::splits_beside;
use ls_files::{exists, print, write_atomic};
use ls_train::config::{DataFiles, json_schema};
use ls_train::{Profiles, RunConfig, starter};

use super::profiles;
use crate::args::InitArgs;
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
    let [mut validation, mut test] = [None, None];
    if args.validation.is_none() && args.test.is_none() {
        [validation, test] = splits_beside(&args.data).map_err(ls_train::TrainError::from)?;
    }
    let beside: Vec<String> = [("validation", &validation), ("test", &test)]
        .into_iter()
        .filter_map(|(split, file)| {
            let file = file.as_ref()?.display();
            Some(format!("  found beside it: data.{split} = \"{file}\"\n"))
        })
        .collect();
    let model = args.model.clone().unwrap_or_else(|| MODEL.into());
    let files = DataFiles {
        model: &model,
        train: &args.data,
        validation: args.validation.as_deref().or(validation.as_deref()),
        test: args.test.as_deref().or(test.as_deref()),
        task: args.task,
    };
    let (mut config, decided) = RunConfig::of_files(&files, &args.set)?;
    config.data.skip_bad_rows |= args.skip_bad_rows;
    // A name on the Hub that is not in the cache: the model is not here.
    let model = hub::model(&config.model.path, false).ok();
    let found = Profiles::of(&config, model.as_deref())?;
    print(format!("{}\n{}", decided.join("\n"), beside.concat()))?;
    print(profiles::text(&found))?;
    found
        .check(&config)
        .map_err(|error| refused(error, &config))?;
    let text = text(&config, &found)?;
    not_there_yet(&out)?;
    write_atomic(&out, text)?;
    let schema = ls_files::parent_of(&out).join(SCHEMA);
    if !exists(&schema)? {
        let content = serde_json::to_string_pretty(&json_schema())?;
        write_atomic(&schema, content + "\n")?;
    }
    print(format!(
        "\nwritten: {}\nnext:\n  {}\n",
        out.display(),
        train(&out)
    ))?;
    Ok(())
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
        "#:schema {SCHEMA}\n# `ls-cli train --config` and the name of this file trains by it, \
         from the folder in which it was\n# written: paths count from there. \
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
