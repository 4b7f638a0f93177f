//! Each operation of ls-ops, and a decoder block, at the size of a 135M LLaMA: forward, and forward with backward, beside the
//! plain form in burn's own operations.
//!
//! The ratios that are printed last are medians over rounds in which the two forms take turns.

use std::time::Duration;

use burn::tensor::DType;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ls_benches::LLAMA_135M;
use ls_benches::operations::{
    Form, Heads, Operation, Pass, attention, block, linear, low_rank, rms_norm, swiglu,
};
use ls_benches::timing::{by_turns, median, ratio};
use ls_train::environment::keep_freed_memory;

const TOKENS: usize = 512;
const ROUNDS: usize = 15;
const PASSES: [(&str, Pass); 2] = [("forward", Pass::Forward), ("both", Pass::Both)];
const FORMS: [(&str, Form); 2] = [("fused", Form::Fused), ("plain", Form::Plain)];

fn operations() -> Vec<Operation> {
    let shape = LLAMA_135M;
    let (hidden, mlp) = (shape.hidden_size, shape.intermediate_size);
    let heads = Heads::of(shape);
    vec![
        linear(TOKENS, [hidden, mlp], DType::F32),
        linear(TOKENS, [hidden, mlp], DType::BF16),
        low_rank(TOKENS, hidden, 12, None),
        low_rank(TOKENS, hidden, 12, Some(0.1)),
        rms_norm(TOKENS, hidden),
        swiglu(TOKENS, mlp),
        attention(8, 64, heads),
        attention(1, 1024, heads),
        block(8, 64, shape),
    ]
}

fn ops(criterion: &mut Criterion) {
    keep_freed_memory();
    let mut lines = Vec::new();
    for operation in operations() {
        let mut group = criterion.benchmark_group(format!("ops/{}", operation.name));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1));
        for (pass_name, pass) in PASSES {
            for (form_name, form) in FORMS {
                group.bench_function(BenchmarkId::new(pass_name, form_name), |b| {
                    b.iter(|| operation.run(form, pass));
                });
            }
        }
        group.finish();
        lines.push(line(&operation));
    }
    println!(
        "\n| operation | forward, fused | plain / fused | both passes, fused | plain / fused |"
    );
    println!("|---|---|---|---|---|");
    for line in lines {
        println!("{line}");
    }
}

fn line(operation: &Operation) -> String {
    let mut line = format!("| {} |", operation.name);
    for (_, pass) in PASSES {
        let run = |form| move || operation.run(form, pass);
        let times = by_turns(ROUNDS, &[&run(Form::Fused), &run(Form::Plain)]);
        let over = ratio(&times[1], &times[0]);
        line += &format!(" {:.2} ms | {over:.2} |", median(&times[0]) * 1e3);
    }
    line
}

criterion_group!(benches, ops);
criterion_main!(benches);
