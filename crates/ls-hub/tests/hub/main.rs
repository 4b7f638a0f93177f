//! The Hub's cache and fetching, against a Hub on loopback and a real huggingface_hub.

#![allow(clippy::unwrap_used)]

mod fetch;
mod program;
mod python;
mod server;
