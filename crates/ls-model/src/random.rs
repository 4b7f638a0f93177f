//! [`LlamaModel::random`]: a decoder with random weights, for tests and benchmarks.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Distribution, Tensor};
use ls_lora::LoraLinear;
use ls_ops::NormScale;

use crate::assemble::{Weights, assemble};
use crate::config::{LlamaConfig, Projection};
use crate::error::Result;
use crate::llama::LlamaModel;
use crate::mask::AttentionMode;
use crate::precision::{ComputeType, Precision};

impl LlamaModel {
    /// A frozen decoder with weights N(0, `initializer_range`) from the device's seeded generator,
    /// norms that multiply by 1 and biases 0, as transformers initialises one.
    ///
    /// The values are drawn on the device in the compute type, without a copy in host memory or in
    /// f32. They differ between kinds of device.
    ///
    /// ```
    /// use std::path::Path;
    /// use burn::tensor::Device;
    /// use ls_model::{AttentionMode, ComputeType, LlamaConfig, LlamaModel, ModelInput};
    ///
    /// # fn main() -> Result<(), ls_model::ModelError> {
    /// let config = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 8,
    ///     "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}"#;
    /// let config = LlamaConfig::from_json(config, Path::new("config.json"))?;
    /// let device = Device::flex();
    /// let model = LlamaModel::random(&config, &AttentionMode::Causal, ComputeType::F32, &device)?;
    /// let input = ModelInput::new(&[[1u32, 2, 3]], &config, &device)?;
    /// assert_eq!(model.forward(&input).dims(), [3, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the mode does not fit the model's layers.
    pub fn random(
        config: &LlamaConfig,
        attention: &AttentionMode,
        compute: ComputeType,
        device: &Device,
    ) -> Result<Self> {
        let mut weights = Random {
            device: device.clone().without_autodiff(),
            precision: compute.into(),
            deviation: config.initializer_range,
            norm: match config.norm_scale {
                NormScale::Weight | NormScale::WeightInF32 => 1.0,
                NormScale::OnePlusWeight => 0.0,
            },
        };
        assemble(config, attention, &mut weights)
    }
}

struct Random {
    device: Device,
    precision: Precision,
    deviation: f64,
    /// The weights of norms.
    norm: f64,
}

impl Random {
    fn matrix(&self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let distribution = Distribution::Normal(0.0, self.deviation);
        Param::from_tensor(ls_ops::allocate_to_stay(&self.device, || {
            Tensor::random(
                shape,
                distribution,
                (&self.device, self.precision.compute.dtype()),
            )
        }))
    }
}

impl Weights for Random {
    fn precision(&self) -> &Precision {
        &self.precision
    }

    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>> {
        Ok(self.matrix(shape))
    }

    fn linear(&mut self, _name: &str, projection: Projection) -> Result<LoraLinear> {
        let Projection {
            shape, has_bias, ..
        } = projection;
        let zeros = || Tensor::zeros([shape[1]], (&self.device, self.precision.compute.dtype()));
        Ok(LoraLinear::new(Linear {
            weight: self.matrix(shape),
            bias: has_bias.then(|| Param::from_tensor(zeros())),
        }))
    }

    fn norm(&mut self, _name: &str, width: usize) -> Result<Param<Tensor<1>>> {
        let dtype = self.precision.compute.dtype();
        let weight = Tensor::full([width], self.norm, (&self.device, dtype));
        Ok(Param::from_tensor(weight))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use ls_lora::{LoraModule, ParameterCount, host_values};

    use super::*;
    use crate::ModelInput;
    use crate::llama::{FeedForward, SelfAttention};
    use crate::tiny::{HIDDEN, LAYERS, Tiny, VOCABULARY};

    #[test]
    fn a_random_decoder_has_the_shapes_and_the_deviation_of_its_configuration() {
        let mut tiny = Tiny::new();
        tiny.config["initializer_range"] = serde_json::json!(0.05);
        tiny.config["intermediate_size"] = serde_json::json!(900);
        tiny.config["attention_bias"] = serde_json::json!(true);
        let config = tiny.config();
        let (plain, autodiff) = (Device::flex(), Device::flex().autodiff());
        for (compute, dtype, device) in [
            (ComputeType::F32, DType::F32, &plain),
            (ComputeType::Bf16, DType::BF16, &autodiff),
        ] {
            let model =
                LlamaModel::random(&config, &AttentionMode::Causal, compute, device).unwrap();
            // 4 heads of width 4, 2 of keys; q, k, v and o have biases.
            let block = HIDDEN * (16 + 8 + 8) + 16 * HIDDEN + (16 + 8 + 8 + HIDDEN);
            let block = block + 3 * HIDDEN * 900 + 2 * HIDDEN;
            let all = VOCABULARY * HIDDEN + LAYERS * block + HIDDEN;
            assert_eq!(
                ParameterCount::of(&model),
                ParameterCount { trainable: 0, all }
            );
            assert_eq!(model.layers().len(), 1 + 7 * LAYERS);
            let FeedForward::Split(mlp) = &model.layers[1].mlp else {
                panic!("gate and up are layers of their own");
            };
            let weight = mlp.down_proj.base_layer.weight();
            assert_eq!(weight.dims(), [900, HIDDEN]);
            let values = host_values(weight);
            let mean_square = values.iter().map(|w| w * w).sum::<f32>() / values.len() as f32;
            // 9,000 draws: known to a per cent.
            assert!((mean_square.sqrt() / 0.05 - 1.0).abs() < 0.05);
            let norm = model.norm.weight.val();
            assert_eq!((norm.dtype(), norm.is_autodiff()), (dtype, false));
            assert!(host_values(norm).iter().all(|&scale| scale == 1.0));
            let SelfAttention::Split(attention) = &model.layers[0].self_attn else {
                panic!("queries, keys and values are layers of their own");
            };
            let bias = attention.q_proj.base_layer.bias().unwrap();
            assert!(host_values(bias.val()).iter().all(|&bias| bias == 0.0));

            let input = ModelInput::new(&[vec![1u32, 5, 12], vec![3]], &config, device).unwrap();
            let states = host_values(model.forward(&input));
            assert!(states.iter().all(|state| state.is_finite()));
        }
    }

    #[test]
    fn fresh_norms_multiply_by_one() {
        for (family, weight) in [("olmo2", 1.0), ("gemma2", 0.0)] {
            let config = Tiny::of(family).config();
            let causal = &AttentionMode::Causal;
            let model =
                LlamaModel::random(&config, causal, ComputeType::F32, &Device::flex()).unwrap();
            let found = host_values(model.norm.weight.val());
            assert_eq!(found, [weight; HIDDEN], "{family}");
        }
    }

    #[test]
    fn a_mode_that_does_not_fit_is_refused() {
        let mode = AttentionMode::From(LAYERS);
        let random = LlamaModel::random(
            &Tiny::new().config(),
            &mode,
            ComputeType::F32,
            &Device::flex(),
        );
        assert!(random.unwrap_err().to_string().contains("past the last"));
    }
}
