//! What holds for every shape, rank, dtype and variant; and gradients of every variant by finite
//! differences.
#![allow(clippy::unwrap_used)]

mod net;

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ls_lora::{
    Bias, InitLoraWeights, LoraConfig, LoraEmbedding, LoraLinear, LoraModel, LoraModule,
    Quantization, TargetModules, host_values, lora_module,
};
use net::{assert_close, seeded};
use proptest::prelude::*;

const NAME: &str = "default";

#[derive(Module, Debug)]
struct Pair {
    embed: LoraEmbedding,
    fc: LoraLinear,
}

lora_module!(Pair { embed, fc });

/// Values that repeat nowhere, by a seed.
fn values(n: usize, seed: usize, size: f32) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let x = (i * 7919 + seed * 104_729 + 17) % 10_007;
            (x as f32 / 10_007.0 - 0.5) * 2.0 * size
        })
        .collect()
}

fn matrix(shape: [usize; 2], seed: usize, size: f32, device: &Device) -> Tensor<2> {
    let data = TensorData::new(values(shape[0] * shape[1], seed, size), shape);
    Tensor::from_data(data, (device, DType::F32))
}

#[derive(Debug, Clone)]
struct Setup {
    vocabulary: usize,
    d_in: usize,
    d_out: usize,
    tokens: usize,
    bias: bool,
    dtype: DType,
    quantization: Option<Quantization>,
    config: LoraConfig,
    seed: usize,
}

impl Setup {
    fn base(&self, device: &Device) -> Pair {
        let cast = |t: Tensor<2>| t.cast(self.dtype);
        let size = 1.0 / (self.d_in as f32).sqrt();
        Pair {
            embed: Embedding {
                weight: Param::from_tensor(cast(matrix(
                    [self.vocabulary, self.d_in],
                    self.seed,
                    1.0,
                    device,
                ))),
            }
            .into(),
            fc: Linear {
                weight: Param::from_tensor(cast(matrix(
                    [self.d_in, self.d_out],
                    self.seed + 1,
                    size,
                    device,
                ))),
                bias: self.bias.then(|| {
                    let bias = matrix([1, self.d_out], self.seed + 2, 1.0, device);
                    Param::from_tensor(cast(bias).reshape([self.d_out]))
                }),
            }
            .into(),
        }
    }

    fn ids(&self, device: &Device) -> Tensor<1, Int> {
        let ids: Vec<i32> = (0..self.tokens)
            .map(|i| (i * 5 % self.vocabulary) as i32)
            .collect();
        Tensor::from_data(TensorData::new(ids, [self.tokens]), (device, DType::I32))
    }

    fn forward(&self, model: &Pair, device: &Device) -> Tensor<2> {
        model.fc.forward(model.embed.rows(self.ids(device)))
    }

    /// With an adapter whose every part is somewhere else than at its start.
    fn adapted(&self, device: &Device) -> LoraModel<Pair> {
        let mut model = LoraModel::new(self.base(&device.clone().without_autodiff()));
        if let Some(format) = self.quantization {
            model.quantize(format).unwrap();
        }
        model
            .add_adapter(NAME, &self.config, self.seed as u64, device)
            .unwrap();
        perturb(&mut model);
        model
    }
}

