#![doc = include_str!("../README.md")]

mod atomic;
mod bounds;
mod error;
mod guard;
mod hash;
mod listed;
mod nearest;
mod parse;
mod read;
mod shards;
mod shown;
mod tensors;

pub use atomic::{AtomicFile, write_atomic};
pub use bounds::Bounds;
pub use error::{FileError, Result};
pub use guard::{Panicked, guarded, message_of};
pub use hash::{hex, sha256_of_file};
pub use listed::listed;
pub use nearest::{did_you_mean, nearest, similar};
pub use parse::{parse_json, parse_toml, read_json, read_toml, write_json};
pub use read::{
    MAX_BYTES, MAX_TEXT_BYTES, open_regular, optional, read, read_exact_at, read_text, utf8,
};
pub use shards::ShardIndex;
pub use shown::shown;
pub use tensors::{Dtype, HostTensor, NotAFloat, TensorFile, write_tensors};
