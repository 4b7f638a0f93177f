//! What an adapter does to a layer and to a model, by values: nonzero B, alpha other than r, odd sizes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_lora::{
    HostTensor, LoraConfig, LoraError, LoraFactors, LoraLinear, LoraModule, LoraPair,
    ParameterCount, PeftAdapter, TargetModules, adapter_tensors, add_adapters, host_values,
    load_adapters, merge_adapters,
};

const IN: usize = 7;
const OUT: usize = 5;
const R: usize = 3;
/// alpha 7.5 over r 3.
const SCALING: f64 = 2.5;
const ROWS: usize = 4;
/// Sums of at most 7 products of numbers around 1, in f32.
const TOLERANCE: f64 = 1e-5;

/// The CPU backend draws from one generator per process: tests that draw take turns.
static GENERATOR: Mutex<()> = Mutex::new(());

fn seeded(device: &Device, seed: u64) -> MutexGuard<'static, ()> {
    let guard = GENERATOR
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    device.seed(seed);
    guard
}

fn plain() -> Device {
    Device::flex()
}

fn graph() -> Device {
    Device::flex().autodiff()
}

/// Values without a pattern that a transposition or a swapped axis could hide in.
fn wave(n: usize, phase: f64) -> Vec<f32> {
    (0..n)
        .map(|i| ((i as f64 * 1.7 + phase).sin() * 0.9) as f32)
        .collect()
}

fn matrix(rows: usize, columns: usize, phase: f64, device: &Device) -> Tensor<2> {
    let data = TensorData::new(wave(rows * columns, phase), [rows, columns]);
    Tensor::from_data(data, (device, DType::F32))
}

fn inputs(device: &Device) -> Tensor<2> {
    matrix(ROWS, IN, 0.4, device)
}

fn base(device: &Device) -> LoraLinear {
    let bias = Tensor::from_data(TensorData::new(wave(OUT, 2.1), [OUT]), (device, DType::F32));
    LoraLinear::new(Linear {
        weight: Param::from_tensor(matrix(IN, OUT, 1.3, device)),
        bias: Some(Param::from_tensor(bias)),
    })
}

fn adapted(dropout: f64, device: &Device) -> LoraLinear {
    LoraLinear {
        lora: Some(LoraFactors {
            lora_a: Param::from_tensor(matrix(IN, R, 5.9, device)),
            lora_b: Param::from_tensor(matrix(R, OUT, 8.2, device)),
            scaling: SCALING,
            dropout,
        }),
        ..base(device)
    }
}

fn without_adapter(layer: &LoraLinear) -> LoraLinear {
    LoraLinear {
        base_layer: layer.base_layer.clone(),
        lora: None,
    }
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    host_values(tensor).into_iter().map(f32::to_bits).collect()
}

fn base_bits(layer: &LoraLinear) -> Vec<u32> {
    let bias = layer.base_layer.bias.as_ref().unwrap();
    [bits(layer.base_layer.weight.val()), bits(bias.val())].concat()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference <= tolerance, "[{at}]: {found} is not {expected}");
    }
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// `x W + b + scaling * x A B`, in f64 and index by index.
fn formula(x: &[f32], scaling: f64) -> Vec<f64> {
    let [w, b, lora_a, lora_b] = [
        wave(IN * OUT, 1.3),
        wave(OUT, 2.1),
        wave(IN * R, 5.9),
        wave(R * OUT, 8.2),
    ]
    .map(|values| as_f64(&values));
    let mut y = Vec::new();
    for row in as_f64(x).chunks(IN) {
        for out in 0..OUT {
            let dense: f64 = (0..IN).map(|i| row[i] * w[i * OUT + out]).sum();
            let low_rank: f64 = (0..R)
                .map(|k| {
                    let down: f64 = (0..IN).map(|i| row[i] * lora_a[i * R + k]).sum();
                    down * lora_b[k * OUT + out]
                })
                .sum();
            y.push(dense + b[out] + scaling * low_rank);
        }
    }
    y
}

