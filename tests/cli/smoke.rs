//! The bodies of fuzz targets on the files stored in `fuzz/seeds`, each as it is and made wrong in
//! many ways, with a generator whose seed names all of them.
//!
//! `LS_LLAMA_FUZZ=1000000` makes so many inputs of each target, and `LS_LLAMA_FUZZ_ONLY=csv` keeps
//! to one. Without libFuzzer nothing looks at which code was reached.

use std::path::Path;
use std::time::Instant;

use crate::mutate::{Form, Random, mutate};

/// Inputs of each target in `cargo test`.
const SAMPLE: usize = 60;
/// Longer inputs take long to no end.
const LONGEST: usize = 1 << 16;

/// A target by its name.
type Target = (&'static str, fn(&[u8]));

/// Runs each target.
#[allow(clippy::print_stderr)]
pub fn smoke(targets: &[Target]) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: usize = number("LS_LLAMA_FUZZ").unwrap_or(SAMPLE);
    let first: usize = number("LS_LLAMA_FUZZ_SEED").unwrap_or(1);
    let only = std::env::var("LS_LLAMA_FUZZ_ONLY").ok();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in targets {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let began = Instant::now();
        let mut seeds: Vec<_> = std::fs::read_dir(folder.join(name))
            .unwrap_or_else(|error| panic!("fuzz/seeds/{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        seeds.sort();
        let seeds: Vec<Vec<u8>> = seeds
            .iter()
            .map(|seed| std::fs::read(seed).unwrap())
            .collect();
        assert!(!seeds.is_empty(), "fuzz/seeds/{name} is empty");
        seeds.iter().for_each(|seed| target(seed));
        for at in 0..count {
            let mut random = Random((first as u64) << 40 | at as u64);
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..1 + random.below(3) {
                input = mutate(&input, form(name), &mut random).0;
                input.truncate(LONGEST);
            }
            let run = || target(&input);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                let kept = std::env::temp_dir().join(format!("{name}-{first}-{at}"));
                std::fs::write(&kept, &input).unwrap();
                panic!(
                    "{name}: input {at} of seed {first}, kept as {}",
                    kept.display()
                );
            }
        }
        if count > SAMPLE {
            eprintln!("{name}: {count} inputs in {:.0?}", began.elapsed());
        }
    }
}

/// How the files of a target are written.
fn form(target: &str) -> Form {
    match target {
        "safetensors" | "adapter_weights" => Form::Safetensors,
        "cache_entry" | "parquet" | "encoded" | "pickled" | "gguf" | "gguf_model" => Form::Binary,
        "config_json" | "tokenizer_json" | "shard_index" | "adapter_config" | "ls_llama_json"
        | "label_json" => Form::Json,
        _ => Form::Text,
    }
}
