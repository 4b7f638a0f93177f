//! The bodies of the fuzz targets, which the tests of ls-data run too.

#[path = "../../crates/ls-data/tests/any_bytes/mod.rs"]
pub mod any_bytes;
