#![doc = include_str!("../README.md")]

pub mod allocator;
mod card;
pub mod config;
pub mod dataset;
pub mod environment;
mod error;
pub mod evaluate;
pub mod events;
mod fit;
mod inference;
pub mod inputs;
pub mod loss;
pub mod memory;
pub mod optim;
mod predict;
mod prediction;
mod readback;
mod report;
mod run_dir;
pub mod schedule;
mod scores;
pub mod sources;
pub mod splits;
mod tensors;
mod trainer;

pub use config::RunConfig;
pub use error::{Result, TrainError};
pub use events::{Event, Observer};
pub use inference::InferenceSettings;
pub use predict::{Overrides, Predicted, Predictor};
pub use prediction::{Decision, Prediction};
pub use report::{Baseline, Report};
pub use scores::Scores;
pub use trainer::train;
