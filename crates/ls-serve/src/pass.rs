//! What the next pass computes: by tokens, of each request one input in turn.

use std::collections::VecDeque;
use std::ops::Range;

/// A request of which inputs wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<'a> {
    /// Tokens of each input.
    pub(crate) lengths: &'a [usize],
    /// Inputs that are computed.
    pub(crate) done: usize,
}

/// The inputs of each request that fit into a pass of so many tokens together. The requests take
/// turns, so that a long list does not keep a single text waiting. The first request always has a
/// part, also where its next input alone is longer than the pass.
pub(crate) fn pack(waiting: &[Waiting<'_>], tokens_per_pass: usize) -> Vec<Range<usize>> {
    let mut packed: Vec<Range<usize>> = waiting.iter().map(|of| of.done..of.done).collect();
    let mut left = tokens_per_pass;
    let mut open: Vec<usize> = (0..waiting.len()).collect();
    let mut is_first = true;
    while !open.is_empty() {
        open.retain(|&at| {
            let Some(&length) = waiting[at].lengths.get(packed[at].end) else {
                return false;
            };
            let fits = length <= left || is_first;
            is_first = false;
            if fits {
                left = left.saturating_sub(length);
                packed[at].end += 1;
            }
            fits
        });
    }
    packed
}

/// The order of the next pass: who had no part in the last one, who came meanwhile, who had one. So
/// neither lists keep a single text waiting nor single texts a list.
pub(crate) fn in_turn<T>(
    mut had_none: VecDeque<T>,
    came: impl IntoIterator<Item = T>,
    mut had_part: VecDeque<T>,
) -> VecDeque<T> {
    had_none.extend(came);
    had_none.append(&mut had_part);
    had_none
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs that a pass takes of requests of which nothing is computed.
    fn taken(lengths: &[&[usize]], tokens_per_pass: usize) -> Vec<usize> {
        let waiting: Vec<_> = lengths
            .iter()
            .map(|lengths| Waiting { lengths, done: 0 })
            .collect();
        let packed = pack(&waiting, tokens_per_pass);
        packed.iter().map(|inputs| inputs.end).collect()
    }

    #[test]
    fn requests_take_turns() {
        assert_eq!(taken(&[&[10; 100], &[10], &[10; 3]], 60), [3, 1, 2]);
        assert_eq!(taken(&[&[10; 100], &[10], &[10; 3]], 1000), [96, 1, 3]);
        assert_eq!(taken(&[&[10; 2], &[10]], 1000), [2, 1]);
    }

    #[test]
    fn long_lists_keep_no_single_text_waiting() {
        // More lists than a pass has inputs, and a text that comes while the first one is computed.
        let list = vec![25; 87];
        let mut jobs: VecDeque<(&[usize], usize)> = vec![(&list[..], 0); 60].into();
        let mut came: Option<(&[usize], usize)> = Some((&[25], 0));
        for _ in 0..2 {
            let waiting = jobs
                .iter()
                .map(|&(lengths, done)| Waiting { lengths, done });
            let packed = pack(&waiting.collect::<Vec<_>>(), 1024);
            let (mut had_none, mut had_part) = (VecDeque::new(), VecDeque::new());
            for ((lengths, _), inputs) in jobs.into_iter().zip(packed) {
                if inputs.end == lengths.len() {
                    continue;
                }
                let part = if inputs.is_empty() {
                    &mut had_none
                } else {
                    &mut had_part
                };
                part.push_back((lengths, inputs.end));
            }
            jobs = in_turn(had_none, came.take(), had_part);
        }
        // The pass after that in which it came had it.
        assert!(jobs.iter().all(|(lengths, _)| lengths.len() > 1));
        assert_eq!(jobs.len(), 60);
    }

    #[test]
    fn what_does_not_fit_waits_and_what_is_behind_it_goes() {
        assert_eq!(taken(&[&[10], &[30], &[15]], 30), [1, 0, 1]);
        // An input that is longer than a pass goes alone once it is the first.
        assert_eq!(taken(&[&[50], &[1]], 30), [1, 0]);
        assert_eq!(taken(&[&[1], &[50]], 30), [1, 0]);
        assert!(taken(&[], 30).is_empty());
    }

    #[test]
    fn a_pass_goes_on_where_the_last_one_ended() {
        let waiting = [
            Waiting {
                lengths: &[10, 20, 30],
                done: 1,
            },
            Waiting {
                lengths: &[10, 10],
                done: 1,
            },
        ];
        assert_eq!(pack(&waiting, 60), [1..3, 1..2]);
        assert_eq!(pack(&waiting, 30), [1..2, 1..2]);
    }
}
