//! Commands and flags, with their help.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ls_data::{Scheme, TagScheme, TaskKind};
use ls_files::Dtype;
use ls_serve::Limits;
use ls_train::Answering;

/// Turn LLaMA-family decoders into classifiers and taggers.
#[derive(Debug, Parser)]
#[command(name = "ls-cli", version, about, propagate_version = true)]
pub struct Args {
    /// What is said while it is done.
    #[command(flatten)]
    pub screen: ScreenArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What is said on stderr. These stand before the command or behind it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "What is shown")]
pub struct ScreenArgs {
    /// Only results and errors: no progress, no messages, no warnings
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log what this program does: -v with debug lines, -vv with all there are. RUST_LOG, where it
    /// is set, says instead what is logged
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What stderr gets: lines for people, or one JSON object a line (docs/progress.md)
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// How progress is shown
    #[arg(long, global = true, value_enum, value_name = "WAY", default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,
}

/// What stderr gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One object a line, and nothing else
    Json,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, else lines
    Auto,
    /// Bars, wherever stderr goes
    Bar,
    /// A line now and then: every few seconds at first, every few minutes later
    Plain,
    /// Not at all
    Off,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tune on a labelled data set. Without arguments: a demonstration that needs nothing else
    Train(TrainArgs),
    /// Say what a training would take before it begins: parameters, memory, whether it fits, and
    /// the cheapest change by which it would
    ///
    /// Takes what train takes, and refuses what that refuses. The data are read and encoded, since
    /// the largest batch decides; of weights only headers are, unless --measure times a few steps.
    /// Nothing is written but encoded data into the cache, where train finds them (data.cache).
    ///
    /// Memory is that of the process on the CPU, and on a GPU the device's. Where it is not enough,
    /// changes are tried by what they cost: smaller batches with the same examples in each step,
    /// gradient checkpointing; with as much of these as is needed narrower frozen weights, shorter
    /// inputs, fewer layers that train.
    ///
    /// Example: ls-cli estimate --config reviews.toml --memory 8 --measure
    Estimate(EstimateArgs),
    /// Choose settings: train every combination of values, seeds and folds, one after the other,
    /// and name the best
    ///
    /// `--set lora.r=8,16` tries both values; of several such keys every combination is trained.
    /// Commas within quotes or brackets part nothing, so that lists and regular expressions stay
    /// whole. A value with a comma of its own goes in quotes, as TOML has them:
    /// --set 'model.attention="layers:0-7,24-31",causal'. The same key again adds values.
    ///
    /// The best combination is the one with the best mean on the validation split, over its seeds
    /// and folds; the test split is shown beside it and chooses nothing. Each run has a folder of
    /// its own, and is to the bit the one that `train` makes of the same settings; data and weights
    /// that runs have in common are read once. best.toml has the configuration of the best
    /// combination, for `train --config`.
    ///
    /// The same command once more goes on where the sweep was ended, and takes again what failed. A
    /// run whose numbers were no numbers is taken again if its folder is removed.
    Sweep(SweepArgs),
    /// Score a run's best checkpoint on a split or another labelled file, or any classifier or
    /// tagger on a file
    Evaluate(EvaluateArgs),
    /// Write a page about a run: scores with intervals, calibration, curves, errors, data,
    /// configuration
    ///
    /// The page is one HTML file that asks nothing of anybody: no script, no font, no request. A
    /// training writes it at its end (`train.report`); this makes it again, also of a run of an
    /// earlier version, whose page says what is missing.
    ///
    /// With --label-errors the run's configuration is first trained once without each of K parts of
    /// its training split. Labels are likely wrong where the model that did not learn from them is
    /// confident of another one (confident learning, Northcutt et al. 2021). They stand in the page
    /// and in label_errors.json of the run folder. The same command goes on where it was ended.
    Report(ReportArgs),
    /// Compare runs that were scored on the same examples, with paired tests
    ///
    /// Prints the scores of each run, and of those that follow from its answers the difference to
    /// the first run's, with a 95 % interval over paired resamples of the examples and the p value
    /// of approximate randomisation; where an answer is one class also that of McNemar's exact test
    /// of right answers. Loss, log-loss and calibration error are shown as the runs report them.
    /// Then time, memory, parameters that train and the settings that differ. Runs that were scored
    /// on another split or other examples, for another task or by another protocol are refused.
    Compare(CompareArgs),
    /// Label texts
    Predict(PredictArgs),
    /// Answer over HTTP: many classifiers and taggers on one base model in memory
    ///
    /// Of each --run the best model, or PEFT folders on --model: all stand on one base, and a
    /// request names the one that answers, by `model` or by the path /models/NAME/. POST /predict
    /// answers as text-embeddings-inference does, /classify as vLLM does, /ner as the pipeline of
    /// transformers; /docs lists all. What waits is computed together, whichever adapter it is
    /// for, and answered as predict answers it, on the CPU to the bit.
    ///
    /// --threshold, --abstain-below and --constrained are each for those models that they fit, also
    /// for those that come later; one that fits none is refused, unless there is a token.
    ///
    /// With a token (--token-file, or the variable LS_LLAMA_TOKEN) requests need
    /// `Authorization: Bearer TOKEN`, and /adapters adds and removes adapters. SIGHUP loads all of
    /// them anew. SIGTERM and Ctrl-C take no more requests and answer what was taken; then the
    /// exit code is 0. A second signal ends the program at once.
    ///
    /// Example: ls-cli serve --run runs/sentiment --run topics=runs/2026-11/best-topics
    Serve(ServeArgs),
    /// Score any predictions against gold labels or tags, both in files
    ///
    /// Tags come from CoNLL files (a word a line, its tag in the last column; -DOCSTART- lines are
    /// no words) or from JSONL (`tags` or `ner_tags`), labels from JSONL, CSV or TSV (`label`). The
    /// files may have different formats. One file is enough if it holds both: a CoNLL file with
    /// the predicted tag last and the gold tag before it, as conlleval reads, or JSONL with `gold`
    /// beside the prediction, as predict and the predictions.jsonl of a run have it.
    ///
    /// The text for tags is conlleval's, byte for byte in every scheme that conlleval knows (IOB
    /// and IOE), for tags with types and for files without -DOCSTART- lines, which it counts as
    /// words; for labels of texts or words it is a table. Where a JSONL file of predictions has
    /// the probability of each class (`scores`), log-loss and expected calibration error are among
    /// the scores. What predict left unanswered is left out, and how much that is is said: texts
    /// that are `abstained`, and words with ? in place of a label, unless that is a gold label.
    Score(ScoreArgs),
    /// Make a Hugging Face folder of a GGUF file
    ///
    /// It gets config.json, model.safetensors, tokenizer.json and tokenizer_config.json, as train,
    /// evaluate, predict and transformers read them. Architectures: llama (with Mistral's), qwen2
    /// and qwen3. Weights: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K, unpacked.
    Convert(ConvertArgs),
    /// Write the best model of a finished run for others, who have transformers or peft
    ///
    /// It becomes one model: an adapter is merged into the weights as the run held them, and
    /// from_pretrained and pipeline of transformers load the folder with the labels, the mask and
    /// the probabilities that predict has (those of bf16 and f16 are rounded; of a run with
    /// model.dtype bf16 they are those of predict on a CPU). Where transformers
    /// has no counterpart (mean and max pooling, a mask by layers) the folder has a classifier.py
    /// that needs torch and transformers alone. README.md is a model card with the scores. Weights
    /// of more than 5 GB are in shards. ONNX is not written. An adapter alone calls a base that is
    /// not from the Hub by its folder's name: whoever loads it says where the base is.
    ///
    /// It computes on the CPU, or without one in the program on what it was built for. Ctrl-C and
    /// SIGTERM leave nothing of the folder (exit code 130, 143).
    Export(ExportArgs),
    /// Explain a model, an adapter, a run, a tokenizer or a file of data, and why it would be
    /// refused
    ///
    /// PATH is a Hugging Face folder (or its name on the Hub, if it is in the cache), a GGUF file,
    /// PEFT's folder, the folder of a run, a tokenizer.json or a labelled file. Of weights only
    /// headers are read, so that a checkpoint of any size is answered at once; data is read whole.
    ///
    /// What train, evaluate or predict would refuse is shown with their error (`refused`), and the
    /// exit code is 0 all the same: the question is answered. It is another where there is nothing,
    /// or nothing that can be told: a pipe, a folder of none of these.
    Inspect(InspectArgs),
    /// Look at labelled data and write a configuration that trains on it
    ///
    /// Says which format, task and columns were found, how many examples each label has, how long
    /// the texts are and, where the model is on this machine, what would be cut of them. Warns of
    /// labels with few examples, labels that look the same, texts that repeat (with other labels
    /// too), and texts that stand in two splits. Without --validation and --test, files of the
    /// same name with `dev`, `valid` or `test` in the place of `train` are taken for them.
    ///
    /// The configuration names a schema in its first line, by which editors complete and check it;
    /// it is written beside it, as ls-llama.schema.json, if that is not there. Data that train
    /// would refuse is refused with the same error, and nothing is written.
    Init(InitArgs),
    /// Look up what a configuration may say, and what one comes to
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what completes commands and flags in a shell
    ///
    /// For bash: ls-cli completions bash > ~/.local/share/bash-completion/completions/ls-cli
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    ///
    /// `ls-cli man | man -l -` shows it. `ls-cli man --out ~/.local/share/man/man1` writes all of
    /// them where `man ls-cli` and `man ls-cli-train` find them.
    Man(ManArgs),
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of configurations (draft 2020-12)
    ///
    /// Editors complete and check a configuration by it: those that know Taplo (in VS Code, Even
    /// Better TOML) where its first line is `#:schema PATH_OR_URL`, which is a comment to ls-cli.
    Schema,
    /// Print the reference of every key, as Markdown
    Docs,
    /// Print what a configuration comes to, as a run writes it into its folder's config.toml
    ///
    /// What the file and --set say, defaults, and the choices that follow from both and from the
    /// model's config.json, with absolute paths; a key that is not printed is not set. All faults
    /// of the configuration are reported as train does.
    ///
    /// Neither weights nor data are read, and nothing is written. So these stay open where the
    /// configuration leaves them so, and are named on stderr: for a tagger data.scheme and
    /// train.metric_for_best_model, which follow from the training data; train.pass_size of
    /// train.micro_batch_size = "auto", from the memory that is free. If the model or a known data
    /// set is not on this machine, so do the choices that its config.json decides (model.attention,
    /// model.pooling, lora.target_modules ...), and the set's folder. Whether the data can be read,
    /// and the adapters fit the weights, only train finds out.
    Show(ShowArgs),
}

