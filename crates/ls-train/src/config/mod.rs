//! The configuration of a run: as the user writes it ([`RunConfig`]), and with every choice made
//! ([`ResolvedRun`]).
//!
//! `settings` holds the tables of the file and their defaults, `read` merges a file and `key=value`
//! overrides over them, `of_files` makes one of files of which nothing is said, `checks` finds the
//! faults, and `resolved` fills in what depends on the checkpoint.

mod checks;
mod micro_batch;
mod of_files;
mod read;
mod resolved;
mod settings;

pub use micro_batch::MicroBatchSize;
pub use of_files::DataFiles;
pub use read::check_reading;
pub use resolved::ResolvedRun;
pub use settings::{
    DataSettings, Files, LoraSettings, LrScheduler, ModelSettings, Protocol, RunConfig,
    TrainSettings,
};
pub(crate) use settings::{context, default_long_inputs};
