//! Adapts a small perceptron to a new function and saves the adapter as a PEFT folder.
//!
//! `cargo run -p ls-lora --features flex --example adapt_mlp [FOLDER]`

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

use burn::module::Module;
use burn::nn::LinearConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use ls_lora::{LoraConfig, LoraLinear, LoraModel, TargetModules, host_values, lora_module};

/// Any burn module can carry adapters: its linear layers are [`LoraLinear`]s, and it says which
/// fields they are.
#[derive(Module, Debug)]
struct Perceptron {
    input: LoraLinear,
    hidden: LoraLinear,
    output: LoraLinear,
}

lora_module!(Perceptron {
    input,
    hidden,
    output
});

impl Perceptron {
    fn new(device: &Device) -> Self {
        let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(device).into();
        Self {
            input: linear(2, 64),
            hidden: linear(64, 64),
            output: linear(64, 1),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.input.forward(x).tanh();
        self.output.forward(self.hidden.forward(x).tanh())
    }
}

/// What the adapted model is to compute: `sin(2 a) * b` of points `[n, 2]`.
fn target(x: Tensor<2>) -> Tensor<2> {
    let [n, _] = x.dims();
    let (a, b) = (x.clone().slice([0..n, 0..1]), x.slice([0..n, 1..2]));
    a.mul_scalar(2.0).sin() * b
}

fn loss(model: &Perceptron, x: Tensor<2>) -> Tensor<1> {
    (model.forward(x.clone()) - target(x)).square().mean()
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => temporary.path().join("adapter"),
    };
    let device = Device::flex().autodiff();
    device.seed(0);

    // Stands for a pretrained model; its weights stay as they are.
    let base = Perceptron::new(&device);
    let config = LoraConfig::new(8, 16.0).with_target_modules(TargetModules::list(["hidden"]));
    let mut model = LoraModel::new(base.clone());
    let names = model.add_adapter("sine", &config, 42, &device)?;
    println!("adapted: {}", names.join(", "));
    println!("{}", model.parameters());

    let points = Tensor::<2>::random([512, 2], Distribution::Uniform(-1.0, 1.0), &device);
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..=300 {
        let loss = loss(&model, points.clone());
        if step % 100 == 0 {
            println!("step {step:>3}  loss {:.4}", host_values(loss.clone())[0]);
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-2, model, gradients);
    }

    model.save_adapter("sine", &folder)?;
    println!("saved {}", folder.display());

    let mut again = LoraModel::new(base);
    again.load_adapter("sine", &folder, &device)?;
    let [trained, reloaded] = [&model, &again].map(|m| host_values(loss(m, points.clone()))[0]);
    println!("loss {trained:.4}, of the base with the saved adapter {reloaded:.4}");
    Ok(())
}
