//! [`BaseModel`]: frozen weights that are in memory once, for the models of any number of adapters,
//! and a batch for several of these in one pass.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::slice::Iter;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use ls_data::{Reading, TextTokenizer};
use ls_lora::host_values;
use ls_model::{
    AttentionMode, ComputeType, ModelError, ModelInput, Precision, SharedDecoder, forward_mixed,
};
use ls_ops::device::on_pool;

use crate::config::Protocol;
use crate::dataset::Dataset;
use crate::error::{Result, TrainError};
use crate::evaluate::{full_in_evaluation, not_finite};
use crate::events::{Event, Observer};
use crate::inference::InferenceSettings;
use crate::model_files::{AdapterFiles, BaseFiles, Opened, Overrides};
use crate::out_of_memory::caught;
use crate::predict::{Encoded, Predictor, full_at_loading};
use crate::run_model::RunModel;
use crate::tensors::model_input;

/// A pretrained decoder for adapters that stand on it together.
pub struct BaseModel {
    files: BaseFiles,
    decoder: SharedDecoder,
    precision: Precision,
    device: Device,
    /// Of its models, by what is in their files and how they read: most have the same one.
    tokenizers: Mutex<HashMap<(String, Reading), TextTokenizer>>,
}

impl BaseModel {
    /// Loads the decoder of a Hugging Face folder. The observer hears how its weights are loaded.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used, or there is no memory for its weights.
    pub fn load(
        model_dir: &Path,
        precision: impl Into<Precision>,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (device, precision) = (device.clone().without_autodiff(), precision.into());
        let files = BaseFiles::open(model_dir)?;
        let loading = |done, total| observer.event(&Event::Loading { done, total });
        let load = || {
            // Each classifier has a mode of its own.
            let mode = AttentionMode::Causal;
            let checkpoint = &files.checkpoint;
            let mut decoder = checkpoint.load_model(&mode, precision.clone(), &device, loading)?;
            ls_lora::tile(&mut decoder);
            Ok::<_, ModelError>(decoder)
        };
        let decoder = caught(load).map_err(full_at_loading)??;
        Ok(Self {
            decoder: SharedDecoder::new(decoder),
            files,
            precision,
            device,
            tokenizers: Mutex::default(),
        })
    }

    /// Loads the decoder in the precision that the model of a PEFT folder answers with.
    ///
    /// # Errors
    ///
    /// As [`BaseModel::load`]; if the settings of the adapter cannot be read.
    pub fn for_adapter(
        model_dir: &Path,
        adapter_dir: &Path,
        overrides: &Overrides,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let saved = InferenceSettings::load(adapter_dir)?;
        let mut precision = saved.map_or(ComputeType::F32.into(), |saved| saved.precision());
        precision.compute = overrides.dtype.unwrap_or(precision.compute);
        Self::load(model_dir, precision, device, observer)
    }

    /// The folder of the decoder.
    pub fn model_dir(&self) -> &Path {
        &self.files.checkpoint.dir
    }

    /// How the weights are held.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }

    /// The best model of a run on these weights, as [`BaseModel::predictor`] has it.
    ///
    /// # Errors
    ///
    /// As [`BaseModel::predictor`]; if the run trained without adapters.
    pub fn predictor_of_run(&self, run: &RunModel) -> Result<Predictor> {
        let Some(adapter) = &run.adapter else {
            let reason = "it was trained without adapters, and answers with weights of its own";
            return Err(TrainError::Settings {
                path: run.model.clone(),
                reason: reason.into(),
            });
        };
        let mut predictor = self.predictor(adapter, &RunModel::overrides(&run.config))?;
        predictor.take_scheme(&run.config);
        Ok(predictor)
    }