#[test]
fn forward_is_the_formula() {
    for device in [plain(), graph()] {
        let y = host_values(adapted(0.0, &device).forward(inputs(&device)));
        let expected = formula(&wave(ROWS * IN, 0.4), SCALING);
        assert_near(&y, &expected, TOLERANCE);
        // Not by accident: without the scaling it is something else.
        let unscaled = formula(&wave(ROWS * IN, 0.4), 1.0);
        assert!((unscaled[0] - expected[0]).abs() > 0.1);
    }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let device = graph();
    let _turn = seeded(&device, 1);
    for gaussian in [false, true] {
        let mut layer = base(&device);
        let before = bits(layer.forward(inputs(&device)));
        let shape = layer.shape();
        assert_eq!(shape, [IN, OUT]);
        layer.lora = Some(LoraFactors::init(shape, R, gaussian, SCALING, 0.3, &device));
        assert_eq!(bits(layer.forward(inputs(&device))), before);
    }
}

#[test]
fn taking_the_adapter_off_gives_the_base() {
    let device = plain();
    let layer = adapted(0.0, &device);
    let expected = bits(base(&device).forward(inputs(&device)));
    assert_ne!(bits(layer.forward(inputs(&device))), expected);
    assert_eq!(
        bits(without_adapter(&layer).forward(inputs(&device))),
        expected
    );
}

#[test]
fn merged_equals_unmerged_and_merging_again_changes_nothing() {
    for device in [plain(), graph()] {
        let layer = adapted(0.0, &device);
        let unmerged = host_values(layer.forward(inputs(&device)));
        let merged = layer.merge();
        assert!(merged.lora.is_none());
        let y = host_values(merged.forward(inputs(&device)));
        assert_near(&y, &as_f64(&unmerged), 1e-5);
        assert_eq!(ParameterCount::of(&merged).trainable, 0);
        assert_eq!(base_bits(&merged.clone().merge()), base_bits(&merged));
    }
}

#[test]
fn a_frozen_base_beside_an_adapter_on_the_graph_merges() {
    let mut layer = base(&plain());
    layer.lora = adapted(0.0, &graph()).lora;
    let unmerged = host_values(layer.forward(inputs(&plain())));
    let merged = host_values(layer.merge().forward(inputs(&plain())));
    assert_near(&merged, &as_f64(&unmerged), 1e-5);
}

#[test]
fn factors_go_out_in_pefts_layout_and_come_back_exactly() {
    let layer = adapted(0.0, &plain());
    let pair = layer.factors().unwrap();
    assert_eq!(
        (&pair.a.shape, &pair.b.shape),
        (&vec![R, IN], &vec![OUT, R])
    );
    // Row k of the file's A is column k of ours.
    let lora_a = wave(IN * R, 5.9);
    assert_eq!(pair.a.to_f32().unwrap()[IN + 2], lora_a[2 * R + 1]);

    let mut other = base(&graph());
    let path = std::path::Path::new("adapter");
    other
        .load(path, "fc", &pair, SCALING, 0.0, &graph())
        .unwrap();
    assert_eq!(other.factors().unwrap(), pair);
    assert_eq!(
        bits(other.forward(inputs(&graph()))),
        bits(layer.forward(inputs(&plain())))
    );
    assert!(base(&plain()).factors().is_none());
}

