//! `ls-cli predict`: labels texts from arguments, a file or stdin, and hands each answer on as soon
//! as it is there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ls_data::{
    Arrivals, BadRows, ChunkLimits, DataError, FileFormat, InputRow, Patience, RowSieve,
    SequenceExample, SkippedRows, TaskKind,
};
use ls_files::{FileError, behind_links, hex, is_folder};
use ls_train::config::{DataSettings, Files};
use ls_train::dataset::Examples;
use ls_train::inputs::{InputFormat, Inputs, Rows, words_of};
use ls_train::sources::{recorded_format, with_keys};
use ls_train::{Predictor, TrainError};
use sha2::{Digest, Sha256};

use super::coverage;
use super::rendering::render;
use crate::args::{PredictArgs, PredictionFormat};
use crate::error::{Stopped, UsageError, WithHint, hint};
use crate::output::{self, Display};
use crate::part::{Part, Progress};
use crate::screen::{self, Shown, ended, say, screen, warn};
use crate::signals::Signals;
use crate::task::{Task, Unit};
use crate::{args, device, model, shell};

/// Inputs that are answered at once where nobody waits for them. More of them would be put into
/// batches of more equal lengths, which no longer pays.
const ROWS: usize = 512;
/// The most where somebody does, and the model is fast.
const MOST_ROWS: usize = 4096;
/// Bytes of inputs that are answered at once: an answer takes some times its input.
const BYTES: usize = 1 << 20;
/// How long the answers to inputs that are there wait for further inputs.
const PATIENCE: Patience = Patience {
    quiet: Duration::from_millis(100),
    most: Duration::from_millis(500),
};

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<()> {
    let device = device::select(args.device.as_deref())?;
    // First, so that a path that cannot be written fails now.
    let mut output = Output::of(args)?;
    let mut display = Display::default();
    let (predictor, config) = model::open(&args.model, &device, &mut display)?;
    display.finish();
    let mut columns = match config {
        Some(config) => config.data,
        // Settings name files, and these are all there are.
        None => DataSettings {
            train: args.input.clone().or(Some("stdin".into())).map(Files::One),
            ..DataSettings::default()
        },
    };
    let set = settings(args);
    if !set.is_empty() {
        columns = columns.read_as(&set)?;
    }
    let counted = columns.clone();
    let task = predictor.settings.task;
    if task == TaskKind::Sequence && args.format == PredictionFormat::Conll {
        return Err(UsageError::new(
            "--format conll is for taggers: this model labels whole sequences",
        )
        .into());
    }
    // Before this there is nothing to keep, and a signal ends the program as it ends others.
    let signals = output.signals();
    let Source {
        name,
        mut inputs,
        live,
    } = match opened(args, task, columns, &signals) {
        Err(error) if error.is::<Stopped>() => {
            output.say_stopped(args);
            return Err(error);
        }
        source => source?,
    };
    if args.strict {
        inputs = predictor.strict(&name, inputs);
    }
    for note in model::notes(&args.model, &predictor)? {
        say(note);
    }
    let progress = match &mut output {
        Output::Part(part) => {
            let progress = part.begin(begun_with(args, &predictor)?)?;
            if args.resume {
                let inputs = progress.inputs;
                say(format!(
                    "{}: {inputs} inputs are answered",
                    part.path().display()
                ));
            }
            progress
        }
        _ => Progress::default(),
    };
    let total = Arc::new(AtomicUsize::new(0));
    count(args, task, &counted, &total);
    let mut bar = Task::begin("predicting", Unit::Of("inputs"), 0);
    bar.goes_on_at(progress.inputs as u64);
    let mut answering = Answering {
        predictor: &predictor,
        name: &name,
        format: args.format,
        limits: output.limits(predictor.settings.batch_size, live),
        output,
        bar,
        total,
        signals,
        progress,
        hash: Sha256::new(),
        told: false,
    };
    let policy = BadRows {
        skip: args.skip_bad_rows,
        ..BadRows::default()
    };
    let sieve = RowSieve::new(&name, policy);
    let answered = match inputs {
        Inputs::Sequence(rows) => answering.all(rows, sieve, Examples::Sequence),
        Inputs::Token(rows) => answering.all(rows, sieve, Examples::Token),
    };
    let skipped = match answered {
        Ok(skipped) => skipped,
        Err(error) => return Err(answering.failed(error, args)),
    };
    let Answering {
        output,
        bar,
        progress,
        ..
    } = answering;
    drop(bar);
    if let Output::Part(part) = output {
        part.finish(&progress)?;
    }
    output::skipped((&skipped.shown, skipped.count));
    if let Some(least) = args.model.answering.abstain_below {
        say(abstained(&progress, least, &predictor));
    }
    for warning in warnings(&progress, args.format, &predictor) {
        warn(warning);
    }
    Ok(())
}

