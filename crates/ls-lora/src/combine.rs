//! The weighted sum of adapters, by the formulas of peft 0.21.2's `add_weighted_adapter`.

use burn::module::Param;
use burn::tensor::{DType, Tensor};

use crate::adapter::LoraAdapter;
use crate::config::{LoraConfig, TargetModules};
use crate::dtype::plain;
use crate::error::{LoraError, Result};
use crate::init::trainable;

/// How [`add_weighted_adapter`](crate::LoraModel::add_weighted_adapter) combines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// A and B are summed apart, each with the root of the weight: the rank stays, the result is
    /// rough. All ranks must agree.
    Linear,
    /// A and B are laid side by side: the rank is the sum of the ranks, the result is exact.
    Cat,
}

/// An adapter that goes into a sum.
pub(crate) struct Summand<'a> {
    pub(crate) name: &'a str,
    pub(crate) weight: f64,
    pub(crate) config: &'a LoraConfig,
    /// The layers that it adapts.
    pub(crate) modules: &'a [String],
    /// The parameters that it has in full.
    pub(crate) in_full: Vec<String>,
}

/// What a sum of adapters will be.
pub(crate) struct Plan<'a> {
    /// The configuration of the sum.
    pub(crate) config: LoraConfig,
    /// The adapter whose parameters in full go with the sum.
    pub(crate) owner: Option<&'a str>,
    combination: Combination,
}

fn refuse(reason: String) -> LoraError {
    LoraError::Incompatible {
        action: "combine adapters",
        reason,
    }
}

impl<'a> Plan<'a> {
    /// Plans a sum from the configurations of its parts.
    ///
    /// # Errors
    ///
    /// [`LoraError::Incompatible`] for what does not add up.
    pub(crate) fn new(summands: &[Summand<'a>], combination: Combination) -> Result<Self> {
        let Some(first) = summands.first() else {
            return Err(refuse("none was named".to_owned()));
        };
        for Summand { name, weight, .. } in summands {
            if !weight.is_finite() {
                return Err(refuse(format!("the weight of {name:?} is {weight}")));
            }
        }
        if let Some(dora) = summands.iter().find(|summand| summand.config.use_dora) {
            let name = dora.name;
            return Err(refuse(format!(
                "{name:?} has DoRA magnitudes, which do not add up"
            )));
        }
        let mut owners = summands.iter().filter(|part| !part.in_full.is_empty());
        let owner = owners.next();
        if let (Some(first), Some(second)) = (owner, owners.next()) {
            return Err(refuse(format!(
                "{:?} and {:?} both have modules in full",
                first.name, second.name
            )));
        }

        // As in peft, one adapter alone is scaled rather than laid beside nothing.
        let combination = if summands.len() == 1 {
            Combination::Linear
        } else {
            combination
        };
        let rank = |summand: &Summand<'_>| {
            let config = summand.config.converted();
            let of_layers = summand.modules.iter().map(|module| config.rank_of(module));
            of_layers.max().unwrap_or(config.r)
        };
        let ranks: Vec<usize> = summands.iter().map(rank).collect();
        let r = match combination {
            Combination::Cat => ranks.iter().sum(),
            Combination::Linear if ranks.iter().all(|r| *r == ranks[0]) => ranks[0],
            Combination::Linear => {
                return Err(refuse(format!(
                    "a linear combination needs one rank, not {ranks:?}"
                )));
            }
        };
        // Exactly the layers that any of them adapts, whatever selected them.
        let modules = summands.iter().flat_map(|summand| summand.modules);
        let mut modules: Vec<&String> = modules.collect();
        modules.sort();
        modules.dedup();
        let exact: Vec<String> = modules.iter().map(|module| regex::escape(module)).collect();
        let mut config = LoraConfig {
            r,
            lora_alpha: r as f64,
            // The scalings are in the factors, so this one must be 1.
            use_rslora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            target_modules: TargetModules::Pattern(exact.join("|")),
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            ..first.config.converted()
        };
        if let Some(owner) = owner {
            let is_in_full =
                |module: &&&String| owner.in_full.contains(&format!("{module}.weight"));
            if let Some(module) = modules.iter().find(is_in_full) {
                return Err(refuse(format!(
                    "{:?} has {module} in full, another adapts it",
                    owner.name
                )));
            }
            config.modules_to_save = owner.config.modules_to_save.clone();
            config.task_type = owner.config.task_type;
            config.bias = owner.config.bias;
        }
        Ok(Self {
            config,
            owner: owner.map(|owner| owner.name),
            combination,
        })
    }

