//! The weighted sum of adapters on one layer, by the formulas of peft 0.21.2's `add_weighted_adapter`.

use burn::module::Param;
use burn::tensor::{DType, Tensor};

use crate::adapter::{LoraAdapter, plain};
use crate::error::{LoraError, Result};
use crate::init::trainable;
use crate::model::Combination;

/// An inactive adapter of rank `r` and scaling 1 that is the weighted sum of others.
pub(crate) fn combined(
    name: &str,
    parts: &[(&LoraAdapter, f64)],
    combination: Combination,
    r: usize,
) -> Result<LoraAdapter> {
    let factors = parts.iter().map(|(adapter, weight)| {
        let (a, b) = converted_factors(adapter);
        (a, b, weight * adapter.scaling)
    });
    let (a, b) = match combination {
        Combination::Cat => {
            let (a, b): (Vec<_>, Vec<_>) = factors
                .map(|(a, b, weight)| (a.mul_scalar(weight), b))
                .unzip();
            (Tensor::cat(a, 1), Tensor::cat(b, 0))
        }
        Combination::Linear => {
            // The root of the weight on either side, its sign on one.
            let mut sums: Option<(Tensor<2>, Tensor<2>)> = None;
            for (a, b, weight) in factors {
                let root = weight.abs().sqrt();
                let a = a.mul_scalar(root * if weight < 0.0 { -1.0 } else { 1.0 });
                let b = b.mul_scalar(root);
                sums = Some(match sums {
                    None => (a, b),
                    Some((sum_a, _)) if sum_a.dims() != a.dims() => {
                        return Err(LoraError::Incompatible {
                            action: "combine adapters",
                            reason: format!(
                                "a linear combination needs one rank, not {} and {}",
                                sum_a.dims()[1],
                                a.dims()[1]
                            ),
                        });
                    }
                    Some((sum_a, sum_b)) => (sum_a + a, sum_b + b),
                });
            }
            let Some(sums) = sums else {
                return Err(LoraError::Incompatible {
                    action: "combine adapters",
                    reason: "none was named".to_owned(),
                });
            };
            sums
        }
    };
    let (a, b) = padded(a, b, r);
    let like = parts.first().map(|(adapter, _)| adapter);
    let device = like.map_or_else(|| a.device(), |adapter| adapter.lora_a.val().device());
    let frozen = |value| -> Param<Tensor<2>> { trainable(value, &device).set_require_grad(false) };
    Ok(LoraAdapter {
        lora_a: frozen(a),
        lora_b: frozen(b),
        dora: None,
        start: None,
        scaling: 1.0,
        dropout: like.map_or(0.0, |adapter| adapter.dropout),
        active: false,
        name: name.to_owned(),
    })
}

/// The factors off the graph with a start, if there is one, as their second half.
fn converted_factors(adapter: &LoraAdapter) -> (Tensor<2>, Tensor<2>) {
    let (a, b) = adapter.plain_factors();
    match &adapter.start {
        None => (a, b),
        Some(start) => (
            Tensor::cat(vec![a, plain(start.lora_a.clone())], 1),
            Tensor::cat(vec![b, plain(start.lora_b.clone()).neg()], 0),
        ),
    }
}

/// Zeros up to the rank that the configuration says, where a layer does not have all the adapters.
fn padded(a: Tensor<2>, b: Tensor<2>, r: usize) -> (Tensor<2>, Tensor<2>) {
    let ([d_in, rank], [_, d_out]) = (a.dims(), b.dims());
    if rank >= r {
        return (a, b);
    }
    let zeros = |shape: [usize; 2]| Tensor::zeros(shape, (&a.device(), DType::F32));
    let (below, beside) = (zeros([d_in, r - rank]), zeros([r - rank, d_out]));
    (
        Tensor::cat(vec![a, below], 1),
        Tensor::cat(vec![b, beside], 0),
    )
}
