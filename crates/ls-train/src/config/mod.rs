//! The configuration of a run: as the user writes it ([`RunConfig`]), and with every choice made
//! ([`ResolvedRun`]).
//!
//! `settings` holds the tables of the file and their defaults, `schema` makes a JSON Schema of them
//! (with `values`, for what a key may hold) and `reference` a page. `read` merges a file and
//! `key=value` overrides over the defaults, and over what `adapter` and `classifier` take from what
//! a run begins from; `of_files` makes one of files of which nothing is said, `checks` finds the
//! faults, `resolved` fills in what depends on the checkpoint, `preview` shows that much of a run
//! that is not begun, and `written` makes a file with comments.

mod adapter;
mod checks;
mod classifier;
mod fold;
mod micro_batch;
mod of_files;
mod preview;
mod read;
mod reference;
mod resolved;
mod schema;
mod settings;
mod values;
mod written;

pub use adapter::base_of_adapter;
pub use fold::Fold;
pub use micro_batch::MicroBatchSize;
pub use of_files::DataFiles;
pub use preview::Preview;
pub use read::check_reading;
pub(crate) use read::{keys_of, value_of};
pub use reference::reference_page;
pub use resolved::ResolvedRun;
pub(crate) use resolved::check_metric_of_tags;
pub use schema::json_schema;
pub use settings::{
    Balanced, ClassWeight, DataSettings, Files, LoraSettings, LrScheduler, ModelSettings, Protocol,
    RunConfig, TrainSettings,
};
pub(crate) use settings::{context, default_long_inputs};
pub(crate) use written::Annotations;
