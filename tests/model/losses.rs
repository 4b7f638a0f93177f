//! Loss and gradient of every kind of label equal those of transformers and torch
//! (`fixtures/losses/make.py`).

use std::path::{Path, PathBuf};

use ls_data::TaskKind;
use ls_files::{HostTensor, TensorFile, write_tensors};
use ls_lora::PeftAdapter;
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, ModelInput, Pooling,
    ProblemType, Task,
};
use ls_ops::device::of_tests;
use ls_train::Problem;
use ls_train::loss::{Objective, Targets};
use serde::Deserialize;

use crate::golden::{Expected, check_loss};

/// Relative.
const LOSS: f32 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    task: TaskKind,
    problem_type: Option<ProblemType>,
    num_labels: usize,
    class_weight: Option<Vec<f32>>,
    #[serde(default)]
    label_smoothing_factor: f64,
    #[serde(default)]
    focal_gamma: f64,
    input_ids: Vec<Vec<u32>>,
    labels: serde_json::Value,
}

impl Case {
    fn objective(&self) -> Objective {
        let problem = Problem::of(self.task, self.problem_type, None);
        Objective {
            problem,
            class_weight: self.class_weight.clone(),
            label_smoothing_factor: self.label_smoothing_factor,
            focal_gamma: self.focal_gamma,
        }
    }

    fn targets(&self) -> Targets {
        let labels = self.labels.clone();
        match self.objective().problem {
            Problem::Tags(_) => {
                let rows: Vec<Vec<i64>> = serde_json::from_value(labels).unwrap();
                Targets::Classes(rows.concat())
            }
            Problem::SingleLabel => Targets::Classes(serde_json::from_value(labels).unwrap()),
            Problem::MultiLabel => Targets::Outputs(serde_json::from_value(labels).unwrap()),
            Problem::Regression => {
                let values: Vec<f32> = serde_json::from_value(labels).unwrap();
                Targets::Outputs(values.into_iter().map(|value| vec![value]).collect())
            }
        }
    }

    fn rows(&self) -> Vec<&[u32]> {
        self.input_ids.iter().map(Vec::as_slice).collect()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The model of a case, whose values `file` has, with the configurations of the decoder and of the
/// adapter.
fn model(case: &Case, file: &TensorFile) -> (LlamaClassifier, LlamaConfig, PeftAdapter) {
    let dir = tempfile::tempdir().unwrap();
    let from = match case.task {
        TaskKind::Sequence => "sequence",
        TaskKind::Token => "token",
    };
    let config = fixtures()
        .join("train30")
        .join(from)
        .join("initial_adapter/adapter_config.json");
    std::fs::copy(config, dir.path().join("adapter_config.json")).unwrap();
    let names = file.names().filter(|name| name.starts_with("base_model."));
    let tensors: Vec<(&str, HostTensor)> =
        names.map(|name| (name, file.read(name).unwrap())).collect();
    let of_adapter = dir.path().join("adapter_model.safetensors");
    write_tensors(
        of_adapter,
        tensors.iter().map(|(name, tensor)| (*name, tensor)),
    )
    .unwrap();

    let device = of_tests().autodiff();
    let checkpoint = Checkpoint::open(&fixtures().join("train30/model")).unwrap();
    let (attention, task) = match case.task {
        TaskKind::Sequence => (AttentionMode::Causal, Task::Sequence(Pooling::Last)),
        TaskKind::Token => (AttentionMode::Bidirectional, Task::Token { dropout: 0.0 }),
    };
    let backbone = checkpoint
        .load_model(&attention, ComputeType::F32, &device, |_, _| ())
        .unwrap();
    let adapter = PeftAdapter::load(dir.path()).unwrap();
    let config = checkpoint.config.clone();
    let model =
        LlamaClassifier::with_adapter(backbone, &config, task, &adapter, dir.path(), &device);
    (model.unwrap(), config, adapter)
}

#[test]
fn every_loss_and_its_gradient_are_those_of_the_reference() {
    let text = std::fs::read_to_string(fixtures().join("losses/cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 16);
    for case in &cases {
        let file = fixtures().join(format!("losses/{}.safetensors", case.name));
        let expected = Expected::open(&file);
        let (model, config, adapter) = model(case, &expected.0);
        assert_eq!(model.num_labels(), case.num_labels);
        let input = ModelInput::new(&case.rows(), &config, &of_tests().autodiff()).unwrap();
        let (objective, targets) = (case.objective(), case.targets());
        let sum = objective.sum(model.forward(&input), &targets, &[]);
        let loss = sum.div_scalar(objective.count(&targets));
        let of = (&model, &adapter.config);
        check_loss(&case.name, of, loss, &expected, (LOSS, true));
    }
}
