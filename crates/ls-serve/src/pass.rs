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

/// Who has inputs left after a pass, in the order of the next one: those that had no part in it,
/// and behind them those that had. Each comes with whether it had one.
pub(crate) fn in_turn<T>(left: impl IntoIterator<Item = (T, bool)>) -> VecDeque<T> {
    let (mut next, mut behind) = (VecDeque::new(), VecDeque::new());
    for (of, had_part) in left {
        let part = if had_part { &mut behind } else { &mut next };
        part.push_back(of);
    }
    next.append(&mut behind);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_do_not_keep_a_single_text_waiting() {
        // More lists than a pass has inputs, and one text behind them.
        let lists = (0..60).map(|_| (vec![25; 87], 0));
        let mut jobs: VecDeque<_> = lists.chain([(vec![25], 0)]).collect();
        for pass in 1.. {
            let of = |(lengths, done): &(Vec<usize>, usize)| (lengths.clone(), *done);
            let held: Vec<_> = jobs.iter().map(of).collect();
            let waiting: Vec<_> = held
                .iter()
                .map(|(lengths, done)| Waiting {
                    lengths,
                    done: *done,
                })
                .collect();
            let packed = pack(&waiting, 1024);
            let after = std::mem::take(&mut jobs).into_iter().zip(packed);
            let after = after.map(|((lengths, _), inputs)| {
                let had_part = !inputs.is_empty();
                ((lengths, inputs.end), had_part)
            });
            jobs = in_turn(after.filter(|((lengths, done), _)| *done < lengths.len()));
            if jobs.iter().all(|(lengths, _)| lengths.len() > 1) {
                assert_eq!(pass, 2);
                return;
            }
        }
    }

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
