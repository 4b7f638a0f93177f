//! The real binary on tiny models and data: what it leaves, what it prints, and how it refuses what
//! it cannot use. One module a command; `data`, `files` and `hub` are about where the inputs of all
//! of them come from, `words` about how they reach a tagger.

// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

mod adapter_says;
mod answers;
mod any_bytes;
mod beginnings;
mod bounds;
#[cfg(unix)]
mod browser;
mod bytes;
mod changes;
mod colours;
mod compare;
mod config;
#[cfg(unix)]
mod continued;
mod convert;
mod crash;
mod data;
mod decoding;
#[cfg(unix)]
mod deploy;
#[cfg(unix)]
mod devtools;
mod estimate;
mod evaluate;
mod export;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod faults;
mod field_notes;
mod files;
mod from_adapter;
mod from_files;
mod full;
mod help;
mod hub;
mod init;
mod inspect;
mod mutate;
mod mutations;
mod numbers;
#[cfg(unix)]
mod pipes;
mod predict;
mod problems;
mod python;
mod reading;
#[cfg(unix)]
mod readme;
#[cfg(unix)]
mod refusals;
mod report;
mod resume;
mod runs;
mod sandbox;
mod score;
mod serve;
#[cfg(unix)]
mod serve_decoding;
#[cfg(unix)]
mod serve_outside;
#[cfg(unix)]
mod serve_page;
mod serving;
mod smoke;
mod stored;
#[cfg(target_os = "linux")]
mod streams;
mod sweep;
mod tags;
mod tensorboard;
mod train;
mod train_refusals;
mod unanswered;
mod watch;
mod words;
