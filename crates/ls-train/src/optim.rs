//! [`AdamW`] as PyTorch has it, with clipping, on one buffer of everything that trains.
//!
//! A step of separate optimizers takes a dozen operations for each parameter, and an adapter has
//! hundreds of small ones; off the CPU, starting them takes longer than what they compute. Laid end
//! to end, the parameters are one tensor, a step is a dozen operations in all, and nothing has to
//! be read: the norm and the factor of the clipping stay on the device.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use ls_lora::{LoraModule, LoraPlus, LoraPlusGroups, TrainableTensor};
use ls_ops::{AdamStep, adam_moments, adam_values};

use crate::config::TrainSettings;

/// Parameters begin at multiples of this many values. A slice of a buffer is a view without a copy
/// only where its bytes are aligned: to 512 on CUDA, 256 on wgpu.
const ALIGNMENT: usize = 128;

/// Values of the buffer that a parameter of `len` takes, with the zeros behind it.
pub(crate) fn padded_len(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

/// AdamW with decoupled weight decay on everything but biases and norms, as Hugging Face's Trainer
/// groups parameters, after clipping by the norm over all gradients.
///
/// Parameters and moments are f32 here, in the order in which the module is visited, with zeros
/// between them. A parameter without a gradient counts as one whose gradient is zero: its moments
/// fade and it decays, where PyTorch leaves it alone. Of a classifier's parameters the loss reaches
/// all that train, so each has a gradient in every step.
#[derive(Debug)]
pub struct AdamW {
    settings: TrainSettings,
    slots: Vec<Slot>,
    values: Tensor<1>,
    /// The means of the gradients and of their squares.
    moments: Option<[Tensor<1>; 2]>,
    steps: i32,
    /// Factor of the learning rate, `[values]` or `[1]`.
    rate: Tensor<1>,
    /// Factor of the learning rate by which a value decays, `[values]` or `[1]`.
    decay: Tensor<1>,
}

/// Where an [`AdamW`] stands between two steps.
#[derive(Debug, Clone)]
pub(crate) struct AdamState {
    /// `[values]`.
    pub(crate) values: Tensor<1>,
    /// The means of the gradients and of their squares, `[values]`; none before the first step.
    pub(crate) moments: Option<[Tensor<1>; 2]>,
    /// Steps taken.
    pub(crate) steps: i32,
}

/// The place of a parameter in the buffer.
#[derive(Debug)]
struct Slot {
    id: ParamId,
    /// Its path in the module, such as `model.norm.weight`.
    path: String,
    start: usize,
    len: usize,
}

impl Slot {
    /// Zeros after it.
    fn gap(&self) -> usize {
        padded_len(self.len) - self.len
    }

    /// What decides its rates. `groups` are those of LoRA+, where it is wanted.
    fn kind(&self, groups: Option<&LoraPlusGroups>) -> Kind<'_> {
        let is_of = |group: &ParamGroup| group.matches(&self.id, None);
        Kind {
            path: &self.path,
            faster: groups.is_some_and(|groups| is_of(&groups.faster)),
            of_table: groups.is_some_and(|groups| is_of(&groups.embedding)),
        }
    }
}

/// What of a parameter decides how fast it learns and whether it decays.
struct Kind<'a> {
    /// Its path in the module, or its name in peft.
    path: &'a str,
    /// Whether LoRA+ lets it learn faster.
    faster: bool,
    /// Whether it is a factor of an adapted table.
    of_table: bool,
}

/// How fast each parameter learns, and how it decays.
struct Rule<'a> {
    settings: &'a TrainSettings,
    /// How many blocks the model has.
    blocks: usize,
}

