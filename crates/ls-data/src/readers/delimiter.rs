//! What parts the fields of a CSV file: said, or found from its header and first rows.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::columns::ColumnRef;
use super::source::{Source, peek, reading};
use crate::error::{DataError, Result};

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

    /// The other usual delimiters that occur in these fields.
    pub(crate) fn others_in(self, fields: &[String]) -> Vec<Self> {
        let others = CANDIDATES.into_iter().filter(|other| *other != self.0);
        let occurs = |other: &u8| fields.iter().any(|field| field.as_bytes().contains(other));
        others.filter(occurs).map(Self).collect()
    }

    /// Rows as far as they can be read, whatever their bytes.
    pub(super) fn rows<R: Read>(self, reader: R) -> impl Iterator<Item = io::Result<Vec<String>>> {
        let parser = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.0)
            .from_reader(reader);
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let rows = parser.into_byte_records();
        rows.map(move |row| match row.map_err(csv::Error::into_kind) {
            Ok(row) => Ok(row.iter().map(text).collect()),
            Err(csv::ErrorKind::Io(error)) => Err(error),
            Err(other) => Err(io::Error::other(format!("{other:?}"))),
        })
    }
}

impl TryFrom<String> for Delimiter {
    type Error = DataError;

    fn try_from(name: String) -> std::result::Result<Self, DataError> {
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
fn said_by(start: &[u8]) -> Option<(Delimiter, usize)> {
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
const SAMPLE_LINES: usize = 21;

/// What is asked of a table: whether its first row names the columns, and which must be there.
pub(super) struct Wanted<'a> {
    pub(super) header: bool,
    pub(super) columns: Vec<&'a ColumnRef>,
}

impl Wanted<'_> {
    /// Whether these fields are a header with every column that is asked for by its name.
    fn is_named_by(&self, header: &[String]) -> bool {
        let name = |column: &&ColumnRef| matches!(column, ColumnRef::Name(_));
        let missing =
            |column: &&ColumnRef| matches!(column, ColumnRef::Name(name) if !header.contains(name));
        self.header
            && self.has_room(header.len())
            && self.columns.iter().any(name)
            && !self.columns.iter().any(missing)
    }

    /// Whether rows of so many fields have every column that is asked for by its position.
    fn has_room(&self, width: usize) -> bool {
        let missing =
            |column: &&ColumnRef| matches!(column, ColumnRef::Index(index) if *index >= width);
        !self.columns.iter().any(missing)
    }
}

/// A CSV file whose delimiter is known.
pub(super) struct Parted<'a> {
    pub(super) delimiter: Delimiter,
    /// The source from its first row on.
    pub(super) source: Source<'a>,
    /// Line on which it begins.
    pub(super) line: usize,
}

/// The delimiter that is given, or that the first line says, or that is found; a line that says it
/// is passed over in each case. One that is given is that of training: a file to be labelled may
/// be parted otherwise, as its header shows ([`given_or_named`]).
pub(super) fn parted<'a>(
    source: Source<'a>,
    path: &Path,
    given: Option<Delimiter>,
    wanted: &Wanted<'_>,
) -> Result<Parted<'a>> {
    let mut lines = 0;
    let peeked = peek(source, |start, line| {
        lines += 1;
        if given.is_none() {
            // A header decides alone, so that rows which come one by one are not waited for.
            let named = |delimiter| {
                let first = rows(start, true, Delimiter(delimiter));
                first
                    .first()
                    .is_some_and(|first| wanted.is_named_by(&trimmed(first)))
            };
            return lines >= SAMPLE_LINES || lines < 4 && CANDIDATES.into_iter().any(named);
        }
        // The header is enough: behind the line that says a delimiter, and blank ones.
        let blank = line.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        !(blank || lines == 1 && said_by(start).is_some())
    });
    let mut source = peeked.source;
    let said = said_by(&peeked.start);
    let mut line = 1;
    if let Some((_, bytes)) = said {
        // That line is in the buffer: it was looked at.
        let mut passed = vec![0; bytes];
        source.read_exact(&mut passed).map_err(reading(path))?;
        line = 2;
    }
    let known = said.map(|(delimiter, _)| delimiter);
    let delimiter = match given {
        Some(given) => {
            let header = &peeked.start[said.map_or(0, |(_, bytes)| bytes)..];
            given_or_named(given, known, header, wanted)
        }
        None => known.unwrap_or_else(|| find(&peeked.start, peeked.whole, wanted)),
    };
    Ok(Parted {
        delimiter,
        source,
        line,
    })
}

