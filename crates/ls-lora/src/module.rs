//! [`LoraModule`]: a model whose layers can carry adapters, and the names of its layers.

use burn::module::{Module, ModuleDisplay};

use crate::embedding::LoraEmbedding;
use crate::layer::LoraLayer;
use crate::linear::LoraLinear;

/// A model whose layers can carry adapters.
///
/// [`lora_module!`](crate::lora_module) implements it for a struct from the names of its fields, as
/// do [`LoraLinear`], [`LoraEmbedding`], `Vec` and `Option` for themselves. A layer's full name is
/// the path of fields to it, so fields named as in the Hugging Face module tree
/// (`model.layers.0.self_attn.q_proj`) make files that PEFT's models take.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{LoraLayer, LoraLinear, LoraModule, ModulePath};
///
/// /// The macro knows no type parameters, so this one is implemented by hand.
/// #[derive(Module, Debug)]
/// struct Residual<M: LoraModule> { inner: M }
///
/// impl<M: LoraModule> LoraModule for Residual<M> {
///     fn visit_layers<'a>(&'a self, path: &mut ModulePath, f: &mut dyn FnMut(&str, &'a dyn LoraLayer)) {
///         path.enter("inner", |path| self.inner.visit_layers(path, f));
///     }
///     fn visit_layers_mut<'a>(&'a mut self, path: &mut ModulePath, f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer)) {
///         path.enter("inner", |path| self.inner.visit_layers_mut(path, f));
///     }
///     fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
///         path.enter("inner", |path| self.inner.visit_heads(path, f));
///     }
/// }
///
/// let layer = LoraLinear::from(LinearConfig::new(8, 8).init(&Device::flex()));
/// let net = Residual { inner: vec![layer.clone(), layer] };
/// let names: Vec<String> = net.layers().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["inner.0", "inner.1"]);
/// ```
pub trait LoraModule: Module + ModuleDisplay {
    /// Calls `f` with every layer below this module and its full name; `path` is this module's own.
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    );

    /// The same, to change the layers.
    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    );

    /// Calls `f` with the full name of every head below this module.
    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        let _ = (path, f);
    }

    /// Full names of the heads, which `all-linear` never takes.
    fn head_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.visit_heads(&mut ModulePath::default(), &mut |name| {
            names.push(name.to_owned())
        });
        names
    }

    /// Every layer with its full name, in the order of the fields.
    fn layers(&self) -> Vec<(String, &dyn LoraLayer)> {
        let mut layers = Vec::new();
        self.visit_layers(&mut ModulePath::default(), &mut |name, layer| {
            layers.push((name.to_owned(), layer));
        });
        layers
    }

    /// The same, to change the layers.
    fn layers_mut(&mut self) -> Vec<(String, &mut dyn LoraLayer)> {
        let mut layers = Vec::new();
        self.visit_layers_mut(&mut ModulePath::default(), &mut |name, layer| {
            layers.push((name.to_owned(), layer));
        });
        layers
    }
}

/// Cuts the frozen weights of all linear layers into tiles ([`LoraLayer::tile`]): for a model that
/// only answers. Each weight is freed as soon as its tiles are there, unless others share it, and
/// the next tiles take its place.
pub fn tile<M: LoraModule>(module: &mut M) {
    // One after the other, by the thread that loaded them: another would have a heap of its own,
    // and what this one frees would lie idle.
    for (_, layer) in module.layers_mut() {
        layer.tile();
    }
}

/// The dotted name of the module that a visit is at.
#[derive(Debug, Clone, Default)]
pub struct ModulePath(String);

impl ModulePath {
    /// Goes into a field, or an element of a list, for the time of `f`.
    pub fn enter<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        let result = f(self);
        self.0.truncate(length);
        result
    }

    /// The name so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Implements [`LoraModule`] for a struct: the fields that are or hold adaptable layers, then,
