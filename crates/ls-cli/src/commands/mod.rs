//! One file per command: arguments -> one library call -> print.

pub mod compare;
pub mod completions;
pub mod config;
pub mod convert;
mod coverage;
pub mod estimate;
pub mod evaluate;
pub mod export;
pub mod init;
pub mod inspect;
pub mod man;
pub mod predict;
mod profiles;
mod rendering;
pub mod report;
pub mod score;
pub mod serve;
pub mod sweep;
mod table;
pub mod train;
