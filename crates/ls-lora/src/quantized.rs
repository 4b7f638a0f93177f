//! Frozen weights in 4 or 8 bits per value (QLoRA, arXiv 2305.14314), and the product with them.
//!
//! A weight is unpacked for one product at a time, forward and backward; what the graph keeps until the backward pass is the
//! packed form. (burn's own quantised product keeps the unpacked weight.) No gradient of the weight is formed.
//!
//! The layout: blocks of 64 values run along the input axis of each output, as in bitsandbytes, whose NF4 codes these are.
//! Eight 4-bit or four 8-bit codes of consecutive inputs share a 32-bit word, lowest bits first. The scale of a block is its
//! largest magnitude in bf16, so that a value takes 4.25 or 8.25 bits.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
#[cfg(feature = "flex")]
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Dispatch, TensorMetadata, backend_extension};
use burn::backend::{AutodiffBackend, Backend};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, FloatDType, Int, Shape, Slice, Tensor, TensorData};
#[cfg(feature = "flex")]
use ls_ops::LinearOps;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::adapter::{plain, to_dtype};
use crate::error::{LoraError, Result};

/// Values that share a scale, along the input axis.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::quantized::{BLOCK, Quantization, QuantizedWeight};
/// use ls_lora::host_values;
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let rows = |value| Tensor::full([BLOCK, 1], value, &Device::flex());
/// let weight = Tensor::cat(vec![rows(0.001), rows(1.0)], 0);      // [in, out]
/// let packed = QuantizedWeight::quantize(weight, Quantization::Nf4)?;
/// // The large values cost the small ones nothing: they are in another block.
/// assert!((host_values(packed.dequantize())[0] - 0.001).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
pub const BLOCK: usize = 64;

/// How many bits a frozen weight's values take.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use ls_lora::{Quantization, QuantizedWeight, host_values};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let weight = Tensor::<2>::random([64, 32], Distribution::Normal(0.0, 1.0), &Device::flex());
/// let mut errors = Vec::new();
/// for format in [Quantization::Int8, Quantization::Nf4] {
///     let stored = QuantizedWeight::quantize(weight.clone(), format)?.dequantize();
///     errors.push(host_values((stored - weight.clone()).square().mean())[0]);
/// }
/// assert!(errors[0] < errors[1] && errors[1] < 0.1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Quantization {
    /// 4 bits: the 16 quantiles of a normal distribution (NormalFloat, arXiv 2305.14314).
    Nf4,
    /// 8 bits: 255 evenly spaced values.
    Int8,
}

/// NF4's values, as bitsandbytes has them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The code of zero in 8 bits; codes below it are negative.
const INT8_ZERO: i32 = 128;

impl Quantization {
    /// The bits of one code.
    ///
    /// ```
    /// use ls_lora::Quantization;
    ///
    /// assert_eq!((Quantization::Nf4.bits(), Quantization::Int8.bits()), (4, 8));
    /// ```
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            Self::Nf4 => 4,
            Self::Int8 => 8,
        }
    }

    /// What each code stands for, as a part of the block's scale.
    fn table(self) -> Vec<f32> {
        match self {
            Self::Nf4 => NF4.to_vec(),
            Self::Int8 => (0..256)
                .map(|code| (code - INT8_ZERO) as f32 / 127.0)
                .collect(),
        }
    }

    /// The code of the nearest value to `x`, a part of the block's scale.
    fn encode(self, x: f32) -> u32 {
        match self {
            // Midpoints; a tie goes to the lower value, as in bitsandbytes.
            Self::Nf4 => NF4
                .windows(2)
                .map(|pair| u32::from(x > f32::midpoint(pair[0], pair[1])))
                .sum(),
            Self::Int8 => ((x * 127.0).round() as i32)
                .clamp(-127, 127)
                .wrapping_add(INT8_ZERO) as u32,
        }
    }
}

