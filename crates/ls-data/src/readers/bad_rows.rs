//! What happens to rows that cannot be used: listed up to a limit, counted, skipped if asked for.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{DataError, Result, lines_and_more};

/// What to do with bad rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRows {
    /// Whether the good rows are used all the same.
    pub skip: bool,
    /// How many messages are kept; the rest is only counted.
    pub limit: usize,
}

impl Default for BadRows {
    fn default() -> Self {
        Self {
            skip: false,
            limit: 20,
        }
    }
}

/// What was skipped. Displayed one message a line, then how many more there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SkippedRows {
    /// The first messages, each with its place.
    pub shown: Vec<String>,
    /// Number of skipped rows.
    pub count: usize,
}

impl fmt::Display for SkippedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lines_and_more(&self.shown, self.count))
    }
}

/// Calls `each` with every good row of `path`.
///
/// Without `policy.skip` the rows behind a bad one are still read, so that all bad ones are
/// counted, but `each` no longer sees them.
///
/// # Errors
/// Without skipping, the fault of the one bad row, or [`DataError::BadRows`] of several. No row at
/// all, no good row, whatever `each` says, and faults of the whole file.
pub fn for_each_row<T, E: From<DataError>>(
    rows: impl Iterator<Item = Result<T>>,
    path: &Path,
    policy: BadRows,
    mut each: impl FnMut(T) -> Result<(), E>,
) -> Result<SkippedRows, E> {
    let mut sieve = RowSieve::new(path, policy);
    for row in rows {
        if let Some(row) = sieve.sift(row) {
            each(row)?;
        }
        if sieve.is_over() {
            break;
        }
    }
    Ok(sieve.finish()?)
}

/// [`for_each_row`] for whoever gets the rows one at a time.
#[derive(Debug)]
pub struct RowSieve {
    path: PathBuf,
    policy: BadRows,
    /// The fault of the first bad row.
    first: Option<DataError>,
    bad: SkippedRows,
    good: usize,
    /// A fault behind which there are no rows.
    end: Option<DataError>,
    over: bool,
}

impl RowSieve {
    /// For the rows of `path`.
    pub fn new(path: &Path, policy: BadRows) -> Self {
        Self {
            path: path.to_path_buf(),
            policy,
            first: None,
            bad: SkippedRows::default(),
            good: 0,
            end: None,
            over: false,
        }
    }

    /// The row, if it is good and no bad one before it ended the work.
    pub fn sift<T>(&mut self, row: Result<T>) -> Option<T> {
        match row {
            Ok(row) => {
                self.good += 1;
                (!self.has_failed()).then_some(row)
            }
            Err(error) => {
                self.over = !error.is_row();
                if self.over && !self.has_failed() {
                    self.end = Some(error);
                    return None;
                }
                self.bad.count += 1;
                if self.bad.shown.len() < self.policy.limit {
                    self.bad.shown.push(error.to_string());
                }
                self.first.get_or_insert(error);
                None
            }
        }
    }

    /// Whether a bad row ended the work: rows behind it are only looked at for their faults.
    pub fn has_failed(&self) -> bool {
        !self.policy.skip && self.bad.count > 0
    }

    /// Whether a fault of the whole file ended its rows.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What was skipped.
    ///
    /// # Errors
    /// As [`for_each_row`].
    pub fn finish(self) -> Result<SkippedRows> {
        let Self {
            path,
            policy,
            first,
            bad,
            good,
            end,
            ..
        } = self;
        match (end, first) {
            (Some(end), _) => Err(end),
            (None, Some(error)) if bad.count == 1 && (!policy.skip || good == 0) => Err(error),
            (None, Some(_)) if !policy.skip || good == 0 => Err(DataError::BadRows {
                path,
                shown: bad.shown,
                count: bad.count,
            }),
            (None, None) if good == 0 => Err(DataError::Empty { path }),
            _ => Ok(bad),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ls_files::FileError;

    use super::*;

    /// Rows 1 to 9 of which those in `bad` have no text.
    fn rows(bad: &[usize]) -> impl Iterator<Item = Result<usize>> {
        (1..10).map(|line| {
            if bad.contains(&line) {
                Err(DataError::EmptyField {
                    path: "f".into(),
                    line,
                    what: "text",
                })
            } else {
                Ok(line)
            }
        })
    }

    fn run(bad: &[usize], skip: bool, limit: usize) -> (Vec<usize>, Result<SkippedRows>) {
        let mut seen = Vec::new();
        let path = Path::new("f");
        let result = for_each_row(rows(bad), path, BadRows { skip, limit }, |row| {
            seen.push(row);
            Ok(())
        });
        (seen, result)
    }

    #[test]
    fn good_rows_pass() {
        let (seen, skipped) = run(&[], false, 20);
        assert_eq!(seen.len(), 9);
        assert_eq!(skipped.unwrap(), SkippedRows::default());
    }

    #[test]
    fn one_bad_row_is_its_own_error() {
        let (seen, result) = run(&[3], false, 20);
        assert_eq!(seen, [1, 2]);
        assert!(matches!(result, Err(DataError::EmptyField { line: 3, .. })));
    }

    #[test]
    fn several_are_listed_up_to_the_limit_and_counted() {
        let (seen, result) = run(&[3, 5, 9], false, 2);
        assert_eq!(seen, [1, 2]);
        assert_eq!(
            result.unwrap_err().to_string(),
            "f:3: text is empty\nf:5: text is empty\nand 1 more"
        );
        let (_, result) = run(&[3, 5], false, 2);
        assert_eq!(
            result.unwrap_err().to_string(),
            "f:3: text is empty\nf:5: text is empty"
        );
        let (_, result) = run(&[3, 5], false, 0);
        assert_eq!(result.unwrap_err().to_string(), "2 bad rows");
    }

    #[test]
    fn skipped_rows_are_listed_and_counted() {
        let (seen, skipped) = run(&[3, 5, 9], true, 2);
        assert_eq!(seen, [1, 2, 4, 6, 7, 8]);
        let skipped = skipped.unwrap();
        assert_eq!((skipped.shown.len(), skipped.count), (2, 3));
        assert!(skipped.to_string().ends_with("\nand 1 more"));
    }

    #[test]
    fn nothing_left_is_an_error_even_when_skipping() {
        let all: Vec<usize> = (1..10).collect();
        let (_, result) = run(&all, true, 3);
        assert!(matches!(result, Err(DataError::BadRows { count: 9, .. })));
        let none = std::iter::empty::<Result<usize>>();
        let result: Result<_> = for_each_row(none, Path::new("f"), BadRows::default(), |_| Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "f: holds no examples");
    }

    #[test]
    fn a_fault_of_the_file_ends_it() {
        let broken = || DataError::from(FileError::NotFound { path: "f".into() });
        let check = |bad: &[usize], skip: bool| {
            let rows = rows(bad).chain([Err(broken())]);
            let policy = BadRows { skip, limit: 20 };
            let result: Result<_> = for_each_row(rows, Path::new("f"), policy, |_| Ok(()));
            result.unwrap_err().to_string()
        };
        assert_eq!(check(&[], false), "f: no such file");
        assert_eq!(check(&[2], true), "f: no such file");
        assert_eq!(check(&[2], false), "f:2: text is empty\nf: no such file");
    }

    #[test]
    fn what_the_caller_says_ends_it_too() {
        let stop = for_each_row(rows(&[]), Path::new("f"), BadRows::default(), |_| {
            Err(DataError::NoLabels)
        });
        assert!(matches!(stop, Err(DataError::NoLabels)));
    }
}
