//! Any bytes through `any_bytes::gguf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ls_data_fuzz::any_bytes::gguf(data));