/// A frozen `[in, out]` weight in 4 or 8 bits per value. Its tensors are constants: no optimizer and no record sees them.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use ls_lora::{Quantization, QuantizedWeight};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let weight = Tensor::<2>::random([128, 256], Distribution::Default, &Device::flex());
/// let packed = QuantizedWeight::quantize(weight, Quantization::Nf4)?;
/// assert_eq!(packed.shape(), [128, 256]);
/// assert!(packed.bytes() < 128 * 256 * 4 / 7);        // of f32: 4
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct QuantizedWeight {
    /// Packed codes, `[in rounded up to a block / codes per word, out]`, 32-bit words.
    codes: Tensor<2, Int>,
    /// The largest magnitude of each block, `[blocks, out]`, bf16 (f32 where the device has no bf16).
    scales: Tensor<2>,
    /// What a code stands for, `[16]` or `[256]`, f32.
    table: Tensor<1>,
    /// Inputs of the layer, without those that fill the last block.
    rows: usize,
    #[module(skip)]
    format: Quantization,
}

impl QuantizedWeight {
    /// Quantises a weight; the values pass through the host once.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use ls_lora::{LoraError, Quantization, QuantizedWeight};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let device = Device::flex();
    /// let packed = QuantizedWeight::quantize(Tensor::ones([64, 8], &device), Quantization::Int8)?;
    /// assert_eq!(packed.format(), Quantization::Int8);
    /// let refused = QuantizedWeight::quantize(Tensor::full([64, 8], f32::NAN, &device), Quantization::Int8);
    /// assert!(matches!(refused, Err(LoraError::NonFiniteWeight)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Shapes
    ///
    /// - `weight`: `[in, out]`, any float dtype. The quantised weight lies on its device, off the graph.
    ///
    /// # Errors
    ///
    /// [`LoraError::BackendNotBuilt`] if this crate was built without the feature for the weight's backend;
    /// [`LoraError::NonFiniteWeight`] for NaN or an infinity.
    pub fn quantize(weight: Tensor<2>, format: Quantization) -> Result<Self> {
        let weight = plain(weight);
        let device = weight.device();
        if !ls_ops::is_supported(&device) {
            return Err(LoraError::BackendNotBuilt {
                device: format!("{device:?}"),
            });
        }
        let [rows, columns] = weight.dims();
        let values = crate::host_values(weight);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(LoraError::NonFiniteWeight);
        }
        let Packed { codes, scales } = pack(&values, [rows, columns], format);
        let blocks = rows.div_ceil(BLOCK);
        let words = blocks * BLOCK * format.bits() / 32;
        let scale_type = if device.supports_dtype(DType::BF16) {
            DType::BF16
        } else {
            DType::F32
        };
        let table = format.table();
        let levels = table.len();
        Ok(Self {
            codes: Tensor::from_data(
                TensorData::new(codes, [words, columns]),
                (&device, DType::I32),
            ),
            scales: Tensor::from_data(
                TensorData::new(scales, [blocks, columns]),
                (&device, scale_type),
            ),
            table: Tensor::from_data(TensorData::new(table, [levels]), (&device, DType::F32)),
            rows,
            format,
        })
    }

    /// `[in, out]` of the weight.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.codes.dims()[1]]
    }

    /// How it is stored.
    #[must_use]
    pub fn format(&self) -> Quantization {
        self.format
    }

    /// The bytes that it takes.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use ls_lora::{Quantization, QuantizedWeight};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let packed = QuantizedWeight::quantize(Tensor::ones([128, 10], &Device::flex()), Quantization::Nf4)?;
    /// // Codes of half a byte, two scales of two bytes an output, and the 16 values that codes stand for.
    /// assert_eq!(packed.bytes(), 128 * 10 / 2 + 2 * 10 * 2 + 16 * 4);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bytes(&self) -> usize {
        let values = |shape: [usize; 2]| shape[0] * shape[1];
        let scale = if self.scales.dtype() == DType::BF16 {
            2
        } else {
            4
        };
        4 * values(self.codes.dims())
            + scale * values(self.scales.dims())
            + 4 * self.table.dims()[0]
    }

    /// The weight unpacked, f32 `[in, out]`, off the graph.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use ls_lora::{Quantization, QuantizedWeight, host_values};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let weight = Tensor::<2>::from_data([[-1.0], [0.0], [0.5], [1.0]], &Device::flex());
    /// let packed = QuantizedWeight::quantize(weight, Quantization::Nf4)?;
    /// let values = host_values(packed.dequantize());
    /// assert_eq!([values[0], values[1], values[3]], [-1.0, 0.0, 1.0]);
    /// assert!((values[2] - 0.4407).abs() < 1e-4);         // the nearest of the 16
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn dequantize(&self) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as QuantizedOps>::unpack_weight(
            plain(self.scales.clone()).into_dispatch(),
            self.codes.clone().into_dispatch(),
            plain(self.table.clone()).into_dispatch(),
            self.rows,
            self.format.bits(),
        ))
    }

    /// The product with an input, in the input's dtype.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use ls_lora::{Quantization, QuantizedWeight};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex();
    /// let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
    /// let packed = QuantizedWeight::quantize(random([64, 8]), Quantization::Nf4)?;
    /// let x = random([3, 64]);
    /// let y = x.clone().matmul(packed.dequantize());
    /// assert!(packed.matmul(x).all_close(y, Some(1e-4), Some(1e-5)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Shapes
    ///
    /// - `x`: `[tokens, in]`; output: `[tokens, out]`
    ///
    /// # Panics
    ///
    /// Panics if the weight was moved to a backend that this crate was not built for.
    #[must_use]
    pub fn matmul(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x, true)
    }

    /// The graph of [`QuantizedWeight::matmul`], whose value means nothing.
    pub(crate) fn matmul_graph(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x, false)
    }

    fn product(&self, x: Tensor<2>, with_value: bool) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as QuantizedOps>::quantized_matmul(
            x.into_dispatch(),
            plain(self.scales.clone()).into_dispatch(),
            self.codes.clone().into_dispatch(),
            plain(self.table.clone()).into_dispatch(),
            self.rows,
            self.format.bits(),
            with_value,
        ))
    }
}

