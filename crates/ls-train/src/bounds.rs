//! The numbers that a configuration and the settings beside an adapter may hold: far more than
//! anybody needs, and so few that nothing is allocated or counted past all sense.

use ls_files::Bounds;

/// Tokens of an input: `max_length`, `pad_to`, `stride`.
pub(crate) const TOKENS: Bounds = Bounds::new(1, 1 << 24);
/// Inputs of one pass: `micro_batch_size`, `pass_size`, `eval_batch_size`, `batch_size`.
pub(crate) const BATCH: Bounds = Bounds::new(1, 1 << 16);
/// Tokens of a batch in which each input is filled up to `pad_to`.
pub(crate) const PADDED_TOKENS: u64 = 1 << 20;
/// Passes: `epochs`, `gradient_accumulation_steps`, and what is counted in evaluations.
pub(crate) const PASSES: Bounds = Bounds::new(1, 1 << 24);
/// Examples: `max_train_samples`.
pub(crate) const EXAMPLES: Bounds = Bounds::new(1, 1 << 40);
/// Optimizer steps: `eval_steps`.
pub(crate) const STEPS: Bounds = Bounds::new(1, 1 << 40);
/// Optimizer steps: `warmup_steps`.
pub(crate) const WARMUP_STEPS: Bounds = Bounds::new(0, 1 << 40);
/// Rates and factors of the loop are at most this, near the end of f32.
pub(crate) const MOST: f64 = 1e38;

/// Exponents of a focal loss are at most this: far past where anything but mistakes counts.
pub(crate) const MOST_GAMMA: f64 = 100.0;

/// What is wrong with batches of so many inputs that are filled up to `pad_to`, if anything is.
pub(crate) fn padded(pad_to: usize, batch_size: usize) -> Option<String> {
    let tokens = (pad_to as u64).saturating_mul(batch_size as u64);
    (tokens > PADDED_TOKENS).then(|| {
        format!(
            "{batch_size} inputs of {pad_to} tokens are {tokens} tokens a batch, expected at most \
             {PADDED_TOKENS}"
        )
    })
}
