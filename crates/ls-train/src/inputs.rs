//! Inputs for prediction: lines, files of any format that data sets come in, or a stream.

use std::io::Read;
use std::path::Path;

use ls_data::{
    FileFormat, ReadSpec, SequenceExample, Stream, TaskKind, TextEncoding, TokenExample,
    line_reader, sniff_stream, split_words,
};
use ls_files::FileError;
use serde_json::Value;

use crate::config::DataSettings;
use crate::error::Result;
use crate::sources::{known_form, read_spec};

/// How inputs for prediction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// One text a line.
    Lines,
    /// A file format of data sets.
    File(FileFormat),
}

impl InputFormat {
    /// By the file's ending; a `.txt` holds one text a line.
    ///
    /// # Errors
    ///
    /// If the ending is unknown.
    pub fn from_path(path: &Path) -> Result<Self> {
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
        {
            return Ok(Self::Lines);
        }
        Ok(Self::File(FileFormat::from_path(path)?))
    }

    /// By the content, and the stream from its beginning on: what begins with an object, a list of
    /// them or a text with its spans is JSON, for a tagger columns parted by tabs are CoNLL, and
    /// the rest is one text a line. No more of the stream is waited for than shows it. What comes
    /// back is UTF-8.
    pub fn sniff(
        reader: impl Read + Send + 'static,
        encoding: Option<TextEncoding>,
        task: TaskKind,
    ) -> (Self, impl Read + Send + 'static) {
        let Stream { format, reader } = sniff_stream(reader, encoding, task);
        (format.map_or(Self::Lines, Self::File), reader)
    }
}

/// Rows that any thread may read.
pub type Rows<T> = Box<dyn Iterator<Item = ls_data::Result<T>> + Send>;

/// A stream of inputs for prediction.
pub enum Inputs {
    /// Texts.
    Sequence(Rows<SequenceExample>),
    /// Lists of words.
    Token(Rows<TokenExample>),
}

impl Inputs {
    /// Opens a file of inputs in the form of the known data set that the model was trained on, if
    /// there is one and the file is of it.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub fn open_known(
        path: &Path,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Option<Self>> {
        let Some(source) = known_form(settings, path)? else {
            return Ok(None);
        };
        let mut spec = source.split.read;
        spec.sequence.label = None;
        spec.tokens.tagged = false;
        (spec.sequence.keep_extra, spec.tokens.keep_extra) = (true, true);
        (spec.sequence.blank, spec.tokens.blank) = (true, true);
        Self::read(&spec, path, task).map(Some)
    }

    /// Opens a file of inputs for prediction, as [`Inputs::open`].
    ///
    /// # Errors
    ///
    /// If it cannot be read, or as [`Inputs::open`].
    pub fn open_file(
        path: &Path,
        format: InputFormat,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Self> {
        if let InputFormat::File(format @ FileFormat::Parquet) = format {
            // Read by jumps, not as a stream.
            return Self::read(&read_spec(settings, format, false), path, task);
        }
        let file = std::fs::File::open(path).map_err(FileError::reading(path))?;
        Self::of_reader(file, path, format, task, settings)
    }

    fn read(spec: &ReadSpec, path: &Path, task: TaskKind) -> Result<Self> {
        Ok(match task {
            TaskKind::Sequence => Self::Sequence(Box::new(spec.read_sequence(path)?)),
            TaskKind::Token => Self::Token(Box::new(spec.read_tokens(path)?)),
        })
    }

    /// Opens a stream of inputs for prediction; labels in them are not needed. Texts for a tagger
    /// are split into words. The run's files may be in an encoding of their own; a stream is UTF-8,
    /// or UTF-16 behind its mark. Blank texts are inputs too ([`Predictor::predict`] says of them
    /// that they are empty).
    ///
    /// [`Predictor::predict`]: crate::Predictor::predict
    ///
    /// # Errors
    ///
    /// If the input cannot be used; each row's fault comes with the row.
    pub fn open(
        reader: impl Read + Send + 'static,
        name: &Path,
        format: InputFormat,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Self> {
        let settings = DataSettings {
            encoding: None,
            ..settings.clone()
        };
        Self::of_reader(reader, name, format, task, &settings)
    }

    fn of_reader(
        reader: impl Read + Send + 'static,
        name: &Path,
        format: InputFormat,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Self> {
        let texts = |rows: Rows<SequenceExample>| match task {
            TaskKind::Sequence => Self::Sequence(rows),
            TaskKind::Token => Self::Token(Box::new(rows.map(|row| row.map(words_of)))),
        };
        let format = match format {
            InputFormat::Lines => {
                let rows = line_reader(reader, name, settings.encoding);
                return Ok(texts(Box::new(rows)));
            }
            InputFormat::File(format) => format,
        };
        let spec = read_spec(settings, format, false);
        // Objects hold words, or a text: their reader sees which.
        let words = task == TaskKind::Token
            && matches!(
                format,
                FileFormat::Conll | FileFormat::Conll2012 | FileFormat::Jsonl
            );
        Ok(if words {
            Self::Token(Box::new(spec.read_tokens_from(reader, name)?))
        } else {
            texts(Box::new(spec.read_sequence_from(reader, name)?))
        })
    }
}

/// The words of a text, the text itself kept in `extra`.
pub fn words_of(example: SequenceExample) -> TokenExample {
    let tokens = split_words(&example.text)
        .into_iter()
        .map(|word| word.token)
        .collect();
    let mut extra = example.extra.unwrap_or_default();
    // A text that is missing stays so.
    if !(example.text.is_empty() && extra.get("text") == Some(&Value::Null)) {
        extra.insert("text".into(), Value::String(example.text));
    }
    TokenExample {
        tokens,
        tags: None,
        line: example.line,
        extra: Some(extra),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stdin_holds_is_read_off_its_beginning() {
        let words = |text: &'static str, task| {
            let (format, reader) = InputFormat::sniff(text.as_bytes(), None, task);
            let settings = DataSettings::default();
            let inputs = Inputs::open(reader, Path::new("stdin"), format, task, &settings);
            match inputs.unwrap() {
                Inputs::Sequence(rows) => rows.map(|row| vec![row.unwrap().text]).collect(),
                Inputs::Token(rows) => rows.map(|row| row.unwrap().tokens).collect::<Vec<_>>(),
            }
        };
        let conllu = "\u{feff}# sent_id = 1\n# text = Zoë ran\n1\tZoë\t_\n2\tran\t_\n\n";
        assert_eq!(words(conllu, TaskKind::Token), [["Zoë", "ran"]]);
        let pair = "[\"Zoë ran\", {\"entities\": []}]\n";
        assert_eq!(words(pair, TaskKind::Token), [["Zoë", "ran"]]);
        let list = "[\n\n{\"text\": \"Zoë ran\"}\n]\n";
        assert_eq!(words(list, TaskKind::Sequence), [["Zoë ran"]]);
        let text = "[Applause] a\tb\n\n";
        let lines = [["[Applause] a\tb"], [""]];
        assert_eq!(words(text, TaskKind::Sequence), lines);
    }
}
