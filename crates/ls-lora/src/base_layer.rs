//! [`BaseLayer`]: a frozen linear layer, in the forms that its weight may have in memory.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use ls_ops::TiledWeight;

use crate::dtype::{plain, to_dtype};
use crate::quantized::QuantizedWeight;

/// What a linear layer computes with its frozen weight.
#[derive(Module, Debug)]
// A few hundred bytes a layer, beside its weight.
#[allow(clippy::large_enum_variant)]
pub enum BaseLayer {
    /// The weight as it is, f32, f16 or bf16.
    Dense(Linear),
    /// The weight in 4 or 8 bits.
    Quantized(QuantizedLinear),
    /// The weight as the CPU's product reads it, for a model that only answers.
    Tiled(TiledLinear),
}

/// A linear layer with a quantised weight.
#[derive(Module, Debug)]
pub struct QuantizedLinear {
    /// The packed weight.
    pub weight: QuantizedWeight,
    /// The bias, `[out]`, as the layer had it.
    pub bias: Option<Param<Tensor<1>>>,
}

/// A linear layer whose weight is cut into tiles. No optimizer and no record sees the weight, which
/// stays in the memory of the host.
#[derive(Module, Debug)]
pub struct TiledLinear {
    /// The weight.
    #[module(skip)]
    pub weight: TiledWeight,
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
            Self::Tiled(linear) => linear.weight.shape(),
        }
    }

    /// The product with the weight alone, in the input's dtype.
    #[must_use]
    pub fn matmul(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul(x),
            Self::Tiled(linear) => linear.weight.multiply(x),
        }
    }

    /// Builds the graph of [`BaseLayer::matmul`]; the returned values are meaningless.
    pub(crate) fn matmul_graph(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear_graph(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul_graph(x),
            Self::Tiled(linear) => linear.weight.multiply(x),
        }
    }

    /// The product of a plain f32 matrix with the weight, in f32.
    pub(crate) fn matmul_f32(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear) => ls_ops::linear(x, linear.weight.val()),
            Self::Quantized(linear) => linear.weight.matmul(x),
            Self::Tiled(linear) => linear.weight.multiply(x),
        }
    }

    /// The bias, `[out]`.
    #[must_use]
    pub fn bias(&self) -> Option<&Param<Tensor<1>>> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref(),
            Self::Quantized(linear) => linear.bias.as_ref(),
            Self::Tiled(linear) => linear.bias.as_ref(),
        }
    }

    /// The weight in f32 `[in, out]`, off the graph.
    #[must_use]
    pub fn weight(&self) -> Tensor<2> {
        match self {
            Self::Dense(linear) => to_dtype(plain(linear.weight.val()), DType::F32),
            Self::Quantized(linear) => linear.weight.dequantize(),
            Self::Tiled(linear) => linear.weight.weight(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::adapter::column_norm_squared;
    use crate::{
        Dora, LoraAdapter, LoraLayer, LoraLinear, ParameterCount, Quantization, host_values, tile,
    };

    const SHAPE: [usize; 2] = [70, 33];

    fn matrix(rows: usize, columns: usize, step: f32) -> Tensor<2> {
        let values = (0..rows * columns).map(|at| (at as f32 * step).sin());
        let data = TensorData::new(values.collect::<Vec<_>>(), [rows, columns]);
        Tensor::from_data(data, (&Device::flex(), DType::F32))
    }

    fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
        host_values(tensor).into_iter().map(f32::to_bits).collect()
    }

    /// With a bias and an adapter, of DoRA or not.
    fn layer(dora: bool) -> LoraLinear {
        let [rows, columns] = SHAPE;
        let mut layer = LoraLinear::new(Linear {
            weight: Param::from_tensor(matrix(rows, columns, 0.37)),
            bias: Some(Param::from_tensor(matrix(1, columns, 0.71).flatten(0, 1))),
        });
        let mut adapter = LoraAdapter::fresh("default", SHAPE, 3, 0.5, 0.0, 1, &Device::flex());
        adapter.lora_b = Param::from_tensor(matrix(3, columns, 0.53));
        if dora {
            adapter.dora = Some(Dora {
                magnitude: Param::from_tensor(matrix(1, columns, 0.11).flatten(0, 1)),
                base_norm_squared: column_norm_squared(LoraLayer::weight(&layer)),
            });
        }
        layer.adapters.push(adapter);
        layer
    }

    #[test]
    fn a_layer_in_tiles_computes_the_same_to_the_bit() {
        for dora in [false, true] {
            let (mut tiled, dense) = (layer(dora), layer(dora));
            tile(&mut tiled);
            assert!(matches!(tiled.base_layer, BaseLayer::Tiled(_)));
            assert_eq!(
                bits(LoraLayer::weight(&tiled)),
                bits(LoraLayer::weight(&dense))
            );
            assert_eq!(
                ParameterCount::of(&tiled).all,
                ParameterCount::of(&dense).all
            );
            for rows in [1, 2, 9] {
                let x = matrix(rows, SHAPE[0], 0.19);
                assert_eq!(
                    bits(tiled.forward(x.clone())),
                    bits(dense.forward(x.clone()))
                );
                let mixed = |layer: &LoraLinear| {
                    let mut bare = layer.clone();
                    bare.adapters.clear();
                    let parts = [(layer, 1), (&bare, rows - 1)];
                    LoraLinear::forward_mixed(&parts, x.clone())
                };
                assert_eq!(bits(mixed(&tiled)), bits(mixed(&dense)));
            }
            // A second time changes nothing.
            tile(&mut tiled);
            assert!(matches!(tiled.base_layer, BaseLayer::Tiled(_)));
        }
    }

    #[test]
    fn a_layer_in_tiles_merges_and_packs_as_any() {
        let (mut tiled, mut dense) = (layer(false), layer(false));
        tile(&mut tiled);
        let x = || matrix(4, SHAPE[0], 0.19);
        let before = bits(tiled.forward(x()));
        assert_eq!(tiled.merge().unwrap(), dense.merge().unwrap());
        assert_eq!(bits(tiled.forward(x())), bits(dense.forward(x())));
        tiled.unmerge();
        assert!(matches!(tiled.base_layer, BaseLayer::Tiled(_)));
        assert_eq!(bits(tiled.forward(x())), before);

        dense.unmerge();
        for layer in [&mut tiled, &mut dense] {
            layer.quantize(Quantization::Int8).unwrap();
        }
        assert_eq!(bits(tiled.forward(x())), bits(dense.forward(x())));
    }

    #[test]
    fn what_tiles_are_not_for_is_left_as_it_is() {
        let mut packed = layer(false);
        packed.quantize(Quantization::Nf4).unwrap();
        tile(&mut packed);
        assert!(matches!(packed.base_layer, BaseLayer::Quantized(_)));
        let mut narrow = layer(false);
        if let BaseLayer::Dense(linear) = &mut narrow.base_layer {
            let weight = linear.weight.val().cast(DType::BF16);
            linear.weight = Param::from_tensor(weight);
        }
        tile(&mut narrow);
        assert!(matches!(narrow.base_layer, BaseLayer::Dense(_)));
    }
}
