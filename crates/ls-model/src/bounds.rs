//! The numbers that `config.json` may hold: what published models have, with room to grow, and so
//! small that no sum or product of them overflows.
//!
//! They keep a damaged file from being believed before it is held against the weights, which have
//! the last word on every shape.

use ls_files::Bounds;

/// A width: `hidden_size`, `intermediate_size`.
pub(crate) const WIDTH: Bounds = Bounds::new(1, 1 << 20);
/// `vocab_size`.
pub(crate) const VOCABULARY: Bounds = Bounds::new(1, 1 << 24);
/// `num_hidden_layers`.
pub(crate) const LAYERS: Bounds = Bounds::new(1, 1 << 12);
/// `num_attention_heads` and `num_key_value_heads`.
pub(crate) const HEADS: Bounds = Bounds::new(1, 1 << 14);
/// `head_dim`.
pub(crate) const HEAD_DIM: Bounds = Bounds::new(2, 1 << 14);
/// Tokens: `max_position_embeddings` and `sliding_window`.
pub(crate) const TOKENS: Bounds = Bounds::new(1, 1 << 31);
/// Layers below a place in the stack: `max_window_layers`.
pub(crate) const LAYERS_BELOW: Bounds = Bounds::new(0, 1 << 12);
/// Layers from one without rotary embedding to the next: `no_rope_layer_interval`; and
/// `sliding_window_pattern`.
pub(crate) const INTERVAL: Bounds = Bounds::new(1, 1 << 12);
/// The base and the factors of the rotary embedding are at least this,
pub(crate) const LEAST_OF_ROPE: f64 = 1e-15;
/// and at most this.
pub(crate) const MOST_OF_ROPE: f64 = 1e15;
