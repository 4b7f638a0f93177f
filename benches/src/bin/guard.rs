//! `ls-bench-guard`: fails if an operation costs over 20 % more than the recorded cost.
//!
//! A cost is not a time but a ratio to a reference loop, which runs by turns with the operation in
//! the same process on one thread:
//!
//! - for operations made of matrix products (linear, low rank, attention, a training step):
//!   products of rten-gemm of the same shapes, into memory that is allocated already;
//! - for operations on elements (rms_norm, glu): a loop of the same kind over as many elements,
//!   compiled for the same instruction set at run time, into new memory as the operations do.
//!
//! So both sides of a ratio share the machine's vector width, caches and frequency. Counting
//! instructions instead would need hardware counters, which virtual machines often lack, or
//! valgrind, which does not know AVX-512. Each side's time is a low quantile of many rounds of a
//! fraction of a millisecond: other work on the machine makes rounds longer, never shorter. The
//! guard measures an operation that costs too much again, longer, up to four times, and takes the
//! least ratio.
//!
//! Ratios are recorded for each design of processor. On a processor without a record the bound is
//! loose: three times the largest ratio of the others.
//!
//! The guard uses one thread, because on a busy machine the time of two depends on the other work.
//! So it does not notice an operation that stops being parallel; the benches beside burn's
//! operations do.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use clap::Parser;
use ls_benches::operations::{
    Form, Heads, Operation, Pass, attention, glu, linear, low_rank, rms_norm,
};
use ls_benches::timing::{quantile, seconds};
use ls_benches::{Shape, batch};
use ls_lora::{LoraConfig, TaskType, add_adapter};
use ls_model::{ADAPTER, AttentionMode, ComputeType, LlamaClassifier, LlamaModel, Pooling, Task};
use ls_train::allocator::keep_freed_memory;
use ls_train::loss::cross_entropy_sum;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_simd::{Isa, SimdOp};
use rten_tensor::NdTensorView;

/// How much more costly than recorded is still passed.
const ALLOWANCE: f64 = 0.2;
/// How much more costly than on any other processor is passed on one that has no record.
const FOREIGN_ALLOWANCE: f64 = 2.0;
/// How often what is too costly is measured again.
const RETRIES: u32 = 4;
/// The least time of one measurement, in seconds.
const SHORTEST: f64 = 3e-4;
/// Of all rounds, the part that may be undisturbed.
const UNDISTURBED: f64 = 0.2;

/// Fails when an operation has become more than 20 % more costly, relative to a reference loop,
/// than recorded
#[derive(Debug, Parser)]
#[command(name = "ls-bench-guard")]
struct Args {
    /// File of the recorded ratios
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.toml"))]
    file: PathBuf,
    /// Record what is found here instead of comparing with it
    #[arg(long)]
    record: bool,
    /// Time for each operation
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Something to run.
type Run = Box<dyn Fn()>;

/// An operation and the loop that it is measured against.
struct Case {
    name: String,
    run: Run,
    reference: Run,
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build_global()
        .context("start the thread")?;
    keep_freed_memory();
    Device::flex().seed(7);
    let cases = cases()?;
    let time = Duration::from_secs_f64(args.seconds);
    let mut all = recorded(&args)?;
    let processor = processor();
    if args.record {
        let found = cases
            .iter()
            .map(|case| (case.name.clone(), measure(case, time)));
        all.insert(processor, found.collect());
        return record(&args, &all);
    }
    if !all.contains_key(&processor) {
        println!(
            "nothing is recorded for {processor}: up to three times the most of any other passes"
        );
    }
    let limits = limits(&all, &processor);
    let missing: Vec<&str> = limits
        .keys()
        .map(String::as_str)
        .filter(|name| cases.iter().all(|case| case.name != *name))
        .collect();
    ensure!(missing.is_empty(), "recorded but not measured: {missing:?}");

    println!(
        "{:<28} {:>8} {:>8} {:>7}",
        "", "recorded", "found", "change"
    );
    let mut worse = Vec::new();
    for case in &cases {
        let &(recorded, limit) = limits.get(&case.name).with_context(|| {
            format!(
                "{} is not recorded: run this program with --record",
                case.name
            )
        })?;
        let found = least(limit, |attempt| measure(case, time * (attempt + 1)));
        let change = (found / recorded - 1.0) * 100.0;
        println!(
            "{:<28} {recorded:>8.3} {found:>8.3} {change:>6.1}%",
            case.name
        );
        if is_worse(found, limit) {
            worse.push(format!("{} by {change:.0} %", case.name));
        }
    }
    ensure!(
        worse.is_empty(),
        "more costly than recorded: {}. If that is meant: ls-bench-guard --record",
        worse.join(", ")
    );
    Ok(())
}

/// The processor's design, as Linux numbers it: caches and the widths of units change what a ratio
/// is.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let value = fields.find_map(|(key, value)| (key.trim() == name).then_some(value.trim()));
        value.unwrap_or("unknown")
    };
    let parts = [
        std::env::consts::ARCH,
        field("vendor_id"),
        field("cpu family"),
        field("model"),
    ];
    parts.join("-")
}

