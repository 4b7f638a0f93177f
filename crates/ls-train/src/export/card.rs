//! The model card of an exported model: how it is loaded, what it scored on which data, how it was
//! trained, and where its answers end. What stands between the dashes is for the Hub.

use std::fmt::Write;
use std::path::Path;

use ls_data::{
    ColumnRef, LabelPosition, LongInputs, SequenceColumns, TaskKind, TextTokenizer, WordsAs,
};
use ls_files::Dtype;
use ls_lora::LoraConfig;
use ls_model::rope::RopeScaling;
use ls_model::{AttentionMode, ComputeType, LlamaConfig};
use serde_json::{Value, json};

use super::scores::Measured;
use crate::card::{answers_line, mask, problem_line, words_read};
use crate::config::{ClassWeight, Files, Protocol, RunConfig};
use crate::inference::InferenceSettings;
use crate::problem::Problem;
use crate::whole::{class, pad_token_id, pipeline_tag};

/// A run that is handed over, with all that decides how.
pub(super) struct Handed<'a> {
    /// Its configuration.
    pub config: &'a RunConfig,
    /// How its answers are read.
    pub settings: InferenceSettings,
    /// What its head is divided by, where a temperature was fitted.
    pub temperature: Option<f32>,
    /// Its tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// The configuration of its decoder.
    pub decoder: &'a LlamaConfig,
    /// Its report.
    pub report: Value,
    /// The scores in it.
    pub measured: Measured,
    /// The name of the base model on the Hub.
    pub base: Option<&'a str>,
    /// The name of the folder.
    pub name: String,
    /// Why the classes of transformers would answer otherwise.
    pub no_counterpart: Vec<String>,
}

/// What a card is of.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A whole model with weights of this type.
    Whole(Dtype),
    /// An adapter.
    Adapter(&'a LoraConfig),
}

