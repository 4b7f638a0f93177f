//! New vectors whose memory is not zeroed before it is written.
//!
//! An operation writes every element of its result once. Zeroing the memory first would take as
//! long as many a loop. So this module, alone in the crate's arithmetic, sets the length of vectors
//! by `unsafe`; its functions are safe whatever their callers do, because each checks that
//! everything was written. `cargo xtask miri` runs its tests under Miri.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A new vector that `fill` writes, a chunk of `chunk` elements at a time, in parallel. Each call
/// must write its whole chunk.
///
/// # Panics
///
/// If a chunk is not written whole.
pub(crate) fn filled(
    len: usize,
    chunk: usize,
    fill: impl Fn(usize, &mut Uninit<'_>) + Sync,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len]
        .par_chunks_mut(chunk.max(1))
        .enumerate()
        .for_each(|(at, out)| {
            let mut out = Uninit { out, written: 0 };
            fill(at, &mut out);
            assert_eq!(out.written, out.out.len(), "a chunk is written whole");
        });
    // SAFETY: the capacity is at least `len`, the chunks are the first `len` elements, and each was
    // written whole (asserted above; `Uninit` counts only what it wrote).
    unsafe { values.set_len(len) };
    values
}

/// Two new vectors of one length, as [`filled`] makes one.
///
/// # Panics
///
/// If a chunk is not written whole.
pub(crate) fn filled_pair(
    len: usize,
    chunk: usize,
    fill: impl Fn(usize, &mut UninitPair<'_>) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let (mut first, mut second) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let chunk = chunk.max(1);
    first.spare_capacity_mut()[..len]
        .par_chunks_mut(chunk)
        .zip(second.spare_capacity_mut()[..len].par_chunks_mut(chunk))
        .enumerate()
        .for_each(|(at, (first, second))| {
            let mut out = UninitPair {
                first,
                second,
                written: 0,
            };
            fill(at, &mut out);
            assert_eq!(out.written, out.first.len(), "a chunk is written whole");
        });
    // SAFETY: as in `filled`; both vectors have chunks of the same sizes, and `UninitPair` writes
    // an element of both or of neither.
    unsafe {
        first.set_len(len);
        second.set_len(len);
    }
    (first, second)
}

/// A new vector of `len` elements that `write` fills and gives back as initialised: the very slice
/// that it was given.
///
/// # Errors
///
/// Whatever `write` says.
///
/// # Panics
///
/// If `write` gives back another slice.
pub(crate) fn written<E>(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<&mut [f32], E>,
) -> Result<Vec<f32>, E> {
    let mut values = Vec::with_capacity(len);
    let spare = &mut values.spare_capacity_mut()[..len];
    let place = spare.as_ptr().cast::<f32>();
    let written = write(spare)?;
    let whole = written.len() == len && std::ptr::eq(written.as_ptr(), place);
    assert!(whole, "the vector is written whole");
    // SAFETY: the capacity is at least `len`, and an initialised slice of `len` elements stands at
    // the vector's beginning: no other memory has that address while the vector is there.
    unsafe { values.set_len(len) };
    Ok(values)
}

/// Uninitialised memory that is written once, from its beginning.
pub(crate) struct Uninit<'a> {
    out: &'a mut [MaybeUninit<f32>],
    written: usize,
}

impl Uninit<'_> {
    /// Writes the next `len` elements, `values(i)` for each `i` below `len`; there must be room for
    /// them.
    #[inline(always)]
    pub(crate) fn write(&mut self, len: usize, mut values: impl FnMut(usize) -> f32) {
        let out = &mut self.out[self.written..][..len];
        for (at, out) in out.iter_mut().enumerate() {
            out.write(values(at));
        }
        self.written += len;
    }
}

/// Two pieces of uninitialised memory that are written together, from their beginning.
pub(crate) struct UninitPair<'a> {
    first: &'a mut [MaybeUninit<f32>],
    /// As long as `first`.
    second: &'a mut [MaybeUninit<f32>],
    written: usize,
}

impl UninitPair<'_> {
    /// Elements of each.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    /// Writes the next `len` elements of both, `values(i)` for each `i` below `len`; there must be
    /// room for them.
    #[inline(always)]
    pub(crate) fn write(&mut self, len: usize, values: impl Fn(usize) -> (f32, f32)) {
        let first = &mut self.first[self.written..][..len];
        let second = &mut self.second[self.written..][..len];
        // By index: zipped, the loop over two outputs was not compiled to vectors.
        for at in 0..len {
            let (one, other) = values(at);
            first[at].write(one);
            second[at].write(other);
        }
        self.written += len;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Lengths around a chunk of 7: none, a part, one, and several with a rest.
    const LENGTHS: [usize; 6] = [0, 3, 7, 8, 14, 40];

    #[test]
    fn every_element_is_what_was_written() {
        for len in LENGTHS {
            for chunk in [0, 1, 7, 64] {
                let expected: Vec<f32> = (0..len).map(|at| at as f32).collect();
                let size = chunk.max(1);
                let one = filled(len, chunk, |task, out| {
                    let here = size.min(len - task * size);
                    // In two parts, the first of which may be empty.
                    out.write(here / 2, |at| (task * size + at) as f32);
                    out.write(here - here / 2, |at| (task * size + here / 2 + at) as f32);
                });
                assert_eq!(one, expected);
                let (first, second) = filled_pair(len, chunk, |task, out| {
                    out.write(out.len(), |at| {
                        let at = (task * size + at) as f32;
                        (at, -at)
                    });
                });
                assert_eq!(first, expected);
                assert!(second.iter().zip(&expected).all(|(a, b)| *a == -b));
            }
        }
    }

    #[test]
    fn what_is_not_written_whole_is_never_read() {
        // In the last chunk alone, the first alone, and everywhere.
        for short in [2, 0, usize::MAX] {
            let is_short = |task: usize| usize::from(short == usize::MAX || short == task);
            let one = || {
                filled(21, 7, |task, out| {
                    out.write(7 - is_short(task), |_| 1.0);
                })
            };
            assert!(catch_unwind(one).is_err());
            let pair = || {
                filled_pair(21, 7, |task, out| {
                    out.write(7 - is_short(task), |_| (1.0, 2.0));
                })
            };
            assert!(catch_unwind(pair).is_err());
        }
        // Past the end, and a panic in the middle.
        assert!(catch_unwind(|| filled(7, 7, |_, out| out.write(8, |_| 1.0))).is_err());
        let stops = |at: usize| if at == 5 { panic!("stop") } else { 1.0 };
        assert!(catch_unwind(|| filled(7, 7, |_, out| out.write(7, stops))).is_err());
    }

    #[test]
    fn a_slice_given_back_is_the_vectors_own() {
        for len in LENGTHS {
            let expected = vec![2.5; len];
            let values = written(len, |out| Ok::<_, ()>(out.write_copy_of_slice(&expected)));
            assert_eq!(values.as_ref(), Ok(&expected));
        }
        assert_eq!(written(3, |_| Err("no")), Err("no"));
        let ones = [1.0; 3];
        let part = || {
            written(3, |out| {
                Ok::<_, ()>(out[1..].write_copy_of_slice(&ones[1..]))
            })
        };
        assert!(catch_unwind(part).is_err());
        // Other memory of the same length.
        let other: *mut [f32] = Box::into_raw(Box::new(ones));
        // SAFETY: `other` came from a box, is borrowed once, and dropped after that.
        let others = || written(3, |_| Ok::<_, ()>(unsafe { &mut *other }));
        assert!(catch_unwind(AssertUnwindSafe(others)).is_err());
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(other) });
    }
}
