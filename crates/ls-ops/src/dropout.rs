//! [`dropout`]: a mask that is a seed, on every device the same.
//!
//! Whether an element is dropped is a hash of its place and of the seed, so the graph keeps the
//! seed alone, and the backward pass makes the mask again. Seeds are drawn on the host: no device
//! is waited for, and the same seed drops the same elements on every device.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

/// Zeroes elements with this probability and scales the others by `1 / (1 - p)`. The mask is of
/// this thread's generator ([`seed_dropout`]).
///
/// It always drops; the caller decides whether this is training. (burn's own `Dropout` does nothing
/// on an input that is off the graph, such as that of a model's first layers.)
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// ls_ops::seed_dropout(7);
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
    let dtype = x.dtype();
    Dropout::draw(probability).apply(x, dtype)
}

thread_local! {
    /// The state of splitmix64; none until the first use.
    static GENERATOR: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Seeds the generator of this thread, from which every dropout on any device draws its mask.
/// Without it the first seed of a thread is arbitrary.
pub fn seed_dropout(seed: u64) {
    GENERATOR.set(Some(seed));
}

/// Steps a state of splitmix64 and gives its next number.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One mask, by its seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// An element is kept if its hash is below; so the probability is met to 2^-32.
    pub(crate) threshold: u32,
    pub(crate) scale: f32,
    /// What the hash mixes with an element's place.
    pub(crate) keys: [u32; 2],
}

impl Dropout {
    /// Draws a mask from this thread's generator ([`seed_dropout`]).
    #[must_use]
    pub fn draw(probability: f64) -> Self {
        let mut state = GENERATOR
            .get()
            .unwrap_or_else(|| RandomState::new().hash_one(0));
        let seed = splitmix(&mut state);
        GENERATOR.set(Some(state));
        let keep = 1.0 - probability;
        Self {
            // The conversion saturates.
            threshold: (keep * 2f64.powi(32)).round() as u32,
            scale: (1.0 / keep) as f32,
            keys: [seed as u32, (seed >> 32) as u32],
        }
    }

    /// `x` with the mask on, in `dtype`.
    pub(crate) fn apply<const D: usize>(self, x: Tensor<D>, dtype: DType) -> Tensor<D> {
        if !crate::is_supported(&x.device()) {
            let factors = (0..x.shape().num_elements()).map(|place| self.factor(place as u32));
            let data = TensorData::new(factors.collect::<Vec<_>>(), x.dims());
            let factors = Tensor::from_data(data, (&x.device().inner(), dtype));
            return x.cast(dtype) * factors;
        }
        Tensor::from_dispatch(<Dispatch as DropoutOps>::drop_elements(
            x.into_dispatch(),
            self,
            dtype,
        ))
    }

    /// The factor of an element by its place.
    #[inline(always)]
    fn factor(self, place: u32) -> f32 {
        let kept = hash(place, self.keys) < self.threshold;
        if kept { self.scale } else { 0.0 }
    }

    /// The values with the mask on.
    #[cfg(feature = "flex")]
    pub(crate) fn applied(self, x: &[f32]) -> Vec<f32> {
        use crate::host::{CHUNK, vectorised};
        use crate::uninit::filled;

        filled(x.len(), CHUNK, |chunk, out| {
            let start = chunk * CHUNK;
            let x = &x[start..x.len().min(start + CHUNK)];
            let start = start as u32;
            vectorised(
                #[inline(always)]
                || {
                    out.write(
                        x.len(),
                        #[inline(always)]
                        |i| x[i] * self.factor(start.wrapping_add(i as u32)),
                    );
                },
            );
        })
    }
}

/// Random bits by place: Chris Wellons' triple32 (<https://github.com/skeeto/hash-prospector>) with
/// keys before and within. All operations are on 32 bits, which vector instructions and GPUs have;
/// the kernel of `cube/dropout.rs` computes the same.
#[inline(always)]
fn hash(place: u32, keys: [u32; 2]) -> u32 {
    let mut x = place ^ keys[0];
    x = (x ^ (x >> 17)).wrapping_mul(0xED5A_D4BB);
    x = (x ^ (x >> 11))
        .wrapping_add(keys[1])
        .wrapping_mul(0xAC4C_1B51);
    x = (x ^ (x >> 15)).wrapping_mul(0x3184_8BAB);
    x ^ (x >> 14)
}

/// The mask on a tensor.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait DropoutOps: Backend {
    /// `x` with the mask on, in `dtype`.
    #[fusion(meta = |x: &burn::backend::fusion::custom::TensorSpec, _dropout, dtype: &DType| {
        burn::backend::fusion::custom::TensorSpec::new(x.shape.clone(), *dtype)
    })]
    fn drop_elements(x: FloatTensor<Self>, dropout: Dropout, dtype: DType) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl DropoutOps for Flex {
    fn drop_elements(x: FloatTensor<Self>, dropout: Dropout, dtype: DType) -> FloatTensor<Self> {
        use crate::host::{Values, in_dtype};

        let shape = x.shape();
        let y = dropout.applied(Values::of(x).as_slice());
        in_dtype(
            FloatTensor::<Flex>::from_data(TensorData::new(y, shape)),
            dtype,
        )
    }
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn drop_elements(x: FloatTensor<Self>, dropout: Dropout, dtype: DType) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct DropoutBackward;

        impl<B: DropoutOps> Backward<B, 1> for DropoutBackward {
            type State = (Dropout, DType);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let (dropout, dtype) = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                    B::drop_elements(dy, dropout, dtype)
                });
            }
        }

        let prep = DropoutBackward.prepare::<C>([x.node()]);
        let x = x.into_primitive();
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (dropout, x.dtype());
                prep.finish(state, B::drop_elements(x, dropout, dtype))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::drop_elements(x, dropout, dtype)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_spread_evenly_and_neighbours_are_unrelated() {
        let keys = [0x1234_5678, 0x9ABC_DEF0];
        let count = 1 << 16;
        let hashes: Vec<u32> = (0..count).map(|place| hash(place, keys)).collect();
        // Every bit is set in half of them, and changes from one place to the next in half.
        for bit in 0..32 {
            let set = hashes.iter().filter(|&&h| h >> bit & 1 == 1).count();
            let changed = hashes
                .windows(2)
                .filter(|pair| (pair[0] ^ pair[1]) >> bit & 1 == 1)
                .count();
            for found in [set, changed] {
                assert!(found.abs_diff(1 << 15) < 700, "bit {bit}: {found}");
            }
        }
        let other = (0..count)
            .filter(|&place| (hash(place, keys) ^ hash(place, [keys[0] + 1, keys[1]])) >> 31 == 1);
        assert!(other.count().abs_diff(1 << 15) < 700);
    }

    #[test]
    fn a_seed_gives_the_same_masks_again() {
        let draws = |seed| {
            seed_dropout(seed);
            [0.1, 0.1].map(Dropout::draw)
        };
        let [first, second] = draws(3);
        assert_eq!(draws(3), [first, second]);
        assert_ne!(first, second);
        assert_ne!(draws(4), [first, second]);
    }
}
