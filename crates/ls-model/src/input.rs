//! [`ModelInput`]: the real tokens of a batch, laid end to end.
//!
//! Padding never reaches a weight: the rows of every matrix product are the batch's real tokens, so
//! that a result depends neither on the side nor on the amount of padding.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};

/// A batch on a device, ready for the model.
///
/// ```
/// use std::path::Path;
/// use burn::tensor::Device;
/// use ls_model::{LlamaConfig, ModelInput};
///
/// # fn main() -> Result<(), ls_model::ModelError> {
/// let json = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 8,
///     "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}"#;
/// let config = LlamaConfig::from_json(json, Path::new("config.json"))?;
/// let device = Device::flex();
/// let (ids, mask) = ([vec![1, 5, 9], vec![0, 1, 7]], [vec![1, 1, 1], vec![0, 1, 1]]);
/// let input = ModelInput::from_padded(&ids, &mask, &config, &device)?;
/// assert_eq!((input.batch_size(), input.tokens()), (2, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// Ids of the real tokens, row after row, `[tokens]`.
    pub input_ids: Tensor<1, Int>,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// Place in each row of the token that `last` and `last_not_pad` pool. This is the row's last
    /// token, unless other lengths were set ([`ModelInput::with_text_lengths`]).
    pub last: Vec<usize>,
    /// Decides what dropout drops ([`ModelInput::with_dropout_seed`]).
    pub(crate) dropout_seed: Option<u64>,
}

impl ModelInput {
    /// Makes a batch of unpadded rows of token ids.
    ///
    /// # Errors
    ///
    /// If a row is empty or an id is past the vocabulary.
    pub fn new<R: AsRef<[u32]>>(rows: &[R], config: &LlamaConfig, device: &Device) -> Result<Self> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        let mut ids = Vec::with_capacity(lengths.iter().sum());
        for (row, row_ids) in rows.iter().enumerate() {
            if row_ids.as_ref().is_empty() {
                return Err(ModelError::EmptyRow { row });
            }
            for &id in row_ids.as_ref() {
                if id as usize >= config.vocab_size {
                    return Err(ModelError::TokenId {
                        id,
                        row,
                        vocab_size: config.vocab_size,
                    });
                }
                ids.push(id as i32);
            }
        }
        let last = lengths.iter().map(|length| length - 1).collect();
        Ok(Self {
            input_ids: index(ids, device),
            lengths,
            last,
            dropout_seed: None,
        })
    }

    /// Fixes what dropout drops in training: each block seeds the generator of masks
    /// ([`ls_lora::seed_dropout`]) with its own part of this seed, so that a block that is computed
    /// again drops the same values. Without a seed, masks come from the generator in its current
    /// state.
    pub fn with_dropout_seed(mut self, seed: u64) -> Self {
        self.dropout_seed = Some(seed);
        self
    }

    /// Sets the number of tokens of each row up to the one that is pooled. They are fewer than all
    /// where padding (on the right) counts as tokens (the reference's unmasked models attend to it,
    /// but pool `last` at the text's end), and where a text ends with the pad token.
    pub fn with_text_lengths(mut self, text_lengths: &[usize]) -> Self {
        self.last = text_lengths
            .iter()
            .zip(&self.lengths)
            .map(|(&text, &all)| text.clamp(1, all) - 1)
            .collect();
        self
    }

    /// Makes a batch of rows that are padded on either side.
    ///
    /// # Shapes
    ///
    /// - `input_ids`, `attention_mask` (1 = token, 0 = padding): one `Vec` for each row, both of
    ///   one length; a row's tokens are contiguous
    ///
    /// # Errors
    ///
    /// As [`ModelInput::new`], and if the mask does not fit the ids.
    pub fn from_padded(
        input_ids: &[Vec<u32>],
        attention_mask: &[Vec<u8>],
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<Self> {
        let mut rows = Vec::with_capacity(input_ids.len());
        if input_ids.len() != attention_mask.len() {
            let reason = format!(
                "{} rows of ids, {} of attention mask",
                input_ids.len(),
                attention_mask.len()
            );
            return Err(ModelError::Batch { row: 0, reason });
        }
        for (row, (ids, mask)) in input_ids.iter().zip(attention_mask).enumerate() {
            if ids.len() != mask.len() {
                let reason = format!("{} ids, attention mask of {}", ids.len(), mask.len());
                return Err(ModelError::Batch { row, reason });
            }
            let first = mask
                .iter()
                .position(|&token| token != 0)
                .ok_or(ModelError::EmptyRow { row })?;
            let count = mask.iter().filter(|&&token| token != 0).count();
            if mask[first..first + count].contains(&0) {
                return Err(ModelError::Batch {
                    row,
                    reason: "attention mask has a gap".into(),
                });
            }
            rows.push(&ids[first..first + count]);
        }
        Self::new(&rows, config, device)
    }

    /// The rows of several batches as one, in their order. Dropout has no seed.
    ///
    /// # Panics
    ///
    /// If there is no batch.
    #[must_use]
    pub fn joined(batches: &[Self]) -> Self {
        let ids = batches.iter().map(|batch| batch.input_ids.clone());
        Self {
            input_ids: Tensor::cat(ids.collect(), 0),
            lengths: batches
                .iter()
                .flat_map(|batch| batch.lengths.clone())
                .collect(),
            last: batches
                .iter()
                .flat_map(|batch| batch.last.clone())
                .collect(),
            dropout_seed: None,
        }
    }

    /// Number of rows.
    pub fn batch_size(&self) -> usize {
        self.lengths.len()
    }

    /// Number of real tokens.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Tokens of the longest row.
    pub(crate) fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Pads the rows to a rectangle, with copies of a row's last token:
    /// `[tokens, width]` -> `[batch * longest, width]`.
    pub(crate) fn pad(&self, x: Tensor<2>) -> Tensor<2> {
        let longest = self.longest();
        if self.lengths.iter().all(|&length| length == longest) {
            return x;
        }
        let mut tokens = Vec::with_capacity(self.batch_size() * longest);
        let mut start = 0;
        for &length in &self.lengths {
            tokens.extend((0..longest).map(|at| (start + at.min(length - 1)) as i32));
            start += length;
        }
        x.select(0, index(tokens, &self.input_ids.device()))
    }
}

