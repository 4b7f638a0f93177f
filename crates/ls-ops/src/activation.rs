//! [`Activation`]: what the gate of [`glu`](crate::glu()) goes through.

/// What the gate goes through. Each is `x sigmoid(k(x))` with a `k` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x sigmoid(x)`: LLaMA.
    Silu,
    /// GELU by `tanh`, `gelu_pytorch_tanh` in transformers: Gemma. As `1 + tanh(u)` is twice the
    /// sigmoid of `2u`, it is `x sigmoid(GELU x + GELU_CUBED x³)`.
    GeluTanh,
}

/// `2 sqrt(2 / pi)`.
pub(crate) const GELU: f32 = 1.595_769_2;
/// 0.044715 times [`GELU`].
pub(crate) const GELU_CUBED: f32 = 0.071_354_814;
