//! What the classifier that a run begins from says of its configuration, where the file and the
//! adapter leave it open: the problem that its head solves. The JSON of its folder is read.

use std::io::ErrorKind;
use std::path::Path;

use ls_data::TaskKind;
use ls_files::FileError;
use ls_model::{LlamaConfig, ModelError, ProblemType};
use toml::{Table, Value};

use super::adapter::{section, stated_in};
use crate::error::Result;
use crate::inference::InferenceSettings;

/// Fills in `model.problem_type` as `config.json` has it, if the run is one of texts. An adapter
/// that was trained here has said it already, and a known data set decides by itself.
///
/// # Errors
///
/// If the system does not let `config.json` be read: where it later does, another problem would be
/// learnt. What else is wrong with the model, the run says.
pub(super) fn fill(table: &mut Table, task: Option<TaskKind>) -> Result<()> {
    let stated = |section, key| stated_in(table, section, key).and_then(Value::as_str);
    let of_adapter = |dir: &str| matches!(InferenceSettings::load(Path::new(dir)), Ok(Some(_)));
    if task != Some(TaskKind::Sequence)
        || stated("data", "dataset").is_some()
        || stated("model", "adapter").is_some_and(of_adapter)
    {
        return Ok(());
    }
    let Some(path) = stated("model", "path").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let model = match LlamaConfig::from_dir(Path::new(path)) {
        Ok(model) => model,
        // A name that no file can have will not be read later.
        Err(ModelError::File(FileError::Read { path, source }))
            if source.kind() != ErrorKind::InvalidFilename =>
        {
            return Err(ModelError::File(FileError::Read { path, source }).into());
        }
        Err(_) => return Ok(()),
    };
    // One class of several is what is learnt where nothing is said.
    let said = model.problem_type.unwrap_or_default();
    if said != ProblemType::default()
        && let Some(keys) = section(table, "model")
    {
        keys.entry("problem_type")
            .or_insert_with(|| said.name().into());
    }
    Ok(())
}
