//! Models by their names on the Hub: from the cache, or with the way to fetch them.

use crate::runs::{refused, sequence, train, train_args};
use crate::sandbox::assert_contains;

#[test]
fn a_name_of_the_hub_is_found_in_the_cache_or_says_how_to_fetch_it() {
    let sandbox = sequence();
    refused(
        &sandbox,
        &train_args("out", &["model.path=meta-llama/Llama-2-7b-hf"]),
        2,
        &["not in the cache", "cargo xtask fetch-weights"],
    );
    refused(
        &sandbox,
        &train_args("out", &["model.path=smollm2-135m"]),
        2,
        &["SmolLM2-135M", "cargo xtask fetch-weights"],
    );

    // A snapshot, laid out as huggingface_hub does.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = "hf/hub/models--org--tiny";
    sandbox.write(&format!("{repo}/refs/main"), commit);
    for file in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        let bytes = std::fs::read(sandbox.path(&format!("model/{file}"))).unwrap();
        sandbox.write(&format!("{repo}/snapshots/{commit}/{file}"), bytes);
    }
    train(&sandbox, "out", &["model.path=org/tiny", "train.epochs=1"]);
    let snapshot = format!("snapshots/{commit}");
    assert_contains(&sandbox.read("out/config.toml"), &[&snapshot]);
    sandbox.ok(&["evaluate", "--run", "out"]);
}
