//! [`TiledWeight`]: a frozen weight in the order in which the CPU's matrix product reads it.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::gemm::{Matrix, Tiles, product};
use crate::linear::LinearOps;

/// Nothing is cut where there is no CPU backend.
#[cfg(not(feature = "flex"))]
enum Tiles {}

#[cfg(not(feature = "flex"))]
impl Tiles {
    fn shape(&self) -> [usize; 2] {
        match *self {}
    }

    fn values(&self) -> Vec<f32> {
        match *self {}
    }
}

/// A frozen `[in, out]` weight, f32, cut into the tiles that the CPU's matrix product reads.
///
/// [`linear`](crate::linear) cuts the weight at each product. For the few rows of a sentence that
/// takes longer than to multiply, so a model that only answers cuts its weights once. The products
/// are the same to the bit. Tiles take the memory of the weight, which can be dropped then. Clones
/// share them.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_ops::TiledWeight;
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::from_data([[1.0, 0.5, -1.0], [0.0, 0.25, 2.0]], &device);
/// let Some(tiled) = TiledWeight::of(weight) else { unreachable!("it is f32 and on the CPU") };
/// let y = tiled.multiply(Tensor::from_data([[1.0, 2.0]], &device));
/// assert_eq!(y.into_data().try_into_vec::<f32>().ok(), Some(vec![1.0, 1.0, 3.0]));
/// ```
#[derive(Clone)]
pub struct TiledWeight {
    tiles: Arc<Tiles>,
    device: Device,
}

impl fmt::Debug for TiledWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TiledWeight").field(&self.shape()).finish()
    }
}

impl TiledWeight {
    /// Whether cutting a weight is of use: it is f32, on the CPU, off the graph, not empty, and of
    /// less than 2^32 values.
    #[must_use]
    pub fn is_for(weight: &Tensor<2>) -> bool {
        let device = weight.device();
        let values: usize = weight.dims().iter().product();
        weight.dtype() == DType::F32
            && (1..u32::MAX as usize).contains(&values)
            && !device.is_autodiff()
            && crate::is_host(&device)
    }

    /// Cuts a weight, or `None` where that [is of no use](Self::is_for). The weight is read where
    /// it lies, unless the tensor has clones, or is a view of another.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[in, out]`
    #[must_use]
    pub fn of(weight: Tensor<2>) -> Option<Self> {
        if !Self::is_for(&weight) {
            return None;
        }
        #[cfg(feature = "flex")]
        {
            let (device, shape) = (weight.device(), weight.dims());
            let values = weight.into_data();
            let values = values.as_slice::<f32>().ok()?;
            let tiles = Arc::new(Tiles::of(Matrix::new(values, shape))?);
            Some(Self { tiles, device })
        }
        #[cfg(not(feature = "flex"))]
        None
    }

    /// `[in, out]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.tiles.shape()
    }

    /// The weight again, to the bit, on the device that it was on.
    #[must_use]
    pub fn weight(&self) -> Tensor<2> {
        Tensor::from_data(self.data(), (&self.device, DType::F32))
    }

    fn data(&self) -> TensorData {
        TensorData::new(self.tiles.values(), self.shape())
    }

    /// `x W`, in the dtype of `x`. Elsewhere than on the CPU, and on the graph, the weight is put
    /// together again for each product.
    ///
    /// # Shapes
    ///
    /// - `x`: `[tokens, in]`; output: `[tokens, out]`
    ///
    /// # Panics
    ///
    /// If the shapes do not fit each other.
    #[must_use]
    pub fn multiply(&self, x: Tensor<2>) -> Tensor<2> {
        let (input, rows) = (x.dims()[1], self.shape()[0]);
        assert_eq!(input, rows, "the input's last axis is the weight's first");
        let device = x.device();
        if !crate::is_supported(&device) {
            return crate::linear(x, self.weight().to_device(&device));
        }
        Tensor::from_dispatch(<Dispatch as TiledOps>::product_tiled(
            x.into_dispatch(),
            self.clone(),
        ))
    }
}

/// The product below the graph. The default body is portable.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff
)]
pub trait TiledOps: LinearOps {
    /// `x W`, in the dtype of `x`; `x` is `[tokens, in]`, the weight `[in, out]`.
    fn product_tiled(x: FloatTensor<Self>, weight: TiledWeight) -> FloatTensor<Self> {
        let weight = Self::float_from_data(weight.data(), &x.device());
        Self::product(x, weight)
    }
}

#[cfg(feature = "cube")]
impl TiledOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl TiledOps for Flex {
    fn product_tiled(x: FloatTensor<Self>, weight: TiledWeight) -> FloatTensor<Self> {
        use crate::host;

        let (dtype, [tokens, input]) = (x.dtype(), host::dims(&x));
        let x = host::Values::of(x);
        let y = product(Matrix::new(x.as_slice(), [tokens, input]), &*weight.tiles);
        host::in_dtype(host::tensor(y, [tokens, weight.shape()[1]]), dtype)
    }
}

impl<B: TiledOps, C: CheckpointStrategy> TiledOps for Autodiff<B, C> {}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
        let len = shape.iter().product();
        let values = (0..len).map(|at: usize| (at * 37 % 101) as f32 / 101.0 - 0.5);
        let values = TensorData::new(values.collect::<Vec<_>>(), shape);
        Tensor::from_data(values, (device, DType::F32))
    }

    #[test]
    fn products_and_gradients_are_those_of_the_weight() {
        let device = Device::flex();
        for (tokens, [d_in, d_out]) in [(1, [300, 70]), (3, [5, 2]), (33, [64, 64]), (0, [4, 3])] {
            let (x, weight) = (
                random([tokens, d_in], &device),
                random([d_in, d_out], &device),
            );
            let tiled = TiledWeight::of(weight.clone()).unwrap();
            assert_eq!(tiled.shape(), [d_in, d_out]);
            assert_eq!(values(tiled.weight()), values(weight.clone()));
            let expected = values(crate::linear(x.clone(), weight.clone()));
            assert_eq!(values(tiled.multiply(x.clone())), expected);

            let gradient = |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = x.clone().autodiff().require_grad();
                let y = product(x.clone());
                let gradients = (y.clone() * y.clone()).sum().backward();
                (values(y.inner()), values(x.grad(&gradients).unwrap()))
            };
            let found = gradient(&|x| tiled.multiply(x));
            assert_eq!(found, gradient(&|x| crate::linear(x, weight.clone())));
            assert_eq!(found.0, expected);
        }
    }

    #[test]
    fn other_dtypes_and_weights_of_a_graph_are_left_as_they_are() {
        let device = Device::flex();
        let weight = random([3, 2], &device);
        assert!(TiledWeight::of(weight.clone().cast(DType::BF16)).is_none());
        assert!(TiledWeight::of(weight.autodiff()).is_none());
        for empty in [[0, 2], [3, 0]] {
            assert!(TiledWeight::of(random(empty, &device)).is_none());
        }
    }
}
