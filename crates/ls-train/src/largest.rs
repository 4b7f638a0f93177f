//! The batches of a run that take the most memory.

use ls_data::{BatchOptions, PaddingMode, PaddingSide, epoch_order, sequential_order};

use crate::config::{ResolvedRun, TrainSettings};

/// Epochs whose passes are looked at: each mixes its inputs anew, and after some the largest pass
/// hardly grows.
pub(crate) const EPOCHS: usize = 10;

/// Tokens of each input of the splits of a run.
#[derive(Debug, Clone)]
pub struct Lengths<'a> {
    /// Of the split to learn from.
    pub train: &'a [usize],
    /// Of each split that is scored.
    pub evaluated: Vec<&'a [usize]>,
}

/// The batches that may take the most memory, as tokens of each of their inputs, with padding where
/// that counts as tokens. Of several none has as many tokens, as many places in the rectangle of
/// its rows, and as long a row as another: which of them takes the most depends on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Largest {
    /// Most inputs of a pass.
    pub rows: usize,
    /// Passes, of the first ten epochs.
    pub passes: Vec<Vec<usize>>,
    /// Batches of evaluations.
    pub evaluations: Vec<Vec<usize>>,
}

impl Largest {
    /// Those of a run whose passes have at most `rows` inputs.
    pub fn of(run: &ResolvedRun, lengths: &Lengths<'_>, rows: usize) -> Self {
        let train = &run.config.train;
        let seen = |lengths: Vec<usize>| match run.padding {
            PaddingMode::Masked => lengths,
            PaddingMode::Attended => {
                let longest = lengths.iter().copied().max().unwrap_or(0);
                let width = longest.max(run.config.data.pad_to.unwrap_or(0));
                vec![width; lengths.len()]
            }
        };
        let mut passes = Vec::new();
        each_pass(lengths.train, train, rows, |pass| {
            add_if_largest(&mut passes, seen(pass));
        });
        let mut evaluations = Vec::new();
        for lengths in &lengths.evaluated {
            // The longest inputs come first.
            let batches = sequential_order(lengths, train.eval_batch_size, true);
            if let Some(batch) = batches.first() {
                let batch = batch.iter().map(|input| lengths[*input]);
                add_if_largest(&mut evaluations, seen(batch.collect()));
            }
        }
        Self {
            rows,
            passes,
            evaluations,
        }
    }

    /// Tokens of the pass with the most.
    pub fn pass_tokens(&self) -> usize {
        most_tokens(&self.passes)
    }

    /// Tokens of the batch of an evaluation with the most.
    pub fn evaluation_tokens(&self) -> usize {
        most_tokens(&self.evaluations)
    }
}

fn most_tokens(batches: &[Vec<usize>]) -> usize {
    let tokens = batches.iter().map(|batch| batch.iter().sum());
    tokens.max().unwrap_or(0)
}

/// Calls back with the lengths of each pass of the first epochs.
fn each_pass(
    lengths: &[usize],
    train: &TrainSettings,
    rows: usize,
    mut tell: impl FnMut(Vec<usize>),
) {
    let options = BatchOptions {
        batch_size: train.micro_batch_size.largest(),
        pad_id: 0,
        padding_side: PaddingSide::Right,
        padding_mode: PaddingMode::Masked,
        pad_to: None,
        group_by_length: train.group_by_length,
    };
    for epoch in 0..train.epochs.min(EPOCHS) {
        let batches = epoch_order(lengths, &options, train.seed, epoch);
        for pass in batches.iter().flat_map(|batch| batch.chunks(rows.max(1))) {
            tell(pass.iter().map(|input| lengths[*input]).collect());
        }
    }
}

