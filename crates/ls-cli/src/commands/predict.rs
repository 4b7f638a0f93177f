//! `ls-cli predict`: labels texts from arguments, a file or stdin.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ls_data::{
    BadRows, CutReport, DataError, FileFormat, SequenceExample, SkippedRows, TaskKind,
    for_each_row, shown_type,
};
use ls_files::{AtomicFile, FileError};
use ls_train::TrainError;
use ls_train::config::{DataSettings, Files};
use ls_train::dataset::Examples;
use ls_train::inputs::{InputFormat, Inputs, words_of};
use ls_train::sources::recorded_format;
use serde_json::Value;

use crate::args::{PredictArgs, PredictionFormat};
use crate::error::UsageError;
use crate::output::Display;
use crate::{device, model};

/// Inputs that are predicted and written before the next ones are encoded.
const CHUNK: usize = 4096;

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<()> {
    let device = device::select(args.device.as_deref())?;
    // First, so that a path that cannot be written fails now.
    let mut part = args.output.as_deref().map(Target::of).transpose()?;
    let (predictor, config) = model::open(&args.model, &device)?;
    let mut columns = match config {
        Some(config) => config.data,
        // Settings name files, and these are all there are.
        None => DataSettings {
            train: args.input.clone().or(Some("stdin".into())).map(Files::One),
            ..DataSettings::default()
        },
    };
    if !args.set.is_empty() {
        columns = columns.read_as(&args.set)?;
    }
    let task = predictor.settings.task;
    if task == TaskKind::Sequence && args.format == PredictionFormat::Conll {
        return Err(UsageError::new(
            "--format conll is for taggers: this model labels whole sequences",
        )
        .into());
    }
    let (name, mut inputs) = inputs(args, task, &columns)?;
    if args.strict {
        inputs = predictor.strict(&name, inputs);
    }
    let mut display = Display::new();
    for note in model::notes(&args.model, &predictor)? {
        display.line(note);
    }
    display.start("predicting", 0);
    let mut out: Box<dyn Write> = match &mut part {
        Some(Target::Whole(file)) => Box::new(file),
        Some(Target::Stream(file)) => Box::new(BufWriter::new(file)),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut cut = CutReport::default();
    let (mut answered, mut unreadable, mut without_words) = (0, 0, 0);
    let mut answer = |examples: Examples| -> Result<()> {
        let before = cut.inputs;
        let predicted = predictor.predict(&name, &examples, |done| display.tick(before + done))?;
        cut += predicted.cut;
        answered += predicted.objects.len();
        unreadable += predicted.unreadable;
        for answer in &predicted.objects {
            let words = answer["tokens"].as_array();
            without_words += usize::from(words.is_some_and(Vec::is_empty));
            out.write_all(render(answer, task, args.format).as_bytes())?;
        }
        Ok(())
    };
    let policy = BadRows {
        skip: args.skip_bad_rows,
        ..BadRows::default()
    };
    let skipped = match inputs {
        Inputs::Sequence(rows) => in_chunks(rows, &name, policy, |chunk| {
            answer(Examples::Sequence(chunk))
        })?,
        Inputs::Token(rows) => {
            in_chunks(rows, &name, policy, |chunk| answer(Examples::Token(chunk)))?
        }
    };
    out.flush()?;
    drop(out);
    display.finish();
    if let Some(Target::Whole(file)) = part {
        file.commit()?;
    }
    display.skipped((&skipped.shown, skipped.count));
    if unreadable > 0 {
        let where_said = match args.format {
            PredictionFormat::Jsonl => ": each has an error in its answer",
            PredictionFormat::Text => ": the reason stands where the label would",
            PredictionFormat::Conll => "",
        };
        display.line(format!(
            "warning: nothing to label in {unreadable} of {answered} inputs{where_said}"
        ));
    }
    if without_words > 0 && args.format == PredictionFormat::Conll {
        display.line(format!(
            "warning: {without_words} inputs have no words, and CoNLL no sentence for them: a blank \
             line more stands there, which readers pass over, so that the sentences behind are no \
             longer as many as the inputs; --format jsonl has an answer for each"
        ));
    }
    if cut.cut_examples > 0 {
        let words = if task == TaskKind::Token {
            format!(
                ", {} words got no tag but {}",
                cut.cut_words,
                predictor.no_tag()
            )
        } else {
            String::new()
        };
        display.line(format!(
            "warning: {} of {} inputs were cut at {} tokens{words}",
            cut.cut_examples, cut.examples, predictor.settings.max_length
        ));
    }
    Ok(())
}

/// Calls `each` with up to `CHUNK` good rows at a time, so that memory stays bounded.
fn in_chunks<T>(
    rows: impl Iterator<Item = ls_data::Result<T>>,
    name: &Path,
    policy: BadRows,
    mut each: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<SkippedRows> {
    let mut chunk = Vec::new();
    let skipped = for_each_row(rows, name, policy, |row| {
        chunk.push(row);
        match chunk.len() {
            CHUNK => each(std::mem::take(&mut chunk)),
            _ => Ok(()),
        }
    })
    .map_err(|error: anyhow::Error| match error.downcast::<DataError>() {
        // So that its kind decides the exit code.
        Ok(error) => TrainError::from(error).into(),
        Err(error) => error,
    })?;
    if !chunk.is_empty() {
        each(chunk)?;
    }
    Ok(skipped)
}

/// Opens the inputs; the path names them in messages.
fn inputs(args: &PredictArgs, task: TaskKind, columns: &DataSettings) -> Result<(PathBuf, Inputs)> {
    let blank = |text: &String| text.trim().is_empty();
    if let Some(at) = args.texts.iter().position(blank).filter(|_| args.strict) {
        return Err(UsageError::new(format!("text {} is empty", at + 1)).into());
    }
    if !args.texts.is_empty() {
        no_pairs(columns)?;
        let texts = args.texts.clone().into_iter().enumerate();
        let texts = texts.map(|(at, text)| SequenceExample {
            text,
            text_pair: None,
            label: None,
            line: at + 1,
            extra: None,
        });
        let inputs = match task {
            TaskKind::Sequence => Inputs::Sequence(Box::new(texts.map(Ok))),
            TaskKind::Token => Inputs::Token(Box::new(texts.map(words_of).map(Ok))),
        };
        return Ok(("argument".into(), inputs));
    }
    match args.input.as_deref() {
        Some(path) if path != Path::new("-") => {
            if let Some(inputs) = Inputs::open_known(path, task, columns)? {
                return Ok((path.into(), inputs));
            }
            let format = match said(args, columns).or_else(|| recorded_format(columns, path)) {
                Some(format) => InputFormat::File(format),
                None => InputFormat::from_path(path)?,
            };
            if format == InputFormat::Lines {
                no_pairs(columns)?;
            }
            let inputs = Inputs::open_file(path, format, task, columns)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path.into(), inputs))
        }
        None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => Err(UsageError {
            message: "nothing to label".into(),
            hint: Some("give texts as arguments, or --input FILE, or --input - for stdin".into()),
        }
        .into()),
        _ => {
            // The encoding of the run's files is not that of stdin.
            let encoding = columns.encoding.filter(|_| sets(args, "encoding"));
            let (found, stdin) = InputFormat::sniff(std::io::stdin(), encoding, task);
            let format = said(args, columns).map_or(found, InputFormat::File);
            if format == InputFormat::Lines {
                no_pairs(columns)?;
            }
            let name = Path::new("stdin");
            Ok((
                name.into(),
                Inputs::open(stdin, name, format, task, columns)?,
            ))
        }
    }
}

