//! What an adapter adds to a frozen linear layer: forward and backward to the input, 512 tokens at a time.
//!
//! `apply_lora` is burn's own LoRA, which composes the dense weight on every pass and forms a gradient of its size.

use std::hint::black_box;

use burn::module::{Lora, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ls_lora::{LoraFactors, LoraLinear};

const TOKENS: usize = 512;
const R: usize = 16;
const ALPHA: f64 = 32.0;

/// Forward, backward, and the gradient that the layer below would need.
fn step(x: &Tensor<2>, forward: impl Fn(Tensor<2>) -> Tensor<2>) {
    let gradients = forward(x.clone()).sum().backward();
    black_box(x.grad(&gradients));
}

fn frozen(size: usize, device: &Device) -> Linear {
    LinearConfig::new(size, size)
        .with_bias(false)
        .init(device)
        .no_grad()
}

fn adapted(size: usize, dropout: f64, device: &Device) -> LoraLinear {
    let mut layer = LoraLinear::new(frozen(size, device));
    let scaling = ALPHA / R as f64;
    let factors = LoraFactors::init([size, size], R, false, scaling, dropout, device);
    layer.lora = Some(factors);
    layer
}

fn lora_linear(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    device.seed(7);
    for size in [576, 1024] {
        let x: Tensor<2> = Tensor::random([TOKENS, size], Distribution::Default, &device);
        let x = x.require_grad();
        let mut group = criterion.benchmark_group(format!("lora_linear/{size}x{size}"));
        group.throughput(Throughput::Elements(TOKENS as u64));

        let layer = frozen(size, &device);
        group.bench_function("frozen", |b| b.iter(|| step(&x, |x| layer.forward(x))));
        for (name, dropout) in [("lora", 0.0), ("lora_dropout", 0.1)] {
            let layer = adapted(size, dropout, &device);
            group.bench_function(name, |b| b.iter(|| step(&x, |x| layer.forward(x))));
        }
        let layer = frozen(size, &device).apply_lora(Lora::new(R, ALPHA));
        group.bench_function("burn_apply_lora", |b| {
            b.iter(|| step(&x, |x| layer.forward(x)));
        });
        group.finish();
    }
}

criterion_group!(benches, lora_linear);
criterion_main!(benches);
