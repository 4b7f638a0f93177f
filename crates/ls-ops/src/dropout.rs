//! [`dropout`]: a mask that costs little beside the layer.
//!
//! burn's Bernoulli mask draws one number per element on one thread, which costs more than a whole adapter on a CPU. There
//! the mask is made on the host instead, 16 random bits an element, from a seed that the device's generator gives; whoever
//! keeps the seed can make the same mask again.

use burn::tensor::{DType, Device, Distribution, Int, Tensor};

/// Zeroes elements with this probability and scales the others by `1 / (1 - p)`.
///
/// Always drops: whether this is training is for the caller to know. (burn's own `Dropout` would silently do nothing on an
/// input that is off the graph, which that of a model's first layers is.)
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<2>::ones([64, 64], &Device::flex());
/// let values = ls_ops::dropout(x, 0.5).into_data().try_into_vec::<f32>().unwrap_or_default();
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
    if x.dtype() == DType::F32 && crate::is_host(&x.device()) {
        let device = x.device().inner();
        let shape = x.dims();
        let mask = Mask::new(probability, draw_seed(&device));
        let values = mask.values(shape.iter().product());
        let data = burn::tensor::TensorData::new(values, shape);
        return x * Tensor::from_data(data, (&device, DType::F32));
    }
    let mask = x.random_like(Distribution::Bernoulli(keep));
    x * mask.mul_scalar(1.0 / keep)
}

/// A seed from the device's own seeded generator, so that its seed fixes this mask too.
pub(crate) fn draw_seed(device: &Device) -> u64 {
    let seed: Tensor<1, Int> = Tensor::random(
        [2],
        Distribution::Uniform(0.0, f64::from(i32::MAX)),
        (device, DType::I32),
    );
    seed.into_data()
        .try_to_vec::<i32>()
        .unwrap_or_default()
        .iter()
        .fold(0u64, |seed, &part| (seed << 32) ^ part as u64)
}

/// The mask of one dropout, by its seed.
#[cfg(feature = "flex")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    seed: u64,
    /// An element is kept if its 16 bits are below; so the probability is met to 1/65,536.
    threshold: u16,
    scale: f32,
}

#[cfg(feature = "flex")]
impl Mask {
    pub(crate) fn new(probability: f64, seed: u64) -> Self {
        let keep = 1.0 - probability;
        Self {
            seed,
            threshold: (keep * 65_536.0).round().min(65_535.0) as u16,
            scale: (1.0 / keep) as f32,
        }
    }

    /// The factors of all elements.
    fn values(self, len: usize) -> Vec<f32> {
        self.over(len, |_, factor| factor)
    }

    /// The values with the mask on.
    pub(crate) fn applied(self, x: &[f32]) -> Vec<f32> {
        self.over(
            x.len(),
            #[inline(always)]
            |i, factor| x[i] * factor,
        )
    }

    /// `value(i, factor of i)` for every element.
    fn over(self, len: usize, value: impl Fn(usize, f32) -> f32 + Sync) -> Vec<f32> {
        use crate::host::{CHUNK, filled, vectorised};

        // Each chunk has a generator of its own, so that the mask does not depend on the threads.
        filled(len, CHUNK, |at, out| {
            let start = at * CHUNK;
            let count = CHUNK.min(len - start);
            let mut state = WyRand(self.seed ^ (at as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
            vectorised(
                #[inline(always)]
                || {
                    // Bits first, decisions next: two loops that compilers turn into vector instructions.
                    let mut bits = [0u16; 64];
                    let mut done = 0;
                    while done < count {
                        for four in bits.as_chunks_mut::<4>().0 {
                            let word = state.next();
                            *four = [0, 16, 32, 48].map(|shift| (word >> shift) as u16);
                        }
                        let now = bits.len().min(count - done);
                        out.write(
                            now,
                            #[inline(always)]
                            |i| {
                                let kept = bits[i] < self.threshold;
                                value(start + done + i, if kept { self.scale } else { 0.0 })
                            },
                        );
                        done += now;
                    }
                },
            );
        })
    }
}

/// wyrand (Wang Yi, <https://github.com/wangyi-fudan/wyhash>): one multiplication for 64 bits.
#[cfg(feature = "flex")]
struct WyRand(u64);

#[cfg(feature = "flex")]
impl WyRand {
    #[inline(always)]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xA076_1D64_78BD_642F);
        let wide = u128::from(self.0) * u128::from(self.0 ^ 0xE703_7ED1_A0B4_28DB);
        (wide >> 64) as u64 ^ wide as u64
    }
}