/// What a linear layer computes with its frozen weight.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{BaseLayer, LoraLayer, LoraLinear, Quantization};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let mut layer = LoraLinear::from(LinearConfig::new(64, 4).init(&Device::flex()));
/// assert!(matches!(&layer.base_layer, BaseLayer::Dense(linear) if linear.weight.dims() == [64, 4]));
/// layer.quantize(Quantization::Nf4)?;
/// assert!(matches!(&layer.base_layer, BaseLayer::Quantized(linear) if linear.weight.shape() == [64, 4]));
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
// A few hundred bytes a layer, beside its weight.
#[allow(clippy::large_enum_variant)]
pub enum BaseLayer {
    /// The weight as it is, f32, f16 or bf16.
    Dense(Linear),
    /// The weight in 4 or 8 bits.
    Quantized(QuantizedLinear),
}

/// A linear layer with a quantised weight.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::quantized::{BaseLayer, Quantization, QuantizedLinear, QuantizedWeight};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let linear = LinearConfig::new(64, 4).init(&Device::flex());
/// let base = BaseLayer::Quantized(QuantizedLinear {
///     weight: QuantizedWeight::quantize(linear.weight.val(), Quantization::Nf4)?,
///     bias: linear.bias,
/// });
/// assert_eq!(base.shape(), [64, 4]);
/// assert!(base.bias().is_some_and(|bias| bias.dims() == [4]));
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct QuantizedLinear {
    /// The packed weight.
    pub weight: QuantizedWeight,
    /// The bias, `[out]`, as the layer had it.
    pub bias: Option<Param<Tensor<1>>>,
}

impl BaseLayer {
    /// `[in, out]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape().dims(),
            Self::Quantized(linear) => linear.weight.shape(),
        }
    }

    /// The product with the weight alone, in the input's dtype.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use ls_lora::{LoraLinear, host_values};
    ///
    /// let device = Device::flex();
    /// let layer = LoraLinear::from(LinearConfig::new(8, 4).with_bias(false).init(&device));
    /// let x = Tensor::<2>::ones([3, 8], &device);
    /// assert_eq!(host_values(layer.base_layer.matmul(x.clone())), host_values(layer.forward(x)));
    /// ```
    #[must_use]
    pub fn matmul(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul(x),
        }
    }

    /// The graph of [`BaseLayer::matmul`], whose value means nothing.
    pub(crate) fn matmul_graph(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear_graph(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul_graph(x),
        }
    }

    /// The product of a plain f32 matrix with the weight, in f32.
    pub(crate) fn matmul_f32(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul(x),
        }
    }

    /// The bias, `[out]`.
    #[must_use]
    pub fn bias(&self) -> Option<&Param<Tensor<1>>> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref(),
            Self::Quantized(linear) => linear.bias.as_ref(),
        }
    }

    /// The weight in f32 `[in, out]`, off the graph.
    #[must_use]
    pub fn weight(&self) -> Tensor<2> {
        match self {
            Self::Dense(linear) => to_dtype(plain(linear.weight.val()), DType::F32),
            Self::Quantized(linear) => linear.weight.dequantize(),
        }
    }
}

