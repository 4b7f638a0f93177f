//! Host batch -> model input, and targets in the order of the model's output.

use burn::tensor::Device;
use ls_data::{Batch, BatchLabels, PaddingSide};
use ls_model::{LlamaConfig, ModelInput};

use crate::error::Result;
use crate::loss::Targets;

/// The model's input of a batch. `not_pooled` is the token that a head which reads one token of
/// each row passes over at its end.
///
/// # Errors
///
/// If an id is past the model's vocabulary.
pub(crate) fn model_input(
    batch: &Batch,
    config: &LlamaConfig,
    not_pooled: Option<u32>,
    device: &Device,
) -> Result<ModelInput> {
    let input = ModelInput::from_padded(&batch.input_ids, &batch.attention_mask, config, device)?;
    // Where padding counts as tokens, a row of the input is longer than its text.
    Ok(match not_pooled {
        None => input.with_text_lengths(&batch.lengths),
        Some(pad) => input.with_text_lengths(&lengths_without(pad, batch)),
    })
}

/// Tokens of each row up to the last one that is not `pad`; 0 if all are.
fn lengths_without(pad: u32, batch: &Batch) -> Vec<usize> {
    let rows = batch.input_ids.iter().zip(&batch.lengths);
    rows.map(|(row, &length)| {
        let text = match batch.padding_side {
            PaddingSide::Left => &row[row.len() - length..],
            PaddingSide::Right => &row[..length],
        };
        text.iter()
            .rposition(|id| *id != pad)
            .map_or(0, |last| last + 1)
    })
    .collect()
}

/// The targets of a batch, one for each row of the model's output.
pub(crate) fn targets(batch: &Batch) -> Targets {
    Targets::Classes(match &batch.labels {
        BatchLabels::None => Vec::new(),
        BatchLabels::Class(classes) => classes.clone(),
        BatchLabels::Outputs(rows) => return Targets::Outputs(rows.clone()),
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
    })
}

#[cfg(test)]
mod tests {
    use ls_data::{BatchOptions, EncodedExample, ExampleLabels, PaddingMode, collate};

    use super::*;

    #[test]
    fn the_pad_token_is_passed_over_at_the_end_alone() {
        let rows: [&[u32]; 5] = [&[1, 5, 2], &[1, 2, 7, 2, 2], &[1, 2, 7], &[2, 2], &[4]];
        let examples = rows.map(|ids| EncodedExample {
            input_ids: ids.to_vec(),
            labels: ExampleLabels::None,
        });
        for padding_side in [PaddingSide::Left, PaddingSide::Right] {
            let options = BatchOptions {
                batch_size: 8,
                pad_id: 2,
                padding_side,
                padding_mode: PaddingMode::Masked,
                pad_to: Some(6),
                group_by_length: false,
            };
            let batch = collate(&examples, &[0, 1, 2, 3, 4], &options);
            assert_eq!(lengths_without(2, &batch), [2, 3, 3, 0, 1]);
        }
    }
}
