//! CoNLL column files to token examples.
//!
//! A line is a word with its columns, parted by tabs if the line has one, else by spaces. A blank
//! line ends a sentence; `-DOCSTART-` lines mark documents, and lines like `# key = value` before a
//! sentence are comments: these are no words. Nor are the ranges (`3-4`) and empty nodes (`5.1`) of
//! files whose words are numbered. Tags are taken as they are written.

use std::path::Path;

use super::columns::TokenColumns;
use super::conll_layout::{
    Layout, Number, TagPlace, enough, fields, is_comment, is_tag, number, value,
};
use super::lines::{Line, Lines};
use super::row::{Labels, Place};
use super::source::{Source, peek};
use crate::error::{DataError, Result};
use crate::example::TokenExample;

/// Sentences one after the other. A sentence with a bad line is one bad row: reading goes on
/// behind it.
pub(super) struct Sentences<'a> {
    lines: Lines<'a>,
    tagged: bool,
    layout: Layout,
    labels: Labels,
    /// Number of columns, fixed by the first line.
    width: Option<usize>,
}

impl<'a> Sentences<'a> {
    /// # Errors
    /// A name of a column that is not there; numbered words without a column of tags.
    pub(super) fn new(
        source: Source<'a>,
        path: &Path,
        columns: &TokenColumns,
        labels: Labels,
    ) -> Result<Self> {
        let peeked = peek(source, enough());
        Ok(Self {
            layout: Layout::of(&peeked.start, peeked.whole, columns, path)?,
            lines: Lines::new(peeked.source, path),
            tagged: columns.tagged,
            labels,
            width: None,
        })
    }
}

impl Iterator for Sentences<'_> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self {
            lines,
            tagged,
            layout,
            labels,
            width,
        } = self;
        let mut sentence: Option<TokenExample> = None;
        while let Some(line) = lines.next() {
            let word = match line {
                Ok(line) if ends_sentence(line.text) => match sentence {
                    Some(sentence) => return Some(Ok(sentence)),
                    None => continue,
                },
                Ok(line) if is_no_word(line.text, sentence.is_some(), layout, *width) => continue,
                Ok(line) => {
                    let begun = sentence.get_or_insert_with(|| TokenExample {
                        tokens: Vec::new(),
                        tags: tagged.then(Vec::new),
                        line: line.place.line,
                        extra: None,
                    });
                    add_word(begun, line, layout, labels, width)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = word {
                if error.is_row() {
                    lines.skip_until(ends_sentence);
                }
                return Some(Err(error));
            }
        }
        sentence.map(Ok)
    }
}

/// A comment, or a row of CoNLL-U that stands for no word of its own.
fn is_no_word(line: &str, begun: bool, layout: &Layout, width: Option<usize>) -> bool {
    if layout.numbered && !line.starts_with('#') {
        return fields(line).first().and_then(|f| number(f)) == Some(Number::NoWord);
    }
    (!begun || layout.numbered) && is_comment(line, layout, width)
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
    layout: &Layout,
    labels: &Labels,
    width: &mut Option<usize>,
) -> Result<()> {
    let place = line.place;
    let fields = fields(line.text);
    let tagged = sentence.tags.is_some();
    let expected = match *width {
        Some(width) => width,
        None => *width.insert(check_width(fields.len(), layout, tagged, place)?),
    };
    if fields.len() != expected {
        return Err(DataError::FieldCount {
            path: place.path.to_path_buf(),
            line: place.line,
            found: fields.len(),
            expected,
        });
    }
    let token = place.required(fields[layout.token], "token")?;
    sentence.tokens.push(token.to_string());
    if let Some(tags) = &mut sentence.tags {
        let tag = match &layout.tag {
            None => fields[expected - 1],
            Some(TagPlace::Column(column)) => fields[*column],
            Some(TagPlace::Misc(column, key)) => match value(fields[*column], key.as_deref()) {
                None => "O",
                Some(tag) if is_tag(tag) => tag,
                Some(other) => {
                    return Err(DataError::MiscTag {
                        path: place.path.to_path_buf(),
                        line: place.line,
                        found: other.to_string(),
                    });
                }
            },
        };
        tags.push(labels.resolve(place.required(tag, "tag")?, place)?);
    }
    Ok(())
}

/// The number of columns, if the first line has those that are asked for.
fn check_width(found: usize, layout: &Layout, tagged: bool, place: Place<'_>) -> Result<usize> {
    let tag = match &layout.tag {
        Some(TagPlace::Column(column) | TagPlace::Misc(column, _)) if tagged => Some(*column),
        _ => None,
    };
    let wanted = [Some(layout.token), tag];
    if let Some(index) = wanted.into_iter().flatten().find(|index| *index >= found) {
        return Err(DataError::ColumnIndex {
            path: place.path.to_path_buf(),
            line: place.line,
            index,
            found,
        });
    }
    if tag == Some(layout.token) {
        return Err(DataError::OneColumn {
            path: place.path.to_path_buf(),
            line: place.line,
            column: layout.token,
        });
    }
    // The last column of a file of bare words is the word, not its tag.
    if tagged && tag.is_none() && found - 1 == layout.token {
        return Err(DataError::NoTagColumn {
            path: place.path.to_path_buf(),
            line: place.line,
            found,
            expected: found + 1,
        });
    }
    Ok(found)
}