struct Packed {
    codes: Vec<i32>,
    scales: Vec<f32>,
}

/// Blocks are independent of each other, so they are packed in parallel.
fn pack(values: &[f32], [rows, columns]: [usize; 2], format: Quantization) -> Packed {
    let bits = format.bits();
    let per_word = 32 / bits;
    let blocks = rows.div_ceil(BLOCK);
    let words_per_block = BLOCK / per_word;
    let mut codes = vec![0i32; blocks * words_per_block * columns];
    let mut scales = vec![0.0f32; blocks * columns];
    if columns == 0 {
        return Packed { codes, scales };
    }
    codes
        .par_chunks_mut(words_per_block * columns)
        .zip(scales.par_chunks_mut(columns))
        .enumerate()
        .for_each(|(block, (codes, scales))| {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(rows);
            for row in rows.clone() {
                let values = &values[row * columns..][..columns];
                for (scale, value) in scales.iter_mut().zip(values) {
                    *scale = scale.max(value.abs());
                }
            }
            for (at, row) in rows.enumerate() {
                let values = &values[row * columns..][..columns];
                let words = &mut codes[at / per_word * columns..][..columns];
                let shift = at % per_word * bits;
                for ((word, value), &scale) in words.iter_mut().zip(values).zip(&*scales) {
                    let part = if scale == 0.0 { 0.0 } else { value / scale };
                    *word |= (format.encode(part) << shift) as i32;
                }
            }
        });
    Packed { codes, scales }
}

/// The operations on packed weights, on every backend that this crate is built for. Bodies are the portable form.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff
)]
pub(crate) trait QuantizedOps: Backend {
    /// The unpacked weight in f32, `[rows, columns]`.
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        unpack_portable::<Self>(scales, codes, table, rows, bits)
    }

    /// `x` times the unpacked weight, in the dtype of `x`; zeros where only the graph is wanted.
    fn quantized_matmul(
        x: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        with_value: bool,
    ) -> FloatTensor<Self> {
        if !with_value {
            return unread::<Self>(&x, &codes);
        }
        let weight = Self::unpack_weight(scales, codes, table, rows, bits);
        let weight = cast_like::<Self>(weight, &x);
        Self::float_matmul(x, weight)
    }

    /// `y` times the transpose of the unpacked weight, in the dtype of `y`.
    fn quantized_matmul_transposed(
        y: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        let weight = Self::unpack_weight(scales, codes, table, rows, bits);
        let weight = cast_like::<Self>(weight, &y);
        Self::float_matmul(y, Self::float_transpose(weight))
    }
}

/// What stands for a product of these that nobody reads.
fn unread<B: Backend>(x: &FloatTensor<B>, codes: &IntTensor<B>) -> FloatTensor<B> {
    let ([tokens, _], [_, columns]) = (x.shape().dims(), codes.shape().dims());
    let shape = Shape::new([tokens, columns]);
    B::float_zeros(shape, &x.device(), x.dtype().into())
}

/// Unpacks a weight by operations that every backend has.
fn unpack_portable<B: Backend>(
    scales: FloatTensor<B>,
    codes: IntTensor<B>,
    table: FloatTensor<B>,
    rows: usize,
    bits: usize,
) -> FloatTensor<B> {
    let per_word = 32 / bits;
    let [words, columns] = codes.shape().dims();
    let [blocks, _] = scales.shape().dims();
    let mask = (1i64 << bits) - 1;
    let planes = (0..per_word).map(|at| {
        let shifted = B::bitwise_right_shift_scalar(codes.clone(), ((at * bits) as i64).into());
        let plane = B::bitwise_and_scalar(shifted, mask.into());
        B::int_reshape(plane, Shape::new([words, 1, columns]))
    });
    let codes = B::int_cat(planes.collect(), 1); // [words, per_word, columns]
    let codes = B::int_reshape(codes, Shape::new([words * per_word * columns]));
    let parts = B::float_select(table, 0, codes);
    let parts = B::float_reshape(parts, Shape::new([blocks, BLOCK, columns]));
    let scales = B::float_cast(scales, FloatDType::F32);
    let scales = B::float_reshape(scales, Shape::new([blocks, 1, columns]));
    let weight = B::float_mul(parts, scales);
    let weight = B::float_reshape(weight, Shape::new([blocks * BLOCK, columns]));
    if blocks * BLOCK == rows {
        return weight;
    }
    B::float_slice(weight, &[Slice::from(0..rows), Slice::from(0..columns)])
}

