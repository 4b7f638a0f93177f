//! How fresh factors start: PEFT's initialisations, as formulas of peft 0.21.2.
//!
//! A frozen weight is `[in, out]` here, the transpose of PEFT's, so its left and right factors
//! change places.

use burn::module::Param;
use burn::tensor::{DType, Device, Distribution, Tensor};

use crate::adapter::{Dora, LoraAdapter, Start, column_norm_squared};
use crate::config::{InitLoraWeights, LoraConfig};
use crate::draws::Draws;
use crate::dtype::{host_values, matrix, plain};
use crate::error::{LoraError, Result};
use crate::layer::{LayerKind, LoraLayer};

/// Bound on the QR sweeps per singular value; LAPACK's is 6.
const SWEEPS: usize = 60;

/// A fresh adapter for a layer, as the configuration starts it. The parameters are trainable when
/// the device is an autodiff device.
pub(crate) fn fresh_adapter(
    layer: &dyn LoraLayer,
    name: &str,
    module: &str,
    config: &LoraConfig,
    draws: &mut Draws,
    device: &Device,
) -> Result<LoraAdapter> {
    let shape = layer.shape();
    let r = config.rank_of(module);
    let scaling = config.scaling_of(module);
    let (factors, start) = match layer.kind() {
        LayerKind::Embedding => (embedding_factors(shape, r, draws, device), None),
        LayerKind::Linear => {
            let init = config.init_lora_weights;
            let factors = linear_factors(layer, r, scaling, init, draws, device)?;
            let start = init.has_start().then(|| Start {
                lora_a: plain(factors.0.clone()),
                lora_b: plain(factors.1.clone()),
            });
            (factors, start)
        }
    };
    let dropout = match layer.kind() {
        LayerKind::Linear => config.lora_dropout,
        LayerKind::Embedding => 0.0,
    };
    let mut adapter = LoraAdapter {
        lora_a: trainable(factors.0, device),
        lora_b: trainable(factors.1, device),
        dora: None,
        start,
        scaling,
        dropout,
        active: true,
        name: name.to_owned(),
    };
    if config.use_dora {
        let base_norm_squared = column_norm_squared(finite(layer.weight())?);
        let norm = column_norm_squared(layer.weight() + adapter.delta_weight()).sqrt();
        adapter.dora = Some(Dora {
            magnitude: trainable(norm, device),
            base_norm_squared,
        });
    }
    Ok(adapter)
}

/// A parameter with this value; trainable on an autodiff device.
pub(crate) fn trainable<const D: usize>(value: Tensor<D>, device: &Device) -> Param<Tensor<D>> {
    let value = plain(value);
    Param::from_tensor(if device.is_autodiff() {
        value.autodiff().require_grad()
    } else {
        value
    })
}

/// The start that a saved adapter has, for one that was saved with its factors as they are in
/// training.
pub(crate) fn saved_start(
    layer: &dyn LoraLayer,
    module: &str,
    r: usize,
    scaling: f64,
    init: InitLoraWeights,
    device: &Device,
) -> Result<Option<Start>> {
    if !init.has_start() || layer.kind() == LayerKind::Embedding {
        return Ok(None);
    }
    let [in_features, out_features] = layer.shape();
    if r > in_features.min(out_features) {
        return Err(LoraError::RankTooLarge {
            module: module.to_owned(),
            r,
            in_features,
            out_features,
        });
    }
    // What power iterations find depends little on where they begin.
    let (lora_a, lora_b) = linear_factors(layer, r, scaling, init, &mut Draws::new(0), device)?;
    Ok(Some(Start { lora_a, lora_b }))
}

type Factors = (Tensor<2>, Tensor<2>);

fn embedding_factors(
    [rows, width]: [usize; 2],
    r: usize,
    draws: &mut Draws,
    device: &Device,
) -> Factors {
    let device = &device.clone().inner();
    (
        Tensor::zeros([rows, r], (device, DType::F32)),
        draws.next([r, width], Distribution::Normal(0.0, 1.0), device),
    )
}

