//! Thirty optimizer steps equal those of transformers, of peft's adapters and in full
//! (`fixtures/train30/make.py`).

use std::path::{Path, PathBuf};

use burn::optim::GradientsParams;
use ls_files::TensorFile;
use ls_lora::{HostTensor, LoraModel, PeftAdapter, parameters, set_trainable};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, ModelInput, Pooling, Task, Trained,
};
use ls_ops::device::{of_tests, tests_are_on_the_cpu};
use ls_train::config::TrainSettings;
use ls_train::loss::{counted, cross_entropy_sum};
use ls_train::optim::AdamW;
use ls_train::schedule::learning_rate;
use serde::Deserialize;

/// Relative, at every step. The curves differ by less; this is what the comparison has to hold.
const LOSS: f64 = 1e-3;
/// The same where weights train in full.
const IN_FULL: f64 = 1e-4;

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
    #[serde(rename = "transformers_peft", alias = "transformers")]
    losses: Vec<f64>,
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

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&fixtures().join("model")).unwrap()
}

/// The decoder with the first adapter and head of a task.
fn begun(variant: &str, attention: &AttentionMode, task: Task) -> (LlamaClassifier, PeftAdapter) {
    let device = of_tests().autodiff();
    let checkpoint = checkpoint();
    let backbone = checkpoint
        .load_model(attention, ComputeType::F32, &device, |_, _| ())
        .unwrap();
    let initial = fixtures().join(variant).join("initial_adapter");
    let adapter = PeftAdapter::load(&initial).unwrap();
    let model = LlamaClassifier::with_adapter(
        backbone,
        &checkpoint.config,
        task,
        &adapter,
        &initial,
        &device,
    );
    (model.unwrap(), adapter)
}

/// The thirty steps, on the batches of `data`, held against the curves of `variant`.
fn train(
    mut model: LlamaClassifier,
    settings: &TrainSettings,
    data: &str,
    variant: &str,
    limit: f64,
) -> (LlamaClassifier, Vec<f64>) {
    let reference: Losses = json(fixtures().join(variant).join("losses.json"));
    let batches: Batches = json(fixtures().join(data).join("batches.json"));
    let (device, config) = (of_tests().autodiff(), checkpoint().config);
    let mut optimizer = AdamW::new(&model, settings);
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
        let input = ModelInput::new(&rows, &config, &device).unwrap();
        let loss =
            cross_entropy_sum(model.forward(&input), &labels).div_scalar(counted(&labels) as f32);
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradient = optimizer.gradient(&model, gradients);
        let rate = learning_rate(settings, step, batches.batches.len());
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
    for (step, (loss, expected)) in losses.iter().zip(&reference.losses).enumerate() {
        let difference = (loss / expected - 1.0).abs();
        assert!(
            difference <= limit,
            "{variant} step {step}: loss {loss}, expected {expected} (relative {difference:e})"
        );
        worst = worst.max(difference);
    }
    println!("error {worst:e} limit {limit:e} {variant}: losses");
    assert_eq!(losses.len(), 30);
    (model, losses)
}

/// The largest difference between two tensors is below 1e-3.
fn assert_near(found: &HostTensor, expected: &HostTensor, what: &str) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let (found, expected) = (found.to_f32().unwrap(), expected.to_f32().unwrap());
    let pairs = found.iter().zip(&expected);
    let worst = pairs.fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(worst < 1e-3, "{what}: {worst:e}");
}

fn run(variant: &str, attention: AttentionMode, task: Task) -> Vec<f64> {
    let (model, adapter) = begun(variant, &attention, task);
    let (model, losses) = train(model, &settings(), variant, variant, LOSS);
    let last = fixtures().join(variant).join("final_adapter");
    let expected = PeftAdapter::load(&last).unwrap();
    let found = model.to_adapter(&adapter.config);
    for (name, pair) in &expected.lora {
        assert_near(&found.lora[name].a, &pair.a, &format!("{variant} {name} A"));
        assert_near(&found.lora[name].b, &pair.b, &format!("{variant} {name} B"));
    }
    losses
}

/// The same without adapters, for what `trained` says, from the first head of `data`.
fn run_in_full(variant: &str, data: &str, trained: &str, decay: f64, task: Task) {
    let trained: Trained = trained.parse().unwrap();
    let attention = match task {
        Task::Sequence(_) => AttentionMode::Causal,
        Task::Token { .. } => AttentionMode::Bidirectional,
    };
    let (model, _) = begun(data, &attention, task);
    let model = LoraModel::new(model).unload().unwrap();
    let model = set_trainable(model, &|name| trained.holds(name), true);
    let settings = TrainSettings {
        learning_rate: 2e-3,
        layerwise_lr_decay: decay,
        ..settings()
    };
    let (model, _) = train(model, &settings, data, variant, IN_FULL);
    let last = fixtures().join(variant).join("final.safetensors");
    let expected = TensorFile::open(&last).unwrap();
    let found = parameters(&model, &|name| trained.holds(name));
    assert!(found.keys().map(String::as_str).eq(expected.names()));
    for (name, found) in &found {
        let expected = expected.read(name).unwrap();
        assert_near(found, &expected, &format!("{variant} {name}"));
    }
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

#[test]
fn a_whole_decoder_trains_like_the_reference() {
    let task = Task::Sequence(Pooling::Last);
    run_in_full("full-sequence", "sequence", "all", 1.0, task);
}

#[test]
fn a_whole_decoder_whose_rates_fall_by_layer_trains_like_the_reference() {
    let task = Task::Token { dropout: 0.0 };
    run_in_full("full-token", "token", "all", 0.7, task);
}

#[test]
fn some_layers_train_like_the_reference() {
    let task = Task::Sequence(Pooling::Last);
    run_in_full("layers-sequence", "sequence", "0", 0.7, task);
}
