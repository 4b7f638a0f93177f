//! Host batch -> model input, and labels in the order of the model's output.

use burn::tensor::Device;
use ls_data::{Batch, BatchLabels};
use ls_model::{LlamaConfig, ModelInput};

use crate::error::Result;

/// The model's input of a batch.
///
/// # Errors
///
/// If an id is past the model's vocabulary.
pub(crate) fn model_input(
    batch: &Batch,
    config: &LlamaConfig,
    device: &Device,
) -> Result<ModelInput> {
    let input = ModelInput::from_padded(&batch.input_ids, &batch.attention_mask, config, device)?;
    // Where padding counts as tokens, a row of the input is longer than its text.
    Ok(input.with_text_lengths(&batch.lengths))
}

/// The labels of a batch, one for each row of the model's output.
pub(crate) fn labels(batch: &Batch) -> Vec<i64> {
    match &batch.labels {
        BatchLabels::None => Vec::new(),
        BatchLabels::Class(classes) => classes.clone(),
        BatchLabels::Tokens(rows) => {
            let places = rows
                .iter()
                .zip(&batch.attention_mask)
                .flat_map(|(row, mask)| row.iter().zip(mask));
            places
                .filter(|(_, token)| **token != 0)
                .map(|(label, _)| *label)
                .collect()
        }
    }
}
