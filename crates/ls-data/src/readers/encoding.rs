//! Text that is not UTF-8: UTF-16 behind its byte order mark, and encodings by their names.

use std::io::{self, Cursor, Read};
use std::ops::Range;

use encoding_rs::{Decoder, DecoderResult, Encoding, REPLACEMENT, UTF_8, UTF_16LE, X_USER_DEFINED};
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How the text of a file is encoded, by a label of the WHATWG's standard or one of Python's names.
///
/// As in browsers, `latin-1` and `ascii` are windows-1252, which has letters where they have
/// nothing, and a byte order mark wins over the name.
///
/// ```
/// use ls_data::TextEncoding;
///
/// let encoding = |name: &str| TextEncoding::try_from(name.to_string()).unwrap().name();
/// assert_eq!(encoding("latin-1"), "windows-1252");
/// assert_eq!(encoding("cp932"), "Shift_JIS");
/// assert!(TextEncoding::try_from("latin-77".to_string()).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextEncoding(&'static Encoding);

/// Names of Python that are no labels of the standard.
const ALSO: [(&str, &str); 11] = [
    ("utf-8-sig", "utf-8"),
    ("utf16", "utf-16"),
    ("utf-16-be", "utf-16be"),
    ("utf-16-le", "utf-16le"),
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("latin-9", "iso-8859-15"),
    ("latin9", "iso-8859-15"),
    ("mac-roman", "macintosh"),
];

impl TextEncoding {
    /// The name of the standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    fn find(name: &str) -> Option<&'static Encoding> {
        let name = name.trim().to_ascii_lowercase().replace('_', "-");
        let also = ALSO.iter().find(|(known, _)| *known == name);
        let code_page = name
            .strip_prefix("cp")
            .map(|number| format!("windows-{number}"));
        let spellings = [
            Some(also.map_or(name.as_str(), |(_, label)| label).to_string()),
            // `shift-jis` and `euc-kr` are labels, `latin1` and `ms_kanji` are the others' way.
            Some(name.replace('-', "")),
            Some(name.replace('-', "_")),
            code_page,
        ];
        spellings
            .into_iter()
            .flatten()
            .filter_map(|label| Encoding::for_label(label.as_bytes()))
            .find(|encoding| *encoding != REPLACEMENT && *encoding != X_USER_DEFINED)
    }
}

impl TryFrom<String> for TextEncoding {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        Self::find(&name)
            .map(Self)
            .ok_or(DataError::UnknownEncoding { name })
    }
}

impl From<TextEncoding> for String {
    fn from(encoding: TextEncoding) -> Self {
        encoding.name().to_string()
    }
}

/// Why a text cannot be decoded any further. It reaches the readers inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(super) struct Undecodable {
    /// Line of the decoded text, from 1.
    pub(super) line: usize,
    pub(super) fault: String,
}

/// What some editors put before a text, in UTF-8. It may come in several reads, and more than once
/// where files were joined.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// UTF-8 from whatever a reader gives, without the byte order marks that it begins with: no reader
/// of rows has to know of them. Else bytes that are UTF-8 already pass as they are, faults
/// included: the readers know their lines and columns.
pub(super) struct Utf8<R> {
    state: State<R>,
    encoding: Option<TextEncoding>,
}

enum State<R> {
    /// Nothing is read yet.
    Before(Option<R>),
    Begun(io::Chain<Cursor<Vec<u8>>, Decoded<R>>),
}

enum Decoded<R> {
    Plain(io::Chain<Cursor<Vec<u8>>, R>),
    Decoding(Box<Decoding<R>>),
}

impl<R: Read> Utf8<R> {
    pub(super) fn new(reader: R, encoding: Option<TextEncoding>) -> Self {
        Self {
            state: State::Before(Some(reader)),
            encoding,
        }
    }

    /// Passes over the marks at the beginning. No byte is waited for that could be of none.
    fn begin(&self, reader: R) -> io::Result<State<R>> {
        let mut decoded = self.decoded(reader)?;
        let mut start = Vec::new();
        loop {
            let read = decoded.by_ref().take(1).read_to_end(&mut start)?;
            if start == BYTE_ORDER_MARK {
                start.clear();
            } else if read == 0 || !BYTE_ORDER_MARK.starts_with(&start) {
                return Ok(State::Begun(Cursor::new(start).chain(decoded)));
            }
        }
    }

