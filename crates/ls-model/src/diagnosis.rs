//! Where in the model a number stops being one: the forward pass once more, module by module.

use burn::tensor::Tensor;

use crate::attention::{BatchContext, Pooled};
use crate::heads::LlamaClassifier;
use crate::input::ModelInput;
use crate::llama::{RmsNorm, Wanted};

/// Looks at the outputs of modules in the order in which they are computed.
struct Watch {
    first: Option<String>,
}

impl Watch {
    /// The output of a module, looked at unless an earlier one was found.
    fn output(&mut self, module: impl FnOnce() -> String, x: Tensor<2>) -> Tensor<2> {
        if self.first.is_none() && !is_finite(&x) {
            self.first = Some(module());
        }
        x
    }

    /// The output of a norm, if the block has it.
    fn norm(
        &mut self,
        module: impl FnOnce() -> String,
        norm: Option<&RmsNorm>,
        x: Tensor<2>,
    ) -> Tensor<2> {
        match norm {
            Some(norm) => self.output(module, norm.forward(x)),
            None => x,
        }
    }
}

fn is_finite(x: &Tensor<2>) -> bool {
    let values = ls_lora::host_values(x.clone());
    values.iter().all(|value| value.is_finite())
}

impl LlamaClassifier {
    /// The first module whose output for a batch holds NaN or an infinity, by its name in the model
    /// (`model.layers.7.mlp`); `None` where [`LlamaClassifier::forward`] gives numbers all through.
    ///
    /// It computes what the forward pass computes, with the same dropout, and reads every output.
    pub fn first_not_finite(&self, input: &ModelInput) -> Option<String> {
        let mut watch = Watch { first: None };
        self.watched(input, &mut watch);
        watch.first
    }

