//! The kernels of [`attention`](crate::attention()) beside burn's matrix products: rows are spread
//! to a rectangle and gathered back, with the rotary embedding on the way; and the softmax over the
//! keys that a query sees, with its gradient.
//!
//! Within the rectangle everything is f32, whatever the dtype of the activations and the length of
//! the rows: scores are never rounded to 16 bits. (The products of f32 values may be TF32 on CUDA,
//! where that is faster.)

use std::sync::Arc;

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, BackendTypes, Cube, backend_extension};
use burn::backend::{TensorMetadata, fusion::custom::TensorSpec};
use burn::tensor::{DType, Shape, Slice, TensorData};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::layout::{Layout, Placed};
use super::{Combine, CubeBackend, by_row, by_unit, contiguous, element, empty, rows, together};
use crate::attention::{AttentionOps, AttentionPasses, AttentionPlan};

/// Scores that are in memory at a time, unless one row of the batch has more: 128 MiB, what any GPU
/// binds to a kernel.
const SCORES: usize = 1 << 25;

/// The sizes as a launch takes them.
fn sizes(layout: &Layout) -> SizesLaunch {
    let key_token = layout.rows * layout.queries;
    let query_slot = key_token + layout.rows * layout.keys;
    let key_slot = query_slot + layout.query_tokens;
    let first = key_slot + layout.key_tokens;
    SizesLaunch::new(
        layout.rows as u32,
        layout.kv_heads as u32,
        layout.groups as u32,
        layout.half as u32,
        layout.turned as u32,
        layout.queries as u32,
        layout.keys as u32,
        layout.query_tokens as u32,
        layout.key_tokens as u32,
        layout.query_angles as u32,
        key_token as u32,
        query_slot as u32,
        key_slot as u32,
        first as u32,
        layout.scale,
        layout.soft_cap.unwrap_or(1.0),
    )
}

/// [`Layout`] within a kernel.
#[derive(CubeLaunch, CubeType)]
struct Sizes {
    rows: u32,
    kv_heads: u32,
    groups: u32,
    half: u32,
    turned: u32,
    queries: u32,
    keys: u32,
    query_tokens: u32,
    key_tokens: u32,
    /// Where the sections of the angles and of the places begin.
    query_angles: u32,
    key_token: u32,
    query_slot: u32,
    key_slot: u32,
    first: u32,
    scale: f32,
    /// Read where there is one.
    cap: f32,
}

