//! On which layers of a decoder an adapter stands, and which tensors train, by configurations
//! alone.

use ls_lora::{LoraConfig, TrainableTensor, modules_of_adapter, select_modules, trained_in_full};

use crate::config::{LlamaConfig, Projection};
use crate::error::Result;
use crate::heads::{ADAPTER, Task};
use crate::trained::Trained;

/// Trains in full beside an adapter.
const HEADS: [&str; 1] = ["score"];

impl LlamaConfig {
    /// The names of the layers that a new adapter of this configuration would be on.
    ///
    /// # Errors
    ///
    /// If a target matches no layer.
    pub fn adapted_by(&self, lora: &LoraConfig) -> Result<Vec<String>> {
        let (layers, table) = (self.linear_layers(), self.table().0);
        let layers: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
        Ok(select_modules(lora, &layers, &[&table], &HEADS)?)
    }

    /// The same of an adapter that there is, whose configuration may name layers of other models.
    ///
    /// # Errors
    ///
    /// If no target matches a layer.
    pub fn adapted_by_trained(&self, lora: &LoraConfig) -> Result<Vec<String>> {
        let (layers, table) = (self.linear_layers(), self.table().0);
        let layers: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
        Ok(modules_of_adapter(lora, &layers, &[&table], &HEADS)?)
    }

    /// The tensors that train of a classifier on this decoder: those that
    /// [`ls_lora::trainable_tensors`] lists of the model, in another order, before there is one.
    /// With an adapter, of this configuration and on the layers of these names, they are its own
    /// and what it trains in full, without one those that `trained` holds.
    pub fn trainable(
        &self,
        task: Task,
        num_labels: usize,
        adapter: Option<(&LoraConfig, &[String])>,
        trained: &Trained,
    ) -> Vec<TrainableTensor> {
        let decoder = self.tensors().into_iter();
        let decoder = decoder.map(|(name, shape)| (format!("model.{name}"), shape));
        let head = [(
            "score.weight".to_owned(),
            vec![num_labels, self.hidden_size],
        )];
        let has_bias = matches!(task, Task::Token { .. }) && self.token_classification_bias;
        let bias = has_bias.then(|| ("score.bias".to_owned(), vec![num_labels]));
        let all = decoder.chain(head).chain(bias);
        let mut in_full: Vec<TrainableTensor> = all
            .map(|(name, shape)| TrainableTensor { name, shape })
            .collect();
        let Some((lora, adapted)) = adapter else {
            in_full.retain(|tensor| trained.holds(&tensor.name));
            return in_full;
        };
        let names = in_full.iter().map(|tensor| tensor.name.clone()).collect();
        let names = trained_in_full(names, lora, adapted);
        in_full.retain(|tensor| names.contains(&tensor.name));

        let of_adapter = |(module, [rows, columns]): (String, [usize; 2]), linear: bool| {
            let r = lora.rank_of(&module);
            let (a, b, end) = if linear {
                ("lora_A", "lora_B", ".weight")
            } else {
                ("lora_embedding_A", "lora_embedding_B", "")
            };
            let factor = |part: &str, shape: [usize; 2]| TrainableTensor {
                name: format!("{module}.{part}.{ADAPTER}{end}"),
                shape: shape.to_vec(),
            };
            let mut tensors = vec![factor(a, [r, rows]), factor(b, [columns, r])];
            if lora.use_dora {
                tensors.push(TrainableTensor {
                    name: format!("{module}.lora_magnitude_vector.{ADAPTER}.weight"),
                    shape: vec![columns],
                });
            }
            tensors
        };
        let layers = self.linear_layers().into_iter().map(|layer| (layer, true));
        let places = layers.chain([(self.table(), false)]);
        let places = places.filter(|((name, _), _)| adapted.contains(name));
        let factors = places.flat_map(|(place, linear)| of_adapter(place, linear));
        factors.chain(in_full).collect()
    }

    /// The linear layers of the decoder, each with its full name and shape `[in, out]`.
    pub(crate) fn linear_layers(&self) -> Vec<(String, [usize; 2])> {
        let projections = self.projections();
        let layers = (0..self.num_hidden_layers).flat_map(|layer| {
            let module =
                move |of: &Projection| (format!("model.layers.{layer}.{}", of.name), of.shape);
            projections.all().iter().map(module)
        });
        layers.collect()
    }

    /// The table of embeddings with its shape `[vocabulary, width]`.
    pub(crate) fn table(&self) -> (String, [usize; 2]) {
        let shape = [self.vocab_size, self.hidden_size];
        ("model.embed_tokens".to_owned(), shape)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ls_lora::{Bias, TargetModules, add_adapter, set_trainable, trainable_tensors};

    use super::*;
    use crate::heads::{LlamaClassifier, Pooling};
    use crate::llama::LlamaModel;
    use crate::mask::AttentionMode;
    use crate::precision::ComputeType;
    use crate::tiny::{FAMILIES, Tiny};

    fn sorted(mut tensors: Vec<TrainableTensor>) -> Vec<TrainableTensor> {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }

    /// Of every family: biases, fused layers, norms of heads, a head without a bias.
    #[test]
    fn what_trains_is_told_before_there_is_a_model() {
        let device = Device::flex().autodiff();
        let linear = || LoraConfig::new(2, 4.0).with_target_modules(TargetModules::AllLinear);
        let some = |names: &[&str]| {
            LoraConfig::new(3, 4.0).with_target_modules(TargetModules::list(names.to_vec()))
        };
        let adapters = [
            linear(),
            linear().with_dora(true).with_bias(Bias::All),
            linear().with_bias(Bias::LoraOnly),
            some(&["o_proj", "embed_tokens"]).with_modules_to_save(["layers.2", "norm"]),
            some(&["down_proj"]).with_bias(Bias::LoraOnly),
        ];
        let tasks = [Task::Sequence(Pooling::Last), Task::Token { dropout: 0.1 }];
        for family in FAMILIES {
            let config = Tiny::of(family).config();
            for task in tasks {
                let classifier = || {
                    let mode = AttentionMode::Causal;
                    let base = LlamaModel::random(&config, &mode, ComputeType::F32, &device);
                    LlamaClassifier::new(base.unwrap(), &config, task, 3, 7, &device)
                };
                for lora in &adapters {
                    let mut lora = lora.clone();
                    lora.task_type = Some(task.task_type());
                    let mut model = classifier();
                    add_adapter(&mut model, ADAPTER, &lora, 7, &device).unwrap();
                    let adapted = config.adapted_by(&lora).unwrap();
                    let adapter = Some((&lora, &*adapted));
                    let told = config.trainable(task, 3, adapter, &Trained::Head);
                    let found = sorted(trainable_tensors(&model));
                    assert_eq!(sorted(told), found, "{family}, {lora:?}");
                }
                for trained in ["head", "all", "0,2"] {
                    let trained: Trained = trained.parse().unwrap();
                    let model = set_trainable(classifier(), &|name| trained.holds(name), true);
                    let told = config.trainable(task, 3, None, &trained);
                    let found = sorted(trainable_tensors(&model));
                    assert_eq!(sorted(told), found, "{family}, {trained}");
                }
            }
        }
    }
}
