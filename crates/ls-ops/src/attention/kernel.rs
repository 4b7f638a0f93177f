//! The passes of [`attention`](crate::attention()) on the CPU.
//!
//! Heads come first here (`[heads, tokens, head_dim]`), so that a head's tokens are one matrix in
//! memory and tasks write to parts of their own; the rotary embedding is applied on the way in, and
//! undone on gradients on the way out.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::plan::{AttentionPlan, RotaryTable, Segment};
use super::{AttentionOps, AttentionPasses};
use crate::gemm::{Matrix, accumulate};
use crate::host::{Values, dims, exp, in_dtype, largest, sum, tanh, tensor, vectorised};
use crate::uninit::{Uninit, filled};

/// Queries of one tile.
const QUERIES: usize = 64;
/// Keys of one tile.
const KEYS: usize = 256;

impl AttentionOps for Flex {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> FloatTensor<Self> {
        Self::forward(q, k, v, plan).0
    }
}

/// What the graph keeps: the inputs as the kernels read them, in f32 (for f32 inputs as much memory
/// as they took).
#[derive(Debug, Clone)]
pub(crate) struct AttentionState {
    /// Rotated and scaled, `[heads * queries, head_dim]`.
    q: FloatTensor<Flex>,
    /// Rotated, `[kv_heads * keys, head_dim]`.
    k: FloatTensor<Flex>,
    /// `[kv_heads * keys, head_dim]`.
    v: FloatTensor<Flex>,
    /// `[queries, heads * head_dim]`.
    out: FloatTensor<Flex>,
    /// The logarithm of each query's sum of exponentials, `[heads, queries]`.
    log_sum: FloatTensor<Flex>,
    plan: Arc<AttentionPlan>,
}

impl AttentionPasses for Flex {
    type State = AttentionState;

    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> (FloatTensor<Self>, AttentionState) {
        let dtype = q.dtype();
        let ([queries, width], [keys, _]) = (dims(&q), dims(&k));
        let (dim, kv_heads) = (plan.head_dim, plan.kv_heads);
        let (q_table, k_table) = (Some(&*plan.query_rotation), Some(&*plan.key_rotation));
        let all_q = heads_first(q, plan.heads, dim, q_table, plan.scale);
        let all_k = heads_first(k, kv_heads, dim, k_table, 1.0);
        let all_v = heads_first(v, kv_heads, dim, None, 1.0);
        let mut out = vec![0.0f32; queries * width];
        let mut log_sum = vec![0.0f32; plan.heads * queries];
        let mut tasks = Vec::new();
        // A task is one tile of queries of one head: it writes to ranges of its own.
        let heads = out
            .chunks_mut((queries * dim).max(1))
            .zip(log_sum.chunks_mut(queries.max(1)));
        for (head, (mut out, mut log_sum)) in heads.enumerate() {
            for segment in &plan.segments {
                let mut place = segment.first;
                for start in segment.queries.clone().step_by(QUERIES) {
                    let range = start..(start + QUERIES).min(segment.queries.end);
                    let (out_tile, rest) = out.split_at_mut(range.len() * dim);
                    out = rest;
                    let (log_tile, rest) = log_sum.split_at_mut(range.len());
                    log_sum = rest;
                    let count = range.len();
                    tasks.push((head, segment, range, place, out_tile, log_tile));
                    place += count;
                }
            }
        }
        let group = plan.heads / plan.kv_heads;
        tasks
            .into_par_iter()
            .for_each_init(Tile::default, |tile, task| {
                let (head, segment, range, place, out, log_sum) = task;
                let at = (head / group * keys + segment.keys.start) * dim;
                let len = segment.keys.len() * dim;
                let q = &all_q[(head * queries + range.start) * dim..][..range.len() * dim];
                let (k, v) = (&all_k[at..][..len], &all_v[at..][..len]);
                tile.forward(&plan, q, k, v, place, out, log_sum);
            });
        let out = tokens_first(&out, queries, plan.heads, dim, None, 1.0);
        let out = in_dtype(tensor(out, [queries, width]), dtype);
        let state = AttentionState {
            q: tensor(all_q, [plan.heads * queries, dim]),
            k: tensor(all_k, [kv_heads * keys, dim]),
            v: tensor(all_v, [kv_heads * keys, dim]),
            out: out.clone(),
            log_sum: tensor(log_sum, [plan.heads, queries]),
            plan,
        };
        (out, state)
    }