/// Puts a plan on a device.
fn place(plan: &AttentionPlan, device: &<Cube as BackendTypes>::Device) -> Placed {
    let of = |longest: fn(&crate::Segment) -> usize| plan.segments.iter().map(longest).max();
    let (queries, keys) = (
        of(|segment| segment.queries.len()).unwrap_or(0),
        of(|segment| segment.keys.len()).unwrap_or(0),
    );
    let last = plan.segments.last();
    let key_table = &plan.key_rotation;
    let mut layout = Layout {
        rows: plan.segments.len(),
        kv_heads: plan.kv_heads,
        groups: plan.heads / plan.kv_heads,
        half: plan.head_dim / 2,
        turned: key_table.pairs,
        queries,
        keys,
        query_tokens: last.map_or(0, |segment| segment.queries.end),
        key_tokens: last.map_or(0, |segment| segment.keys.end),
        query_angles: 0,
        scale: plan.scale,
        soft_cap: plan.soft_cap,
        bidirectional: plan.bidirectional,
        window: plan.window,
    };
    let mut places = Vec::new();
    let (mut query_slots, mut key_slots, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
    for segment in &plan.segments {
        let tokens = segment.queries.clone().map(|token| token as i32);
        places.extend(tokens.chain(std::iter::repeat(-1)).take(queries));
    }
    for segment in &plan.segments {
        let tokens = segment.keys.clone().map(|token| token as i32);
        places.extend(tokens.chain(std::iter::repeat(-1)).take(keys));
    }
    for (row, segment) in plan.segments.iter().enumerate() {
        query_slots.extend((0..segment.queries.len()).map(|at| (row * queries + at) as i32));
        key_slots.extend((0..segment.keys.len()).map(|at| (row * keys + at) as i32));
        bounds.extend([segment.first as i32, segment.keys.len() as i32]);
    }
    places.extend(query_slots.into_iter().chain(key_slots).chain(bounds));
    let mut angles = [&key_table.cos[..], &key_table.sin[..]].concat();
    if !Arc::ptr_eq(key_table, &plan.query_rotation) {
        layout.query_angles = angles.len();
        angles.extend_from_slice(&plan.query_rotation.cos);
        angles.extend_from_slice(&plan.query_rotation.sin);
    }
    if angles.is_empty() {
        angles.push(0.0); // no device takes a buffer of nothing
    }
    let (places_shape, angles_shape) = ([places.len()], [angles.len()]);
    Placed {
        layout,
        places: Cube::int_from_data(TensorData::new(places, places_shape), device),
        angles: Cube::float_from_data(TensorData::new(angles, angles_shape), device),
    }
}

/// The plan on the device of a tensor; made once for a plan.
fn placed(plan: &AttentionPlan, tensor: &FloatTensor<Cube>) -> Placed {
    let device = tensor.device();
    let placed = plan.placed.0.get_or_init(|| place(plan, &device));
    if placed.places.device() == device {
        placed.clone()
    } else {
        place(plan, &device)
    }
}

/// Ranges of rows of the batch whose scores are in memory together.
fn parts(layout: &Layout) -> Vec<std::ops::Range<usize>> {
    let Layout {
        rows,
        kv_heads,
        groups,
        queries,
        keys,
        ..
    } = *layout;
    let one = (kv_heads * groups * queries * keys).max(1);
    let step = (SCORES / one).clamp(1, rows.max(1));
    (0..rows)
        .step_by(step)
        .map(|start| start..(start + step).min(rows))
        .collect()
}

/// The rows of a rectangle in a range.
fn rows_of(of: &FloatTensor<Cube>, rows: &std::ops::Range<usize>) -> FloatTensor<Cube> {
    if of.shape()[0] == rows.len() {
        return of.clone();
    }
    Cube::float_slice(of.clone(), &[Slice::from(rows.clone())])
}

fn joined(mut parts: Vec<FloatTensor<Cube>>) -> FloatTensor<Cube> {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        Cube::float_cat(parts, 0)
    }
}

/// What the graph keeps: the inputs as they came.
#[derive(Debug, Clone)]
pub(crate) struct State {
    q: FloatTensor<Cube>,
    k: FloatTensor<Cube>,
    v: FloatTensor<Cube>,
    plan: Arc<AttentionPlan>,
}

impl AttentionOps for Cube {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> FloatTensor<Self> {
        if q.shape()[0] == 0 {
            return q;
        }
        let Placed {
            layout,
            places,
            angles,
        } = &placed(&plan, &q);
        let dtype = q.dtype();
        let (q, k, v) = Self::spread(q, k, v, places.clone(), angles.clone(), *layout);
        let parts = parts(layout).into_iter().map(|rows| {
            let [q, k, v] = [&q, &k, &v].map(|of| rows_of(of, &rows));
            let scores = Self::float_matmul(q, Self::float_transpose(k));
            let p = Self::visible_softmax(scores, places.clone(), *layout, rows.start);
            Self::float_matmul(p, v)
        });
        Self::gather(joined(parts.collect()), places.clone(), *layout, dtype)
    }
}

impl AttentionPasses for Cube {
    type State = State;

