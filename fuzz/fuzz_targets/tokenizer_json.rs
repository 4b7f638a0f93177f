//! Any bytes through `any_bytes::tokenizer_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ls_data_fuzz::any_bytes::tokenizer_json(data));
