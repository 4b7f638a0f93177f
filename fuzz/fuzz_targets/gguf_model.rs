//! Any bytes through `any_bytes_of_models::gguf_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ls_data_fuzz::any_bytes_of_models::gguf_model(data));
