//! [`attention`]: rotary embedding and grouped-query attention over rows laid end to end.
//!
//! On the CPU scores are formed a tile at a time and never kept (FlashAttention, arXiv 2205.14135,
//! 2307.08691): the graph holds queries, keys, values, the output and one number per query. There
//! is no padding: each row of the batch is its own range of tokens. On the Cube backend rows are
//! spread to a rectangle for the device's matrix products, and gathered back; the graph holds
//! queries, keys and values, and scores are formed again in the backward pass.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::autodiff::register;

#[cfg(feature = "flex")]
mod kernel;
mod plain;

/// Cosines and sines of the rotary embedding, for each pair of channels of each token.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTable {
    /// `[tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub sin: Vec<f32>,
}

/// The tokens of one row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its queries among all queries.
    pub queries: Range<usize>,
    /// Its keys and values among all keys.
    pub keys: Range<usize>,
    /// Place of its first query among its keys.
    pub first: usize,
}

/// The parameters of [`attention`]. Segments cover queries and keys in order,
/// without gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionPlan {
    /// Rows of the batch.
    pub segments: Vec<Segment>,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a token attends to those on its right.
    pub bidirectional: bool,
    /// A sliding window, as transformers counts it: the own position and `window - 1` before it
    /// when causal, `window` to either side when bidirectional.
    pub window: Option<usize>,
    /// Angles of the queries.
    pub query_rotation: Arc<RotaryTable>,
    /// Angles of the keys.
    pub key_rotation: Arc<RotaryTable>,
    /// Where the plan is kept for a device; empty to begin with.
    pub placed: PlacedPlan,
}

/// A plan as a device has it: made with the first use of the plan, and used by all that follow.
#[derive(Debug, Clone, Default)]
pub struct PlacedPlan(
    #[cfg(feature = "cube")] pub(crate) std::sync::OnceLock<crate::cube::attention::Placed>,
);

/// It follows from the plan.
impl PartialEq for PlacedPlan {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AttentionPlan {
    /// The keys that the query at a place sees, of `keys`. Never empty: a token sees itself.
    fn visible(&self, place: usize, keys: usize) -> Range<usize> {
        let reach = self.window.unwrap_or(usize::MAX);
        if self.bidirectional {
            place.saturating_sub(reach)..place.saturating_add(reach).saturating_add(1).min(keys)
        } else {
            place.saturating_sub(reach.saturating_sub(1))..place + 1
        }
    }

    fn check(&self, q: [usize; 2], k: [usize; 2], v: [usize; 2]) {
        let (heads, kv, width) = (self.heads, self.kv_heads, self.head_dim);
        assert!(
            kv > 0 && heads.is_multiple_of(kv),
            "{heads} query heads do not share {kv} key heads"
        );
        assert!(width.is_multiple_of(2), "{width} channels are no pairs");
        let (mut queries, mut keys) = (0, 0);
        for segment in &self.segments {
            assert!(
                segment.queries.start == queries && segment.keys.start == keys,
                "segments follow each other"
            );
            (queries, keys) = (segment.queries.end, segment.keys.end);
            assert!(
                segment.first + segment.queries.len() <= segment.keys.len(),
                "every query stands at a key"
            );
        }
        assert_eq!(
            q,
            [queries, heads * width],
            "queries are [tokens, heads * head_dim]"
        );
        assert_eq!(
            k,
            [keys, kv * width],
            "keys are [tokens, kv_heads * head_dim]"
        );
        assert_eq!(v, k, "values are shaped as keys");
        for (table, tokens) in [(&self.query_rotation, queries), (&self.key_rotation, keys)] {
            let len = tokens * (width / 2);
            assert!(
                table.cos.len() == len && table.sin.len() == len,
                "an angle for each pair of each token"
            );
        }
    }
}

/// `softmax(rotate(q) rotate(k)ᵀ / sqrt(head_dim)) v` within each segment, over the keys that the
/// plan lets a query see.
///
/// Pairs of the rotary embedding are half a head apart, as transformers has them.
///
/// # Shapes
///
/// - `q` and the output: `[queries, heads * head_dim]`; `k`, `v`: `[keys, kv_heads * head_dim]`
///
/// # Panics
///
/// If the plan does not fit the tensors.
#[must_use]
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, plan: &Arc<AttentionPlan>) -> Tensor<2> {
    plan.check(q.dims(), k.dims(), v.dims());
    if !crate::is_supported(&q.device()) {
        return plain::attention(q, k, v, plan);
    }
    Tensor::from_dispatch(<Dispatch as AttentionOps>::fused_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        plan.clone(),
    ))
}

/// The operation.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// The output.
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> FloatTensor<Self>;
}

/// Its two passes, for backends below the graph.
pub(crate) trait AttentionPasses: Backend {
    /// What the graph keeps.
    type State: Clone + std::fmt::Debug + Send + Sync + 'static;

    /// The output, and what the backward pass needs.
    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> (FloatTensor<Self>, Self::State);

    /// The gradients of queries, keys and values.
    fn backward(
        state: Self::State,
        d_out: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: AttentionOps + AttentionPasses, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct AttentionBackward;

        impl<B: AttentionPasses> Backward<B, 3> for AttentionBackward {
            type State = B::State;

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let d_out = grads.consume::<B>(&ops.node);
                let (dq, dk, dv) = B::backward(ops.state, d_out);
                let [q, k, v] = ops.parents.map(|node| node.map(|node| node.id));
                register::<B>(grads, q, || dq);
                register::<B>(grads, k, || dk);
                register::<B>(grads, v, || dv);
            }
        }

        let prep = AttentionBackward.prepare::<C>([q.node(), k.node(), v.node()]);
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, state) = B::forward(q, k, v, plan);
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_attention(q, k, v, plan)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per query of a row of `keys`, `.` where it sees a key.
    fn table(bidirectional: bool, window: Option<usize>, keys: usize) -> Vec<String> {
        let empty = Arc::new(RotaryTable {
            cos: Vec::new(),
            sin: Vec::new(),
        });
        let plan = AttentionPlan {
            segments: Vec::new(),
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            bidirectional,
            window,
            query_rotation: empty.clone(),
            key_rotation: empty,
            placed: PlacedPlan::default(),
        };
        let line = |place| {
            let visible = plan.visible(place, keys);
            let mark = |key| if visible.contains(&key) { '.' } else { '#' };
            (0..keys).map(mark).collect()
        };
        (0..keys).map(line).collect()
    }

    /// The bounds of a window are those of transformers' `masking_utils.py`.
    #[test]
    fn a_window_counts_the_own_position_when_causal_and_each_side_when_not() {
        assert_eq!(table(false, None, 3), [".##", "..#", "..."]);
        assert_eq!(table(true, None, 3), ["...", "...", "..."]);
        assert_eq!(table(false, Some(2), 4), [".###", "..##", "#..#", "##.."]);
        assert_eq!(table(false, Some(1), 3), [".##", "#.#", "##."]);
        assert_eq!(table(false, Some(9), 3), [".##", "..#", "..."]);
        assert_eq!(table(true, Some(1), 4), ["..##", "...#", "#...", "##.."]);
        assert_eq!(table(true, Some(2), 4), ["...#", "....", "....", "#..."]);
        assert_eq!(table(true, Some(4), 4), ["....", "....", "....", "...."]);
    }
}