#[test]
fn a_factor_of_another_shape_is_named_with_both_shapes() {
    let pair = adapted(0.0, &plain()).factors().unwrap();
    let swapped = LoraPair {
        a: pair.a.clone(),
        b: HostTensor::from_f32([OUT, R + 1], &wave(OUT * (R + 1), 0.0)),
    };
    let mut layer = base(&plain());
    let path = std::path::Path::new("adapter/adapter_model.safetensors");
    let error = layer.load(path, "model.fc", &swapped, 1.0, 0.0, &plain());
    match error.unwrap_err() {
        LoraError::TensorShape {
            path: found_path,
            name,
            expected,
            found,
        } => {
            assert_eq!(
                (found_path.as_path(), name.as_str()),
                (path, "model.fc.lora_B.weight")
            );
            assert_eq!((expected, found), (vec![OUT, R], vec![OUT, R + 1]));
        }
        other => panic!("{other}"),
    }
    assert!(layer.lora.is_none());
}

/// A weighted sum of the outputs: its gradient is a different one for every element.
fn objective(layer: &LoraLinear, x: Tensor<2>) -> Tensor<1> {
    let weights = matrix(ROWS, OUT, 3.3, &plain());
    (layer.forward(x) * weights).sum()
}

#[test]
fn gradients_reach_only_the_factors_and_equal_finite_differences() {
    let device = graph();
    // The base on the graph's device and off it; the input too, as in the first layers of a frozen model.
    for (base_device, x_device) in [(graph(), graph()), (plain(), plain())] {
        let mut layer = base(&base_device);
        layer.lora = adapted(0.0, &device).lora;
        let gradients = objective(&layer, inputs(&x_device)).backward();
        assert!(layer.base_layer.weight.val().grad(&gradients).is_none());
        let bias = layer.base_layer.bias.as_ref().unwrap();
        assert!(bias.val().grad(&gradients).is_none());

        let lora = layer.lora.as_ref().unwrap();
        let found =
            [&lora.lora_a, &lora.lora_b].map(|p| host_values(p.val().grad(&gradients).unwrap()));
        let start = [&lora.lora_a, &lora.lora_b].map(|p| host_values(p.val()));
        for which in 0..2 {
            for at in 0..start[which].len() {
                // The objective is linear in each factor, so a wide step costs no accuracy.
                let [up, down] = [0.5f32, -0.5].map(|step| {
                    let mut values = start.clone();
                    values[which][at] += step;
                    let mut layer = base(&plain());
                    layer.lora = Some(LoraFactors {
                        lora_a: Param::from_tensor(Tensor::from_data(
                            TensorData::new(values[0].clone(), [IN, R]),
                            &plain(),
                        )),
                        lora_b: Param::from_tensor(Tensor::from_data(
                            TensorData::new(values[1].clone(), [R, OUT]),
                            &plain(),
                        )),
                        scaling: SCALING,
                        dropout: 0.0,
                    });
                    host_values(objective(&layer, inputs(&plain())))[0]
                });
                assert_near(&[found[which][at]], &[f64::from(up - down)], 1e-4);
            }
        }
    }
}

#[test]
fn training_moves_the_factors_and_no_bit_of_the_base() {
    let optimizers: [fn() -> ModuleOptimizer; 2] = [
        || SgdConfig::new().init(),
        || AdamWConfig::new().with_weight_decay(0.1).init(),
    ];
    for optimizer in optimizers {
        let device = graph();
        let mut optimizer = optimizer();
        let mut layer = adapted(0.0, &device);
        let (base_before, factors_before) = (base_bits(&layer), layer.factors());
        let mut losses = Vec::new();
        for _ in 0..5 {
            let target = matrix(ROWS, OUT, 3.3, &device);
            let loss = (layer.forward(inputs(&device)) - target).square().mean();
            losses.push(host_values(loss.clone())[0]);
            let gradients = GradientsParams::from_grads(loss.backward(), &layer);
            assert_eq!(gradients.len(), 2);
            layer = optimizer.step(0.01, layer, gradients);
        }
        assert!(losses[4] < losses[0], "{losses:?}");
        assert_ne!(layer.factors(), factors_before);
        assert_eq!(base_bits(&layer), base_before);
    }
}

