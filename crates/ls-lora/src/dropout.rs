//! Dropout whose mask costs little beside the layer.
//!
//! burn's Bernoulli mask draws one number per element on one thread, which costs more than the whole adapter on a CPU. There
//! the mask is made on the host instead, 16 random bits an element, from a seed that the device's generator gives.

#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::{Distribution, Tensor};

/// Zeroes elements with this probability and scales the others by `1 / (1 - p)`.
///
/// Always drops: whether this is training is for the caller to know. (burn's own `Dropout` would silently do nothing on an
/// input that is off the graph, which that of a model's first layers is.)
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::{dropout, host_values};
///
/// let x = Tensor::<2>::ones([64, 64], &Device::flex());
/// let values = host_values(dropout(x, 0.5));
/// assert!(values.iter().all(|value| [0.0, 2.0].contains(value)));
/// let dropped = values.iter().filter(|value| **value == 0.0).count();
/// assert!((1_500..2_600).contains(&dropped));         // of 4,096
/// ```
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
        let threshold = (keep * 65_536.0).round().min(65_535.0) as u16;
        let scale = (1.0 / keep) as f32;
        let mut state = WyRand(seed ^ at.wrapping_add(1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        // Bits first, decisions next: two loops that compilers turn into vector instructions.
        let mut bits = [0u16; 64];
        for values in chunk.chunks_mut(bits.len()) {
            for four in bits.as_chunks_mut::<4>().0 {
                let word = state.next();
                *four = [0, 16, 32, 48].map(|shift| (word >> shift) as u16);
            }
            for (value, bits) in values.iter_mut().zip(bits) {
                *value = if bits < threshold { scale } else { 0.0 };
            }
        }
    }

    /// wyrand (Wang Yi, <https://github.com/wangyi-fudan/wyhash>): one multiplication for 64 bits.
    struct WyRand(u64);

    impl WyRand {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0xA076_1D64_78BD_642F);
            let wide = u128::from(self.0) * u128::from(self.0 ^ 0xE703_7ED1_A0B4_28DB);
            (wide >> 64) as u64 ^ wide as u64
        }
    }
}
