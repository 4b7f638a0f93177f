//! Encoded examples to padded batches on the host, in a seeded order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::labels::IGNORE_INDEX;

/// Batches that are shuffled together when they are grouped by length: enough that the lengths in
/// a batch are close, few enough that batches differ from epoch to epoch.
const BATCHES_PER_GROUP: usize = 50;

/// An example ready for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedExample {
    /// Ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Its target.
    pub labels: ExampleLabels,
}

/// The target of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum ExampleLabels {
    /// No target: the example is only predicted.
    None,
    /// One class.
    Class(i64),
    /// A number for each output of the head: 1 for a label that holds and 0 for one that does not,
    /// or the value of a regression.
    Outputs(Vec<f32>),
    /// A class per token, [`IGNORE_INDEX`] where there is none.
    Tokens(Vec<i64>),
}

/// The side on which short examples are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingSide {
    /// Before the tokens.
    Left,
    /// After the tokens.
    #[default]
    Right,
}

/// Whether padding takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingMode {
    /// Padding is hidden by the attention mask and never changes a result.
    #[default]
    Masked,
    /// Padding counts as tokens: the attention mask is 1 everywhere. This is what the published
    /// code of arXiv 2310.01208 does in its unmasked models, where an example's result depends on
    /// the length of its batch; only for reproducing its numbers.
    Attended,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Examples per batch, at least 1.
    pub batch_size: usize,
    /// Id that fills short examples up.
    pub pad_id: u32,
    /// Side of the padding.
    pub padding_side: PaddingSide,
    /// Whether padding takes part.
    pub padding_mode: PaddingMode,
    /// Tokens to which every batch is padded (the published code: its maximum length); `None` pads
    /// to the longest example of the batch. A longer example makes its batch longer.
    pub pad_to: Option<usize>,
    /// Whether examples of similar length share batches, which saves padding where that is
    /// computed.
    pub group_by_length: bool,
}

/// A rectangle of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Index of each row's input; a text that is read in windows is several inputs.
    pub indices: Vec<usize>,
    /// Ids: `[batch, seq]`.
    pub input_ids: Vec<Vec<u32>>,
    /// 1 = token, 0 = padding: `[batch, seq]`. All 1 with [`PaddingMode::Attended`].
    pub attention_mask: Vec<Vec<u8>>,
    /// Targets.
    pub labels: BatchLabels,
    /// Tokens of each row without padding, whatever the mask says.
    pub lengths: Vec<usize>,
    /// Side of the padding.
    pub padding_side: PaddingSide,
}

/// The targets of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchLabels {
    /// None: the batch is only predicted.
    None,
    /// One class per row: `[batch]`.
    Class(Vec<i64>),
    /// A number per row and output: `[batch, outputs]`.
    Outputs(Vec<Vec<f32>>),
    /// A class per position, [`IGNORE_INDEX`] on padding: `[batch, seq]`.
    Tokens(Vec<Vec<i64>>),
}

impl Batch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Length of every row, in tokens, padding included.
    pub fn seq_len(&self) -> usize {
        self.input_ids.first().map_or(0, Vec::len)
    }

    /// Tokens without padding.
    pub fn real_tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Targets that count in the loss: rows with a class, positions with one, or outputs with a
    /// number.
    pub fn counted_labels(&self) -> usize {
        let counted = |labels: &[i64]| labels.iter().filter(|l| **l != IGNORE_INDEX).count();
        match &self.labels {
            BatchLabels::None => 0,
            BatchLabels::Class(labels) => counted(labels),
            BatchLabels::Outputs(rows) => rows.iter().map(Vec::len).sum(),
            BatchLabels::Tokens(rows) => rows.iter().map(|row| counted(row)).sum(),
        }
    }
}

/// The batches of a training epoch: every index once, in an order fixed by `seed` and `epoch`.
///
/// With `group_by_length`, a shuffled order is cut into groups of 50 batches, each group is sorted
/// by length and cut into batches, and the batches are shuffled. Only the last batch may be short.
///
/// # Panics
/// If the batch size is 0.
pub fn epoch_order(
    lengths: &[usize],
    options: &BatchOptions,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    let mut rng = rng(seed, epoch as u64);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut rng);
    if !options.group_by_length {
        return in_batches(&order, options.batch_size);
    }
    for group in order.chunks_mut(options.batch_size.saturating_mul(BATCHES_PER_GROUP)) {
        group.sort_by_key(|i| Reverse(lengths[*i]));
    }
    let mut batches = in_batches(&order, options.batch_size);
    let full = lengths.len() / options.batch_size;
    batches[..full].shuffle(&mut rng);
    batches
}

