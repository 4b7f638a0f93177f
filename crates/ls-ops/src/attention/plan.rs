//! [`AttentionPlan`]: the rows of a batch, and who sees whom in them.

use std::ops::Range;
use std::sync::Arc;

/// Cosines and sines of the rotary embedding, for each pair of channels of each token that turns.
/// Both may have a factor in common, by which turning then also stretches.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTable {
    /// Pairs of channels of a head that turn, at most half its width: channel `i` turns with
    /// `i + pairs`, and those from `2 * pairs` on stay as they are.
    pub pairs: usize,
    /// `[tokens, pairs]`.
    pub cos: Vec<f32>,
    /// `[tokens, pairs]`.
    pub sin: Vec<f32>,
}

/// The tokens of one row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its queries among all queries.
    pub queries: Range<usize>,
    /// Its keys and values among all keys.
    pub keys: Range<usize>,
    /// Place of its first query among its keys.
    pub first: usize,
}

/// The parameters of [`attention`](crate::attention()). Segments cover queries and keys in order,
/// without gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionPlan {
    /// Rows of the batch.
    pub segments: Vec<Segment>,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What scores are multiplied by; usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A score `s` becomes `cap tanh(s / cap)`, so that none is larger: Gemma 2.
    pub soft_cap: Option<f32>,
    /// Whether a token attends to those on its right.
    pub bidirectional: bool,
    /// A sliding window, as transformers counts it: the own position and `window - 1` before it
    /// when causal, `window` to either side when bidirectional.
    pub window: Option<usize>,
    /// Angles of the queries.
    pub query_rotation: Arc<RotaryTable>,
    /// Angles of the keys.
    pub key_rotation: Arc<RotaryTable>,
    /// Where the plan is kept for a device; empty to begin with.
    pub placed: PlacedPlan,
}

/// A plan as a device has it: made with the first use of the plan, and used by all that follow.
#[derive(Debug, Default)]
pub struct PlacedPlan(
    #[cfg(feature = "cube")] pub(crate) std::sync::OnceLock<crate::cube::layout::Placed>,
);

/// A copy of a plan may be changed before it is used, so it is placed anew.
impl Clone for PlacedPlan {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// It follows from the plan.
impl PartialEq for PlacedPlan {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AttentionPlan {
    /// The keys that the query at a place sees, of `keys`. Never empty: a token sees itself.
    #[inline]
    pub(crate) fn visible(&self, place: usize, keys: usize) -> Range<usize> {
        let reach = self.window.unwrap_or(usize::MAX);
        if self.bidirectional {
            place.saturating_sub(reach)..place.saturating_add(reach).saturating_add(1).min(keys)
        } else {
            place.saturating_sub(reach.saturating_sub(1))..place + 1
        }
    }

    pub(super) fn check(&self, q: [usize; 2], k: [usize; 2], v: [usize; 2]) {
        let (heads, kv, width) = (self.heads, self.kv_heads, self.head_dim);
        assert!(
            kv > 0 && heads.is_multiple_of(kv),
            "{heads} query heads do not share {kv} key heads"
        );
        assert!(width.is_multiple_of(2), "{width} channels are no pairs");
        let (mut queries, mut keys) = (0, 0);
        for segment in &self.segments {
            assert!(
                segment.queries.start == queries && segment.keys.start == keys,
                "segments follow each other"
            );
            (queries, keys) = (segment.queries.end, segment.keys.end);
            assert!(
                segment.first + segment.queries.len() <= segment.keys.len(),
                "every query stands at a key"
            );
        }
        assert_eq!(
            q,
            [queries, heads * width],
            "queries are [tokens, heads * head_dim]"
        );
        assert_eq!(
            k,
            [keys, kv * width],
            "keys are [tokens, kv_heads * head_dim]"
        );
        assert_eq!(v, k, "values are shaped as keys");
        let pairs = self.key_rotation.pairs;
        assert!(
            pairs <= width / 2 && self.query_rotation.pairs == pairs,
            "queries and keys turn alike, within their {width} channels"
        );
        for (table, tokens) in [(&self.query_rotation, queries), (&self.key_rotation, keys)] {
            let len = tokens * pairs;
            assert!(
                table.cos.len() == len && table.sin.len() == len,
                "an angle for each pair of each token"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per query of a row of `keys`, `.` where it sees a key.
    fn table(bidirectional: bool, window: Option<usize>, keys: usize) -> Vec<String> {
        let empty = Arc::new(RotaryTable {
            pairs: 1,
            cos: Vec::new(),
            sin: Vec::new(),
        });
        let plan = AttentionPlan {
            segments: Vec::new(),
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            scale: 1.0,
            soft_cap: None,
            bidirectional,
            window,
            query_rotation: empty.clone(),
            key_rotation: empty,
            placed: PlacedPlan::default(),
        };
        let line = |place| {
            let visible = plan.visible(place, keys);
            let mark = |key| if visible.contains(&key) { '.' } else { '#' };
            (0..keys).map(mark).collect()
        };
        (0..keys).map(line).collect()
    }

    /// The bounds of a window are those of transformers' `masking_utils.py`.
    #[test]
    fn a_window_counts_the_own_position_when_causal_and_each_side_when_not() {
        assert_eq!(table(false, None, 3), [".##", "..#", "..."]);
        assert_eq!(table(true, None, 3), ["...", "...", "..."]);
        assert_eq!(table(false, Some(2), 4), [".###", "..##", "#..#", "##.."]);
        assert_eq!(table(false, Some(1), 3), [".##", "#.#", "##."]);
        assert_eq!(table(false, Some(9), 3), [".##", "..#", "..."]);
        assert_eq!(table(true, Some(1), 4), ["..##", "...#", "#...", "##.."]);
        assert_eq!(table(true, Some(2), 4), ["...#", "....", "....", "#..."]);
        assert_eq!(table(true, Some(4), 4), ["....", "....", "....", "...."]);
    }
}