    /// The model of a PEFT folder on these weights. It answers as that of
    /// [`Predictor::from_pretrained`] does, and takes the memory of its adapter alone, where
    /// another model has the same tokenizer.
    ///
    /// # Errors
    ///
    /// As [`Predictor::from_pretrained`]; if the adapter was trained on weights of another type or
    /// otherwise packed, or holds a part of the decoder in full.
    pub fn predictor(&self, adapter_dir: &Path, overrides: &Overrides) -> Result<Predictor> {
        let adapter = AdapterFiles::read(adapter_dir)?;
        let mut opened = Opened::read(self.files.clone(), Some(&adapter), overrides)?;
        opened.tokenizer = self.shared(opened.tokenizer);
        let settings = &opened.settings;
        if settings.precision() != self.precision {
            let reason = format!(
                "it answers with weights in {}, and the base model is loaded in {}: its answers \
                 would be others",
                settings.precision(),
                self.precision
            );
            return Err(TrainError::Settings {
                path: adapter_dir.into(),
                reason,
            });
        }
        let model = self.decoder.classifier(
            &opened.config,
            &settings.attention,
            settings.head(&opened.config),
            &adapter.adapter,
            adapter_dir,
            &self.device,
        )?;
        Predictor::new(opened, model, Some(adapter), overrides, self.device.clone())
    }

    /// The tokenizer that another model has, if it is the same.
    fn shared(&self, tokenizer: TextTokenizer) -> TextTokenizer {
        let key = (tokenizer.sha256_of_copy(), tokenizer.reading());
        // Nothing panics while it is held.
        let mut known = self
            .tokenizers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Those of models that are gone go too.
        known.retain(|_, other| other.is_shared());
        match known.get(&key) {
            Some(other) => tokenizer.sharing(other),
            None => {
                known.insert(key, tokenizer.clone());
                tokenizer
            }
        }
    }
}

/// Some of the inputs of a model's examples, to be computed in one pass with those of others.
#[derive(Clone)]
pub struct Share<'a> {
    /// Whose they are.
    pub predictor: &'a Predictor,
    /// The examples.
    pub encoded: &'a Encoded,
    /// Which of their inputs.
    pub inputs: Range<usize>,
}

/// A pass of so many tokens is computed in the kernels' pool, where its operations need not be
/// handed over. Of more the handing over takes no part worth speaking of, while each thread of the
/// pool would keep buffers of the pass for the next.
const FEW_TOKENS: usize = 256;

