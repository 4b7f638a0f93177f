//! [`ModelInput`]: the real tokens of a batch, laid end to end.
//!
//! Padding never reaches a weight: the rows of every matrix product are the batch's real tokens. Only attention needs a
//! rectangle, so its inputs are spread out to `[batch, longest]` and gathered back ([`ModelInput::pad`],
//! [`ModelInput::unpad`]). That also makes a result independent of the side and amount of padding it arrived with.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};

/// A batch ready for the model.
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// Ids of the real tokens, row after row, `[tokens]`.
    pub input_ids: Tensor<1, Int>,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// Place of the last token of the text in each row: what `last` pools. The end of the row, unless padding counts as
    /// tokens ([`ModelInput::with_text_lengths`]).
    pub last: Vec<usize>,
    /// For each place of the rectangle the token to put there, `[batch * longest]`; `None` if there is no padding.
    to_padded: Option<Tensor<1, Int>>,
    /// For each token its place in the rectangle, `[tokens]`.
    to_tokens: Option<Tensor<1, Int>>,
}

impl ModelInput {
    /// A batch of unpadded rows of token ids.
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
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let (mut to_padded, mut to_tokens) = (None, None);
        if lengths.iter().any(|&length| length != longest) {
            let (mut padded, mut tokens) = (
                Vec::with_capacity(rows.len() * longest),
                Vec::with_capacity(ids.len()),
            );
            let mut start = 0;
            for (row, &length) in lengths.iter().enumerate() {
                // What stands in a padded place is blocked as a key and dropped as a query: any token of the row will do.
                padded.extend((0..longest).map(|at| (start + at.min(length - 1)) as i32));
                tokens.extend((0..length).map(|at| (row * longest + at) as i32));
                start += length;
            }
            to_padded = Some(index(padded, device));
            to_tokens = Some(index(tokens, device));
        }
        let last = lengths.iter().map(|length| length - 1).collect();
        Ok(Self {
            input_ids: index(ids, device),
            lengths,
            last,
            to_padded,
            to_tokens,
        })
    }

    /// Says how many tokens of each row are its text, for rows whose padding (on the right) counts as tokens: the
    /// reference's unmasked models attend to padding, but pool `last` at the text's end.
    pub fn with_text_lengths(mut self, text_lengths: &[usize]) -> Self {
        self.last = text_lengths
            .iter()
            .zip(&self.lengths)
            .map(|(&text, &all)| text.clamp(1, all) - 1)
            .collect();
        self
    }

    /// A batch of rows that are padded on either side.
    ///
    /// `attention_mask` is 1 for a token and 0 for padding; a row's tokens must be contiguous.
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

    /// Number of rows.
    pub fn batch_size(&self) -> usize {
        self.lengths.len()
    }

    /// Number of real tokens.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Spreads the tokens out to a rectangle: `[tokens, width]` -> `[batch * longest, width]`.
    pub fn pad(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.to_padded {
            Some(indices) => x.select(0, indices.clone()),
            None => x,
        }
    }

    /// Gathers the tokens back: `[batch * longest, width]` -> `[tokens, width]`.
    pub fn unpad(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.to_tokens {
            Some(indices) => x.select(0, indices.clone()),
            None => x,
        }
    }
}

fn index(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}
