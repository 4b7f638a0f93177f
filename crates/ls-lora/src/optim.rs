//! LoRA+ (arXiv 2402.12354): B learns faster than A.

use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;

use crate::layer::LayerKind;
use crate::module::LoraModule;

/// The learning rates of LoRA+, by the rules of peft 0.21.2's `create_loraplus_optimizer`.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::optim::{AdamWConfig, GradientsParams};
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::{LoraConfig, LoraLinear, LoraModel, LoraPlus, TargetModules, lora_module};
///
/// #[derive(Module, Debug)]
/// struct Net { fc: LoraLinear }
/// lora_module!(Net { fc });
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let device = Device::flex().autodiff();
/// let net = Net { fc: LinearConfig::new(4, 4).init(&device).into() };
/// let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// let mut model = LoraModel::new(net);
/// model.add_adapter("default", &config, 42, &device)?;
///
/// let mut optimizer = AdamWConfig::new().init();
/// let loss = model.fc.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
/// let gradients = GradientsParams::from_grads(loss.backward(), &model);
/// let rates = LoraPlus::new(16.0).learning_rates(&model, 1e-4);
/// let model = optimizer.step(rates, model, gradients);
/// // B started at zero, and Adam's first step is as long as the rate.
/// let b = ls_lora::host_values(model.fc.adapters[0].lora_b.val().abs().max())[0];
/// assert!((b - 16e-4).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraPlus {
    /// The rate of B, of magnitudes and of biases over that of everything else; 1 or more.
    pub lr_ratio: f64,
    /// The rate of both factors of adapted embeddings.
    pub lr_embedding: f64,
}

/// The parameters of a model by how LoRA+ treats them.
#[derive(Debug, Clone)]
pub struct LoraPlusGroups {
    /// B and everything with one dimension: `lr_ratio` times the rate.
    pub faster: ParamGroup,
    /// Those of them that weight decay leaves alone: biases, and the scales of norms.
    pub no_decay: ParamGroup,
    /// Both factors of adapted embeddings: a rate of their own.
    pub embedding: ParamGroup,
}

impl LoraPlus {
    /// This ratio, with peft's rate for embeddings, 1e-6.
    #[must_use]
    pub fn new(lr_ratio: f64) -> Self {
        Self {
            lr_ratio,
            lr_embedding: 1e-6,
        }
    }

    /// The groups of a model's parameters, for an optimizer that treats them apart.
    #[must_use]
    pub fn groups<M: LoraModule>(&self, model: &M) -> LoraPlusGroups {
        #[derive(Default)]
        struct Flat(Vec<ParamId>);
        impl ModuleVisitor for Flat {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if D == 1 {
                    self.0.push(param.id);
                }
            }
        }
        let mut flat = Flat::default();
        model.visit(&mut flat);
        let (mut faster, mut no_decay, mut embedding) = (flat.0.clone(), flat.0, Vec::new());
        for (_, layer) in model.layers() {
            for adapter in layer.adapters() {
                match layer.kind() {
                    LayerKind::Linear => faster.push(adapter.lora_b.id),
                    LayerKind::Embedding => {
                        embedding.extend([adapter.lora_a.id, adapter.lora_b.id]);
                    }
                }
                // A magnitude is no bias: it decays.
                if let Some(dora) = &adapter.dora {
                    no_decay.retain(|id| *id != dora.magnitude.id);
                }
            }
        }
        LoraPlusGroups {
            faster: ParamGroup::from_ids(faster),
            no_decay: ParamGroup::from_ids(no_decay),
            embedding: ParamGroup::from_ids(embedding),
        }
    }

    /// The rates for one optimizer step whose rate is `lr`.
    #[must_use]
    pub fn learning_rates<M: LoraModule>(&self, model: &M, lr: f64) -> ModuleLearningRate {
        let groups = self.groups(model);
        ModuleLrScheduler::new(lr)
            .with_group(groups.faster, lr * self.lr_ratio)
            .with_group(groups.embedding, self.lr_embedding)
            .step()
    }
}
