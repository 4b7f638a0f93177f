//! What a model consists of besides its weights: read from its folders, and checked, before these
//! are loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ls_data::{LabelSet, SpecialTokensAs, TaskKind, TextTokenizer, WordsAs};
use ls_files::{FileStamp, exists, optional};
use ls_lora::{CONFIG_FILE, PeftAdapter, weights_file};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaConfig, Pooling, ProblemType, Trained,
};

use crate::calibration::Calibration;
use crate::config::default_long_inputs;
use crate::error::{Result, TrainError};
use crate::inference::{FORMAT_VERSION, InferenceSettings, WRONG_ANSWERS, pad_token};
use crate::read_files::ReadFiles;

/// Settings for a model that was not trained here, or that replace those it was trained with.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// What is labelled. Needed unless a run or the adapter records it.
    pub task: Option<TaskKind>,
    /// Which layers see to the right.
    pub attention: Option<AttentionMode>,
    /// Pooling, for a sequence.
    pub pooling: Option<Pooling>,
    /// What the answers for a sequence are.
    pub problem_type: Option<ProblemType>,
    /// Label names in the order of the head.
    pub labels: Option<Vec<String>>,
    /// Longest input in tokens.
    pub max_length: Option<usize>,
    /// How words become ids.
    pub words: Option<WordsAs>,
    /// What a special token is that a text spells out.
    pub special_tokens: Option<SpecialTokensAs>,
    /// Element type of the frozen weights, or of all where all were trained.
    pub dtype: Option<ComputeType>,
}

/// Says that a checkpoint holds tensors that its configuration has no use for, where it does:
/// biases that are not added, say, make other answers.
pub(crate) fn warn_of_surplus(checkpoint: &Checkpoint) {
    let (dir, surplus) = (checkpoint.dir.display(), checkpoint.surplus());
    match &surplus[..] {
        [] => {}
        [one] => tracing::warn!("{dir}: {WRONG_ANSWERS}: config.json has no use for tensor {one}"),
        [first, others @ ..] => {
            let count = others.len();
            tracing::warn!(
                "{dir}: {WRONG_ANSWERS}: config.json has no use for tensor {first} and {count} more"
            );
        }
    }
}

/// A base model's files.
#[derive(Debug, Clone)]
pub(crate) struct BaseFiles {
    /// What was opened; its files are kept open.
    pub(crate) checkpoint: Arc<Checkpoint>,
    /// The weights, as they were before they were loaded.
    pub(crate) stamps: Arc<Vec<(PathBuf, FileStamp)>>,
}

impl BaseFiles {
    /// Opens a Hugging Face folder.
    ///
    /// # Errors
    ///
    /// If it cannot be used.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        warn_of_surplus(&checkpoint);
        let stamped = |path: &Path| Ok::<_, TrainError>((path.to_path_buf(), FileStamp::of(path)?));
        let stamps = checkpoint.weight_files().map(stamped);
        Ok(Self {
            stamps: Arc::new(stamps.collect::<Result<_>>()?),
            checkpoint: Arc::new(checkpoint),
        })
    }
}

/// A PEFT folder that was read.
pub(crate) struct AdapterFiles {
    pub(crate) dir: PathBuf,
    pub(crate) adapter: PeftAdapter,
    /// As they were read.
    pub(crate) files: ReadFiles,
}

/// A model's files, of which the weights are still to be loaded.
pub(crate) struct Opened {
    pub(crate) base: BaseFiles,
    /// With the vocabulary of the adapter.
    pub(crate) config: LlamaConfig,
    pub(crate) settings: InferenceSettings,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) recorded: bool,
    /// What is not as it was in the training.
    pub(crate) warnings: Vec<String>,
}

