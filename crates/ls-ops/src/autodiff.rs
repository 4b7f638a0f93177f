//! What the backward passes share.

use burn::backend::Backend;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::tensor::FloatTensor;

/// Adds a gradient to its node, if that is tracked.
pub(crate) fn register<B: Backend>(
    grads: &mut Gradients,
    node: Option<NodeId>,
    gradient: impl FnOnce() -> FloatTensor<B>,
) {
    if let Some(node) = node {
        grads.register::<B>(node, gradient());
    }
}