fn cast_like<B: Backend>(tensor: FloatTensor<B>, like: &FloatTensor<B>) -> FloatTensor<B> {
    if tensor.dtype() == like.dtype() {
        tensor
    } else {
        B::float_cast(tensor, like.dtype().into())
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl QuantizedOps for burn::backend::Cube {}

/// On the CPU a weight is unpacked and multiplied a part at a time: a buffer of a few megabytes stays in the allocator's hands,
/// where one of the whole weight would come from the system, page by page, for every product.
#[cfg(feature = "flex")]
impl QuantizedOps for Flex {
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        PackedRows::new(scales, codes, table, rows, bits).unpack(0..rows)
    }

    fn quantized_matmul(
        x: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        with_value: bool,
    ) -> FloatTensor<Self> {
        if !with_value {
            return unread::<Self>(&x, &codes);
        }
        let packed = PackedRows::new(scales, codes, table, rows, bits);
        let dtype = x.dtype();
        let x = to_f32(x);
        let [tokens, _] = x.shape().dims();
        let mut sum = None;
        for part in packed.parts() {
            let columns = [Slice::from(0..tokens), Slice::from(part.clone())];
            let x = Self::float_slice(x.clone(), &columns);
            let y = Self::product(x, packed.unpack(part));
            sum = Some(match sum {
                None => y,
                Some(sum) => Self::float_add(sum, y),
            });
        }
        match sum {
            Some(sum) if dtype == DType::F32 => sum,
            Some(sum) => Self::float_cast(sum, dtype.into()),
            None => Self::product(x, packed.unpack(0..rows)),
        }
    }

    fn quantized_matmul_transposed(
        y: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        let packed = PackedRows::new(scales, codes, table, rows, bits);
        let dtype = y.dtype();
        let y = to_f32(y);
        let parts = packed
            .parts()
            .map(|part| Self::product_transposed(y.clone(), packed.unpack(part)));
        let x = Self::float_cat(parts.collect(), 1);
        if dtype == DType::F32 {
            x
        } else {
            Self::float_cast(x, dtype.into())
        }
    }
}

/// The CPU's products are of f32 values.
#[cfg(feature = "flex")]
fn to_f32(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    if tensor.dtype() == DType::F32 {
        tensor
    } else {
        Flex::float_cast(tensor, FloatDType::F32)
    }
}

/// A packed weight in host memory.
#[cfg(feature = "flex")]
struct PackedRows {
    scales: FloatTensor<Flex>,
    codes: IntTensor<Flex>,
    table: FloatTensor<Flex>,
    rows: usize,
    columns: usize,
    bits: usize,
}

#[cfg(feature = "flex")]
impl PackedRows {
    /// Unpacked values of one part.
    const PART: usize = 1 << 21;

    fn new(
        scales: FloatTensor<Flex>,
        codes: IntTensor<Flex>,
        table: FloatTensor<Flex>,
        rows: usize,
        bits: usize,
    ) -> Self {
        let [_, columns] = codes.shape().dims();
        Self {
            scales: to_f32(scales).to_contiguous(),
            codes: codes.to_contiguous(),
            table: table.to_contiguous(),
            rows,
            columns,
            bits,
        }
    }

    /// Ranges of rows, each of whole blocks but the last.
    fn parts(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let size = (Self::PART / self.columns.max(1)).next_multiple_of(BLOCK);
        let rows = self.rows;
        (0..rows)
            .step_by(size)
            .map(move |start| start..(start + size).min(rows))
    }

    /// These rows of the weight, f32; they begin with a block.
    fn unpack(&self, rows: std::ops::Range<usize>) -> FloatTensor<Flex> {
        let (columns, bits) = (self.columns, self.bits);
        let mut weight = vec![0.0f32; rows.len() * columns];
        // The types are those that `quantize` stored.
        if let (Some(scales), Some(codes), Some(table)) = (
            self.scales.as_slice::<f32>(),
            self.codes.as_slice::<i32>(),
            self.table.as_slice::<f32>(),
        ) && !weight.is_empty()
        {
            let codes = &codes[rows.start * bits / 32 * columns..];
            let scales = &scales[rows.start / BLOCK * columns..];
            unpack(&mut weight, codes, scales, table, columns, bits);
        }
        FloatTensor::<Flex>::from_data(TensorData::new(weight, [rows.len(), columns]))
    }
}

/// Unpacks words into the rows of a weight, a row of words at a time.
#[cfg(feature = "flex")]
fn unpack(
    weight: &mut [f32],
    codes: &[i32],
    scales: &[f32],
    table: &[f32],
    columns: usize,
    bits: usize,
) {
    let per_word = 32 / bits;
    let mask = (1u32 << bits) - 1;
    weight
        .par_chunks_mut(per_word * columns)
        .enumerate()
        .for_each(|(at, rows)| {
            let words = &codes[at * columns..][..columns];
            let scales = &scales[at * per_word / BLOCK * columns..][..columns];
            for (within, row) in rows.chunks_mut(columns).enumerate() {
                let shift = within * bits;
                for ((value, &word), scale) in row.iter_mut().zip(words).zip(scales) {
                    let code = (word as u32 >> shift) & mask;
                    *value = table[code as usize] * scale;
                }
            }
        });
}

impl<B: QuantizedOps, C: CheckpointStrategy> QuantizedOps for Autodiff<B, C> {
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        // Packed weights are constants.
        let weight = B::unpack_weight(
            scales.into_primitive(),
            codes,
            table.into_primitive(),
            rows,
            bits,
        );
        <Self as AutodiffBackend>::from_inner(weight)
    }

    fn quantized_matmul(
        x: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        with_value: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct InputGradient;

        #[derive(Debug, Clone)]
        struct State<B: Backend> {
            scales: FloatTensor<B>,
            codes: IntTensor<B>,
            table: FloatTensor<B>,
            rows: usize,
            bits: usize,
        }

        impl<B: QuantizedOps> Backward<B, 1> for InputGradient {
            type State = State<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let State {
                    scales,
                    codes,
                    table,
                    rows,
                    bits,
                } = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                    B::quantized_matmul_transposed(dy, scales, codes, table, rows, bits)
                });
            }
        }

        let state = State::<B> {
            scales: scales.into_primitive(),
            codes,
            table: table.into_primitive(),
            rows,
            bits,
        };
        let forward = |x, state: State<B>| {
            let State {
                scales,
                codes,
                table,
                ..
            } = state;
            B::quantized_matmul(x, scales, codes, table, rows, bits, with_value)
        };
        match InputGradient
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let y = forward(x.into_primitive(), state.clone());
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x.into_primitive(), state)),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What GPUs compute, on the CPU, against the CPU's own way.
    #[test]
    fn the_portable_form_gives_the_same_bits() {
        for [rows, columns] in [[64, 3], [65, 2], [130, 5], [7, 4], [1, 1]] {
            let values: Vec<f32> = (0..rows * columns)
                .map(|i| (i as f32 * 1.7).sin())
                .collect();
            for format in [Quantization::Nf4, Quantization::Int8] {
                let Packed { codes, scales } = pack(&values, [rows, columns], format);
                let (blocks, table) = (rows.div_ceil(BLOCK), format.table());
                let float = |values: Vec<f32>, shape: Vec<usize>| {
                    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
                };
                let scales =
                    Flex::float_cast(float(scales, vec![blocks, columns]), FloatDType::BF16);
                let words = codes.len() / columns;
                let codes = IntTensor::<Flex>::from_data(TensorData::new(codes, [words, columns]));
                let levels = table.len();
                let table = float(table, vec![levels]);
                let bits = format.bits();
                let values = |tensor: FloatTensor<Flex>| {
                    tensor.to_contiguous().as_slice::<f32>().unwrap().to_vec()
                };
                let found = values(unpack_portable::<Flex>(
                    scales.clone(),
                    codes.clone(),
                    table.clone(),
                    rows,
                    bits,
                ));
                let expected = values(Flex::unpack_weight(scales, codes, table, rows, bits));
                assert_eq!(found, expected, "{rows} x {columns}, {format:?}");
            }
        }
    }
}