/// `config show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Configuration file, or the name of a built-in one (demo-sentiment, demo-ner)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set a key of the configuration, such as train.learning_rate=1e-3 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder for the pages, one for each command; pages of the same names are replaced [default:
    /// the page of ls-cli alone, on stdout]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// What to explain
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Of data: what is labelled [default: what the file holds]
    #[arg(long, value_parser = task())]
    pub task: Option<TaskKind>,
    /// Of data: the model by whose tokenizer tokens are counted
    #[arg(long, value_name = "HF_DIR")]
    pub model: Option<PathBuf>,
    /// Of data: set a key of the configuration, such as data.label=stars (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The labelled file to learn from
    #[arg(value_name = "DATA")]
    pub data: PathBuf,
    /// What is labelled [default: what the file holds]
    #[arg(long, value_parser = task())]
    pub task: Option<TaskKind>,
    /// The pretrained model, a Hugging Face folder or its name on the Hub [default: that of the
    /// adapter of --set model.adapter=DIR, else smollm2-135m]
    #[arg(long, value_name = "HF_DIR")]
    pub model: Option<PathBuf>,
    /// The file that chooses the best epoch [default: one with labels that is found beside DATA,
    /// else a part of DATA]
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// The file that is scored once, at the end [default: one with labels that is found beside
    /// DATA]
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// Set a key of the configuration, such as data.label=stars (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Leave out rows that cannot be used
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// The configuration to write; a file that is there is never written over [default: the name of
    /// DATA, with the ending toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A run that is to be made: its configuration, or its files.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file, or the name of a built-in one (demo-sentiment, demo-ner) [default:
    /// demo-sentiment, without --data]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Without a configuration: the pretrained model, a Hugging Face folder or its name on the Hub
    #[arg(
        long,
        value_name = "HF_DIR",
        requires = "data",
        conflicts_with = "config"
    )]
    pub model: Option<PathBuf>,
    /// Without a configuration: the labelled file to learn from. Task and columns are found in it.
    /// The model is that of --model, or the one that the adapter of --set model.adapter=DIR names
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub data: Option<PathBuf>,
    /// With --data: the file that chooses the best epoch [default: a part of --data]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub validation: Option<PathBuf>,
    /// With --data: the file that is scored once, at the end
    #[arg(long, value_name = "FILE", requires = "data")]
    pub test: Option<PathBuf>,
    /// With --data: what is labelled [default: what the file holds]
    #[arg(long, value_parser = task(), requires = "data")]
    pub task: Option<TaskKind>,
    /// Set a key of the configuration, such as train.learning_rate=1e-3 (may be repeated;
    /// `config docs` lists all)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Fetch a model or data set from the Hugging Face Hub if it is not in the cache (needs the
    /// feature hub)
    #[arg(long)]
    pub download: bool,
    /// Skip rows that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_rows: bool,
}

