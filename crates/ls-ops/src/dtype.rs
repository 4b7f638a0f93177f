//! Casts of the portable forms, only where the dtype differs.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::DType;

pub(crate) fn cast_to<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        B::float_cast(tensor, dtype.into())
    }
}

pub(crate) fn cast_like<B: Backend>(
    tensor: FloatTensor<B>,
    like: &FloatTensor<B>,
) -> FloatTensor<B> {
    let dtype = like.dtype();
    cast_to::<B>(tensor, dtype)
}
