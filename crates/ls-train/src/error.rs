//! [`TrainError`]: the faults of a run.

use std::path::{Path, PathBuf};

use ls_data::DataError;
use ls_files::FileError;
use ls_lora::{LoraError, PICKLED_WEIGHTS_FILE, WEIGHTS_FILE};
use ls_model::ModelError;

/// Result with a [`TrainError`].
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Faults of a configuration, all of them.
    #[error("{}", list_faults(.origin, .faults))]
    Config {
        /// The file or other origin of the configuration.
        origin: String,
        /// One sentence each.
        faults: Vec<String>,
    },
    /// The file of a configuration cannot be read or is not TOML.
    #[error(transparent)]
    ConfigFile(FileError),
    /// A file or folder that cannot be read, written or understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no page about a run, or no comparison of several.
    #[error(transparent)]
    Report(#[from] ls_report::ReportError),
    /// A run has no labels of which some could be likely wrong by others' being likelier.
    #[error("{}: label errors are looked for among labels that exclude each other, and this run learns {what}", path.display())]
    NoLabelErrors {
        /// The run folder.
        path: PathBuf,
        /// What it learns.
        what: &'static str,
    },
    /// A part of a cross-validation was not trained.
    #[error("{run} was not trained: {reason}")]
    FoldFailed {
        /// Its name.
        run: String,
        /// Why.
        reason: String,
    },
    /// The training data of a run are not what it learned from.
    #[error("{}: has changed since the run learned from it: its SHA-256 is {found}, expected {expected}", path.display())]
    DataChanged {
        /// The file.
        path: PathBuf,
        /// Its SHA-256.
        found: String,
        /// What the run's environment.json has.
        expected: String,
    },
    /// A training split has fewer examples than it is to have parts.
    #[error("{}: the training split has fewer examples than {folds} parts, one for each", path.display())]
    TooManyFolds {
        /// The run folder.
        path: PathBuf,
        /// How many.
        folds: usize,
    },
    /// The run folder holds something already.
    #[error("run folder {} is not empty", path.display())]
    RunNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that a command was told to make cannot be made.
    #[error("{}: not a usable {what}: {reason}", path.display())]
    NewFolder {
        /// The folder.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// What is there.
        reason: String,
    },
    /// Nothing says what a model from elsewhere labels.
    #[error("{}: no settings of ls-llama in it: say what it labels with --task", path.display())]
    TaskNeeded {
        /// The model's folder.
        path: PathBuf,
    },
    /// The run folder holds a run that is not finished.
    #[error("{} holds a run that is not finished{}", path.display(), at_step(*at))]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// The step of its last checkpoint, and of how many; nothing before the first.
        at: Option<(usize, usize)>,
    },
    /// The run that should go on is finished.
    #[error("{} holds a finished run: there is nothing to go on with", path.display())]
    Finished {
        /// The folder.
        path: PathBuf,
    },
    /// Another process trains in the run folder.
    #[error("{}: another process is training in this run folder", path.display())]
    RunInUse {
        /// The folder.
        path: PathBuf,
    },
    /// A run that should go on is told to be another one.
    #[error("{} cannot go on as it began: {}", path.display(), listed(.differences))]
    Differs {
        /// The run folder.
        path: PathBuf,
        /// What is not what it was, a phrase each.
        differences: Vec<String>,
    },
    /// A folder holds another sweep than the one that is asked for.
    #[error("{} holds another sweep: {}", path.display(), listed(.differences))]
    SweepDiffers {
        /// The folder.
        path: PathBuf,
        /// What is not what it was, a phrase each.
        differences: Vec<String>,
    },
    /// A checkpoint that cannot be used.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file, or the run folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint of another version of the format.
    #[error(
        "{}: the format_version of the checkpoint is {found}, and this version of the program reads \
         {expected}", path.display()
    )]
    CheckpointVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The one that is read.
        expected: u32,
    },
    /// The records of a run are shorter than they were at its checkpoint.
    #[error("{}: found {found} bytes, expected the {expected} of step {step}", path.display())]
    RecordsCut {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length that it had at the checkpoint.
        expected: u64,
        /// The step of the checkpoint.
        step: usize,
    },
    /// The observer asked the run to stop.
    #[error("{}", stopped(*.at, *.saved))]
    Interrupted {
        /// The run folder.
        run: PathBuf,
        /// Optimizer steps done, and of how many; nothing before this process trained.
        at: Option<(usize, usize)>,
        /// The step that the run can go on from, and of how many; nothing before its first
        /// checkpoint.
        saved: Option<(usize, usize)>,
    },
    /// The observer asked the run to stop, and its checkpoint could not be written.
    #[error("{}, because its checkpoint could not be written", stopped(Some(*.at), *.saved))]
    NotSaved {
        /// Optimizer steps done, and of how many.
        at: (usize, usize),
        /// The step that the run can go on from, as of [`TrainError::Interrupted`].
        saved: Option<(usize, usize)>,
        /// Why.
        source: Box<TrainError>,
    },
    /// A folder that a finished run should have left is not one.
    #[error("{}: not a run folder: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A run without adapters is asked for one.
    #[error("{}: the run trained without adapters (lora = false)", run.display())]
    NoAdapter {
        /// The run folder.
        run: PathBuf,
    },
    /// The base model that a run was trained on is not there any more: another is in its place.
    #[error("{} cannot be exported: {}", run.display(), listed(.others))]
    OtherBase {
        /// The run folder.
        run: PathBuf,
        /// What is not what it was, a phrase each.
        others: Vec<String>,
    },
    /// A run that is to answer has not evaluated anything yet.
    #[error("{} is not finished{} and has no best model yet", path.display(), at_step(*at))]
    NoBestYet {
        /// The run folder.
        path: PathBuf,
        /// The step of its last checkpoint, and of how many; nothing before the first.
        at: Option<(usize, usize)>,
    },
    /// The settings beside an adapter cannot be used.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file, or the folder that lacks it.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The labels found do not fit the head or the configuration.
    #[error("{what}: expected {expected} labels, found {found}")]
    LabelCount {
        /// What was compared.
        what: String,
        /// On one side.
        expected: usize,
        /// On the other.
        found: usize,
    },
    /// A split without examples.
    #[error("the {split} split has no examples")]
    EmptySplit {
        /// Its name.
        split: String,
    },
    /// A split that neither the configuration nor the command names.
    #[error("this run has no {split} split (it has: {available})")]
    NoSplit {
        /// The one asked for.
        split: String,
        /// Those there are.
        available: String,
    },
    /// A known data set is not there.
    #[error("{}: no such folder, which should hold the data set {name}", path.display())]
    NoDataset {
        /// Its folder.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// Data files are not what they were when the run began.
    #[error("{}: {found} of {expected} examples are where they were; the files have changed", path.display())]
    Changed {
        /// The files.
        path: PathBuf,
        /// Examples of the split.
        expected: usize,
        /// Of them found again.
        found: usize,
    },
    /// A file is not what it was when it was first read.
    #[error("{}: has changed since it was first read", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
    },
    /// The predictions for the reported split cannot be written: everything else is.
    #[error(
        "{}: finished and whole but for its predictions.jsonl, for which the {split} split is read \
         again", run.display()
    )]
    NoPredictions {
        /// The run folder.
        run: PathBuf,
        /// The split that is reported.
        split: &'static str,
        /// What is wrong with them.
        source: Box<TrainError>,
    },
    /// An example that leaves nothing for the model.
    #[error("{}:{line}: {reason}", path.display())]
    Example {
        /// The data file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A token id past the model's vocabulary.
    #[error("{}:{line}: token id {id} is past the model's vocabulary of {vocab_size}", path.display())]
    TokenId {
        /// The data file.
        path: PathBuf,
        /// Line of the example, counted from 1.
        line: usize,
        /// The id.
        id: u32,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// Everything to learn from has the same label.
    #[error(
        "{files}: each of the {count} {} to learn from has the label {label}, expected at least two \
         labels",
        if *words { "words" } else { "examples" }
    )]
    OneClass {
        /// The files of the training split.
        files: String,
        /// The label, quoted.
        label: String,
        /// Examples, or words.
        count: usize,
        /// Whether words are labelled.
        words: bool,
    },
    /// The model answers with something that is no number.
    #[error("an output of the model is {value}; examples: {examples}; {found}")]
    OutputNotFinite {
        /// NaN or infinite.
        value: f64,
        /// Where the example stands, or those of its batch: path and lines.
        examples: String,
        /// In which module it was found first.
        found: String,
        /// What may mend it.
        hint: String,
    },
    /// The loss, a gradient, a parameter or an output stopped being a number.
    #[error("{quantity} is {value} at step {step}; examples: {examples}; {found}")]
    NotFinite {
        /// `loss`, `gradient norm`, `a parameter after the update` or `an output in the
        /// evaluation`.
        quantity: &'static str,
        /// NaN or infinite.
        value: f64,
        /// The optimizer step, counted from 1.
        step: usize,
        /// Where the examples stand: path and lines.
        examples: String,
        /// In which module or parameter it was found first, and for which example.
        found: String,
        /// What may mend it.
        hint: String,
        /// `key=value` with which the run may go on behind the step.
        set: Option<String>,
    },
    /// The device has no memory left.
    #[error("the device has no memory left for {during}{asked}{expected} ({message})")]
    OutOfMemory {
        /// What was going on.
        during: String,
        /// What was asked for, where it was told: the end of a clause.
        asked: String,
        /// What was expected, where it was counted: the end of a clause.
        expected: String,
        /// What the device's driver said.
        message: String,
        /// What can be set.
        advice: String,
        /// Of that, `key=value` with which a run may go on.
        set: Option<String>,
    },
    /// Labels of a file that are none of the model's.
    #[error("{fault}")]
    UnknownLabels {
        /// Where they stand.
        fault: Box<DataError>,
        /// The labels.
        found: Vec<String>,
        /// The way out, where it is known.
        way_out: Option<String>,
    },
    /// A fault of data files or labels.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A fault of the checkpoint or of how it is run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A fault of the adapter or its configuration.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

