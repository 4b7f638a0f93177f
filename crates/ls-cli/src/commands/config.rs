//! `ls-cli config`: the schema and the reference of configurations, and what one comes to.

use std::path::Path;

use anyhow::Result;
use ls_files::print;
use ls_hub::HubError;
use ls_train::config::{json_schema, reference_page};

use super::train::{free_folder, read_named};
use crate::args::{ConfigCommand, ShowArgs};
use crate::screen::say;
use crate::{builtin, hub};

/// Runs the command.
pub fn run(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&json_schema())?;
            print(format!("{schema}\n"))?;
        }
        ConfigCommand::Docs => print(reference_page())?,
        ConfigCommand::Show(args) => show(args)?,
    }
    Ok(())
}

/// What `train` would write into the run's `config.toml`, as far as it is known here.
fn show(args: &ShowArgs) -> Result<()> {
    let root = || Ok(builtin::root(Path::new("runs")));
    let mut config = read_named(&args.config, &args.set, root)?;
    match hub::model(&config.model.path, false) {
        Ok(folder) => config.model.path = std::path::absolute(folder)?,
        // A cache that cannot be read may hold it.
        Err(error) if matches!(error.downcast_ref(), Some(HubError::File(_))) => return Err(error),
        // A name on the Hub that is not in the cache stays one: the model is not here.
        Err(_) => {}
    }
    hub::data(&mut config.data, false)?;
    if config.run.is_none() {
        config.run = Some(free_folder(&args.config, |_| ())?);
    }
    let preview = config.preview()?;
    for open in preview.open {
        say(format!("open until train decides it: {open}"));
    }
    print(preview.toml)?;
    Ok(())
}
