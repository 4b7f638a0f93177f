//! The operations of ls-ops at chosen sizes, each beside its plain form in burn's own operations.

use std::hint::black_box;
use std::sync::Arc;

use burn::tensor::activation::silu;
use burn::tensor::module::attention as plain_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use ls_ops::{Activation, AttentionPlan, Dropout, NormScale, PlacedPlan, RotaryTable, Segment};

use crate::{LLAMA_135M, Shape};

/// One way to compute an operation from its inputs.
type Way = Box<dyn Fn(&[Tensor<2>]) -> Tensor<2>>;

/// An operation with inputs, ready to run.
pub struct Operation {
    /// What it is, for a table.
    pub name: String,
    inputs: Vec<Tensor<2>>,
    /// The same on the graph.
    leaves: Vec<Tensor<2>>,
    fused: Way,
    plain: Way,
}

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// ls-ops'.
    Fused,
    /// Composed of burn's operations.
    Plain,
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The output alone, off the graph.
    Forward,
    /// The output and the gradients of all inputs, for a gradient of ones.
    Both,
}

/// Passes and how a report names them.
pub const PASSES: [(&str, Pass); 2] = [("forward", Pass::Forward), ("both", Pass::Both)];
/// Forms and how a report names them.
pub const FORMS: [(&str, Form); 2] = [("fused", Form::Fused), ("plain", Form::Plain)];

/// Each operation, and a block, at the size of a 135M LLaMA, for 512 tokens; attention also of one
/// row of 1024.
pub fn of_135m() -> Vec<Operation> {
    const TOKENS: usize = 512;
    let shape = LLAMA_135M;
    let (hidden, mlp) = (shape.hidden_size, shape.intermediate_size);
    let heads = Heads::of(shape);
    vec![
        linear(TOKENS, [hidden, mlp], DType::F32),
        linear(TOKENS, [hidden, mlp], DType::BF16),
        low_rank(TOKENS, hidden, 12, None),
        low_rank(TOKENS, hidden, 12, Some(0.1)),
        rms_norm(TOKENS, hidden),
        glu(TOKENS, mlp),
        attention(8, 64, heads),
        attention(1, 1024, heads),
        block(8, 64, shape),
    ]
}

impl Operation {
    fn new(
        name: impl Into<String>,
        shapes: &[[usize; 2]],
        fused: impl Fn(&[Tensor<2>]) -> Tensor<2> + 'static,
        plain: impl Fn(&[Tensor<2>]) -> Tensor<2> + 'static,
    ) -> Self {
        let inputs: Vec<Tensor<2>> = shapes.iter().map(|&shape| random(shape)).collect();
        let leaves = inputs.iter().cloned();
        Self {
            name: name.into(),
            leaves: leaves
                .map(|input| input.autodiff().require_grad())
                .collect(),
            inputs,
            fused: Box::new(fused),
            plain: Box::new(plain),
        }
    }

    /// Computes it once.
    pub fn run(&self, form: Form, pass: Pass) {
        let way = match form {
            Form::Fused => &self.fused,
            Form::Plain => &self.plain,
        };
        match pass {
            Pass::Forward => drop(black_box(way(&self.inputs))),
            Pass::Both => drop(black_box(way(&self.leaves).backward())),
        }
    }