    fn backward(
        state: AttentionState,
        d_out: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let AttentionState {
            q,
            k,
            v,
            out,
            log_sum,
            plan,
        } = state;
        let (dtype, [queries, width]) = (out.dtype(), dims(&out));
        let (dim, group) = (plan.head_dim, plan.heads / plan.kv_heads);
        let kv_width = plan.kv_heads * dim;
        let keys = dims(&k)[0] / plan.kv_heads;
        let (q, k, v) = (Values::of(q), Values::of(k), Values::of(v));
        let (all_q, all_k, all_v) = (q.as_slice(), k.as_slice(), v.as_slice());
        let log_sum = Values::of(log_sum);
        let log_sum = log_sum.as_slice();
        let out = Values::of(out);
        // The sum over a query's probabilities times their gradients is that over its output times
        // the output's.
        let along = {
            let d_out = Values::of(d_out.clone());
            products_of_heads(out.as_slice(), d_out.as_slice(), queries, plan.heads, dim)
        };
        let d_out = heads_first(d_out, plan.heads, dim, None, 1.0);

        let mut dq = vec![0.0f32; queries * width];
        let mut dk = vec![0.0f32; keys * kv_width];
        let mut dv = vec![0.0f32; keys * kv_width];
        // A task is one head of keys of one segment, with all query heads that share it.
        let mut tasks: Vec<GradientTask<'_>> = Vec::new();
        let per_head = plan.segments.len();
        let key_heads = dk
            .chunks_mut((keys * dim).max(1))
            .zip(dv.chunks_mut((keys * dim).max(1)));
        for (kv_head, (mut dk, mut dv)) in key_heads.enumerate() {
            for segment in &plan.segments {
                let len = segment.keys.len() * dim;
                let (dk_part, rest) = dk.split_at_mut(len);
                dk = rest;
                let (dv_part, rest) = dv.split_at_mut(len);
                dv = rest;
                tasks.push(GradientTask {
                    kv_head,
                    segment,
                    dk: dk_part,
                    dv: dv_part,
                    dq: Vec::with_capacity(group),
                });
            }
        }
        for (head, mut dq) in dq.chunks_mut((queries * dim).max(1)).enumerate() {
            for (at, segment) in plan.segments.iter().enumerate() {
                let (part, rest) = dq.split_at_mut(segment.queries.len() * dim);
                dq = rest;
                tasks[head / group * per_head + at].dq.push(part);
            }
        }
        tasks
            .into_par_iter()
            .for_each_init(Tile::default, |tile, mut task| {
                let segment = task.segment;
                let at = (task.kv_head * keys + segment.keys.start) * dim;
                let len = segment.keys.len() * dim;
                let (k, v) = (&all_k[at..][..len], &all_v[at..][..len]);
                for (within, dq) in task.dq.iter_mut().enumerate() {
                    let head = task.kv_head * group + within;
                    let rows = head * queries + segment.queries.start;
                    let len = segment.queries.len();
                    tile.backward(
                        &plan,
                        Head {
                            q: &all_q[rows * dim..][..len * dim],
                            k,
                            v,
                            d_out: &d_out[rows * dim..][..len * dim],
                            log_sum: &log_sum[rows..][..len],
                            along: &along[rows..][..len],
                            first: segment.first,
                        },
                        dq,
                        task.dk,
                        task.dv,
                    );
                }
            });
        // Queries came in scaled, so their gradients go out scaled; keys' have it by the queries.
        let (q_table, k_table) = (Some(&*plan.query_rotation), Some(&*plan.key_rotation));
        let dq = tokens_first(&dq, queries, plan.heads, dim, q_table, plan.scale);
        let dk = tokens_first(&dk, keys, plan.kv_heads, dim, k_table, 1.0);
        let dv = tokens_first(&dv, keys, plan.kv_heads, dim, None, 1.0);
        (
            in_dtype(tensor(dq, [queries, width]), dtype),
            in_dtype(tensor(dk, [keys, kv_width]), dtype),
            in_dtype(tensor(dv, [keys, kv_width]), dtype),
        )
    }
}

struct GradientTask<'a> {
    kv_head: usize,
    segment: &'a Segment,
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    dq: Vec<&'a mut [f32]>,
}

/// Heads of tokens that one task moves.
const ROWS: usize = 128;

/// `[tokens, heads * dim]` to `[heads, tokens, dim]`, rotated by the table's angles, times `scale`.
fn heads_first(
    x: FloatTensor<Flex>,
    heads: usize,
    dim: usize,
    table: Option<&RotaryTable>,
    scale: f32,
) -> Vec<f32> {
    let [tokens, width] = dims(&x);
    let x = Values::of(x);
    let x = x.as_slice();
    filled(tokens * width, ROWS * dim, |task, out| {
        vectorised(
            #[inline(always)]
            || {
                for row in task * ROWS..((task + 1) * ROWS).min(heads * tokens) {
                    let (head, token) = (row / tokens, row % tokens);
                    let x = &x[token * width + head * dim..][..dim];
                    write_rotated(out, x, table, token, 1.0, scale);
                }
            },
        );
    })
}