/// The batches of an evaluation: in the given order, or longest first, by which a batch that is too
/// large for memory comes first and padding is least.
///
/// # Panics
/// If the batch size is 0.
pub fn sequential_order(
    lengths: &[usize],
    batch_size: usize,
    sort_by_length: bool,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    if sort_by_length {
        order.sort_by_key(|i| Reverse(lengths[*i]));
    }
    in_batches(&order, batch_size)
}

fn in_batches(order: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    assert!(batch_size > 0, "a batch holds at least one example");
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

/// One stream of the generator per use, so that no two uses of a seed repeat each other.
fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Pads the chosen examples to one length.
///
/// # Panics
/// If an index is past `examples`, or the examples do not all have the same kind of target.
pub fn collate(examples: &[EncodedExample], indices: &[usize], options: &BatchOptions) -> Batch {
    let rows: Vec<&EncodedExample> = indices.iter().map(|i| &examples[*i]).collect();
    let lengths: Vec<usize> = rows.iter().map(|row| row.input_ids.len()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let width = longest.max(options.pad_to.unwrap_or(0));
    let side = options.padding_side;
    let padding = u8::from(options.padding_mode == PaddingMode::Attended);
    Batch {
        indices: indices.to_vec(),
        input_ids: rows
            .iter()
            .map(|row| pad(&row.input_ids, width, options.pad_id, side))
            .collect(),
        attention_mask: lengths
            .iter()
            .map(|n| pad(&vec![1; *n], width, padding, side))
            .collect(),
        labels: collate_labels(&rows, width, side),
        lengths,
        padding_side: side,
    }
}

fn collate_labels(rows: &[&EncodedExample], width: usize, side: PaddingSide) -> BatchLabels {
    const MIXED: &str = "the examples of a batch have the same kind of target";
    match rows.first().map(|row| &row.labels) {
        None | Some(ExampleLabels::None) => {
            assert!(
                rows.iter().all(|row| row.labels == ExampleLabels::None),
                "{MIXED}"
            );
            BatchLabels::None
        }
        Some(ExampleLabels::Class(_)) => {
            let class = |row: &&EncodedExample| match &row.labels {
                ExampleLabels::Class(class) => *class,
                _ => panic!("{MIXED}"),
            };
            BatchLabels::Class(rows.iter().map(class).collect())
        }
        Some(ExampleLabels::Outputs(_)) => {
            let outputs = |row: &&EncodedExample| match &row.labels {
                ExampleLabels::Outputs(outputs) => outputs.clone(),
                _ => panic!("{MIXED}"),
            };
            BatchLabels::Outputs(rows.iter().map(outputs).collect())
        }
        Some(ExampleLabels::Tokens(_)) => {
            let tokens = |row: &&EncodedExample| match &row.labels {
                ExampleLabels::Tokens(labels) => {
                    assert_eq!(labels.len(), row.input_ids.len(), "one target per token");
                    pad(labels, width, IGNORE_INDEX, side)
                }
                _ => panic!("{MIXED}"),
            };
            BatchLabels::Tokens(rows.iter().map(tokens).collect())
        }
    }
}

fn pad<T: Copy>(row: &[T], width: usize, fill: T, side: PaddingSide) -> Vec<T> {
    let padding = std::iter::repeat_n(fill, width - row.len());
    match side {
        PaddingSide::Left => padding.chain(row.iter().copied()).collect(),
        PaddingSide::Right => row.iter().copied().chain(padding).collect(),
    }
}

/// Parts `fraction` of `n` examples from the rest: `(rest, part)`, both ascending.
///
/// With `strata` (a class per example) each class gives its share, rounded so that the part has
/// `fraction * n` examples, and keeps at least one. Where that is too few, because many classes
/// have no more than one, the others give more, up to half of what they have.
///
/// # Panics
/// If `fraction` is not in `0.0..1.0`, or `strata` is not of length `n`.
pub fn split_off(
    n: usize,
    fraction: f64,
    seed: u64,
    strata: Option<&[usize]>,
) -> (Vec<usize>, Vec<usize>) {
    assert!(
        (0.0..1.0).contains(&fraction),
        "a fraction of at least 0 and less than 1"
    );
    // Any stream but those of the epochs.
    in_equal_shares(n, fraction, 1, rng(seed, u64::MAX), strata)
}

/// Draws `most` of `n` examples, ascending; with `strata` (a class per example) in equal shares of
/// each class. All of them where there are no more.
///
/// # Panics
/// If `strata` is not of length `n`.
pub fn draw(n: usize, most: usize, seed: u64, strata: Option<&[usize]>) -> Vec<usize> {
    if most >= n {
        return (0..n).collect();
    }
    // Any stream but those of the epochs, of `split_off` and of `split_fold`.
    let rng = rng(seed, u64::MAX - 2);
    in_equal_shares(n, most as f64 / n as f64, 0, rng, strata).1
}

/// Parts `fraction` of `n` examples from the rest, in which each class keeps at least `keep`:
/// `(rest, part)`, both ascending.
fn in_equal_shares(
    n: usize,
    fraction: f64,
    keep: usize,
    mut rng: ChaCha8Rng,
    strata: Option<&[usize]>,
) -> (Vec<usize>, Vec<usize>) {
    let mut groups = by_stratum(n, strata);
    // Largest remainders: whole shares first, then one more to those that lost most by rounding.
    let mut shares: Vec<(usize, f64, usize)> = groups
        .iter()
        .map(|(stratum, group)| {
            let exact = fraction * group.len() as f64;
            (*stratum, exact.fract(), exact as usize)
        })
        .collect();
    let wanted = (fraction * n as f64).round() as usize;
    let mut missing = wanted.saturating_sub(shares.iter().map(|s| s.2).sum());
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    // Where many classes have too few to give one, the others give more than one, but keep half.
    let (mut before, mut is_first) = (usize::MAX, true);
    while missing > 0 && missing < before {
        before = missing;
        for (stratum, _, share) in &mut shares {
            let len = groups[stratum].len();
            let most = match keep {
                0 => len,
                _ if is_first => len.saturating_sub(keep),
                _ => len / 2,
            };
            if missing > 0 && *share < most {
                *share += 1;
                missing -= 1;
            }
        }
        is_first = false;
    }
    shares.sort_by_key(|s| s.0);

    let (mut rest, mut part) = (Vec::new(), Vec::new());
    for (group, (_, _, share)) in groups.values_mut().zip(shares) {
        group.shuffle(&mut rng);
        part.extend(&group[..share]);
        rest.extend(&group[share..]);
    }
    rest.sort_unstable();
    part.sort_unstable();
    (rest, part)
}

/// Cuts `n` examples in `folds` parts and parts number `fold`, from 0, from the rest: `(rest,
/// part)`, both ascending. The parts of one seed have no example in common, and all examples
/// together.
///
/// Their sizes differ by one at most; with `strata` (a class per example) so does what they have of
/// each class.
///
/// # Panics
/// If `fold` is not under `folds`, or `strata` is not of length `n`.
pub fn split_fold(
    n: usize,
    folds: usize,
    fold: usize,
    seed: u64,
    strata: Option<&[usize]>,
) -> (Vec<usize>, Vec<usize>) {
    assert!(fold < folds, "a fold of those there are");
    // Any stream but those of the epochs and of `split_off`.
    let mut rng = rng(seed, u64::MAX - 1);
    let (mut rest, mut part) = (Vec::new(), Vec::new());
    let mut place = 0;
    for group in by_stratum(n, strata).values_mut() {
        group.shuffle(&mut rng);
        for &example in group.iter() {
            let parts = if place % folds == fold {
                &mut part
            } else {
                &mut rest
            };
            parts.push(example);
            place += 1;
        }
    }
    rest.sort_unstable();
    part.sort_unstable();
    (rest, part)
}

/// Examples by their class, or all in one group.
fn by_stratum(n: usize, strata: Option<&[usize]>) -> BTreeMap<usize, Vec<usize>> {
    if let Some(strata) = strata {
        assert_eq!(strata.len(), n, "one stratum per example");
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..n {
        let stratum = strata.map_or(0, |strata| strata[i]);
        groups.entry(stratum).or_default().push(i);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(batch_size: usize, group_by_length: bool) -> BatchOptions {
        BatchOptions {
            batch_size,
            pad_id: 9,
            padding_side: PaddingSide::Right,
            padding_mode: PaddingMode::Masked,
            pad_to: None,
            group_by_length,
        }
    }

    fn lengths(n: usize) -> Vec<usize> {
        (0..n).map(|i| 3 + (i * 7919) % 61).collect()
    }

    fn padding(order: &[Vec<usize>], lengths: &[usize]) -> usize {
        let waste = |batch: &Vec<usize>| {
            let longest = batch.iter().map(|i| lengths[*i]).max().unwrap_or(0);
            batch.iter().map(|i| longest - lengths[*i]).sum::<usize>()
        };
        order.iter().map(waste).sum()
    }

    #[test]
    fn an_epoch_has_every_index_once_and_one_short_batch_at_the_end() {
        for group in [false, true] {
            for n in [0, 1, 8, 1003] {
                let order = epoch_order(&lengths(n), &options(8, group), 1, 0);
                let mut seen: Vec<usize> = order.iter().flatten().copied().collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..n).collect::<Vec<_>>());
                assert_eq!(order.len(), n.div_ceil(8));
                assert!(order.iter().rev().skip(1).all(|batch| batch.len() == 8));
            }
        }
    }

    #[test]
    fn the_order_is_fixed_by_seed_and_epoch() {
        let lengths = lengths(100);
        for group in [false, true] {
            let order = |seed, epoch| epoch_order(&lengths, &options(4, group), seed, epoch);
            assert_eq!(order(1, 0), order(1, 0));
            assert_ne!(order(1, 0), order(1, 1));
            assert_ne!(order(1, 0), order(2, 0));
        }
    }

    #[test]
    fn grouping_by_length_saves_most_of_the_padding() {
        let lengths = lengths(4000);
        let plain = padding(&epoch_order(&lengths, &options(8, false), 1, 0), &lengths);
        let grouped = padding(&epoch_order(&lengths, &options(8, true), 1, 0), &lengths);
        assert!(
            grouped * 10 < plain,
            "{grouped} against {plain} padded positions"
        );
    }

    #[test]
    fn evaluation_keeps_the_order_or_puts_the_longest_first() {
        assert_eq!(
            sequential_order(&[1, 5, 3], 2, false),
            [vec![0, 1], vec![2]]
        );
        assert_eq!(sequential_order(&[1, 5, 3], 2, true), [vec![1, 2], vec![0]]);
    }

    #[test]
    fn padding_fills_ids_mask_and_targets_on_the_chosen_side() {
        let example = |ids: &[u32]| EncodedExample {
            input_ids: ids.to_vec(),
            labels: ExampleLabels::Tokens(ids.iter().map(|id| *id as i64).collect()),
        };
        let examples = [example(&[1, 2, 3]), example(&[4]), example(&[5, 6])];
        let right = collate(&examples, &[1, 2], &options(2, false));
        assert_eq!(right.input_ids, [[4, 9], [5, 6]]);
        assert_eq!(right.attention_mask, [[1, 0], [1, 1]]);
        assert_eq!(
            right.labels,
            BatchLabels::Tokens(vec![vec![4, -100], vec![5, 6]])
        );
        assert_eq!(
            (right.lengths.as_slice(), right.real_tokens()),
            (&[1, 2][..], 3)
        );
        assert_eq!(
            (right.counted_labels(), right.seq_len(), right.len()),
            (3, 2, 2)
        );

        let left = BatchOptions {
            padding_side: PaddingSide::Left,
            pad_to: Some(3),
            padding_mode: PaddingMode::Attended,
            ..options(2, false)
        };
        let left = collate(&examples, &[1, 2], &left);
        assert_eq!(left.input_ids, [[9, 9, 4], [9, 5, 6]]);
        assert_eq!(left.attention_mask, [[1, 1, 1], [1, 1, 1]]);
        assert_eq!(
            left.labels,
            BatchLabels::Tokens(vec![vec![-100, -100, 4], vec![-100, 5, 6]])
        );
        assert_eq!(left.real_tokens(), 3);
    }

    #[test]
    fn classes_and_unlabelled_examples_make_batches() {
        let example = |labels| EncodedExample {
            input_ids: vec![1],
            labels,
        };
        let classes = [
            example(ExampleLabels::Class(2)),
            example(ExampleLabels::Class(0)),
        ];
        let batch = collate(&classes, &[1, 0], &options(2, false));
        assert_eq!(batch.labels, BatchLabels::Class(vec![0, 2]));
        let batch = collate(&[example(ExampleLabels::None)], &[0], &options(2, false));
        assert_eq!(batch.labels, BatchLabels::None);
    }

    #[test]
    fn a_split_is_stratified_and_complete() {
        let strata: Vec<usize> = (0..1000)
            .map(|i| if i % 10 == 0 { 1 } else { 0 })
            .chain([2])
            .collect();
        let (rest, part) = split_off(1001, 0.1, 7, Some(&strata));
        assert_eq!((rest.len(), part.len()), (901, 100));
        let count = |class| part.iter().filter(|i| strata[**i] == class).count();
        assert_eq!((count(0), count(1), count(2)), (90, 10, 0));
        let mut all = [rest, part.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1001).collect::<Vec<_>>());
        assert_eq!(split_off(1001, 0.1, 7, Some(&strata)).1, part);
        assert_ne!(split_off(1001, 0.1, 8, Some(&strata)).1, part);
        assert_eq!(split_off(5, 0.0, 1, None).1, [0usize; 0]);
        assert_eq!(split_off(1, 0.9, 1, None).0, [0]);
    }

    #[test]
    fn what_is_drawn_is_as_many_in_equal_shares() {
        let strata: Vec<usize> = (0..101).map(|i| usize::from(i % 3 == 0)).collect();
        let drawn = draw(101, 30, 7, Some(&strata));
        assert_eq!(drawn.len(), 30);
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert_eq!(drawn.iter().filter(|i| strata[**i] == 1).count(), 10);
        assert_ne!(draw(101, 30, 8, Some(&strata)), drawn);
        // As many classes as examples: not each can be among them.
        let each: Vec<usize> = (0..9).collect();
        for most in [0, 1, 4, 8] {
            assert_eq!(draw(9, most, 7, Some(&each)).len(), most);
        }
        for most in [9, 10] {
            assert_eq!(draw(9, most, 7, None), each);
        }
        assert_eq!(draw(0, 3, 7, None), [0usize; 0]);
        // Classes of one keep it, and the large one gives what they do not.
        let strata: Vec<usize> = (0..100).map(|i| i.min(60)).collect();
        let (rest, part) = split_off(100, 0.1, 7, Some(&strata));
        assert_eq!((rest.len(), part.len()), (90, 10));
        assert!(part.iter().all(|i| strata[*i] == 60));
        assert_eq!(split_off(9, 0.5, 7, Some(&each)).1, [0usize; 0]);
        let strata: Vec<usize> = (0..1050).map(|i| i.min(1000)).collect();
        assert_eq!(split_off(1050, 0.1, 7, Some(&strata)).1.len(), 25);
    }

    #[test]
    fn folds_are_stratified_and_have_every_example_once() {
        let strata: Vec<usize> = (0..101).map(|i| usize::from(i % 3 == 0)).collect();
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        for fold in 0..4 {
            let (rest, part) = split_fold(101, 4, fold, 7, Some(&strata));
            let mut both = [rest, part.clone()].concat();
            both.sort_unstable();
            assert_eq!(both, (0..101).collect::<Vec<_>>());
            let ones = part.iter().filter(|i| strata[**i] == 1).count();
            assert!((8..=9).contains(&ones), "{ones}");
            sizes.push(part.len());
            all.extend(part);
        }
        sizes.sort_unstable();
        assert_eq!(sizes, [25, 25, 25, 26]);
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<_>>());
        let first = |seed| split_fold(101, 4, 0, seed, Some(&strata)).1;
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        assert_eq!(split_fold(1, 2, 1, 1, None), (vec![0], vec![]));
    }
}