    /// Largest difference of the two forms' outputs, relative to the largest output: what says that
    /// they are the same.
    pub fn apart(&self) -> f32 {
        let (fused, plain) = ((self.fused)(&self.inputs), (self.plain)(&self.inputs));
        let largest = |x: Tensor<2>| x.abs().max().into_scalar::<f32>();
        largest(fused - plain.clone()) / largest(plain)
    }
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Small enough that a product keeps the size of its input.
fn weight(shape: [usize; 2]) -> Tensor<2> {
    random(shape).div_scalar((shape[0] as f64).sqrt())
}

/// The product with a frozen weight of `[d_in, d_out]`; in bf16 the plain form widens it every
/// time.
pub fn linear(tokens: usize, [d_in, d_out]: [usize; 2], dtype: DType) -> Operation {
    let weight = weight([d_in, d_out]).cast(dtype);
    let plain = weight.clone();
    let name = if dtype == DType::F32 { "f32" } else { "bf16" };
    Operation::new(
        format!("linear {name}"),
        &[[tokens, d_in]],
        move |x| ls_ops::linear(x[0].clone(), weight.clone()),
        move |x| x[0].clone().matmul(plain.clone().cast(DType::F32)),
    )
}

/// What an adapter of this rank adds to a square layer, with the dropout's probability if there is
/// one.
pub fn low_rank(tokens: usize, width: usize, rank: usize, dropout: Option<f64>) -> Operation {
    const SCALING: f64 = 2.0;
    let name = match dropout {
        None => "low rank",
        Some(_) => "low rank, dropout",
    };
    let shapes = [
        [tokens, width],
        [tokens, width],
        [width, rank],
        [rank, width],
    ];
    let of = |x: &[Tensor<2>]| [0, 1, 2, 3].map(|at: usize| x[at].clone());
    Operation::new(
        name,
        &shapes,
        move |x| {
            let [y, x, a, b] = of(x);
            let drawn = dropout.map(Dropout::draw);
            ls_ops::add_low_rank(y, x, a, b, SCALING, drawn)
        },
        move |x| {
            let [y, x, a, b] = of(x);
            // As burn's own `Dropout` does it.
            let x = match dropout {
                None => x,
                Some(probability) => {
                    let keep = 1.0 - probability;
                    let mask = x.random_like(Distribution::Bernoulli(keep));
                    x * mask.div_scalar(keep)
                }
            };
            y + x.matmul(a).matmul(b).mul_scalar(SCALING)
        },
    )
}

/// Root mean square normalisation.
pub fn rms_norm(tokens: usize, width: usize) -> Operation {
    let weight: Tensor<1> = random([width]);
    let plain = weight.clone();
    Operation::new(
        "rms_norm",
        &[[tokens, width]],
        move |x| ls_ops::rms_norm(x[0].clone(), weight.clone(), NormScale::Weight, EPS),
        move |x| plain_norm(x[0].clone(), plain.clone()),
    )
}

const EPS: f64 = 1e-5;

fn plain_norm(x: Tensor<2>, weight: Tensor<1>) -> Tensor<2> {
    let root = x.clone().square().mean_dim(1).add_scalar(EPS).sqrt();
    x / root * weight.unsqueeze()
}

/// The gate of the MLP.
pub fn glu(tokens: usize, width: usize) -> Operation {
    Operation::new(
        "glu",
        &[[tokens, width]; 2],
        |x| ls_ops::glu(x[0].clone(), x[1].clone(), Activation::Silu),
        |x| silu(x[0].clone()) * x[1].clone(),
    )
}

/// Causal attention with rotary embedding over `rows` rows of one length.
pub fn attention(rows: usize, length: usize, heads: Heads) -> Operation {
    let fused = FusedAttention::new(rows, length, heads);
    let plain = PlainAttention::new(rows, length, heads);
    let (tokens, dim) = (rows * length, heads.dim);
    Operation::new(
        format!("attention {rows}x{length}"),
        &[
            [tokens, heads.heads * dim],
            [tokens, heads.kv * dim],
            [tokens, heads.kv * dim],
        ],
        move |x| fused.of(x[0].clone(), x[1].clone(), x[2].clone()),
        move |x| plain.of(x[0].clone(), x[1].clone(), x[2].clone()),
    )
}

/// Heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Of queries.
    pub heads: usize,
    /// Of keys and values.
    pub kv: usize,
    /// Width of one.
    pub dim: usize,
}

impl Heads {
    /// Those of a decoder.
    pub fn of(shape: Shape) -> Self {
        Self {
            heads: shape.num_attention_heads,
            kv: shape.num_key_value_heads,
            dim: shape.hidden_size / shape.num_attention_heads,
        }
    }
}

struct FusedAttention(Arc<AttentionPlan>);

impl FusedAttention {
    fn new(rows: usize, length: usize, heads: Heads) -> Self {
        let segment = |row: usize| Segment {
            queries: row * length..(row + 1) * length,
            keys: row * length..(row + 1) * length,
            first: 0,
        };
        let table = angles(length, heads.dim);
        let repeat = |values: &[f32]| values.repeat(rows);
        let rotation = Arc::new(RotaryTable {
            pairs: table.pairs,
            cos: repeat(&table.cos),
            sin: repeat(&table.sin),
        });
        Self(Arc::new(AttentionPlan {
            segments: (0..rows).map(segment).collect(),
            heads: heads.heads,
            kv_heads: heads.kv,
            head_dim: heads.dim,
            scale: 1.0 / (heads.dim as f32).sqrt(),
            soft_cap: None,
            bidirectional: false,
            window: None,
            query_rotation: rotation.clone(),
            key_rotation: rotation,
            placed: PlacedPlan::default(),
        }))
    }

    fn of(&self, q: Tensor<2>, k: Tensor<2>, v: Tensor<2>) -> Tensor<2> {
        ls_ops::attention(q, k, v, &self.0)
    }
}

/// Angles of the places of one row, `[length, dim / 2]`.
fn angles(length: usize, dim: usize) -> RotaryTable {
    let half = dim / 2;
    let angle = |at: usize| {
        let (place, pair) = (at / half, at % half);
        place as f64 * 10_000f64.powf(-(pair as f64) / half as f64)
    };
    let all: Vec<f64> = (0..length * half).map(angle).collect();
    RotaryTable {
        pairs: half,
        cos: all.iter().map(|angle| angle.cos() as f32).collect(),
        sin: all.iter().map(|angle| angle.sin() as f32).collect(),
    }
}