#[test]
fn dropout_acts_only_in_training() {
    let device = graph();
    let expected = bits(adapted(0.0, &plain()).forward(inputs(&plain())));
    let layer = adapted(0.5, &device);
    // Off the graph there is no dropout, whether the model was made there or taken off.
    let turn = seeded(&device, 3);
    assert_eq!(
        bits(adapted(0.5, &plain()).forward(inputs(&plain()))),
        expected
    );
    for _ in 0..3 {
        assert_eq!(bits(layer.valid().forward(inputs(&plain()))), expected);
    }
    drop(turn);
    // On it there is, also for a plain input, such as the one that a frozen prefix of a model gives.
    for x_device in [plain(), graph()] {
        let draw = |seed| {
            let _turn = seeded(&device, seed);
            bits(layer.forward(inputs(&x_device)))
        };
        assert_ne!(draw(3), expected);
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
    // A model that is put back on the graph trains with dropout again.
    let again = layer.valid().train();
    let _turn = seeded(&device, 3);
    assert_ne!(bits(again.forward(inputs(&plain()))), expected);
}

#[test]
fn dropout_zeroes_the_given_share_and_scales_the_rest() {
    const DROPOUT: f64 = 0.25;
    const MANY: usize = 4000;
    let device = graph();
    let eye = || Tensor::<2>::eye(IN, &device);
    // Base 0, A = B = 1: the output is the dropped-out input, times the scaling.
    let layer = LoraLinear {
        base_layer: Linear {
            weight: Param::from_tensor(Tensor::zeros([IN, IN], &device)),
            bias: None,
        }
        .no_grad(),
        lora: Some(LoraFactors {
            lora_a: Param::from_tensor(eye()),
            lora_b: Param::from_tensor(eye()),
            scaling: SCALING,
            dropout: DROPOUT,
        }),
    };
    let _turn = seeded(&device, 7);
    let y = host_values(layer.forward(Tensor::ones([MANY, IN], &plain())));
    let kept = (SCALING / (1.0 - DROPOUT)) as f32;
    let zeroes = y.iter().filter(|&&value| value == 0.0).count();
    let scaled = y
        .iter()
        .filter(|&&value| (value - kept).abs() < 1e-5)
        .count();
    assert_eq!(zeroes + scaled, y.len());
    // 28,000 draws: a standard deviation of 0.0026.
    let share = zeroes as f64 / y.len() as f64;
    assert!((share - DROPOUT).abs() < 0.013, "{share}");
    // The elements of a row are drawn one by one.
    let whole_rows = y
        .chunks(IN)
        .filter(|row| row.iter().all(|&value| value == row[0]))
        .count();
    assert!(whole_rows < MANY / 4, "{whole_rows}");
}

#[test]
fn the_expectation_over_dropout_is_the_output_without_it() {
    const MANY: usize = 20_000;
    let device = graph();
    let row = matrix(1, IN, 0.4, &plain());
    let expected = host_values(adapted(0.0, &plain()).forward(row.clone()));
    let _turn = seeded(&device, 11);
    let y = adapted(0.5, &device).forward(row.expand([MANY, IN]));
    let (variance, mean) = y.var_mean_bias(0);
    // Five standard errors.
    for ((mean, variance), expected) in host_values(mean)
        .iter()
        .zip(host_values(variance))
        .zip(expected)
    {
        let error = (variance / MANY as f32).sqrt();
        assert!(error > 0.0);
        assert!(
            (mean - expected).abs() < 5.0 * error,
            "{mean} is not {expected} ± {error}"
        );
    }
}

#[test]
fn a_bf16_base_keeps_its_type_and_the_factors_train_in_f32() {
    let device = graph();
    let mut layer = base(&plain());
    layer.base_layer.weight = layer.base_layer.weight.map(|w| w.cast(DType::BF16));
    layer.base_layer.bias = layer
        .base_layer
        .bias
        .map(|b| b.map(|b| b.cast(DType::BF16)));
    layer.lora = adapted(0.0, &device).lora;
    let x = inputs(&plain()).cast(DType::BF16);
    let y = layer.forward(x.clone());
    assert_eq!(y.dtype(), DType::BF16);
    // Eight bits of mantissa in weights, inputs and output.
    assert_near(
        &host_values(y),
        &formula(&wave(ROWS * IN, 0.4), SCALING),
        0.06,
    );
    let loss = layer.forward(x.clone()).cast(DType::F32).square().mean();
    let gradients = loss.backward();
    let lora = layer.lora.as_ref().unwrap();
    for factor in [&lora.lora_a, &lora.lora_b] {
        assert_eq!(factor.val().dtype(), DType::F32);
        assert_eq!(factor.val().grad(&gradients).unwrap().dtype(), DType::F32);
    }

    // Merging adds in f32 and rounds once.
    let low_rank = lora.lora_a.val().inner().matmul(lora.lora_b.val().inner());
    let exact = layer.base_layer.weight.val().cast(DType::F32) + low_rank.mul_scalar(SCALING);
    let merged = layer.clone().merge().base_layer.weight.val();
    assert_eq!(merged.dtype(), DType::BF16);
    assert_eq!(bits(merged), bits(exact.cast(DType::BF16)));
}

/// peft 0.21.2, `LoraLayer.reset_lora_parameters`: `kaiming_uniform_(a=sqrt(5))` on `[r, in]`, which is uniform within
/// `±1/sqrt(in)`, or `normal_(std=1/r)`; B zero either way.
#[test]
fn fresh_factors_are_distributed_as_pefts() {
    const D_IN: usize = 400;
    const RANK: usize = 25;
    let device = graph();
    let _turn = seeded(&device, 5);
    for gaussian in [false, true] {
        let lora = LoraFactors::init([D_IN, 31], RANK, gaussian, 1.0, 0.0, &device);
        assert_eq!(lora.lora_a.val().dims(), [D_IN, RANK]);
        assert_eq!(lora.lora_b.val().dims(), [RANK, 31]);
        assert!(host_values(lora.lora_b.val()).iter().all(|&b| b == 0.0));
        let a = as_f64(&host_values(lora.lora_a.val()));
        let n = a.len() as f64;
        let mean = a.iter().sum::<f64>() / n;
        let std = (a.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let largest = a.iter().fold(0.0f64, |max, v| max.max(v.abs()));
        let bound = 1.0 / (D_IN as f64).sqrt();
        let expected = if gaussian {
            1.0 / RANK as f64
        } else {
            bound / 3.0f64.sqrt()
        };
        // 10,000 values: the mean is known to 1 % of std, std to 0.7 %.
        assert!(mean.abs() < 0.05 * expected, "{mean}");
        assert!((std / expected - 1.0).abs() < 0.035, "{std} {expected}");
        if gaussian {
            assert!(largest > 3.0 * expected, "{largest}");
        } else {
            assert!(largest <= bound && largest > 0.99 * bound, "{largest}");
        }
    }
}

/// Two adaptable layers and a head: not a LLaMA.
#[derive(Module, Debug)]
struct Perceptron {
    fc1: LoraLinear,
    fc2: LoraLinear,
    score: LoraLinear,
}

impl Perceptron {
    fn new(device: &Device) -> Self {
        let linear = |d_in, d_out, phase| {
            LoraLinear::new(Linear {
                weight: Param::from_tensor(matrix(d_in, d_out, phase, device)),
                bias: None,
            })
        };
        Self {
            fc1: linear(IN, 9, 0.1),
            fc2: linear(9, OUT, 0.2),
            score: linear(OUT, 2, 0.3),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.fc1.forward(x).tanh();
        self.score.forward(self.fc2.forward(x).tanh())
    }
}

impl LoraModule for Perceptron {
    fn lora_layers(&self) -> Vec<(String, &LoraLinear)> {
        vec![
            ("net.fc1".into(), &self.fc1),
            ("net.fc2".into(), &self.fc2),
            ("score".into(), &self.score),
        ]
    }

    fn lora_layers_mut(&mut self) -> Vec<(String, &mut LoraLinear)> {
        vec![
            ("net.fc1".into(), &mut self.fc1),
            ("net.fc2".into(), &mut self.fc2),
            ("score".into(), &mut self.score),
        ]
    }

    fn head_names(&self) -> Vec<String> {
        vec!["score".into()]
    }
}

fn adapted_names(model: &Perceptron) -> Vec<String> {
    let layers = model.lora_layers().into_iter();
    layers
        .filter(|(_, layer)| layer.lora.is_some())
        .map(|(name, _)| name)
        .collect()
}

fn on(targets: TargetModules) -> LoraConfig {
    LoraConfig::new(R, 7.5).with_target_modules(targets)
}

#[test]
fn adapters_land_on_the_modules_asked_for_with_their_own_rank_and_scaling() {
    let device = graph();
    let _turn = seeded(&device, 2);
    let mut model = Perceptron::new(&device);
    let mut config = on(TargetModules::AllLinear).with_lora_dropout(0.1);
    config.rank_pattern = vec![("fc2".into(), 2)];
    let names = add_adapters(&mut model, &config, &device).unwrap();
    assert_eq!(names, ["net.fc1", "net.fc2"]);
    assert_eq!(adapted_names(&model), names);
    let lora = |layer: &LoraLinear| {
        let lora = layer.lora.as_ref().unwrap();
        (
            lora.lora_a.val().dims(),
            lora.lora_b.val().dims(),
            lora.scaling,
            lora.dropout,
        )
    };
    assert_eq!(lora(&model.fc1), ([IN, R], [R, 9], 2.5, 0.1));
    assert_eq!(lora(&model.fc2), ([9, 2], [2, OUT], 3.75, 0.1));

    let count = ParameterCount::of(&model);
    assert_eq!(count.trainable, (IN + 9) * R + (9 + OUT) * 2);
    assert_eq!(count.all, count.trainable + IN * 9 + 9 * OUT + OUT * 2);
    // Off the graph nothing trains.
    assert_eq!(ParameterCount::of(&model.valid()).trainable, 0);
}

#[test]
fn adapters_that_cannot_be_placed_leave_the_model_as_it_was() {
    let device = graph();
    let mut model = Perceptron::new(&device);
    let config = on(TargetModules::list(["fc1", "q_proj"]));
    match add_adapters(&mut model, &config, &device).unwrap_err() {
        LoraError::UnmatchedTargets {
            requested,
            available,
            ..
        } => {
            assert_eq!(requested, ["q_proj"]);
            assert_eq!(available, ["net.fc1", "net.fc2", "score"]);
        }
        other => panic!("{other}"),
    }
    assert!(adapted_names(&model).is_empty());

    // The first layer would take this rank, the second does not.
    let mut config = on(TargetModules::AllLinear);
    config.r = 6;
    match add_adapters(&mut model, &config, &device).unwrap_err() {
        LoraError::RankTooLarge { module, r, .. } => {
            assert_eq!((module.as_str(), r), ("net.fc2", 6))
        }
        other => panic!("{other}"),
    }
    assert!(adapted_names(&model).is_empty());

    config.r = 0;
    let error = add_adapters(&mut model, &config, &device).unwrap_err();
    assert!(matches!(error, LoraError::InvalidConfig { ref field, .. } if field == "r"));
}

/// A model with nonzero adapters on fc1 and fc2, and its configuration.
fn trained(device: &Device) -> (Perceptron, LoraConfig) {
    let config = on(TargetModules::list(["fc1", "fc2"]));
    let mut model = Perceptron::new(device);
    {
        let _turn = seeded(device, 9);
        add_adapters(&mut model, &config, device).unwrap();
    }
    for (_, layer) in model.lora_layers_mut() {
        if let Some(lora) = &mut layer.lora {
            let [r, out] = lora.lora_b.val().dims();
            lora.lora_b = Param::from_tensor(matrix(r, out, 4.4, device));
        }
    }
    (model, config)
}

fn adapter_of(model: &Perceptron, config: &LoraConfig) -> PeftAdapter {
    PeftAdapter {
        config: config.clone(),
        lora: adapter_tensors(model),
        saved_modules: BTreeMap::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn merged_equals_unmerged_equals_saved_and_reloaded() {
    let (model, config) = trained(&plain());
    let expected = host_values(model.forward(inputs(&plain())));
    let off = host_values(Perceptron::new(&plain()).forward(inputs(&plain())));
    assert!((off[0] - expected[0]).abs() > 1e-2);

    let dir = tempfile::tempdir().unwrap();
    adapter_of(&model, &config).save(dir.path()).unwrap();
    let adapter = PeftAdapter::load(dir.path()).unwrap();
    let mut reloaded = Perceptron::new(&plain());
    let names = load_adapters(&mut reloaded, &adapter, dir.path(), &plain()).unwrap();
    assert_eq!(names, ["net.fc1", "net.fc2"]);
    assert_eq!(host_values(reloaded.forward(inputs(&plain()))), expected);
    assert_eq!(adapter_tensors(&reloaded), adapter.lora);

    merge_adapters(&mut reloaded);
    assert!(adapted_names(&reloaded).is_empty());
    let merged = host_values(reloaded.forward(inputs(&plain())));
    assert_near(&merged, &as_f64(&expected), 1e-5);
}

#[test]
fn an_adapter_that_does_not_fit_leaves_the_model_as_it_was() {
    let (model, config) = trained(&plain());
    let dir = std::path::Path::new("adapter");
    let check = |spoil: &dyn Fn(&mut PeftAdapter), message: &str| {
        // Adapted already, so that a half-placed adapter would show.
        let (mut target, _) = trained(&plain());
        target.fc2.lora = None;
        let before = (
            adapter_tensors(&target),
            bits(target.forward(inputs(&plain()))),
        );
        let mut adapter = adapter_of(&model, &config);
        spoil(&mut adapter);
        let error = load_adapters(&mut target, &adapter, dir, &plain()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let after = (
            adapter_tensors(&target),
            bits(target.forward(inputs(&plain()))),
        );
        assert!(before == after, "{message}");
    };
    let pair = |d_in, d_out| LoraPair {
        a: HostTensor::from_f32([R, d_in], &wave(R * d_in, 0.0)),
        b: HostTensor::from_f32([d_out, R], &wave(R * d_out, 0.0)),
    };
    check(
        &|adapter| {
            adapter.lora.insert("net.fc2".into(), pair(9, OUT + 1));
        },
        "net.fc2.lora_B.weight",
    );
    check(
        &|adapter| {
            adapter.lora.remove("net.fc2");
        },
        "net.fc2",
    );
    check(
        &|adapter| {
            adapter.lora.insert("net.fc7".into(), pair(9, OUT));
        },
        "net.fc7",
    );
    check(
        &|adapter| adapter.config.target_modules = TargetModules::list(["q_proj"]),
        "q_proj",
    );
}

#[test]
fn the_count_is_printed_as_peft_prints_it() {
    let count = |trainable, all| ParameterCount { trainable, all }.to_string();
    assert_eq!(
        count(6_299_648, 6_613_651_456),
        "trainable params: 6,299,648 || all params: 6,613,651,456 || trainable%: 0.0953"
    );
    assert_eq!(
        count(999, 1000),
        "trainable params: 999 || all params: 1,000 || trainable%: 99.9000"
    );
    assert_eq!(
        count(0, 0),
        "trainable params: 0 || all params: 0 || trainable%: 0.0000"
    );
}
