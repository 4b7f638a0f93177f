//! Finds weights and data sets in the Hugging Face Hub's cache, and fetches those that are missing.
//!
//! Without features the crate reads the cache that Python's huggingface_hub keeps, and says which
//! command fetches what is missing; it builds in seconds. The feature `hub` adds fetching.
//!
//! # Reading order
//!
//! 1. [`resolve_model`]: a folder from whatever a user names.
//! 2. [`RepoRef`], [`models`]: names of repositories, short and long.
//! 3. [`Settings`]: where the cache is, which Hub, which token.
//! 4. [`Cache`], [`Files`]: whether a snapshot is complete, and what complete means.
//! 5. `fetch` (with `hub`): from a revision to a folder. `fetch/hub.rs` asks, `fetch/download.rs`
//!    brings one file.
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! let mut settings = ls_hub::Settings::from_env();
//! settings.cache_dir = dir.path().into();
//! let error = ls_hub::resolve_model_with(Path::new("smollm2-135m"), None, &settings).unwrap_err();
//! assert!(error.to_string().contains("cargo xtask fetch-weights smollm2-135m"));
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod cache;
#[cfg(feature = "hub")]
pub mod display;
mod error;
#[cfg(feature = "hub")]
pub mod fetch;
mod files;
pub mod models;
mod progress;
mod repo;
mod resolve;
mod settings;

pub use address::{MAIN, RepoKind};
pub use cache::{Cache, model_of_snapshot};
pub use error::{HubError, Result, bytes};
pub use files::Files;
pub use progress::{Event, Progress};
pub use repo::{RepoRef, is_repo_id, looks_like_hub_id};
pub use resolve::{resolve, resolve_model, resolve_model_with};
pub use settings::Settings;
