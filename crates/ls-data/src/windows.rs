//! Inputs that are longer than the model takes: what is kept of them, or the windows that they are
//! read in.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::inputs::{EncodedTokens, SequenceInputs, WordInput, WordInputs};

/// What happens to an input that is longer than `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongInputs {
    /// It is read in overlapping windows and nothing is lost: a word is labelled once, in the
    /// window with the most context around it; a text by the mean of its windows.
    Window,
    /// The beginning is kept, as the published code of arXiv 2310.01208 does. Words beyond it are
    /// dropped and counted.
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

/// Windows of `room` tokens over `tokens` tokens that begin and end where `breaks` allows it and
/// share at least `overlap` tokens, as far as the breaks are close enough. The last one reaches
/// back as far as it can.
///
/// `breaks(i)` says whether a window may begin at token `i`; `breaks(0)` and `breaks(tokens)` count
/// as true. A stretch of `room` tokens without a break is cut where `room` ends.
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

/// The window with the most context for a piece (a word) at tokens `piece`, among those that hold
/// it whole, else among those that hold its beginning. A window's edge counts as no lack of context
/// where the text itself begins or ends there.
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

/// Which end of a text stays.
#[derive(Clone, Copy)]
pub(crate) enum Keep {
    Head,
    Tail,
    HeadTail,
}

impl Keep {
    /// Whether token `i` of `length` stays where `kept` do.
    pub(crate) fn keeps(self, i: usize, length: usize, kept: usize) -> bool {
        let head = match self {
            Self::Head => kept,
            Self::Tail => 0,
            Self::HeadTail => kept.div_ceil(2),
        };
        i < head || i + (kept - head) >= length
    }
}

/// A text as ids, and where it stands among the special ones.
pub(crate) struct Whole {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: Range<usize>,
}

impl Whole {
    /// Text tokens that fit beside the special ones.
    pub(crate) fn room(&self, max_length: usize) -> usize {
        max_length.saturating_sub(self.ids.len() - self.text.len())
    }

    pub(crate) fn uncut(self) -> SequenceInputs {
        SequenceInputs {
            text_tokens: self.text.len(),
            inputs: vec![self.ids],
            cut_tokens: 0,
        }
    }

    pub(crate) fn cut(self, max_length: usize, keep: Keep) -> SequenceInputs {
        let (kept, length) = (self.room(max_length), self.text.len());
        let mut input_ids = self.ids[..self.text.start].to_vec();
        let text = self.ids[self.text.clone()].iter().enumerate();
        let stays = text.filter(|(i, _)| keep.keeps(*i, length, kept));
        input_ids.extend(stays.map(|(_, id)| id));
        input_ids.extend_from_slice(&self.ids[self.text.end..]);
        SequenceInputs {
            inputs: vec![input_ids],
            cut_tokens: length - kept,
            text_tokens: length,
        }
    }

    /// A part of the text with the special tokens around it.
    fn part(&self, window: &Range<usize>) -> Vec<u32> {
        let window = self.text.start + window.start..self.text.start + window.end;
        let (before, after) = (&self.ids[..self.text.start], &self.ids[self.text.end..]);
        [before, &self.ids[window], after].concat()
    }

    pub(crate) fn windows(&self, limits: &InputLimits) -> SequenceInputs {
        let room = self.room(limits.max_length);
        let windows = windows(self.text.len(), room, limits.overlap(room), |_| true);
        SequenceInputs {
            inputs: windows.iter().map(|window| self.part(window)).collect(),
            cut_tokens: 0,
            text_tokens: self.text.len(),
        }
    }
}

/// How many tokens of each text stay in `room`: the longer one is cut down to the shorter first,
/// then both to half, with the odd token for the longer (the second, if they are equal).
pub(crate) fn longest_first(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let swap = lengths[0] > lengths[1];
    let [mut short, mut long] = if swap {
        [lengths[1], lengths[0]]
    } else {
        lengths
    };
    if short + long > room {
        long = short.max(room.saturating_sub(short));
        if short + long > room {
            short = room / 2;
            long = room - short;
        }
    }
    if swap { [long, short] } else { [short, long] }
}

pub(crate) fn cut_words(
    (whole, mut word_ids): (Whole, Vec<Option<usize>>),
    count: usize,
    max_length: usize,
) -> EncodedTokens {
    let (text, room) = (whole.text.clone(), whole.room(max_length));
    let mut input_ids = whole.ids;
    let mut with_tokens = vec![false; count];
    for word in word_ids.iter().flatten() {
        with_tokens[*word] = true;
    }
    let (mut cut_tokens, mut cut_words) = (0, 0);
    if text.len() > room {
        let end = text.start + room;
        let kept = word_ids[..end].iter().flatten().next_back().copied();
        let mut cut: Vec<usize> = word_ids[end..text.end].iter().flatten().copied().collect();
        cut.dedup();
        cut.retain(|word| Some(*word) != kept);
        (cut_tokens, cut_words) = (text.end - end, cut.len());
        input_ids.drain(end..text.end);
        word_ids.drain(end..text.end);
    }
    EncodedTokens {
        input_ids,
        word_ids,
        cut_tokens,
        cut_words,
        empty_words: with_tokens.iter().filter(|w| !**w).count(),
        text_tokens: text.len(),
    }
}

