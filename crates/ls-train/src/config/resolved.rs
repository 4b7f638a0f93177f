//! A run with every choice made.

use ls_data::{InputLimits, LongInputs, PaddingMode, Scheme, TagKind, TaskKind};
use ls_lora::{LoraConfig, TargetModules, TaskType};
use ls_model::{AttentionMode, LlamaConfig, Pooling, Precision, Task, Trained};

use super::checks::unknown_metric;
use super::micro_batch::MicroBatchSize;
use super::settings::{Protocol, RunConfig, context, default_long_inputs};
use crate::error::{Result, TrainError};
use crate::problem::Problem;
use crate::scores::Scores;

/// A run with every choice made, by the user, the protocol, the data set, the checkpoint or the
/// defaults, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedRun {
    /// What the user wrote, with the choices below written in and paths that mean the same from any
    /// folder: as the run folder keeps it.
    pub config: RunConfig,
    /// Which layers see to the right.
    pub attention: AttentionMode,
    /// The head, with its pooling or dropout.
    pub head: Task,
    /// How the frozen weights are held.
    pub precision: Precision,
    /// The adapter, if there is one.
    pub lora: Option<LoraConfig>,
    /// What trains in full: beside an adapter the head alone.
    pub trained: Trained,
    /// Longest input and what happens to longer ones.
    pub limits: InputLimits,
    /// Whether padding counts as tokens.
    pub padding: PaddingMode,
    /// The score by which the best checkpoint is chosen.
    pub metric: String,
}

/// What a checkpoint decides where the configuration leaves it open.
#[derive(Debug, Clone)]
pub(super) struct OfModel {
    /// Which layers see to the right.
    pub(super) attention: AttentionMode,
    /// Dropout before a token head.
    pub(super) classifier_dropout: f64,
    /// Whether queries, keys and values are one layer.
    pub(super) fused_projections: bool,
}

impl RunConfig {
    /// Makes every choice that the user left open. `model` is the checkpoint's configuration; no
    /// weight and no data file is read.
    pub fn resolve(self, model: &LlamaConfig) -> ResolvedRun {
        self.resolve_by(&OfModel {
            attention: model.attention(),
            classifier_dropout: model.classifier_dropout,
            fused_projections: model.fused_projections,
        })
    }

    /// How long an input may be and what happens to longer ones, as far as no model says otherwise:
    /// where context counts in windows is its attention's.
    pub fn input_limits(&self) -> InputLimits {
        let unknown = OfModel {
            attention: AttentionMode::Causal,
            classifier_dropout: 0.0,
            fused_projections: false,
        };
        self.clone().resolve_by(&unknown).limits
    }

    /// The same, by what was taken from the checkpoint's configuration.
    pub(super) fn resolve_by(mut self, model: &OfModel) -> ResolvedRun {
        self.make_paths_absolute();
        let paper = self.data.protocol == Protocol::Paper;
        let (settings, data) = (&mut self.model, &mut self.data);

        let attention = settings.attention.get_or_insert(model.attention.clone());
        let attention = attention.clone();
        let causal = attention == AttentionMode::Causal;
        let head = match self.task {
            TaskKind::Sequence => Task::Sequence(*settings.pooling.get_or_insert(if causal {
                Pooling::Last
            } else {
                Pooling::Mean
            })),
            TaskKind::Token => Task::Token {
                dropout: *settings
                    .classifier_dropout
                    .get_or_insert(model.classifier_dropout),
            },
        };

        let max_length = match (paper, data.known()) {
            (true, Some(known)) => known.paper_max_length,
            (true, None) => 64,
            (false, _) => 256,
        };
        let limits = InputLimits {
            max_length: *data.max_length.get_or_insert(max_length),
            long_inputs: *data.long_inputs.get_or_insert(if paper {
                LongInputs::Truncate
            } else {
                default_long_inputs(self.task)
            }),
            stride: data.stride,
            context: context(&attention),
        };
        let padding = *data.padding.get_or_insert(if paper && !causal {
            PaddingMode::Attended
        } else {
            PaddingMode::Masked
        });
        if paper && padding == PaddingMode::Attended {
            data.pad_to.get_or_insert(limits.max_length);
        }

        if self.train.micro_batch_size == MicroBatchSize::Auto && self.train.pass_size.is_some() {
            self.train.pass_size = Some(self.train.largest_pass());
        }

        let tags = data.scheme.map(Scheme::kind);
        let problem = Problem::of(self.task, settings.problem_type, tags);
        let default = || problem.default_metric().to_string();
        let metric = &mut self.train.metric_for_best_model;
        let metric = match problem {
            // Its tags say later what they are: see `settle_tags`.
            Problem::Tags(None) => metric.clone().unwrap_or_else(default),
            _ => metric.get_or_insert_with(default).clone(),
        };
        if let Some(lora) = &mut self.lora {
            lora.target_modules.get_or_insert_with(|| {
                if model.fused_projections {
                    TargetModules::list(["qkv_proj"])
                } else {
                    TargetModules::list(["q_proj", "v_proj"])
                }
            });
        }
        let lora = self.lora.as_ref().map(|lora| {
            let mut lora = lora.config();
            lora.base_model_name_or_path = Some(settings.path.display().to_string());
            // The heads of these task types train too.
            lora.task_type = Some(match self.task {
                TaskKind::Sequence => TaskType::SeqCls,
                TaskKind::Token => TaskType::TokenCls,
            });
            lora
        });
        let trained = match (&lora, &self.train.layers) {
            (Some(_), _) => Trained::Head,
            (None, Some(layers)) => Trained::Layers(layers.clone()),
            (None, None) => Trained::All,
        };
        ResolvedRun {
            attention,
            head,
            precision: Precision {
                compute: settings.dtype,
                quantization: settings.quantization,
                in_f32: trained.clone(),
            },
            lora,
            trained,
            limits,
            padding,
            metric,
            config: self,
        }
    }

