//! On which layers of a decoder an adapter stands, by its configuration alone.

use ls_lora::{LoraConfig, modules_of_adapter, select_modules};

use crate::config::{LlamaConfig, Projection};
use crate::error::Result;

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
