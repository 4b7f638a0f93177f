//! Any bytes through `any_bytes::safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ls_data_fuzz::any_bytes::safetensors(data));