/// Opens the inputs. That may wait for whoever makes them, so a thread does it, and a signal is
/// heard meanwhile.
fn opened(
    args: &PredictArgs,
    task: TaskKind,
    columns: DataSettings,
    signals: &Signals,
) -> Result<Source> {
    let args = args.clone();
    let open = std::thread::Builder::new().name("inputs".into());
    let open = open
        .spawn(move || inputs(&args, task, &columns))
        .context("cannot start a thread for the inputs")?;
    while !open.is_finished() {
        if signals.asked() {
            let code = signals.exit_code();
            return Err(Stopped { code }.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    open.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Counts the inputs on a thread of its own, so that it is seen how many are left: those in a file,
/// which is read once more for it, and arguments. What goes wrong with them is told by whoever
/// answers them.
fn count(args: &PredictArgs, task: TaskKind, columns: &DataSettings, total: &Arc<AtomicUsize>) {
    let in_file = args.input.as_deref().is_some_and(Path::is_file);
    if screen().shown == Shown::Nothing || !in_file && args.texts.is_empty() {
        return;
    }
    let (args, columns, total) = (args.clone(), columns.clone(), Arc::clone(total));
    let count = move || {
        let unheard = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(unheard, || {
            let count = match inputs(&args, task, &columns).map(|source| source.inputs) {
                Ok(Inputs::Sequence(rows)) => rows.filter(|row| row.is_ok()).count(),
                Ok(Inputs::Token(rows)) => rows.filter(|row| row.is_ok()).count(),
                Err(_) => 0,
            };
            total.store(count, Ordering::Relaxed);
        });
    };
    // Without a thread they are not counted.
    let _ = std::thread::Builder::new()
        .name("count".into())
        .spawn(count);
}

/// What decides the answers besides the inputs.
fn begun_with(args: &PredictArgs, predictor: &Predictor) -> Result<BTreeMap<String, String>> {
    let mut with = predictor.identity()?;
    let device = args.device.as_deref().unwrap_or(device::default_name());
    with.extend(
        [
            ("--format", format!("{:?}", args.format).to_lowercase()),
            ("--device", device.into()),
            ("the program", env!("CARGO_PKG_VERSION").into()),
        ]
        .map(|(name, value)| (name.to_string(), value)),
    );
    Ok(with)
}

/// Inputs on their way to answers.
struct Answering<'a> {
    predictor: &'a Predictor,
    /// Of the inputs, in messages.
    name: &'a Path,
    format: PredictionFormat,
    limits: ChunkLimits,
    output: Output,
    bar: Task,
    /// Inputs that there are, once they are counted; 0 before.
    total: Arc<AtomicUsize>,
    signals: Signals,
    progress: Progress,
    /// Of the inputs that are answered.
    hash: Sha256,
    /// Whether it was said that a signal was heard.
    told: bool,
}

impl Answering<'_> {
    /// Answers all inputs, but for those that an earlier process has answered.
    fn all<T: InputRow>(
        &mut self,
        rows: Rows<T>,
        mut sieve: RowSieve,
        examples: fn(Vec<T>) -> Examples,
    ) -> Result<SkippedRows> {
        let mut arrivals = Arrivals::of(rows).context("cannot start a thread for the inputs")?;
        self.pass_over(&mut arrivals, &mut sieve)?;
        loop {
            let signals = &self.signals;
            let chunk = arrivals.chunk(&self.limits, &mut sieve, || signals.asked());
            if chunk.is_empty() {
                break;
            }
            let began = Instant::now();
            for row in &chunk {
                row.digest(&mut self.hash);
            }
            self.answer(&examples(chunk))?;
            self.output.adapt(&mut self.limits, began.elapsed());
        }
        if self.signals.asked() {
            let code = self.signals.exit_code();
            return Err(Stopped { code }.into());
        }
        // So that its kind decides the exit code.
        Ok(sieve.finish().map_err(TrainError::from)?)
    }

    /// Reads the inputs that are answered, and sees that they are these.
    fn pass_over<T: InputRow>(
        &mut self,
        arrivals: &mut Arrivals<T>,
        sieve: &mut RowSieve,
    ) -> Result<()> {
        let (answered, Output::Part(part)) = (self.progress.inputs, &self.output) else {
            return Ok(());
        };
        let mut left = answered;
        while left > 0 {
            let limits = ChunkLimits {
                rows: left.min(ROWS),
                bytes: BYTES,
                patience: None,
            };
            let chunk = arrivals.chunk(&limits, sieve, || self.signals.asked());
            if chunk.is_empty() {
                break;
            }
            left -= chunk.len();
            for row in &chunk {
                row.digest(&mut self.hash);
            }
        }
        if self.signals.asked() {
            return Ok(());
        }
        let (name, answers) = (self.name.display(), part.path().display());
        if left > 0 {
            return Err(part.other(&format!(
                "{name} has {} usable inputs, and {answers} the answers to {answered}",
                answered - left
            )));
        }
        if answered > 0 && hex(&self.hash.clone().finalize()) != self.progress.inputs_sha256 {
            return Err(part.other(&format!(
                "the first {answered} inputs of {name} are not those that {answers} has the answers to"
            )));
        }
        Ok(())
    }

    fn answer(&mut self, examples: &Examples) -> Result<()> {
        let Self {
            bar,
            total,
            signals,
            told,
            ..
        } = self;
        bar.is_of(total.load(Ordering::Relaxed) as u64);
        let (before, inputs) = (self.progress.inputs, examples.len());
        let predicted = self.predictor.predict(self.name, examples, |done| {
            // Windows of a long input are one.
            bar.at((before + done.min(inputs)) as u64);
            if signals.asked() && !*told {
                *told = true;
                say("stopping behind the answers at hand; a second signal stops at once");
            }
        })?;
        let task = self.predictor.settings.task;
        let mut progress = self.progress.clone();
        let mut text = String::new();
        for answer in &predicted.objects {
            let words = answer["tokens"].as_array();
            progress.without_words += usize::from(words.is_some_and(Vec::is_empty));
            text.push_str(&render(answer, task, self.format));
        }
        progress.cut += predicted.cut;
        progress.inputs += predicted.objects.len();
        progress.unreadable += predicted.unreadable;
        progress.left_out += predicted.left_out;
        progress.bytes += text.len() as u64;
        if let Output::Part(_) = self.output {
            progress.inputs_sha256 = hex(&self.hash.clone().finalize());
        }
        self.output.write(&text, &progress)?;
        self.progress = progress;
        Ok(())
    }

    /// What went wrong, how far the answers had come, and how to go on with them.
    fn failed(mut self, error: anyhow::Error, args: &PredictArgs) -> anyhow::Error {
        // Going on the same way would end here again.
        if error.is::<UsageError>() {
            return error;
        }
        let mut ways = Vec::new();
        ways.extend(hint(&error));
        let of_rows = is_row(&error) && !args.skip_bad_rows;
        if let Output::Part(part) = &mut self.output {
            // If it cannot, as on a full disk, what was kept before counts.
            let _ = part.keep(&self.progress);
            if of_rows && part.kept() > 0 {
                ways.push("mend the row, or leave it out with --skip-bad-rows".into());
            }
            ways.extend(self.output.way_on(args));
        } else if self.progress.inputs > 0 && of_rows {
            ways.push(format!(
                "the {} inputs before it are answered; --skip-bad-rows goes on behind it",
                self.progress.inputs
            ));
        }
        if error.is::<Stopped>() {
            self.output.say_stopped(args);
            return error;
        }
        if ways.is_empty() {
            return error;
        }
        WithHint {
            error,
            hint: ways.join("; "),
        }
        .into()
    }
}

/// Whether rows of the input are at fault.
fn is_row(error: &anyhow::Error) -> bool {
    let fault = error.downcast_ref::<TrainError>();
    matches!(fault, Some(TrainError::Data(fault)) if fault.is_row() || matches!(fault, DataError::BadRows { .. }))
}

/// The same command, going on.
fn resume_command(args: &PredictArgs) -> String {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if !args.resume {
        // Behind `predict`, before which flags may stand; no value of theirs is that word.
        let command = words.iter().position(|word| word == "predict");
        words.insert(command.map_or(words.len(), |at| at + 1), "--resume".into());
    }
    let stdin = if of_stdin(args) {
        " (with the same inputs on stdin)"
    } else {
        ""
    };
    format!("{}{stdin}", shell::command(words))
}

/// How many answers were too unsure.
fn abstained(progress: &Progress, least: f32, predictor: &Predictor) -> String {
    let (left_out, inputs) = (progress.left_out, progress.inputs);
    let what = coverage::answered(predictor.problem());
    let of = match predictor.settings.task {
        TaskKind::Sequence => format!("{left_out} of {inputs} {what}"),
        TaskKind::Token => format!("{left_out} {what} in {inputs} inputs"),
    };
    format!("note: {of} are not answered: less sure than {least} (--abstain-below)")
}

/// What is to be said of the answers as a whole.
fn warnings(progress: &Progress, format: PredictionFormat, predictor: &Predictor) -> Vec<String> {
    let Progress {
        inputs,
        unreadable,
        without_words,
        cut,
        ..
    } = progress;
    let mut warnings = Vec::new();
    if *unreadable > 0 {
        let where_said = match format {
            PredictionFormat::Jsonl => ": each has an error in its answer",
            PredictionFormat::Text => ": the reason stands where the label would",
            PredictionFormat::Conll => "",
        };
        warnings.push(format!(
            "warning: nothing to label in {unreadable} of {inputs} inputs{where_said}"
        ));
    }
    if *without_words > 0 && format == PredictionFormat::Conll {
        warnings.push(format!(
            "warning: {without_words} inputs have no words, and CoNLL no sentence for them: a blank \
             line more stands there, which readers pass over, so that the sentences behind are no \
             longer as many as the inputs; --format jsonl has an answer for each"
        ));
    }
    if cut.cut_examples > 0 {
        let words = match (predictor.settings.task, cut.cut_words) {
            (TaskKind::Sequence, _) => String::new(),
            (TaskKind::Token, 0) => " within a word: every word has its tag".into(),
            (TaskKind::Token, words) => {
                format!(", {words} words got no tag but {}", predictor.no_tag())
            }
        };
        warnings.push(format!(
            "warning: {} of {} inputs were cut at {} tokens{words}",
            cut.cut_examples, cut.examples, predictor.settings.max_length
        ));
    }
    warnings
}

/// Inputs that are opened.
struct Source {
    /// In messages.
    name: PathBuf,
    inputs: Inputs,
    /// Whether they may come as somebody makes them.
    live: bool,
}

/// Opens the inputs.
fn inputs(args: &PredictArgs, task: TaskKind, columns: &DataSettings) -> Result<Source> {
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
        return Ok(Source {
            name: "argument".into(),
            inputs,
            live: false,
        });
    }
    match args.input.as_deref() {
        Some(path) if path != Path::new("-") => {
            let source = |inputs| Source {
                name: path.into(),
                inputs,
                live: std::fs::metadata(path).is_ok_and(|found| !found.is_file()),
            };
            if let Some(inputs) = Inputs::open_known(path, task, columns)? {
                return Ok(source(inputs));
            }
            if is_folder(path)? {
                let message = format!("--input {} is a folder; expected a file", path.display());
                return Err(UsageError::new(message).into());
            }
            let format = match said(args, columns).or_else(|| recorded_format(columns, path)) {
                Some(format) => InputFormat::File(format),
                None => InputFormat::from_path(path)?,
            };
            if format == InputFormat::Lines {
                no_pairs(columns)?;
            }
            let columns = columns_of(args, format, columns);
            let inputs = Inputs::open_file(path, format, task, &columns)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(source(inputs))
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
            let columns = columns_of(args, format, columns);
            let name = Path::new("stdin");
            Ok(Source {
                name: name.into(),
                inputs: Inputs::open(stdin, name, format, task, &columns)?,
                live: !stdin_is_file(),
            })
        }
    }
}

/// The columns of a file of this format.
fn columns_of<'a>(
    args: &PredictArgs,
    format: InputFormat,
    columns: &'a DataSettings,
) -> Cow<'a, DataSettings> {
    match format {
        InputFormat::File(FileFormat::Jsonl) => {
            Cow::Owned(with_keys(columns, |key| sets(args, key)))
        }
        _ => Cow::Borrowed(columns),
    }
}

