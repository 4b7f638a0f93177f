//! What an adapter does to a layer and to a model, by values: nonzero B, alpha other than r, odd
//! sizes.
//!
//! Over 700 lines because the cases share one small model and its values.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, MutexGuard};

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_lora::{
    AdapterTensors, BaseLayer, Dora, HostTensor, InitLoraWeights, LoraAdapter, LoraConfig,
    LoraError, LoraLayer, LoraLinear, LoraModel, LoraModule, ParameterCount, PeftAdapter,
    Quantization, TargetModules, adapter_tensors, add_adapter, host_values, load_adapter,
    lora_module, to_peft,
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
    ls_lora::seed_dropout(seed);
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

/// The name of the adapter.
const NAME: &str = "default";

fn adapter(a: Tensor<2>, b: Tensor<2>, dropout: f64) -> LoraAdapter {
    LoraAdapter {
        lora_a: Param::from_tensor(a),
        lora_b: Param::from_tensor(b),
        dora: None,
        start: None,
        scaling: SCALING,
        dropout,
        active: true,
        name: NAME.into(),
    }
}

fn adapted(dropout: f64, device: &Device) -> LoraLinear {
    let mut layer = base(device);
    let (a, b) = (matrix(IN, R, 5.9, device), matrix(R, OUT, 8.2, device));
    layer.adapters.push(adapter(a, b, dropout));
    layer
}

fn merged(mut layer: LoraLinear) -> LoraLinear {
    layer.merge().unwrap();
    layer
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    host_values(tensor).into_iter().map(f32::to_bits).collect()
}

fn base_bits(layer: &LoraLinear) -> Vec<u32> {
    let bias = layer.base_layer.bias().unwrap();
    [bits(layer.base_layer.weight()), bits(bias.val())].concat()
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
    let mut layer = base(&device);
    let before = bits(layer.forward(inputs(&device)));
    let shape = LoraLayer::shape(&layer);
    assert_eq!(shape, [IN, OUT]);
    let fresh = LoraAdapter::fresh(NAME, shape, R, SCALING, 0.3, 1, &device);
    assert_eq!(fresh.rank(), R);
    layer.adapters.push(fresh);
    assert_eq!(bits(layer.forward(inputs(&device))), before);
}

#[test]
fn an_adapter_that_is_off_or_gone_leaves_the_base() {
    let device = plain();
    let mut layer = adapted(0.0, &device);
    let expected = bits(base(&device).forward(inputs(&device)));
    let with = bits(layer.forward(inputs(&device)));
    assert_ne!(with, expected);
    layer.adapters[0].active = false;
    assert_eq!(bits(layer.forward(inputs(&device))), expected);
    layer.adapters[0].active = true;
    assert_eq!(bits(layer.forward(inputs(&device))), with);
    layer.adapters.clear();
    assert_eq!(bits(layer.forward(inputs(&device))), expected);
}

#[test]
fn in_a_mixed_batch_each_row_has_the_output_of_its_layer() {
    let device = plain();
    let with_dora = || {
        let mut layer = adapted(0.0, &device);
        let weight = layer.base_layer.weight();
        layer.adapters[0].dora = Some(Dora {
            magnitude: Param::from_tensor(matrix(1, OUT, 0.6, &device).squeeze_dim(0)),
            base_norm_squared: weight.square().sum_dim(0).squeeze_dim(0),
        });
        layer
    };
    let layers = [adapted(0.0, &device), base(&device), with_dora()];
    let x = inputs(&device);
    let expected: Vec<Vec<u32>> = layers
        .iter()
        .map(|layer| bits(layer.forward(x.clone())))
        .collect();
    assert!(expected[0] != expected[1] && expected[1] != expected[2]);
    // Of each of the rows, whose it is; parts without a row among them.
    for parts in [
        vec![(0, ROWS)],
        vec![(0, 1), (1, 2), (2, 1)],
        vec![(2, 1), (1, 0), (2, 2), (0, 1), (1, 0)],
    ] {
        let of: Vec<_> = parts
            .iter()
            .map(|&(at, rows)| (&layers[at], rows))
            .collect();
        let mixed = bits(LoraLinear::forward_mixed(&of, x.clone()));
        let owners = parts
            .iter()
            .flat_map(|&(at, rows)| std::iter::repeat_n(at, rows));
        for (row, owner) in owners.enumerate() {
            let range = row * OUT..(row + 1) * OUT;
            assert_eq!(
                mixed[range.clone()],
                expected[owner][range],
                "{parts:?} {row}"
            );
        }
    }
    let none = Tensor::<2>::zeros([0, IN], &device);
    let mixed = LoraLinear::forward_mixed(&[(&layers[0], 0), (&layers[1], 0)], none);
    assert_eq!(mixed.dims(), [0, OUT]);
}

#[test]
fn rows_may_have_any_number_of_axes() {
    let layer = adapted(0.0, &plain());
    let flat = bits(layer.forward(inputs(&plain())));
    let cube = layer.forward(inputs(&plain()).reshape([2, 2, IN]));
    assert_eq!(cube.dims(), [2, 2, OUT]);
    assert_eq!(bits(cube), flat);
    let row = layer.forward(inputs(&plain()).slice(0..1).reshape([IN]));
    assert_near(
        &host_values(row),
        &formula(&wave(IN, 0.4), SCALING),
        TOLERANCE,
    );
    let none = layer.forward(Tensor::<2>::zeros([0, IN], &plain()));
    assert_eq!(none.dims(), [0, OUT]);
    let none = layer.forward(Tensor::<3>::zeros([2, 0, IN], &plain()));
    assert_eq!(none.dims(), [2, 0, OUT]);
}

#[test]
fn active_adapters_add_up() {
    let mut layer = adapted(0.0, &plain());
    let one = host_values(layer.forward(inputs(&plain())));
    let base_only = host_values(base(&plain()).forward(inputs(&plain())));
    let twin = LoraAdapter {
        name: "twin".into(),
        ..layer.adapters[0].clone()
    };
    layer.adapters.push(twin);
    let two = host_values(layer.forward(inputs(&plain())));
    let expected: Vec<f64> = one
        .iter()
        .zip(&base_only)
        .map(|(one, base)| f64::from(2.0 * one - base))
        .collect();
    assert_near(&two, &expected, 1e-5);
}

#[test]
fn merged_equals_unmerged_and_merging_again_changes_nothing() {
    for device in [plain(), graph()] {
        let mut layer = adapted(0.0, &device);
        let before = base_bits(&layer);
        let unmerged = host_values(layer.forward(inputs(&device)));
        let drift = layer.merge().unwrap().unwrap();
        assert_eq!((drift.max_abs, drift.relative), (0.0, 0.0));
        assert!(layer.is_merged());
        assert_ne!(base_bits(&layer), before);
        let y = host_values(layer.forward(inputs(&device)));
        assert_near(&y, &as_f64(&unmerged), 1e-5);
        let once = base_bits(&layer);
        assert_eq!(layer.merge().unwrap(), None);
        assert_eq!(base_bits(&layer), once);
        // What the layer was stays to be read, and comes back bit for bit.
        assert_eq!(
            bits(LoraLayer::weight(&layer)),
            bits(base(&device).base_layer.weight())
        );
        layer.unmerge();
        assert_eq!(base_bits(&layer), before);
        assert_eq!(host_values(layer.forward(inputs(&device))), unmerged);
        layer.merge().unwrap();
        layer.unload();
        assert!(layer.adapters.is_empty() && !layer.is_merged());
        assert_eq!(base_bits(&layer), once);
    }
}

#[test]
fn a_frozen_base_beside_an_adapter_on_the_graph_merges() {
    let mut layer = base(&plain());
    layer.adapters = adapted(0.0, &graph()).adapters;
    let unmerged = host_values(layer.forward(inputs(&plain())));
    let y = host_values(merged(layer).forward(inputs(&plain())));
    assert_near(&y, &as_f64(&unmerged), 1e-5);
}

#[test]
fn factors_go_out_in_pefts_layout() {
    let tensors = &adapter_tensors(&adapted(0.0, &plain()), NAME)[""];
    assert_eq!(
        (&tensors.a.shape, &tensors.b.shape),
        (&vec![R, IN], &vec![OUT, R])
    );
    // Row k of the file's A is column k of ours.
    let lora_a = wave(IN * R, 5.9);
    assert_eq!(tensors.a.to_f32().unwrap()[IN + 2], lora_a[2 * R + 1]);
    assert!(adapter_tensors(&base(&plain()), NAME).is_empty());
}

/// A weighted sum of the outputs: its gradient is a different one for every element.
fn objective(layer: &LoraLinear, x: Tensor<2>) -> Tensor<1> {
    let weights = matrix(ROWS, OUT, 3.3, &plain());
    (layer.forward(x) * weights).sum()
}

#[test]
fn gradients_reach_only_the_factors_and_equal_finite_differences() {
    let device = graph();
    // The base on the graph's device and off it; the input too, as in the first layers of a frozen
    // model.
    for (base_device, x_device) in [(graph(), graph()), (plain(), plain())] {
        let mut layer = base(&base_device);
        layer.adapters = adapted(0.0, &device).adapters;
        let gradients = objective(&layer, inputs(&x_device)).backward();
        let BaseLayer::Dense(linear) = &layer.base_layer else {
            panic!("{layer}");
        };
        assert!(linear.weight.val().grad(&gradients).is_none());
        let bias = linear.bias.as_ref().unwrap();
        assert!(bias.val().grad(&gradients).is_none());

        let lora = &layer.adapters[0];
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
                    let factor = |which: usize, shape: [usize; 2]| {
                        let data = TensorData::new(values[which].clone(), shape);
                        Tensor::<2>::from_data(data, &plain())
                    };
                    let (a, b) = (factor(0, [IN, R]), factor(1, [R, OUT]));
                    layer.adapters.push(adapter(a, b, 0.0));
                    host_values(objective(&layer, inputs(&plain())))[0]
                });
                assert_near(&[found[which][at]], &[f64::from(up - down)], 1e-4);
            }
        }
    }
}

