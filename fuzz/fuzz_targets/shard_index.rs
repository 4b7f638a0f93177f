//! Any bytes through `any_bytes::shard_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ls_data_fuzz::any_bytes::shard_index(data));
