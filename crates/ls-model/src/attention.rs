//! Attention over a batch whose rows lie end to end: what the layers share for one batch.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use ls_ops::{AttentionPlan, PlacedPlan, RotaryTable, Segment};

use crate::input::{ModelInput, mixed_seed};
use crate::mask::Visibility;
use crate::rope::RopeConfig;
use crate::rotation::unturned;

/// What one layer's attention has that another's may not: heads, what becomes of scores, and who
/// sees whom. Layers of one kind share a plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionKind {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub multiplier: f64,
    /// The largest score, if there is one.
    pub soft_cap: Option<f64>,
    /// Which tokens a token attends to.
    pub visibility: Visibility,
    /// Rotary embedding, if there is one.
    pub rope: Option<RopeConfig>,
}

/// One token of each row: the ones whose hidden states the head reads.
pub(crate) struct Pooled {
    /// Their places among all tokens, `[batch]`.
    index: Tensor<1, Int>,
    /// The same on the host.
    places: Vec<usize>,
    /// Their places within their rows.
    in_row: Vec<usize>,
}

impl Pooled {
    /// The last token of each row's text.
    pub(crate) fn last(input: &ModelInput) -> Self {
        let mut start = 0;
        let places: Vec<usize> = input
            .lengths
            .iter()
            .zip(&input.last)
            .map(|(&length, &last)| {
                start += length;
                start - length + last
            })
            .collect();
        let index: Vec<i32> = places.iter().map(|&place| place as i32).collect();
        let shape = [index.len()];
        Self {
            index: Tensor::from_data(TensorData::new(index, shape), &input.input_ids.device()),
            places,
            in_row: input.last.clone(),
        }
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// The rows of these tokens: `[tokens, width]` -> `[batch, width]`.
    pub(crate) fn of(&self, x: Tensor<2>) -> Tensor<2> {
        x.select(0, self.index.clone())
    }
}

/// What the layers share for one batch.
pub(crate) struct BatchContext<'a> {
    input: &'a ModelInput,
    /// The angles of each rotary embedding.
    rotations: Vec<(Option<RopeConfig>, Arc<RotaryTable>)>,
    plans: Vec<(AttentionKind, Arc<AttentionPlan>)>,
}

impl<'a> BatchContext<'a> {
    pub(crate) fn new(input: &'a ModelInput) -> Self {
        Self {
            input,
            rotations: Vec::new(),
            plans: Vec::new(),
        }
    }

    /// Seeds dropout with the block's own part of the batch's seed.
    pub(crate) fn seed_dropout(&self, block: usize) {
        if let Some(seed) = self.input.dropout_seed {
            ls_lora::seed_dropout(mixed_seed(seed, block));
        }
    }

    /// Attention of one layer. With `pooled` the queries are the pooled tokens'.
    ///
    /// # Shapes
    ///
    /// - queries `[tokens, heads * head_dim]`, with `pooled` `[batch, heads * head_dim]`; keys and
    ///   values `[tokens, kv_heads * head_dim]`; output: as the queries
    pub(crate) fn attend(
        &mut self,
        [q, k, v]: [Tensor<2>; 3],
        kind: &AttentionKind,
        pooled: Option<&Pooled>,
    ) -> Tensor<2> {
        let plan = match pooled {
            // One layer alone has pooled queries.
            Some(_) => Arc::new(self.plan(kind, pooled)),
            None => match self.plans.iter().find(|(of, _)| of == kind) {
                Some((_, plan)) => plan.clone(),
                None => {
                    let plan = Arc::new(self.plan(kind, None));
                    self.plans.push((kind.clone(), plan.clone()));
                    plan
                }
            },
        };
        ls_ops::attention(q, k, v, &plan)
    }

    fn plan(&mut self, kind: &AttentionKind, pooled: Option<&Pooled>) -> AttentionPlan {
        let mut segments = Vec::with_capacity(self.input.lengths.len());
        let mut start = 0;
        for (row, &length) in self.input.lengths.iter().enumerate() {
            let keys = start..start + length;
            let (queries, first) = match pooled {
                Some(pooled) => (row..row + 1, pooled.in_row[row]),
                None => (keys.clone(), 0),
            };
            segments.push(Segment {
                queries,
                keys,
                first,
            });
            start += length;
        }
        let rotation = self.rotation(kind);
        let query_rotation = match pooled {
            None => rotation.clone(),
            Some(pooled) => {
                let pairs = rotation.pairs;
                let of = |values: &[f32]| {
                    let rows = pooled.places.iter();
                    let rows = rows.map(|at| &values[at * pairs..][..pairs]);
                    rows.flatten().copied().collect()
                };
                Arc::new(RotaryTable {
                    pairs,
                    cos: of(&rotation.cos),
                    sin: of(&rotation.sin),
                })
            }
        };
        AttentionPlan {
            segments,
            heads: kind.heads,
            kv_heads: kind.kv_heads,
            head_dim: kind.head_dim,
            scale: kind.multiplier as f32,
            soft_cap: kind.soft_cap.map(|cap| cap as f32),
            bidirectional: kind.visibility.bidirectional,
            window: kind.visibility.window,
            query_rotation,
            key_rotation: rotation,
            placed: PlacedPlan::default(),
        }
    }

    /// The angles of all tokens in layers of a kind.
    fn rotation(&mut self, kind: &AttentionKind) -> Arc<RotaryTable> {
        if let Some((_, table)) = self.rotations.iter().find(|(of, _)| *of == kind.rope) {
            return table.clone();
        }
        let table = Arc::new(match &kind.rope {
            Some(rope) => rope.table(&self.input.lengths),
            None => unturned(),
        });
        self.rotations.push((kind.rope.clone(), table.clone()));
        table
    }
}