/// Ratios by processor and case.
type Ratios = BTreeMap<String, BTreeMap<String, f64>>;

fn recorded(args: &Args) -> Result<Ratios> {
    if args.record && !args.file.exists() {
        return Ok(Ratios::new());
    }
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("read {}", args.file.display()))?;
    toml::from_str(&text).with_context(|| format!("read {}", args.file.display()))
}

fn record(args: &Args, all: &Ratios) -> Result<()> {
    let mut text = "# Cost of each operation over its reference loop's, by processor: written by\n\
        # `cargo run -p ls-benches --bin ls-bench-guard -- --record`.\n"
        .to_string();
    for (processor, ratios) in all {
        text += &format!("\n[{processor}]\n");
        for (name, ratio) in ratios {
            text += &format!("{name:?} = {ratio:.3}\n");
        }
    }
    std::fs::write(&args.file, text).with_context(|| format!("write {}", args.file.display()))
}

/// What is recorded for each case, and the most that is passed.
fn limits(all: &Ratios, processor: &str) -> BTreeMap<String, (f64, f64)> {
    let (ratios, allowance): (Vec<_>, f64) = match all.get(processor) {
        Some(ratios) => (ratios.iter().collect(), ALLOWANCE),
        None => (all.values().flatten().collect(), FOREIGN_ALLOWANCE),
    };
    let mut limits = BTreeMap::new();
    for (name, &ratio) in ratios {
        let (largest, limit) = limits.entry(name.clone()).or_insert((ratio, ratio));
        *largest = ratio.max(*largest);
        *limit = *largest * (1.0 + allowance);
    }
    limits
}

/// NaN is worse than anything.
fn is_worse(found: f64, limit: f64) -> bool {
    found.is_nan() || found > limit
}

/// The least of the ratios that are measured until one passes.
fn least(limit: f64, measure: impl Fn(u32) -> f64) -> f64 {
    let mut found = measure(0);
    for attempt in 1..=RETRIES {
        if !is_worse(found, limit) {
            break;
        }
        found = found.min(measure(attempt));
    }
    found
}

/// The operation's time over the reference's.
fn measure(case: &Case, time: Duration) -> f64 {
    let sides = [&case.run, &case.reference];
    let repeats = sides.map(|run| {
        // The first calls fill caches.
        let shortest = (0..5).map(|_| seconds(run)).fold(f64::INFINITY, f64::min);
        (SHORTEST / shortest).ceil().max(1.0) as usize
    });
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while start.elapsed() < time || times[0].len() < 20 {
        for ((run, repeats), times) in sides.iter().zip(repeats).zip(&mut times) {
            let all = seconds(|| (0..repeats).for_each(|_| run()));
            times.push(all / repeats as f64);
        }
    }
    let [run, reference] = times.map(|times| quantile(times, UNDISTURBED));
    run / reference
}

/// Sizes at which a call takes less than a millisecond, and the products still most of it.
const TOKENS: usize = 64;
const SMALL: Shape = Shape {
    hidden_size: 256,
    intermediate_size: 768,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 512,
};

fn cases() -> Result<Vec<Case>> {
    let heads = Heads::of(SMALL);
    let (hidden, mlp, rank) = (SMALL.hidden_size, SMALL.intermediate_size, 12);
    let forward = [TOKENS, hidden, mlp];
    let backward = [TOKENS, mlp, hidden];
    let mut cases = Vec::new();
    let mut add = |operation: Operation, references: [Run; 2]| {
        let operation = std::rc::Rc::new(operation);
        let passes = [("forward", Pass::Forward), ("both", Pass::Both)];
        for ((pass_name, pass), reference) in passes.into_iter().zip(references) {
            let of_run = operation.clone();
            cases.push(Case {
                name: format!("{}, {pass_name}", operation.name),
                run: Box::new(move || of_run.run(Form::Fused, pass)),
                reference,
            });
        }
    };
    for dtype in [DType::F32, DType::BF16] {
        add(
            linear(TOKENS, [hidden, mlp], dtype),
            [products(&[forward]), products(&[forward, backward])],
        );
    }
    let thin = [[TOKENS, hidden, rank], [TOKENS, rank, hidden]];
    // Backward: the gradients of B, of `x A`, of A and of x.
    let all = [
        thin[0],
        thin[1],
        [rank, TOKENS, hidden],
        thin[0],
        [hidden, TOKENS, rank],
        thin[1],
    ];
    for dropout in [None, Some(0.1)] {
        add(
            low_rank(TOKENS, hidden, rank, dropout),
            [products(&thin), products(&all)],
        );
    }
    add(
        rms_norm(TOKENS, hidden),
        [elements(TOKENS * hidden, 1), elements(TOKENS * hidden, 3)],
    );
    add(
        glu(TOKENS, mlp),
        [elements(TOKENS * mlp, 1), elements(TOKENS * mlp, 3)],
    );
    // A head's scores and its output, and five such products backward.
    let scores = vec![[TOKENS, heads.dim, TOKENS]; heads.heads * 2];
    add(
        attention(1, TOKENS, heads),
        [products(&scores), products(&scores.repeat(3))],
    );
    cases.push(step()?);
    Ok(cases)
}

