//! The product with a packed weight, as one operation with a backward pass of its own.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
#[cfg(feature = "cube")]
use burn::backend::fusion::custom::TensorSpec;
#[cfg(feature = "flex")]
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, TensorMetadata, backend_extension};
use burn::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Shape};
#[cfg(feature = "flex")]
use burn::tensor::{FloatDType, Slice, TensorData};
#[cfg(feature = "flex")]
use ls_ops::LinearOps;

#[cfg(feature = "flex")]
use super::codes::{BLOCK, unpack};

/// The operations on packed weights, on every backend that this crate is built for. Bodies are the
/// portable form.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait QuantizedOps: Backend {
    /// The unpacked weight, `[rows, columns]`, in `dtype`.
    #[fusion(meta = |_scales, codes: &TensorSpec, _table, rows: &usize, _bits, dtype: &DType| {
        TensorSpec::new(Shape::new([*rows, codes.shape[1]]), *dtype)
    })]
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// `x` times the unpacked weight, in the dtype of `x`; zeros where only the graph is wanted.
    #[fusion(default)]
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
        let weight = Self::unpack_weight(scales, codes, table, rows, bits, x.dtype());
        Self::float_matmul(x, weight)
    }

    /// `y` times the transpose of the unpacked weight, in the dtype of `y`.
    #[fusion(default)]
    fn quantized_matmul_transposed(
        y: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
    ) -> FloatTensor<Self> {
        let weight = Self::unpack_weight(scales, codes, table, rows, bits, y.dtype());
        Self::float_matmul(y, Self::float_transpose(weight))
    }
}

/// Zeros in place of a product that nobody reads.
fn unread<B: Backend>(x: &FloatTensor<B>, codes: &IntTensor<B>) -> FloatTensor<B> {
    let ([tokens, _], [_, columns]) = (x.shape().dims(), codes.shape().dims());
    let shape = Shape::new([tokens, columns]);
    B::float_zeros(shape, &x.device(), x.dtype().into())
}

#[cfg(feature = "cube")]
impl QuantizedOps for burn_cubecl::CubeBackend {
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        dtype: DType,
    ) -> FloatTensor<Self> {
        super::kernel::unpack_weight(scales, codes, table, rows, bits, dtype)
    }
}

/// On the CPU a weight is unpacked and multiplied a part at a time: a buffer of a few megabytes
/// stays in the allocator's hands, where one of the whole weight would come from the system, page
/// by page, for every product.
#[cfg(feature = "flex")]
impl QuantizedOps for Flex {
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let weight = PackedRows::new(scales, codes, table, rows, bits).unpack(0..rows);
        if dtype == DType::F32 {
            weight
        } else {
            Self::float_cast(weight, dtype.into())
        }
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

impl<B: QuantizedOps, C: CheckpointStrategy> QuantizedOps for Autodiff<B, C> {
    fn unpack_weight(
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        rows: usize,
        bits: usize,
        dtype: DType,
    ) -> FloatTensor<Self> {
        // Packed weights are constants.
        let weight = B::unpack_weight(
            scales.into_primitive(),
            codes,
            table.into_primitive(),
            rows,
            bits,
            dtype,
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