/// `train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// What is to be run.
    #[command(flatten)]
    pub of: RunArgs,
    /// Folder for everything that the run writes [default: runs/ and the name of the configuration
    /// or of --data]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Go on with a run that was interrupted or killed, from its last checkpoint: RUN, or that of
    /// --run. What --set or --config say otherwise may only be how long to train, and when to
    /// evaluate and save
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// `estimate`.
#[derive(Debug, clap::Args)]
pub struct EstimateArgs {
    /// What is to be run.
    #[command(flatten)]
    pub of: RunArgs,
    /// Memory that there is for the run, in GiB [default: on the CPU what the system has free]
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub memory: Option<u64>,
    /// Also load the weights and take a few steps: how long the run will take, and what memory they
    /// took. A minute or several
    #[arg(long)]
    pub measure: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The device of the run: cpu, cuda, cuda:N or wgpu. To be measured it has to be built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// `sweep`.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    /// Configuration file, or the name of a built-in one (demo-sentiment, demo-ner)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set a key of the configuration, to several values to try each, such as
    /// train.learning_rate=1e-4,3e-4 (may be repeated; `config docs` lists all)
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub set: Vec<String>,
    /// Train each combination with the seeds 1 to N [default: once, with train.seed]. Where a part
    /// of the training split is set aside for validation, it is another one for each seed
    #[arg(long, value_name = "N")]
    pub seeds: Option<usize>,
    /// Cross-validation: cut the training split in K parts, with equal shares of each class, and
    /// train each combination K times, each time scored on another part and trained on the rest. A
    /// validation split of the configuration is not read
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,
    /// Fetch a model or data set from the Hugging Face Hub if it is not in the cache (needs the
    /// feature hub)
    #[arg(long)]
    pub download: bool,
    /// Skip rows that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Folder of the sweep, with a folder for each run in it [default: runs/NAME-sweep, by the name
    /// of the configuration]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// `evaluate`.
#[derive(Debug, clap::Args)]
pub struct EvaluateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Split of the run's configuration: train, validation or test [default: test, else validation]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["data", "model"])]
    pub split: Option<String>,
    /// A labelled file. With --run it is another one than the run's, with the run's columns; with
    /// --model the columns are found in it
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Set a key of data for --data, such as data.text=review, or data.labels=[\"neg\",\"pos\"] as
    /// the names of integers (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", requires = "data")]
    pub set: Vec<String>,
    /// Skip rows that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// How to print the scores
    #[arg(long, value_enum, default_value_t = ScoreFormat::Text)]
    pub format: ScoreFormat,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// `convert`.
#[derive(Debug, clap::Args)]
pub struct ConvertArgs {
    /// GGUF file of a model, its tokenizer in it
    #[arg(value_name = "GGUF_FILE")]
    pub file: PathBuf,
    /// Folder to write; it must not be there yet, or be empty
    #[arg(value_name = "OUT_DIR")]
    pub folder: PathBuf,
    /// Take the tokenizer of this folder, in place of making one from the file's vocabulary
    #[arg(long, value_name = "HF_DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Element type of the weights [default: that of the file's embedding table; bf16 where this is
    /// packed]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub dtype: Option<WeightType>,
}

/// `report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Write the page here, in the place of one that is there, or into a pipe [default: report.html
    /// in the run folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Look for labels of the training split that are likely wrong, by cross-validation
    #[arg(long)]
    pub label_errors: bool,
    /// Parts of the training split, each labelled by a model that learns from the others
    #[arg(long, value_name = "K", requires = "label_errors", default_value_t = 5)]
    pub folds: usize,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE", requires = "label_errors")]
    pub device: Option<String>,
}

/// `compare`.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Folders of finished runs, at least two; the others are compared with the first
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<PathBuf>,
    /// Write a page too, in the place of one that is there, or into a pipe
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Folder of a finished run
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Folder to write; it must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Merge the adapter into the weights, as is done without this flag too: with it, a run that
    /// trained none is refused
    #[arg(long, conflicts_with = "adapter_only")]
    pub merge: bool,
    /// Element type of the weights [default: f32, which rounds nothing]
    #[arg(long, value_enum, value_name = "TYPE", conflicts_with = "adapter_only")]
    pub dtype: Option<WeightType>,
    /// Write the adapter with its head for peft, without the base model's weights
    #[arg(long)]
    pub adapter_only: bool,
}

