#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answers;
mod api;
mod connection;
mod engine;
mod error;
mod limits;
mod listen;
mod metrics;
mod models;
mod page;
mod pass;
mod request_id;
mod requests;
mod room;
mod router;
mod service;
mod stopping;
mod token;
mod workers;

pub use engine::{Computed, Engine};
pub use error::{ErrorBody, Result, ServeError};
pub use limits::Limits;
pub use listen::serve;
pub use metrics::Metrics;
pub use models::{Model, Models, Source, name_of};
pub use router::router;
pub use service::Service;
pub use token::Token;
