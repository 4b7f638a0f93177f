//! Inputs that are longer than the model takes: what is kept of them, or the windows they are read in.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What happens to an input that is longer than `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongInputs {
    /// It is read in overlapping windows and nothing is lost: a word is labelled once, in the window with the most
    /// context around it; a text by the mean of its windows.
    Window,
    /// The beginning is kept, as the published code of arXiv 2310.01208 does. Words beyond it are dropped and counted.
    #[serde(alias = "head")]
    Truncate,
    /// The end is kept (texts only).
    Tail,
    /// The beginning and the end are kept, half each (texts only).
    HeadTail,
}

/// On which side of a word context counts when a window is chosen for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// On both: the side with less of it decides.
    #[default]
    Both,
    /// On the left, as under a causal mask.
    Left,
}

/// How long an input may be, and what happens to longer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InputLimits {
    /// Longest input in tokens, special ones included.
    pub max_length: usize,
    /// What happens to longer ones.
    pub long_inputs: LongInputs,
    /// Tokens that two neighbouring windows share at least; by default a quarter of a window.
    pub stride: Option<usize>,
    /// Where context counts.
    pub context: Context,
}

impl InputLimits {
    /// Longer inputs are cut at the end.
    pub fn truncate(max_length: usize) -> Self {
        Self {
            max_length,
            long_inputs: LongInputs::Truncate,
            stride: None,
            context: Context::Both,
        }
    }

    /// Longer inputs are read in windows that share a quarter.
    pub fn windows(max_length: usize) -> Self {
        Self {
            long_inputs: LongInputs::Window,
            ..Self::truncate(max_length)
        }
    }

    /// The overlap of windows of `room` text tokens: at most one token less than they have.
    pub(crate) fn overlap(&self, room: usize) -> usize {
        self.stride.unwrap_or(room / 4).min(room.saturating_sub(1))
    }
}

/// Windows of `room` tokens over `tokens` tokens that begin and end where `breaks` allows it and share at least `overlap`
/// tokens, as far as the breaks are close enough. The last one reaches back as far as it can.
///
/// `breaks(i)` says whether a window may begin at token `i`; `breaks(0)` and `breaks(tokens)` count as true. A stretch of
/// `room` tokens without a break is cut where `room` ends.
pub(crate) fn windows(
    tokens: usize,
    room: usize,
    overlap: usize,
    breaks: impl Fn(usize) -> bool,
) -> Vec<Range<usize>> {
    let breaks = |i: usize| i == 0 || i == tokens || breaks(i);
    if tokens <= room {
        return std::iter::once(0..tokens).collect();
    }
    let mut windows: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    loop {
        if tokens - start <= room {
            // The last: full, so that its words have all the context there is room for.
            let earliest = (tokens - room..=start).find(|i| breaks(*i));
            windows.push(earliest.unwrap_or(start)..tokens);
            return windows;
        }
        let limit = start + room;
        let end = (start + 1..=limit)
            .rev()
            .find(|i| breaks(*i))
            .unwrap_or(limit);
        windows.push(start..end);
        // A window that would end where this one does adds nothing.
        let goes_on = |i: &usize| (end + 1..=i + room).any(&breaks);
        let wanted = end.saturating_sub(overlap).max(start + 1);
        let next = (wanted..end).find(|i| breaks(*i) && goes_on(i));
        start = next.unwrap_or(end);
    }
}

/// The window with the most context for a piece (a word) at tokens `piece`, among those that hold it whole, else among those
/// that hold its beginning. A window's edge counts as no lack of context where the text itself begins or ends there.
pub(crate) fn best_window(
    windows: &[Range<usize>],
    piece: &Range<usize>,
    tokens: usize,
    context: Context,
) -> Option<usize> {
    let score = |window: &Range<usize>| {
        let left = match window.start {
            0 => usize::MAX,
            start => piece.start - start,
        };
        let right = match window.end {
            end if end == tokens => usize::MAX,
            end => end.saturating_sub(piece.end),
        };
        match context {
            Context::Left => left,
            Context::Both => left.min(right),
        }
    };
    let holds_start = |window: &Range<usize>| window.contains(&piece.start);
    let whole = |window: &Range<usize>| holds_start(window) && window.end >= piece.end;
    let best = |candidates: &dyn Fn(&Range<usize>) -> bool| {
        let found = windows.iter().enumerate().filter(|(_, w)| candidates(w));
        // The first of equals.
        found
            .rev()
            .max_by_key(|(_, window)| score(window))
            .map(|(i, _)| i)
    };
    best(&whole).or_else(|| best(&holds_start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(_: usize) -> bool {
        true
    }

    #[test]
    fn windows_cover_everything_and_overlap() {
        assert_eq!(windows(5, 5, 2, every), vec![0..5; 1]);
        assert_eq!(windows(0, 5, 2, every), vec![0..0; 1]);
        assert_eq!(windows(12, 5, 2, every), [0..5, 3..8, 6..11, 7..12]);
        assert_eq!(windows(10, 5, 0, every), [0..5, 5..10]);
        for tokens in 1..60 {
            for room in 1..12 {
                for overlap in 0..room {
                    for modulus in 1..7 {
                        let breaks = |i: usize| i.is_multiple_of(modulus);
                        let found = windows(tokens, room, overlap, breaks);
                        let what = format!("{tokens} {room} {overlap} {modulus}: {found:?}");
                        assert_eq!(found[0].start, 0, "{what}");
                        assert_eq!(found.last().unwrap().end, tokens, "{what}");
                        for window in &found {
                            assert!(window.len() <= room && !window.is_empty(), "{what}");
                        }
                        for pair in found.windows(2) {
                            assert!(pair[1].start > pair[0].start, "{what}");
                            assert!(pair[1].end > pair[0].end, "{what}");
                            assert!(pair[1].start <= pair[0].end, "no gap: {what}");
                            if modulus == 1 {
                                assert!(pair[0].end - pair[1].start >= overlap, "{what}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_piece_goes_to_the_window_with_most_context() {
        let windows = [0..8, 4..12, 8..16];
        let best = |start: usize, context| best_window(&windows, &(start..start + 1), 16, context);
        let both: Vec<_> = (0..16).filter_map(|i| best(i, Context::Both)).collect();
        assert_eq!(both, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        // Under a causal mask nothing is gained by seeing more to the right.
        let left: Vec<_> = (0..16).filter_map(|i| best(i, Context::Left)).collect();
        assert_eq!(left, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn a_piece_that_fits_no_window_goes_where_it_begins() {
        let windows = windows(9, 4, 1, |i| i == 1 || i == 8);
        assert!(windows.iter().any(|w| w.contains(&1)), "{windows:?}");
        let found = best_window(&windows, &(1..8), 9, Context::Both).unwrap();
        assert!(windows[found].contains(&1), "{windows:?}");
        assert_eq!(best_window(&vec![0..2; 1], &(3..4), 9, Context::Both), None);
    }
}
