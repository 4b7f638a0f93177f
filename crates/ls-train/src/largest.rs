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

/// The batches with the most tokens, as tokens of each of their inputs, with padding where that
/// counts as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Largest {
    /// Most inputs of a pass.
    pub rows: usize,
    /// The pass with the most tokens, of the first ten epochs.
    pub pass: Vec<usize>,
    /// The batch of an evaluation with the most tokens.
    pub evaluation: Vec<usize>,
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
        let evaluations = lengths.evaluated.iter().filter_map(|lengths| {
            let batches = sequential_order(lengths, train.eval_batch_size, true);
            let largest = batches.first()?.iter();
            Some(seen(largest.map(|input| lengths[*input]).collect()))
        });
        Self {
            rows,
            pass: seen(largest_pass(lengths.train, train, rows)),
            evaluation: evaluations
                .max_by_key(|batch| size(batch))
                .unwrap_or_default(),
        }
    }
}

fn largest_pass(lengths: &[usize], train: &TrainSettings, rows: usize) -> Vec<usize> {
    let options = BatchOptions {
        batch_size: train.micro_batch_size.largest(),
        pad_id: 0,
        padding_side: PaddingSide::Right,
        padding_mode: PaddingMode::Masked,
        pad_to: None,
        group_by_length: train.group_by_length,
    };
    let passes = (0..train.epochs.min(EPOCHS)).filter_map(|epoch| {
        let batches = epoch_order(lengths, &options, train.seed, epoch);
        let passes = batches.iter().flat_map(|batch| batch.chunks(rows.max(1)));
        let passes =
            passes.map(|pass| -> Vec<usize> { pass.iter().map(|input| lengths[*input]).collect() });
        passes.max_by_key(|pass| size(pass))
    });
    passes.max_by_key(|pass| size(pass)).unwrap_or_default()
}

/// By which batches are compared.
fn size(lengths: &[usize]) -> (usize, usize) {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    (lengths.iter().sum(), longest)
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
            let pass = largest(set, &lengths, &[], rows).pass;
            (pass.len(), pass.iter().sum())
        };
        // Fewer than a group, so the longest are together.
        assert_eq!(tokens(&[], 4), (4, longest(4)));
        assert_eq!(tokens(&[], 2), (2, longest(2)));
        let (rows, shuffled) = tokens(&["train.group_by_length=false"], 4);
        assert!(rows == 4 && shuffled < longest(4), "{shuffled}");
        assert_eq!(largest(&[], &[7], &[], 4).pass, [7]);
        assert!(largest(&[], &[], &[], 4).pass.is_empty());
    }

    #[test]
    fn padding_that_is_attended_counts() {
        let attended = "data.padding=attended";
        let lengths = [3, 9, 5];
        let splits: [&[usize]; 2] = [&[2, 8, 2], &[1, 1, 1, 1, 20]];
        let found = largest(&[attended], &lengths, &splits, 4);
        assert_eq!((found.pass, found.evaluation), (vec![9; 3], vec![20, 20]));
        let padded = [attended, "data.pad_to=64", "data.max_length=64"];
        let found = largest(&padded, &lengths, &splits, 1);
        assert_eq!((found.pass, found.evaluation), (vec![64], vec![64, 64]));
        let found = largest(&[], &lengths, &splits, 4);
        assert_eq!((found.pass, found.evaluation), (vec![9, 5, 3], vec![20, 1]));
    }
}
