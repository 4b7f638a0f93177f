//! Attention over a batch whose rows lie end to end: what the layers share for one batch, and two
//! ways to compute it.
//!
//! On the CPU, [`ls_ops::attention()`] takes the rows as they lie. Elsewhere the rows are padded to
//! a rectangle, attended under a mask, and gathered back.

use std::sync::Arc;

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use ls_ops::{AttentionPlan, RotaryTable, Segment};

use crate::input::{ModelInput, mixed_seed};
use crate::mask::Visibility;
use crate::rope::RopeConfig;
use crate::rotation::Rotation;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv: usize,
    /// Width of a head.
    pub dim: usize,
}

/// One token of each row: the ones whose hidden states the head reads.
pub(crate) struct Pooled {
    /// Their places among all tokens, `[batch]`.
    index: Tensor<1, Int>,
    /// The same on the host.
    places: Vec<usize>,
    /// Their places within their rows.
    in_row: Vec<usize>,
}

impl Pooled {
    /// The last token of each row's text.
    pub(crate) fn last(input: &ModelInput) -> Self {
        let mut start = 0;
        let places: Vec<usize> = input
            .lengths
            .iter()
            .zip(&input.last)
            .map(|(&length, &last)| {
                start += length;
                start - length + last
            })
            .collect();
        let index: Vec<i32> = places.iter().map(|&place| place as i32).collect();
        let shape = [index.len()];
        Self {
            index: Tensor::from_data(TensorData::new(index, shape), &input.input_ids.device()),
            places,
            in_row: input.last.clone(),
        }
    }

    /// The rows of these tokens: `[tokens, width]` -> `[batch, width]`.
    pub(crate) fn of(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.index.clone())
    }
}

/// What the layers share for one batch.
pub(crate) struct BatchContext<'a> {
    input: &'a ModelInput,
    device: Device,
    rotation: Angles,
    /// Layers with the same visibility share a view.
    views: Vec<(Visibility, View)>,
}

/// The angles of the rotary embedding, where attention reads them.
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Angles {
    Host(Arc<RotaryTable>),
    Device(Rotation),
}

/// What attention needs of the layers with one visibility.
#[expect(
    clippy::large_enum_variant,
    reason = "there are as many as kinds of layers"
)]
enum View {
    /// For the fused operation.
    Rows(Arc<AttentionPlan>),
    /// For the rectangle: blocked positions (`true` = not attended),
    /// `[batch or 1, 1, groups * longest, longest]`; `None` if nothing is blocked.
    Rectangle(Option<Tensor<4, Bool>>),
}

impl<'a> BatchContext<'a> {
    /// `x` is the input of the first block.
    pub(crate) fn new(input: &'a ModelInput, rope: &RopeConfig, x: &Tensor<2>) -> Self {
        Self::with_rows(ls_ops::is_host(&x.device()), input, rope, x)
    }

    /// `as_they_lie` chooses between the two ways; tests compare them.
    fn with_rows(
        as_they_lie: bool,
        input: &'a ModelInput,
        rope: &RopeConfig,
        x: &Tensor<2>,
    ) -> Self {
        let device = x.device();
        let rotation = if as_they_lie {
            Angles::Host(Arc::new(rope.table(&input.lengths)))
        } else {
            let rotation = rope.rotation(&input.lengths, &device);
            Angles::Device(match x.dtype() {
                DType::F32 => rotation,
                dtype => rotation.cast(dtype),
            })
        };
        Self {
            input,
            device,
            rotation,
            views: Vec::new(),
        }
    }

    /// Seeds the device with the block's own part of the batch's dropout seed.
    pub(crate) fn seed_dropout(&self, block: usize) {
        if let Some(seed) = self.input.dropout_seed {
            self.device.seed(mixed_seed(seed, block));
        }
    }

