//! [`RunModel`]: where the best model of a finished run is.

use std::path::{Path, PathBuf};

use crate::config::RunConfig;
use crate::error::Result;
use crate::model_files::Overrides;
use crate::run_dir::RunDir;

/// The best model of a finished run, by its folders.
#[derive(Debug, Clone)]
pub struct RunModel {
    /// The run's configuration.
    pub config: RunConfig,
    /// A Hugging Face folder: that of the pretrained model, or where a run trained without adapters
    /// its own.
    pub model: PathBuf,
    /// The PEFT folder that stands on it, unless the run trained without adapters.
    pub adapter: Option<PathBuf>,
}

impl RunModel {
    /// Finds it. Of weights nothing is read.
    ///
    /// # Errors
    ///
    /// If the folder is not that of a finished run.
    pub fn open(dir: &Path) -> Result<Self> {
        let run = RunDir::open(dir)?;
        let config = RunConfig::of_finished(&run.config())?;
        let best = run.standing_best()?;
        let (model, adapter) = match config.lora {
            Some(_) => (config.model.path.clone(), Some(best)),
            None => (best, None),
        };
        Ok(Self {
            config,
            model,
            adapter,
        })
    }

    /// What its folders leave open.
    pub(crate) fn overrides(config: &RunConfig) -> Overrides {
        Overrides {
            task: Some(config.task),
            ..Overrides::default()
        }
    }
}