/// An element type of weights in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightType {
    /// 32 bits.
    F32,
    /// 16 bits, with the range of 32.
    Bf16,
    /// 16 bits, with more digits and less range.
    F16,
}

impl From<WeightType> for Dtype {
    fn from(weight_type: WeightType) -> Self {
        match weight_type {
            WeightType::F32 => Self::F32,
            WeightType::Bf16 => Self::BF16,
            WeightType::F16 => Self::F16,
        }
    }
}

/// How to print scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScoreFormat {
    /// A table.
    Text,
    /// One object.
    Json,
}

/// `score`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("files").required(true).multiple(true).args(["gold", "pred"])))]
pub struct ScoreArgs {
    /// File with the gold answers, or - for stdin; without --pred, the file with both
    #[arg(long, value_name = "FILE")]
    pub gold: Option<PathBuf>,
    /// File with the predictions, or - for stdin; without --gold, the file with both
    #[arg(long, value_name = "FILE")]
    pub pred: Option<PathBuf>,
    /// Another system's predictions: how its scores differ, and whether that may be chance (paired
    /// approximate randomisation)
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// What is predicted: a label for each text, or a tag for each word [default: what the files
    /// hold]
    #[arg(long, value_parser = task())]
    pub task: Option<TaskKind>,
    /// What the labels of texts are: single_label_classification, multi_label_classification
    /// (lists) or regression (numbers) [default: what predictions of `predict` show, else one class
    /// each]
    #[arg(long, value_name = "TYPE")]
    pub problem_type: Option<String>,
    /// What parts the labels of a text where they stand in one string: ; for a;b
    #[arg(long, value_name = "TEXT")]
    pub label_delimiter: Option<String>,
    /// How spans are read from tags
    #[arg(long, value_enum, default_value_t = ReadMode::Default)]
    pub mode: ReadMode,
    /// Tag scheme of --mode strict: iob1, iob2 (bio), ioe1, ioe2 (ioe), iobes (bioes) or bilou
    /// [default: iob2]. Without strict mode only bilou matters (and is seen from the gold tags):
    /// the default mode reads all others in the same lenient way. labels: the tags are no spans but
    /// the labels of their words, scored by accuracy and F1 [default where no tag of any file has a
    /// prefix such as B-]
    #[arg(long, value_name = "SCHEME")]
    pub scheme: Option<Scheme>,
    /// What stands between the prefix and the type of a tag, where that is no hyphen: _ for B_PER
    #[arg(long, value_name = "TEXT")]
    pub tag_separator: Option<String>,
    /// Key, column name or column number (from 0) of the labels or tags in both files
    #[arg(long, visible_alias = "tags", value_name = "KEY")]
    pub label: Option<String>,
    /// Key or column of the predictions, if not that of --label
    #[arg(long, visible_alias = "pred-tags", value_name = "KEY")]
    pub pred_label: Option<String>,
    /// Names of integer labels, from 0 on
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub labels: Option<Vec<String>>,
    /// The first row of CSV and TSV files is data: name columns by number
    #[arg(long)]
    pub no_header: bool,
    /// How to print the scores
    #[arg(long, value_enum, default_value_t = ScoreFormat::Text)]
    pub format: ScoreFormat,
    /// Give each score an interval from N resamples of the examples [default: none; with --compare
    /// 1000]
    #[arg(long, value_name = "N")]
    pub bootstrap: Option<usize>,
    /// Fixes the random numbers of --bootstrap and --compare
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Part of the resamples that an interval holds
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub level: f64,
}

