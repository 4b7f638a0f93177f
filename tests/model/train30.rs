//! Thirty optimizer steps equal those of transformers + peft (`fixtures/train30/make.py`).

use std::path::{Path, PathBuf};

use burn::optim::GradientsParams;
use ls_lora::PeftAdapter;
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, ModelInput, Pooling, Task,
};
use ls_ops::device::{of_tests, tests_are_on_the_cpu};
use ls_train::config::TrainSettings;
use ls_train::loss::{counted, cross_entropy_sum};
use ls_train::optim::AdamW;
use ls_train::schedule::learning_rate;
use serde::Deserialize;

/// Relative, at every step. The curves differ by less; this is what the comparison has to hold.
const LOSS: f64 = 1e-3;

#[derive(Deserialize)]
struct Batches {
    batches: Vec<Batch>,
}

#[derive(Deserialize)]
struct Batch {
    input_ids: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Labels {
    Tokens(Vec<Vec<i64>>),
    Classes(Vec<i64>),
}

#[derive(Deserialize)]
struct Losses {
    transformers_peft: Vec<f64>,
    grad_norm: Vec<f64>,
    learning_rates: Vec<f64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/train30")
}

fn json<T: for<'de> Deserialize<'de>>(path: PathBuf) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The settings of the fixture's `losses.json`.
fn settings() -> TrainSettings {
    TrainSettings {
        learning_rate: 5e-3,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        ..TrainSettings::default()
    }
}

fn run(variant: &str, attention: AttentionMode, task: Task) -> Vec<f64> {
    let dir = fixtures().join(variant);
    let reference: Losses = json(dir.join("losses.json"));
    let batches: Batches = json(dir.join("batches.json"));
    let device = of_tests().autodiff();
    let checkpoint = Checkpoint::open(&fixtures().join("model")).unwrap();
    let backbone = checkpoint
        .load_model(&attention, ComputeType::F32, &device, |_, _| ())
        .unwrap();
    let initial = dir.join("initial_adapter");
    let adapter = PeftAdapter::load(&initial).unwrap();
    let mut model = LlamaClassifier::with_adapter(
        backbone,
        &checkpoint.config,
        task,
        &adapter,
        &initial,
        &device,
    )
    .unwrap();
    let settings = settings();
    let mut optimizer = AdamW::new(&model, &settings);
    let mut losses = Vec::new();
    for (step, batch) in batches.batches.iter().enumerate() {
        let rows: Vec<&[u32]> = batch
            .input_ids
            .iter()
            .zip(&batch.lengths)
            .map(|(row, &length)| &row[..length])
            .collect();
        let labels: Vec<i64> = match &batch.labels {
            Labels::Classes(classes) => classes.clone(),
            Labels::Tokens(rows) => rows
                .iter()
                .zip(&batch.lengths)
                .flat_map(|(row, &length)| row[..length].to_vec())
                .collect(),
        };
        let input = ModelInput::new(&rows, &checkpoint.config, &device).unwrap();
        let loss =
            cross_entropy_sum(model.forward(&input), &labels).div_scalar(counted(&labels) as f32);
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradient = optimizer.gradient(&model, gradients);
        let rate = learning_rate(&settings, step, batches.batches.len());
        assert!(
            (rate - reference.learning_rates[step]).abs() < 1e-9,
            "{variant} step {step}: learning rate {rate}"
        );
        let (stepped, norm) = optimizer.step(model, gradient, rate);
        model = stepped;
        let norm = f64::from(norm.into_scalar::<f32>());
        let expected = reference.grad_norm[step];
        assert!(
            (norm / expected - 1.0).abs() < 1e-2,
            "{variant} step {step}: gradient norm {norm}, expected {expected}"
        );
    }
    let mut worst = 0.0f64;
    for (step, (loss, expected)) in losses.iter().zip(&reference.transformers_peft).enumerate() {
        let difference = (loss / expected - 1.0).abs();
        assert!(
            difference <= LOSS,
            "{variant} step {step}: loss {loss}, expected {expected} (relative {difference:e})"
        );
        worst = worst.max(difference);
    }
    println!("error {worst:e} limit {LOSS:e} {variant}: losses");
    assert_eq!(losses.len(), 30);

    let last = dir.join("final_adapter");
    let expected = PeftAdapter::load(&last).unwrap();
    let found = model.to_adapter(&adapter.config);
    for (name, pair) in &expected.lora {
        for (found, expected) in [
            (&found.lora[name].a, &pair.a),
            (&found.lora[name].b, &pair.b),
        ] {
            for (found, expected) in found
                .to_f32()
                .unwrap()
                .iter()
                .zip(expected.to_f32().unwrap())
            {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{variant} {name}: {found} is not {expected}"
                );
            }
        }
    }
    losses
}

/// Our own curve, stored beside the reference's: it must not drift from one version to the next.
fn compare_with_stored(variant: &str, losses: &[f64]) {
    if !tests_are_on_the_cpu("the stored curve is the CPU's") {
        return;
    }
    let path = fixtures().join(variant).join("ls_llama_losses.json");
    if std::env::var_os("LS_LLAMA_UPDATE_FIXTURES").is_some() {
        std::fs::write(
            &path,
            serde_json::to_string_pretty(&serde_json::json!({ "ls_llama": losses })).unwrap()
                + "\n",
        )
        .unwrap();
    }
    let stored: serde_json::Value = json(path);
    let stored: Vec<f64> = stored["ls_llama"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| loss.as_f64().unwrap())
        .collect();
    assert_eq!(stored.len(), losses.len());
    for (step, (loss, stored)) in losses.iter().zip(&stored).enumerate() {
        assert!(
            (loss / stored - 1.0).abs() < 1e-5,
            "{variant} step {step}: loss {loss}, stored {stored}"
        );
    }
}

#[test]
fn a_causal_sequence_classifier_trains_like_the_reference() {
    let losses = run(
        "sequence",
        AttentionMode::Causal,
        Task::Sequence(Pooling::Last),
    );
    compare_with_stored("sequence", &losses);
}

#[test]
fn a_bidirectional_tagger_trains_like_the_reference() {
    let losses = run(
        "token",
        AttentionMode::Bidirectional,
        Task::Token { dropout: 0.0 },
    );
    compare_with_stored("token", &losses);
}
