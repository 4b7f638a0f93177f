//! [`Bounds`]: the numbers that a key of a file may have, as its reader states them.

use std::fmt;

/// From `least` to `most`, both included. Its text is what messages say was expected.
///
/// Files come from anywhere, so a number in one of them is held against its bounds before anything
/// is allocated or counted by it. Whoever knows what a key is for states them, in one place a
/// crate.
///
/// ```
/// use ls_files::Bounds;
///
/// const LAYERS: Bounds = Bounds::new(1, 4096);
/// assert!(LAYERS.hold(32) && !LAYERS.hold(0) && !LAYERS.hold(1 << 32));
/// assert_eq!(LAYERS.to_string(), "1 to 4096");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest number.
    pub least: u64,
    /// The highest number.
    pub most: u64,
}

impl Bounds {
    /// From `least` to `most`.
    #[must_use]
    pub const fn new(least: u64, most: u64) -> Self {
        Self { least, most }
    }

    /// Whether a number lies within.
    #[must_use]
    pub fn hold(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.most)
    }
}
