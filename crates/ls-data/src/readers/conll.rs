//! CoNLL column files to token examples.
//!
//! A line is a word with its columns, parted by tabs if the line has one, else by spaces. A blank
//! line ends a sentence; `-DOCSTART-` lines mark documents and are no words. Tags are taken as
//! they are written.

use super::columns::TokenColumns;
use super::lines::{Line, Lines};
use super::row::{Labels, Place};
use crate::error::{DataError, Result};
use crate::example::TokenExample;

/// Sentences one after the other. A sentence with a bad line is one bad row: reading goes on
/// behind it.
pub(super) struct Sentences<'a> {
    lines: Lines<'a>,
    columns: TokenColumns,
    labels: Labels,
    /// Number of columns, fixed by the first line.
    width: Option<usize>,
}

impl<'a> Sentences<'a> {
    pub(super) fn new(lines: Lines<'a>, columns: TokenColumns, labels: Labels) -> Self {
        Self {
            lines,
            columns,
            labels,
            width: None,
        }
    }
}

impl Iterator for Sentences<'_> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut sentence: Option<TokenExample> = None;
        while let Some(line) = self.lines.next() {
            let word = match line {
                Ok(line) if ends_sentence(line.text) => match sentence {
                    Some(sentence) => return Some(Ok(sentence)),
                    None => continue,
                },
                Ok(line) => {
                    let begun = sentence.get_or_insert_with(|| TokenExample {
                        tokens: Vec::new(),
                        tags: self.columns.tagged.then(Vec::new),
                        line: line.place.line,
                        extra: None,
                    });
                    add_word(begun, line, &self.columns, &self.labels, &mut self.width)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = word {
                if error.is_row() {
                    self.lines.skip_until(ends_sentence);
                }
                return Some(Err(error));
            }
        }
        sentence.map(Ok)
    }
}

/// A blank line or the mark of a document.
fn ends_sentence(text: &str) -> bool {
    is_blank(text) || text.starts_with("-DOCSTART-")
}

/// White space, or a byte order mark alone: joined files have one between them, and the published
/// development file of WNUT 17 ends in one.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}

fn add_word(
    sentence: &mut TokenExample,
    line: Line<'_>,
    columns: &TokenColumns,
    labels: &Labels,
    width: &mut Option<usize>,
) -> Result<()> {
    let place = line.place;
    let fields: Vec<&str> = if line.text.contains('\t') {
        line.text.split('\t').collect()
    } else {
        line.text.split_ascii_whitespace().collect()
    };
    let expected = match *width {
        Some(width) => width,
        None => *width.insert(check_width(fields.len(), columns, place)?),
    };
    if fields.len() != expected {
        return Err(DataError::FieldCount {
            path: place.path.to_path_buf(),
            line: place.line,
            found: fields.len(),
            expected,
        });
    }
    let token = place.required(fields[columns.token], "token")?;
    sentence.tokens.push(token.to_string());
    if let Some(tags) = &mut sentence.tags {
        let tag = fields[columns.tag.unwrap_or(expected - 1)];
        tags.push(labels.resolve(place.required(tag, "tag")?, place)?);
    }
    Ok(())
}

/// The number of columns, if the first line has those that are asked for.
fn check_width(found: usize, columns: &TokenColumns, place: Place<'_>) -> Result<usize> {
    let wanted = [Some(columns.token), columns.tag.filter(|_| columns.tagged)];
    if let Some(index) = wanted.into_iter().flatten().find(|index| *index >= found) {
        return Err(DataError::ColumnIndex {
            path: place.path.to_path_buf(),
            line: place.line,
            index,
            found,
        });
    }
    // The last column of a file of bare words is the word, not its tag.
    if columns.tagged && columns.tag.unwrap_or(found - 1) == columns.token {
        return Err(DataError::NoTagColumn {
            path: place.path.to_path_buf(),
            line: place.line,
            found,
            expected: found + 1,
        });
    }
    Ok(found)
}