    /// Paths that mean the same from any folder; a known data set gets its usual one.
    pub(crate) fn make_paths_absolute(&mut self) {
        let data = &mut self.data;
        if let Some(known) = data.known() {
            data.dir.get_or_insert_with(|| known.default_dir());
            if let Some(file) = &known.file
                && let Ok(absolute) = std::path::absolute(file)
            {
                data.dataset = Some(absolute.to_string_lossy().into_owned());
            }
        }
        let files = [&mut data.train, &mut data.validation, &mut data.test];
        let files = files
            .into_iter()
            .flatten()
            .flat_map(|files| files.paths_mut());
        let others = [
            Some(&mut self.model.path),
            self.model.adapter.as_mut(),
            data.dir.as_mut(),
            self.run.as_mut(),
        ];
        for path in files.chain(others.into_iter().flatten()) {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
    }
}

/// Sees that a metric is one of tags of a kind.
///
/// # Errors
///
/// If it is none.
pub(crate) fn check_metric_of_tags(metric: &str, kind: TagKind) -> Result<()> {
    let known = Scores::keys(Problem::Tags(Some(kind)));
    if known.contains(&metric) {
        return Ok(());
    }
    Err(TrainError::Config {
        origin: format!(
            "train.metric_for_best_model, for tags that are {}",
            kind.name()
        ),
        faults: vec![unknown_metric(metric, &known)],
    })
}

impl ResolvedRun {
    /// Checks that the model has the layers that train, before any weight is read.
    ///
    /// # Errors
    ///
    /// If it has not; if the others are to be packed, and there are none.
    pub(crate) fn check_layers(&self, model: &LlamaConfig) -> Result<()> {
        let Trained::Layers(layers) = &self.trained else {
            return Ok(());
        };
        let fault = |key: &str, fault: String| {
            Err(TrainError::Config {
                origin: key.into(),
                faults: vec![fault],
            })
        };
        if let Err(error) = layers.check(model.num_hidden_layers) {
            return fault("train.layers", error.to_string());
        }
        let all = (0..model.num_hidden_layers).all(|layer| layers.contains(layer));
        if all && self.precision.quantization.is_some() {
            let text = "train.layers names every layer, and what trains is not packed: leave one \
                        of the two out";
            return fault("model.quantization", text.into());
        }
        Ok(())
    }