/// after `heads`, those that are heads. Or for an enum: its variants, whose names are in no layer's
/// name.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{LayerNorm, Linear};
/// use ls_lora::{LoraLinear, LoraModule, lora_module};
/// # use burn::nn::{LayerNormConfig, LinearConfig};
/// # use burn::tensor::Device;
///
/// #[derive(Module, Debug)]
/// struct Block {
///     fc1: LoraLinear,
///     norm: LayerNorm,
///     fc2: LoraLinear,
/// }
/// lora_module!(Block { fc1, fc2 });
///
/// #[derive(Module, Debug)]
/// struct Net {
///     layers: Vec<Block>,
///     score: Linear,
/// }
/// lora_module!(Net { layers } heads { score });
///
/// # let device = Device::flex();
/// # let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device);
/// # let norm = LayerNormConfig::new(8).init(&device);
/// # let block = Block { fc1: linear(4, 8).into(), norm, fc2: linear(8, 4).into() };
/// # let net = Net { layers: vec![block], score: linear(4, 2) };
/// let names: Vec<String> = net.layers().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["layers.0.fc1", "layers.0.fc2"]);
/// assert_eq!(net.head_names(), ["score"]);
///
/// #[derive(Module, Debug)]
/// enum Either {
///     Block(Block),
///     Linear(LoraLinear),
/// }
/// lora_module!(enum Either { Block, Linear });
/// # let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device);
/// # let norm = LayerNormConfig::new(8).init(&device);
/// # let block = Block { fc1: linear(4, 8).into(), norm, fc2: linear(8, 4).into() };
///
/// let either = vec![Either::Block(block), Either::Linear(linear(4, 4).into())];
/// let names: Vec<String> = either.layers().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["0.fc1", "0.fc2", "1"]);
/// ```
#[macro_export]
macro_rules! lora_module {
    (enum $type:ident { $($variant:ident),* $(,)? }) => {
        impl $crate::LoraModule for $type {
            fn visit_layers<'a>(
                &'a self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a dyn $crate::LoraLayer),
            ) {
                match self {
                    $(Self::$variant(module) => $crate::LoraModule::visit_layers(module, path, f),)*
                }
            }

            fn visit_layers_mut<'a>(
                &'a mut self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a mut dyn $crate::LoraLayer),
            ) {
                match self {
                    $(Self::$variant(module) => {
                        $crate::LoraModule::visit_layers_mut(module, path, f);
                    })*
                }
            }

            fn visit_heads(&self, path: &mut $crate::ModulePath, f: &mut dyn FnMut(&str)) {
                match self {
                    $(Self::$variant(module) => $crate::LoraModule::visit_heads(module, path, f),)*
                }
            }
        }
    };
    ($type:ty { $($field:ident),* $(,)? } $(heads { $($head:ident),* $(,)? })?) => {
        impl $crate::LoraModule for $type {
            #[allow(unused_variables)]
            fn visit_layers<'a>(
                &'a self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a dyn $crate::LoraLayer),
            ) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_layers(&self.$field, path, f);
                });)*
            }

            #[allow(unused_variables)]
            fn visit_layers_mut<'a>(
                &'a mut self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a mut dyn $crate::LoraLayer),
            ) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_layers_mut(&mut self.$field, path, f);
                });)*
            }

            #[allow(unused_variables)]
            fn visit_heads(&self, path: &mut $crate::ModulePath, f: &mut dyn FnMut(&str)) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_heads(&self.$field, path, f);
                });)*
                $($(path.enter(stringify!($head), |path| f(path.as_str()));)*)?
            }
        }
    };
}

macro_rules! leaf {
    ($type:ty) => {
        impl LoraModule for $type {
            fn visit_layers<'a>(
                &'a self,
                path: &mut ModulePath,
                f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
            ) {
                f(path.as_str(), self);
            }

            fn visit_layers_mut<'a>(
                &'a mut self,
                path: &mut ModulePath,
                f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
            ) {
                f(path.as_str(), self);
            }
        }
    };
}

leaf!(LoraLinear);
leaf!(LoraEmbedding);

impl<M: LoraModule> LoraModule for Vec<M> {
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    ) {
        for (at, module) in self.iter().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_layers(path, f));
        }
    }

    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    ) {
        for (at, module) in self.iter_mut().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_layers_mut(path, f));
        }
    }

    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        for (at, module) in self.iter().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_heads(path, f));
        }
    }
}

impl<M: LoraModule> LoraModule for Option<M> {
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    ) {
        if let Some(module) = self {
            module.visit_layers(path, f);
        }
    }

    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    ) {
        if let Some(module) = self {
            module.visit_layers_mut(path, f);
        }
    }

    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        if let Some(module) = self {
            module.visit_heads(path, f);
        }
    }
}