    /// The forward pass as in `llama.rs` and `heads.rs`, with every output looked at.
    fn watched(&self, input: &ModelInput, watch: &mut Watch) -> Tensor<2> {
        let model = &self.model;
        let pooled = self.pools_last().then(|| Pooled::last(input));
        let mut batch = BatchContext::new(input);
        let mut x = watch.output(|| "model.embed_tokens".into(), model.embed(input));
        for (at, layer) in model.layers.iter().enumerate() {
            batch.seed_dropout(at);
            let is_last = at + 1 == model.layers.len();
            let pooled = pooled.as_ref().filter(|_| is_last);
            let name = |part: &str| format!("model.layers.{at}{part}");
            let norms = layer.norms();
            let before_mlp = match norms.after_attention {
                None => ".post_attention_layernorm",
                Some(_) => ".pre_feedforward_layernorm",
            };

            let (norm, input) = (norms.before_attention, x.clone());
            let input = watch.norm(|| name(".input_layernorm"), norm, input);
            let attended = layer.self_attn.forward(input, &mut batch, pooled);
            let attended = watch.output(|| name(".self_attn"), attended);
            let norm = norms.after_attention;
            let attended = watch.norm(|| name(".post_attention_layernorm"), norm, attended);
            let before = match pooled {
                Some(pooled) => pooled.of(x),
                None => x,
            };
            // The block itself adds what its parts give.
            x = watch.output(|| name(""), layer.add(before, attended));

            let input = watch.norm(|| name(before_mlp), norms.before_mlp, x.clone());
            let gated = layer.mlp.forward(input, Wanted::Value);
            let gated = watch.output(|| name(".mlp"), gated);
            let norm = norms.after_mlp;
            let gated = watch.norm(|| name(".post_feedforward_layernorm"), norm, gated);
            x = watch.output(|| name(""), layer.add(x, gated));
        }
        let x = watch.output(|| "model.norm".into(), model.norm.forward(x));
        watch.output(|| "score".into(), self.head(x, input))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ls_lora::host_values;

    use super::*;
    use crate::heads::{Pooling, Task};
    use crate::tiny::{FAMILIES, LAYERS, Tiny};

    const TASKS: [Task; 4] = [
        Task::Sequence(Pooling::Last),
        Task::Sequence(Pooling::Mean),
        Task::Sequence(Pooling::Max),
        Task::Token { dropout: 0.0 },
    ];

    fn input(tiny: &Tiny) -> ModelInput {
        let rows: [&[u32]; 2] = [&[1, 5, 12, 7], &[3, 2]];
        ModelInput::new(&rows, &tiny.config(), &Device::flex()).unwrap()
    }

    #[test]
    fn it_computes_what_the_forward_pass_computes() {
        for family in FAMILIES {
            let tiny = Tiny::of(family).and_head();
            for task in TASKS {
                let model = tiny.classifier("from:1", task, &Device::flex());
                let input = input(&tiny);
                let mut watch = Watch { first: None };
                let watched = host_values(model.watched(&input, &mut watch));
                let expected = host_values(model.forward(&input));
                assert_eq!(watched, expected, "{family} {task:?}");
                assert_eq!(watch.first, None);
            }
        }
    }

    #[test]
    fn every_norm_of_a_block_is_named() {
        for family in FAMILIES {
            let tiny = Tiny::of(family).and_head();
            for (norm, width) in tiny.config().block_norms() {
                let module = format!("model.layers.1.{norm}");
                let mut tiny = tiny.clone();
                let tensor = tiny.tensors.get_mut(&format!("{module}.weight")).unwrap();
                // The largest normalised value of a row is over 1.
                *tensor = ls_files::HostTensor::from_f32([width], &vec![f32::MAX; width]);
                let model = tiny.classifier("causal", TASKS[1], &Device::flex());
                let found = model.first_not_finite(&input(&tiny));
                // What queries and keys become is seen at the whole of attention.
                let expected = module
                    .trim_end_matches(".q_norm")
                    .trim_end_matches(".k_norm");
                assert_eq!(found.as_deref(), Some(expected), "{family} {norm}");
            }
        }
    }

    /// Weights so large that their products overflow, in one module after the other.
    #[test]
    fn the_first_module_that_overflows_is_named() {
        let tiny = Tiny::with_head();
        let last = LAYERS - 1;
        for task in TASKS {
            let cases = [
                (
                    "model.layers.1.input_layernorm.weight",
                    "model.layers.1.input_layernorm".into(),
                ),
                (
                    "model.layers.1.self_attn.v_proj.weight",
                    "model.layers.1.self_attn".into(),
                ),
                (
                    "model.layers.1.post_attention_layernorm.weight",
                    "model.layers.1.post_attention_layernorm".into(),
                ),
                (
                    "model.layers.0.mlp.down_proj.weight",
                    "model.layers.0.mlp".into(),
                ),
                (
                    &*format!("model.layers.{last}.mlp.up_proj.weight"),
                    format!("model.layers.{last}.mlp"),
                ),
                ("model.norm.weight", "model.norm".to_string()),
                ("score.weight", "score".into()),
            ];
            for (weight, module) in cases {
                let mut tiny = tiny.clone();
                let tensor = tiny.tensors.get_mut(weight).unwrap();
                // Finite, but past the range of f32 after any product with a value over 1e-2.
                let values = vec![3e38; tensor.len()];
                let shape = tensor.shape.clone();
                *tensor = ls_files::HostTensor::from_f32(shape, &values);
                for norm in [
                    "model.layers.1.input_layernorm.weight",
                    "model.layers.0.post_attention_layernorm.weight",
                    "model.norm.weight",
                ] {
                    // Whatever comes in, something over 1 goes on.
                    if norm != weight {
                        let tensor = tiny.tensors.get_mut(norm).unwrap();
                        let values: Vec<f32> =
                            (0..tensor.len()).map(|at| 40.0 + at as f32).collect();
                        *tensor = ls_files::HostTensor::from_f32(tensor.shape.clone(), &values);
                    }
                }
                let model = tiny.classifier("causal", task, &Device::flex());
                let found = model.first_not_finite(&input(&tiny));
                assert_eq!(found.as_ref(), Some(&module), "{task:?}: {weight}");
            }
        }
    }
}
