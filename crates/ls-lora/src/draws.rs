//! [`Draws`]: random factors from a seed, on the host.

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A device's own generator would draw other values on each kind of device.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The next values, f32.
    pub(crate) fn next(
        &mut self,
        shape: [usize; 2],
        distribution: Distribution,
        device: &Device,
    ) -> Tensor<2> {
        let data = TensorData::random::<f32, _, _>(shape, distribution, &mut self.0);
        Tensor::from_data(data, (device, DType::F32))
    }
}