impl Rule<'_> {
    /// Factor of the learning rate.
    fn rate(&self, of: &Kind<'_>) -> f64 {
        let settings = self.settings;
        let rate = match settings.loraplus_lr_ratio.map(LoraPlus::new) {
            Some(plus) if of.of_table => plus.lr_embedding / settings.learning_rate,
            Some(plus) if of.faster => plus.lr_ratio,
            _ => 1.0,
        };
        rate * settings.layerwise_lr_decay.powi(self.depth(of))
    }

    /// Factor of the learning rate by which it decays: biases and norms do not.
    fn decay(&self, of: &Kind<'_>) -> f64 {
        let is_bias = of.path == "bias" || of.path.ends_with(".bias");
        if is_bias || of.path.ends_with("norm.weight") {
            return 0.0;
        }
        self.rate(of) * self.settings.weight_decay
    }

    /// How often the layer-wise decay applies: to the last block, and what is above the blocks, not
    /// at all; to the embeddings once for each block.
    fn depth(&self, of: &Kind<'_>) -> i32 {
        let depth = match block_of(of.path.split('.')) {
            Some(block) => self.blocks - 1 - block,
            None if of.path.split('.').any(|part| part == "embed_tokens") => self.blocks,
            None => 0,
        };
        i32::try_from(depth).unwrap_or(i32::MAX)
    }
}

/// How many buffers of factors an optimizer of these tensors has, as long as that of their values:
/// one of rates and one of decays, where they differ.
pub(crate) fn factor_buffers(
    trainable: &[TrainableTensor],
    blocks: usize,
    settings: &TrainSettings,
) -> usize {
    let rule = Rule { settings, blocks };
    let kinds = trainable.iter().map(|tensor| {
        let path = tensor.name.as_str();
        Kind {
            path,
            faster: tensor.shape.len() == 1 || path.contains(".lora_B."),
            of_table: path.contains(".lora_embedding_"),
        }
    });
    let kinds: Vec<Kind<'_>> = kinds.collect();
    let differ = |of: &dyn Fn(&Kind<'_>) -> f64| {
        let mut all = kinds.iter().map(of);
        let first = all.next();
        all.any(|factor| Some(factor) != first)
    };
    usize::from(differ(&|kind| rule.rate(kind))) + usize::from(differ(&|kind| rule.decay(kind)))
}

/// The number of the block that a parameter is of, by the parts of its path.
fn block_of<'a>(mut path: impl Iterator<Item = &'a str>) -> Option<usize> {
    path.find(|part| *part == "layers")?;
    path.next()?.parse().ok()
}

/// What `of` says of each parameter, as a factor of each value: `[values]`, or `[1]` where it is
/// the same for all.
fn factors(slots: &[Slot], device: &Device, of: impl Fn(&Slot) -> f64) -> Tensor<1> {
    let options = (device, DType::F32);
    let first = slots.first().map_or(1.0, &of);
    if slots.iter().all(|slot| of(slot) == first) {
        return Tensor::full([1], first, options);
    }
    let each = slots.iter();
    let each = each.map(|slot| Some(Tensor::full([slot.len], of(slot), options)));
    lay_out(slots, each, device)
}

impl AdamW {
    /// An optimizer of everything in the module that requires gradients, before its first step.
    ///
    /// With `loraplus_lr_ratio` the parameters learn at the rates of LoRA+. That of embeddings
    /// follows the schedule too, as it does in Hugging Face's Trainer. `layerwise_lr_decay` lowers
    /// the rates from the head down, whatever they are otherwise.
    ///
    /// # Panics
    ///
    /// If nothing trains.
    pub fn new<M: LoraModule>(module: &M, settings: &TrainSettings) -> Self {
        let mut layout = Layout::default();
        module.visit(&mut layout);
        let Layout {
            slots,
            values,
            blocks,
            ..
        } = layout;
        let device = values.first().expect("something trains").device();
        let values = lay_out(&slots, values.into_iter().map(Some), &device);

        let groups = settings
            .loraplus_lr_ratio
            .map(|ratio| LoraPlus::new(ratio).groups(module));
        let rule = Rule { settings, blocks };
        let rate = |slot: &Slot| rule.rate(&slot.kind(groups.as_ref()));
        let decay = |slot: &Slot| rule.decay(&slot.kind(groups.as_ref()));
        Self {
            rate: factors(&slots, &device, rate),
            decay: factors(&slots, &device, decay),
            settings: settings.clone(),
            slots,
            values,
            moments: None,
            steps: 0,
        }
    }

