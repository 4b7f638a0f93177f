//! `ls-bench-ops`: each operation of ls-ops and a decoder block, beside the plain form in burn's
//! own operations, as a table.
//!
//! The size is that of a 135M LLaMA, with all threads. Ratios are medians over rounds in which the
//! two forms take turns.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use ls_benches::operations::{Form, PASSES, of_135m};
use ls_benches::timing::{by_turns, median, ratio};
use ls_train::allocator::keep_freed_memory;

const ROUNDS: usize = 15;

fn main() {
    keep_freed_memory();
    println!("| operation | forward | plain / ours | forward and backward | plain / ours |");
    println!("|---|---|---|---|---|");
    for operation in of_135m() {
        let mut line = format!("| {} |", operation.name);
        for (_, pass) in PASSES {
            let run = |form| {
                let operation = &operation;
                move || operation.run(form, pass)
            };
            let times = by_turns(ROUNDS, &[&run(Form::Fused), &run(Form::Plain)]);
            let over = ratio(&times[1], &times[0]);
            line += &format!(" {:.2} ms | {over:.2} |", median(&times[0]) * 1e3);
        }
        println!("{line}");
    }
}
