//! [`QuantizedWeight`]: a frozen weight in few bits, and its product with an input.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::codes::{BLOCK, Packed, Quantization, pack};
use super::operation::QuantizedOps;
use crate::dtype::{host_values, plain};
use crate::error::{LoraError, Result};

/// A frozen `[in, out]` weight in 4 or 8 bits per value. Its tensors are constants: no optimizer
/// and no record sees them.
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
    /// The largest magnitude of each block, `[blocks, out]`, bf16 (f32 where the device has no
    /// bf16).
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
    /// # Shapes
    ///
    /// - `weight`: `[in, out]`, any float dtype. The quantised weight lies on its device, off the
    ///   graph.
    ///
    /// # Errors
    ///
    /// [`LoraError::BackendNotBuilt`] if this crate was built without the feature for the weight's
    /// backend; [`LoraError::NonFiniteWeight`] for NaN or an infinity.
    pub fn quantize(weight: Tensor<2>, format: Quantization) -> Result<Self> {
        let weight = plain(weight);
        let device = weight.device();
        if !ls_ops::is_supported(&device) {
            return Err(LoraError::BackendNotBuilt {
                device: format!("{device:?}"),
            });
        }
        let [rows, columns] = weight.dims();
        let values = host_values(weight);
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
        Ok(ls_ops::allocate_to_stay(&device, || Self {
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
        }))
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
    #[must_use]
    pub fn dequantize(&self) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as QuantizedOps>::unpack_weight(
            plain(self.scales.clone()).into_dispatch(),
            self.codes.clone().into_dispatch(),
            plain(self.table.clone()).into_dispatch(),
            self.rows,
            self.format.bits(),
            DType::F32,
        ))
    }

    /// The product with an input, in the input's dtype.
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

    /// Builds the graph of [`QuantizedWeight::matmul`]; the returned values are meaningless.
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