/// Whether the inputs come from stdin.
fn of_stdin(args: &PredictArgs) -> bool {
    let dash = |path: &PathBuf| path == Path::new("-");
    args.texts.is_empty() && args.input.as_ref().is_none_or(dash)
}

/// Whether stdin is a file, so that all of it is there.
fn stdin_is_file() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd as _;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let found = stdin.and_then(|stdin| File::from(stdin).metadata());
        found.is_ok_and(|found| found.is_file())
    }
    #[cfg(not(unix))]
    false
}

/// The settings of --set, --text and --tokens.
fn settings(args: &PredictArgs) -> Vec<String> {
    let keys = [("data.text", &args.text), ("data.tokens", &args.tokens)];
    let keys = keys.into_iter().filter_map(|(setting, key)| {
        let key = key.as_ref()?;
        // A number is that of a column.
        let value = match key.parse::<usize>() {
            Ok(column) => column.to_string(),
            Err(_) => serde_json::Value::from(key.as_str()).to_string(),
        };
        Some(format!("{setting}={value}"))
    });
    args.set.iter().cloned().chain(keys).collect()
}

/// The format that --set names.
fn said(args: &PredictArgs, columns: &DataSettings) -> Option<FileFormat> {
    let named = columns.format.as_ref().filter(|_| sets(args, "format"))?;
    FileFormat::from_name(named)
}

