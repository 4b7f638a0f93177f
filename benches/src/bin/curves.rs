//! `ls-bench-curves`: time and memory of a training step against each size of the work, on the CPU.
//!
//! It changes one size at a time of a small classifier (6 blocks of width 288, f32, causal, LoRA r
//! 12 on q and v, 8 rows of 64 tokens). Time is the median of some steps. Memory is the allocator's
//! peak beyond the model, gradients included.
//!
//! `time / work` is the time over the operations of the matrix products (`flops.rs`, with
//! attention's square in the length), and `memory / work` is the memory over tokens x blocks x
//! width. Both are multiples of the row that every axis shares: 1 all the way down is linear. Costs
//! that do not grow with the axis make the numbers fall where the work is small.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::Result;
use burn::tensor::Device;
use clap::Parser;
use ls_benches::flops::Work;
use ls_benches::timing::{median, ratio};
use ls_benches::{Dtype, Shape, Timing, Tuning, random_classifier};
use ls_model::{AttentionMode, Task};
use ls_train::allocator::keep_freed_memory;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Time and memory of a training step against each size of the work
#[derive(Debug, Parser)]
#[command(name = "ls-bench-curves")]
struct Args {
    /// Steps that count in each of three turns; medians are taken
    #[arg(long, default_value_t = 5)]
    iterations: usize,
    /// Only the axes whose name has this in it
    #[arg(long, default_value = "")]
    axis: String,
}

/// Turns of the two ways at each point.
const ROUNDS: usize = 3;

/// One point.
#[derive(Debug, Clone, Copy)]
struct Point {
    shape: Shape,
    rows: usize,
    length: usize,
    tuning: Tuning,
}

/// What every axis goes through.
fn middle() -> Point {
    Point {
        shape: Shape {
            hidden_size: 288,
            intermediate_size: 768,
            num_hidden_layers: 6,
            num_attention_heads: 6,
            num_key_value_heads: 6,
            vocab_size: 1024,
        },
        rows: 8,
        length: 64,
        tuning: Tuning::default(),
    }
}

type Change = fn(&mut Point, usize);

/// Name, values, and how a value changes the point.
const AXES: [(&str, &[usize], Change); 6] = [
    (
        "length (one row)",
        &[64, 128, 256, 512, 1024, 2048, 4096],
        |point, value| {
            (point.rows, point.length) = (1, value);
        },
    ),
    ("batch", &[1, 2, 4, 8, 16, 32], |point, value| {
        point.rows = value;
    }),
    ("rank", &[4, 12, 32, 64, 128], |point, value| {
        point.tuning.rank = value;
    }),
    ("depth", &[2, 6, 12, 24], |point, value| {
        point.shape.num_hidden_layers = value;
    }),
    ("width", &[144, 288, 576, 1152], |point, value| {
        let shape = &mut point.shape;
        (shape.hidden_size, shape.intermediate_size) = (value, value * 8 / 3);
        (shape.num_attention_heads, shape.num_key_value_heads) = (value / 48, value / 48);
    }),
    (
        "labels of each token",
        &[2, 8, 32, 128, 512],
        |point, value| {
            point.tuning.task = Task::Token { dropout: 0.0 };
            point.tuning.num_labels = value;
        },
    ),
];

/// What a point costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: f64,
    memory: f64,
}

impl Point {
    fn measure(self, iterations: usize, gradient_checkpointing: bool) -> Result<Cost> {
        let device = Device::flex().autodiff();
        device.seed(1);
        let (config, causal) = (self.shape.config()?, AttentionMode::Causal);
        let model = random_classifier(&config, &causal, Dtype::F32, self.tuning, &device)?;
        let timing = Timing {
            rows: self.rows,
            length: self.length,
            ragged: false,
            warmup: 2,
            iterations,
            gradient_checkpointing,
        };
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let (record, _) = timing.train(model, &config, &device)?;
        Ok(Cost {
            time: median(&record.seconds),
            memory: (ALLOCATOR.peak_usage() - before) as f64,
        })
    }

    /// What time and memory should follow.
    fn expected(self) -> Cost {
        let work = Work {
            rows: self.rows,
            length: self.length,
            rank: self.tuning.rank,
            bidirectional: false,
        };
        let tokens = self.rows * self.length;
        Cost {
            time: work.step(self.shape),
            memory: (tokens * self.shape.num_hidden_layers * self.shape.hidden_size) as f64,
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    keep_freed_memory();
    let unit = middle().measure(args.iterations, false)?;
    let expected_unit = middle().expected();
    for (name, values, change) in AXES {
        if !name.contains(&args.axis) {
            continue;
        }
        println!(
            "\n| {name} | time | time / work | memory | memory / work | with checkpointing: time | memory |"
        );
        println!("|---|---|---|---|---|---|---|");
        for &value in values {
            let mut point = middle();
            change(&mut point, value);
            // By turns, so that what slows the machine for a while slows both.
            let (mut whole, mut checkpointed) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                whole.push(point.measure(args.iterations, false)?);
                checkpointed.push(point.measure(args.iterations, true)?);
            }
            let times = |costs: &[Cost]| costs.iter().map(|cost| cost.time).collect::<Vec<_>>();
            let slower = ratio(&times(&checkpointed), &times(&whole));
            let (time, memory) = (median(&times(&whole)), whole[0].memory);
            let expected = point.expected();
            println!(
                "| {value} | {:.1?} | {:.2} | {:.1} MiB | {:.2} | {slower:.2} times | {:.1} MiB |",
                Duration::from_secs_f64(time),
                time / unit.time / (expected.time / expected_unit.time),
                mib(memory),
                memory / unit.memory / (expected.memory / expected_unit.memory),
                mib(checkpointed[0].memory),
            );
        }
    }
    Ok(())
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
