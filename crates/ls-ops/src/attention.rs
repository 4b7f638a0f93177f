//! [`attention`]: rotary embedding and grouped-query attention over rows laid end to end.
//!
//! On the CPU scores are formed a tile at a time and never kept (FlashAttention, arXiv 2205.14135,
//! 2307.08691): the graph holds queries, keys, values, the output and one number per query. There
//! is no padding: each row of the batch is its own range of tokens. On the Cube backend rows are
//! spread to a rectangle for the device's matrix products, and gathered back; the graph holds
//! queries, keys and values, and scores are formed again in the backward pass.

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
mod plan;

pub use plan::{AttentionPlan, PlacedPlan, RotaryTable, Segment};

/// `softmax(cap(scale rotate(q) rotate(k)ᵀ)) v` within each segment, over the keys that the plan
/// lets a query see; scale, cap and angles are the plan's.
///
/// Pairs of the rotary embedding are half a head apart, as transformers has them.
///
/// # Shapes
///
/// - `q` and the output: `[queries, heads * head_dim]`; `k`, `v`: `[keys, kv_heads * head_dim]`
///
/// # Panics
///
/// If the plan does not fit the tensors, or these are of several dtypes.
#[must_use]
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, plan: &Arc<AttentionPlan>) -> Tensor<2> {
    plan.check(q.dims(), k.dims(), v.dims());
    let dtypes = [q.dtype(), k.dtype(), v.dtype()];
    assert!(
        dtypes == [dtypes[0]; 3],
        "queries, keys and values have one dtype"
    );
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
