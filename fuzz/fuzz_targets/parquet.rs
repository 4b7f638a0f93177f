//! Any bytes through `any_bytes::parquet`.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The reader turns panics of the parquet crate into errors; libFuzzer's hook would end the run
// before it can. A panic that nothing catches ends it all the same.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |data: &[u8]| {
    ls_data_fuzz::any_bytes::parquet(data);
});
