//! Attention over a batch whose rows lie end to end: what the layers share for one batch, and the two ways to compute it.
//!
//! On the CPU it is [`ls_ops::attention()`], which takes the rows as they lie. Elsewhere the rows are spread out to a rectangle,
//! attended under a mask, and gathered back.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use ls_ops::{AttentionPlan, RotaryTable, Segment};

use crate::input::{ModelInput, mixed_seed};
use crate::mask::Visibility;
use crate::rope::{RopeConfig, Rotation};

/// Heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv: usize,
    /// Width of a head.
    pub dim: usize,
}

/// The token of each row whose hidden state is asked for.
pub(crate) struct Pooled {
    /// Among all tokens, `[batch]`.
    index: Tensor<1, Int>,
    places: Vec<usize>,
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
        }
    }

    /// The rows of these tokens: `[tokens, width]` -> `[batch, width]`.
    pub(crate) fn of(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.index.clone())
    }
}

/// What all layers share for one batch.
pub(crate) struct BatchContext<'a> {
    input: &'a ModelInput,
    device: Device,
    rotation: Angles,
    /// Layers that see alike share this.
    views: Vec<(Visibility, View)>,
}

/// The angles of the rotary embedding where they are used.
enum Angles {
    Host(Arc<RotaryTable>),
    Device(Rotation),
}

/// What a layer needs to attend.
enum View {
    /// For the fused operation: over all tokens, and over the pooled ones.
    Rows(Arc<AttentionPlan>),
    /// For the rectangle: blocked positions, `[batch, 1, groups * longest, longest]`.
    Rectangle(Option<Tensor<4, Bool>>),
}

impl<'a> BatchContext<'a> {
    /// `x` is what the first block reads.
    pub(crate) fn new(input: &'a ModelInput, rope: &RopeConfig, x: &Tensor<2>) -> Self {
        let device = x.device();
        let rotation = if ls_ops::is_host(&device) {
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

    /// Gives the block at this place the part of the batch's dropout seed that is its own.
    pub(crate) fn seed_dropout(&self, block: usize) {
        if let Some(seed) = self.input.dropout_seed {
            self.device.seed(mixed_seed(seed, block));
        }
    }

    /// Attention of one layer.
    ///
    /// `project` gives queries, keys and values of what it is handed: the tokens whose queries are wanted, and all tokens. With
    /// `pooled` the queries may be those of its tokens alone; the result is.
    ///
    /// # Shapes
    ///
    /// - `x`: `[tokens, hidden_size]`; output: `[tokens, heads * head_dim]`, with `pooled` `[batch, heads * head_dim]`
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
                let blocked = match self.view(visibility) {
                    Some(View::Rectangle(blocked)) => blocked.clone(),
                    _ => {
                        let groups = heads.heads / heads.kv;
                        let lengths = &self.input.lengths;
                        let blocked = visibility.blocked(lengths, groups, &x.device());
                        let view = View::Rectangle(blocked.clone());
                        self.views.push((visibility, view));
                        blocked
                    }
                };
                let [q, k, v] = project(x.clone(), x);
                let out = over_rectangle(q, k, v, blocked, self.input, rotation, heads);
                match pooled {
                    Some(pooled) => pooled.of(out),
                    None => out,
                }
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
                Some(pooled) => (row..row + 1, pooled.places[row] - start),
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

/// Attention over the batch as a rectangle.
fn over_rectangle(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    blocked: Option<Tensor<4, Bool>>,
    input: &ModelInput,
    rotation: &Rotation,
    Heads {
        heads,
        kv,
        dim: head_dim,
    }: Heads,
) -> Tensor<2> {
    let tokens = input.tokens();
    let (rows, longest) = (input.batch_size(), input.longest());
    let groups = heads / kv;
    let rotate = |x: Tensor<2>, heads: usize| {
        let x = rotation.apply(x.reshape([tokens, heads, head_dim]));
        x.reshape([tokens, heads * head_dim])
    };

    // The query heads that share a key/value head become further query rows of it, so that keys and values are neither
    // repeated nor copied.
    let q = input
        .pad(rotate(q, heads))
        .reshape([rows, longest, kv, groups, head_dim])
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, kv, groups * longest, head_dim]);
    let k = input
        .pad(rotate(k, kv))
        .reshape([rows, longest, kv, head_dim])
        .swap_dims(1, 2); // [rows, kv, longest, head_dim]
    let v = input
        .pad(v)
        .reshape([rows, longest, kv, head_dim])
        .swap_dims(1, 2);

    let out = scaled_dot_product(q, k, v, blocked) // [rows, kv, groups * longest, head_dim]
        .reshape([rows, kv, groups, longest, head_dim])
        .permute([0, 3, 1, 2, 4])
        .reshape([rows * longest, heads * head_dim]);
    input.unpad(out)
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` with `blocked` positions (`true` = not attended) left out.
///
/// # Shapes
///
/// - `q`: `[rows, kv, queries, head_dim]`; `k`, `v`: `[rows, kv, keys, head_dim]`
/// - `blocked`: `[rows, 1, queries, keys]`
fn scaled_dot_product(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    blocked: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [rows, kv, queries, head_dim] = q.dims();
    let keys = k.dims()[2];
    let blocked = blocked.map(|blocked| blocked.expand([rows, kv, queries, keys]));
    if ![&q, &k, &v].iter().any(|tensor| tensor.is_autodiff()) {
        // Off the graph burn has a fused kernel; on it, it would take the steps below one by one, in the input's dtype.
        return attention(q, k, v, blocked, None, AttentionModuleOptions::default());
    }
    let dtype = q.dtype();
    let mut scores = q
        .mul_scalar(1.0 / (head_dim as f64).sqrt())
        .matmul(k.swap_dims(2, 3)); // [rows, kv, queries, keys]
    if dtype != DType::F32 {
        scores = scores.cast(DType::F32);
    }
    if let Some(blocked) = blocked {
        // Finite, so that no row can become NaN.
        scores = scores.mask_fill(blocked, -1e9);
    }
    let weights = softmax(scores, 3);
    let weights = if dtype == DType::F32 {
        weights
    } else {
        weights.cast(dtype)
    };
    weights.matmul(v)
}
