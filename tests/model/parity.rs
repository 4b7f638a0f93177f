//! Hidden states, logits, losses and gradients equal those of transformers + peft
//! (`fixtures/parity/make.py`), on any device (`LS_TEST_DEVICE`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ls_lora::{LoraConfig, PeftAdapter};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, ModelInput, Pooling, Task,
};
use ls_ops::device::of_tests;
use serde::Deserialize;

use crate::golden::{Expected, assert_close, at_tokens, check_training, values};

/// f32 against f32: the bounds that the comparison with the reference has to hold.
const LOGITS: f32 = 1e-4;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    adapter: String,
    attention: Attention,
    padding: String,
    task: String,
    pooling: Option<Pooling>,
    attend_padding: bool,
    /// Whether mean and max run over padding too; `last` is the last token of the text either way.
    pool_padding: bool,
    /// `batch`: the reference ran all rows in one forward pass; `alone`: row by row.
    rows: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Attention {
    Mode(AttentionMode),
    Layers { bidirectional_layers: Vec<usize> },
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/parity")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join("cases.json")).unwrap();
    serde_json::from_str::<Cases>(&text).unwrap().cases
}

struct Loaded {
    checkpoint: Checkpoint,
    model: LlamaClassifier,
    lora: LoraConfig,
}

fn load(case: &Case, device: &Device) -> Loaded {
    let checkpoint = Checkpoint::open(&fixtures().join("models").join(&case.model)).unwrap();
    assert_eq!(checkpoint.surplus(), [""; 0], "{}", case.model);
    let attention = match &case.attention {
        Attention::Mode(mode) => mode.clone(),
        Attention::Layers {
            bidirectional_layers,
        } => AttentionMode::Layers(
            bidirectional_layers
                .iter()
                .map(|&layer| layer..layer + 1)
                .collect(),
        ),
    };
    let task = match case.pooling {
        Some(pooling) => Task::Sequence(pooling),
        // The reference values were made without dropout.
        None => Task::Token { dropout: 0.0 },
    };
    let model = checkpoint
        .load_model(&attention, ComputeType::F32, device, |_, _| ())
        .unwrap();
    let dir = fixtures().join("adapters").join(&case.adapter);
    let mut adapter = PeftAdapter::load(&dir).unwrap();
    adapter.config.lora_dropout = 0.0;
    let model =
        LlamaClassifier::with_adapter(model, &checkpoint.config, task, &adapter, &dir, device)
            .unwrap();
    Loaded {
        checkpoint,
        model,
        lora: adapter.config,
    }
}