    fn forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        plan: Arc<AttentionPlan>,
    ) -> (FloatTensor<Self>, State) {
        let state = State {
            q: q.clone(),
            k: k.clone(),
            v: v.clone(),
            plan: plan.clone(),
        };
        (Self::fused_attention(q, k, v, plan), state)
    }

    fn backward(
        State { q, k, v, plan }: State,
        d_out: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if q.shape()[0] == 0 {
            let zeros = |like: &FloatTensor<Self>| {
                Self::float_zeros(like.shape(), &like.device(), like.dtype().into())
            };
            return (zeros(&q), zeros(&k), zeros(&v));
        }
        let Placed {
            layout,
            places,
            angles,
        } = &placed(&plan, &q);
        let dtype = q.dtype();
        let (q, k, v) = Self::spread(q, k, v, places.clone(), angles.clone(), *layout);
        let d_out = Self::spread_queries(d_out, places.clone(), *layout);
        let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
        for rows in parts(layout) {
            let [q, k, v, d_out] = [&q, &k, &v, &d_out].map(|of| rows_of(of, &rows));
            let scores = Self::float_matmul(q.clone(), Self::float_transpose(k.clone()));
            let d_p = Self::float_matmul(d_out.clone(), Self::float_transpose(v));
            let (p, d_scores) =
                Self::visible_softmax_backward(scores, d_p, places.clone(), *layout, rows.start);
            dv.push(Self::float_matmul(Self::float_transpose(p), d_out));
            dq.push(Self::float_matmul(d_scores.clone(), k));
            dk.push(Self::float_matmul(Self::float_transpose(d_scores), q));
        }
        Self::gather_gradients(
            joined(dq),
            joined(dk),
            joined(dv),
            places.clone(),
            angles.clone(),
            *layout,
            dtype,
        )
    }
}

