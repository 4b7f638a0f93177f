//! The multiply-adds in the matrix products of a pass, as this project computes it.
//!
//! Attention counts the pairs of tokens that see each other, however many a kernel computes, so
//! that a rate is never flattered. Norms, activations, the softmax, the head and the optimizer do
//! not count.

use crate::Shape;

/// Multiply-adds of one pass over a batch of equal rows, with the last token of each row pooled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Rows of the batch.
    pub rows: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Rank of the adapter on q and v.
    pub rank: usize,
    /// Whether a token sees those to its right.
    pub bidirectional: bool,
}

/// The products of one block by which tokens they are of: all, or those whose queries are wanted.
struct Block {
    /// Queries and what comes after attention.
    queries: f64,
    /// Pairs of tokens that see each other, times rows.
    pairs: f64,
}

impl Work {
    fn tokens(self) -> f64 {
        (self.rows * self.length) as f64
    }

    /// In the last block only the last token of each row has a query.
    fn block(self, is_last: bool) -> Block {
        let (rows, length) = (self.rows as f64, self.length as f64);
        if is_last {
            return Block {
                queries: rows,
                pairs: rows * length,
            };
        }
        let seen = if self.bidirectional {
            length * length
        } else {
            length * (length + 1.0) / 2.0
        };
        Block {
            queries: rows * length,
            pairs: rows * seen,
        }
    }

    /// The forward pass without an adapter.
    pub fn forward(self, shape: Shape) -> f64 {
        let sizes = Sizes::of(shape);
        let last = shape.num_hidden_layers - 1;
        (0..=last)
            .map(|layer| {
                let block = self.block(layer == last);
                block.queries * (sizes.q + sizes.rest)
                    + 2.0 * self.tokens() * sizes.k
                    + 2.0 * block.pairs * sizes.attention
            })
            .sum()
    }

    /// Forward and backward of a training step with an adapter on q and v.
    pub fn step(self, shape: Shape) -> f64 {
        let sizes = Sizes::of(shape);
        let last = shape.num_hidden_layers - 1;
        let rank = self.rank as f64;
        let backward: f64 = (0..=last)
            .map(|layer| {
                let block = self.block(layer == last);
                // Scores again, and four gradients.
                let mut sum = block.queries * sizes.rest + 5.0 * block.pairs * sizes.attention;
                // Nothing below the first block has a gradient.
                if layer > 0 {
                    sum += block.queries * sizes.q + 2.0 * self.tokens() * sizes.k;
                }
                sum
            })
            .sum();
        let adapters: f64 = (0..=last)
            .map(|layer| {
                let block = self.block(layer == last);
                let ins = if layer > 0 { 3.0 } else { 2.0 };
                // Forward: once in, once out. Backward: both gradients of out, A's and the input's
                // of in.
                [(block.queries, sizes.queries), (self.tokens(), sizes.keys)]
                    .map(|(tokens, out)| tokens * rank * (ins * sizes.hidden + 3.0 * out))
                    .iter()
                    .sum::<f64>()
            })
            .sum();
        self.forward(shape) + backward + adapters
    }
}

/// Elements of a block's weights.
struct Sizes {
    hidden: f64,
    queries: f64,
    keys: f64,
    q: f64,
    k: f64,
    /// Output projection and MLP.
    rest: f64,
    /// Multiply-adds of one of attention's products for a pair of tokens.
    attention: f64,
}

impl Sizes {
    fn of(shape: Shape) -> Self {
        let (hidden, mlp) = (shape.hidden_size as f64, shape.intermediate_size as f64);
        let keys = hidden / shape.num_attention_heads as f64 * shape.num_key_value_heads as f64;
        Self {
            hidden,
            queries: hidden,
            keys,
            q: hidden * hidden,
            k: hidden * keys,
            rest: hidden * hidden + 3.0 * hidden * mlp,
            attention: hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LLAMA_7B;

    #[test]
    fn a_block_is_counted_by_hand() {
        let shape = Shape {
            hidden_size: 8,
            intermediate_size: 10,
            num_hidden_layers: 1,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 5,
        };
        let work = Work {
            rows: 2,
            length: 3,
            rank: 12,
            bidirectional: false,
        };
        // One query for each of 2 rows, 6 keys, 2 x 3 pairs.
        let forward = 2 * (64 + 64 + 240) + 6 * 2 * 32 + 2 * 6 * 8;
        assert_eq!(work.forward(shape), f64::from(forward));
        let backward = 2 * (64 + 240) + 5 * 6 * 8;
        let adapters = 12 * (2 * (2 * 8 + 3 * 8) + 6 * (2 * 8 + 3 * 4));
        let step = forward + backward + adapters;
        assert_eq!(work.step(shape), f64::from(step));
    }

    #[test]
    fn a_step_is_near_four_operations_a_weight_and_token() {
        let work = Work {
            rows: 8,
            length: 64,
            rank: 12,
            bidirectional: true,
        };
        // 31 blocks of 202 million weights; adapters and attention are small beside them.
        let plain = 2.0 * 512.0 * 31.0 * 202.4e6;
        let ratio = work.step(LLAMA_7B) / plain;
        assert!((0.99..1.05).contains(&ratio), "{ratio}");
        let causal = Work {
            bidirectional: false,
            ..work
        };
        assert!(causal.step(LLAMA_7B) < work.step(LLAMA_7B));
    }
}