    /// Makes the choices that depend on what the tags of a tagger's files turned out to say.
    ///
    /// # Errors
    ///
    /// If the metric that was named is none of such tags.
    pub(crate) fn settle_tags(&mut self, kind: TagKind) -> Result<()> {
        if kind == TagKind::Labels {
            self.config.data.scheme = Some(Scheme::Labels);
        }
        let metric = &mut self.config.train.metric_for_best_model;
        let default = || Problem::Tags(Some(kind)).default_metric().to_string();
        let metric = metric.get_or_insert_with(default);
        check_metric_of_tags(metric, kind)?;
        self.metric.clone_from(metric);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolved(task: &str, set: &[&str], model: &str) -> ResolvedRun {
        let text = format!("task = '{task}'\nmodel.path = 'm'\ndata.train = 'train.csv'\n");
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let model = format!(
            r#"{{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4 {model}}}"#
        );
        let model = LlamaConfig::from_json(&model, Path::new("config.json")).unwrap();
        RunConfig::from_toml(&text, "", &set)
            .unwrap()
            .resolve(&model)
    }

    #[test]
    fn pooling_follows_attention_unless_set() {
        let head = |set: &[&str], model: &str| resolved("sequence", set, model).head;
        let bidirectional = "model.attention=bidirectional";
        assert_eq!(head(&[], ""), Task::Sequence(Pooling::Last));
        assert_eq!(head(&[bidirectional], ""), Task::Sequence(Pooling::Mean));
        let of_model = head(&[], r#", "is_causal": false"#);
        assert_eq!(of_model, Task::Sequence(Pooling::Mean));
        let set = head(&[bidirectional, "model.pooling=max"], "");
        assert_eq!(set, Task::Sequence(Pooling::Max));
    }

    #[test]
    fn targets_follow_the_layers_of_the_model_unless_set() {
        let targets = |set: &[&str], family: &str| {
            let model = format!(
                r#"{{"model_type": "{family}", "vocab_size": 32, "hidden_size": 16,
                "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}}"#
            );
            let model = LlamaConfig::from_json(&model, Path::new("config.json")).unwrap();
            let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'train.csv'\n";
            let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
            let run = RunConfig::from_toml(text, "", &set).unwrap();
            let run = run.resolve(&model);
            let (settings, lora) = (run.config.lora.unwrap(), run.lora.unwrap());
            assert_eq!(settings.config().target_modules, lora.target_modules);
            lora.target_modules
        };
        let list = |names: &[&str]| TargetModules::list(names.iter().copied());
        assert_eq!(targets(&[], "llama"), list(&["q_proj", "v_proj"]));
        assert_eq!(targets(&[], "phi3"), list(&["qkv_proj"]));
        let set = "lora.target_modules=[\"down_proj\"]";
        assert_eq!(targets(&[set], "phi3"), list(&["down_proj"]));
    }

    #[test]
    fn what_tags_say_decides_the_metric_unless_one_is_named() {
        let settled = |set: &[&str], kind| {
            let mut run = resolved("token", set, "");
            run.settle_tags(kind).map(|()| run)
        };
        let run = settled(&[], TagKind::Spans).unwrap();
        assert_eq!(run.metric, "span_f1_micro");
        assert_eq!(run.config.data.scheme, None);
        let run = settled(&[], TagKind::Labels).unwrap();
        assert_eq!(run.metric, "accuracy");
        assert_eq!(run.config.data.scheme, Some(Scheme::Labels));
        let named = ["train.metric_for_best_model=f1_macro"];
        assert_eq!(settled(&named, TagKind::Labels).unwrap().metric, "f1_macro");
        let error = settled(&named, TagKind::Spans).unwrap_err();
        assert!(
            error.to_string().contains("unknown metric \"f1_macro\""),
            "{error}"
        );
        // Said beforehand, it is decided beforehand.
        let said = resolved("token", &["data.scheme=labels"], "");
        assert_eq!(said.metric, "accuracy");
        let said = resolved("token", &["data.scheme=bio"], "");
        assert_eq!(said.metric, "span_f1_micro");
    }

    #[test]
    fn what_is_written_resolves_to_the_same() {
        for (task, set) in [
            ("sequence", &["data.protocol=paper"][..]),
            (
                "sequence",
                &["data.protocol=paper", "model.attention=bidirectional"],
            ),
            ("token", &["model.quantization=int8", "data.max_length=32"]),
        ] {
            let model = r#", "classifier_dropout": 0.3"#;
            let run = resolved(task, set, model);
            let text = run.config.to_toml().unwrap();
            let again = RunConfig::from_toml(&text, "", &[]).unwrap();
            assert_eq!(again, run.config);
            let other = LlamaConfig::from_json(
                r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32,
                "num_hidden_layers": 2, "num_attention_heads": 4, "is_causal": false}"#,
                Path::new("config.json"),
            );
            assert_eq!(again.resolve(&other.unwrap()), run);
        }
    }
}