/// Finds the delimiter of a file from its first lines.
///
/// One that gives a header with the columns that are asked for wins. Else it is the one by which
/// the most rows have as many fields as the first, at least two and more than half of the rows, if
/// that many are enough. One that spaces follow, as those of a sentence, loses a tie; else the
/// comma wins it, and where none fits: a file of one column stays one.
fn find(sample: &[u8], whole: bool, wanted: &Wanted<'_>) -> Delimiter {
    let mut best = (CANDIDATES[0], 0.5, true);
    for delimiter in CANDIDATES {
        let rows = rows(sample, whole, Delimiter(delimiter));
        let Some(first) = rows.first() else { continue };
        if wanted.is_named_by(&trimmed(first)) {
            return Delimiter(delimiter);
        }
        let width = first.len();
        if width < 2 || !wanted.has_room(width) {
            continue;
        }
        let agree = rows.iter().filter(|row| row.len() == width).count();
        let share = agree as f64 / rows.len() as f64;
        let mut behind = rows.iter().flat_map(|row| row.iter().skip(1));
        let spaced = behind.any(|field| field.starts_with(' '));
        if share > best.1 || (share == best.1 && best.2 && !spaced && share > 0.5) {
            best = (delimiter, share, spaced);
        }
    }
    Delimiter(best.0)
}

/// The names that a header's fields are.
pub(super) fn trimmed(fields: &[String]) -> Vec<String> {
    let names = fields.iter().map(|field| field.trim().to_string());
    names.collect()
}

/// The delimiter that is given for all files, unless only by another one this file's header has the
/// columns that are asked for: a file to be labelled need not be written as those of training.
/// What the file says comes before the usual ones.
fn given_or_named(
    given: Delimiter,
    said: Option<Delimiter>,
    start: &[u8],
    wanted: &Wanted<'_>,
) -> Delimiter {
    let named = |delimiter: &Delimiter| {
        let header = delimiter.rows(start).next();
        header.is_some_and(|row| row.is_ok_and(|row| wanted.is_named_by(&trimmed(&row))))
    };
    let first = [given].into_iter().chain(said);
    let mut all = first.chain(CANDIDATES.map(Delimiter));
    all.find(named).unwrap_or(given)
}

/// The rows of the sample by a delimiter; without the last where it may go on behind the sample.
fn rows(sample: &[u8], whole: bool, delimiter: Delimiter) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = delimiter.rows(sample).filter_map(io::Result::ok).collect();
    if !whole && rows.len() > 1 {
        rows.pop();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sample: &str, columns: &[&str]) -> String {
        let columns: Vec<ColumnRef> = columns.iter().map(|name| (*name).into()).collect();
        let wanted = Wanted {
            header: true,
            columns: columns.iter().collect(),
        };
        find(sample.as_bytes(), true, &wanted).to_string()
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
        // The commas of sentences.
        assert_eq!(found("x;a, b 0\ny;c, d 1\n", &[]), ";");
        assert_eq!(found("x;a,b 0\ny;c, d 1\n", &[]), ";");
        assert_eq!(found("a, 0\nb, 1\n", &[]), ",");
        assert_eq!(found("x; y,0\nz; w,1\n", &[]), ",");
        assert_eq!(found("x; y, 0\nz; w, 1\n", &[]), ",");
        // One bad row does not hide the others.
        assert_eq!(found("a;1\nb;2;\nc;3\nd;4\n", &[]), ";");
    }
}
