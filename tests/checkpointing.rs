//! Gradient checkpointing gives the gradients of the whole graph: bit for bit on the CPU, within
//! rounding elsewhere (`LS_TEST_DEVICE`), where operations are fused in another order.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Distribution, Tensor};
use ls_lora::{
    Bias, LoraConfig, LoraModule, Quantization, TargetModules, add_adapter, host_values,
    set_trainable,
};
use ls_model::{
    ADAPTER, AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, LlamaModel,
    ModelInput, Pooling, Precision, Task, Trained,
};
use ls_ops::device::of_tests;

const ROWS: [&[u32]; 3] = [&[1, 5, 12, 7], &[3], &[9, 2, 4]];

/// Models of the fixture that differ in what a block is made of.
const FAMILIES: [&str; 9] = [
    "gqa",
    "qwen2-window",
    "qwen3",
    "olmo2",
    "granite",
    "smollm3",
    "gemma2",
    "gemma3",
    "phi3",
];

/// The generator that dropout draws from is one for the whole process.
static GENERATOR: Mutex<()> = Mutex::new(());

fn generator() -> MutexGuard<'static, ()> {
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checkpoint(name: &str) -> Checkpoint {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/parity/models");
    Checkpoint::open(&models.join(name)).unwrap()
}

/// A classifier with a new head over the decoder of a fixture.
fn classifier(name: &str, attention: &str, task: Task, device: &Device) -> LlamaClassifier {
    classifier_in(ComputeType::F32.into(), name, attention, task, device)
}

fn classifier_in(
    precision: Precision,
    name: &str,
    attention: &str,
    task: Task,
    device: &Device,
) -> LlamaClassifier {
    let checkpoint = checkpoint(name);
    let attention = attention.parse().unwrap();
    let base = checkpoint
        .load_model(&attention, precision, device, |_, _| ())
        .unwrap();
    LlamaClassifier::new(base, &checkpoint.config, task, 3, 3, device)
}

/// With an adapter whose B is not zero, so that every factor has a gradient.
fn adapted(mut model: LlamaClassifier, config: &LoraConfig, device: &Device) -> LlamaClassifier {
    device.seed(3);
    add_adapter(&mut model, ADAPTER, config, 3, device).unwrap();
    for (_, layer) in model.layers_mut() {
        for lora in layer.adapters_mut() {
            let shape = lora.lora_b.val().dims();
            let options = (device, DType::F32);
            let b = Tensor::random(shape, Distribution::Normal(0.0, 0.3), options);
            lora.lora_b = Param::from_tensor(b);
        }
    }
    model
}

fn loss(logits: Tensor<2>) -> Tensor<1> {
    logits.square().sum()
}

/// Every gradient, in the order of the modules, and whether each is there.
fn all(model: &LlamaClassifier, gradients: &GradientsParams) -> Vec<Option<Vec<f32>>> {
    struct All<'a>(&'a GradientsParams, Vec<Option<Vec<f32>>>);
    impl ModuleVisitor for All<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id);
            self.1.push(gradient.map(host_values));
        }
    }
    let mut all = All(gradients, Vec::new());
    model.visit(&mut all);
    all.1
}

/// Off the CPU, of the largest value of a tensor.
const ROUNDING: f32 = 1e-5;

#[track_caller]
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    if ls_ops::is_host(&of_tests()) {
        let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(found), bits(expected), "{what}");
        return;
    }
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-6f32, |max, v| max.max(v.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A maximum that NaN does not get lost in.
    let worst = differences.fold(0.0f32, |max, d| if d <= max { max } else { d }) / largest;
    let rounding = ls_ops::device::tolerance_of_tests(ROUNDING);
    assert!(worst <= rounding, "{what}: {worst:e}");
    println!("error {worst:e} limit {rounding:e} {what}");
}

fn input(name: &str, device: &Device) -> ModelInput {
    let input = ModelInput::new(&ROWS, &checkpoint(name).config, device).unwrap();
    input.with_dropout_seed(11)
}

fn all_linear() -> LoraConfig {
    LoraConfig::new(2, 6.0)
        .with_target_modules(TargetModules::AllLinear)
        .with_lora_dropout(0.3)
}

fn compare(model: &LlamaClassifier, input: &ModelInput, what: &str) {
    let expected = loss(model.forward(input));
    let value = host_values(expected.clone().inner());
    let expected = GradientsParams::from_grads(expected.backward(), model);
    let (found_value, found) = model.backward_checkpointed(input, loss);
    assert_same(&host_values(found_value), &value, what);
    assert!(!found.is_empty(), "{what}");
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in all(model, &found).iter().zip(&all(model, &expected)) {
        assert_eq!(found.is_some(), expected.is_some(), "{what}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert_same(found, expected, what);
        }
    }
}

#[test]
fn gradients_are_bit_for_bit_those_without() {
    let _generator = generator();
    let device = of_tests().autodiff();
    let config = all_linear();
    for name in FAMILIES {
        for attention in ["causal", "bidirectional", "from:1"] {
            for task in [
                Task::Sequence(Pooling::Last),
                Task::Sequence(Pooling::Mean),
                Task::Sequence(Pooling::Max),
                Task::Token { dropout: 0.4 },
            ] {
                let model = classifier(name, attention, task, &device);
                let model = adapted(model, &config, &device);
                let what = format!("{name} {attention} {task:?}");
                compare(&model, &input(name, &device), &what);
            }
        }
    }
}