/// Whether the flags say a key of data.
fn sets(args: &PredictArgs, key: &str) -> bool {
    args::sets(&settings(args), &format!("data.{key}"))
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

/// Where the answers go.
enum Output {
    /// A file that takes its place when it is whole.
    Part(Box<Part>),
    /// A pipe or a device, written as it is.
    Stream(PathBuf, File),
    /// stdout.
    Stdout,
}

impl Output {
    /// What the flags say.
    fn of(args: &PredictArgs) -> Result<Self> {
        let Some(path) = args.output.as_deref() else {
            return Ok(Self::Stdout);
        };
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let message = format!("--output {} is a folder", path.display());
                Err(UsageError::new(message).into())
            }
            Ok(found) if !found.is_file() => {
                if args.resume {
                    let message = format!("--resume: --output {} is no file", path.display());
                    return Err(UsageError::new(message).into());
                }
                let file = File::options().write(true).open(path);
                let file = file.map_err(FileError::writing(path))?;
                Ok(Self::Stream(path.into(), file))
            }
            _ => {
                // Behind a symbolic link the file is replaced, not the link.
                let path = behind_links(path);
                Ok(Self::Part(Box::new(Part::open(&path, args.resume)?)))
            }
        }
    }

    /// What may stop it. The answers so far are kept in a file, so the chunk at hand is finished
    /// first; elsewhere nothing is lost if a signal ends it at once.
    fn signals(&self) -> Signals {
        match self {
            Self::Part(_) => {
                let signals = Signals::listen();
                signals.training();
                signals
            }
            _ => Signals::default(),
        }
    }

    /// How the answers go on that are kept.
    fn way_on(&self, args: &PredictArgs) -> Option<String> {
        let Self::Part(part) = self else { return None };
        let (kept, path) = (part.kept(), part.path().display());
        let command = resume_command(args);
        (kept > 0).then(|| format!("{kept} inputs are answered in {path}; go on with: {command}"))
    }

    /// Says how far the answers had come when a signal ended them.
    fn say_stopped(&self, args: &PredictArgs) {
        ended(
            self.way_on(args)
                .unwrap_or("stopped before the first answer".into()),
        );
    }

    /// How much is answered at a time. Of a file into a file it depends on the inputs alone: where
    /// they are continued the same inputs are answered together.
    fn limits(&self, batch_size: usize, live: bool) -> ChunkLimits {
        ChunkLimits {
            rows: match self {
                Self::Part(_) => ROWS,
                _ => batch_size.clamp(1, MOST_ROWS),
            },
            bytes: BYTES,
            patience: live.then_some(PATIENCE),
        }
    }

    /// Takes as much at a time as the model answers in about half a second, where somebody waits
    /// for it.
    fn adapt(&self, limits: &mut ChunkLimits, took: Duration) {
        match self {
            Self::Part(_) => {}
            _ if took < Duration::from_millis(250) => {
                limits.rows = (limits.rows * 2).min(MOST_ROWS)
            }
            _ if took > Duration::from_secs(1) => limits.rows = (limits.rows / 2).max(1),
            _ => {}
        }
    }

    fn write(&mut self, text: &str, progress: &Progress) -> Result<()> {
        match self {
            Self::Part(part) => {
                part.write(text)?;
                part.keep_if_due(progress)
            }
            Self::Stream(path, file) => Ok(file
                .write_all(text.as_bytes())
                .map_err(FileError::writing(path))?),
            Self::Stdout => Ok(screen::print(text)?),
        }
    }
}