/// How spans are read from tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadMode {
    /// Leniently, as conlleval and seqeval do by default: malformed sequences are repaired.
    Default,
    /// By --scheme, as seqeval's strict mode: only whole spans count.
    Strict,
}

/// The trained model of a command, and how it reads and answers: a run, or a model from elsewhere.
#[derive(Debug, Clone, clap::Args)]
#[command(group(ArgGroup::new("from").required(true).args(["run", "model"])))]
pub struct ModelArgs {
    /// Folder of a finished run
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Hugging Face folder, or its name on the Hub if it is in the cache: a whole classifier, or
    /// the base of --adapter
    #[arg(long, value_name = "HF_DIR")]
    pub model: Option<PathBuf>,
    /// PEFT folder with the head in it
    #[arg(long, value_name = "PEFT_DIR", requires = "model")]
    pub adapter: Option<PathBuf>,
    /// What a model from elsewhere does not record.
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// How it answers.
    #[command(flatten)]
    pub answering: AnsweringArgs,
    /// Longest input in tokens; a tagger reads longer inputs in windows, a classifier cuts their
    /// end and counts them
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
}

/// How models answer.
#[derive(Debug, Clone, clap::Args)]
pub struct AnsweringArgs {
    /// Where any number of labels may hold: the score from which on each of them does [default:
    /// those that training fitted to its validation split, else 0.5]
    #[arg(long, value_name = "SCORE")]
    pub threshold: Option<f32>,
    /// Answer nothing where the score of the label is lower: no label for a text, no entity, no
    /// label for a word
    #[arg(long, value_name = "SCORE")]
    pub abstain_below: Option<f32>,
    /// Of a tagger of spans: the likeliest tags that the scheme allows together, in place of each
    /// word's likeliest: iob1, iob2 (bio), ioe1, ioe2 (ioe), iobes (bioes) or bilou, behind `=`
    /// (--constrained=iob2) [default scheme: that of the tags it was trained on, else what the
    /// prefixes of the labels say]
    #[arg(
        long,
        value_name = "SCHEME",
        value_parser = tag_scheme(),
        ignore_case = true,
        hide_possible_values = true,
        num_args = 0..=1,
        require_equals = true
    )]
    pub constrained: Option<Option<TagScheme>>,
}