    /// The gradients of one backward pass in the order of the buffer, `[values]`. Those of several
    /// passes add up.
    pub fn gradient<M: Module>(&self, module: &M, gradients: GradientsParams) -> Tensor<1> {
        let mut taken = Taken {
            slots: &self.slots,
            gradients,
            pieces: vec![None; self.slots.len()],
        };
        module.visit(&mut taken);
        lay_out(&self.slots, taken.pieces, &self.values.device())
    }

    /// Takes a step and returns the module with its new parameters, and the norm over the whole
    /// gradient before clipping, `[1]`. Reads nothing from the device.
    ///
    /// # Shapes
    ///
    /// - `gradient`: `[values]`, as [`AdamW::gradient`] has it
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> (M, Tensor<1>) {
        let norm = gradient.clone().square().sum().sqrt();
        let TrainSettings {
            adam_beta1: beta1,
            adam_beta2: beta2,
            adam_epsilon: epsilon,
            ..
        } = self.settings;
        let before = self.moments.take();
        let before = before.unwrap_or_else(|| [self.values.zeros_like(), self.values.zeros_like()]);
        let moments = adam_moments(gradient, self.clip(&norm), before, [beta1, beta2]);
        self.moments = Some(moments.clone());
        self.steps += 1;
        let step = AdamStep {
            corrections: [beta1, beta2].map(|beta| 1.0 - beta.powi(self.steps)),
            epsilon,
            learning_rate,
        };
        let (rate, decay) = (self.rate.clone(), self.decay.clone());
        self.values = adam_values(self.values.clone(), moments, rate, decay, step);
        (self.laid_over(module, &self.values), norm)
    }

    /// What a gradient of this norm is multiplied by, `[1]`, for a norm of at most `max_grad_norm`
    /// (0 for no limit), as `torch.nn.utils.clip_grad_norm_` has it.
    fn clip(&self, norm: &Tensor<1>) -> Tensor<1> {
        let limit = self.settings.max_grad_norm;
        if limit <= 0.0 {
            return norm.ones_like();
        }
        // With PyTorch's epsilon.
        let factor = norm.clone().add_scalar(1e-6).recip().mul_scalar(limit);
        factor.clamp_max(1.0)
    }

    /// The parameters and what the optimizer remembers of their gradients. A later step does not
    /// change it.
    pub(crate) fn state(&self) -> AdamState {
        AdamState {
            values: self.values.clone(),
            moments: self.moments.clone(),
            steps: self.steps,
        }
    }

    /// Goes on from a state: returns the module with its parameters.
    ///
    /// # Panics
    ///
    /// If the state is of another buffer ([`AdamW::layout`]).
    pub(crate) fn restore<M: Module>(&mut self, module: M, state: AdamState) -> M {
        let module = self.laid_over(module, &state.values);
        self.values = state.values;
        self.moments = state.moments;
        self.steps = state.steps;
        module
    }

    /// The module with these values of the buffer as its parameters.
    ///
    /// # Panics
    ///
    /// If they are of another buffer ([`AdamW::layout`]).
    pub(crate) fn laid_over<M: Module>(&self, module: M, values: &Tensor<1>) -> M {
        assert_eq!(values.dims(), self.values.dims(), "values of this buffer");
        module.map(&mut WriteBack {
            slots: &self.slots,
            values,
        })
    }

    /// A number, `[1]`, unless a parameter is none. Reads nothing from the device.
    pub(crate) fn witness(&self) -> Tensor<1> {
        // Scaled so that no sum of finite values overflows.
        self.values.clone().mul_scalar(1e-30).sum()
    }