/// The seed at place `at` of those that follow from one seed; neighbours are unrelated
/// (splitmix64).
pub fn mixed_seed(seed: u64, at: usize) -> u64 {
    let mut z = seed.wrapping_add((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn index(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny::Tiny;

    fn ids(input: &ModelInput) -> Vec<i32> {
        input.input_ids.to_data().try_into_vec_as::<i32>().unwrap()
    }

    fn padded(ids: &[Vec<u32>], mask: &[Vec<u8>]) -> Result<ModelInput> {
        ModelInput::from_padded(ids, mask, &Tiny::new().config(), &Device::flex())
    }

    fn new(rows: &[Vec<u32>]) -> Result<ModelInput> {
        ModelInput::new(rows, &Tiny::new().config(), &Device::flex())
    }

    #[test]
    fn padding_on_either_side_gives_the_same_input() {
        let expected = new(&[vec![5, 6, 7], vec![8]]).unwrap();
        assert_eq!(ids(&expected), [5, 6, 7, 8]);
        assert_eq!(
            (expected.batch_size(), expected.tokens(), expected.longest()),
            (2, 4, 3)
        );
        assert_eq!(expected.last, [2, 0]);
        for (rows, mask) in [
            (
                vec![vec![5, 6, 7, 0], vec![8, 0, 0, 0]],
                vec![vec![1, 1, 1, 0], vec![1, 0, 0, 0]],
            ),
            (
                vec![vec![0, 5, 6, 7], vec![0, 0, 0, 8]],
                vec![vec![0, 1, 1, 1], vec![0, 0, 0, 1]],
            ),
            // Padding may be an id that the model does not have.
            (
                vec![vec![99, 5, 6, 7, 99], vec![99, 99, 8, 99, 99]],
                vec![vec![0, 1, 1, 1, 0], vec![0, 0, 1, 0, 0]],
            ),
        ] {
            let input = padded(&rows, &mask).unwrap();
            assert_eq!(ids(&input), ids(&expected));
            assert_eq!(
                (&input.lengths, &input.last),
                (&expected.lengths, &expected.last)
            );
        }
    }

    #[test]
    fn joined_batches_are_the_batch_of_all_rows() {
        let batches = [
            new(&[vec![5, 6, 7], vec![8]]).unwrap(),
            new(&[vec![1, 2]]).unwrap().with_text_lengths(&[1]),
        ];
        let joined = ModelInput::joined(&batches);
        assert_eq!(ids(&joined), [5, 6, 7, 8, 1, 2]);
        assert_eq!(
            (&*joined.lengths, &*joined.last),
            (&[3, 1, 2][..], &[2, 0, 0][..])
        );
    }

    #[test]
    fn padding_repeats_a_rows_last_token() {
        let input = new(&[vec![5, 6, 7], vec![8, 9]]).unwrap();
        let x = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5];
        let x = TensorData::new(x.to_vec(), [5, 2]);
        let padded = input.pad(Tensor::from_data(x, &Device::flex()));
        assert_eq!(padded.dims(), [6, 2]);
        let padded = ls_lora::host_values(padded);
        let first: Vec<f32> = padded.chunks(2).map(|row| row[0]).collect();
        assert_eq!(first, [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn an_empty_row_is_named() {
        assert!(matches!(
            new(&[vec![1], vec![]]),
            Err(ModelError::EmptyRow { row: 1 })
        ));
        let all_padding = padded(&[vec![1, 2], vec![1, 2]], &[vec![1, 1], vec![0, 0]]);
        assert!(matches!(all_padding, Err(ModelError::EmptyRow { row: 1 })));
    }

    #[test]
    fn an_id_past_the_vocabulary_is_named() {
        assert!(new(&[vec![12]]).is_ok());
        for id in [13, u32::MAX] {
            let error = new(&[vec![1], vec![2, id]]).unwrap_err();
            assert!(
                matches!(error, ModelError::TokenId { id: found, row: 1, vocab_size: 13 } if found == id),
                "{error}"
            );
        }
    }

    #[test]
    fn a_mask_that_does_not_fit_is_refused() {
        let reason =
            |ids: &[Vec<u32>], mask: &[Vec<u8>]| padded(ids, mask).unwrap_err().to_string();
        let gap = reason(&[vec![1, 2], vec![1, 2, 3]], &[vec![1, 1], vec![1, 0, 1]]);
        assert!(gap.contains("row 1") && gap.contains("gap"), "{gap}");
        let short = reason(&[vec![1, 2, 3]], &[vec![1, 1]]);
        assert!(short.contains("3 ids, attention mask of 2"), "{short}");
        let rows = reason(&[vec![1]], &[]);
        assert!(
            rows.contains("1 rows of ids, 0 of attention mask"),
            "{rows}"
        );
    }

    #[test]
    fn the_texts_end_may_come_before_the_rows_end() {
        let input = new(&[vec![1, 2, 3], vec![4, 5, 6]])
            .unwrap()
            .with_text_lengths(&[2, 3]);
        assert_eq!(input.last, [1, 2]);
        // Never before the first token nor past the last.
        let input = input.with_text_lengths(&[0, 9]);
        assert_eq!(input.last, [0, 2]);
    }
}
