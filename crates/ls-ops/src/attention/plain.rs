//! [`attention`](crate::attention()) in burn's own operations, a segment at a time: for backends
//! that this crate has no operations for.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Tensor, TensorData};

use super::plan::{AttentionPlan, RotaryTable, Segment};

/// As [`attention`](crate::attention()), the softmax in f32 whatever the dtype.
pub(super) fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    plan: &AttentionPlan,
) -> Tensor<2> {
    let [_, width] = q.dims();
    if plan.segments.is_empty() {
        return q;
    }
    let q = turned(q, plan.heads, &plan.query_rotation);
    let k = turned(k, plan.kv_heads, &plan.key_rotation);
    let [tokens, kv_width] = v.dims();
    let v = v.reshape([tokens, plan.kv_heads, kv_width / plan.kv_heads]);
    let rows = plan.segments.iter().map(|segment| {
        let of = |x: &Tensor<3>, tokens: &std::ops::Range<usize>| x.clone().slice([tokens.clone()]);
        let (queries, keys) = (segment.queries.len(), segment.keys.len());
        let (groups, dim) = (plan.heads / plan.kv_heads, plan.head_dim);
        // Query heads that share a key head are further queries of it.
        let q = of(&q, &segment.queries)
            .reshape([queries, plan.kv_heads, groups * dim])
            .swap_dims(0, 1)
            .reshape([plan.kv_heads, queries * groups, dim]);
        let k = of(&k, &segment.keys).swap_dims(0, 1); // [kv_heads, keys, head_dim]
        let v = of(&v, &segment.keys).swap_dims(0, 1);
        let scores = q.matmul(k.swap_dims(1, 2)).cast(DType::F32);
        let scores = scores.mul_scalar(plan.scale);
        let scores = match plan.soft_cap {
            None => scores,
            Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
        };
        let blocked = blocked(plan, segment, groups, &scores);
        let scores = scores.mask_fill(
            blocked.expand([plan.kv_heads, queries * groups, keys]),
            -1e9,
        );
        let p = softmax(scores, 2).cast(v.dtype());
        p.matmul(v)
            .reshape([plan.kv_heads, queries, groups * dim])
            .swap_dims(0, 1)
            .reshape([queries, width])
    });
    Tensor::cat(rows.collect(), 0)
}

/// The heads of `[tokens, heads * head_dim]`, turned by the tokens' angles.
fn turned(x: Tensor<2>, heads: usize, table: &RotaryTable) -> Tensor<3> {
    let [tokens, width] = x.dims();
    let (dim, pairs) = (width / heads, table.pairs);
    if pairs == 0 {
        return x.reshape([tokens, heads, dim]);
    }
    let (device, dtype) = (x.device().inner(), x.dtype());
    let angles = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [tokens, 1, pairs]);
        let angles: Tensor<3> = Tensor::from_data(data, (&device, DType::F32));
        angles.cast(dtype)
    };
    let (cos, sin) = (angles(&table.cos), angles(&table.sin));
    let x = x.reshape([tokens, heads, dim]);
    let first = x.clone().narrow(2, 0, pairs);
    let second = x.clone().narrow(2, pairs, pairs);
    let mut turned = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    if dim > 2 * pairs {
        turned.push(x.narrow(2, 2 * pairs, dim - 2 * pairs));
    }
    Tensor::cat(turned, 2)
}

/// The keys that a segment's queries do not see, `[1, queries * groups, keys]`.
fn blocked(
    plan: &AttentionPlan,
    segment: &Segment,
    groups: usize,
    beside: &Tensor<3>,
) -> Tensor<3, Bool> {
    let (queries, keys) = (segment.queries.len(), segment.keys.len());
    let mut blocked = Vec::with_capacity(queries * groups * keys);
    for query in 0..queries {
        let visible = plan.visible(segment.first + query, keys);
        for _ in 0..groups {
            blocked.extend((0..keys).map(|key| !visible.contains(&key)));
        }
    }
    let data = TensorData::new(blocked, [1, queries * groups, keys]);
    Tensor::from_data(data, &beside.device().inner())
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::Device;

    use super::*;

    /// The fused operation is tested against other forms in `tests/operations.rs`; this form
    /// against it.
    #[test]
    fn the_plain_form_gives_what_the_fused_one_gives() {
        let device = Device::flex();
        let lengths = [5, 1, 3];
        let tokens: usize = lengths.iter().sum();
        for (heads, kv_heads) in [(4, 2), (2, 2), (3, 1)] {
            for bidirectional in [false, true] {
                for window in [None, Some(1), Some(2), Some(9)] {
                    for (pooled, pairs) in [(false, 2), (true, 2), (false, 1), (true, 0)] {
                        let mut start = 0;
                        let segments: Vec<Segment> = lengths
                            .iter()
                            .enumerate()
                            .map(|(row, &length)| {
                                let keys = start..start + length;
                                start += length;
                                let (queries, first) = if pooled {
                                    (row..row + 1, length / 2)
                                } else {
                                    (keys.clone(), 0)
                                };
                                Segment {
                                    queries,
                                    keys,
                                    first,
                                }
                            })
                            .collect();
                        let queries = if pooled { lengths.len() } else { tokens };
                        let table = |tokens: usize| {
                            let angles = (0..tokens * pairs).map(|i| i as f32 * 0.3);
                            Arc::new(RotaryTable {
                                pairs,
                                cos: angles.clone().map(f32::cos).collect(),
                                sin: angles.map(f32::sin).collect(),
                            })
                        };
                        let plan = Arc::new(AttentionPlan {
                            segments,
                            heads,
                            kv_heads,
                            head_dim: 4,
                            scale: 0.4,
                            soft_cap: window.map(|_| 1.5),
                            bidirectional,
                            window,
                            query_rotation: table(queries),
                            key_rotation: table(tokens),
                            placed: Default::default(),
                        });
                        let waves = |shape: [usize; 2], step: f32| {
                            let at = 0..shape[0] * shape[1];
                            let values: Vec<f32> =
                                at.map(|at| 1.5 * (at as f32 * step).sin()).collect();
                            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
                        };
                        let q = waves([queries, heads * 4], 2.3);
                        let k = waves([tokens, kv_heads * 4], 1.7);
                        let v = waves([tokens, kv_heads * 4], 3.1);
                        let fused = crate::attention(q.clone(), k.clone(), v.clone(), &plan);
                        let plain = attention(q, k, v, &plan);
                        assert!(
                            plain.all_close(fused, Some(1e-5), Some(1e-5)),
                            "{heads} {kv_heads} {bidirectional} {window:?} {pooled} {pairs}"
                        );
                    }
                }
            }
        }
    }
}
