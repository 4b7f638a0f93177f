//! [`dropout`]: a mask that costs little beside the layer.
//!
//! burn's Bernoulli mask draws one number per element on one thread, which on a CPU costs more than
//! a whole adapter. So on the CPU the mask is a hash of each element's place and of a seed from the
//! device's generator; the seed is enough to make the same mask again.

use burn::tensor::{DType, Device, Distribution, Int, Tensor};

/// Zeroes elements with this probability and scales the others by `1 / (1 - p)`.
///
/// It always drops; the caller decides whether this is training. (burn's own `Dropout` does nothing
/// on an input that is off the graph, such as that of a model's first layers.)
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

/// Draws a seed from the device's generator, so that the device's seed fixes this mask too.
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
    /// An element is kept if its 32 bits are below; so the probability is met to 2^-32.
    threshold: u32,
    scale: f32,
}

#[cfg(feature = "flex")]
impl Mask {
    pub(crate) fn new(probability: f64, seed: u64) -> Self {
        let keep = 1.0 - probability;
        Self {
            seed,
            // The conversion saturates.
            threshold: (keep * 2f64.powi(32)).round() as u32,
            scale: (1.0 / keep) as f32,
        }
    }

    /// The factors of `len` elements.
    fn values(self, len: usize) -> Vec<f32> {
        use crate::host::{CHUNK, filled, vectorised};

        filled(len, CHUNK, |chunk, out| {
            let (factors, count) = (self.factors(chunk), CHUNK.min(len - chunk * CHUNK));
            vectorised(
                #[inline(always)]
                || out.write(count, |i| factors.of(i)),
            );
        })
    }

    /// The values with the mask on.
    pub(crate) fn applied(self, x: &[f32]) -> Vec<f32> {
        use crate::host::{CHUNK, filled, vectorised};

        filled(x.len(), CHUNK, |chunk, out| {
            let start = chunk * CHUNK;
            let x = &x[start..x.len().min(start + CHUNK)];
            let factors = self.factors(chunk);
            vectorised(
                #[inline(always)]
                || out.write(x.len(), |i| x[i] * factors.of(i)),
            );
        })
    }

    /// The factors of one chunk: a function of the elements' places, so that the mask does not
    /// depend on the threads.
    fn factors(self, chunk: usize) -> Factors {
        Factors {
            bits: Bits::new(self.seed, chunk),
            mask: self,
        }
    }
}

#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
struct Factors {
    bits: Bits,
    mask: Mask,
}

#[cfg(feature = "flex")]
impl Factors {
    /// The factor of an element by its place in the chunk.
    #[inline(always)]
    fn of(self, place: usize) -> f32 {
        let kept = self.bits.of(place as u32) < self.mask.threshold;
        if kept { self.mask.scale } else { 0.0 }
    }
}

/// Random bits by place. All operations are on 32 bits, so that a vector instruction computes many
/// places.
#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
struct Bits([u32; 2]);

#[cfg(feature = "flex")]
impl Bits {
    /// The bits of one of the streams of a seed (the finalizer of splitmix64).
    fn new(seed: u64, stream: usize) -> Self {
        let mut z = seed.wrapping_add((stream as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        Self([z as u32, (z >> 32) as u32])
    }

    /// Chris Wellons' triple32 (<https://github.com/skeeto/hash-prospector>) with the stream's keys
    /// before and within.
    #[inline(always)]
    fn of(self, place: u32) -> u32 {
        let mut x = place ^ self.0[0];
        x = (x ^ (x >> 17)).wrapping_mul(0xED5A_D4BB);
        x = (x ^ (x >> 11))
            .wrapping_add(self.0[1])
            .wrapping_mul(0xAC4C_1B51);
        x = (x ^ (x >> 15)).wrapping_mul(0x3184_8BAB);
        x ^ (x >> 14)
    }
}