impl AnsweringArgs {
    /// What they ask of models.
    pub fn asked(&self) -> Answering {
        Answering {
            threshold: self.threshold,
            abstain_below: self.abstain_below,
            constrained: self.constrained,
        }
    }
}

/// Settings of a model that records none, or that replace those that it records.
#[derive(Debug, Clone, clap::Args)]
pub struct OverrideArgs {
    /// What to label: a sequence as a whole, or every token [default: as recorded beside the
    /// weights]
    #[arg(
        long,
        value_parser = task(),
        conflicts_with = "run"
    )]
    pub task: Option<TaskKind>,
    /// causal, bidirectional, from:16, layers:0-7,24-31 or groups:0011
    #[arg(long, value_name = "MODE", conflicts_with = "run")]
    pub attention: Option<String>,
    /// last, last_not_pad, mean or max
    #[arg(
        long,
        value_name = "P",
        value_parser = ["last", "last_not_pad", "mean", "max"],
        hide_possible_values = true,
        conflicts_with = "run"
    )]
    pub pooling: Option<String>,
    /// What the answers for a sequence are: regression (bare values), single_label_classification
    /// (probabilities that sum to 1) or multi_label_classification (a probability each) [default:
    /// what config.json says]
    #[arg(long, value_name = "TYPE", conflicts_with = "run")]
    pub problem_type: Option<String>,
    /// Label names in the order of the head
    #[arg(
        long,
        value_name = "A,B,C",
        value_delimiter = ',',
        conflicts_with = "run"
    )]
    pub labels: Option<Vec<String>>,
    /// How words become ids: text (joined by spaces) or split (each by itself, as taggers trained
    /// with is_split_into_words=True have them) [default: as recorded beside the adapter, else
    /// text]
    #[arg(long, value_name = "WAY", conflicts_with = "run")]
    pub words: Option<String>,
    /// What a special token is that a text spells out: text, or parse for the token itself
    /// [default: as recorded beside the adapter, else text]
    #[arg(long, value_name = "WAY", conflicts_with = "run")]
    pub special_tokens: Option<String>,
    /// Element type of the weights: f32 or bf16
    #[arg(long, value_name = "TYPE", conflicts_with = "run")]
    pub dtype: Option<String>,
}

