//! The report of a finished run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ls_data::{CutReport, TaskKind};
use ls_lora::ParameterCount;
use ls_report::Distribution;
use serde::Serialize;

use crate::config::Protocol;
use crate::context::Context;
use crate::environment::peak_memory;
use crate::error::Result;
use crate::evaluate::Evaluation;
use crate::events::EvaluationRecord;
use crate::fit::Fitted;
use crate::old_head::BegunFrom;
use crate::problem::Problem;
use crate::scores::{Baseline, Scores};
use crate::sources::Sources;

/// A finished run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// What is labelled.
    pub task: TaskKind,
    /// How its scores were taken.
    pub protocol: Protocol,
    /// The adapter, or the whole classifier, that it began from, and which labels kept their rows
    /// of its head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_from: Option<BegunFrom>,
    /// The metric that chose the best checkpoint.
    pub metric: String,
    /// The chosen checkpoint's evaluation on the validation split.
    pub best: EvaluationRecord,
    /// Which split the scores below are of: `test`, or `validation` where there is no test split.
    pub reported_split: String,
    /// Whether that split also chose the checkpoint: by the protocol `paper`, and where no other
    /// was given.
    pub reported_split_chose: bool,
    /// Whether the thresholds of its labels were fitted to that split too, where any number of
    /// labels may hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reported_split_fitted: bool,
    /// The name that the reported split was published under, where that is another: SST-2's and
    /// Twitter's `validation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_split: Option<&'static str>,
    /// The form that a known data set was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Mean loss of the best checkpoint on the reported split.
    pub loss: f64,
    /// Scores of the best checkpoint on the reported split.
    pub scores: Scores,
    /// Baselines on the same split.
    pub baselines: Vec<Baseline>,
    /// Sizes of the splits, and what was cut of them.
    pub cut: BTreeMap<String, CutReport>,
    /// How often each label occurs in a split, and how long its inputs are.
    pub distributions: BTreeMap<String, Distribution>,
    /// Parameters that train.
    pub trainable_parameters: usize,
    /// All parameters of the model, the frozen ones included.
    pub all_parameters: usize,
    /// Optimizer steps done.
    pub steps: usize,
    /// Of them, those that were undone because something in them was NaN or infinite.
    pub skipped_steps: usize,
    /// Inputs of a forward pass in training, at its end.
    pub micro_batch_size: usize,
    /// Time in steps.
    pub train_seconds: f64,
    /// Real tokens trained on, a second.
    pub tokens_per_second: f64,
    /// Highest resident memory of the process, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The run folder.
    pub run: PathBuf,
}

impl Report {
    /// The report of a run, without baselines, folder and what it began from.
    ///
    /// # Errors
    ///
    /// If the file of a split can no longer be read.
    pub(crate) fn new(
        context: &Context<'_>,
        sources: &Sources,
        fitted: &Fitted,
        evaluation: &Evaluation,
        parameters: ParameterCount,
    ) -> Result<Self> {
        let (run, splits) = (context.run, context.splits);
        let (reported_split, _) = splits.reported();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            task: run.config.task,
            protocol: run.config.data.protocol,
            began_from: None,
            metric: run.metric.clone(),
            best: fitted.best.clone(),
            reported_split: reported_split.into(),
            reported_split_chose: sources.reported_split_chose(),
            reported_split_fitted: sources.reported_split_chose()
                && run.config.problem() == Problem::MultiLabel
                && run.config.train.threshold.is_none(),
            published_split: sources.published,
            form: sources.form.clone(),
            loss: evaluation.loss,
            scores: evaluation.scores.clone(),
            baselines: Vec::new(),
            cut: splits.cut(),
            distributions: splits.distributions(run.config.problem())?,
            trainable_parameters: parameters.trainable,
            all_parameters: parameters.all,
            steps: fitted.steps,
            skipped_steps: fitted.skipped,
            micro_batch_size: fitted.pass_size,
            train_seconds: fitted.seconds,
            tokens_per_second: fitted.tokens as f64 / fitted.seconds.max(1e-9),
            peak_memory: peak_memory(),
            run: PathBuf::new(),
        })
    }
}
