//! [`rotary`] and [`attention_over_rectangle`]: the parts of attention over padded rows, where
//! there is no kernel of our own.
//!
//! The graph keeps queries, keys and values. Scores are formed again in the backward pass, some
//! rows of the batch at a time, so that what they take is bounded however many layers and rows
//! there are.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, FloatDType, Shape, Slice, Tensor};

use crate::autodiff::register;

/// Scores that are in memory at a time, unless one row of the batch has more: 256 MiB in f32.
const SCORES: usize = if cfg!(test) { 300 } else { 1 << 26 };

/// Turns the pairs `(i, i + head_dim / 2)` of every head of every token by the token's angles, as
/// transformers has them.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<3>::from_data([[[1.0, 2.0]]], &device);
/// // A right angle.
/// let (cos, sin) = (Tensor::from_data([[[0.0]]], &device), Tensor::from_data([[[1.0]]], &device));
/// let y = ls_ops::rotary(x, cos, sin);
/// assert_eq!(y.into_data().try_into_vec::<f32>().ok(), Some(vec![-2.0, 1.0]));
/// ```
///
/// # Shapes
///
/// - `x` and the output: `[tokens, heads, head_dim]`; `cos`, `sin`: `[tokens, 1, head_dim / 2]`, in
///   the dtype of `x`, constants
///
/// # Panics
///
/// If the shapes do not fit each other or `head_dim` is odd.
#[must_use]
pub fn rotary(x: Tensor<3>, cos: Tensor<3>, sin: Tensor<3>) -> Tensor<3> {
    let [tokens, _, head_dim] = x.dims();
    assert!(
        head_dim.is_multiple_of(2),
        "{head_dim} channels are no pairs"
    );
    for angles in [&cos, &sin] {
        assert_eq!(
            angles.dims(),
            [tokens, 1, head_dim / 2],
            "an angle for each pair of each token"
        );
    }
    if !crate::is_supported(&x.device()) {
        let half = |part: usize| {
            let range = part * head_dim / 2..(part + 1) * head_dim / 2;
            x.clone()
                .slice([Slice::full(), Slice::full(), range.into()])
        };
        let (first, second) = (half(0), half(1));
        let turned = vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ];
        return Tensor::cat(turned, 2);
    }
    Tensor::from_dispatch(<Dispatch as RectangleOps>::rotary(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
    ))
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` within each row, without the positions that are `blocked`
/// (`true` = not attended).
///
/// Query heads that share a key/value head are further queries of it. In f32 every step is f32; of
/// other dtypes the forward pass is burn's fused kernel, and the backward pass takes products in
/// that dtype and the softmax in f32. `causal` promises that `blocked` is the causal triangle
/// wherever results are used, so that a kernel may compute it from the places.
///
/// # Shapes
///
/// - `q` and the output: `[rows, kv_heads, queries, head_dim]`; `k`, `v`:
///   `[rows, kv_heads, keys, head_dim]`
/// - `blocked`: `[rows or 1, 1, queries, keys]`; every query has a key
///
/// # Panics
///
/// If the shapes do not fit each other, or `causal` comes without as many keys as queries.
#[must_use]
pub fn attention_over_rectangle(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    blocked: Option<Tensor<4, Bool>>,
    causal: bool,
) -> Tensor<4> {
    let [rows, heads, queries, width] = q.dims();
    let keys = k.dims()[2];
    assert_eq!(k.dims(), [rows, heads, keys, width], "keys fit the queries");
    assert_eq!(v.dims(), k.dims(), "values are shaped as keys");
    assert!(
        !causal || queries == keys && blocked.is_some(),
        "a triangle has as many keys as queries"
    );
    let sight = match &blocked {
        None => Sight::All,
        Some(_) if causal => Sight::Causal,
        Some(_) => Sight::Masked,
    };
    // An operation takes a tensor in any case; each row has its part of it, as a view.
    let blocked = blocked
        .unwrap_or_else(|| Tensor::zeros([1; 4], &q.device().inner()))
        .expand([rows, 1, queries, keys]);
    if !crate::is_supported(&q.device()) {
        let dtype = q.dtype();
        let scores = q.matmul(k.swap_dims(2, 3)).cast(DType::F32);
        let scores = scores.div_scalar((width as f64).sqrt());
        let scores = scores.mask_fill(blocked.expand([rows, heads, queries, keys]), -1e9);
        return burn::tensor::activation::softmax(scores, 3)
            .cast(dtype)
            .matmul(v);
    }
    Tensor::from_dispatch(<Dispatch as RectangleOps>::attention_over_rectangle(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        blocked.into_dispatch(),
        sight,
    ))
}

/// Which keys a query attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Every key.
    All,
    /// The keys up to their own place; the mask says so too.
    Causal,
    /// The keys that the mask does not block.
    Masked,
}

/// The operations, on every backend that this crate is built for. Bodies are the portable form,
/// which is all there is.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff
)]
pub(crate) trait RectangleOps: Backend {
    /// Every pair turned by its angle.
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [_, _, head_dim] = x.shape().dims();
        let half = |part: usize| {
            let range = part * head_dim / 2..(part + 1) * head_dim / 2;
            Self::float_slice(x.clone(), &[Slice::full(), Slice::full(), range.into()])
        };
        let (first, second) = (half(0), half(1));
        let turned = vec![
            Self::float_sub(
                Self::float_mul(first.clone(), cos.clone()),
                Self::float_mul(second.clone(), sin.clone()),
            ),
            Self::float_add(Self::float_mul(second, cos), Self::float_mul(first, sin)),
        ];
        Self::float_cat(turned, 2)
    }

    /// The output.
    fn attention_over_rectangle(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        sight: Sight,
    ) -> FloatTensor<Self> {
        if q.dtype() != DType::F32 {
            let blocked =
                (sight == Sight::Masked).then(|| Self::bool_expand(blocked, scores_shape(&q, &k)));
            let options = AttentionModuleOptions {
                is_causal: sight == Sight::Causal,
                ..AttentionModuleOptions::default()
            };
            return Self::attention(q, k, v, blocked, None, options);
        }
        // burn's kernels multiply in f16 where they are fast.
        let parts = parts(&q, &k).map(|part| {
            let [q, k, v] = [&q, &k, &v].map(|of| rows_of::<Self>(of, &part));
            let blocked = mask_of::<Self>(&blocked, sight, &part);
            Self::float_matmul(probabilities::<Self>(q, k, blocked), v)
        });
        joined::<Self>(parts.collect())
    }

    /// The gradients of queries, keys and values.
    fn attention_over_rectangle_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        sight: Sight,
        d_out: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = FloatDType::from(q.dtype());
        let scale = scale(&q);
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts(&q, &k) {
            let [q, k, v, d_out] = [&q, &k, &v, &d_out].map(|of| rows_of::<Self>(of, &part));
            let blocked = mask_of::<Self>(&blocked, sight, &part);
            let p = probabilities::<Self>(q.clone(), k.clone(), blocked);
            let d_p = Self::float_matmul(d_out.clone(), Self::float_transpose(v));
            let d_p = Self::float_cast(d_p, FloatDType::F32);
            let along = Self::float_sum_dim(Self::float_mul(p.clone(), d_p.clone()), 3);
            let d_scores = Self::float_mul(p.clone(), Self::float_sub(d_p, along));
            let d_scores = Self::float_mul_scalar(d_scores, scale.into());
            let d_scores = Self::float_cast(d_scores, dtype);
            let p = Self::float_cast(p, dtype);
            dv.push(Self::float_matmul(Self::float_transpose(p), d_out));
            dq.push(Self::float_matmul(d_scores.clone(), k));
            dk.push(Self::float_matmul(Self::float_transpose(d_scores), q));
        }
        (joined::<Self>(dq), joined::<Self>(dk), joined::<Self>(dv))
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl RectangleOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl RectangleOps for Flex {}

fn scale<T: TensorMetadata>(q: &T) -> f64 {
    let [_, _, _, width] = q.shape().dims();
    1.0 / (width as f64).sqrt()
}

fn scores_shape<T: TensorMetadata>(q: &T, k: &T) -> Shape {
    let ([rows, heads, queries, _], [_, _, keys, _]) = (q.shape().dims(), k.shape().dims());
    Shape::new([rows, heads, queries, keys])
}

/// Ranges of rows of the batch whose scores are in memory together.
fn parts<T: TensorMetadata>(q: &T, k: &T) -> impl Iterator<Item = Slice> + use<T> {
    let [rows, heads, queries, keys] = scores_shape(q, k).dims();
    let step = (SCORES / (heads * queries * keys).max(1)).clamp(1, rows.max(1));
    (0..rows)
        .step_by(step)
        .map(move |start| (start..(start + step).min(rows)).into())
}

fn rows_of<B: Backend>(of: &FloatTensor<B>, part: &Slice) -> FloatTensor<B> {
    let full = Slice::full();
    B::float_slice(of.clone(), &[*part, full, full, full])
}

fn mask_of<B: Backend>(of: &BoolTensor<B>, sight: Sight, part: &Slice) -> Option<BoolTensor<B>> {
    let full = Slice::full();
    (sight != Sight::All).then(|| B::bool_slice(of.clone(), &[*part, full, full, full]))
}

fn joined<B: Backend>(mut parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        B::float_cat(parts, 0)
    }
}

/// `softmax(q kᵀ / sqrt(head_dim))` in f32, the products in the dtype of `q`.
fn probabilities<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    blocked: Option<BoolTensor<B>>,
) -> FloatTensor<B> {
    let (scale, shape) = (scale(&q), scores_shape(&q, &k));
    let scores = B::float_matmul(q, B::float_transpose(k));
    let scores = B::float_cast(scores, FloatDType::F32);
    let mut scores = B::float_mul_scalar(scores, scale.into());
    if let Some(blocked) = blocked {
        // Finite, so that no row can become NaN.
        scores = B::float_mask_fill(scores, B::bool_expand(blocked, shape), (-1e9f32).into());
    }
    B::softmax(scores, 3)
}

impl<B: RectangleOps, C: CheckpointStrategy> RectangleOps for Autodiff<B, C> {
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RotaryBackward;

        impl<B: RectangleOps> Backward<B, 1> for RotaryBackward {
            type State = (FloatTensor<B>, FloatTensor<B>);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let (cos, sin) = ops.state;
                // Back by the same angle.
                unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                    B::rotary(dy, cos, B::float_neg(sin))
                });
            }
        }

        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let prep = RotaryBackward.prepare::<C>([x.node()]);
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::rotary(x.into_primitive(), cos.clone(), sin.clone());
                prep.finish((cos, sin), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rotary(x.into_primitive(), cos, sin)),
        }
    }

    fn attention_over_rectangle(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        blocked: BoolTensor<Self>,
        sight: Sight,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RectangleBackward;

        #[derive(Debug, Clone)]
        struct State<B: Backend> {
            q: FloatTensor<B>,
            k: FloatTensor<B>,
            v: FloatTensor<B>,
            blocked: BoolTensor<B>,
            sight: Sight,
        }

        impl<B: RectangleOps> Backward<B, 3> for RectangleBackward {
            type State = State<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let d_out = grads.consume::<B>(&ops.node);
                let State {
                    q,
                    k,
                    v,
                    blocked,
                    sight,
                } = ops.state;
                let (dq, dk, dv) =
                    B::attention_over_rectangle_backward(q, k, v, blocked, sight, d_out);
                let [q, k, v] = ops.parents.map(|node| node.map(|node| node.id));
                register::<B>(grads, q, || dq);
                register::<B>(grads, k, || dk);
                register::<B>(grads, v, || dv);
            }
        }

        let prep = RectangleBackward.prepare::<C>([q.node(), k.node(), v.node()]);
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::attention_over_rectangle(
                    q.clone(),
                    k.clone(),
                    v.clone(),
                    blocked.clone(),
                    sight,
                );
                prep.finish(
                    State::<B> {
                        q,
                        k,
                        v,
                        blocked,
                        sight,
                    },
                    out,
                )
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::attention_over_rectangle(q, k, v, blocked, sight))
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn constant<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
        let numbers: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
            .collect();
        Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
    }

    fn leaf<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
        constant(shape, seed).autodiff().require_grad()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        let data = tensor.cast(DType::F32).into_data();
        data.try_into_vec().unwrap()
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        let size = expected.iter().fold(1.0f32, |max, v| max.max(v.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let difference = (found - expected).abs();
            assert!(
                difference <= tolerance * size,
                "{found}, expected {expected}"
            );
        }
    }

    #[test]
    fn rotary_turns_pairs_half_a_head_apart_and_its_gradient_back() {
        let (tokens, heads, half) = (3, 2, 3);
        let angles = constant([tokens, 1, half], 9).mul_scalar(3.0);
        let (cos, sin) = (angles.clone().cos(), angles.clone().sin());
        let x = leaf([tokens, heads, 2 * half], 1);
        let y = rotary(x.clone(), cos.clone(), sin.clone());
        let (from, to) = (values(x.clone()), values(y.clone()));
        let angles = values(angles);
        for (at, (from, to)) in from.chunks(2 * half).zip(to.chunks(2 * half)).enumerate() {
            for pair in 0..half {
                let (sin, cos) = angles[at / heads * half + pair].sin_cos();
                let (a, b) = (from[pair], from[pair + half]);
                let turned = [a * cos - b * sin, b * cos + a * sin];
                assert_near(&[to[pair], to[pair + half]], &turned, 1e-6);
            }
        }
        assert_eq!(
            values(rotary(x.clone().inner(), cos.clone(), sin.clone())),
            to
        );
        // A rotation is orthogonal: its transpose turns back.
        let dy = constant(y.dims(), 4);
        let gradients = (y * dy.clone()).sum().backward();
        let back = rotary(dy, cos, sin.neg());
        assert_eq!(values(x.grad(&gradients).unwrap()), values(back));
    }

    fn plain(x: &[Tensor<4>; 3], blocked: Option<Tensor<4, Bool>>) -> Tensor<4> {
        let [q, k, v] = x.clone();
        let [rows, heads, queries, width] = q.dims();
        let keys = k.dims()[2];
        let scores = q
            .matmul(k.swap_dims(2, 3))
            .div_scalar((width as f64).sqrt());
        let scores = match blocked {
            Some(blocked) => scores.mask_fill(blocked.expand([rows, heads, queries, keys]), -1e9),
            None => scores,
        };
        softmax(scores, 3).matmul(v)
    }

    /// Every fourth position or so, and never a query's last key.
    fn holes(rows: usize, queries: usize, keys: usize) -> Tensor<4, Bool> {
        let holes: Vec<bool> = (0..rows * queries * keys)
            .map(|i| (i * 31) % 7 < 3 && i % keys != keys - 1)
            .collect();
        Tensor::from_data(
            TensorData::new(holes, [rows, 1, queries, keys]),
            &Device::flex(),
        )
    }

    /// Every key but one, another one for each query.
    fn all_but_one(queries: usize, keys: usize) -> Tensor<4, Bool> {
        let blocked: Vec<bool> = (0..queries * keys)
            .map(|i| i % keys != (i / keys * 5 + 1) % keys)
            .collect();
        Tensor::from_data(
            TensorData::new(blocked, [1, 1, queries, keys]),
            &Device::flex(),
        )
    }

    fn triangle(size: usize) -> Tensor<4, Bool> {
        Tensor::<2, Bool>::tril_mask([size, size], 0, &Device::flex()).unsqueeze()
    }

    #[test]
    fn attention_is_the_plain_form_in_parts_and_whole() {
        // The first goes whole, the second in parts of one and two rows, the last a row at a time.
        for [rows, heads, queries, keys, width] in
            [[1, 1, 1, 1, 1], [5, 2, 7, 10, 4], [3, 4, 12, 12, 6]]
        {
            let q = leaf([rows, heads, queries, width], 1);
            let k = leaf([rows, heads, keys, width], 2);
            let leaves = [q, k, leaf([rows, heads, keys, width], 3)];
            let mut masks = vec![
                (None, false),
                (Some(holes(1, queries, keys)), false),
                (Some(holes(rows, queries, keys)), false),
                (Some(all_but_one(queries, keys)), false),
            ];
            if queries == keys {
                masks.push((Some(triangle(keys)), true));
            }
            for (blocked, causal) in masks {
                let fused = |x: &[Tensor<4>; 3]| {
                    let [q, k, v] = x.clone();
                    // Large scores, so that the softmax is far from even.
                    attention_over_rectangle(q.mul_scalar(9.0), k, v, blocked.clone(), causal)
                };
                let y = fused(&leaves);
                let [q, k, v] = leaves.clone();
                let expected = plain(&[q.mul_scalar(9.0), k, v], blocked.clone());
                assert_near(&values(y.clone()), &values(expected.clone()), 2e-6);
                let inner = leaves.clone().map(Tensor::inner);
                assert_eq!(values(fused(&inner)), values(y.clone()));
                let weighing = constant(y.dims(), 77);
                let found = (y * weighing.clone()).sum().backward();
                let expected = (expected * weighing).sum().backward();
                for leaf in &leaves {
                    let (found, expected) = (leaf.grad(&found), leaf.grad(&expected));
                    assert_near(&values(found.unwrap()), &values(expected.unwrap()), 5e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let shape = [2, 2, 3, 4];
        let angles = constant([6, 1, 2], 9);
        for (blocked, causal) in [
            (None, false),
            (Some(triangle(3)), true),
            (Some(all_but_one(3, 3)), false),
        ] {
            let f = |[q, k, v]: [Tensor<4>; 3]| {
                let q = rotary(
                    q.reshape([6, 2, 4]),
                    angles.clone().cos(),
                    angles.clone().sin(),
                );
                attention_over_rectangle(q.reshape(shape), k, v, blocked.clone(), causal)
            };
            let leaves = [1, 2, 3].map(|seed| leaf(shape, seed));
            let weights = constant(shape, 77);
            let gradients = (f(leaves.clone()) * weights.clone()).sum().backward();
            let loss = |leaves: [Tensor<4>; 3]| -> f64 {
                let products = values(f(leaves)).into_iter().zip(values(weights.clone()));
                products.map(|(y, w)| f64::from(y) * f64::from(w)).sum()
            };
            for (at, leaf) in leaves.iter().enumerate() {
                let found = values(leaf.grad(&gradients).unwrap());
                for element in [0, 13, 29, 47] {
                    let moved = |by: f32| {
                        let mut moved = values(leaf.clone().inner());
                        moved[element] += by;
                        let mut leaves = leaves.clone().map(Tensor::inner);
                        leaves[at] =
                            Tensor::from_data(TensorData::new(moved, shape), &Device::flex());
                        loss(leaves)
                    };
                    let step = 5e-3;
                    let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
                    let difference = (f64::from(found[element]) - expected).abs();
                    assert!(
                        difference < 3e-3 * expected.abs().max(1.0),
                        "leaf {at}, element {element}: {} against {expected}",
                        found[element]
                    );
                }
            }
        }
    }

    #[test]
    fn attention_in_bf16_is_near_that_in_f32() {
        let size = 12;
        for (blocked, causal) in [
            (None, false),
            (Some(holes(3, size, size)), false),
            (Some(triangle(size)), true),
            (Some(all_but_one(size, size)), false),
        ] {
            let results = [DType::BF16, DType::F32].map(|dtype| {
                let leaves = [1, 2, 3].map(|seed| {
                    let rounded = constant([3, 2, size, 8], seed).cast(DType::BF16);
                    rounded.cast(dtype).autodiff().require_grad()
                });
                let [q, k, v] = leaves.clone();
                let y = attention_over_rectangle(q, k, v, blocked.clone(), causal);
                assert_eq!(y.dtype(), dtype);
                let weighing = constant(y.dims(), 77).cast(DType::BF16).cast(dtype);
                let gradients = (y.clone() * weighing).sum().backward();
                let mut all = vec![values(y)];
                all.extend(leaves.map(|leaf| values(leaf.grad(&gradients).unwrap())));
                all
            });
            for (found, expected) in results[0].iter().zip(&results[1]) {
                assert_near(found, expected, 2e-2);
            }
        }
    }
}