/// `serve`.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("served").required(true).args(["run", "model"]))]
pub struct ServeArgs {
    /// Folder of a finished run, by its own name or by another one (may be repeated)
    #[arg(long, value_name = "[NAME=]DIR", conflicts_with = "model")]
    pub run: Vec<String>,
    /// Hugging Face folder, or its name on the Hub if it is in the cache: the base of the adapters,
    /// or without any a whole classifier
    #[arg(long, value_name = "HF_DIR")]
    pub model: Option<PathBuf>,
    /// PEFT folder with the head in it, by the name that requests give (may be repeated)
    #[arg(long, value_name = "NAME=PEFT_DIR", requires = "model")]
    pub adapter: Vec<String>,
    /// What adapters from elsewhere do not record.
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Longest input in tokens, of adapters on --model
    #[arg(long, value_name = "N", conflicts_with = "run")]
    pub max_length: Option<usize>,
    /// How they answer.
    #[command(flatten)]
    pub answering: AnsweringArgs,
    /// Address to listen on. Any but a loopback one is open to others
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: std::net::IpAddr,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// File with the token that requests have to show [default: the variable LS_LLAMA_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Write the texts of requests into the log
    #[arg(long)]
    pub log_texts: bool,
    /// Tokens of one pass over the weights: fewer for shorter waiting, more for more answers
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_batch_tokens)]
    pub max_batch_tokens: usize,
    /// Tokens that may wait; beyond them requests are refused (429)
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_queue_tokens)]
    pub max_queue_tokens: usize,
    /// Requests at once; beyond them more are refused (429)
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_concurrent_requests)]
    pub max_concurrent_requests: usize,
    /// Streams of lines (/batch) at once; beyond them more are refused (429)
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_streams)]
    pub max_streams: usize,
    /// Inputs of one request (413)
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_client_batch_size)]
    pub max_client_batch_size: usize,
    /// Bytes of the body of one request (413)
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_body_bytes)]
    pub max_body_bytes: usize,
    /// Connections at once; more of them wait, or take the place of one that is silent
    #[arg(long, value_name = "N", value_parser = at_least_one(), default_value_t = Limits::default().max_connections)]
    pub max_connections: usize,
    /// Seconds that an answer may take (503), and a body (408)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600), default_value_t = 60)]
    pub timeout: u32,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    let parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX));
    parser.map(|value| value as usize)
}

