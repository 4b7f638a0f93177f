//! CoNLL column files to token examples.
//!
//! A line is a word with its columns, parted by tabs if the line has one, else by spaces. A blank
//! line ends a sentence; `-DOCSTART-` lines mark documents and are no words. Tags are taken as
//! they are written.

use std::io::BufRead;
use std::path::Path;

use super::lines::Lines;
use super::{TokenColumns, required, resolve_label};
use crate::error::{DataError, Result};
use crate::example::TokenExample;

pub(super) fn read(
    mut lines: Lines<'_, impl BufRead>,
    columns: &TokenColumns,
) -> Result<Vec<TokenExample>> {
    let path = lines.path();
    let mut width = None;
    let mut examples = Vec::new();
    let mut sentence: Option<TokenExample> = None;
    while let Some((line, text)) = lines.next()? {
        if is_blank(text) || text.starts_with("-DOCSTART-") {
            examples.extend(sentence.take());
            continue;
        }
        let fields: Vec<&str> = match text.contains('\t') {
            true => text.split('\t').collect(),
            false => text.split_ascii_whitespace().collect(),
        };
        let expected = match width {
            Some(width) => width,
            None => *width.insert(check_width(fields.len(), columns, path, line)?),
        };
        if fields.len() != expected {
            let found = fields.len();
            return Err(DataError::FieldCount {
                path: path.to_path_buf(),
                line,
                found,
                expected,
            });
        }
        let sentence = sentence.get_or_insert_with(|| TokenExample {
            tokens: Vec::new(),
            tags: columns.tagged.then(Vec::new),
            line,
            extra: None,
        });
        let token = required(fields[columns.token], "token", path, line)?;
        sentence.tokens.push(token.to_string());
        if let Some(tags) = &mut sentence.tags {
            let tag = required(
                fields[columns.tag.unwrap_or(expected - 1)],
                "tag",
                path,
                line,
            )?;
            tags.push(resolve_label(
                tag,
                columns.label_names.as_deref(),
                path,
                line,
            )?);
        }
    }
    examples.extend(sentence);
    Ok(examples)
}

/// White space, or a byte order mark alone: joined files have one between them, and the published
/// development file of WNUT 17 ends in one.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}

/// The number of columns, if the first line has those that are asked for.
fn check_width(found: usize, columns: &TokenColumns, path: &Path, line: usize) -> Result<usize> {
    let wanted = [Some(columns.token), columns.tag.filter(|_| columns.tagged)];
    if let Some(index) = wanted.into_iter().flatten().find(|index| *index >= found) {
        return Err(DataError::ColumnIndex {
            path: path.to_path_buf(),
            line,
            index,
            found,
        });
    }
    // The last column of a file of bare words is the word, not its tag.
    if columns.tagged && columns.tag.unwrap_or(found - 1) == columns.token {
        return Err(DataError::FieldCount {
            path: path.to_path_buf(),
            line,
            found,
            expected: found + 1,
        });
    }
    Ok(found)
}
