//! Frozen weights in 4 or 8 bits per value (QLoRA, arXiv 2305.14314), and the product with them.
//!
//! A weight is unpacked for one product at a time, forward and backward; what the graph keeps until
//! the backward pass is the packed form. (burn's own quantised product keeps the unpacked weight.)
//! No gradient of the weight is formed.
//!
//! The layout: blocks of 64 values run along the input axis of each output, as in bitsandbytes,
//! whose NF4 codes these are. Eight 4-bit or four 8-bit codes of consecutive inputs share a 32-bit
//! word, lowest bits first. The scale of a block is its largest magnitude in bf16, so that a value
//! takes 4.25 or 8.25 bits.

mod codes;
#[cfg(feature = "cube")]
mod kernel;
mod layer;
mod operation;

pub use codes::Quantization;
pub use layer::QuantizedWeight;
