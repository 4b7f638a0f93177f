//! A plan of [`attention`](crate::attention()) as a device has it.

use burn::backend::Cube;
use burn::backend::tensor::{FloatTensor, IntTensor};

/// The sizes of a plan's rectangle, and where its parts lie in the tensors of [`Placed`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Layout {
    /// Rows of the batch.
    pub(super) rows: usize,
    pub(super) kv_heads: usize,
    /// Query heads that share a key head.
    pub(super) groups: usize,
    /// Pairs of channels of a head.
    pub(super) half: usize,
    /// Those of them that turn.
    pub(super) turned: usize,
    /// Queries and keys of the longest row.
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Queries and keys of all rows.
    pub(super) query_tokens: usize,
    pub(super) key_tokens: usize,
    /// Where the queries' angles begin; those of the keys begin at 0.
    pub(super) query_angles: usize,
    pub(super) scale: f32,
    pub(super) soft_cap: Option<f32>,
    pub(super) bidirectional: bool,
    pub(super) window: Option<usize>,
}

impl Layout {
    pub(super) fn heads(&self) -> usize {
        self.kv_heads * self.groups
    }

    pub(super) fn dim(&self) -> usize {
        2 * self.half
    }

    /// Of the queries in the rectangle; those of a key head's query heads follow each other.
    pub(super) fn query_shape(&self) -> [usize; 4] {
        [
            self.rows,
            self.kv_heads,
            self.groups * self.queries,
            self.dim(),
        ]
    }

    pub(super) fn key_shape(&self) -> [usize; 4] {
        [self.rows, self.kv_heads, self.keys, self.dim()]
    }

    /// Keys that a query sees to each side that it sees; a causal window counts the own place.
    pub(super) fn reach(&self) -> u32 {
        /// More than any row has, and twice it is still a number of 32 bits.
        const ALL: usize = 1 << 30;
        let window = self.window.unwrap_or(ALL).min(ALL);
        let own = usize::from(!self.bidirectional);
        window.saturating_sub(own) as u32
    }
}

/// A plan on a device.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(super) layout: Layout,
    /// One after the other: the query token of each place of the rectangle `[rows, queries]` (-1
    /// for padding), the same for keys `[rows, keys]`, the place of each query token, that of each
    /// key token, and of each row the place of its first query among its keys and its keys.
    pub(super) places: IntTensor<Cube>,
    /// Cosines, then sines, of the keys and then, if they differ, of the queries,
    /// `[tokens, turned]` each.
    pub(super) angles: FloatTensor<Cube>,
}