/// `[heads, tokens, dim]` to `[tokens, heads * dim]`, rotated back by the table's angles, times
/// `scale`.
fn tokens_first(
    x: &[f32],
    tokens: usize,
    heads: usize,
    dim: usize,
    table: Option<&RotaryTable>,
    scale: f32,
) -> Vec<f32> {
    filled(x.len(), ROWS * dim, |task, out| {
        vectorised(
            #[inline(always)]
            || {
                for row in task * ROWS..((task + 1) * ROWS).min(heads * tokens) {
                    let (token, head) = (row / heads, row % heads);
                    let x = &x[(head * tokens + token) * dim..][..dim];
                    write_rotated(out, x, table, token, -1.0, scale);
                }
            },
        );
    })
}

/// Writes one head of one token, rotated by the table's angles, if there are any; `sign` -1 is the
/// transpose, which rotates back.
#[inline(always)]
fn write_rotated(
    out: &mut Uninit<'_>,
    x: &[f32],
    table: Option<&RotaryTable>,
    token: usize,
    sign: f32,
    scale: f32,
) {
    let Some(table) = table else {
        out.write(
            x.len(),
            #[inline(always)]
            |i| x[i] * scale,
        );
        return;
    };
    let pairs = table.pairs;
    let cos = &table.cos[token * pairs..][..pairs];
    let sin = &table.sin[token * pairs..][..pairs];
    let (x1, rest) = x.split_at(pairs);
    let (x2, still) = rest.split_at(pairs);
    out.write(
        pairs,
        #[inline(always)]
        |i| x1[i] * (cos[i] * scale) - x2[i] * (sin[i] * sign * scale),
    );
    out.write(
        pairs,
        #[inline(always)]
        |i| x2[i] * (cos[i] * scale) + x1[i] * (sin[i] * sign * scale),
    );
    out.write(
        still.len(),
        #[inline(always)]
        |i| still[i] * scale,
    );
}

/// The scalar product of each head of two `[tokens, heads * dim]`, as `[heads, tokens]`.
fn products_of_heads(a: &[f32], b: &[f32], tokens: usize, heads: usize, dim: usize) -> Vec<f32> {
    let mut out = vec![0.0f32; heads * tokens];
    out.par_chunks_mut(tokens.max(1))
        .enumerate()
        .for_each(|(head, out)| {
            vectorised(
                #[inline(always)]
                || {
                    for (token, out) in out.iter_mut().enumerate() {
                        let at = (token * heads + head) * dim;
                        let (a, b) = (&a[at..][..dim], &b[at..][..dim]);
                        *out = sum(
                            dim,
                            #[inline(always)]
                            |i| a[i] * b[i],
                        );
                    }
                },
            );
        });
    out
}

/// One head of one segment, for the backward pass.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    d_out: &'a [f32],
    log_sum: &'a [f32],
    along: &'a [f32],
    first: usize,
}

/// Buffers of one thread.
#[derive(Default)]
struct Tile {
    scores: Vec<f32>,
    gradients: Vec<f32>,
    /// The largest score of each query so far.
    peak: Vec<f32>,
}