/// Logits of the inputs of each share, as [`Predictor::answers`] takes them. All are computed in
/// one pass; bit for bit (on the CPU) they are those that each input has alone.
///
/// # Errors
///
/// If the models are not of one [`BaseModel`], or there is no memory for the pass; of a share, if
/// an output of one of its inputs is NaN or infinite.
///
/// # Panics
///
/// If an input is not there.
pub fn logits_of_shares(shares: &[Share<'_>]) -> Result<Vec<Result<Vec<Vec<f32>>>>> {
    // Shares of one model are one part of the pass.
    let of = |at: usize| std::ptr::from_ref(shares[at].predictor);
    let mut order: Vec<usize> = (0..shares.len())
        .filter(|&at| !shares[at].inputs.is_empty())
        .collect();
    order.sort_by_key(|&at| of(at));
    let parts: Vec<&[usize]> = order.chunk_by(|&a, &b| of(a) == of(b)).collect();
    let inputs = parts.iter().map(|part| {
        let inputs = part.iter().map(|&at| shares[at].input());
        Ok(ModelInput::joined(&inputs.collect::<Result<Vec<_>>>()?))
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let models = parts.iter().map(|part| &shares[part[0]].predictor.model);
    let batch: Vec<_> = models.zip(&inputs).collect();
    let compute = || {
        let logits = forward_mixed(&batch)?.into_iter();
        Ok::<_, ModelError>(logits.map(host_values).collect::<Vec<_>>())
    };
    let tokens: usize = inputs.iter().map(ModelInput::tokens).sum();
    let computed = match shares.first() {
        Some(share) if tokens <= FEW_TOKENS => on_pool(&share.predictor.device, || caught(compute)),
        _ => caught(compute),
    };
    let rows: usize = inputs.iter().map(ModelInput::batch_size).sum();
    let computed = computed.map_err(|full| full_in_evaluation(full, rows))??;

    let mut all: Vec<_> = shares.iter().map(|_| Ok(Vec::new())).collect();
    for ((part, input), values) in parts.iter().zip(&inputs).zip(&computed) {
        let (mut seen, mut values) = (input.lengths.iter(), values.as_slice());
        for &at in *part {
            all[at] = shares[at].logits(&mut seen, &mut values);
        }
    }
    Ok(all)
}

impl Share<'_> {
    fn dataset(&self) -> &Dataset {
        // Without one there are no inputs.
        self.encoded
            .dataset
            .as_ref()
            .expect("an input that is there")
    }

    fn input(&self) -> Result<ModelInput> {
        let of = self.predictor;
        let options = of.settings.batch_options(of.settings.batch_size, true);
        let indices: Vec<usize> = self.inputs.clone().collect();
        let batch = self.dataset().batch(&indices, &options)?;
        model_input(&batch, &of.config, of.settings.not_pooled(), &of.device)
    }

    /// Takes the logits of the share's inputs off the front of those of its part.
    fn logits(&self, seen: &mut Iter<'_, usize>, values: &mut &[f32]) -> Result<Vec<Vec<f32>>> {
        let dataset = self.dataset();
        let labels = self.predictor.model.num_labels();
        let mut rows = Vec::with_capacity(self.inputs.len());
        for index in self.inputs.clone() {
            let seen = seen.next().copied().unwrap_or_default();
            rows.push(dataset.logits_of_input(index, seen, labels, values));
        }
        // Where it comes from takes a pass to see: of the first one alone.
        let is_fault = |value: &&f32| !value.is_finite();
        let mut faults = self.inputs.clone().zip(&rows);
        let fault = faults.find_map(|(index, row)| Some((index, *row.iter().find(is_fault)?)));
        if let Some((index, value)) = fault {
            let (pass, model) = (self.predictor.pass(Protocol::Strict), &self.predictor.model);
            return Err(not_finite(model, dataset, pass, &[index], value)?);
        }
        Ok(rows.into_iter().map(<[f32]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::RunConfig;
    use crate::dataset::Examples;
    use crate::train;
    use ls_data::{SequenceExample, TokenExample};

    fn base_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model")
    }

    /// The best adapter of a run of a few steps.
    fn trained(dir: &Path, name: &str, task: &str, set: &[&str]) -> PathBuf {
        let rows = match task {
            "sequence" => "text\tlabel\nthe film was good\ta\na sad play\tb\n".repeat(6),
            _ => "Ann\tB-PER\nmet\tO\nJo\tB-PER\nDoe\tI-PER\n\n".repeat(6),
        };
        let ending = if task == "sequence" { "tsv" } else { "conll" };
        let data = dir.join(format!("{name}.{ending}"));
        std::fs::write(&data, rows).unwrap();
        let text = format!(
            "task = {task:?}\nmodel.path = {:?}\ndata.train = {data:?}\n\
             data.validation = {data:?}\ndata.cache = false\ntrain.epochs = 1\n\
             train.learning_rate = 1e-2\n",
            base_dir()
        );
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        let config = RunConfig::from_toml(&text, "", &set).unwrap();
        let run = dir.join(name);
        train(&config, &run, &Device::flex(), &mut ()).unwrap();
        run.join("best")
    }

    fn texts(texts: &[&str]) -> Examples {
        let example = |text: &&str| SequenceExample {
            text: text.to_string(),
            text_pair: None,
            label: None,
            line: 1,
            extra: None,
        };
        Examples::Sequence(texts.iter().map(example).collect())
    }

    fn sentences(sentences: &[&[&str]]) -> Examples {
        let example = |words: &&[&str]| TokenExample {
            tokens: words.iter().map(ToString::to_string).collect(),
            tags: None,
            line: 1,
            extra: None,
        };
        Examples::Token(sentences.iter().map(example).collect())
    }

    #[test]
    fn models_on_one_base_answer_together_as_each_does_alone() {
        let dir = tempfile::tempdir().unwrap();
        let long = "a long and winding tale of a town that never sleeps and of its people";
        let short = "data.max_length=8";
        let windows = "data.long_inputs=window";
        let models = [
            ("last", "sequence", vec!["train.seed=1"]),
            (
                "mean",
                "sequence",
                vec!["model.pooling=mean", "model.attention=bidirectional"],
            ),
            (
                "read",
                "sequence",
                vec!["model.attention=from:1", "lora.r=3", short, windows],
            ),
            ("dora", "sequence", vec!["lora.use_dora=true"]),
            (
                "tags",
                "token",
                vec!["model.attention=bidirectional", short],
            ),
        ];
        let base =
            BaseModel::load(&base_dir(), ComputeType::F32, &Device::flex(), &mut ()).unwrap();
        let overrides = Overrides::default();
        let (mut shared, mut alone) = (Vec::new(), Vec::new());
        for (name, task, set) in &models {
            let best = trained(dir.path(), name, task, set);
            shared.push(base.predictor(&best, &overrides).unwrap());
            let (model, device) = (base_dir(), Device::flex());
            let best = Some(&*best);
            alone.push(
                Predictor::from_pretrained(&model, best, &overrides, &device, &mut ()).unwrap(),
            );
        }
        // Of the first model twice, of another with nothing to read among the texts, or alone.
        let requests = [
            (0, texts(&["good", "a very sad film", ""])),
            (
                4,
                sentences(&[
                    &["Ann", "met", "Élodie", "Doe", "and", "Jo", "in", "Paris"],
                    &["Jo"],
                ]),
            ),
            (2, texts(&[long, "short", long])),
            (0, texts(&[long])),
            (1, texts(&[long, "sad", "\u{1F600} fine"])),
            (1, texts(&["  "])),
            (3, texts(&["good", long])),
        ];
        let path = Path::new("request");
        let encoded: Vec<Encoded> = requests
            .iter()
            .map(|(of, examples)| shared[*of].encode(path, examples).unwrap())
            .collect();
        assert!(encoded[2].lengths().len() > 3, "no text is read in windows");
        // All inputs in one pass, and in passes that take a request apart.
        for inputs_at_once in [usize::MAX, 1, 2] {
            let mut logits = vec![Vec::new(); requests.len()];
            let most = encoded.iter().map(|one| one.lengths().len()).max().unwrap();
            let mut start = 0;
            while start < most {
                let end = start.saturating_add(inputs_at_once);
                let shares = requests.iter().zip(&encoded).map(|((of, _), encoded)| {
                    let count = encoded.lengths().len();
                    Share {
                        predictor: &shared[*of],
                        encoded,
                        inputs: start.min(count)..end.min(count),
                    }
                });
                let computed = logits_of_shares(&shares.collect::<Vec<_>>()).unwrap();
                for (all, some) in logits.iter_mut().zip(computed) {
                    all.extend(some.unwrap());
                }
                start = end;
            }
            for (((of, examples), encoded), logits) in requests.iter().zip(&encoded).zip(&logits) {
                let together = shared[*of].answers(examples, encoded, logits).unwrap();
                let expected = alone[*of].predict(path, examples, |_| ()).unwrap();
                assert_eq!(together.objects, expected.objects, "{}", models[*of].0);
                assert_eq!(together.unreadable, expected.unreadable);
            }
        }
    }

    #[test]
    fn models_that_read_alike_have_one_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let base =
            BaseModel::load(&base_dir(), ComputeType::F32, &Device::flex(), &mut ()).unwrap();
        let first = trained(dir.path(), "first", "sequence", &[]);
        let second = trained(dir.path(), "second", "sequence", &["train.seed=2"]);
        let parse = Overrides {
            special_tokens: Some(ls_data::SpecialTokensAs::Parse),
            ..Overrides::default()
        };
        let load = |best: &Path, overrides: &Overrides| base.predictor(best, overrides).unwrap();
        let usual = Overrides::default();
        let [one, two, other] = [
            load(&first, &usual),
            load(&second, &usual),
            load(&second, &parse),
        ];
        assert!(one.tokenizer.shares_with(&two.tokenizer));
        assert!(!one.tokenizer.shares_with(&other.tokenizer));
        // Nothing stays of models that are gone.
        drop((one, two, other));
        let kept = load(&first, &usual);
        assert!(kept.tokenizer.is_shared());
        assert_eq!(base.tokenizers.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_adapter_that_was_trained_on_other_weights_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let best = trained(
            dir.path(),
            "packed",
            "sequence",
            &["model.quantization=int8"],
        );
        let load = |precision: Precision| {
            let base = BaseModel::load(&base_dir(), precision, &Device::flex(), &mut ()).unwrap();
            base.predictor(&best, &Overrides::default())
        };
        let error = load(ComputeType::F32.into()).err().unwrap().to_string();
        assert!(
            error.contains("f32 packed as int8, and") && error.contains("in f32:"),
            "{error}"
        );
        let packed = Precision {
            quantization: Some(ls_lora::Quantization::Int8),
            ..ComputeType::F32.into()
        };
        assert!(load(packed).is_ok());
        assert!(logits_of_shares(&[]).unwrap().is_empty());
    }
}
