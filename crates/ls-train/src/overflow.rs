//! Weights in a form in which less overflows.

use burn::tensor::Device;
use ls_model::{ComputeType, Precision};

/// What would let values be larger than they can be now, if anything would. On the CPU activations
/// are f32 whatever the weights are.
pub(crate) fn wider(precision: &Precision, device: &Device) -> Vec<&'static str> {
    let narrow = precision.compute.of_activations(device) != ComputeType::F32;
    let ways = [
        (narrow, "compute in f32 (model.dtype = \"f32\")"),
        (
            precision.quantization.is_some(),
            "take the base as it is (no model.quantization)",
        ),
    ];
    let ways = ways.into_iter();
    ways.filter_map(|(helps, way)| helps.then_some(way))
        .collect()
}

#[cfg(test)]
mod tests {
    use ls_lora::Quantization;
    use ls_model::Trained;

    use super::*;

    #[test]
    fn nothing_is_said_that_is_so_already() {
        let device = Device::flex();
        assert!(wider(&ComputeType::F32.into(), &device).is_empty());
        // Its activations are f32 there.
        assert!(wider(&ComputeType::Bf16.into(), &device).is_empty());
        let packed = Precision {
            compute: ComputeType::F32,
            quantization: Some(Quantization::Nf4),
            in_f32: Trained::Head,
        };
        assert_eq!(wider(&packed, &device).len(), 1);
    }
}