    /// The path of the first parameter that holds NaN or an infinity in a buffer, `[values]`.
    pub(crate) fn first_not_finite(&self, buffer: &Tensor<1>) -> Option<&str> {
        let values = ls_lora::host_values(buffer.clone());
        let bad = |slot: &&Slot| {
            let of_slot = &values[slot.start..slot.start + slot.len];
            of_slot.iter().any(|value| !value.is_finite())
        };
        let slot = self.slots.iter().find(bad)?;
        Some(&slot.path)
    }

    /// The path of the parameter with the largest magnitude in a buffer, `[values]`, and the value.
    pub(crate) fn largest(&self, buffer: &Tensor<1>) -> (&str, f32) {
        let values = ls_lora::host_values(buffer.clone());
        let of_slots = self.slots.iter().flat_map(|slot| {
            let of_slot = values[slot.start..slot.start + slot.len].iter();
            of_slot.map(|value| (&*slot.path, *value))
        });
        of_slots
            .max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))
            .unwrap_or_default()
    }

    /// The path and the number of values of each parameter, in the order of the buffer.
    pub(crate) fn layout(&self) -> Vec<(String, usize)> {
        let slots = self.slots.iter();
        slots.map(|slot| (slot.path.clone(), slot.len)).collect()
    }

    /// Number of values in the buffer, the zeros between the parameters included.
    pub(crate) fn len(&self) -> usize {
        self.values.dims()[0]
    }

    /// The device that the buffer is on.
    pub(crate) fn device(&self) -> Device {
        self.values.device()
    }
}

/// One buffer of all parameters' pieces, with the zeros between them; what is absent is zero.
fn lay_out(
    slots: &[Slot],
    pieces: impl IntoIterator<Item = Option<Tensor<1>>>,
    device: &Device,
) -> Tensor<1> {
    let zeros = |len: usize| Tensor::zeros([len], (device, DType::F32));
    let pieces = slots.iter().zip(pieces);
    let pieces = pieces.map(|(slot, piece)| piece.unwrap_or_else(|| zeros(slot.len)));
    let lengths: Vec<usize> = slots.iter().map(|slot| slot.len + slot.gap()).collect();
    ls_ops::join(pieces.collect(), &lengths)
}

/// A tensor as a piece of the buffer.
fn piece<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    let flat = tensor.reshape([len]);
    if flat.dtype() == DType::F32 {
        flat
    } else {
        flat.cast(DType::F32)
    }
}

/// Finds what trains, and where it stands.
#[derive(Default)]
struct Layout {
    path: Vec<String>,
    slots: Vec<Slot>,
    values: Vec<Tensor<1>>,
    end: usize,
    /// How many blocks the module has, frozen ones too.
    blocks: usize,
}

impl ModuleVisitor for Layout {
    fn enter_module(&mut self, name: &str, container: &str) {
        if is_field(container) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if is_field(container) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(block) = block_of(self.path.iter().map(String::as_str)) {
            self.blocks = self.blocks.max(block + 1);
        }
        let value = param.val();
        if !value.is_require_grad() {
            return;
        }
        let slot = Slot {
            id: param.id,
            path: self.path.join("."),
            start: self.end,
            len: value.shape().num_elements(),
        };
        self.end += slot.len + slot.gap();
        self.slots.push(slot);
        self.values.push(piece(value.inner()));
    }
}

/// Whether a visit that enters something of a container enters a field: the variant of an enum is
/// in no name.
fn is_field(container: &str) -> bool {
    !container.starts_with("Enum:")
}

/// Takes the gradients of a backward pass.
struct Taken<'a> {
    slots: &'a [Slot],
    gradients: GradientsParams,
    pieces: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Taken<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(at) = self.slots.iter().position(|slot| slot.id == param.id) {
            self.pieces[at] = self.gradients.remove::<D>(param.id).map(piece);
        }
    }
}

/// Makes the parameters views of the buffer.
struct WriteBack<'a> {
    slots: &'a [Slot],
    values: &'a Tensor<1>,
}