/// Ids, what counts as a token for attention, and what is a real token.
type Rows = (Vec<Vec<u32>>, Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The rows of a case.
fn batch(case: &Case, expected: &Expected) -> Rows {
    let (ids, real) = (expected.ids(), expected.mask());
    let attended = if case.attend_padding {
        real.iter().map(|row| vec![1; row.len()]).collect()
    } else {
        real.clone()
    };
    (ids, attended, real)
}

fn check(case: &Case) {
    let expected = Expected::open(&fixtures().join(format!("cases/{}.safetensors", case.name)));
    let device = of_tests().autodiff();
    let Loaded {
        checkpoint,
        model,
        lora,
    } = load(case, &device);
    let (ids, attended, real) = batch(case, &expected);
    let (logits_shape, _) = expected.get("logits");
    let num_labels = *logits_shape.last().unwrap();

    // Where frequencies go by the length, transformers takes the longest of the batch and we each
    // row's own: what it computed for shorter rows beside a longer one has no counterpart here, and
    // those rows are compared where it ran them alone.
    let by_length = matches!(case.model.as_str(), "dynamic" | "longrope" | "phi4-mini");
    let own_length_only = by_length && case.padding != "none" && case.rows == "batch";
    let longest = real
        .iter()
        .map(|row| row.iter().filter(|&&one| one == 1).count())
        .max()
        .unwrap();
    let keep: Vec<usize> = (0..ids.len())
        .filter(|&row| {
            !own_length_only || real[row].iter().filter(|&&one| one == 1).count() == longest
        })
        .collect();
    let pick_ids: Vec<_> = keep.iter().map(|&row| ids[row].clone()).collect();
    let pick_mask: Vec<_> = keep.iter().map(|&row| attended[row].clone()).collect();
    let pick = |name: &str| -> Vec<Vec<f32>> {
        let rows = expected.rows(name);
        keep.iter().map(|&row| rows[row].clone()).collect()
    };

    let mut input =
        ModelInput::from_padded(&pick_ids, &pick_mask, &checkpoint.config, &device).unwrap();
    if case.attend_padding && !case.pool_padding {
        let text: Vec<usize> = real
            .iter()
            .map(|row| row.iter().filter(|&&one| one == 1).count())
            .collect();
        input = input.with_text_lengths(&text);
    }
    if expected.0.get("hidden").is_some() {
        let width = checkpoint.config.hidden_size;
        let hidden = at_tokens(&pick("hidden"), &pick_mask, width);
        assert_close(
            &format!("{}: hidden", case.name),
            &values(model.model.forward(&input)),
            &hidden,
            LOGITS,
            false,
        );
    }
    let logits = model.forward(&input);
    let expected_logits = if case.task == "token" {
        at_tokens(&pick("logits"), &pick_mask, num_labels)
    } else {
        pick("logits").concat()
    };
    assert_close(
        &format!("{}: logits", case.name),
        &values(logits.clone()),
        &expected_logits,
        LOGITS,
        false,
    );
    // The same off the graph, through the fused kernels.
    let plain = burn::module::Module::valid(&model).forward(&input);
    assert_close(
        &format!("{}: plain logits", case.name),
        &values(plain),
        &expected_logits,
        LOGITS,
        false,
    );
    if own_length_only {
        return;
    }

    let labels = if case.task == "token" {
        at_tokens(&pick("labels"), &pick_mask, 1)
    } else {
        expected.get("labels").1
    };
    let trained = (&model, &lora);
    check_training(
        &case.name,
        trained,
        logits,
        &labels,
        &expected,
        (LOGITS, false),
    );
}

fn check_all(of: impl Fn(&Case) -> bool) -> usize {
    let cases: Vec<Case> = cases().into_iter().filter(|case| of(case)).collect();
    assert!(!cases.is_empty(), "no such cases in the fixture");
    cases.iter().for_each(check);
    cases.len()
}

#[test]
fn every_mask_padding_and_head_of_a_grouped_query_llama() {
    let full = |case: &Case| case.model == "gqa" && !case.attend_padding;
    assert_eq!(check_all(full), 36);
}

#[test]
fn attended_padding_is_the_references() {
    assert_eq!(check_all(|case| case.attend_padding), 4);
}

/// Models whose heads have a width of their own, biases, or tied embeddings, in `make.py`'s words.
const SHAPES: [&str; 4] = ["head_dim", "tied", "llama32", "nemo"];

#[test]
fn head_dim_biases_and_tied_embeddings() {
    check_all(|case| SHAPES.contains(&case.model.as_str()));
}

/// Models of a RoPE kind each.
const ROPE: [&str; 7] = [
    "linear",
    "dynamic",
    "llama3",
    "llama3-old",
    "yarn",
    "qwen2-yarn",
    "longrope",
];
/// Models of the other tests here.
const OTHERS: [&str; 9] = [
    "gqa",
    "mistral",
    "qwen2",
    "qwen2-window",
    "phi3",
    "phi4-mini",
    "gqa-sharded",
    "gqa-f16",
    "gqa-bf16",
];

/// Models of other families than LLaMA, Mistral, Qwen2 and Phi-3.
const FAMILIES: [&str; 8] = [
    "qwen3",
    "olmo2",
    "granite",
    "smollm3",
    "smollm3-list",
    "gemma2",
    "gemma3",
    "gemma3-both",
];

#[test]
fn every_rope_scaling_in_both_spellings() {
    check_all(|case| ROPE.contains(&case.model.as_str()));
}

/// A model that `make.py` gets in addition must not go without a test.
#[test]
fn every_model_of_the_fixture_is_compared() {
    let known = ROPE.into_iter().chain(SHAPES).chain(OTHERS).chain(FAMILIES);
    let known: BTreeSet<&str> = known.collect();
    let cases = cases();
    let models: BTreeSet<&str> = cases.iter().map(|case| case.model.as_str()).collect();
    assert_eq!(models, known);
}

#[test]
fn every_other_family() {
    for model in FAMILIES {
        // Two heads and two paddings for each attention that the model has.
        let attentions = if model == "gemma3-both" { 1 } else { 3 };
        assert_eq!(check_all(|case| case.model == model), 2 * attentions);
    }
}

#[test]
fn sliding_windows_and_qwen2() {
    check_all(|case| matches!(case.model.as_str(), "mistral" | "qwen2" | "qwen2-window"));
}

/// With one adapter over what a fused layer gives.
#[test]
fn phi3s_fused_projections_and_partly_turned_heads() {
    check_all(|case| matches!(case.model.as_str(), "phi3" | "phi4-mini"));
}

#[test]
fn shards_and_half_precision_files() {
    assert_eq!(
        check_all(|case| matches!(case.model.as_str(), "gqa-sharded" | "gqa-f16" | "gqa-bf16")),
        6
    );
}

/// The logits of an example are the same alone and in any batch, padded on either side.
#[test]
fn padding_never_changes_a_result() {
    for case in cases()
        .iter()
        .filter(|case| case.padding == "right" && !case.attend_padding)
    {
        let expected = Expected::open(&fixtures().join(format!("cases/{}.safetensors", case.name)));
        let device = of_tests();
        let Loaded {
            checkpoint, model, ..
        } = load(case, &device);
        let (ids, _, real) = batch(case, &expected);
        let rows: Vec<Vec<u32>> = ids
            .iter()
            .zip(&real)
            .map(|(ids, mask)| {
                ids.iter()
                    .zip(mask)
                    .filter(|(_, one)| **one == 1)
                    .map(|(id, _)| *id)
                    .collect()
            })
            .collect();
        let alone: Vec<f32> = rows
            .iter()
            .flat_map(|row| {
                let input = ModelInput::new(std::slice::from_ref(row), &checkpoint.config, &device)
                    .unwrap();
                values(model.forward(&input))
            })
            .collect();
        for side in ["left", "right"] {
            for extra in [0, 5] {
                let width = rows.iter().map(Vec::len).max().unwrap() + extra;
                let pad = |row: &[u32], real: u32, padding: u32| -> Vec<u32> {
                    let padding = vec![padding; width - row.len()];
                    let row: Vec<u32> = if real == 0 {
                        row.to_vec()
                    } else {
                        vec![1; row.len()]
                    };
                    if side == "left" {
                        [padding, row].concat()
                    } else {
                        [row, padding].concat()
                    }
                };
                let ids: Vec<_> = rows.iter().map(|row| pad(row, 0, 3)).collect();
                let mask: Vec<Vec<u8>> = rows
                    .iter()
                    .map(|row| pad(row, 1, 0).into_iter().map(|one| one as u8).collect())
                    .collect();
                let input =
                    ModelInput::from_padded(&ids, &mask, &checkpoint.config, &device).unwrap();
                let what = format!("{} {side} +{extra}", case.name);
                assert_close(&what, &values(model.forward(&input)), &alone, 1e-5, false);
            }
        }
    }
}