impl TrainError {
    /// A folder that names another number of labels than its head has.
    pub(crate) fn of_head(path: &std::path::Path, names: usize, head: usize) -> Self {
        Self::Settings {
            path: path.into(),
            reason: format!(
                "names {names} labels, but its head has {head}: name those of the head with \
                 --labels"
            ),
        }
    }

    /// The error and its causes in a line.
    pub fn chain(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |e| e.source());
        let mut said: Vec<String> = causes.map(ToString::to_string).collect();
        // Transparent wrappers repeat their cause.
        said.dedup();
        said.join(": ")
    }

    /// Whether the command or its configuration is at fault, rather than a file or the run (exit
    /// code 2 rather than 1).
    pub fn is_usage(&self) -> bool {
        match self {
            // What the system does not let be read says nothing of what is in it.
            Self::ConfigFile(error) => !matches!(error, FileError::Read { .. }),
            Self::Config { .. }
            | Self::NewFolder { .. }
            | Self::TaskNeeded { .. }
            | Self::RunNotEmpty { .. }
            | Self::Unfinished { .. }
            | Self::Finished { .. }
            | Self::RunInUse { .. }
            | Self::NoAdapter { .. }
            | Self::NoLabelErrors { .. }
            | Self::DataChanged { .. }
            | Self::TooManyFolds { .. }
            | Self::Differs { .. }
            | Self::SweepDiffers { .. }
            | Self::NoSplit { .. }
            | Self::NoDataset { .. }
            | Self::LabelCount { .. }
            | Self::Model(ModelError::AttentionMode { .. }) => true,
            Self::Report(error) => error.is_usage(),
            Self::Lora(error) | Self::Model(ModelError::Lora(error)) => error.is_config(),
            Self::Data(error) => matches!(
                error,
                DataError::UnknownFormat { .. }
                    | DataError::ColumnsUnclear { .. }
                    | DataError::UnsupportedFormat { .. }
                    | DataError::IsFolder { .. }
                    | DataError::UnknownColumn { .. }
                    | DataError::ColumnTwice { .. }
                    | DataError::NoNamedColumn { .. }
                    | DataError::TagsNeeded { .. }
                    | DataError::NoHeader { .. }
                    | DataError::ColumnIndex { .. }
                    | DataError::IndexInJson { .. }
                    | DataError::MaxLength { .. }
                    | DataError::DuplicateLabel { .. }
                    | DataError::EmptyLabelName { .. }
            ),
            _ => false,
        }
    }

    /// Whether the caller broke off an export or a conversion.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Model(ModelError::Stopped))
    }

    /// The same with a way out that only the caller knows. Other errors than
    /// [`TrainError::UnknownLabels`] and [`DataError::NamesNeeded`] stay as they are.
    pub fn with_way_out(self, way_out: String) -> Self {
        let way_out = Some(way_out);
        match self {
            Self::UnknownLabels { fault, found, .. } => Self::UnknownLabels {
                fault,
                found,
                way_out,
            },
            Self::Data(fault @ DataError::NamesNeeded { .. }) => Self::UnknownLabels {
                fault: Box::new(fault),
                found: Vec::new(),
                way_out,
            },
            other => other,
        }
    }

    /// `key=value` with which a run that ended so may go on, where there is something.
    pub fn goes_on_with(&self) -> Option<&str> {
        match self {
            Self::NotFinite { set, .. } | Self::OutOfMemory { set, .. } => set.as_deref(),
            _ => None,
        }
    }

    /// The way out, where there is a usual one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Report(error) => error.hint(),
            Self::DataChanged { .. } => Some(
                "put the file back as it was, or train a run on it as it is, and look there".into(),
            ),
            Self::TooManyFolds { .. } => Some("say fewer --folds".into()),
            Self::RunNotEmpty { .. } => {
                Some("name another folder with --run, or move this one away: nothing in it was touched".into())
            }
            Self::NoAdapter { .. } => Some(
                "its best/ is a whole model: leave --merge and --adapter-only out".into(),
            ),
            Self::OtherBase { .. } => Some(
                "put back what the run was trained on (its config.toml names the folder)".into(),
            ),
            Self::Finished { .. } => Some("more epochs go on from its end: --set train.epochs=N".into()),
            Self::Differs { .. } => {
                Some("name another folder with --run to train something else; what a run that goes on may change is train.epochs, train.early_stopping_patience, train.eval_steps, train.eval_batch_size, train.gradient_checkpointing, train.skip_nonfinite_steps, train.pass_size, train.save_*, train.tensorboard, train.report and data.cache".into())
            }
            Self::SweepDiffers { .. } => {
                Some("name another folder with --run; the same command goes on with the sweep in this one".into())
            }
            Self::Checkpoint { path, .. } if path.ends_with("checkpoints") => {
                Some("train longer in another folder, with --run".into())
            }
            Self::Checkpoint { path, .. } => Some(format!(
                "to begin again from the first step, remove {}",
                match path.parent() {
                    Some(folder) if folder.ends_with("checkpoints") => folder.display().to_string(),
                    _ => "the folder checkpoints in the run folder".into(),
                }
            )),
            Self::CheckpointVersion { .. } => Some(
                "go on with the version of the program that wrote it; without this file, the \
                 checkpoint before it is gone on from".into(),
            ),
            Self::RecordsCut { path, .. } => Some(format!(
                "put the records back; or remove {} to go on with records that begin behind the \
                 checkpoint",
                path.display()
            )),
            Self::NoPredictions { run, .. } => Some(format!(
                "best/ and report.json are as they should be; predict --run {} --input FILE labels \
                 any file",
                run.display()
            )),
            Self::NotFinite { hint, .. } | Self::OutputNotFinite { hint, .. } => {
                Some(hint.clone())
            }
            Self::OutOfMemory { advice, .. } => Some(advice.clone()),
            Self::OneClass { words, .. } => Some(format!(
                "is {} the label? A model that learns one answer is never wrong; give examples of \
                 another",
                if *words { "data.tags" } else { "data.label" }
            )),
            Self::EmptySplit { split } if split == "validation" => {
                Some("raise data.validation_fraction, or name a file in data.validation".into())
            }
            Self::Model(ModelError::File(FileError::TensorMissing { path, name, .. }))
            | Self::Lora(LoraError::File(FileError::TensorMissing { path, name, .. }))
                if (path.ends_with(WEIGHTS_FILE) || path.ends_with(PICKLED_WEIGHTS_FILE))
                    && name.ends_with("score.weight") =>
            {
                Some("the adapter was saved without its head, which is lost: train with task_type = \"SEQ_CLS\" or \"TOKEN_CLS\", or with modules_to_save = [\"score\"]".into())
            }
            Self::Model(ModelError::Lora(error)) if is_of_another_base(error) => {
                Some("an adapter fits the model that it was trained on: name that one".into())
            }
            Self::Model(ModelError::File(error) | ModelError::Lora(LoraError::File(error)))
            | Self::Lora(LoraError::File(error))
                if let FileError::TensorNotFinite { found, .. } = error =>
            {
                Some(if found.value.is_finite() {
                    "it is past the range of that type: take f32 (model.dtype = \"f32\", or --dtype f32)".into()
                } else {
                    "fetch the file again; if it is as it was published, its training failed: take an earlier checkpoint".into()
                })
            }
            Self::Data(DataError::File(FileError::Unusable { what: "tokenizer", .. })) => {
                Some("take that of the model's Hugging Face folder: --tokenizer HF_DIR".into())
            }
            Self::Model(ModelError::NotACheckpoint { path, .. }) if let Some(file) = gguf_file(path) => {
                Some(format!("it is a GGUF file: ls-cli convert {} OUT_DIR makes a folder of it", file.display()))
            }
            Self::Model(ModelError::NotACheckpoint { path, .. }) if path.join("adapter_config.json").is_file() => {
                Some("it is a PEFT adapter: name it with --adapter, and the model that it was trained on with --model".into())
            }
            Self::Model(ModelError::File(FileError::TensorMissing { name, .. })) if name == "score.weight" => {
                Some("a base model has no head: name the adapter that was trained on it with --adapter".into())
            }
            Self::Data(DataError::NoDatasetFiles { dataset, .. }) => Some(fetch_data(dataset)),
            Self::NoDataset { name, .. } => Some(fetch_data(name)),
            Self::Data(DataError::ColumnsUnclear { settings, .. }) => {
                let flags = |all: &Vec<String>| all.iter().map(|one| set(one)).collect::<Vec<_>>();
                let each: Vec<String> = settings.iter().map(|all| flags(all).join(" ")).collect();
                Some(format!("say which is meant: {}", each.join(", or ")))
            }
            Self::UnknownLabels { way_out, .. } => way_out.clone(),
            Self::Data(DataError::NamesNeeded { .. }) => {
                Some("name them in the order of the integers: --set 'data.labels=[\"O\",\"B-PER\",\"I-PER\"]', or in a label.json beside the file".into())
            }
            Self::TokenId { .. } | Self::Model(ModelError::TokenId { .. }) => {
                Some("use the tokenizer that came with the model, or the model that came with the tokenizer".into())
            }
            _ => None,
        }
    }
}