/// `predict`.
#[derive(Debug, Clone, clap::Args)]
pub struct PredictArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// File of inputs (csv, tsv, jsonl, conll, or txt with one text a line), or - for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub input: Option<PathBuf>,
    /// Set a key of data for --input or stdin, such as data.text=review or
    /// data.encoding=windows-1252 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "texts")]
    pub set: Vec<String>,
    /// Key or column of the texts, if not that of the run or `text`: short for --set data.text=KEY
    #[arg(long, value_name = "KEY", conflicts_with = "texts")]
    pub text: Option<String>,
    /// Key or column of a tagger's words, if not that of the run or `tokens`: short for
    /// --set data.tokens=KEY
    #[arg(long, value_name = "KEY", conflicts_with = "texts")]
    pub tokens: Option<String>,
    /// Refuse an input without anything to read (a blank text, `null`, one that yields no tokens),
    /// rather than answer it with an error in its place
    #[arg(long)]
    pub strict: bool,
    /// Skip rows that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Write here instead of to stdout. The answers grow in FILE.part, and FILE is there when it is
    /// whole
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Go on with the answers that an interrupted or killed command left in FILE.part: the inputs
    /// that are answered are passed over, and checked to be the same (of stdin too, which has to
    /// begin with them again). Without any, begin
    #[arg(long, requires = "output")]
    pub resume: bool,
    /// How to print the predictions
    #[arg(long, value_enum, default_value_t = PredictionFormat::Jsonl)]
    pub format: PredictionFormat,
    /// cpu, cuda, cuda:N or wgpu, as built in
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Texts to label
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
}

/// Whether assignments of `--set` name a key.
pub fn sets(set: &[String], key: &str) -> bool {
    set.iter().any(|assignment| {
        let said = assignment.split_once('=').map(|(said, _)| said.trim());
        said == Some(key)
    })
}

/// Reads a number of GiB, as bytes.
fn gibibytes(text: &str) -> Result<u64, String> {
    let number = text.parse::<f64>().ok();
    let bytes = number.map(|number| number * f64::from(1u32 << 30));
    match bytes {
        Some(bytes) if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err("expected a number of GiB above 0, such as 24 or 7.5".into()),
    }
}

/// Reads `--task`.
fn task() -> impl TypedValueParser<Value = TaskKind> {
    let value = |task: TaskKind| {
        PossibleValue::new(task.name()).help(match task {
            TaskKind::Sequence => "A text as a whole",
            TaskKind::Token => "Every word of it",
        })
    };
    PossibleValuesParser::new(TaskKind::ALL.map(value)).try_map(|name| name.parse::<TaskKind>())
}

/// Reads the scheme of `--constrained`.
fn tag_scheme() -> impl TypedValueParser<Value = TagScheme> {
    let value = |scheme: TagScheme| PossibleValue::new(scheme.name()).aliases(scheme.alias());
    let values = TagScheme::ALL.map(value);
    PossibleValuesParser::new(values).try_map(|name| name.parse::<TagScheme>())
}

/// How to print predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PredictionFormat {
    /// One object per input.
    Jsonl,
    /// Label, score and text, tab-separated; of a tagger one line per entity (per word, tag first,
    /// where tags are labels).
    Text,
    /// Token and tag columns.
    Conll,
}