/// Rotation by halves, repeated keys and values, and burn's attention.
struct PlainAttention {
    rows: usize,
    length: usize,
    heads: Heads,
    /// `[1, 1, length, dim / 2]`.
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl PlainAttention {
    fn new(rows: usize, length: usize, heads: Heads) -> Self {
        let table = angles(length, heads.dim);
        let tensor = |values| {
            let data = TensorData::new(values, [1, 1, length, heads.dim / 2]);
            Tensor::from_data(data, (&Device::flex(), DType::F32))
        };
        Self {
            rows,
            length,
            heads,
            cos: tensor(table.cos),
            sin: tensor(table.sin),
        }
    }

    fn of(&self, q: Tensor<2>, k: Tensor<2>, v: Tensor<2>) -> Tensor<2> {
        let Heads { heads, kv, dim } = self.heads;
        let shaped = |x: Tensor<2>, heads: usize| {
            x.reshape([self.rows, self.length, heads, dim])
                .swap_dims(1, 2) // [rows, heads, length, dim]
        };
        let repeated = |x: Tensor<4>| {
            x.unsqueeze_dim::<5>(2).repeat_dim(2, heads / kv).reshape([
                self.rows,
                heads,
                self.length,
                dim,
            ])
        };
        let q = self.rotated(shaped(q, heads));
        let k = repeated(self.rotated(shaped(k, kv)));
        let v = repeated(shaped(v, kv));
        let options = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        plain_attention(q, k, v, None, None, options)
            .swap_dims(1, 2)
            .reshape([self.rows * self.length, heads * dim])
    }

    fn rotated(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.heads.dim / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ];
        Tensor::cat(turned, 3)
    }
}

/// One decoder block of `shape`, all its weights frozen, over `rows` rows of one length. (Adapters
/// are [`low_rank`].)
pub fn block(rows: usize, length: usize, shape: Shape) -> Operation {
    let heads = Heads::of(shape);
    let (hidden, mlp, keys) = (
        shape.hidden_size,
        shape.intermediate_size,
        heads.kv * heads.dim,
    );
    let weights = Arc::new(Block {
        norms: [random([hidden]), random([hidden])],
        q: weight([hidden, hidden]),
        k: weight([hidden, keys]),
        v: weight([hidden, keys]),
        o: weight([hidden, hidden]),
        gate: weight([hidden, mlp]),
        up: weight([hidden, mlp]),
        down: weight([mlp, hidden]),
    });
    let fused = FusedAttention::new(rows, length, heads);
    let plain = PlainAttention::new(rows, length, heads);
    let of_plain = weights.clone();
    Operation::new(
        format!("block {rows}x{length}"),
        &[[rows * length, hidden]],
        move |x| {
            let steps = Steps {
                linear: &ls_ops::linear,
                norm: &|x, weight| ls_ops::rms_norm(x, weight, NormScale::Weight, EPS),
                gate: &|gate, up| ls_ops::glu(gate, up, Activation::Silu),
                attend: &|q, k, v| fused.of(q, k, v),
            };
            weights.forward(x[0].clone(), &steps)
        },
        move |x| {
            let steps = Steps {
                linear: &|x, weight| x.matmul(weight),
                norm: &plain_norm,
                gate: &|gate, up| silu(gate) * up,
                attend: &|q, k, v| plain.of(q, k, v),
            };
            of_plain.forward(x[0].clone(), &steps)
        },
    )
}

/// Weights of a block, `[in, out]`.
struct Block {
    norms: [Tensor<1>; 2],
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    o: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    down: Tensor<2>,
}

/// What a block is made of.
struct Steps<'a> {
    linear: &'a dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    norm: &'a dyn Fn(Tensor<2>, Tensor<1>) -> Tensor<2>,
    gate: &'a dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    attend: &'a dyn Fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
}

impl Block {
    /// As `ls_model`'s decoder layer.
    fn forward(&self, x: Tensor<2>, steps: &Steps<'_>) -> Tensor<2> {
        let linear = |x: &Tensor<2>, weight: &Tensor<2>| (steps.linear)(x.clone(), weight.clone());
        let normal = (steps.norm)(x.clone(), self.norms[0].clone());
        let attended = (steps.attend)(
            linear(&normal, &self.q),
            linear(&normal, &self.k),
            linear(&normal, &self.v),
        );
        let x = x + linear(&attended, &self.o);
        let normal = (steps.norm)(x.clone(), self.norms[1].clone());
        let gated = (steps.gate)(linear(&normal, &self.gate), linear(&normal, &self.up));
        x + linear(&gated, &self.down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_compute_the_same() {
        let shape = Shape {
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 1,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 8,
        };
        let operations = [
            linear(5, [6, 7], DType::F32),
            linear(5, [6, 7], DType::BF16),
            low_rank(5, 6, 2, None),
            rms_norm(5, 6),
            glu(5, 6),
            attention(2, 5, Heads::of(shape)),
            block(2, 5, shape),
        ];
        for operation in &operations {
            let apart = operation.apart();
            assert!(apart < 1e-5, "{}: {apart}", operation.name);
            operation.run(Form::Fused, Pass::Both);
            operation.run(Form::Plain, Pass::Both);
        }
    }
}