fn linear_factors(
    layer: &dyn LoraLayer,
    r: usize,
    scaling: f64,
    init: InitLoraWeights,
    draws: &mut Draws,
    device: &Device,
) -> Result<Factors> {
    let [d_in, d_out] = layer.shape();
    let device = &device.clone().inner();
    let options = (device, DType::F32);
    let mut random = |shape, distribution| draws.next(shape, distribution, device);
    let normal = Distribution::Normal(0.0, 1.0);
    Ok(match init {
        InitLoraWeights::Default => {
            let bound = 1.0 / (d_in as f64).sqrt();
            let a = random([d_in, r], Distribution::Uniform(-bound, bound));
            (a, Tensor::zeros([r, d_out], options))
        }
        InitLoraWeights::Gaussian => {
            let a = random([d_in, r], Distribution::Normal(0.0, 1.0 / r as f64));
            (a, Tensor::zeros([r, d_out], options))
        }
        InitLoraWeights::Orthogonal => {
            let (odd, even) = halves(&orthonormal_rows(&host_values(random([r, r], normal)), r));
            let odd = matrix(odd, [r / 2, r], device);
            let even = matrix(even, [r / 2, r], device);
            let a = random([d_in, r / 2], normal).matmul(odd);
            let b = even.transpose().matmul(random([r / 2, d_out], normal));
            (a.div_scalar(10.0), b.div_scalar(10.0))
        }
        InitLoraWeights::Olora => {
            let weight = finite(layer.weight())?.to_device(device);
            // PEFT's W is the transpose, so the first r columns of its Q come from our first r
            // rows.
            let first = host_values(weight.clone().slice([0..r, 0..d_out]));
            let b = matrix(orthonormal_rows(&first, d_out), [r, d_out], device);
            (weight.matmul(b.clone().transpose()), b)
        }
        InitLoraWeights::Pissa { niter } => {
            let weight = finite(layer.weight())?.to_device(device);
            let (u, s, vt) = match niter {
                None => burn::linalg::svd::<2, 1>(weight, SWEEPS),
                Some(niter) => truncated_svd(weight, random([r, d_out], normal), niter),
            };
            let root = s.slice(0..r).div_scalar(scaling).sqrt();
            let a = u.slice([0..d_in, 0..r]) * root.clone().unsqueeze();
            let b = vt.slice([0..r, 0..d_out]) * root.unsqueeze_dim(1);
            (a, b)
        }
    })
}

/// Decompositions of NaN do not end well.
fn finite(weight: Tensor<2>) -> Result<Tensor<2>> {
    let sum = host_values(weight.clone().abs().sum());
    if sum.first().is_some_and(|sum| sum.is_finite()) {
        Ok(weight)
    } else {
        Err(LoraError::NonFiniteWeight)
    }
}

/// The `r` largest singular values and their vectors by power iterations from a random start,
/// `[r, out]` (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 5.1), as
/// `torch.svd_lowrank` has it: `[in, r]`, `[r]`, `[r, out]`.
fn truncated_svd(
    weight: Tensor<2>,
    start: Tensor<2>,
    niter: usize,
) -> (Tensor<2>, Tensor<1>, Tensor<2>) {
    let device = weight.device();
    let ([d_in, _], [r, _]) = (weight.dims(), start.dims());
    let transposed = weight.clone().transpose();
    // Columns that span a range are kept as rows.
    let orthonormal = |rows: Tensor<2>| {
        let [n, width] = rows.dims();
        matrix(
            orthonormal_rows(&host_values(rows), width),
            [n, width],
            &device,
        )
    };
    let mut range = orthonormal(start.matmul(transposed.clone())); // [r, in]
    for _ in 0..niter {
        let other = orthonormal(range.matmul(weight.clone())); // [r, out]
        range = orthonormal(other.matmul(transposed.clone()));
    }
    let small = range.clone().matmul(weight); // [r, out]
    let (u, s, vt) = burn::linalg::svd::<2, 1>(small, SWEEPS);
    let u = range.transpose().matmul(u).reshape([d_in, r]);
    (u, s, vt)
}

/// Rows made orthonormal in their order (Gram-Schmidt, twice, in f64). A row without a direction of
/// its own gets one.
fn orthonormal_rows(values: &[f32], width: usize) -> Vec<f32> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut done: Vec<Vec<f64>> = Vec::new();
    for row in values.chunks(width) {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let units = (0..width).map(|at| {
            let mut unit = vec![0.0; width];
            unit[at] = 1.0;
            unit
        });
        for mut candidate in std::iter::once(row).chain(units) {
            let before = dot(&candidate, &candidate).sqrt();
            for _ in 0..2 {
                for other in &done {
                    let along = dot(&candidate, other);
                    candidate
                        .iter_mut()
                        .zip(other)
                        .for_each(|(v, o)| *v -= along * o);
                }
            }
            let length = dot(&candidate, &candidate).sqrt();
            // What is left of a dependent row is rounding of f32 values.
            if length > 1e-6 * before && length > 0.0 {
                candidate.iter_mut().for_each(|v| *v /= length);
                done.push(candidate);
                break;
            }
        }
    }
    done.into_iter().flatten().map(|v| v as f32).collect()
}

/// The rows with even and with odd index of a square matrix.
fn halves(square: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let r = square.len().isqrt();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (at, row) in square.chunks(r.max(1)).enumerate() {
        if at % 2 == 0 { &mut first } else { &mut second }.extend_from_slice(row);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependent_rows_get_directions_of_their_own() {
        let rows = [1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 0.0, 0.0, 0.0];
        let q = orthonormal_rows(&rows, 3);
        assert_eq!(q.len(), 9);
        for i in 0..3 {
            for j in 0..3 {
                let dot: f32 = (0..3).map(|k| q[i * 3 + k] * q[j * 3 + k]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-6, "{i} {j} {dot}");
            }
        }
        assert!((q[0] - 1.0 / 3.0).abs() < 1e-6);
    }
}