/// The format that --set names.
fn said(args: &PredictArgs, columns: &DataSettings) -> Option<FileFormat> {
    let named = columns.format.as_ref().filter(|_| sets(args, "format"))?;
    FileFormat::from_name(named)
}

/// Whether --set says a key of data.
fn sets(args: &PredictArgs, key: &str) -> bool {
    let keys = args.set.iter().filter_map(|set| set.split_once('='));
    keys.into_iter()
        .any(|(set, _)| set.trim().strip_prefix("data.") == Some(key))
}

/// Refuses single texts for a model that was trained on pairs: its labels would mean nothing.
fn no_pairs(columns: &DataSettings) -> Result<()> {
    match &columns.text_pair {
        None => Ok(()),
        Some(column) => Err(UsageError {
            message: "this model labels pairs of texts, and this input has single ones".into(),
            hint: Some(format!(
                "give --input a jsonl, csv or tsv file with the columns {} and {column}",
                columns.text
            )),
        }
        .into()),
    }
}

/// A prediction as it is printed, its line end included.
fn render(answer: &Value, task: TaskKind, format: PredictionFormat) -> String {
    let text = |key: &str| one_line(answer[key].as_str().unwrap_or_default());
    let list = |key: &str| {
        let list = answer[key].as_array().map(Vec::as_slice);
        list.unwrap_or_default()
    };
    match (format, task) {
        (PredictionFormat::Jsonl, _) => format!("{answer}\n"),
        (PredictionFormat::Text, TaskKind::Sequence) => {
            let (label, score) = match answer["label"] {
                // There was nothing to read: why. The columns stay.
                Value::Null => (no_label(answer), String::new()),
                _ => {
                    let score = answer["score"].as_f64().unwrap_or(f64::NAN);
                    (text("label"), format!("{score:.4}"))
                }
            };
            format!("{label}\t{score}\t{}\n", text("text"))
        }
        (PredictionFormat::Text, TaskKind::Token) if answer["error"].is_string() => {
            let columns = if answer["entities"].is_null() { 2 } else { 4 };
            let words = list("tokens").iter().filter_map(Value::as_str);
            let words = one_line(&words.collect::<Vec<_>>().join(" "));
            let rest = "\t".repeat(columns - 2);
            format!("{}\t{words}{rest}\n\n", no_label(answer))
        }
        (PredictionFormat::Text, TaskKind::Token) if answer["entities"].is_null() => {
            let rows = list("tokens").iter().zip(list("tags"));
            let lines = rows.map(|(token, tag)| {
                let field = |value: &Value| one_line(value.as_str().unwrap_or_default());
                format!("{}\t{}\n", field(tag), field(token))
            });
            lines.chain(["\n".to_string()]).collect()
        }
        (PredictionFormat::Text, TaskKind::Token) => {
            let lines = list("entities").iter().map(|entity| {
                let field = |key: &str| one_line(entity[key].as_str().unwrap_or_default());
                let (start, end) = (&entity["start"], &entity["end"]);
                format!(
                    "{}\t{}\t{start}-{end}\t{:.4}\n",
                    shown_type(&field("type")),
                    field("text"),
                    entity["score"].as_f64().unwrap_or(f64::NAN)
                )
            });
            lines.chain(["\n".to_string()]).collect()
        }
        (PredictionFormat::Conll, _) => {
            let rows = list("tokens").iter().zip(list("tags"));
            let lines = rows.map(|(token, tag)| {
                format!(
                    "{}\t{}\n",
                    token.as_str().unwrap_or_default(),
                    tag.as_str().unwrap_or_default()
                )
            });
            lines.chain(["\n".to_string()]).collect()
        }
    }
}

/// What stands in the place of a label that there is none of.
fn no_label(answer: &Value) -> String {
    let why = answer["error"].as_str().unwrap_or_default();
    format!("(no label: {})", one_line(why))
}

/// Tabs and line ends would break the columns.
fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// Where `--output` goes.
enum Target {
    /// A file that takes its place when it is whole.
    Whole(AtomicFile),
    /// A pipe or a device, written as it is.
    Stream(File),
}

impl Target {
    fn of(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let message = format!("--output {} is a folder", path.display());
                Err(UsageError::new(message).into())
            }
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(path);
                Ok(Self::Stream(file.map_err(FileError::writing(path))?))
            }
            _ => {
                // Behind a symbolic link the file is replaced, not the link.
                let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
                Ok(Self::Whole(AtomicFile::create(path)?))
            }
        }
    }
}
