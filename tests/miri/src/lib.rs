//! The modules of ls-ops that set the length of vectors by `unsafe`, and what computes with them:
//! `cargo xtask miri` runs their tests under Miri in seconds.
#![allow(dead_code)]

#[path = "../../../crates/ls-ops/src/gemm.rs"]
mod gemm;
#[path = "../../../crates/ls-ops/src/uninit.rs"]
mod uninit;
