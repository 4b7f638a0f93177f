//! [`estimate`]: what a run would take, before it begins: parameters, memory, and by a few timed
//! steps its time.
//!
//! It reads everything that the run reads but weights, and refuses what that refuses. Only
//! [`Wanted::measure_on`] loads weights. Nothing is written but encoded data, into their cache.

mod fitting;
mod measure;

use burn::tensor::Device;
use ls_files::Hashed;
use ls_lora::TrainableTensor;
use ls_model::{Checkpoint, LlamaConfig, Trained};
use serde::Serialize;

pub use fitting::Change;
pub use measure::Measured;

use crate::begun::Begun;
use crate::config::{ResolvedRun, RunConfig};
use crate::context::{Context, stop_if_asked};
use crate::error::Result;
use crate::events::Observer;
use crate::inference::InferenceSettings;
use crate::largest::Largest;
use crate::loss::Objective;
use crate::memory::{Memory, Moment, fitting_pass};
use crate::opened::Opened;
use crate::shared::{BeforeWeights, Shared};
use crate::trainer;
use fitting::Fitting;

/// What is wanted of an estimate.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Whether the run is to compute on the CPU.
    pub host: bool,
    /// Memory that there is for it, in bytes; without, on the CPU what the system has free.
    pub memory: Option<u64>,
    /// The device to time a few steps on.
    pub measure_on: Option<&'a Device>,
}

/// What a run would take.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// What trains, and what is there.
    pub parameters: Parameters,
    /// What is done.
    pub work: Work,
    /// Memory at its fullest, in bytes, by part.
    pub memory: Memory,
    /// Of all parts.
    pub peak: usize,
    /// When that is.
    pub moment: Moment,
    /// The peak at each moment.
    pub moments: Vec<AtMoment>,
    /// Memory that there is, in bytes, with what this program has taken; nothing where it is not
    /// known.
    pub available: Option<u64>,
    /// Whether it is enough.
    pub fits: Option<bool>,
    /// The cheapest change that makes it fit, where it does not and one does.
    pub change: Option<Change>,
    /// By timed steps, where that is wanted.
    pub measured: Option<Measured>,
}

/// A moment of a run and its memory, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AtMoment {
    /// The moment.
    pub moment: Moment,
    /// Of all parts.
    pub total: usize,
}

/// Numbers of parameters.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Parameters {
    /// All that train.
    pub trainable: usize,
    /// Of them those of adapters.
    pub adapters: usize,
    /// Of them those of the head.
    pub head: usize,
    /// Of them those of the decoder itself.
    pub decoder: usize,
    /// All there are.
    pub all: usize,
}

impl Parameters {
    fn of(model: &LlamaConfig, trainable: &[TrainableTensor]) -> Self {
        let count = |wanted: &dyn Fn(&str) -> bool| -> usize {
            let tensors = trainable.iter().filter(|tensor| wanted(&tensor.name));
            tensors
                .map(|tensor| tensor.shape.iter().product::<usize>())
                .sum()
        };
        let head = count(&|name| name.starts_with("score."));
        let decoder = count(&crate::memory::is_of_decoder);
        let trainable = count(&|_| true);
        let adapters = trainable - head - decoder;
        let frozen = model.tensors().into_iter();
        let sizes = frozen.map(|(_, shape)| shape.iter().product::<usize>());
        Self {
            trainable,
            adapters,
            head,
            decoder,
            all: sizes.sum::<usize>() + head + adapters,
        }
    }
}

/// What a run does.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Work {
    /// Inputs to learn from: examples, or windows of long ones.
    pub inputs: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens of the longest.
    pub longest: usize,
    /// Passes over them.
    pub epochs: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Evaluations.
    pub evaluations: usize,
    /// Most inputs of a pass.
    pub pass_rows: usize,
    /// Tokens of the largest pass.
    pub pass_tokens: usize,
    /// Tokens of the largest batch of an evaluation.
    pub evaluation_tokens: usize,
}

