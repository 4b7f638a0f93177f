//! Dropout whose mask costs little beside the layer.
//!
//! burn's Bernoulli mask draws one number per element on one thread, which costs more than the whole adapter on a CPU. There
//! the mask is made on the host instead, 16 random bits an element, from a seed that the device's generator gives.

use burn::tensor::{DType, Distribution, Tensor};

/// Zeroes elements with this probability and scales the others by `1 / (1 - p)`.
///
/// Always drops: whether this is training is for the caller to know. (burn's own `Dropout` would silently do nothing on an
/// input that is off the graph, which that of a model's first layers is.)
///
/// # Shapes
///
/// Any; the mask is drawn for every element.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    let keep = 1.0 - probability;
    #[cfg(feature = "flex")]
    if on_host(&x) {
        let mask = host::mask(&x, keep);
        return x * mask;
    }
    let mask = x.random_like(Distribution::Bernoulli(keep));
    x * mask.mul_scalar(1.0 / keep)
}

/// Whether a tensor lies in host memory as f32, so that making its mask there copies nothing.
#[cfg(feature = "flex")]
fn on_host<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && crate::quantized::is_flex(&x.device())
}

#[cfg(feature = "flex")]
mod host {
    use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
    use rayon::prelude::*;

    /// Elements of one task; each has a generator of its own, so that the mask does not depend on the threads.
    const CHUNK: usize = 1 << 14;

    pub(super) fn mask<const D: usize>(x: &Tensor<D>, keep: f64) -> Tensor<D> {
        let shape = x.dims();
        let device = x.device().inner();
        // Two draws of the device's seeded generator, so that its seed fixes this mask too.
        let seed: Tensor<1, Int> = Tensor::random(
            [2],
            Distribution::Uniform(0.0, f64::from(i32::MAX)),
            (&device, DType::I32),
        );
        let seed = seed
            .into_data()
            .try_to_vec::<i32>()
            .unwrap_or_default()
            .iter()
            .fold(0u64, |seed, &part| (seed << 32) ^ part as u64);
        let mut values = vec![0.0f32; shape.iter().product()];
        values
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(at, chunk)| fill(chunk, keep, seed, at as u64));
        Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
    }

    /// 16 bits decide about an element, so the probability is met to 1/65,536.
    fn fill(chunk: &mut [f32], keep: f64, seed: u64, at: u64) {
        let threshold = (keep * 65_536.0).round() as u64;
        let scale = (1.0 / keep) as f32;
        let mut state = SplitMix(seed ^ (at.wrapping_add(1)).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        for four in chunk.chunks_mut(4) {
            let mut bits = state.next();
            for value in four {
                *value = if bits & 0xFFFF < threshold {
                    scale
                } else {
                    0.0
                };
                bits >>= 16;
            }
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    struct SplitMix(u64);

    impl SplitMix {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }
}