    /// Attention of one layer.
    ///
    /// `project(queries, x)` gives queries of its first argument, keys and values of its second.
    /// With `pooled` the queries are the pooled tokens'.
    ///
    /// # Shapes
    ///
    /// - `x`: `[tokens, hidden_size]`; output: `[tokens, heads * head_dim]`, with `pooled`
    ///   `[batch, heads * head_dim]`
    pub(crate) fn attend(
        &mut self,
        x: Tensor<2>,
        heads: Heads,
        visibility: Visibility,
        pooled: Option<&Pooled>,
        project: impl FnOnce(Tensor<2>, Tensor<2>) -> [Tensor<2>; 3],
    ) -> Tensor<2> {
        match &self.rotation {
            Angles::Host(table) => {
                let plan = match pooled {
                    // One layer alone has pooled queries.
                    Some(pooled) => Arc::new(self.plan(table, heads, visibility, Some(pooled))),
                    None => match self.view(visibility) {
                        Some(View::Rows(plan)) => plan.clone(),
                        _ => {
                            let plan = Arc::new(self.plan(table, heads, visibility, None));
                            self.views.push((visibility, View::Rows(plan.clone())));
                            plan
                        }
                    },
                };
                let queries = match pooled {
                    Some(pooled) => pooled.of(x.clone()),
                    None => x.clone(),
                };
                let [q, k, v] = project(queries, x);
                ls_ops::attention(q, k, v, &plan)
            }
            Angles::Device(rotation) => {
                let groups = heads.heads / heads.kv;
                let lengths = &self.input.lengths;
                let blocked = match pooled {
                    Some(pooled) => {
                        visibility.blocked(lengths, Some(&pooled.in_row), groups, &x.device())
                    }
                    None => match self.view(visibility) {
                        Some(View::Rectangle(blocked)) => blocked.clone(),
                        _ => {
                            let blocked = visibility.blocked(lengths, None, groups, &x.device());
                            self.views
                                .push((visibility, View::Rectangle(blocked.clone())));
                            blocked
                        }
                    },
                };
                let queries = match pooled {
                    Some(pooled) => pooled.of(x.clone()),
                    None => x.clone(),
                };
                let qkv = project(queries, x);
                over_rectangle(
                    qkv, blocked, visibility, self.input, pooled, rotation, heads,
                )
            }
        }
    }

    fn view(&self, visibility: Visibility) -> Option<&View> {
        let view = self.views.iter().find(|(of, _)| *of == visibility);
        view.map(|(_, view)| view)
    }

    fn plan(
        &self,
        table: &Arc<RotaryTable>,
        heads: Heads,
        visibility: Visibility,
        pooled: Option<&Pooled>,
    ) -> AttentionPlan {
        let mut segments = Vec::with_capacity(self.input.lengths.len());
        let mut start = 0;
        for (row, &length) in self.input.lengths.iter().enumerate() {
            let keys = start..start + length;
            let (queries, first) = match pooled {
                Some(pooled) => (row..row + 1, pooled.in_row[row]),
                None => (keys.clone(), 0),
            };
            segments.push(Segment {
                queries,
                keys,
                first,
            });
            start += length;
        }
        let query_rotation = match pooled {
            None => table.clone(),
            Some(pooled) => {
                let half = heads.dim / 2;
                let of = |values: &[f32]| {
                    let rows = pooled.places.iter().map(|at| &values[at * half..][..half]);
                    rows.flatten().copied().collect()
                };
                Arc::new(RotaryTable {
                    cos: of(&table.cos),
                    sin: of(&table.sin),
                })
            }
        };
        AttentionPlan {
            segments,
            heads: heads.heads,
            kv_heads: heads.kv,
            head_dim: heads.dim,
            bidirectional: visibility.bidirectional,
            window: visibility.window,
            query_rotation,
            key_rotation: table.clone(),
        }
    }
}