/// Whether an adapter has layers that its model has not, or in other shapes.
fn is_of_another_base(error: &LoraError) -> bool {
    let path = match error {
        LoraError::File(FileError::TensorShape { path, .. }) => path,
        LoraError::SurplusTensors { path, names }
            if names.iter().all(|name| name.contains(".lora_")) =>
        {
            path
        }
        _ => return false,
    };
    path.ends_with(WEIGHTS_FILE) || path.ends_with(PICKLED_WEIGHTS_FILE)
}

/// The flag that sets `key=value`. Names of columns may hold what a shell would read.
fn set(assignment: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._=-".contains(c);
    if assignment.chars().all(plain) {
        format!("--set {assignment}")
    } else {
        format!("--set '{}'", assignment.replace('\'', r"'\''"))
    }
}

fn fetch_data(name: &str) -> String {
    match ls_data::catalog::find(name) {
        None => "name the folder of its files in data.dir".into(),
        Some(known) if known.hub.is_empty() => format!(
            "it is not on the Hub ({}): name the folder of its files in data.dir",
            known.homepage
        ),
        Some(_) => {
            format!("fetch it with `cargo xtask fetch-data {name}`, or name its folder in data.dir")
        }
    }
}

fn at_step(at: Option<(usize, usize)>) -> String {
    at.map_or_else(String::new, |(step, steps)| {
        format!(" (step {step} of {steps})")
    })
}

