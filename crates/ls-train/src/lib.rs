//! Label-supervised fine-tuning: configuration, training loop, evaluation, prediction and run folders.
//!
//! Everything the command line does is a function here; [`trainer::train`] is a whole run. Reading order: [`config`],
//! [`sources`], [`dataset`], [`trainer`] (the loop is [`trainer`]'s `fit`), [`evaluate`], [`predict`].

pub mod card;
pub mod config;
pub mod dataset;
pub mod environment;
pub mod error;
pub mod evaluate;
pub mod inference;
pub mod loss;
pub mod memory;
pub mod optim;
pub mod predict;
pub mod run_dir;
pub mod sources;
pub mod tensors;
pub mod trainer;

pub use config::RunConfig;
pub use error::{Result, TrainError};
pub use inference::InferenceSettings;
pub use predict::Predictor;
pub use trainer::{Event, Observer, Report, train};