/// Attention over the batch as a rectangle; with `pooled`, the queries are those of its tokens.
fn over_rectangle(
    [q, k, v]: [Tensor<2>; 3],
    blocked: Option<Tensor<4, Bool>>,
    visibility: Visibility,
    input: &ModelInput,
    pooled: Option<&Pooled>,
    rotation: &Rotation,
    heads: Heads,
) -> Tensor<2> {
    let (rows, longest) = (input.batch_size(), input.longest());
    let Heads {
        heads,
        kv,
        dim: head_dim,
    } = heads;
    let groups = heads / kv;
    let rotate = |x: Tensor<2>, rotation: &Rotation| {
        let [tokens, width] = x.dims();
        let x = rotation.apply(x.reshape([tokens, width / head_dim, head_dim]));
        x.reshape([tokens, width])
    };
    let (q, queries) = match pooled {
        Some(pooled) => (rotate(q, &rotation.select(pooled.index.clone())), 1),
        None => (input.pad(rotate(q, rotation)), longest),
    };

    // The query heads that share a key/value head become further query rows of it, so that keys and
    // values are neither repeated nor copied.
    let q = q
        .reshape([rows, queries, kv, groups, head_dim])
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, kv, groups * queries, head_dim]);
    let k = input
        .pad(rotate(k, rotation))
        .reshape([rows, longest, kv, head_dim])
        .swap_dims(1, 2); // [rows, kv, longest, head_dim]
    let v = input
        .pad(v)
        .reshape([rows, longest, kv, head_dim])
        .swap_dims(1, 2);

    // A query for each key, in their order. Padding is on the right, where no real query looks.
    let causal = !visibility.bidirectional
        && visibility.window.is_none_or(|window| window >= longest)
        && (pooled.is_none() && groups == 1)
        && blocked.is_some();
    let out = ls_ops::attention_over_rectangle(q, k, v, blocked, causal) // [rows, kv, groups * queries, head_dim]
        .reshape([rows, kv, groups, queries, head_dim])
        .permute([0, 3, 1, 2, 4])
        .reshape([rows * queries, heads * head_dim]);
    match pooled {
        Some(_) => out,
        None => input.unpad(out),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use ls_lora::host_values;

    use super::*;
    use crate::tiny::{HIDDEN, Tiny, assert_close};

    /// The output and the gradients of a layer's projections, either way.
    fn attended(
        as_they_lie: bool,
        rows: &[Vec<u32>],
        heads: Heads,
        visibility: Visibility,
        pool: bool,
        weights: &[Tensor<2>; 3],
        dtype: DType,
    ) -> [Vec<f32>; 4] {
        let (config, device) = (Tiny::new().config(), Device::flex());
        let input = ModelInput::new(rows, &config, &device).unwrap();
        let rope = RopeConfig {
            head_dim: heads.dim,
            ..config.rope
        };
        let pooled = Pooled::last(&input);
        let pooled = pool.then_some(&pooled);
        let x: Vec<f32> = (0..input.tokens() * HIDDEN)
            .map(|i| (i as f32 * 1.7).sin())
            .collect();
        let x: Tensor<2> = Tensor::from_data(TensorData::new(x, [input.tokens(), HIDDEN]), &device);
        let x = x.cast(dtype);
        let mut batch = BatchContext::with_rows(as_they_lie, &input, &rope, &x);
        let leaves = weights
            .clone()
            .map(|weight| weight.cast(dtype).autodiff().require_grad());
        let [q, k, v] = leaves.clone();
        // Twice, so that what is kept for the second layer is used.
        let mut layer = || {
            batch.attend(x.clone(), heads, visibility, pooled, |queries, x| {
                [
                    queries.matmul(q.clone()),
                    x.clone().matmul(k.clone()),
                    x.matmul(v.clone()),
                ]
            })
        };
        let _ = layer();
        let out = layer();
        let weighing: Vec<f32> = (0..out.shape().num_elements())
            .map(|i| (i as f32 * 0.9).cos())
            .collect();
        let weighing: Tensor<2> = Tensor::from_data(TensorData::new(weighing, out.dims()), &device);
        let weighing = weighing.cast(dtype);
        let gradients = (out.clone() * weighing).sum().backward();
        let [dq, dk, dv] = leaves.map(|leaf| host_values(leaf.grad(&gradients).unwrap()));
        [host_values(out.inner()), dq, dk, dv]
    }

    #[test]
    fn a_rectangle_gives_what_rows_as_they_lie_give() {
        let device = Device::flex();
        let ragged = [vec![1, 5, 12, 7, 3], vec![3], vec![9, 2, 4]];
        let even = [vec![1, 5, 12], vec![3, 2, 2]];
        for (heads, kv) in [(4, 2), (2, 2), (3, 1)] {
            let heads = Heads { heads, kv, dim: 4 };
            let weights = [heads.heads, kv, kv].map(|heads| {
                Tensor::random([HIDDEN, heads * 4], Distribution::Normal(0.0, 0.5), &device)
            });
            for bidirectional in [false, true] {
                for window in [None, Some(1), Some(2), Some(9)] {
                    let visibility = Visibility {
                        bidirectional,
                        window,
                    };
                    for (rows, pool) in [
                        (&ragged[..], false),
                        (&ragged[..], true),
                        (&even[..], false),
                        (&even[..], true),
                    ] {
                        let of = |as_they_lie, dtype| {
                            attended(as_they_lie, rows, heads, visibility, pool, &weights, dtype)
                        };
                        let expected = of(true, DType::F32);
                        // Of bf16, 2^-8 of the largest value for each of some sums.
                        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::BF16, 0.03)] {
                            for (found, expected) in of(false, dtype).iter().zip(&expected) {
                                let largest = expected.iter().fold(1.0, |a, b| b.abs().max(a));
                                assert_close(found, expected, tolerance * largest);
                            }
                        }
                    }
                }
            }
        }
    }
}