/// A training step of a small classifier without the optimizer, against the products with its
/// frozen weights.
fn step() -> Result<Case> {
    let device = Device::flex().autodiff();
    let shape = SMALL.config()?;
    let causal = AttentionMode::Causal;
    let model = LlamaModel::random(&shape, &causal, ComputeType::F32, &device)?;
    let task = Task::Sequence(Pooling::Mean);
    let mut model = LlamaClassifier::new(model, &shape, task, 2, 7, &device);
    let config = LoraConfig::new(12, 32.0).with_task_type(TaskType::SeqCls);
    add_adapter(&mut model, ADAPTER, &config, 7, &device)?;
    let input = batch(&[TOKENS / 4; 4], &shape, &device)?;
    let run = move || {
        let loss = cross_entropy_sum(model.forward(&input), &[0, 1, 1, 0]);
        black_box(GradientsParams::from_grads(loss.backward(), &model));
    };

    let (hidden, mlp) = (SMALL.hidden_size, SMALL.intermediate_size);
    let keys = SMALL.num_key_value_heads * Heads::of(SMALL).dim;
    let sizes = [hidden, keys, keys, hidden, mlp, mlp].map(|out| [hidden, out]);
    let layer = sizes.into_iter().chain([[mlp, hidden]]);
    let both = layer.flat_map(|[d_in, d_out]| [[TOKENS, d_in, d_out], [TOKENS, d_out, d_in]]);
    let layer: Vec<[usize; 3]> = both.collect();
    Ok(Case {
        name: "training step".into(),
        run: Box::new(run),
        reference: products(&layer.repeat(SMALL.num_hidden_layers)),
    })
}

/// Numbers of both signs.
fn numbers(len: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
    (0..len).map(number).collect()
}

/// Products of `[m, k]` with `[k, n]`, one after the other.
fn products(shapes: &[[usize; 3]]) -> Run {
    let executor = GemmExecutor::<f32>::new();
    let operands: Vec<_> = shapes
        .iter()
        .map(|&[m, k, n]| {
            let out = std::cell::RefCell::new(vec![0.0; m * n]);
            ([m, k, n], numbers(m * k), numbers(k * n), out)
        })
        .collect();
    Box::new(move || {
        for ([m, k, n], a, b, out) in &operands {
            let (a, b) = (
                NdTensorView::from_data([*m, *k], a.as_slice()),
                NdTensorView::from_data([*k, *n], b.as_slice()),
            );
            let mut out = out.borrow_mut();
            let done = executor.gemm(
                &mut out,
                GemmInputA::Unpacked(a),
                GemmInputB::Unpacked(b),
                GemmOptions::default(),
            );
            assert!(done.is_ok(), "the shapes fit each other");
            black_box(&out);
        }
    })
}

/// `passes` passes over `len` elements of two inputs, each with some twenty operations and a
/// division: what a gate takes.
fn elements(len: usize, passes: usize) -> Run {
    let (a, b) = (numbers(len), numbers(len));
    Box::new(move || {
        for _ in 0..passes {
            black_box(Rational { a: &a, b: &b }.dispatch());
        }
    })
}

/// A polynomial over another, for each pair of elements.
struct Rational<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl SimdOp for Rational<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn eval<I: Isa>(self, _isa: I) -> Vec<f32> {
        let pairs = self.a.iter().zip(self.b);
        pairs
            .map(
                #[inline(always)]
                |(a, b)| {
                    let mut p = *a;
                    for factor in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] {
                        p = p * a + factor;
                    }
                    p / (1.0 + b * b)
                },
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_more_passes_and_more_does_not() {
        let of = |ratio| BTreeMap::from([("a".to_string(), ratio)]);
        let all = Ratios::from([("one".into(), of(1.0)), ("two".into(), of(3.0))]);
        let limit = |processor| limits(&all, processor)["a"].1;
        assert!(!is_worse(1.19, limit("one")) && !is_worse(0.1, limit("one")));
        assert!(is_worse(1.21, limit("one")) && is_worse(f64::NAN, limit("one")));
        // On one that is not known, three times the largest.
        assert!(!is_worse(8.9, limit("three")) && is_worse(9.1, limit("three")));
    }

    #[test]
    fn what_is_too_costly_is_measured_again_and_the_least_counts() {
        let measured = |ratios: [f64; 5]| {
            let count = std::cell::Cell::new(0);
            let least = least(1.0, |attempt| {
                count.set(count.get() + 1);
                ratios[attempt as usize]
            });
            (least, count.get())
        };
        assert_eq!(measured([0.9, 9.0, 9.0, 9.0, 9.0]), (0.9, 1));
        assert_eq!(measured([2.0, 1.5, 1.0, 9.0, 9.0]), (1.0, 3));
        assert_eq!(measured([2.0, 1.5, 1.4, 1.6, 1.7]), (1.4, 5));
    }
}
