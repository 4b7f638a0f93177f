//! Device tensors: their dtype, the graph, and the way to and from the host.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// The values of a float tensor on the host, in f32 and row-major order. Waits for the device.
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert_dtype(DType::F32);
    data.try_to_vec::<f32>().unwrap_or_default()
}

/// Casts only where the dtype differs.
pub(crate) fn to_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(dtype)
    }
}

/// Off the graph. (`inner` panics on a tensor that was never on it.)
pub(crate) fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}

/// Values in row-major order as a device matrix, f32.
pub(crate) fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