    /// Looks at the byte order mark of UTF-16 and decides.
    fn decoded(&self, mut reader: R) -> io::Result<Decoded<R>> {
        let mut start = Vec::new();
        if let Some(TextEncoding(encoding)) = self.encoding
            && encoding != UTF_8
        {
            // The decoder itself goes by a mark.
            let decoder = encoding.new_decoder();
            return Ok(Decoded::decoding(start, reader, decoder));
        }
        reader.by_ref().take(2).read_to_end(&mut start)?;
        Ok(match Encoding::for_bom(&start) {
            Some((encoding, _)) => {
                if encoding == UTF_16LE {
                    reader.by_ref().take(2).read_to_end(&mut start)?;
                    if start == b"\xff\xfe\0\0" {
                        let fault = "is UTF-32, which is not read; save the file as UTF-8";
                        return Err(undecodable(1, fault.into()));
                    }
                }
                Decoded::decoding(start, reader, encoding.new_decoder())
            }
            None => Decoded::Plain(Cursor::new(start).chain(reader)),
        })
    }
}

fn undecodable(line: usize, fault: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Undecodable { line, fault })
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.state {
                State::Before(reader) => {
                    let Some(reader) = reader.take() else {
                        // It failed before it began, and that was said.
                        return Ok(0);
                    };
                    self.state = self.begin(reader)?;
                }
                State::Begun(reader) => return reader.read(buffer),
            }
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Decoding(decoding) => decoding.read(buffer),
        }
    }
}

impl<R: Read> Decoded<R> {
    fn decoding(start: Vec<u8>, reader: R, decoder: Decoder) -> Self {
        Self::Decoding(Box::new(Decoding {
            reader: Cursor::new(start).chain(reader),
            decoder,
            input: Piece::new(PIECE),
            output: Piece::new(2 * PIECE),
            line: 1,
            end: End::Not,
        }))
    }
}

/// Decodes piece by piece, so that a file of any size takes the memory of two pieces.
struct Decoding<R> {
    reader: io::Chain<Cursor<Vec<u8>>, R>,
    decoder: Decoder,
    input: Piece,
    output: Piece,
    /// Line that the decoded text has reached.
    line: usize,
    end: End,
}

/// Bytes that are filled in at once and used up one part after the other.
///
/// The memory keeps its length: where bytes come one by one, nothing is cleared for each.
struct Piece {
    memory: Box<[u8]>,
    /// The bytes that are filled in and not yet used.
    left: Range<usize>,
}

impl Piece {
    fn new(length: usize) -> Self {
        Self {
            memory: vec![0; length].into(),
            left: 0..0,
        }
    }

    fn left(&self) -> &[u8] {
        &self.memory[self.left.clone()]
    }
}

/// What comes behind the output that is there.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// More.
    Not,
    /// Nothing.
    Reached,
    /// Bytes that stand for nothing.
    Malformed,
}

const PIECE: usize = 1 << 13;

impl<R: Read> Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.output.left.is_empty() {
            match self.end {
                End::Not => self.decode()?,
                End::Reached => return Ok(0),
                End::Malformed => {
                    self.end = End::Reached;
                    let name = self.decoder.encoding().name();
                    let fault = format!(
                        "is not valid {name}; save the file as UTF-8, or name its encoding: \
                         data.encoding = \"windows-1252\""
                    );
                    return Err(undecodable(self.line, fault));
                }
            }
        }
        let left = self.output.left();
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.output.left.start += count;
        Ok(count)
    }

    /// Decodes the next piece into the output, which is used up.
    fn decode(&mut self) -> io::Result<()> {
        let mut last = false;
        if self.input.left.is_empty() {
            let read = loop {
                match self.reader.read(&mut self.input.memory) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            self.input.left = 0..read;
            last = read == 0;
        }
        let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
            self.input.left(),
            &mut self.output.memory,
            last,
        );
        self.input.left.start += read;
        self.output.left = 0..written;
        let decoded = self.output.left();
        self.line += decoded.iter().filter(|byte| **byte == b'\n').count();
        self.end = match result {
            DecoderResult::Malformed(..) => End::Malformed,
            DecoderResult::InputEmpty if last => End::Reached,
            DecoderResult::InputEmpty | DecoderResult::OutputFull => End::Not,
        };
        Ok(())
    }
}
