//! How long each part of a training step takes, with a wait for the device after each part.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::optim::GradientsParams;
use burn::tensor::Device;
use ls_model::{LlamaClassifier, LlamaConfig};
use serde_json::{Map, Value, json};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::timing::median;
use crate::{LEARNING_RATE, Timing, mean_loss, optimizer};

/// The parts in the order of a step. The first three are spans that the forward pass enters
/// (`ls_model::llama`); what comes before a span, such as the norm, counts as part of it.
const PARTS: [&str; 6] = [
    "embedding",
    "attention",
    "mlp",
    "head_and_loss",
    "backward",
    "optimizer",
];

/// Runs training steps and gives the median seconds of each part as a JSON object; `null` of no
/// steps.
///
/// # Errors
///
/// If a batch cannot be made or the device fails.
pub fn profile(
    iterations: usize,
    timing: Timing,
    mut model: LlamaClassifier,
    config: &LlamaConfig,
    device: &Device,
) -> Result<Value> {
    if iterations == 0 {
        return Ok(Value::Null);
    }
    let labels = timing.labels(&model);
    let mut optimizer = optimizer(&model);
    let mut seconds = PARTS.map(|_| Vec::with_capacity(iterations));
    for at in 0..iterations {
        let clock = Arc::new(Clock::start(device));
        let input = timing.batch(at, config, device)?;
        let forward = || model.forward(&input);
        let logits = tracing::subscriber::with_default(clock.clone(), forward);
        let loss = mean_loss(logits, &labels);
        clock.end_part(3)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        clock.end_part(4)?;
        let gradient = optimizer.gradient(&model, gradients);
        (model, _) = optimizer.step(model, gradient, LEARNING_RATE);
        for (seconds, part) in seconds.iter_mut().zip(clock.end_part(5)?) {
            seconds.push(part);
        }
    }
    let parts = PARTS.into_iter().zip(&seconds);
    let medians = parts.map(|(part, seconds)| (part.to_string(), json!(median(seconds))));
    Ok(Value::Object(medians.collect::<Map<_, _>>()))
}

/// Sums the seconds of each part of one step. As a subscriber it ends a part when its span ends.
struct Clock {
    device: Device,
    /// The end of the last part, and the seconds of each.
    state: Mutex<(Instant, [f64; PARTS.len()])>,
}

impl Clock {
    fn start(device: &Device) -> Self {
        Self {
            device: device.clone(),
            state: Mutex::new((Instant::now(), [0.0; PARTS.len()])),
        }
    }

    /// Waits for the device and counts the time since the last part's end.
    fn end_part(&self, part: usize) -> Result<[f64; PARTS.len()]> {
        self.device.sync().context("wait for the device")?;
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, seconds) = &mut *state;
        seconds[part] += (now - *since).as_secs_f64();
        *since = now;
        Ok(*seconds)
    }
}

impl Subscriber for Clock {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && PARTS.contains(&metadata.name())
    }

    /// The id of a span is the place of its part, from 1 on.
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let name = span.metadata().name();
        let part = PARTS.iter().position(|part| *part == name).unwrap_or(0);
        Id::from_u64(part as u64 + 1)
    }

    fn exit(&self, span: &Id) {
        // A device that fails here fails at the next part too, where the error is reported.
        let _ = self.end_part(span.into_u64() as usize - 1);
    }

    fn enter(&self, _span: &Id) {}
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, _event: &Event<'_>) {}
}

#[cfg(test)]
mod tests {
    use ls_model::AttentionMode;

    use super::*;
    use crate::{Dtype, Shape, Tuning, random_classifier};

    #[test]
    fn every_part_of_a_step_takes_time() {
        let shape = Shape {
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 40,
        };
        let (config, device) = (shape.config().unwrap(), Device::flex().autodiff());
        let causal = AttentionMode::Causal;
        let tuning = Tuning {
            rank: 2,
            ..Tuning::default()
        };
        let model = random_classifier(&config, &causal, Dtype::F32, tuning, &device).unwrap();
        let timing = Timing {
            rows: 2,
            length: 3,
            ragged: false,
            warmup: 0,
            iterations: 0,
            gradient_checkpointing: false,
        };
        let profile = profile(2, timing, model, &config, &device).unwrap();
        let parts = profile.as_object().unwrap();
        assert!(parts.keys().eq(&PARTS));
        for (part, seconds) in parts {
            assert!(seconds.as_f64().unwrap() > 0.0, "{part}");
        }
    }
}
