//! Counting parameters, and listing the tensors that receive gradients.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::layer::LayerKind;
use crate::module::LoraModule;
use crate::parameters;

/// A tensor that receives gradients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainableTensor {
    /// Its name as in PEFT's `named_parameters`, without `base_model.model.` and PEFT's wrappers,
    /// such as `layers.0.fc1.lora_A.default.weight` or `score.weight`.
    pub name: String,
    /// Its shape in PEFT's layout: A `[r, in]`, B `[out, r]`, weights `[out, in]`.
    pub shape: Vec<usize>,
}

/// The tensors that receive gradients: factors and magnitudes of adapters in the order of the
/// layers, then what is trained in full. Ask the model that trains; off the graph nothing does.
#[must_use]
pub fn trainable_tensors<M: LoraModule>(module: &M) -> Vec<TrainableTensor> {
    let mut found = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, trains: bool| {
        if trains {
            found.push(TrainableTensor { name, shape });
        }
    };
    for (module, layer) in module.layers() {
        let (a, b, end) = match layer.kind() {
            LayerKind::Linear => ("lora_A", "lora_B", ".weight"),
            LayerKind::Embedding => ("lora_embedding_A", "lora_embedding_B", ""),
        };
        for adapter in layer.adapters() {
            let name = &adapter.name;
            for (part, factor) in [(a, &adapter.lora_a), (b, &adapter.lora_b)] {
                let value = factor.val();
                let [rows, columns] = value.dims();
                let full_name = format!("{module}.{part}.{name}{end}");
                add(full_name, vec![columns, rows], value.is_require_grad());
            }
            if let Some(dora) = &adapter.dora {
                let value = dora.magnitude.val();
                let full_name = format!("{module}.lora_magnitude_vector.{name}.weight");
                add(full_name, value.dims().to_vec(), value.is_require_grad());
            }
        }
    }
    for (name, shape) in parameters::trainable(module) {
        add(name, shape, true);
    }
    found
}

/// How many parameters a model has and how many of them train.
///
/// ```
/// use ls_lora::ParameterCount;
///
/// let count = ParameterCount { trainable: 1_024, all: 4_200 };
/// assert_eq!(count.to_string(), "trainable params: 1,024 || all params: 4,200 || trainable%: 24.3810");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParameterCount {
    /// Parameters that receive gradients.
    pub trainable: usize,
    /// All parameters, one copy of each.
    pub all: usize,
}

impl ParameterCount {
    /// Counts a model's parameters, packed weights and those in tiles by their values. Trainable
    /// are those that require gradients, so count on the model that trains.
    pub fn of<M: LoraModule>(module: &M) -> Self {
        let mut counter = Counter::default();
        module.visit(&mut counter);
        let packed = module
            .layers()
            .into_iter()
            .map(|(_, layer)| layer.packed_parameters());
        counter.0.all += packed.sum::<usize>();
        counter.0
    }
}

/// PEFT's line: `trainable params: 6,299,648 || all params: 6,613,643,264 || trainable%: 0.0953`.
///
/// (For this LLaMA-2-7B with a head of two classes PEFT itself says 6,613,651,456: it keeps and
/// counts the head twice.)
impl std::fmt::Display for ParameterCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = if self.all == 0 {
            0.0
        } else {
            100.0 * self.trainable as f64 / self.all as f64
        };
        write!(
            f,
            "trainable params: {} || all params: {} || trainable%: {percent:.4}",
            thousands(self.trainable),
            thousands(self.all)
        )
    }
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[derive(Default)]
struct Counter(ParameterCount);

impl ModuleVisitor for Counter {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let n = param.lazy_shape().num_elements();
        self.0.all += n;
        if param.val().is_require_grad() {
            self.0.trainable += n;
        }
    }
}
