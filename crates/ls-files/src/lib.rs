#![doc = include_str!("../README.md")]

mod atomic;
mod error;
mod hash;
mod listed;
mod nearest;
mod parse;
mod read;
mod shards;
mod standard;
mod tensors;

pub use atomic::{AtomicFile, write_atomic};
pub use error::{FileError, Result};
pub use hash::{hex, sha256_of_file};
pub use listed::listed;
pub use nearest::{did_you_mean, nearest, similar};
pub use parse::{parse_json, parse_toml, read_json, read_toml, write_json};
pub use read::{MAX_BYTES, open_regular, optional, read, read_exact_at, read_text, utf8};
pub use shards::ShardIndex;
pub use standard::{Stderr, StdoutError, print, say};
pub use tensors::{Dtype, HostTensor, NotAFloat, TensorFile, write_tensors};