#[test]
fn whatever_it_is_that_trains() {
    let _generator = generator();
    let device = of_tests().autodiff();
    let config = |names: &[&str]| {
        LoraConfig::new(2, 6.0)
            .with_target_modules(TargetModules::list(names.iter().copied()))
            .with_lora_dropout(0.3)
    };
    let of_layers = |layers: &[usize]| {
        let mut config = config(&["q_proj", "down_proj"]);
        config.layers_to_transform = Some(layers.to_vec());
        config
    };
    let name = "qwen2-window";
    let last = checkpoint(name).config.num_hidden_layers - 1;
    assert!(last > 1);
    for (what, config) in [
        ("the embedding", config(&["embed_tokens"])),
        ("all", config(&["embed_tokens", "v_proj", "up_proj"])),
        ("the first", of_layers(&[0])),
        ("one between", of_layers(&[1])),
        ("the last", of_layers(&[last])),
        ("dora", config(&["q_proj", "o_proj"]).with_dora(true)),
        ("biases", config(&["v_proj"]).with_bias(Bias::All)),
    ] {
        for task in [Task::Sequence(Pooling::Last), Task::Token { dropout: 0.0 }] {
            let model = classifier(name, "causal", task, &device);
            let model = adapted(model, &config, &device);
            compare(&model, &input(name, &device), what);
        }
    }
    let head = classifier(name, "causal", Task::Sequence(Pooling::Last), &device);
    compare(&head, &input(name, &device), "the head");
}

#[test]
fn however_the_frozen_weights_are_held() {
    let _generator = generator();
    let device = of_tests().autodiff();
    let config = all_linear();
    for (compute, quantization) in [
        (ComputeType::Bf16, None),
        (ComputeType::F32, Some(Quantization::Nf4)),
        (ComputeType::Bf16, Some(Quantization::Int8)),
    ] {
        if compute == ComputeType::Bf16 && !device.supports_dtype(DType::BF16) {
            println!("left out: the device has no BF16");
            continue;
        }
        let precision = Precision {
            compute,
            quantization,
            in_f32: Trained::Head,
        };
        for task in [Task::Sequence(Pooling::Last), Task::Token { dropout: 0.4 }] {
            let model = classifier_in(precision.clone(), "gqa", "causal", task, &device);
            let model = adapted(model, &config, &device);
            compare(&model, &input("gqa", &device), &format!("{precision:?}"));
        }
    }
}

/// Weights that train form gradients of their own, in the blocks that are computed again too.
#[test]
fn whatever_trains_in_full() {
    let _generator = generator();
    let device = of_tests().autodiff();
    for (trained, quantization) in [
        ("all", None),
        ("0", None),
        ("1", Some(Quantization::Nf4)),
        ("0,2", Some(Quantization::Int8)),
    ] {
        let trained: Trained = trained.parse().unwrap();
        let precision = Precision {
            compute: ComputeType::F32,
            quantization,
            in_f32: trained.clone(),
        };
        for name in FAMILIES {
            for task in [Task::Sequence(Pooling::Last), Task::Token { dropout: 0.4 }] {
                let model = classifier_in(precision.clone(), name, "causal", task, &device);
                let model = set_trainable(model, &|name| trained.holds(name), true);
                let what = format!("{name} {precision:?}");
                compare(&model, &input(name, &device), &what);
            }
        }
    }
}

#[test]
fn however_few_blocks_there_are() {
    let _generator = generator();
    let device = of_tests().autodiff();
    let lora = all_linear();
    for depth in [1, 2] {
        let config = format!(
            r#"{{"model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": {depth}, "num_attention_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-5}}"#
        );
        let config = LlamaConfig::from_json(&config, Path::new("config.json")).unwrap();
        for task in [
            Task::Sequence(Pooling::Last),
            Task::Sequence(Pooling::Mean),
            Task::Token { dropout: 0.4 },
        ] {
            let causal = AttentionMode::Causal;
            let base = LlamaModel::random(&config, &causal, ComputeType::F32, &device).unwrap();
            let model = LlamaClassifier::new(base, &config, task, 3, 3, &device);
            let model = adapted(model, &lora, &device);
            let input = ModelInput::new(&ROWS, &config, &device).unwrap();
            let input = input.with_dropout_seed(11);
            compare(&model, &input, &format!("{depth} blocks, {task:?}"));
        }
    }
}

#[test]
fn dropout_follows_its_seed() {
    let _generator = generator();
    let device = of_tests().autodiff();
    let config = all_linear();
    let model = classifier("gqa", "causal", Task::Token { dropout: 0.4 }, &device);
    let model = adapted(model, &config, &device);
    let of = |seed| {
        let input = input("gqa", &device).with_dropout_seed(seed);
        let (value, gradients) = model.backward_checkpointed(&input, loss);
        (host_values(value), all(&model, &gradients))
    };
    let (once, again) = (of(1), of(1));
    assert_same(&once.0, &again.0, "loss");
    for (once, again) in once.1.iter().zip(&again.1) {
        if let (Some(once), Some(again)) = (once, again) {
            assert_same(once, again, "the same seed");
        }
    }
    assert_ne!(once, of(2));
}
