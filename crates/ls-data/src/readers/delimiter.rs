//! What parts the fields of a CSV file: said, or found from its header and first rows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// A single ASCII character between fields; `tab` and `\t` are names of the tab.
///
/// ```
/// use ls_data::Delimiter;
///
/// let delimiter = |name: &str| Delimiter::try_from(name.to_string());
/// assert_eq!(delimiter("\\t").unwrap(), delimiter("tab").unwrap());
/// assert!(delimiter("\"").is_err() && delimiter("::").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delimiter(u8);

impl Delimiter {
    pub(super) fn byte(self) -> u8 {
        self.0
    }
}

impl TryFrom<String> for Delimiter {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        match name.as_bytes() {
            b"tab" | b"\\t" => Ok(Self(b'\t')),
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => {
                Ok(Self(*byte))
            }
            _ => Err(DataError::BadDelimiter { name }),
        }
    }
}

impl From<Delimiter> for String {
    fn from(delimiter: Delimiter) -> Self {
        delimiter.to_string()
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\t' => f.write_str("tab"),
            byte => write!(f, "{}", char::from(byte)),
        }
    }
}

/// The delimiter that the first line of a file says, as spreadsheets write it (`sep=;`), and the
/// bytes of that line.
pub(super) fn said_by(start: &[u8]) -> Option<(Delimiter, usize)> {
    let end = start.iter().position(|byte| *byte == b'\n')? + 1;
    let line = start[..end].trim_ascii_end();
    let name = match line.strip_prefix(b"sep=") {
        // The tab itself was trimmed.
        Some(b"") if start[..end].starts_with(b"sep=\t") => "tab".to_string(),
        Some(name) => String::from_utf8(name.to_vec()).ok()?,
        None => return None,
    };
    Some((Delimiter::try_from(name).ok()?, end))
}

/// Those that are looked for, in the order in which they win.
const CANDIDATES: [u8; 4] = *b",;\t|";
/// Lines that are looked at: the header and twenty rows.
pub(super) const SAMPLE_LINES: usize = 21;

/// Finds the delimiter of a file from its first lines.
///
/// One that gives a header with the columns that are asked for wins (`named` says so of the fields
/// of the first row). Else it is the one by which the most rows have as many fields as the first,
/// at least two and more than half of the rows; `possible` says whether that many are enough. The
/// comma wins a tie, and where none fits: a file of one column stays one.
pub(super) fn find(
    sample: &[u8],
    whole: bool,
    named: impl Fn(&[String]) -> bool,
    possible: impl Fn(usize) -> bool,
) -> Delimiter {
    let mut best = (CANDIDATES[0], 0.5);
    for delimiter in CANDIDATES {
        let rows = rows(sample, whole, Delimiter(delimiter));
        let Some(first) = rows.first() else { continue };
        if named(first) {
            return Delimiter(delimiter);
        }
        let width = first.len();
        if width < 2 || !possible(width) {
            continue;
        }
        let agree = rows.iter().filter(|row| row.len() == width).count();
        let share = agree as f64 / rows.len() as f64;
        if share > best.1 {
            best = (delimiter, share);
        }
    }
    Delimiter(best.0)
}

/// The rows of the sample by a delimiter; without the last where it may go on behind the sample.
pub(super) fn rows(sample: &[u8], whole: bool, delimiter: Delimiter) -> Vec<Vec<String>> {
    let mut parser = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter.byte())
        .from_reader(sample);
    let text = |field: &[u8]| String::from_utf8_lossy(field).trim().to_string();
    let mut rows: Vec<Vec<String>> = parser
        .byte_records()
        .filter_map(|row| Some(row.ok()?.iter().map(text).collect()))
        .collect();
    if !whole && rows.len() > 1 {
        rows.pop();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sample: &str, columns: &[&str]) -> String {
        let named = |header: &[String]| {
            !columns.is_empty() && columns.iter().all(|c| header.contains(&c.to_string()))
        };
        find(sample.as_bytes(), true, named, |width| width > 1).to_string()
    }

    #[test]
    fn a_file_may_say_its_delimiter() {
        let said = |start: &str| said_by(start.as_bytes()).map(|(d, end)| (d.to_string(), end));
        assert_eq!(said("sep=;\r\ntext;label\n"), Some((";".into(), 7)));
        assert_eq!(said("sep=\t\ntext"), Some(("tab".into(), 6)));
        assert_eq!(said("sep=\ntext"), None);
        assert_eq!(said("sep=;"), None);
        assert_eq!(said("sep=;;\n"), None);
        assert_eq!(said("text;sep=;\n"), None);
    }

    #[test]
    fn the_header_that_is_asked_for_wins() {
        assert_eq!(
            found("text;label\na, b, c;x\nd, e;y\n", &["text", "label"]),
            ";"
        );
        assert_eq!(found("text,label\na;b,x\n", &["text", "label"]), ",");
        assert_eq!(found("\"text\"|\"label\"\na|x\n", &["label", "text"]), "|");
        assert_eq!(found("text\na, b\n", &["text"]), ",");
    }

    #[test]
    fn else_rows_of_one_width_win_and_the_comma_a_tie() {
        assert_eq!(found("a;1\nb, or c, or d;2\nc;3\n", &[]), ";");
        assert_eq!(found("a,b;1\nc,d;2\n", &[]), ",");
        assert_eq!(found("\"x;y\"\t1\n\"z\"\t2\n", &[]), "tab");
        assert_eq!(found("only one column\nsecond; row\n", &[]), ",");
        assert_eq!(found("", &[]), ",");
        // One bad row does not hide the others.
        assert_eq!(found("a;1\nb;2;\nc;3\nd;4\n", &[]), ";");
    }
}