/// Words at the end of the list that truncation removed, with those without tokens behind the first
/// of them.
pub(crate) fn trailing_cut(cut: &EncodedTokens, words: usize) -> usize {
    if cut.cut_words == 0 {
        return 0;
    }
    let last = cut.word_ids.iter().flatten().max();
    words - last.map_or(0, |last| last + 1)
}

pub(crate) fn word_windows(
    whole: &Whole,
    word_ids: &[Option<usize>],
    count: usize,
    limits: &InputLimits,
) -> WordInputs {
    let text = &whole.text;
    let words = &word_ids[text.clone()];
    let room = whole.room(limits.max_length);
    // Not inside a word.
    let breaks = |i: usize| words[i - 1] != words[i];
    let windows = windows(text.len(), room, limits.overlap(room), breaks);

    // The tokens of each word, and the window that it is labelled in. Words without tokens go with
    // the word before.
    let mut pieces: Vec<Option<Range<usize>>> = vec![None; count];
    for (i, word) in words.iter().enumerate() {
        if let Some(word) = *word {
            let piece = pieces[word].get_or_insert(i..i + 1);
            piece.end = i + 1;
        }
    }
    let mut bounds = vec![0; windows.len() + 1];
    let mut current = 0;
    for (word, piece) in pieces.iter().enumerate() {
        if let Some(piece) = piece {
            // No word goes to a window before its neighbour's, and none to one that begins behind
            // it.
            let end = windows.partition_point(|window| window.start <= piece.start);
            let near = &windows[current.min(end)..end];
            let best = best_window(near, piece, text.len(), limits.context);
            current += best.unwrap_or(0);
        }
        bounds[current + 1] = word + 1;
    }
    for window in 1..bounds.len() {
        bounds[window] = bounds[window].max(bounds[window - 1]);
    }
    let input = |(index, window): (usize, &Range<usize>)| {
        let of_window = &words[window.clone()];
        let mut of_input = vec![None; whole.ids.len() - text.len() + window.len()];
        of_input[text.start..text.start + window.len()].copy_from_slice(of_window);
        WordInput {
            input_ids: whole.part(window),
            word_ids: of_input,
            scored: bounds[index]..bounds[index + 1],
        }
    };
    let past_room = |piece: &Range<usize>| piece.len().saturating_sub(room);
    // Windows over the rest of a word that is longer than one answer nothing: a word of megabytes
    // costs one pass of the model, not thousands.
    let all = windows.iter().enumerate();
    let labelled = all.filter(|(index, _)| *index == 0 || bounds[*index] < bounds[index + 1]);
    WordInputs {
        inputs: labelled.map(input).collect(),
        cut_tokens: pieces.iter().flatten().map(past_room).sum(),
        cut_words: 0,
        empty_words: pieces.iter().filter(|piece| piece.is_none()).count(),
        text_tokens: text.len(),
    }
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
    fn the_rest_of_a_word_longer_than_its_window_is_not_read() {
        // Three words of 1, 1000 and 2 tokens.
        let ids: Vec<u32> = (0..1003).collect();
        let word = |id: &u32| Some(usize::from(*id > 0) + usize::from(*id > 1000));
        let words: Vec<_> = ids.iter().map(word).collect();
        let whole = Whole {
            text: 0..ids.len(),
            ids,
        };
        let found = word_windows(&whole, &words, 3, &InputLimits::windows(10));
        let scored: Vec<_> = found
            .inputs
            .iter()
            .map(|input| input.scored.clone())
            .collect();
        assert_eq!(scored, [0..1, 1..2, 2..3]);
        assert_eq!(found.inputs[1].input_ids, (1..11).collect::<Vec<u32>>());
        assert_eq!(found.inputs[2].input_ids, [1001, 1002]);
        assert_eq!((found.cut_tokens, found.text_tokens), (990, 1003));
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

    #[test]
    fn pairs_are_cut_from_the_longer_side_first() {
        assert_eq!(longest_first([3, 9], 8), [3, 5]);
        assert_eq!(longest_first([9, 3], 8), [5, 3]);
        assert_eq!(longest_first([7, 7], 9), [4, 5]);
        assert_eq!(longest_first([9, 7], 9), [5, 4]);
        assert_eq!(longest_first([0, 9], 4), [0, 4]);
    }
}
