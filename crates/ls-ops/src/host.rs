//! Tensors of the CPU backend as slices, loops for the instruction set at hand, and elementary
//! functions that vectorise.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, FloatDType, TensorData};
use rten_simd::{Isa, SimdOp};

use crate::activation::{GELU, GELU_CUBED};
use crate::uninit;

/// Elements that one task of an element-wise loop takes: small enough for a core's cache, large
/// enough to be worth a task.
pub(crate) const CHUNK: usize = 1 << 14;

/// The tensor's values as f32, in row-major order.
pub(crate) struct Values(FloatTensor<Flex>);

impl Values {
    pub(crate) fn of(tensor: FloatTensor<Flex>) -> Self {
        let tensor = if tensor.dtype() == DType::F32 {
            tensor
        } else {
            Flex::float_cast(tensor, FloatDType::F32)
        };
        Self(if tensor.as_slice::<f32>().is_some() {
            tensor
        } else {
            tensor.to_contiguous()
        })
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // Contiguous and f32, by the above.
        self.0.as_slice::<f32>().unwrap_or_default()
    }
}

/// A tensor of the CPU backend.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

/// The dimensions of a matrix.
pub(crate) fn dims(tensor: &FloatTensor<Flex>) -> [usize; 2] {
    tensor.shape().dims()
}

/// Back in the dtype of an input, for callers whose activations are not f32.
pub(crate) fn in_dtype(tensor: FloatTensor<Flex>, dtype: DType) -> FloatTensor<Flex> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        Flex::float_cast(tensor, dtype.into())
    }
}

/// Runs a loop in the widest instruction set of this machine. The loop is a closure marked
/// `#[inline(always)]`, so that it is compiled for each.
#[inline(always)]
pub(crate) fn vectorised<R, F: FnOnce() -> R>(body: F) -> R {
    struct Op<F>(F);

    impl<R, F: FnOnce() -> R> SimdOp for Op<F> {
        type Output = R;

        #[inline(always)]
        fn eval<I: Isa>(self, _isa: I) -> R {
            (self.0)()
        }
    }

    Op(body).dispatch()
}

/// Two new vectors of one length, in parallel, in the widest instruction set of this machine.
/// `values` is called with each range of elements and gives a closure, marked `#[inline(always)]`,
/// for the two elements at a place of that range.
pub(crate) fn filled_pair<V: Fn(usize) -> (f32, f32)>(
    len: usize,
    values: impl Fn(Range<usize>) -> V + Sync,
) -> (Vec<f32>, Vec<f32>) {
    uninit::filled_pair(len, CHUNK, |task, out| {
        let count = out.len();
        vectorised(
            #[inline(always)]
            || out.write(count, values(task * CHUNK..task * CHUNK + count)),
        );
    })
}

/// Lanes of a sum that the compiler may keep in vectors.
pub(crate) const LANES: usize = 16;

/// `sum(value(i))` for `i` below `len`, in a fixed order of additions that does not depend on the
/// instruction set.
#[inline(always)]
pub(crate) fn sum(len: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = len / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += value(at + lane);
        }
        at += LANES;
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    for at in whole..len {
        total += value(at);
    }
    total
}

/// The largest element, or negative infinity.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |max, value| max.max(*value))
}

/// `e^x` to about one unit in the last place (Cephes' `expf`: a power of two times a polynomial on
/// `[-ln 2 / 2, ln 2 / 2]`). Zero below the smallest normal number; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits. (A
    // conversion to an integer saturates, and is done one element at a time.)
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.72 { 88.72 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = clamped - power * LN2_HIGH - power * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // In two steps, so that 2^128 does not overflow on the way.
    let half = power >> 1;
    let rest = power.wrapping_sub(half);
    let scale = |power: i32| f32::from_bits((power.wrapping_add(127) << 23) as u32);
    let y = p * scale(half) * scale(rest);
    if x < -87.3 { 0.0 } else { y }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x sigmoid(x)` and its slope.
#[inline(always)]
pub(crate) fn silu(x: f32) -> (f32, f32) {
    let sigmoid = sigmoid(x);
    let value = x * sigmoid;
    (value, sigmoid + value * (1.0 - sigmoid))
}

/// GELU by `tanh` and its slope ([`Activation::GeluTanh`](crate::Activation::GeluTanh)).
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> (f32, f32) {
    let square = x * x;
    let sigmoid = sigmoid(x * (GELU + GELU_CUBED * square));
    let value = x * sigmoid;
    let slope = GELU + 3.0 * GELU_CUBED * square;
    (value, sigmoid + value * (1.0 - sigmoid) * slope)
}

/// `tanh(x)` to about two units in the last place (Cephes' `tanhf`); NaN stays NaN.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * square + 2.063_908_8e-2;
    p = p * square - 5.373_971_4e-2;
    p = p * square + 1.333_144_2e-1;
    p = p * square - 3.333_328e-1;
    let near = p * square * x + x;
    if size > 0.625 { far } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_and_saturates() {
        let mut worst = 0.0f64;
        let mut x = -87.0f32;
        while x < 88.7 {
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max((found / expected - 1.0).abs());
            x += 0.003_7;
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-88.0), exp(-1e9), exp(f32::NEG_INFINITY)], [0.0; 3]);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(1e9) > 3e38 && sigmoid(-1e9) < 1e-37 && sigmoid(1e9) == 1.0);
    }

    #[test]
    fn tanh_is_exact_to_three_units_and_saturates() {
        let mut worst = 0.0f64;
        let mut x = 1e-6f32;
        while x < 20.0 {
            let (found, expected) = (f64::from(tanh(x)), f64::from(x).tanh());
            worst = worst.max((found / expected - 1.0).abs());
            assert_eq!(tanh(-x), -tanh(x));
            x *= 1.000_7;
        }
        assert!(worst < 3.6e-7, "{worst}");
        assert_eq!(
            [tanh(0.0), tanh(1e9), tanh(f32::NEG_INFINITY)],
            [0.0, 1.0, -1.0]
        );
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_take_every_element() {
        for len in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 7) % 13) as f32).collect();
            assert_eq!(sum(len, |i| values[i]), values.iter().sum::<f32>());
            let expected = values.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            assert_eq!(largest(&values), expected);
        }
    }
}