    /// The sum on one layer, inactive and with scaling 1; none where the layer has none of the
    /// parts. `parts` are its adapters with their weights.
    ///
    /// # Errors
    ///
    /// [`LoraError::Incompatible`] if a linear combination meets two ranks.
    pub(crate) fn adapter(
        &self,
        name: &str,
        parts: &[(&LoraAdapter, f64)],
    ) -> Result<Option<LoraAdapter>> {
        let Some((like, _)) = parts.first() else {
            return Ok(None);
        };
        let factors = parts.iter().map(|(adapter, weight)| {
            let (a, b) = converted_factors(adapter);
            (a, b, weight * adapter.scaling)
        });
        let (a, b) = match self.combination {
            Combination::Cat => {
                let (a, b): (Vec<_>, Vec<_>) = factors
                    .map(|(a, b, weight)| (a.mul_scalar(weight), b))
                    .unzip();
                (Tensor::cat(a, 1), Tensor::cat(b, 0))
            }
            Combination::Linear => sum(factors)?,
        };
        let (a, b) = padded(a, b, self.config.r);
        let device = like.lora_a.val().device();
        let frozen =
            |value| -> Param<Tensor<2>> { trainable(value, &device).set_require_grad(false) };
        Ok(Some(LoraAdapter {
            lora_a: frozen(a),
            lora_b: frozen(b),
            dora: None,
            start: None,
            scaling: 1.0,
            dropout: like.dropout,
            active: false,
            name: name.to_owned(),
        }))
    }
}

/// The sums of A and of B: the root of the weight on either side, its sign on one.
fn sum(
    factors: impl Iterator<Item = (Tensor<2>, Tensor<2>, f64)>,
) -> Result<(Tensor<2>, Tensor<2>)> {
    let mut halves = factors.map(|(a, b, weight)| {
        let root = weight.abs().sqrt();
        let a = a.mul_scalar(root * if weight < 0.0 { -1.0 } else { 1.0 });
        (a, b.mul_scalar(root))
    });
    let Some(mut sum) = halves.next() else {
        return Err(refuse("none was named".to_owned()));
    };
    for (a, b) in halves {
        if sum.0.dims() != a.dims() {
            return Err(refuse(format!(
                "a linear combination needs one rank, not {} and {}",
                sum.0.dims()[1],
                a.dims()[1]
            )));
        }
        sum = (sum.0 + a, sum.1 + b);
    }
    Ok(sum)
}

/// The factors off the graph with a start, if there is one, as their second half.
fn converted_factors(adapter: &LoraAdapter) -> (Tensor<2>, Tensor<2>) {
    let (a, b) = adapter.plain_factors();
    match &adapter.start {
        None => (a, b),
        Some(start) => (
            Tensor::cat(vec![a, plain(start.lora_a.clone())], 1),
            Tensor::cat(vec![b, plain(start.lora_b.clone()).neg()], 0),
        ),
    }
}

/// Zeros up to the rank that the configuration says, where a layer does not have all the adapters.
fn padded(a: Tensor<2>, b: Tensor<2>, r: usize) -> (Tensor<2>, Tensor<2>) {
    let ([d_in, rank], [_, d_out]) = (a.dims(), b.dims());
    if rank >= r {
        return (a, b);
    }
    let zeros = |shape: [usize; 2]| Tensor::zeros(shape, (&a.device(), DType::F32));
    let (below, beside) = (zeros([d_in, r - rank]), zeros([r - rank, d_out]));
    (
        Tensor::cat(vec![a, below], 1),
        Tensor::cat(vec![b, beside], 0),
    )
}