impl Tile {
    /// One tile of queries over all keys that they see. `place` is that of the first query among
    /// the keys.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &mut self,
        plan: &AttentionPlan,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        place: usize,
        out: &mut [f32],
        log_sum: &mut [f32],
    ) {
        let dim = plan.head_dim;
        let (queries, keys) = (q.len() / dim, k.len() / dim);
        let seen = plan.visible(place, keys).start..plan.visible(place + queries - 1, keys).end;
        self.peak.clear();
        self.peak.resize(queries, f32::NEG_INFINITY);
        log_sum.fill(0.0);
        for start in seen.clone().step_by(KEYS) {
            let part = start..(start + KEYS).min(seen.end);
            let width = part.len();
            self.scores.resize(queries * width, 0.0);
            accumulate(
                &mut self.scores,
                1.0,
                Matrix::new(q, [queries, dim]),
                Matrix::new(&k[start * dim..part.end * dim], [width, dim]).t(),
                0.0,
            );
            vectorised(
                #[inline(always)]
                || {
                    for (at, scores) in self.scores.chunks_mut(width).enumerate() {
                        let visible = within(plan.visible(place + at, keys), &part);
                        scores[..visible.start].fill(0.0);
                        scores[visible.end..].fill(0.0);
                        let scores = &mut scores[visible];
                        if let Some(cap) = plan.soft_cap {
                            for score in scores.iter_mut() {
                                *score = cap * tanh(*score / cap);
                            }
                        }
                        let before = self.peak[at];
                        let peak = before.max(largest(scores));
                        for score in scores.iter_mut() {
                            *score = exp(*score - peak);
                        }
                        let scores = &*scores;
                        let added = sum(
                            scores.len(),
                            #[inline(always)]
                            |i| scores[i],
                        );
                        if peak > before && before > f32::NEG_INFINITY {
                            let shrink = exp(before - peak);
                            log_sum[at] *= shrink;
                            for value in &mut out[at * dim..][..dim] {
                                *value *= shrink;
                            }
                        }
                        log_sum[at] += added;
                        self.peak[at] = peak;
                    }
                },
            );
            accumulate(
                out,
                1.0,
                Matrix::new(&self.scores, [queries, width]),
                Matrix::new(&v[start * dim..part.end * dim], [width, dim]),
                if start == seen.start { 0.0 } else { 1.0 },
            );
        }
        for (at, out) in out.chunks_mut(dim).enumerate() {
            let inverse = 1.0 / log_sum[at];
            out.iter_mut().for_each(|value| *value *= inverse);
            log_sum[at] = log_sum[at].ln() + self.peak[at];
        }
    }

    /// Adds the gradients of one head of one segment; those of queries without the scale.
    fn backward(
        &mut self,
        plan: &AttentionPlan,
        head: Head<'_>,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let dim = plan.head_dim;
        let (queries, keys) = (head.q.len() / dim, head.k.len() / dim);
        for from in (0..queries).step_by(QUERIES) {
            let rows = from..(from + QUERIES).min(queries);
            let (count, place) = (rows.len(), head.first + from);
            let elements = rows.start * dim..rows.end * dim;
            let q = Matrix::new(&head.q[elements.clone()], [count, dim]);
            let d_out = Matrix::new(&head.d_out[elements.clone()], [count, dim]);
            let seen = plan.visible(place, keys).start..plan.visible(place + count - 1, keys).end;
            for start in seen.clone().step_by(KEYS) {
                let part = start..(start + KEYS).min(seen.end);
                let width = part.len();
                let elements_of_keys = start * dim..part.end * dim;
                let k = Matrix::new(&head.k[elements_of_keys.clone()], [width, dim]);
                let v = Matrix::new(&head.v[elements_of_keys.clone()], [width, dim]);
                self.scores.resize(count * width, 0.0);
                self.gradients.resize(count * width, 0.0);
                accumulate(&mut self.scores, 1.0, q, k.t(), 0.0);
                accumulate(&mut self.gradients, 1.0, d_out, v.t(), 0.0);
                vectorised(
                    #[inline(always)]
                    || {
                        let tiles = self
                            .scores
                            .chunks_mut(width)
                            .zip(self.gradients.chunks_mut(width));
                        for (at, (scores, gradients)) in tiles.enumerate() {
                            let visible = within(plan.visible(place + at, keys), &part);
                            for hidden in [0..visible.start, visible.end..width] {
                                scores[hidden.clone()].fill(0.0);
                                gradients[hidden].fill(0.0);
                            }
                            let log_sum = head.log_sum[from + at];
                            let along = head.along[from + at];
                            let scores = &mut scores[visible.clone()];
                            let gradients = &mut gradients[visible];
                            let pairs = scores.iter_mut().zip(gradients);
                            match plan.soft_cap {
                                None => pairs.for_each(
                                    #[inline(always)]
                                    |(score, gradient)| {
                                        *score = exp(*score - log_sum);
                                        *gradient = *score * (*gradient - along);
                                    },
                                ),
                                Some(cap) => pairs.for_each(
                                    #[inline(always)]
                                    |(score, gradient)| {
                                        let capped = tanh(*score / cap);
                                        let slope = 1.0 - capped * capped;
                                        *score = exp(cap * capped - log_sum);
                                        *gradient = *score * (*gradient - along) * slope;
                                    },
                                ),
                            }
                        }
                    },
                );
                let probabilities = Matrix::new(&self.scores, [count, width]);
                let gradients = Matrix::new(&self.gradients, [count, width]);
                accumulate(
                    &mut dv[elements_of_keys.clone()],
                    1.0,
                    probabilities.t(),
                    d_out,
                    1.0,
                );
                accumulate(&mut dk[elements_of_keys], 1.0, gradients.t(), q, 1.0);
                accumulate(&mut dq[elements.clone()], 1.0, gradients, k, 1.0);
            }
        }
    }
}

/// A range of keys as places of a part of them.
fn within(visible: Range<usize>, part: &Range<usize>) -> Range<usize> {
    let start = visible.start.clamp(part.start, part.end) - part.start;
    let end = visible.end.clamp(part.start, part.end) - part.start;
    start..end.max(start)
}