/// The kernels, as operations that fusion queues.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait AttentionKernels: Backend {
    /// Queries, keys and values in the rectangle, f32, zeros for padding; queries and keys turned
    /// by their angles, queries times the plan's scale.
    #[fusion(meta = |_q, _k, _v, _places, _angles, layout: &Layout| (
        TensorSpec::new(Shape::new(layout.query_shape()), DType::F32),
        TensorSpec::new(Shape::new(layout.key_shape()), DType::F32),
        TensorSpec::new(Shape::new(layout.key_shape()), DType::F32),
    ))]
    fn spread(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        places: IntTensor<Self>,
        angles: FloatTensor<Self>,
        layout: Layout,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// A tensor laid out as the queries in the rectangle, f32, zeros for padding.
    #[fusion(meta = |_x, _places, layout: &Layout| {
        TensorSpec::new(Shape::new(layout.query_shape()), DType::F32)
    })]
    fn spread_queries(
        x: FloatTensor<Self>,
        places: IntTensor<Self>,
        layout: Layout,
    ) -> FloatTensor<Self>;

    /// The tokens of a tensor laid out as the queries in the rectangle,
    /// `[query tokens, heads * head_dim]`.
    #[fusion(meta = |_x, _places, layout: &Layout, dtype: &DType| {
        TensorSpec::new(Shape::new([layout.query_tokens, layout.heads() * layout.dim()]), *dtype)
    })]
    fn gather(
        x: FloatTensor<Self>,
        places: IntTensor<Self>,
        layout: Layout,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// The tokens of the gradients of what [`AttentionKernels::spread`] gives, turned back.
    #[fusion(meta = |_q, _k, _v, _places, _angles, layout: &Layout, dtype: &DType| {
        let keys = Shape::new([layout.key_tokens, layout.kv_heads * layout.dim()]);
        (
            TensorSpec::new(
                Shape::new([layout.query_tokens, layout.heads() * layout.dim()]),
                *dtype,
            ),
            TensorSpec::new(keys.clone(), *dtype),
            TensorSpec::new(keys, *dtype),
        )
    })]
    fn gather_gradients(
        dq: FloatTensor<Self>,
        dk: FloatTensor<Self>,
        dv: FloatTensor<Self>,
        places: IntTensor<Self>,
        angles: FloatTensor<Self>,
        layout: Layout,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The softmax of each query's scores over the keys that it sees, zero elsewhere. `row` is the
    /// first of the batch's rows that the scores are of.
    #[fusion(dtype = scores, shape = scores)]
    fn visible_softmax(
        scores: FloatTensor<Self>,
        places: IntTensor<Self>,
        layout: Layout,
        row: usize,
    ) -> FloatTensor<Self>;

    /// The softmax again, and the gradient of the scores from that of the softmax.
    #[fusion(meta = |scores, _d_p, _places, _layout, _row| (scores.clone(), scores.clone()))]
    fn visible_softmax_backward(
        scores: FloatTensor<Self>,
        d_p: FloatTensor<Self>,
        places: IntTensor<Self>,
        layout: Layout,
        row: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl AttentionKernels for CubeBackend {
    fn spread(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        places: CubeTensor,
        angles: CubeTensor,
        layout: Layout,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [q, k, v, places, angles] = [q, k, v, places, angles].map(contiguous);
        let outs = [
            empty(&q, layout.query_shape(), DType::F32),
            empty(&q, layout.key_shape(), DType::F32),
            empty(&q, layout.key_shape(), DType::F32),
        ];
        let work: usize = outs.iter().map(|out| out.meta.num_elements() / 2).sum();
        if work > 0 {
            let (count, dim) = by_unit(&q, work);
            let dtype = element(q.dtype);
            spread_kernel::launch(
                &places.client.clone(),
                count,
                dim,
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                places.into_tensor_arg(),
                angles.into_tensor_arg(),
                outs[0].clone().into_tensor_arg(),
                outs[1].clone().into_tensor_arg(),
                outs[2].clone().into_tensor_arg(),
                sizes(&layout),
                dtype,
            );
        }
        outs.into()
    }

    fn spread_queries(x: CubeTensor, places: CubeTensor, layout: Layout) -> CubeTensor {
        let [x, places] = [x, places].map(contiguous);
        let out = empty(&x, layout.query_shape(), DType::F32);
        let work = out.meta.num_elements();
        if work > 0 {
            let (count, dim) = by_unit(&x, work);
            let dtype = element(x.dtype);
            spread_queries_kernel::launch(
                &out.client,
                count,
                dim,
                x.into_tensor_arg(),
                places.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                sizes(&layout),
                dtype,
            );
        }
        out
    }

    fn gather(x: CubeTensor, places: CubeTensor, layout: Layout, dtype: DType) -> CubeTensor {
        let [x, places] = [x, places].map(contiguous);
        let out = empty(
            &x,
            [layout.query_tokens, layout.heads() * layout.dim()],
            dtype,
        );
        let work = out.meta.num_elements();
        if work > 0 {
            let (count, dim) = by_unit(&x, work);
            gather_kernel::launch(
                &out.client,
                count,
                dim,
                x.into_tensor_arg(),
                places.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                sizes(&layout),
                element(dtype),
            );
        }
        out
    }

    fn gather_gradients(
        dq: CubeTensor,
        dk: CubeTensor,
        dv: CubeTensor,
        places: CubeTensor,
        angles: CubeTensor,
        layout: Layout,
        dtype: DType,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [dq, dk, dv, places, angles] = [dq, dk, dv, places, angles].map(contiguous);
        let keys = [layout.key_tokens, layout.kv_heads * layout.dim()];
        let outs = [
            empty(
                &dq,
                [layout.query_tokens, layout.heads() * layout.dim()],
                dtype,
            ),
            empty(&dq, keys, dtype),
            empty(&dq, keys, dtype),
        ];
        let work: usize = outs.iter().map(|out| out.meta.num_elements() / 2).sum();
        if work > 0 {
            let (count, dim) = by_unit(&dq, work);
            gather_gradients_kernel::launch(
                &places.client.clone(),
                count,
                dim,
                dq.into_tensor_arg(),
                dk.into_tensor_arg(),
                dv.into_tensor_arg(),
                places.into_tensor_arg(),
                angles.into_tensor_arg(),
                outs[0].clone().into_tensor_arg(),
                outs[1].clone().into_tensor_arg(),
                outs[2].clone().into_tensor_arg(),
                sizes(&layout),
                element(dtype),
            );
        }
        outs.into()
    }

    fn visible_softmax(
        scores: CubeTensor,
        places: CubeTensor,
        layout: Layout,
        row: usize,
    ) -> CubeTensor {
        let places = contiguous(places);
        let (scores, pitch) = rows(scores);
        let p = empty(&scores, scores.meta.shape().clone(), DType::F32);
        let elements = p.meta.num_elements();
        if elements > 0 {
            let queries = elements / layout.keys;
            let (count, dim) = by_row(&p, queries, layout.keys);
            softmax_kernel::launch(
                &p.client,
                count,
                dim,
                scores.into_tensor_arg(),
                places.into_tensor_arg(),
                p.clone().into_tensor_arg(),
                sizes(&layout),
                queries as u32,
                pitch as u32,
                row as u32,
                layout.reach(),
                layout.bidirectional,
                layout.soft_cap.is_some(),
                dim.num_elems(),
            );
        }
        p
    }

    fn visible_softmax_backward(
        scores: CubeTensor,
        d_p: CubeTensor,
        places: CubeTensor,
        layout: Layout,
        row: usize,
    ) -> (CubeTensor, CubeTensor) {
        let places = contiguous(places);
        let (scores, pitch) = rows(scores);
        let (d_p, pitch_of_d_p) = rows(d_p);
        let shape = scores.meta.shape().clone();
        let p = empty(&scores, shape.clone(), DType::F32);
        let d_scores = empty(&scores, shape, DType::F32);
        let elements = p.meta.num_elements();
        if elements > 0 {
            let queries = elements / layout.keys;
            let (count, dim) = by_row(&p, queries, layout.keys);
            softmax_backward_kernel::launch(
                &p.client,
                count,
                dim,
                scores.into_tensor_arg(),
                d_p.into_tensor_arg(),
                places.into_tensor_arg(),
                p.clone().into_tensor_arg(),
                d_scores.clone().into_tensor_arg(),
                sizes(&layout),
                queries as u32,
                pitch as u32,
                pitch_of_d_p as u32,
                row as u32,
                layout.reach(),
                layout.bidirectional,
                layout.soft_cap.is_some(),
                dim.num_elems(),
            );
        }
        (p, d_scores)
    }
}

/// The first channel of a pair of a head. Channels that do not turn are in pairs behind those that
/// do, so that each channel is in one.
#[cube]
fn first_channel(sizes: &Sizes, pair: u32) -> u32 {
    let mut channel = pair;
    if pair >= sizes.turned {
        channel = pair + sizes.turned;
    }
    channel
}

/// How far behind it the second one is.
#[cube]
fn distance(sizes: &Sizes, pair: u32) -> u32 {
    let mut apart = sizes.turned;
    if pair >= sizes.turned {
        apart = sizes.half - sizes.turned;
    }
    apart
}

/// A unit for each pair of channels of each place of the three.
#[cube(launch)]
fn spread_kernel<F: Float>(
    q: &Tensor<F>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    places: &Tensor<i32>,
    angles: &Tensor<f32>,
    out_q: &mut Tensor<f32>,
    out_k: &mut Tensor<f32>,
    out_v: &mut Tensor<f32>,
    sizes: Sizes,
    #[define(F)] _element: ElemType,
) {
    let half = sizes.half;
    let pairs_q = sizes.rows * sizes.kv_heads * sizes.groups * sizes.queries * half;
    let pairs_k = sizes.rows * sizes.kv_heads * sizes.keys * half;
    let unit = ABSOLUTE_POS as u32;
    if unit < pairs_q {
        let pair = unit % half;
        let place = unit / half;
        let query = place % sizes.queries;
        let head = (place / sizes.queries) % (sizes.kv_heads * sizes.groups);
        let row = place / (sizes.queries * sizes.kv_heads * sizes.groups);
        let token = places[(row * sizes.queries + query) as usize];
        let channel = first_channel(&sizes, pair);
        let apart = distance(&sizes, pair);
        let to = place * 2 * half + channel;
        let mut first = 0.0f32;
        let mut second = 0.0f32;
        if token >= 0 {
            let token = token as u32;
            let from = (token * sizes.kv_heads * sizes.groups + head) * 2 * half + channel;
            let mut cos = 1.0f32;
            let mut sin = 0.0f32;
            if pair < sizes.turned {
                let angle = sizes.query_angles + token * sizes.turned + pair;
                cos = angles[angle as usize];
                sin = angles[(angle + sizes.query_tokens * sizes.turned) as usize];
            }
            let a = f32::cast_from(q[from as usize]);
            let b = f32::cast_from(q[(from + apart) as usize]);
            first = (a * cos - b * sin) * sizes.scale;
            second = (b * cos + a * sin) * sizes.scale;
        }
        out_q[to as usize] = first;
        out_q[(to + apart) as usize] = second;
    } else if unit < pairs_q + 2 * pairs_k {
        let is_value = unit >= pairs_q + pairs_k;
        let unit = (unit - pairs_q) % pairs_k;
        let pair = unit % half;
        let place = unit / half;
        let key = place % sizes.keys;
        let head = (place / sizes.keys) % sizes.kv_heads;
        let row = place / (sizes.keys * sizes.kv_heads);
        let token = places[(sizes.key_token + row * sizes.keys + key) as usize];
        let channel = first_channel(&sizes, pair);
        let apart = distance(&sizes, pair);
        let to = place * 2 * half + channel;
        let mut first = 0.0f32;
        let mut second = 0.0f32;
        if token >= 0 {
            let token = token as u32;
            let from = (token * sizes.kv_heads + head) * 2 * half + channel;
            if is_value {
                first = f32::cast_from(v[from as usize]);
                second = f32::cast_from(v[(from + apart) as usize]);
            } else {
                let mut cos = 1.0f32;
                let mut sin = 0.0f32;
                if pair < sizes.turned {
                    let angle = token * sizes.turned + pair;
                    cos = angles[angle as usize];
                    sin = angles[(angle + sizes.key_tokens * sizes.turned) as usize];
                }
                let a = f32::cast_from(k[from as usize]);
                let b = f32::cast_from(k[(from + apart) as usize]);
                first = a * cos - b * sin;
                second = b * cos + a * sin;
            }
        }
        if is_value {
            out_v[to as usize] = first;
            out_v[(to + apart) as usize] = second;
        } else {
            out_k[to as usize] = first;
            out_k[(to + apart) as usize] = second;
        }
    }
}

/// A unit for each channel of each place.
#[cube(launch)]
fn spread_queries_kernel<F: Float>(
    x: &Tensor<F>,
    places: &Tensor<i32>,
    out: &mut Tensor<f32>,
    sizes: Sizes,
    #[define(F)] _element: ElemType,
) {
    let dim = 2 * sizes.half;
    let heads = sizes.kv_heads * sizes.groups;
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.rows * heads * sizes.queries * dim {
        terminate!();
    }
    let place = unit / dim;
    let query = place % sizes.queries;
    let head = (place / sizes.queries) % heads;
    let row = place / (sizes.queries * heads);
    let token = places[(row * sizes.queries + query) as usize];
    let mut value = 0.0f32;
    if token >= 0 {
        let from = (token as u32 * heads + head) * dim + unit % dim;
        value = f32::cast_from(x[from as usize]);
    }
    out[unit as usize] = value;
}

/// A unit for each channel of each token.
#[cube(launch)]
fn gather_kernel<F: Float>(
    x: &Tensor<f32>,
    places: &Tensor<i32>,
    out: &mut Tensor<F>,
    sizes: Sizes,
    #[define(F)] _element: ElemType,
) {
    let dim = 2 * sizes.half;
    let heads = sizes.kv_heads * sizes.groups;
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.query_tokens * heads * dim {
        terminate!();
    }
    let head = (unit / dim) % heads;
    let token = unit / (dim * heads);
    let slot = places[(sizes.query_slot + token) as usize] as u32;
    let row = slot / sizes.queries;
    let from = ((row * heads + head) * sizes.queries + slot % sizes.queries) * dim + unit % dim;
    out[unit as usize] = F::cast_from(x[from as usize]);
}

/// A unit for each pair of channels of each token of the three.
#[cube(launch)]
fn gather_gradients_kernel<F: Float>(
    dq: &Tensor<f32>,
    dk: &Tensor<f32>,
    dv: &Tensor<f32>,
    places: &Tensor<i32>,
    angles: &Tensor<f32>,
    out_q: &mut Tensor<F>,
    out_k: &mut Tensor<F>,
    out_v: &mut Tensor<F>,
    sizes: Sizes,
    #[define(F)] _element: ElemType,
) {
    let half = sizes.half;
    let heads = sizes.kv_heads * sizes.groups;
    let pairs_q = sizes.query_tokens * heads * half;
    let pairs_k = sizes.key_tokens * sizes.kv_heads * half;
    let unit = ABSOLUTE_POS as u32;
    if unit < pairs_q {
        let pair = unit % half;
        let head = (unit / half) % heads;
        let token = unit / (half * heads);
        let slot = places[(sizes.query_slot + token) as usize] as u32;
        let row = slot / sizes.queries;
        let place = (row * heads + head) * sizes.queries + slot % sizes.queries;
        let channel = first_channel(&sizes, pair);
        let apart = distance(&sizes, pair);
        let from = place * 2 * half + channel;
        let mut cos = 1.0f32;
        let mut sin = 0.0f32;
        if pair < sizes.turned {
            let angle = sizes.query_angles + token * sizes.turned + pair;
            cos = angles[angle as usize];
            sin = angles[(angle + sizes.query_tokens * sizes.turned) as usize];
        }
        let a = dq[from as usize] * sizes.scale;
        let b = dq[(from + apart) as usize] * sizes.scale;
        let to = (token * heads + head) * 2 * half + channel;
        out_q[to as usize] = F::cast_from(a * cos + b * sin);
        out_q[(to + apart) as usize] = F::cast_from(b * cos - a * sin);
    } else if unit < pairs_q + 2 * pairs_k {
        let is_value = unit >= pairs_q + pairs_k;
        let unit = (unit - pairs_q) % pairs_k;
        let pair = unit % half;
        let head = (unit / half) % sizes.kv_heads;
        let token = unit / (half * sizes.kv_heads);
        let slot = places[(sizes.key_slot + token) as usize] as u32;
        let row = slot / sizes.keys;
        let place = (row * sizes.kv_heads + head) * sizes.keys + slot % sizes.keys;
        let channel = first_channel(&sizes, pair);
        let apart = distance(&sizes, pair);
        let from = place * 2 * half + channel;
        let to = (token * sizes.kv_heads + head) * 2 * half + channel;
        if is_value {
            out_v[to as usize] = F::cast_from(dv[from as usize]);
            out_v[(to + apart) as usize] = F::cast_from(dv[(from + apart) as usize]);
        } else {
            let mut cos = 1.0f32;
            let mut sin = 0.0f32;
            if pair < sizes.turned {
                let angle = token * sizes.turned + pair;
                cos = angles[angle as usize];
                sin = angles[(angle + sizes.key_tokens * sizes.turned) as usize];
            }
            let a = dk[from as usize];
            let b = dk[(from + apart) as usize];
            out_k[to as usize] = F::cast_from(a * cos + b * sin);
            out_k[(to + apart) as usize] = F::cast_from(b * cos - a * sin);
        }
    }
}

/// The first key that the query of a place sees.
#[cube]
fn first_visible(place: u32, reach: u32) -> u32 {
    let mut first = 0u32;
    if place > reach {
        first = place - reach;
    }
    first
}

/// The key after the last one that the query of a place sees, of a row of `keys`.
#[cube]
fn end_visible(place: u32, reach: u32, keys: u32, #[comptime] bidirectional: bool) -> u32 {
    let mut end = place + 1;
    if comptime!(bidirectional) {
        end = min(end + reach, keys);
    }
    end
}

/// The place of a query among its row's keys. That of padding is the row's last, so that it sees a
/// key and its softmax is finite.
#[cube]
fn place_of(places: &Tensor<i32>, sizes: &Sizes, query: u32, row: u32) -> u32 {
    let first = places[(sizes.first + 2 * row) as usize] as u32;
    let keys = places[(sizes.first + 2 * row + 1) as usize] as u32;
    min(first + query, keys - 1)
}

/// A score as the softmax takes it.
#[cube]
fn capped(score: f32, cap: f32, #[comptime] caps: bool) -> f32 {
    let mut value = score;
    if comptime!(caps) {
        value = (score / cap).tanh() * cap;
    }
    value
}

/// A cube of units for each query of each head.
#[cube(launch)]
fn softmax_kernel(
    scores: &Tensor<f32>,
    places: &Tensor<i32>,
    p: &mut Tensor<f32>,
    sizes: Sizes,
    queries: u32,
    pitch: u32,
    first_row: u32,
    reach: u32,
    #[comptime] bidirectional: bool,
    #[comptime] caps: bool,
    #[comptime] units: u32,
) {
    let at = CUBE_POS as u32;
    if at >= queries {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let row = first_row + at / (sizes.kv_heads * sizes.groups * sizes.queries);
    let place = place_of(places, &sizes, at % sizes.queries, row);
    let keys = places[(sizes.first + 2 * row + 1) as usize] as u32;
    let from = first_visible(place, reach);
    let end = end_visible(place, reach, keys, bidirectional);
    let start = at * sizes.keys;
    let from_scores = at * pitch;

    let mut largest = capped(scores[(from_scores + from) as usize], sizes.cap, caps);
    let mut key = from + UNIT_POS;
    while key < end {
        let score = capped(scores[(from_scores + key) as usize], sizes.cap, caps);
        largest = max(largest, score);
        key += units;
    }
    let largest = together(&mut shared, largest, units, Combine::Max);
    let mut total = 0.0f32;
    let mut key = from + UNIT_POS;
    while key < end {
        total += (capped(scores[(from_scores + key) as usize], sizes.cap, caps) - largest).exp();
        key += units;
    }
    let total = together(&mut shared, total, units, Combine::Sum);
    let mut key = UNIT_POS;
    while key < sizes.keys {
        let mut value = 0.0f32;
        if key >= from && key < end {
            value = (capped(scores[(from_scores + key) as usize], sizes.cap, caps) - largest).exp()
                / total;
        }
        p[(start + key) as usize] = value;
        key += units;
    }
}

/// As [`softmax_kernel`], and `d_scores = p * (d_p - sum(p * d_p))`, times the slope of the cap.
#[cube(launch)]
fn softmax_backward_kernel(
    scores: &Tensor<f32>,
    d_p: &Tensor<f32>,
    places: &Tensor<i32>,
    p: &mut Tensor<f32>,
    d_scores: &mut Tensor<f32>,
    sizes: Sizes,
    queries: u32,
    pitch: u32,
    pitch_of_d_p: u32,
    first_row: u32,
    reach: u32,
    #[comptime] bidirectional: bool,
    #[comptime] caps: bool,
    #[comptime] units: u32,
) {
    let at = CUBE_POS as u32;
    if at >= queries {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let row = first_row + at / (sizes.kv_heads * sizes.groups * sizes.queries);
    let place = place_of(places, &sizes, at % sizes.queries, row);
    let keys = places[(sizes.first + 2 * row + 1) as usize] as u32;
    let from = first_visible(place, reach);
    let end = end_visible(place, reach, keys, bidirectional);
    let start = at * sizes.keys;
    let from_scores = at * pitch;
    let from_d_p = at * pitch_of_d_p;

    let mut largest = capped(scores[(from_scores + from) as usize], sizes.cap, caps);
    let mut key = from + UNIT_POS;
    while key < end {
        let score = capped(scores[(from_scores + key) as usize], sizes.cap, caps);
        largest = max(largest, score);
        key += units;
    }
    let largest = together(&mut shared, largest, units, Combine::Max);
    let mut total = 0.0f32;
    let mut along = 0.0f32;
    let mut key = from + UNIT_POS;
    while key < end {
        let value = (capped(scores[(from_scores + key) as usize], sizes.cap, caps) - largest).exp();
        total += value;
        along += value * d_p[(from_d_p + key) as usize];
        key += units;
    }
    let total = together(&mut shared, total, units, Combine::Sum);
    let along = together(&mut shared, along, units, Combine::Sum) / total;
    let mut key = UNIT_POS;
    while key < sizes.keys {
        let mut value = 0.0f32;
        let mut gradient = 0.0f32;
        if key >= from && key < end {
            let score = capped(scores[(from_scores + key) as usize], sizes.cap, caps);
            value = (score - largest).exp() / total;
            gradient = value * (d_p[(from_d_p + key) as usize] - along);
            if comptime!(caps) {
                let part = score / sizes.cap;
                gradient *= 1.0f32 - part * part;
            }
        }
        p[(start + key) as usize] = value;
        d_scores[(start + key) as usize] = gradient;
        key += units;
    }
}
