//! The bodies of the fuzz targets, which the tests of ls-data run too.

#[path = "../../crates/ls-data/tests/it/any_bytes.rs"]
pub mod any_bytes;