impl ModuleMapper for WriteBack<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(slot) = self.slots.iter().find(|slot| slot.id == param.id) else {
            return param;
        };
        let value = self.values.clone().slice(slot.start..slot.start + slot.len);
        param.map(|old| {
            let value = value.reshape(old.dims());
            let value = if old.dtype() == DType::F32 {
                value
            } else {
                value.cast(old.dtype())
            };
            // A leaf of the next step's graph.
            value.autodiff().require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::nn::{EmbeddingConfig, Linear, LinearConfig};
    use burn::optim::{AdamWConfig, ModuleOptimizer};
    use burn::tensor::Int;
    use ls_lora::{
        LoraConfig, LoraEmbedding, LoraLinear, TargetModules, add_adapter, host_values, lora_module,
    };

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        embed: LoraEmbedding,
        mix: LoraLinear,
        score: Linear,
    }

    lora_module!(Net { embed, mix } heads { score });

    impl Net {
        /// Sizes that fill no multiple of the alignment, and one that does.
        fn new(device: &Device) -> Self {
            let mut net = Self {
                embed: EmbeddingConfig::new(11, 32).init(device).into(),
                mix: LinearConfig::new(32, 9).init(device).into(),
                score: LinearConfig::new(9, 3).init(device),
            };
            let config = LoraConfig::new(4, 8.0)
                .with_target_modules(TargetModules::list(["embed", "mix"]))
                .with_modules_to_save(["score"]);
            add_adapter(&mut net, "default", &config, 1, device).unwrap();
            net
        }

        fn loss(&self, at: i32) -> Tensor<1> {
            let ids = Tensor::<2, Int>::from_ints([[at, at + 3, 2], [7, at, 1]], &Device::flex());
            let x = self.mix.forward(self.embed.forward(ids)).tanh();
            let x = self.score.forward(x);
            (x - 0.5).square().sum()
        }

        fn values(&self) -> BTreeMap<ParamId, Vec<f32>> {
            let mut found = Found(BTreeMap::new());
            self.visit(&mut found);
            found.0
        }
    }

    struct Found(BTreeMap<ParamId, Vec<f32>>);

    impl ModuleVisitor for Found {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.insert(param.id, host_values(param.val()));
        }
    }

    /// burn's own, a parameter at a time.
    fn separate(settings: &TrainSettings) -> ModuleOptimizer {
        let config = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(settings.adam_beta1 as f32)
                .with_beta_2(settings.adam_beta2 as f32)
                .with_epsilon(settings.adam_epsilon as f32)
                .with_weight_decay(weight_decay as f32)
        };
        let biases = ParamGroup::from_regex(r"(^|\.)bias$").unwrap();
        let undecayed = config(0.0).build();
        let decayed = config(settings.weight_decay).init();
        decayed.with_group(biases, undecayed, None)
    }

    fn settings(loraplus_lr_ratio: Option<f64>, weight_decay: f64) -> TrainSettings {
        TrainSettings {
            learning_rate: 1e-2,
            max_grad_norm: 0.0,
            weight_decay,
            loraplus_lr_ratio,
            ..TrainSettings::default()
        }
    }

    #[derive(Module, Debug)]
    struct Stack {
        embed_tokens: LoraEmbedding,
        layers: Vec<LoraLinear>,
        score: Linear,
    }

    lora_module!(Stack { embed_tokens, layers } heads { score });

    /// Told by the names of the tensors, before there is a module.
    #[test]
    fn buffers_of_factors_are_told_before_they_are_made() {
        let device = Device::flex().autodiff();
        let linear = |bias| LinearConfig::new(4, 4).with_bias(bias).init(&device).into();
        let net = |saved: &[&str], adapted: &[&str], bias| {
            let mut net = Stack {
                embed_tokens: EmbeddingConfig::new(5, 4).init(&device).into(),
                layers: vec![linear(bias), linear(bias)],
                score: LinearConfig::new(4, 2).with_bias(false).init(&device),
            };
            let config = LoraConfig::new(2, 4.0)
                .with_target_modules(TargetModules::list(adapted.to_vec()))
                .with_modules_to_save(saved.to_vec());
            add_adapter(&mut net, "default", &config, 1, &device).unwrap();
            net
        };
        let adapters = net(&["score"], &["layers.0", "layers.1"], false);
        let table = net(&["score"], &["embed_tokens"], false);
        let in_full = net(&["score", "layers.1"], &["layers.0"], true);
        let decays = settings(None, 0.3);
        let by_layer = |decay| TrainSettings {
            layerwise_lr_decay: 0.5,
            ..settings(None, decay)
        };
        for (net, settings, expected) in [
            (&adapters, &decays, 0),
            (&adapters, &settings(Some(8.0), 0.0), 1),
            (&adapters, &settings(Some(8.0), 0.3), 2),
            (&adapters, &by_layer(0.0), 1),
            (&adapters, &by_layer(0.3), 2),
            (&table, &decays, 0),
            (&table, &settings(Some(8.0), 0.0), 1),
            // A bias does not decay.
            (&in_full, &decays, 1),
            (&in_full, &settings(None, 0.0), 0),
            (&in_full, &settings(Some(8.0), 0.3), 2),
        ] {
            let optimizer = AdamW::new(net, settings);
            let [rate, decay] = [&optimizer.rate, &optimizer.decay].map(|of| of.dims()[0] > 1);
            let trainable = ls_lora::trainable_tensors(net);
            let told = factor_buffers(&trainable, 2, settings);
            assert_eq!(
                told,
                usize::from(rate) + usize::from(decay),
                "{trainable:?}"
            );
            assert_eq!(told, expected, "{trainable:?}");
        }
    }

    /// Adam's first step is as long as the rate, whatever the gradient.
    #[test]
    fn adapters_learn_at_the_rates_of_their_layers() {
        let device = Device::flex().autodiff();
        for (ratio, expected) in [
            (None, [1e-2 / 8.0, 1e-2 / 4.0, 1e-2 / 2.0, 1e-2]),
            // LoRA+ has another rate for embeddings, and its own for B.
            (Some(8.0), [1e-6 / 8.0, 8e-2 / 4.0, 8e-2 / 2.0, 1e-2]),
        ] {
            let linear = || {
                LinearConfig::new(4, 4)
                    .with_bias(false)
                    .init(&device)
                    .into()
            };
            let mut net = Stack {
                embed_tokens: EmbeddingConfig::new(5, 4).init(&device).into(),
                // The last one has no adapter, and counts.
                layers: vec![linear(), linear(), linear()],
                score: LinearConfig::new(4, 2).with_bias(false).init(&device),
            };
            let config = LoraConfig::new(2, 4.0)
                .with_target_modules(TargetModules::list([
                    "embed_tokens",
                    "layers.0",
                    "layers.1",
                ]))
                .with_modules_to_save(["score"]);
            add_adapter(&mut net, "default", &config, 1, &device).unwrap();
            let settings = TrainSettings {
                layerwise_lr_decay: 0.5,
                ..settings(ratio, 0.0)
            };
            let mut optimizer = AdamW::new(&net, &settings);
            let before = host_values(net.score.weight.val());
            let ids = Tensor::<2, Int>::from_ints([[0, 3, 2]], &Device::flex());
            let mut x = net.embed_tokens.forward(ids);
            for layer in &net.layers {
                x = layer.forward(x).tanh();
            }
            let loss = net.score.forward(x).square().sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            let gradient = optimizer.gradient(&net, gradients);
            let (net, _) = optimizer.step(net, gradient, settings.learning_rate);
            // The factors that began at zero.
            let longest = |values: Vec<f32>| values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            let b = |at: usize| longest(host_values(net.layers[at].adapters[0].lora_b.val()));
            let a = longest(host_values(net.embed_tokens.adapters[0].lora_a.val()));
            let after = host_values(net.score.weight.val());
            let moved = before.iter().zip(&after).map(|(a, b)| a - b).collect();
            for (found, expected) in [a, b(0), b(1), longest(moved)].into_iter().zip(expected) {
                let off = (f64::from(found) / expected - 1.0).abs();
                assert!(off < 1e-3, "{ratio:?}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn one_buffer_takes_the_steps_of_separate_parameters() {
        for (ratio, weight_decay) in [(None, 0.0), (None, 0.3), (Some(8.0), 0.3)] {
            let settings = settings(ratio, weight_decay);
            let device = Device::flex().autodiff();
            let mut net = Net::new(&device);
            let mut other = net.clone();
            let (mut one, mut each) = (AdamW::new(&net, &settings), separate(&settings));
            for step in 0..5 {
                let loss = net.loss(step);
                let gradients = GradientsParams::from_grads(loss.backward(), &net);
                let gradient = one.gradient(&net, gradients);
                (net, _) = one.step(net, gradient, settings.learning_rate);

                let gradients = GradientsParams::from_grads(other.loss(step).backward(), &other);
                other = match ratio {
                    Some(ratio) => {
                        let plus = LoraPlus::new(ratio);
                        let rates = plus.learning_rates(&other, settings.learning_rate);
                        each.step(rates, other, gradients)
                    }
                    None => each.step(settings.learning_rate, other, gradients),
                };
            }
            let expected = other.values();
            for (id, values) in net.values() {
                for (found, expected) in values.iter().zip(&expected[&id]) {
                    // Some fifty roundings of values below 1.
                    assert!(
                        (found - expected).abs() < 3e-6,
                        "{found}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn clipping_takes_the_norm_over_everything() {
        let settings = TrainSettings {
            max_grad_norm: 0.5,
            ..settings(None, 0.0)
        };
        let net = Net::new(&Device::flex().autodiff());
        let mut optimizer = AdamW::new(&net, &settings);
        let gradients = GradientsParams::from_grads(net.loss(0).backward(), &net);
        let gradient = optimizer.gradient(&net, gradients);
        let squares: f64 = host_values(gradient.clone())
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum();
        let (_, norm) = optimizer.step(net.clone(), gradient.clone(), 0.0);
        let found = f64::from(norm.clone().into_scalar::<f32>());
        assert!((found / squares.sqrt() - 1.0).abs() < 1e-5, "{found}");
        assert!(found > 0.5);
        let length = |gradient: Tensor<1>| gradient.square().sum().sqrt().into_scalar::<f32>();
        let clipped = gradient.clone() * optimizer.clip(&norm);
        assert!((length(clipped) - 0.5).abs() < 1e-5);
        // A gradient below the limit stays as it is.
        let small = gradient.mul_scalar(0.1 / found);
        let clipped = small.clone() * optimizer.clip(&small.clone().square().sum().sqrt());
        assert_eq!(host_values(clipped), host_values(small));
    }

    #[test]
    fn a_step_leaves_ids_and_leaves_that_train() {
        let net = Net::new(&Device::flex().autodiff());
        let before = net.values();
        let mut optimizer = AdamW::new(&net, &settings(None, 0.0));
        let gradients = GradientsParams::from_grads(net.loss(0).backward(), &net);
        let gradient = optimizer.gradient(&net, gradients);
        let trained = ls_lora::trainable_tensors(&net);
        let (net, _) = optimizer.step(net, gradient, 1e-2);
        assert_eq!(ls_lora::trainable_tensors(&net), trained);
        let after = net.values();
        assert!(before.keys().eq(after.keys()));
        let moved = before.iter().filter(|(id, values)| after[id] != **values);
        // A stays where B is zero, and the factors of an embedding the other way round.
        assert_eq!(moved.count(), trained.len() - 2);
        assert!(
            optimizer
                .slots
                .iter()
                .all(|slot| slot.start % ALIGNMENT == 0)
        );
        assert_eq!(optimizer.values.dims()[0] % ALIGNMENT, 0);
    }
}
