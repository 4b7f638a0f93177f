//! Prints the logits that a classifier's folder gives for token ids.
//!
//! `cargo run -p ls-model --example classify FOLDER ID...`
//!
//! The folder is what `save_pretrained` of transformers writes for a `...ForSequenceClassification`
//! or a `...ForTokenClassification`; the ids are those of its tokenizer.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::Device;
use ls_lora::host_values;
use ls_model::{Checkpoint, ComputeType, ModelInput, Pooling, Task};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: classify FOLDER ID...")?;
    let ids = arguments
        .map(|id| id.parse())
        .collect::<Result<Vec<u32>, _>>()?;

    let device = Device::flex();
    let checkpoint = Checkpoint::open(&PathBuf::from(folder))?;
    let config = &checkpoint.config;
    let class = config.raw.get("architectures");
    let class = class.and_then(|names| names.get(0)?.as_str());
    let task = if class.is_some_and(|class| class.ends_with("ForTokenClassification")) {
        Task::Token { dropout: 0.0 }
    } else {
        Task::Sequence(Pooling::Last)
    };
    let model = checkpoint.load_classifier(&config.attention(), task, ComputeType::F32, &device)?;
    let input = ModelInput::new(&[&ids], config, &device)?;
    // A row for the text, or one for each of its tokens.
    let logits = host_values(model.forward(&input));

    if let Some(labels) = &config.labels {
        println!("{}", labels.join("\t"));
    }
    for row in logits.chunks(model.num_labels()) {
        let row: Vec<String> = row.iter().map(|logit| format!("{logit:.6}")).collect();
        println!("{}", row.join("\t"));
    }
    Ok(())
}
