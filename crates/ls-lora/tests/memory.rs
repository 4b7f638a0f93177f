//! What a step allocates, counted by the allocator: it grows with tokens, not with the size of the
//! weight.
#![allow(clippy::unwrap_used)]

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use ls_lora::{LoraAdapter, LoraLayer, LoraLinear, Quantization};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const R: usize = 16;

fn layer([d_in, d_out]: [usize; 2], format: Option<Quantization>, dropout: f64) -> LoraLinear {
    let device = Device::flex().autodiff();
    let mut layer = LoraLinear::new(Linear {
        weight: Param::from_tensor(Tensor::full([d_in, d_out], 0.01, &Device::flex())),
        bias: None,
    });
    if let Some(format) = format {
        layer.quantize(format).unwrap();
    }
    let adapter = LoraAdapter::fresh("default", [d_in, d_out], R, 2.0, dropout, 1, &device);
    layer.adapters.push(adapter);
    layer
}

/// The most that was allocated beyond what stands already, during forward and backward through
/// these layers; and after the forward pass.
fn step(layers: &[LoraLinear], tokens: usize) -> (usize, usize) {
    let device = Device::flex().autodiff();
    let d_in = LoraLayer::shape(&layers[0])[0];
    let x = Tensor::<2>::ones([tokens, d_in], &device).require_grad();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let y = layers.iter().fold(x, |x, layer| layer.forward(x));
    let loss = y.sum();
    let held = ALLOCATOR.current_usage() - before;
    drop(loss.backward());
    (ALLOCATOR.peak_usage() - before, held)
}

/// Counts are of the whole process, so there is one test.
#[test]
fn memory_of_a_step_grows_with_tokens_and_not_with_weights() {
    let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    let peak = |d_in, d_out, tokens, format, dropout| {
        let layers = [layer([d_in, d_out], format, dropout)];
        // Once for buffers that are made once, such as those of the matrix product.
        step(&layers, tokens);
        step(&layers, tokens).0
    };
    // A few copies of inputs and outputs, the adapter's gradients, and the packing buffers of the
    // matrix product; a weight of 2048 x 2048 alone would be 16 MiB.
    for dropout in [0.0, 0.1] {
        let small = peak(2048, 2048, 32, None, dropout);
        let limit = 8 * 4 * (32 * (2048 + 2048 + R) + (2048 + 2048) * R);
        assert!(small < limit, "{:.2} of {:.2} MiB", mib(small), mib(limit));
        assert!(small < 2048 * 2048 * 4 / 2, "{:.2} MiB", mib(small));

        // Twice the tokens, at most twice the memory (and more than once).
        let more = peak(2048, 2048, 512, None, dropout);
        let twice = peak(2048, 2048, 1024, None, dropout);
        let growth = twice as f64 / more as f64;
        assert!((1.6..2.1).contains(&growth), "dropout {dropout}: {growth}");
        // Four times the weight at the same sum of sides: no more.
        let narrow = peak(256, 3840, 512, None, dropout);
        let square = peak(2048, 2048, 512, None, dropout);
        assert!(
            (square as f64) < 1.3 * narrow as f64,
            "dropout {dropout}: {:.2} and {:.2} MiB",
            mib(square),
            mib(narrow)
        );
    }

    // Packed layers: what stands between forward and backward holds no unpacked weight; the peak
    // holds one, not all.
    let dense = 1024 * 1024 * 4;
    for format in [Quantization::Nf4, Quantization::Int8] {
        let layers: Vec<LoraLinear> = (0..6)
            .map(|_| layer([1024, 1024], Some(format), 0.0))
            .collect();
        step(&layers, 16);
        let (peak, held) = step(&layers, 16);
        assert!(held < dense / 2, "{format:?}: {:.2} MiB held", mib(held));
        assert!(peak < 2 * dense, "{format:?}: {:.2} MiB", mib(peak));
    }
}
