//! Gradient checkpointing by block (arXiv 1604.06174): the backward pass computes each block again.
//!
//! The first pass runs the blocks off the graph and keeps the input of each. Then, from the last
//! block down, each block runs again on a graph of its own, and its backward pass frees that graph
//! before the next one is built. So memory holds the activations of one block, and one
//! `[tokens, hidden_size]` for each other block.
//!
//! The price is a second forward pass, without the last block, the blocks below the first that
//! trains, and each block's last product (the second time, only the graph is needed, unless a norm
//! stands behind it). If the head
//! reads one token of a row, the last block keeps little more than keys and values, and the block
//! before it is not computed again either.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use crate::attention::{BatchContext, Pooled};
use crate::heads::LlamaClassifier;
use crate::input::ModelInput;
use crate::llama::{DecoderLayer, Wanted};

/// The input of a part of the model, off the graph.
struct Cut {
    x: Tensor<2>,
    /// Whether anything below it trains.
    needs_gradient: bool,
}

impl Cut {
    /// The input as the leaf of a new graph.
    fn leaf(&self) -> Tensor<2> {
        if self.needs_gradient {
            self.x.clone().autodiff().require_grad()
        } else {
            self.x.clone()
        }
    }

    /// The gradient of the leaf.
    fn gradient(&self, leaf: &Tensor<2>, gradients: &mut Gradients) -> Option<Tensor<2>> {
        self.needs_gradient
            .then(|| leaf.grad_remove(gradients))
            .flatten()
    }
}

impl LlamaClassifier {
    /// The loss of a batch and the gradients of what trains: bit for bit those of
    /// `loss(self.forward(input))` and its backward pass, in less memory and more time.
    ///
    /// With dropout, the input needs a seed ([`ModelInput::with_dropout_seed`]); else a block would
    /// drop other values the second time.
    ///
    /// # Shapes
    ///
    /// - `loss` takes the logits of [`LlamaClassifier::forward`] and gives `[1]`, which is returned
    ///   off the graph
    ///
    /// # Panics
    ///
    /// If nothing trains.
    pub fn backward_checkpointed(
        &self,
        input: &ModelInput,
        loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
    ) -> (Tensor<1>, GradientsParams) {
        let model = &self.model;
        let pooled = self.pools_last().then(|| Pooled::last(input));
        // The embedding's graph holds little more than ids; it is kept until the end.
        let embedded = model.embed(input);
        let mut batch = BatchContext::new(input);
        let mut block = |place: usize, layer: &DecoderLayer, x: Tensor<2>, wanted: Wanted| {
            model.block(place, layer, x, &mut batch, pooled.as_ref(), wanted)
        };

        let mut cut = Cut {
            x: embedded.clone().detach(),
            needs_gradient: embedded.is_tracked(),
        };
        let mut cuts = Vec::with_capacity(model.layers.len());
        // From here on blocks, head and loss share one graph: these blocks would be computed again
        // at once.
        let at_once = if pooled.is_some() { 2 } else { 1 };
        let top = model.layers.len().saturating_sub(at_once);
        for (place, layer) in model.layers.iter().enumerate().take(top) {
            let trains = trains(layer);
            // In a frozen copy adapters drop as they do in training, and nothing is on the graph.
            let x = if trains {
                let frozen = layer.clone().no_grad();
                block(place, &frozen, cut.x.clone(), Wanted::Value)
            } else {
                block(place, layer, cut.x.clone(), Wanted::Value)
            };
            let next = Cut {
                x,
                needs_gradient: cut.needs_gradient || trains,
            };
            let below = std::mem::replace(&mut cut, next);
            if cut.needs_gradient {
                cuts.push((place, below));
            }
        }

        let leaf = cut.leaf();
        let mut hidden = leaf.clone();
        for (place, layer) in model.layers.iter().enumerate().skip(top) {
            hidden = block(place, layer, hidden, Wanted::Value);
        }
        let loss = loss(self.head(model.norm.forward(hidden), input));
        let value = loss.clone().inner();
        let mut gradients = GradientsParams::new();
        let mut found = loss.backward();
        collect(&self.score, &mut found, &mut gradients);
        collect(&model.norm, &mut found, &mut gradients);
        for layer in &model.layers[top..] {
            collect(layer, &mut found, &mut gradients);
        }
        let mut upstream = cut.gradient(&leaf, &mut found);
        drop((cut, leaf, found));

        for (place, cut) in cuts.into_iter().rev() {
            let Some(dy) = upstream else { break };
            let (layer, leaf) = (&model.layers[place], cut.leaf());
            let y = block(place, layer, leaf.clone(), Wanted::Graph);
            let mut found = ls_ops::pull_back(y, dy);
            collect(layer, &mut found, &mut gradients);
            upstream = cut.gradient(&leaf, &mut found);
        }
        if let Some(dy) = upstream {
            let mut found = ls_ops::pull_back(embedded, dy);
            collect(&model.embed_tokens, &mut found, &mut gradients);
        }
        (value, gradients)
    }
}

/// Whether a parameter of the module trains.
fn trains<M: Module>(module: &M) -> bool {
    struct Trains(bool);
    impl ModuleVisitor for Trains {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut trains = Trains(false);
    module.visit(&mut trains);
    trains.0
}

/// Moves the gradients of a module's parameters from `found` to `gradients`.
fn collect<M: Module>(module: &M, found: &mut Gradients, gradients: &mut GradientsParams) {
    struct Collect<'a> {
        found: &'a mut Gradients,
        gradients: &'a mut GradientsParams,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad()
                && let Some(gradient) = param.val().grad_remove(self.found)
            {
                self.gradients.register(param.id, gradient);
            }
        }
    }
    module.visit(&mut Collect { found, gradients });
}