#[test]
fn the_graph_alone_gives_the_gradients_of_the_forward_pass() {
    let device = graph();
    let mut packed = adapted(0.0, &device);
    packed.quantize(Quantization::Nf4).unwrap();
    let mut dora = adapted(0.0, &device);
    dora.adapters[0].dora = Some(Dora {
        magnitude: Param::from_tensor(Tensor::ones([OUT], &device)),
        base_norm_squared: LoraLayer::weight(&dora).square().sum_dim(0).squeeze_dim(0),
    });
    for layer in [base(&device), adapted(0.0, &device), packed, dora] {
        let gradient = |forward: fn(&LoraLinear, Tensor<2>) -> Tensor<2>| {
            let x = inputs(&device).require_grad();
            let weights = matrix(ROWS, OUT, 3.3, &plain());
            let gradients = (forward(&layer, x.clone()) * weights).sum().backward();
            host_values(x.grad(&gradients).unwrap())
        };
        assert_eq!(
            gradient(LoraLinear::forward_graph::<2>),
            gradient(LoraLinear::forward::<2>)
        );
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
        let (base_before, factors_before) = (base_bits(&layer), adapter_tensors(&layer, NAME));
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
        assert_ne!(adapter_tensors(&layer, NAME), factors_before);
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
    // On it there is, also for a plain input, such as the one that a frozen prefix of a model
    // gives.
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
    let mut layer = LoraLinear::new(Linear {
        weight: Param::from_tensor(Tensor::zeros([IN, IN], &device)),
        bias: None,
    });
    layer.adapters.push(adapter(eye(), eye(), DROPOUT));
    let _turn = seeded(&device, 7);
    let y = host_values(layer.forward(Tensor::<2>::ones([MANY, IN], &plain())));
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
    let BaseLayer::Dense(Linear { weight, bias }) = layer.base_layer else {
        panic!("packed");
    };
    layer.base_layer = BaseLayer::Dense(Linear {
        weight: weight.map(|w| w.cast(DType::BF16)),
        bias: bias.map(|b| b.map(|b| b.cast(DType::BF16))),
    });
    layer.adapters = adapted(0.0, &device).adapters;
    let x = inputs(&plain()).cast(DType::BF16);
    let y = layer.forward(x.clone());
    assert_eq!(y.dtype(), DType::BF16);
    // Eight bits of mantissa in weights, inputs and output.
    assert_near(
        &host_values(y),
        &formula(&wave(ROWS * IN, 0.4), SCALING),
        0.06,
    );
    // Of f32 rows the output is f32, and weights and bias are all that is rounded.
    let mut wide = layer.clone();
    let BaseLayer::Dense(Linear { weight, bias }) = wide.base_layer else {
        panic!("packed");
    };
    wide.base_layer = BaseLayer::Dense(Linear {
        weight: weight.map(|w| w.cast(DType::F32)),
        bias: bias.map(|b| b.map(|b| b.cast(DType::F32))),
    });
    let x32 = inputs(&plain());
    let (found, expected) = (layer.forward(x32.clone()), wide.forward(x32));
    assert_eq!(found.dtype(), DType::F32);
    let expected: Vec<f64> = as_f64(&host_values(expected));
    assert_near(&host_values(found), &expected, 1e-6);

    let loss = layer.forward(x.clone()).cast(DType::F32).square().mean();
    let gradients = loss.backward();
    let lora = &layer.adapters[0];
    for factor in [&lora.lora_a, &lora.lora_b] {
        assert_eq!(factor.val().dtype(), DType::F32);
        assert_eq!(factor.val().grad(&gradients).unwrap().dtype(), DType::F32);
    }

    // Merging adds in f32 and rounds once; what that lost is reported.
    let low_rank = lora.lora_a.val().inner().matmul(lora.lora_b.val().inner());
    let before = bits(layer.base_layer.weight());
    let exact = layer.base_layer.weight() + low_rank.clone().mul_scalar(SCALING);
    let mut layer = layer.clone();
    let drift = layer.merge().unwrap().unwrap();
    let BaseLayer::Dense(stored) = &layer.base_layer else {
        panic!("packed");
    };
    let stored = stored.weight.val();
    assert_eq!(stored.dtype(), DType::BF16);
    assert_eq!(bits(stored.clone()), bits(exact.clone().cast(DType::BF16)));
    let lost = host_values(stored.cast(DType::F32) - exact);
    let length = |values: &[f32]| as_f64(values).iter().map(|v| v * v).sum::<f64>().sqrt();
    let change = length(&host_values(low_rank.mul_scalar(SCALING)));
    assert!(
        (drift.relative - length(&lost) / change).abs() < 1e-6,
        "{drift:?}"
    );
    let largest = lost.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    assert_eq!(drift.max_abs, f64::from(largest));
    assert!(drift.max_abs > 0.0);
    layer.unmerge();
    assert_eq!(bits(layer.base_layer.weight()), before);
}

#[derive(Module, Debug)]
struct Wide {
    fc: LoraLinear,
}

lora_module!(Wide { fc });

/// peft 0.21.2, `LoraLayer.reset_lora_parameters`: `kaiming_uniform_(a=sqrt(5))` on `[r, in]`,
/// which is uniform within `±1/sqrt(in)`, or `normal_(std=1/r)`; B zero either way.
#[test]
fn fresh_factors_are_distributed_as_pefts() {
    const D_IN: usize = 400;
    const RANK: usize = 25;
    let device = graph();
    let _turn = seeded(&device, 5);
    for gaussian in [false, true] {
        let mut net = Wide {
            fc: LoraLinear::new(Linear {
                weight: Param::from_tensor(Tensor::zeros([D_IN, 31], &device)),
                bias: None,
            }),
        };
        let mut config = LoraConfig::new(RANK, 1.0).with_target_modules(TargetModules::AllLinear);
        if gaussian {
            config = config.with_init_lora_weights(InitLoraWeights::Gaussian);
        }
        add_adapter(&mut net, NAME, &config, 1, &device).unwrap();
        let lora = &net.fc.adapters[0];
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
    net: Trunk,
    score: LoraLinear,
}

#[derive(Module, Debug)]
struct Trunk {
    fc1: LoraLinear,
    fc2: LoraLinear,
}

lora_module!(Trunk { fc1, fc2 });
lora_module!(Perceptron { net, score } heads { score });

impl Perceptron {
    fn new(device: &Device) -> Self {
        let linear = |d_in, d_out, phase| {
            LoraLinear::new(Linear {
                weight: Param::from_tensor(matrix(d_in, d_out, phase, device)),
                bias: None,
            })
        };
        Self {
            net: Trunk {
                fc1: linear(IN, 9, 0.1),
                fc2: linear(9, OUT, 0.2),
            },
            score: linear(OUT, 2, 0.3),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.net.fc1.forward(x).tanh();
        self.score.forward(self.net.fc2.forward(x).tanh())
    }
}

fn adapted_names(model: &Perceptron) -> Vec<String> {
    let layers = model.layers().into_iter();
    layers
        .filter(|(_, layer)| !layer.adapters().is_empty())
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
    let names = add_adapter(&mut model, NAME, &config, 2, &device).unwrap();
    assert_eq!(names, ["net.fc1", "net.fc2"]);
    assert_eq!(adapted_names(&model), names);
    let lora = |layer: &LoraLinear| {
        let lora = &layer.adapters[0];
        (
            lora.lora_a.val().dims(),
            lora.lora_b.val().dims(),
            lora.scaling,
            lora.dropout,
        )
    };
    assert_eq!(lora(&model.net.fc1), ([IN, R], [R, 9], 2.5, 0.1));
    assert_eq!(lora(&model.net.fc2), ([9, 2], [2, OUT], 3.75, 0.1));

    let count = ParameterCount::of(&model);
    assert_eq!(count.trainable, (IN + 9) * R + (9 + OUT) * 2);
    assert_eq!(count.all, count.trainable + IN * 9 + 9 * OUT + OUT * 2);
    // Off the graph nothing trains.
    assert_eq!(ParameterCount::of(&model.valid()).trainable, 0);
}

#[test]
fn a_sum_that_f16_cannot_hold_is_not_merged() {
    let device = plain();
    let mut layer = base(&device);
    let BaseLayer::Dense(Linear { weight, bias }) = layer.base_layer else {
        panic!("packed");
    };
    layer.base_layer = BaseLayer::Dense(Linear {
        weight: weight.map(|w| w.cast(DType::F16)),
        bias: bias.map(|b| b.map(|b| b.cast(DType::F16))),
    });
    let large = |rows, columns| Tensor::<2>::full([rows, columns], 300.0, (&device, DType::F32));
    layer
        .adapters
        .push(adapter(large(IN, R), large(R, OUT), 0.0));
    let before = base_bits(&layer);
    assert!(matches!(layer.merge(), Err(LoraError::NonFiniteWeight)));
    assert!(!layer.is_merged());
    assert_eq!(base_bits(&layer), before);
}

/// A model inside another, with its own head.
#[derive(Module, Debug)]
struct Outer {
    inner: Vec<Perceptron>,
    top: LoraLinear,
}

lora_module!(Outer { inner, top } heads { top });

#[test]
fn all_linear_takes_no_head_however_deep_it_lies() {
    let device = graph();
    let _turn = seeded(&device, 2);
    let mut model = Outer {
        inner: vec![Perceptron::new(&device)],
        top: base(&device),
    };
    assert_eq!(model.head_names(), ["inner.0.score", "top"]);
    let names = add_adapter(&mut model, NAME, &on(TargetModules::AllLinear), 3, &device).unwrap();
    assert_eq!(names, ["inner.0.net.fc1", "inner.0.net.fc2"]);
}

#[test]
fn adapters_that_cannot_be_placed_leave_the_model_as_it_was() {
    let device = graph();
    let mut model = Perceptron::new(&device);
    let config = on(TargetModules::list(["fc1", "q_proj"]));
    match add_adapter(&mut model, NAME, &config, 4, &device).unwrap_err() {
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
    match add_adapter(&mut model, NAME, &config, 5, &device).unwrap_err() {
        LoraError::RankTooLarge { module, r, .. } => {
            assert_eq!((module.as_str(), r), ("net.fc2", 6))
        }
        other => panic!("{other}"),
    }
    assert!(adapted_names(&model).is_empty());

    config.r = 0;
    let error = add_adapter(&mut model, NAME, &config, 6, &device).unwrap_err();
    assert!(matches!(error, LoraError::InvalidConfig { ref field, .. } if field == "r"));
}

/// A model with nonzero adapters on fc1 and fc2, and its configuration.
fn trained(device: &Device) -> (Perceptron, LoraConfig) {
    let config = on(TargetModules::list(["fc1", "fc2"]));
    let mut model = Perceptron::new(device);
    {
        let _turn = seeded(device, 9);
        add_adapter(&mut model, NAME, &config, 7, device).unwrap();
    }
    for (_, layer) in model.layers_mut() {
        for lora in layer.adapters_mut() {
            let [r, out] = lora.lora_b.val().dims();
            lora.lora_b = Param::from_tensor(matrix(r, out, 4.4, device));
        }
    }
    (model, config)
}

fn adapter_of(model: &Perceptron, config: &LoraConfig) -> PeftAdapter {
    to_peft(model, NAME, config)
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
    let names = load_adapter(&mut reloaded, NAME, &adapter, dir.path(), &plain()).unwrap();
    assert_eq!(names, ["net.fc1", "net.fc2"]);
    assert_eq!(host_values(reloaded.forward(inputs(&plain()))), expected);
    assert_eq!(adapter_tensors(&reloaded, NAME), adapter.lora);

    let (merged, report) = LoraModel::new(reloaded).merge_and_unload().unwrap();
    assert_eq!(report.layers.len(), 2);
    assert!(adapted_names(&merged).is_empty());
    let merged = host_values(merged.forward(inputs(&plain())));
    assert_near(&merged, &as_f64(&expected), 1e-5);
}

#[test]
fn an_adapter_that_does_not_fit_leaves_the_model_as_it_was() {
    let (model, config) = trained(&plain());
    let dir = std::path::Path::new("adapter");
    let check = |spoil: &dyn Fn(&mut PeftAdapter), message: &str| {
        let mut target = Perceptron::new(&plain());
        let before = (
            adapter_tensors(&target, NAME),
            bits(target.forward(inputs(&plain()))),
        );
        let mut adapter = adapter_of(&model, &config);
        spoil(&mut adapter);
        let error = load_adapter(&mut target, NAME, &adapter, dir, &plain()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let after = (
            adapter_tensors(&target, NAME),
            bits(target.forward(inputs(&plain()))),
        );
        assert!(before == after, "{message}");
    };
    let pair = |d_in, d_out| {
        AdapterTensors::linear(
            HostTensor::from_f32([R, d_in], &wave(R * d_in, 0.0)),
            HostTensor::from_f32([d_out, R], &wave(R * d_out, 0.0)),
        )
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
