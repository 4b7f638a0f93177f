#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod atomic;
mod bounds;
mod error;
mod finite;
mod folders;
mod found;
mod gguf;
mod guard;
mod hash;
#[cfg(unix)]
mod links;
mod listed;
mod nearest;
mod parse;
mod permissions;
mod plain;
mod read;
mod shards;
mod shown;
mod standard;
mod temporary;
mod tensors;

pub use atomic::{AtomicFile, behind_links, put_in_place, write_at, write_atomic};
pub use bounds::Bounds;
pub use error::{FileError, Result};
pub use finite::{NotAFloat, NotFinite};
pub use folders::{
    create_folder, expect_replaceable, parent_of, replace_folder, standing_folder, sync_folder,
};
pub use found::{FileStamp, exists, is_file, is_folder};
pub use gguf::{GgufFile, GgufTensor, GgufType, GgufValue};
pub use guard::{Panicked, guarded, message_of};
pub use hash::{hex, sha256, sha256_of_file, sha256_of_parts};
#[cfg(unix)]
pub use links::put_link;
pub use listed::listed;
pub use nearest::{did_you_mean, nearest, similar};
pub use parse::{parse_json, parse_toml, read_json, read_own_json, read_toml, write_json};
pub use permissions::same_permissions;
pub use plain::plain;
pub use read::{
    MAX_BYTES, MAX_TEXT_BYTES, for_each_line, open_regular, optional, read, read_exact_at,
    read_text, utf8,
};
pub use shards::{ShardIndex, write_shards};
pub use shown::shown;
pub use standard::{Stderr, StdoutError, print, say};
pub use temporary::sweep;
pub use tensors::{
    Dtype, Fingerprint, Hashed, HostTensor, OpenTensor, TensorFile, TensorHead, write_tensors,
    write_tensors_in_parts, write_tensors_with,
};
