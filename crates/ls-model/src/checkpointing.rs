//! Gradient checkpointing by block (arXiv 1604.06174): the backward pass computes each block again.
//!
//! The first pass goes through the blocks off the graph and keeps what each reads. Then, from the last block down, one block
//! at a time is put on the graph, run, and gone through backwards; its graph is gone before the next one's is made. So the
//! activations that stand at once are those of one block, and one `[tokens, hidden_size]` for each other. The price is a
//! second forward pass, but of the last block, of those below the first that trains, and of each block's last product: nobody
//! reads what a block gives the second time, only its graph. Where the head reads one token of a row, the last block holds
//! little more than keys and values, and the one before it is not computed again either.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use crate::attention::{BatchContext, Pooled};
use crate::heads::LlamaClassifier;
use crate::input::ModelInput;
use crate::llama::{DecoderLayer, Wanted};

/// What a part of the model reads, off the graph.
struct Cut {
    x: Tensor<2>,
    /// Whether anything below trains.
    needs_gradient: bool,
}

impl Cut {
    /// Where a graph of its own begins.
    fn leaf(&self) -> Tensor<2> {
        match self.needs_gradient {
            true => self.x.clone().autodiff().require_grad(),
            false => self.x.clone(),
        }
    }

    /// The gradient that has reached the leaf.
    fn gradient(&self, leaf: &Tensor<2>, gradients: &mut Gradients) -> Option<Tensor<2>> {
        self.needs_gradient
            .then(|| leaf.grad_remove(gradients))
            .flatten()
    }
}

impl LlamaClassifier {
    /// The loss of a batch and the gradients of what trains: bit for bit those of `loss(self.forward(input))` and its backward
    /// pass, in less memory and more time.
    ///
    /// Where there is dropout the input needs a seed ([`ModelInput::with_dropout_seed`]), or a block would drop something else
    /// the second time.
    ///
    /// # Shapes
    ///
    /// - `loss` is handed the logits as [`LlamaClassifier::forward`] gives them; its result, and what is returned of it off the
    ///   graph: `[1]`
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
        // The embedding's graph holds ids and little more; it stands until the end.
        let embedded = model.embed(input);
        let mut batch = BatchContext::new(input, &model.rope, &embedded);
        let mut block = |place: usize, layer: &DecoderLayer, x: Tensor<2>, wanted: Wanted| {
            model.block(place, layer, x, &mut batch, pooled.as_ref(), wanted)
        };

        let mut cut = Cut {
            x: embedded.clone().detach(),
            needs_gradient: embedded.is_tracked(),
        };
        let mut cuts = Vec::with_capacity(model.layers.len());
        // From here on with head and loss on one graph: its blocks would be the first to be gone through again.
        let at_once = if pooled.is_some() { 2 } else { 1 };
        let top = model.layers.len().saturating_sub(at_once);
        for (place, layer) in model.layers.iter().enumerate().take(top) {
            let trains = trains(layer);
            // In a frozen copy adapters drop as they do in training, and nothing comes on the graph.
            let x = match trains {
                true => block(
                    place,
                    &layer.clone().no_grad(),
                    cut.x.clone(),
                    Wanted::Value,
                ),
                false => block(place, layer, cut.x.clone(), Wanted::Value),
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

/// Whether a module has a parameter that trains.
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

/// Moves the gradients of a module's parameters from those of a backward pass.
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
