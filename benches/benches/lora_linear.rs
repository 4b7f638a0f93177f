//! The cost of an adapter on a frozen linear layer: forward and backward to the input, 512 tokens.
//!
//! `apply_lora` is burn's own LoRA, which composes the dense weight on every pass and forms a
//! gradient of its size.
//!
//! Variants take turns within each size, so that a machine that slows down slows all of them. The
//! ratios of the medians are printed at the end.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::module::{Lora, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ls_lora::{LoraConfig, LoraLayer, LoraLinear, Quantization, TargetModules, add_adapter};

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

fn adapted(
    size: usize,
    config: &LoraConfig,
    format: Option<Quantization>,
    device: &Device,
) -> LoraLinear {
    let mut layer = LoraLinear::new(frozen(size, device));
    if let Some(format) = format {
        layer.quantize(format).expect("finite weights on the CPU");
    }
    add_adapter(&mut layer, "default", config, 7, device).expect("a layer that takes the rank");
    layer
}

type Step = Box<dyn Fn(&Tensor<2>)>;

/// Every variant of one size, by name; the first is what the others are measured against.
fn variants(size: usize, device: &Device) -> Vec<(&'static str, Step)> {
    // The layer is the whole model, so its name is empty, and this matches it.
    let config =
        || LoraConfig::new(R, ALPHA).with_target_modules(TargetModules::Pattern(".*".into()));
    let lora = |config: LoraConfig, format| -> Step {
        let layer = adapted(size, &config, format, device);
        Box::new(move |x| step(x, |x| layer.forward(x)))
    };
    let plain = frozen(size, device);
    let composed = frozen(size, device).apply_lora(Lora::new(R, ALPHA));
    vec![
        ("frozen", Box::new(move |x| step(x, |x| plain.forward(x)))),
        ("lora", lora(config(), None)),
        ("lora_dropout", lora(config().with_lora_dropout(0.1), None)),
        ("dora", lora(config().with_dora(true), None)),
        ("lora_int8", lora(config(), Some(Quantization::Int8))),
        ("lora_nf4", lora(config(), Some(Quantization::Nf4))),
        (
            "burn_apply_lora",
            Box::new(move |x| step(x, |x| composed.forward(x))),
        ),
    ]
}

fn lora_linear(criterion: &mut Criterion) {
    // As in a process that has loaded a model: glibc maps every buffer anew, with a page fault for
    // each of its pages, until a larger one was freed. Without this the first variants of a size
    // are measured in another state than the last.
    drop(black_box(vec![1u8; 31 << 20]));
    let device = Device::flex().autodiff();
    device.seed(7);
    let mut lines = Vec::new();
    for size in [576, 1024, 2048, 4096] {
        let x: Tensor<2> = Tensor::random([TOKENS, size], Distribution::Default, &device);
        let x = x.require_grad();
        let variants = variants(size, &device);
        let mut group = criterion.benchmark_group(format!("lora_linear/{size}x{size}"));
        group.throughput(Throughput::Elements(TOKENS as u64));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        for (name, step) in &variants {
            group.bench_function(*name, |b| b.iter(|| step(&x)));
        }
        group.finish();
        lines.push(ratios(size, &x, &variants));
    }
    println!(
        "\ntime over the frozen layer's, medians of rounds in which every variant had its turn"
    );
    for line in lines {
        println!("{line}");
    }
}

/// One line of medians over the first variant's.
fn ratios(size: usize, x: &Tensor<2>, variants: &[(&str, Step)]) -> String {
    const ROUNDS: usize = 15;
    let mut times = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for _ in 0..ROUNDS {
        for ((_, step), times) in variants.iter().zip(&mut times) {
            let start = Instant::now();
            step(x);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    // Within a round, so that what slows the machine for a while slows both sides of a ratio.
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut line = format!("{size:>4}:");
    for ((name, _), own) in variants.iter().zip(&times) {
        let over = own.iter().zip(&times[0]).map(|(own, first)| own / first);
        line += &format!("  {name} {:.2}", median(over.collect()));
    }
    line + &format!("  (frozen {:.1} ms)", median(times[0].clone()) * 1e3)
}

criterion_group!(benches, lora_linear);
criterion_main!(benches);