fn stopped(at: Option<(usize, usize)>, saved: Option<(usize, usize)>) -> String {
    match (at, saved) {
        (None, None) => "stopped before the training began: there was nothing to save".into(),
        (None, Some((step, steps))) => format!(
            "stopped before the training went on: the run stands at step {step} of {steps} as before"
        ),
        (Some((step, steps)), _) if at == saved => {
            format!("stopped at step {step} of {steps}, which is saved")
        }
        (Some((step, steps)), Some((saved, _))) => format!(
            "stopped at step {step} of {steps}, of which step {saved} is saved and no later one"
        ),
        (Some((step, steps)), None) => {
            format!("stopped at step {step} of {steps}, of which none is saved")
        }
    }
}

fn listed(differences: &[String]) -> String {
    match differences {
        [one] => one.clone(),
        many => format!("\n  {}", many.join("\n  ")),
    }
}

/// The GGUF file that was named in the place of a folder, or that is in the folder.
fn gguf_file(path: &Path) -> Option<PathBuf> {
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|end| end == "gguf");
    let held = std::fs::read_dir(path).into_iter().flatten();
    let held = held.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = held.chain([path.to_owned()]).filter(is_gguf).collect();
    found.sort();
    found.into_iter().next().filter(|file| file.is_file())
}

fn list_faults(origin: &str, faults: &[String]) -> String {
    match faults {
        [one] => format!("{origin}: {one}"),
        many => format!("{origin}: {} faults\n  {}", many.len(), many.join("\n  ")),
    }
}
