//! What a stream, or bytes whose name says no format, hold: JSON, the columns of CoNLL, or
//! neither.

use std::io::Read;
use std::path::Path;

use super::columns::{FileFormat, TokenColumns};
use super::conll_layout::{self, Layout, enough};
use super::encoding::TextEncoding;
use super::json_form::{MoreNeeded, is_empty_list, json_form};
use super::source::{Peeked, Source, peek, source};
use crate::error::{DataError, Result};
use crate::task::TaskKind;

/// A stream of text whose beginning was looked at.
pub struct Stream {
    /// JSON, or for words CoNLL; nothing where each line is a text.
    pub format: Option<FileFormat>,
    /// The whole text, in UTF-8 without a byte order mark.
    pub reader: Box<dyn Read + Send>,
}

/// Looks at as much of a stream as tells what it holds: JSON (an object, a list of objects, spaCy's
/// pairs), or if words are asked for columns parted by tabs, before which comments may stand. What
/// cannot be read of it is an error where it stands, behind what is good.
pub fn sniff_stream(
    reader: impl Read + Send + 'static,
    encoding: Option<TextEncoding>,
    task: TaskKind,
) -> Stream {
    let (format, source) = format(source(reader, encoding), task == TaskKind::Token);
    Stream {
        format,
        reader: Box::new(source),
    }
}

/// Whether bytes begin as JSON with examples.
pub(crate) fn begins_as_json(bytes: &[u8]) -> bool {
    format(source(bytes, None), false).0 == Some(FileFormat::Jsonl)
}

fn format(source: Source<'_>, words: bool) -> (Option<FileFormat>, Source<'_>) {
    let mut json = Err(MoreNeeded);
    let mut columns = false;
    let Peeked {
        start,
        whole,
        source,
    } = peek(source, |start, line| {
        if line.trim_ascii().is_empty() {
            return false;
        }
        if json.is_err() {
            json = json_form(start);
        }
        match json {
            Err(MoreNeeded) => false,
            Ok(Some(_)) => true,
            Ok(None) if !words => true,
            Ok(None) => {
                columns = is_word(line);
                columns || !line.starts_with(b"# ")
            }
        }
    });
    let format = match json {
        Ok(Some(_)) => Some(FileFormat::Jsonl),
        Err(MoreNeeded) if whole && is_empty_list(&start) => Some(FileFormat::Jsonl),
        _ => columns.then_some(FileFormat::Conll),
    };
    (format, source)
}

/// Whether a line is a word in columns, or the mark of a document.
fn is_word(line: &[u8]) -> bool {
    line.starts_with(b"-DOCSTART-") || (line.contains(&b'\t') && !line.starts_with(b"# "))
}

/// The fields of the first word of a CoNLL file, and whether its words are numbered.
pub(crate) fn first_word(source: Source<'_>, path: &Path) -> Result<(usize, bool)> {
    let peeked = peek(source, enough());
    let untagged = TokenColumns {
        tagged: false,
        ..TokenColumns::default()
    };
    let layout = Layout::of(&peeked.start, peeked.whole, &untagged, path)?;
    let text = String::from_utf8_lossy(&peeked.start);
    let is_word = |line: &&str| {
        let no_word =
            line.starts_with("-DOCSTART-") || conll_layout::is_comment(line, &layout, None);
        !line.trim().is_empty() && !no_word
    };
    let first = text.lines().find(is_word).ok_or_else(|| DataError::Empty {
        path: path.to_path_buf(),
    })?;
    Ok((conll_layout::fields(first).len(), layout.numbered))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives one piece a read, and fails at the end, which nobody may wait for.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                panic!("more was waited for than is needed");
            }
            let piece = &mut self.0[0];
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(count)
        }
    }

    #[test]
    fn a_stream_is_known_by_its_beginning_and_no_more_of_it() {
        let utf16 = |text: &str| -> Vec<u8> {
            let units = format!("\u{feff}{text}");
            units.encode_utf16().flat_map(u16::to_le_bytes).collect()
        };
        let bytes = |text: &str| text.as_bytes().to_vec();
        let json = Some(FileFormat::Jsonl);
        let conll = Some(FileFormat::Conll);
        for (pieces, sequence, token) in [
            (vec![bytes("{\"text\": 1}\n")], json, json),
            (
                vec![bytes("\u{feff}"), bytes("\u{feff} {\"text\": 1}\n")],
                json,
                json,
            ),
            (vec![utf16("{\"text\": 1}\n")], json, json),
            (
                vec![bytes("[\n"), bytes("\n"), bytes("{\"text\": 1},\n")],
                json,
                json,
            ),
            (vec![bytes("[\"a\", {\"entities\": []}]\n")], json, json),
            (vec![bytes("[Applause] a text\n")], None, None),
            (vec![bytes("a text\n")], None, None),
            (vec![bytes("\n"), bytes("Ada\tB-PER\n")], None, conll),
            (vec![bytes("#\tO\n")], None, conll),
            (vec![bytes("-DOCSTART- -X- O O\n")], None, conll),
            (vec![bytes("#tag in a text\n")], None, None),
        ] {
            for (task, format) in [(TaskKind::Sequence, sequence), (TaskKind::Token, token)] {
                let stream = sniff_stream(Pieces(pieces.clone()), None, task);
                assert_eq!(stream.format, format, "{pieces:?} {task:?}");
            }
        }
        let comments = ["\u{feff}# sent_id = 1\n# text = a\tb\n", "1\tAda\tO\n"];
        let pieces = comments.map(bytes).to_vec();
        let stream = sniff_stream(Pieces(pieces), None, TaskKind::Token);
        assert_eq!(stream.format, conll);
        let whole = |text: &'static str| {
            let mut stream = sniff_stream(text.as_bytes(), None, TaskKind::Token);
            let mut read = String::new();
            stream.reader.read_to_string(&mut read).unwrap();
            (stream.format, read)
        };
        assert_eq!(whole(""), (None, String::new()));
        assert_eq!(whole("\u{feff}# a\nb\n"), (None, "# a\nb\n".into()));
        assert_eq!(whole("# a"), (None, "# a".into()));
        assert_eq!(whole("["), (None, "[".into()));
        assert_eq!(whole("[]"), (json, "[]".into()));
        assert_eq!(whole("\u{feff}[\r\n]\n\n"), (json, "[\r\n]\n\n".into()));
        assert_eq!(whole("[]\na"), (None, "[]\na".into()));
    }
}