/// Moves every trained number of the adapters off its start.
fn perturb(model: &mut LoraModel<Pair>) {
    fn moved<const D: usize>(param: &Param<Tensor<D>>, seed: usize) -> Param<Tensor<D>> {
        param.clone().map(|value| {
            let shape = value.dims();
            let device = value.device();
            let data = TensorData::new(values(shape.iter().product(), seed, 0.3), shape);
            let moved = value.clone().detach() + Tensor::from_data(data, &device.inner());
            moved.detach().set_require_grad(value.is_require_grad())
        })
    }
    for (at, (_, layer)) in model.layers_mut().into_iter().enumerate() {
        for adapter in layer.adapters_mut() {
            adapter.lora_a = moved(&adapter.lora_a, 31 + at);
            adapter.lora_b = moved(&adapter.lora_b, 37 + at);
            if let Some(dora) = &mut adapter.dora {
                dora.magnitude = moved(&dora.magnitude, 41 + at);
            }
        }
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    let shape = (2usize..12, 1usize..20, 1usize..20, 0usize..7, any::<bool>());
    let variant = (
        0usize..6,
        any::<bool>(),
        any::<bool>(),
        1usize..6,
        0.5f64..20.0,
    );
    let base = (
        prop_oneof![Just(DType::F32), Just(DType::BF16)],
        0usize..3,
        0usize..1000,
    );
    (shape, variant, base).prop_map(
        |(
            (vocabulary, d_in, d_out, tokens, bias),
            (init, dora, rslora, r, alpha),
            (dtype, quantization, seed),
        )| {
            let r = r.min(d_in).min(d_out).min(vocabulary);
            let init = match init {
                0 => InitLoraWeights::Gaussian,
                1 if r % 2 == 0 => InitLoraWeights::Orthogonal,
                2 if !dora => InitLoraWeights::Pissa { niter: None },
                3 if !dora => InitLoraWeights::Pissa { niter: Some(2) },
                4 if !dora => InitLoraWeights::Olora,
                _ => InitLoraWeights::Default,
            };
            Setup {
                vocabulary,
                d_in,
                d_out,
                tokens,
                bias,
                dtype,
                quantization: [None, Some(Quantization::Nf4), Some(Quantization::Int8)]
                    [quantization],
                config: LoraConfig::new(r, alpha)
                    .with_dora(dora)
                    .with_rslora(rslora)
                    .with_init_lora_weights(init)
                    .with_target_modules(TargetModules::list(["embed", "fc"])),
                seed,
            }
        },
    )
}

/// f32 sums, or what a bf16 output is rounded to.
fn tolerance(dtype: DType) -> f32 {
    if dtype == DType::F32 { 2e-5 } else { 0.02 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_fresh_adapter_changes_nothing(setup in setups()) {
        let device = Device::flex();
        let _turn = seeded(&device, setup.seed as u64);
        let mut model = LoraModel::new(setup.base(&device));
        if let Some(format) = setup.quantization {
            model.quantize(format).unwrap();
        }
        let before = host_values(setup.forward(&model, &device));
        model.add_adapter(NAME, &setup.config, setup.seed as u64, &device).unwrap();
        let after = host_values(setup.forward(&model, &device));
        assert_close("fresh", &after, &before, tolerance(setup.dtype));
    }

    #[test]
    fn off_is_the_base_and_unmerging_restores_it(setup in setups()) {
        let device = Device::flex();
        let _turn = seeded(&device, setup.seed as u64);
        let mut base = LoraModel::new(setup.base(&device));
        if let Some(format) = setup.quantization {
            base.quantize(format).unwrap();
        }
        let base = host_values(setup.forward(&base, &device));
        let mut model = setup.adapted(&device);
        let on = host_values(setup.forward(&model, &device));
        model.set_adapter(&[]).unwrap();
        prop_assert_eq!(&host_values(setup.forward(&model, &device)), &base);
        model.set_adapter(&[NAME]).unwrap();
        prop_assert_eq!(&host_values(setup.forward(&model, &device)), &on);

        let weights = |model: &LoraModel<Pair>| -> Vec<Vec<f32>> {
            model.layers().iter().map(|(_, layer)| host_values(layer.weight())).collect()
        };
        let before = weights(&model);
        let report = model.merge().unwrap();
        prop_assert_eq!(report.layers.len(), 2);
        if setup.quantization.is_none() {
            assert_close("merged", &host_values(setup.forward(&model, &device)), &on, tolerance(setup.dtype));
        }
        model.unmerge();
        prop_assert_eq!(&weights(&model), &before);
        prop_assert_eq!(&host_values(setup.forward(&model, &device)), &on);
    }

    #[test]
    fn a_saved_adapter_says_the_same_on_a_fresh_base(setup in setups()) {
        let device = Device::flex();
        let _turn = seeded(&device, setup.seed as u64);
        let model = setup.adapted(&device);
        let dir = tempfile::tempdir().unwrap();
        model.save_adapter(NAME, dir.path()).unwrap();
        let mut again = LoraModel::new(setup.base(&device));
        if let Some(format) = setup.quantization {
            again.quantize(format).unwrap();
        }
        again.load_adapter(NAME, dir.path(), &device).unwrap();
        let found = host_values(setup.forward(&again, &device));
        let expected = host_values(setup.forward(&model, &device));
        assert_close("reloaded", &found, &expected, tolerance(setup.dtype));
    }
}

/// The base's bits, and the adapters' values.
fn inside(model: &LoraModel<Pair>) -> (Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let layers = model.layers();
    let base = layers
        .iter()
        .map(|(_, layer)| bits(host_values(layer.weight())))
        .collect();
    let factors = layers.iter().flat_map(|(_, layer)| {
        let adapter = &layer.adapters()[0];
        let magnitude = adapter
            .dora
            .iter()
            .map(|dora| host_values(dora.magnitude.val()));
        [&adapter.lora_a, &adapter.lora_b]
            .map(|factor| host_values(factor.val()))
            .into_iter()
            .chain(magnitude)
            .collect::<Vec<_>>()
    });
    (base, factors.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn training_moves_the_adapters_and_no_bit_of_the_base(setup in setups(), dropout in 0usize..2) {
        let device = Device::flex().autodiff();
        let mut setup = setup;
        setup.tokens += 1;
        setup.config.lora_dropout = [0.0, 0.3][dropout];
        let _turn = seeded(&device, setup.seed as u64);
        let mut model = setup.adapted(&device);
        let (base, factors) = inside(&model);
        let mut optimizer = AdamWConfig::new().init();
        for _ in 0..2 {
            let loss = setup.forward(&model, &device).cast(DType::F32).square().sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            prop_assert_eq!(gradients.len(), factors.len());
            model = optimizer.step(0.01, model, gradients);
        }
        let (base_after, factors_after) = inside(&model);
        prop_assert_eq!(base, base_after);
        for (at, (before, after)) in factors.iter().zip(&factors_after).enumerate() {
            prop_assert!(before != after, "tensor {} stood still", at);
            prop_assert!(after.iter().all(|value| value.is_finite()));
        }
    }
}

/// The loss as a function of one number of one trained tensor.
fn finite_difference(
    setup: &Setup,
    model: &LoraModel<Pair>,
    layer: usize,
    part: usize,
    at: usize,
    step: f32,
) -> f32 {
    let device = Device::flex();
    let [up, down] = [step, -step].map(|step| {
        let mut model = model.valid();
        let nudge = |value: Tensor<2>| {
            let shape = value.dims();
            let mut values = host_values(value);
            values[at] += step;
            Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
        };
        let (_, layer) = model.layers_mut().swap_remove(layer);
        let adapter = &mut layer.adapters_mut()[0];
        match part {
            0 => adapter.lora_a = adapter.lora_a.clone().map(nudge),
            1 => adapter.lora_b = adapter.lora_b.clone().map(nudge),
            _ => {
                let dora = adapter.dora.as_mut().unwrap();
                dora.magnitude = dora.magnitude.clone().map(|value| {
                    let width = value.dims()[0];
                    nudge(value.reshape([1, width])).reshape([width])
                });
            }
        }
        host_values(objective(setup, &model, &device))[0]
    });
    (up - down) / (2.0 * step)
}

/// A weighted sum of squares: its gradient is another one for every output.
fn objective(setup: &Setup, model: &Pair, device: &Device) -> Tensor<1> {
    let y = setup.forward(model, device);
    let weights = matrix(y.dims(), 99, 1.0, &Device::flex());
    (y.square() * weights).sum()
}

#[test]
fn gradients_of_every_variant_are_finite_differences() {
    let device = Device::flex().autodiff();
    let list = || TargetModules::list(["embed", "fc"]);
    let plain = || LoraConfig::new(2, 5.0).with_target_modules(list());
    let variants = [
        plain(),
        plain().with_rslora(true),
        plain().with_init_lora_weights(InitLoraWeights::Orthogonal),
        plain().with_init_lora_weights(InitLoraWeights::Pissa { niter: None }),
        plain().with_init_lora_weights(InitLoraWeights::Olora),
    ];
    for config in variants {
        for quantization in [None, Some(Quantization::Nf4), Some(Quantization::Int8)] {
            let setup = Setup {
                vocabulary: 6,
                d_in: 5,
                d_out: 4,
                tokens: 7,
                bias: true,
                dtype: DType::F32,
                quantization,
                config: config.clone().with_bias(Bias::None),
                seed: 3,
            };
            let _turn = seeded(&device, 4);
            let model = setup.adapted(&device);
            let gradients = objective(&setup, &model, &device).backward();
            for (index, (name, layer)) in model.layers().into_iter().enumerate() {
                let adapter = &layer.adapters()[0];
                for (part, factor) in [&adapter.lora_a, &adapter.lora_b].into_iter().enumerate() {
                    let found = host_values(factor.val().grad(&gradients).unwrap());
                    for (at, found) in found.iter().enumerate() {
                        // The objective is a square in each number, so the difference is exact but
                        // for rounding.
                        let expected = finite_difference(&setup, &model, index, part, at, 0.25);
                        assert!(
                            (found - expected).abs() <= 2e-3 * expected.abs().max(1.0),
                            "{config:?} {name} {part} [{at}]: {found} is not {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// DoRA's length is a constant of the graph, so a finite difference of A or B, which moves it, is
/// no gradient; peft's gradients in `peft_parity.rs` stand for those. The magnitude's is one.
#[test]
fn the_magnitudes_gradient_is_a_finite_difference() {
    let device = Device::flex().autodiff();
    let setup = Setup {
        vocabulary: 6,
        d_in: 5,
        d_out: 4,
        tokens: 7,
        bias: true,
        dtype: DType::F32,
        quantization: None,
        config: LoraConfig::new(2, 5.0)
            .with_dora(true)
            .with_target_modules(TargetModules::list(["embed", "fc"])),
        seed: 3,
    };
    let _turn = seeded(&device, 4);
    let model = setup.adapted(&device);
    let gradients = objective(&setup, &model, &device).backward();
    for (index, (name, layer)) in model.layers().into_iter().enumerate() {
        let magnitude = &layer.adapters()[0].dora.as_ref().unwrap().magnitude;
        let found = host_values(magnitude.val().grad(&gradients).unwrap());
        for (at, found) in found.iter().enumerate() {
            let expected = finite_difference(&setup, &model, index, 2, at, 0.25);
            assert!(
                (found - expected).abs() <= 2e-3 * expected.abs().max(1.0),
                "{name} [{at}]: {found} is not {expected}"
            );
        }
    }
}

/// With dropout DoRA takes the base's part of the *dropped* input, as peft does
/// (`DoraLinearLayer.forward`): written out under the same mask.
#[test]
fn dora_under_dropout_is_pefts_formula() {
    const TOKENS: usize = 5;
    let device = Device::flex().autodiff();
    let setup = Setup {
        vocabulary: 3,
        d_in: 7,
        d_out: 4,
        tokens: 1,
        bias: true,
        dtype: DType::F32,
        quantization: None,
        config: LoraConfig::new(2, 5.0)
            .with_dora(true)
            .with_lora_dropout(0.4)
            .with_target_modules(TargetModules::list(["fc"])),
        seed: 5,
    };
    let _turn = seeded(&device, 6);
    let model = setup.adapted(&device);
    let x = || matrix([TOKENS, 7], 8, 1.0, &Device::flex());
    ls_lora::seed_dropout(11);
    let found = host_values(model.fc.forward(x()));
    ls_lora::seed_dropout(11);
    let dropped = ls_lora::dropout(x(), 0.4);
    assert!(host_values(dropped.clone()).contains(&0.0));

    let adapter = &model.fc.adapters[0];
    let weight = ls_lora::LoraLayer::weight(&model.fc);
    let delta = adapter.delta_weight();
    let norm = (weight.clone() + delta.clone()).square().sum_dim(0).sqrt();
    let scale = adapter
        .dora
        .as_ref()
        .unwrap()
        .magnitude
        .val()
        .inner()
        .unsqueeze()
        / norm;
    let bias = model.fc.base_layer.bias().unwrap().val().unsqueeze();
    let expected = x().matmul(weight.clone())
        + bias
        + scale.clone().sub_scalar(1.0) * dropped.clone().matmul(weight)
        + scale * dropped.matmul(delta);
    assert_close("dropout", &found, &host_values(expected), 1e-5);
}
