//! The bodies of the fuzz targets, which the tests of ls-data and ls-cli run too.

#[path = "../../crates/ls-data/tests/it/any_bytes.rs"]
pub mod any_bytes;
#[cfg(feature = "model")]
#[path = "../../tests/cli/any_bytes.rs"]
pub mod any_bytes_of_models;