impl Handed<'_> {
    /// The text of the card.
    pub(super) fn card(&self, kind: Kind<'_>) -> String {
        let settings = &self.settings;
        let what = match settings.task {
            TaskKind::Sequence if settings.problem() == Problem::Regression => {
                "model that gives texts a number"
            }
            TaskKind::Sequence => "classifier of texts",
            TaskKind::Token => "tagger of words",
        };
        let form = match kind {
            Kind::Whole(_) => "as one model",
            Kind::Adapter(_) => "as a LoRA adapter with its head",
        };
        let mut card = self.metadata(kind);
        card += &format!(
            "\n# {}\n\nA {what} on {}, fine-tuned with ls-llama and written {form}.\n\n",
            self.name,
            self.linked_base()
        );
        card += &self.labels();
        card += "\n## How to use it\n\n";
        card += &match kind {
            Kind::Adapter(lora) => self.with_peft(lora),
            Kind::Whole(_) if self.no_counterpart.is_empty() => self.with_pipeline(),
            Kind::Whole(_) => self.with_classifier(),
        };
        card += &self.scored();
        card += &self.data();
        card += &self.configuration(kind);
        card += &self.limits(kind);
        card
    }

    /// The base model, as a link where the Hub has it.
    fn linked_base(&self) -> String {
        match self.base {
            Some(base) => format!("[{base}](https://huggingface.co/{base})"),
            None => format!("`{}`", self.settings.base_model.display()),
        }
    }

    // --- between the dashes ---

    fn metadata(&self, kind: Kind<'_>) -> String {
        let task = pipeline_tag(self.settings.task);
        let mut yaml = "---\n".to_owned();
        let mut tags = vec!["ls-llama".to_owned()];
        let (library, relation) = match kind {
            Kind::Adapter(_) => ("peft", "adapter"),
            Kind::Whole(_) => ("transformers", "finetune"),
        };
        if let Some(base) = self.base {
            yaml += &format!(
                "base_model: {}\nbase_model_relation: {relation}\n",
                quoted(base)
            );
        }
        if matches!(kind, Kind::Adapter(_)) {
            tags.push("lora".into());
        }
        if let Some((_, Some(id))) = self.known_data() {
            yaml += &format!("datasets:\n- {}\n", quoted(&id));
        }
        yaml += &format!("library_name: {library}\npipeline_tag: {task}\n");
        if !self.no_counterpart.is_empty() {
            // The Hub would answer with transformers' own classes.
            yaml += "inference: false\n";
        }
        yaml += "tags:\n";
        for tag in tags {
            yaml += &format!("- {tag}\n");
        }
        let mut metrics: Vec<&str> = self
            .measured
            .scores
            .iter()
            .map(|score| score.metric)
            .collect();
        metrics.sort_unstable();
        metrics.dedup();
        yaml += "metrics:\n";
        for metric in metrics {
            yaml += &format!("- {metric}\n");
        }
        yaml + &self.model_index() + "---\n"
    }

    /// The scores as the Hub reads them.
    fn model_index(&self) -> String {
        let task = pipeline_tag(self.settings.task);
        let (name, kind) = match self.known_data() {
            Some((title, id)) => {
                // A description of one's own goes by the name of its file, not by its path.
                let name = self.config.data.known().map(|known| known.name.clone());
                (title, id.or(name).unwrap_or_default())
            }
            None => {
                let files = self.reported_files();
                let ending = Path::new(&files).extension();
                let ending = ending.map(|ending| ending.to_string_lossy().into_owned());
                let format = self.config.data.format.clone().or(ending);
                (files, format.unwrap_or_else(|| "text".into()))
            }
        };
        let mut yaml = format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: {task}\n    dataset:\n      \
             name: {}\n      type: {}\n      split: {}\n    metrics:\n",
            quoted(&self.name),
            quoted(&name),
            quoted(&kind),
            quoted(&self.split())
        );
        for score in &self.measured.scores {
            yaml += &format!(
                "    - type: {}\n      value: {}\n      name: {}\n",
                score.metric,
                json!((score.value * 1e6).round() / 1e6),
                quoted(&score.title)
            );
        }
        yaml
    }

    // --- how it is loaded ---

    fn labels(&self) -> String {
        let mut table = "| id | label |\n|---|---|\n".to_owned();
        for (id, label) in self.settings.labels.names().iter().enumerate() {
            table += &format!("| {id} | {} |\n", in_cell(label));
        }
        table
    }

    fn with_pipeline(&self) -> String {
        match self.settings.task {
            TaskKind::Sequence => {
                let truncation = match self.settings.long_inputs {
                    LongInputs::Truncate | LongInputs::Tail => "",
                    _ => "  # ls-llama reads long texts otherwise: see the limits",
                };
                let texts = match self.text_pair() {
                    Some(_) => {
                        "{\"text\": \"a text\", \"text_pair\": \"the one it is paired with\"}"
                    }
                    None => "\"a text\", \"another\"",
                };
                format!(
                    "```python\nfrom transformers import pipeline\n\n\
                     classify = pipeline(\"text-classification\", model={}, truncation=True)\
                     {truncation}\n\
                     classify([{texts}], batch_size=8, top_k=None)\n```\n\n\
                     `AutoModelForSequenceClassification` and `AutoTokenizer` load it as well. \
                     Batches are padded with `{}`, which no text gives, so an answer does not depend \
                     on its batch. With ls-llama: `{}`.\n",
                    quoted(&self.name),
                    self.settings.pad_token,
                    self.predict("--model .")
                )
            }
            TaskKind::Token => self.with_token_pipeline(),
        }
    }

    fn with_token_pipeline(&self) -> String {
        let settings = &self.settings;
        let (call, joined) = match settings.words {
            WordsAs::Text => ("tag(\" \".join(words))", "joined by single spaces"),
            WordsAs::Split => (
                "tag([words], is_split_into_words=True)[0]",
                "each encoded by itself (`is_split_into_words=True`)",
            ),
        };
        // A token of a space alone ends where its word begins.
        let (inside, at, which) = match settings.label_position {
            LabelPosition::First | LabelPosition::All => (
                "start <= t[\"end\"] <= end",
                "0",
                "first sub-word, which may be the space in front of it alone",
            ),
            LabelPosition::FirstVisible => (
                "start <= t[\"end\"] <= end and t[\"word\"].strip(\"▁Ġ \")",
                "0",
                "first sub-word that is more than a space",
            ),
            LabelPosition::Last => ("start < t[\"end\"] <= end", "-1", "last sub-word"),
        };
        format!(
            "```python\nfrom transformers import pipeline\n\n\
             tag = pipeline(\"token-classification\", model={}, ignore_labels=[])\n\
             words = [\"Ada\", \"met\", \"Alan\", \"in\", \"Paris\"]\n\
             tokens = {call}  # an answer for each sub-word\n\
             start = 0\n\
             for word in words:\n    \
                 end = start + len(word)\n    \
                 inside = [t for t in tokens if {inside}]\n    \
                 if inside:\n        \
                 token = inside[{at}]\n        \
                 print(word, token[\"entity\"], token[\"score\"])\n    \
                 else:\n        \
                 print(word, \"has no answer: it was cut off\")\n    \
                 start = end + 1\n```\n\n\
             Words are {joined}, and the tag of a word is that of its {which} \
             (`label_position = \"{}\"`): the loop above picks it. The pipeline's own \
             `aggregation_strategy` chooses by other rules (`\"first\"` is the nearest), so its groups \
             may differ from the entities of ls-llama. `AutoModelForTokenClassification` loads the \
             folder as well. With ls-llama: `{}`.\n",
            quoted(&self.name),
            name_of(&settings.label_position),
            self.predict("--model .")
        )
    }

    fn with_classifier(&self) -> String {
        let input = match (self.settings.task, self.text_pair()) {
            (TaskKind::Sequence, Some(_)) => "(\"a text\", \"the one it is paired with\")",
            (TaskKind::Sequence, None) => "\"a text\", \"another\"",
            (TaskKind::Token, _) => "[\"Ada\", \"met\", \"Alan\"]",
        };
        let mut text =
            "The classes of transformers would load this folder and **answer otherwise**:\n\n"
                .to_owned();
        for reason in &self.no_counterpart {
            text += &format!("- {reason}\n");
        }
        text + &format!(
            "\nThe file `classifier.py` runs it with torch and transformers, without \
             `trust_remote_code`:\n\n```python\nimport sys\n\nsys.path.insert(0, {folder})\n\
             import classifier\n\nmodel = classifier.load({folder})\nmodel.predict([{input}])\n```\n\n\
             With ls-llama: `{predict}`.\n",
            folder = quoted(&self.name),
            predict = self.predict("--model .")
        )
    }

    fn with_peft(&self, lora: &LoraConfig) -> String {
        let auto = match self.settings.task {
            TaskKind::Sequence => "AutoModelForSequenceClassification",
            TaskKind::Token => "AutoModelForTokenClassification",
        };
        let task = self.settings.task;
        let ours = format!(
            "With ls-llama: `{}`.\n",
            self.predict("--model BASE --adapter .")
        );
        if class(self.decoder, task).is_none() {
            return format!("transformers has no class for this task. {ours}");
        }
        let base = lora.base_model_name_or_path.as_deref().unwrap_or_default();
        let place = match self.base {
            Some(_) => "",
            None => "  # put here where you have it",
        };
        let labels = self.settings.labels.names();
        let by_id: Vec<String> = labels
            .iter()
            .enumerate()
            .map(|(id, label)| format!("{id}: {}", quoted(label)))
            .collect();
        let pad = pad_token_id(&self.settings, self.tokenizer);
        let pad = pad.map_or_else(|| "None".to_owned(), |id| id.to_string());
        let mut text = format!(
            "An adapter names neither labels nor mask, so both are said here:\n\n```python\n\
             from peft import PeftModel\n\
             from transformers import AutoConfig, {auto}, AutoTokenizer\n\n\
             base = {base}{place}\n\
             labels = {{{labels}}}\n\
             config = AutoConfig.from_pretrained(\n    \
                 base,\n    \
                 id2label=labels,\n    \
                 label2id={{label: id for id, label in labels.items()}},\n    \
                 pad_token_id={pad},\n\
             )\n\
             {problem}{mask}\
             model = {auto}.from_pretrained(base, config=config, dtype=\"float32\")\n\
             model = PeftModel.from_pretrained(model, {folder}).eval()\n\
             tokenizer = AutoTokenizer.from_pretrained({folder})\n```\n\n",
            labels = by_id.join(", "),
            base = quoted(base),
            problem = problem_line(&self.settings),
            mask = mask(self.decoder, &self.settings.attention),
            folder = quoted(&self.name),
        );
        if self.base.is_none() {
            text += "The base model was a folder of that name, and `adapter_config.json` says no more \
                     of it: peft's `AutoPeftModel` classes, which go by that file, find it once \
                     `base_model_name_or_path` there is the folder that you have it in.\n\n";
        }
        if !self.no_counterpart.is_empty() {
            text += "**These classes answer otherwise than ls-llama**:\n\n";
            for reason in &self.no_counterpart {
                text += &format!("- {reason}\n");
            }
            text += "\n`ls-cli export` without `--adapter-only` writes a folder with a Python file \
                     that gives the same answers.\n\n";
        }
        text + &ours
    }

    /// The command of ls-llama.
    fn predict(&self, model: &str) -> String {
        let task = self.settings.task;
        let input = match (task, self.text_pair()) {
            (TaskKind::Sequence, None) => "\"a text\"".to_owned(),
            (TaskKind::Sequence, Some(pair)) => {
                let column = match pair {
                    ColumnRef::Name(name) => name,
                    ColumnRef::Index(_) => "text_pair".into(),
                };
                format!("--input FILE.jsonl --set data.text_pair={column}")
            }
            (TaskKind::Token, _) => "\"Ada met Alan in Paris\"".to_owned(),
        };
        format!("ls-cli predict {model} --task {task} {input}")
    }

    // --- what it was measured on ---

    /// The columns that texts were read from: those of a known data set's form, or of `[data]`.
    fn columns(&self) -> SequenceColumns {
        let data = &self.config.data;
        let form = self.report["form"].as_str();
        let known = data.known();
        let known = known
            .zip(form)
            .and_then(|(known, form)| known.columns(form));
        known.unwrap_or_else(|| SequenceColumns {
            text: data.text.clone(),
            append: data.text_append.clone(),
            text_pair: data.text_pair.clone(),
            ..SequenceColumns::default()
        })
    }

    /// The column of the second text, if it reads pairs.
    fn text_pair(&self) -> Option<ColumnRef> {
        match self.settings.task {
            TaskKind::Sequence => self.columns().text_pair,
            TaskKind::Token => None,
        }
    }

    /// How the text of an example was put together, where it stood in several columns.
    fn joined(&self) -> Option<String> {
        let columns = self.columns();
        if self.settings.task == TaskKind::Token || columns.append.is_empty() {
            return None;
        }
        let all = std::iter::once(&columns.text).chain(&columns.append);
        let all: Vec<String> = all.map(|column| format!("`{column}`")).collect();
        Some(format!(
            "text: the columns {}, joined by {}: put a text together like that before it is given \
             to the model",
            all.join(", "),
            match columns.separator.as_str() {
                " " => "a space".to_owned(),
                other => format!("`{}`", quoted(other)),
            }
        ))
    }

    /// Title and name on the Hub of a known data set.
    fn known_data(&self) -> Option<(String, Option<String>)> {
        let known = self.config.data.known()?;
        let id = known.hub.first().map(|source| source.repo.clone());
        let title = if known.title.is_empty() {
            known.name.clone()
        } else {
            known.title.clone()
        };
        Some((title, id))
    }

    /// The split that is reported, by the name that it was published under.
    fn split(&self) -> String {
        let field = |key: &str| self.report[key].as_str();
        let name = field("published_split").or(field("reported_split"));
        name.unwrap_or("test").to_owned()
    }

    /// The files of a split, where it has some of its own: as [`Sources`](crate::sources::Sources)
    /// has them.
    fn files_of(&self, split: &str) -> Option<&Files> {
        let data = &self.config.data;
        match split {
            "train" => data.train.as_ref(),
            "validation" if data.fold.is_some() => None,
            "validation" if data.protocol == Protocol::Paper && data.test.is_some() => {
                data.test.as_ref()
            }
            "validation" => data.validation.as_ref(),
            _ => data.test.as_ref(),
        }
    }

    /// The names of the files of the reported split, without their folders.
    fn reported_files(&self) -> String {
        let split = self.report["reported_split"].as_str().unwrap_or("test");
        let files = self.files_of(split).or(self.files_of("train"));
        files.map_or_else(String::new, names)
    }

    fn scored(&self) -> String {
        let examples = &self.report["cut"][self.report["reported_split"].as_str().unwrap_or("")];
        let examples = examples["examples"].as_u64().unwrap_or(0);
        let mut text = format!(
            "\n## Scores\n\nOn the {} split, {examples} examples:\n\n| score | value | 95% interval \
             |\n|---|---|---|\n",
            self.split()
        );
        for score in &self.measured.scores {
            let interval = score.interval.map_or("-".to_owned(), |interval| {
                format!("{:.4} to {:.4}", interval.low, interval.high)
            });
            let _ = writeln!(
                text,
                "| {} | {:.4} | {interval} |",
                score.title, score.value
            );
        }
        let baselines = self.report["baselines"].as_array();
        let of = |baseline: &Value| {
            let name = baseline["name"].as_str()?.to_owned();
            let scores = serde_json::from_value(baseline["scores"].clone()).ok()?;
            let scores: crate::scores::Scores = scores;
            let key = self.report["metric"].as_str()?;
            Some(format!("{name} {:.4} ({key})", scores.get(key)?))
        };
        let baselines: Vec<String> = baselines.into_iter().flatten().filter_map(of).collect();
        if let Some(resamples) = self.measured.resamples {
            let _ = writeln!(
                text,
                "\nThe intervals are those of {resamples} resamples of the examples: they say how \
                 sure the scores are of these examples, not of other data or another seed."
            );
        } else {
            text += "\nThere are no intervals: the run's predictions are not there, or were scored by \
                     another protocol.\n";
        }
        if !baselines.is_empty() {
            let _ = writeln!(text, "\nBeside it: {}.", baselines.join(", "));
        }
        let protocol = match self.report["protocol"].as_str() {
            Some("paper") => {
                "`paper`, as the published code of arXiv 2310.01208 measures: words past the longest \
                 input are not scored"
            }
            _ => "`strict`: every word and every text is scored",
        };
        let chose = match self.report["reported_split_chose"].as_bool() {
            Some(true) => {
                "The split that is reported also chose the checkpoint, so the scores are a little \
                 too good"
            }
            _ => "Another split chose the checkpoint",
        };
        let fitted = match self.report["reported_split_fitted"].as_bool() {
            Some(true) => {
                " The thresholds of the labels were fitted to it as well, which favours every score \
                 but the average precisions."
            }
            _ => "",
        };
        let chose_it = self.report["reported_split_chose"] == true;
        let tempered = match self.temperature {
            Some(_) if chose_it => {
                " The temperature of the probabilities was fitted to it as well, which favours \
                 log-loss and calibration."
            }
            _ => "",
        };
        let _ = writeln!(text, "\nProtocol {protocol}. {chose}.{fitted}{tempered}");
        text
    }

    fn data(&self) -> String {
        let mut text = "\n## Data\n\n".to_owned();
        if let Some((title, id)) = self.known_data() {
            text += &match id {
                Some(id) => format!("[{title}](https://huggingface.co/datasets/{id})"),
                None => title,
            };
            if let Some(form) = self.report["form"].as_str() {
                text += &format!(", read from {form}");
            }
            text += "\n\n";
        }
        text += "| split | examples | files |\n|---|---|---|\n";
        for split in ["train", "validation", "test"] {
            let examples = &self.report["cut"][split]["examples"];
            let Some(examples) = examples.as_u64() else {
                continue;
            };
            let files = self.files_of(split).map(names);
            let files = files.unwrap_or_else(|| match (split, self.known_data()) {
                ("validation", None) => "a part of train".into(),
                ("validation", _) if self.config.data.fold.is_some() => "a part of train".into(),
                _ => "-".into(),
            });
            let _ = writeln!(text, "| {split} | {examples} | {} |", in_cell(&files));
        }
        text
    }

    fn configuration(&self, kind: Kind<'_>) -> String {
        let (settings, config) = (&self.settings, self.config);
        let train = &config.train;
        let mut lines = vec![format!("attention: `{}`", settings.attention)];
        if let Some(pooling) = settings.pooling {
            lines.push(format!("pooling: `{pooling}`"));
        }
        lines.push(format!(
            "longest input: {} tokens; longer ones: `{}`",
            settings.max_length,
            name_of(&settings.long_inputs)
        ));
        if self.text_pair().is_some() {
            lines.push("input: a pair of texts".into());
        }
        lines.extend(self.joined());
        match &config.lora {
            Some(lora) => lines.push(format!(
                "LoRA: r {}, lora_alpha {}, lora_dropout {}, use_rslora {}, use_dora {}, on {}",
                lora.r,
                lora.lora_alpha,
                lora.lora_dropout,
                lora.use_rslora,
                lora.use_dora,
                lora.target_modules
                    .as_ref()
                    .map_or_else(|| "-".into(), |targets| shown(&json!(targets)))
            )),
            None => lines.push(match &train.layers {
                Some(layers) => format!("trained in full: layers {layers} and the head"),
                None => "trained in full: every weight".into(),
            }),
        }
        let held = match config.model.quantization {
            Some(packed) => format!("`{}`", name_of(&packed)),
            None => format!("`{}`", name_of(&config.model.dtype)),
        };
        lines.push(format!("frozen weights in training: {held}"));
        let at_most = train.early_stopping_patience.map_or("", |_| "at most ");
        lines.push(format!(
            "{at_most}{} epochs, {} optimizer steps in all, learning rate {}, weight decay {}, seed {}; the \
             checkpoint of step {} by {}",
            train.epochs,
            self.report["steps"],
            train.learning_rate,
            train.weight_decay,
            train.seed,
            self.report["best"]["step"],
            self.report["metric"].as_str().unwrap_or("-")
        ));
        lines.push(format!(
            "parameters: {} train, of {}",
            self.report["trainable_parameters"], self.report["all_parameters"]
        ));
        if let Kind::Whole(dtype) = kind {
            lines.push(format!("weights here: {dtype}"));
        }
        lines.push(format!(
            "ls-llama {}",
            self.report["version"].as_str().unwrap_or("-")
        ));
        let weights = match &train.class_weight {
            None => String::new(),
            Some(ClassWeight::Named(_)) => ", class_weight `balanced`".into(),
            Some(ClassWeight::Table(table)) => format!(", class_weight {}", json!(table)),
        };
        if !weights.is_empty() || train.label_smoothing_factor + train.focal_gamma > 0.0 {
            lines.push(format!(
                "loss: label_smoothing_factor {}, focal_gamma {}{weights}",
                train.label_smoothing_factor, train.focal_gamma
            ));
        }
        let mut text = "\n## Configuration\n\n".to_owned();
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
        if settings.task == TaskKind::Token {
            text += &words_read(settings);
        }
        if let Some(temperature) = self.temperature {
            let _ = writeln!(
                text,
                "- temperature: the head is divided by {temperature}, which was fitted to the \
                 validation split, so that probabilities say how often they are right"
            );
        }
        text + &answers_line(settings)
    }

    fn limits(&self, kind: Kind<'_>) -> String {
        let settings = &self.settings;
        let answers = match settings.problem() {
            Problem::Regression => "It answers with a number",
            Problem::MultiLabel => "It knows the labels above and answers with any number of them",
            _ => "It knows the labels above and answers with one of them",
        };
        let mut lines = vec![format!(
            "{answers} to any text, also to one that is of another kind or language than those it \
             learned from."
        )];
        let most = settings.max_length;
        lines.push(match (settings.task, settings.long_inputs) {
            (TaskKind::Token, LongInputs::Window) => format!(
                "Sentences over {most} tokens: ls-llama reads them in windows and labels each word \
                 where it has most context. The pipeline cuts them, unless it is given \
                 `aggregation_strategy=\"first\", stride={}`.",
                settings.stride.unwrap_or(most / 4)
            ),
            (_, LongInputs::Window) => format!(
                "Texts over {most} tokens: ls-llama reads them in windows and takes the mean; other \
                 programs cut them."
            ),
            (_, LongInputs::HeadTail) => format!(
                "Of texts over {most} tokens ls-llama keeps both ends; pipelines keep the beginning."
            ),
            (_, LongInputs::Tail) => format!("Of texts over {most} tokens the end is read."),
            (_, LongInputs::Truncate) => format!("Only the first {most} tokens are read."),
        });
        if let Kind::Whole(dtype) = kind {
            lines.push(match dtype {
                Dtype::F32 => {
                    let of = match self.config.model.dtype {
                        // A GPU multiplies such weights in bf16, transformers and the CPU in f32.
                        ComputeType::Bf16 => "`ls-cli predict` on a CPU",
                        ComputeType::F32 => "ls-llama",
                    };
                    format!(
                        "The weights are f32, and the probabilities those of {of} to about 1e-6. In \
                         another type (`dtype=`) they move a little."
                    )
                }
                _ => format!(
                    "The weights were rounded to {dtype}, which moves probabilities a little: an \
                     export with `--dtype f32` does not."
                ),
            });
            if self.config.model.quantization.is_some() {
                lines.push(
                    "The frozen weights were packed in training. Here stand the values that they \
                     unpack to, with which the adapter was trained, not those of the base model."
                        .into(),
                );
            }
        }
        if let (Kind::Adapter(_), Some(packed)) = (kind, self.config.model.quantization) {
            let packed = name_of(&packed);
            lines.push(format!(
                "The base model was packed (`{packed}`) in training and in scoring; on unpacked \
                 weights answers move a little. `ls-cli export` without `--adapter-only` writes the \
                 weights that the adapter was trained on."
            ));
        }
        if settings.attention == AttentionMode::Bidirectional && self.no_counterpart.is_empty() {
            lines.push(
                "`\"is_causal\": false` in config.json removes the causal mask. transformers 5.23 \
                 heeds it, and a program that does not gives \
                 other answers without a warning."
                    .into(),
            );
        }
        if let Some(most) = length_of_rope(self.decoder).filter(|most| settings.max_length > *most)
        {
            lines.push(format!(
                "The rotary embedding goes by the length of an input over {most} tokens: ls-llama \
                 takes each text's own, transformers the longest of the batch, so answers are equal \
                 in batches of one."
            ));
        }
        lines.push("The terms of the base model and of the data hold for this model too.".into());
        lines.push("There is no ONNX file: ls-llama does not write any.".into());
        let mut text = "\n## Limits\n\n".to_owned();
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

/// The number of tokens from which on the rotary embedding goes by the length of an input, if it
/// does.
fn length_of_rope(decoder: &LlamaConfig) -> Option<usize> {
    decoder
        .rope
        .iter()
        .flatten()
        .find_map(|rope| match &rope.scaling {
            RopeScaling::Dynamic { .. } => Some(decoder.max_position_embeddings),
            RopeScaling::LongRope {
                original_max_position_embeddings,
                ..
            } => Some(*original_max_position_embeddings as usize),
            _ => None,
        })
}

/// The names of files, without their folders.
fn names(files: &Files) -> String {
    let names = files.paths().iter().filter_map(|path| path.file_name());
    let names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.join(", ")
}

/// The name of a choice, as a configuration has it.
fn name_of(choice: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(choice).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// A JSON value for people.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => format!("`{other}`"),
    }
}

/// A text in the cell of a table.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A JSON string is a YAML string, and for what stands in names a Python string too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