/// What a run of this configuration would take.
///
/// # Errors
///
/// Whatever the run would be refused for before its weights are loaded; where it is measured, what
/// ends its first steps; [`TrainError::Interrupted`](crate::TrainError::Interrupted) if the
/// observer asked to stop. Whether the run's folder is free is asked by
/// [`check_free`](crate::check_free).
pub fn estimate(
    config: &RunConfig,
    wanted: &Wanted<'_>,
    observer: &mut dyn Observer,
) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(&config.model.path)?;
    let run = config.clone().resolve(&checkpoint.config);
    let mut opened = Opened::of(run, checkpoint, observer)?;
    let splits = opened.splits(&mut Shared::default(), observer)?;
    // Nobody compares it: a sample is read in milliseconds.
    let weights = opened.checkpoint.fingerprint(Some(Hashed::Sample))?;
    // What the run would be refused for. What it warns of beside, it says itself.
    opened.old_head(&weights)?;
    opened.concerns(&weights)?;
    let Opened {
        run,
        checkpoint,
        model_config,
        begun,
        tokenizer,
        ..
    } = opened;
    let (labels, tags) = (splits.labels.clone(), splits.tags);
    let settings = InferenceSettings::of_run(&run, &checkpoint, &tokenizer, labels, tags, weights);
    let problem = settings.problem();
    let objective = Objective::of_run(&run.config.train, problem, &settings.labels, &splits.train)?;
    let device = wanted.measure_on.cloned().unwrap_or_default();
    let plain = device.clone().without_autodiff();
    let mut context = Context::of(&run, &model_config, &settings, &splits, &objective, &plain);
    stop_if_asked(observer, &context)?;
    let trainable = tensors_that_train(&run, &model_config, splits.labels.len(), begun.as_ref())?;

    let before = BeforeWeights::now();
    let lengths = splits.lengths();
    let largest = Largest::of(&run, &lengths, context.pass_size);
    let footprint = context.footprint(&trainable, &largest, wanted.host, before.resident);
    let free = before.available.filter(|_| wanted.host);
    let free = free.map(|free| free + footprint.program as u64);
    let available = wanted.memory.or(free);
    let beside = available.map(|all| all.saturating_sub(footprint.program as u64));
    let (pass_size, moment, memory) = fitting_pass(&footprint, &lengths, beside);
    let largest = Largest::of(&run, &lengths, pass_size);
    let footprint = context.footprint(&trainable, &largest, wanted.host, before.resident);
    let fits = available.map(|available| memory.total() as u64 <= available);
    let change = match (fits, available) {
        (Some(false), Some(available)) => {
            let of = |run: &ResolvedRun| {
                tensors_that_train(run, &model_config, splits.labels.len(), begun.as_ref())
            };
            Fitting {
                footprint,
                lengths: &lengths,
                available,
                trainable: &of,
            }
            .cheapest()?
        }
        _ => None,
    };
    let moments = footprint.moments().map(|(moment, memory)| AtMoment {
        moment,
        total: memory.total(),
    });
    let train = &run.config.train;
    let work = Work {
        inputs: lengths.train.len(),
        tokens: lengths.train.iter().sum(),
        longest: lengths.train.iter().copied().max().unwrap_or(0),
        epochs: train.epochs,
        steps: context.steps(),
        evaluations: context.evaluations(),
        pass_rows: pass_size,
        pass_tokens: largest.pass_tokens(),
        evaluation_tokens: largest.evaluation_tokens(),
    };
    let mut estimate = Estimate {
        parameters: Parameters::of(&model_config, &trainable),
        work,
        memory,
        peak: memory.total(),
        moment,
        moments: moments.to_vec(),
        available,
        fits,
        change,
        measured: None,
    };
    if wanted.measure_on.is_some() {
        context.pass_size = pass_size;
        context.expected_memory = memory.total();
        let backbone = trainer::load_backbone(&checkpoint, &context, observer)?;
        let model = trainer::with_new_head(backbone, &context);
        let model = match (begun, &run.lora) {
            (Some(begun), Some(lora)) => begun.place(model, lora, &device.autodiff())?,
            (_, lora) => trainer::to_train(model, &context, lora.as_ref(), &run.trained)?,
        };
        estimate.measured = Some(measure::measure(model, &context, observer)?);
    }
    Ok(estimate)
}

/// The tensors that train in a run.
fn tensors_that_train(
    run: &ResolvedRun,
    model: &LlamaConfig,
    num_labels: usize,
    begun: Option<&Begun>,
) -> Result<Vec<TrainableTensor>> {
    let adapted = match (&run.lora, begun) {
        // Its configuration may name layers of other models.
        (Some(lora), Some(_)) => model.adapted_by_trained(lora)?,
        (Some(lora), None) => model.adapted_by(lora)?,
        (None, _) => Vec::new(),
    };
    let adapter = run.lora.as_ref().map(|lora| (lora, &*adapted));
    let trained = match adapter {
        Some(_) => &Trained::Head,
        None => &run.trained,
    };
    Ok(model.trainable(run.head, num_labels, adapter, trained))
}