impl Opened {
    /// Reads everything but weights, as [`Predictor::from_pretrained`] describes it.
    ///
    /// # Errors
    ///
    /// If a folder cannot be used, or the two do not fit together.
    pub(crate) fn read(
        base: BaseFiles,
        adapter: Option<&AdapterFiles>,
        overrides: &Overrides,
    ) -> Result<Self> {
        let checkpoint = &base.checkpoint;
        let model_dir = &*checkpoint.dir;
        let adapter_dir = adapter.map(|files| &*files.dir);
        let mut config = checkpoint.config.clone();
        // Tokens that were added for the training are in the adapter's table.
        let of_adapter = adapter.and_then(|files| files.adapter.vocab_size());
        config.vocab_size = of_adapter.unwrap_or(config.vocab_size);
        // Where what was trained is.
        let own_dir = adapter_dir.unwrap_or(model_dir);
        let saved = InferenceSettings::load(own_dir)?;
        // The tokenizer of a run is the one that it was trained with.
        let tokenizer_dir = match adapter_dir {
            Some(dir) if exists(dir.join("tokenizer.json"))? => dir,
            _ => model_dir,
        };
        let mut reading = saved
            .as_ref()
            .map_or_else(Default::default, InferenceSettings::reading);
        reading.words = overrides.words.unwrap_or(reading.words);
        reading.special_tokens = overrides.special_tokens.unwrap_or(reading.special_tokens);
        let tokenizer = TextTokenizer::for_reading(tokenizer_dir, reading)?;
        let (recorded, mut warnings) = (saved.is_some(), Vec::new());
        if let Some(saved) = &saved {
            if overrides.attention.is_none() {
                saved.check_attention(&config, own_dir)?;
            }
            for other in saved.not_those_of_training(
                checkpoint,
                &tokenizer,
                tokenizer_dir,
                None,
                WRONG_ANSWERS,
            )? {
                let warning = format!("{other}, which {} was trained with", own_dir.display());
                tracing::warn!("{warning}");
                warnings.push(warning);
            }
        }
        let mut settings = match saved {
            Some(saved) => saved,
            None => default_settings(model_dir, adapter_dir, &config, &tokenizer, overrides)?,
        };
        if let Some(task) = overrides.task
            && task != settings.task
        {
            let reason = format!("it labels a {}, not a {task}", settings.task);
            let path = own_dir.into();
            return Err(TrainError::Settings { path, reason });
        }
        settings.attention = overrides.attention.clone().unwrap_or(settings.attention);
        if overrides.pooling.is_some() {
            settings.pooling = overrides.pooling;
            (settings.pad_token_id, settings.pad_token) =
                pad_token(settings.pooling, &config, &tokenizer);
        }
        settings.problem_type = overrides.problem_type.or(settings.problem_type);
        settings.max_length = overrides.max_length.unwrap_or(settings.max_length);
        if let Some(dtype) = overrides.dtype {
            settings.dtype = dtype;
            if settings.trained == Trained::All {
                // Or it would say nothing.
                settings.trained = Trained::Head;
            }
        }
        (settings.words, settings.special_tokens) = (reading.words, reading.special_tokens);
        if let Some(names) = &overrides.labels {
            settings.labels = LabelSet::from_names(names.clone())?;
        }
        settings.check_model(&config, own_dir)?;
        if let Some(files) = adapter {
            for warning in &files.adapter.warnings {
                tracing::warn!("{}: {warning}", files.dir.display());
            }
        }
        Ok(Self {
            base,
            config,
            settings,
            tokenizer,
            recorded,
            warnings,
        })
    }
}

impl AdapterFiles {
    /// Reads a PEFT folder.
    ///
    /// # Errors
    ///
    /// If it cannot be used, or changes meanwhile.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let paths = [dir.join(CONFIG_FILE), weights_file(dir)?];
        let stamps = || {
            let stamps = paths.iter().map(|path| optional(FileStamp::of(path)));
            stamps.collect::<Result<Vec<_>, _>>()
        };
        let before = stamps()?;
        let adapter = PeftAdapter::load(dir)?;
        // Only now that they are known to be files of an adapter: a hash reads all that there is.
        let mut files = ReadFiles::default();
        for path in &paths {
            files.add(path)?;
        }
        let after = stamps()?;
        let mut same = before.iter().zip(&after).map(|(a, b)| a == b);
        if let Some(at) = same.position(|same| !same) {
            let path = paths[at].clone();
            return Err(TrainError::FileChanged { path });
        }
        Ok(Self {
            dir: dir.into(),
            adapter,
            files,
        })
    }
}

fn default_settings(
    model_dir: &Path,
    adapter_dir: Option<&Path>,
    config: &LlamaConfig,
    tokenizer: &TextTokenizer,
    overrides: &Overrides,
) -> Result<InferenceSettings> {
    let Some(task) = overrides.task else {
        let path = adapter_dir.unwrap_or(model_dir).into();
        return Err(TrainError::TaskNeeded { path });
    };
    // Two are what transformers assumes where a checkpoint names none.
    let labels = config
        .labels
        .clone()
        .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()]);
    let pooling = (task == TaskKind::Sequence)
        .then(|| default_pooling(config, tokenizer, adapter_dir.is_some()));
    let (pad_token_id, pad_token) = pad_token(pooling, config, tokenizer);
    Ok(InferenceSettings {
        format_version: FORMAT_VERSION,
        task,
        labels: LabelSet::from_names(labels)?,
        tags: None,
        scheme: None,
        attention: config.attention(),
        pooling,
        problem_type: config.problem_type,
        calibration: Calibration::default(),
        max_length: config.max_position_embeddings,
        long_inputs: default_long_inputs(task),
        stride: None,
        label_position: Default::default(),
        words: Default::default(),
        special_tokens: Default::default(),
        padding: Default::default(),
        padding_side: Default::default(),
        pad_to: None,
        pad_token_id,
        pad_token,
        base_model: model_dir.into(),
        base_weights: None,
        tokenizer_sha256: None,
        config_sha256: None,
        tokenizer_files_sha256: None,
        dtype: ComputeType::F32,
        quantization: None,
        trained: Trained::Head,
        batch_size: 32,
        step: None,
    })
}

/// The pooling of a head that transformers trained. A checkpoint is pooled by the pad token of its
/// `config.json` alone. An adapter has no such file, and the script that trained it set the
/// tokenizer's where the base had none.
fn default_pooling(config: &LlamaConfig, tokenizer: &TextTokenizer, adapter: bool) -> Pooling {
    let of_tokenizer = tokenizer.named_pad().filter(|_| adapter);
    if config.pad_token_id.or(of_tokenizer).is_some() {
        return Pooling::LastNotPad;
    }
    if let Some(end) = tokenizer.end_token() {
        let end = tokenizer.id_to_token(end).unwrap_or_default();
        tracing::warn!(
            "no pad_token_id in config.json, so the last token of each text is pooled, which is \
             {end}; if {end} was the pad token in training, transformers pooled the token before \
             it: say --pooling last_not_pad"
        );
    }
    Pooling::Last
}