/// Adds a batch to those that may take the most memory, unless it is in every way at most one of
/// them; takes away those that are so beside it.
fn add_if_largest(found: &mut Vec<Vec<usize>>, batch: Vec<usize>) {
    let size = |lengths: &[usize]| {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        [lengths.iter().sum(), lengths.len() * longest, longest]
    };
    let of_batch: [usize; 3] = size(&batch);
    let at_most = |a: [usize; 3], b: [usize; 3]| a.iter().zip(b).all(|(a, b)| *a <= b);
    if found.iter().any(|other| at_most(of_batch, size(other))) {
        return;
    }
    found.retain(|other| !at_most(size(other), of_batch));
    found.push(batch);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ls_model::LlamaConfig;

    use super::*;
    use crate::config::RunConfig;

    fn largest(set: &[&str], train: &[usize], evaluated: &[&[usize]], rows: usize) -> Largest {
        let model = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16,
            "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}"#;
        let model = LlamaConfig::from_json(model, Path::new("config.json")).unwrap();
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 't.csv'\n\
                    train.micro_batch_size = 4\ntrain.eval_batch_size = 2\n";
        let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
        let run = RunConfig::from_toml(text, "", &set)
            .unwrap()
            .resolve(&model);
        let evaluated = evaluated.to_vec();
        Largest::of(&run, &Lengths { train, evaluated }, rows)
    }

    #[test]
    fn the_largest_pass_is_one_of_the_run() {
        let lengths: Vec<usize> = (1..=30).map(|n| n * n % 31).collect();
        let longest = |count: usize| {
            let mut sorted = lengths.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted[..count].iter().sum::<usize>()
        };
        let tokens = |set: &[&str], rows| -> (usize, usize) {
            let found = largest(set, &lengths, &[], rows);
            let most = found
                .passes
                .iter()
                .max_by_key(|pass| pass.iter().sum::<usize>());
            (most.unwrap().len(), found.pass_tokens())
        };
        // Fewer than a group, so the longest are together.
        let grouped = ["train.group_by_length=true"];
        assert_eq!(tokens(&grouped, 4), (4, longest(4)));
        assert_eq!(tokens(&grouped, 2), (2, longest(2)));
        let (rows, shuffled) = tokens(&[], 4);
        assert!(rows == 4 && shuffled < longest(4), "{shuffled}");
        assert_eq!(largest(&[], &[7], &[], 4).passes, [[7]]);
        assert!(largest(&[], &[], &[], 4).passes.is_empty());
    }

    /// Whatever the order of the inputs, the pass with the one long row is there, also where
    /// another has more tokens.
    #[test]
    fn a_pass_with_a_long_row_stands_beside_the_one_with_the_most_tokens() {
        let mut lengths = vec![70; 40];
        lengths[7] = 200;
        lengths[8..30].fill(2);
        let mut beside = 0;
        for seed in 0..20 {
            let seed = format!("train.seed={seed}");
            let set = ["train.epochs=1", &seed];
            let passes = largest(&set, &lengths, &[], 4).passes;
            let has_long = |pass: &Vec<usize>| pass.contains(&200);
            assert_eq!(passes.iter().filter(|pass| has_long(pass)).count(), 1);
            beside += passes.len() - 1;
        }
        assert!(beside > 0);

        let mut found = Vec::new();
        for (batch, expected) in [
            (vec![70; 4], vec![vec![70; 4]]),
            (vec![200, 2, 2, 2], vec![vec![70; 4], vec![200, 2, 2, 2]]),
            // Fewer tokens, places and a shorter row than one of them; then more than both.
            (vec![60; 4], vec![vec![70; 4], vec![200, 2, 2, 2]]),
            (vec![200; 4], vec![vec![200; 4]]),
        ] {
            add_if_largest(&mut found, batch);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn padding_that_is_attended_counts() {
        let attended = "data.padding=attended";
        let lengths = [3, 9, 5];
        let splits: [&[usize]; 2] = [&[2, 8, 2], &[1, 1, 1, 1, 20]];
        let found = largest(&[attended], &lengths, &splits, 4);
        assert_eq!(found.passes, [[9; 3]]);
        assert_eq!(found.evaluations, [[20, 20]]);
        let padded = [attended, "data.pad_to=64", "data.max_length=64"];
        let found = largest(&padded, &lengths, &splits, 1);
        assert_eq!(found.passes, [[64]]);
        assert_eq!(found.evaluations, [[64, 64]]);
        let found = largest(&["train.group_by_length=true"], &lengths, &splits, 4);
        assert_eq!(found.passes, [[9, 5, 3]]);
        assert_eq!(found.evaluations, [[20, 1]]);
    }
}
