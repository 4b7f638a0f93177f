//! Two adapters on one base in 4 bits a value: trained one after the other, switched, added up,
//! combined, merged.
//!
//! `cargo run -p ls-lora --features flex --example several_adapters`

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::error::Error;

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use ls_lora::{
    Combination, LoraConfig, LoraLinear, LoraModel, Quantization, TargetModules, host_values,
    lora_module,
};

#[derive(Module, Debug)]
struct Block {
    up: LoraLinear,
    norm: LayerNorm,
    down: LoraLinear,
}

lora_module!(Block { up, down });

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Block>,
    head: LoraLinear,
}

lora_module!(Net { layers, head });

impl Net {
    fn new(device: &Device) -> Self {
        let block = |_| Block {
            up: LinearConfig::new(64, 128).init(device).into(),
            norm: LayerNormConfig::new(128).init(device),
            down: LinearConfig::new(128, 64).init(device).into(),
        };
        Self {
            layers: (0..2).map(block).collect(),
            head: LinearConfig::new(64, 1).init(device).into(),
        }
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for block in &self.layers {
            let hidden = block.norm.forward(block.up.forward(x.clone())).tanh();
            x = x + block.down.forward(hidden);
        }
        self.head.forward(x)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut model = LoraModel::new(Net::new(&device));
    model.quantize(Quantization::Nf4)?;

    let x = Tensor::<2>::random([256, 64], Distribution::Normal(0.0, 1.0), &device);
    let column = |at: usize| x.clone().slice([0..256, at..at + 1]);
    let goals = [("sine", column(0).sin()), ("square", column(1).square())];
    let config = LoraConfig::new(4, 8.0)
        .with_dora(false)
        .with_lora_dropout(0.05)
        .with_target_modules(TargetModules::list(["up", "down"]));
    for (seed, (name, goal)) in (1..).zip(&goals) {
        model.add_adapter(name, &config, seed, &device)?;
        let mut optimizer = AdamWConfig::new().init();
        for _ in 0..200 {
            let loss = (model.forward(x.clone()) - goal.clone()).square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(1e-2, model, gradients);
        }
    }

    // Off the graph there is no dropout.
    let mut model = model.valid();
    let x = x.inner();
    model.add_weighted_adapter("both", &[("sine", 0.5), ("square", 0.5)], Combination::Cat)?;
    let show = |what: &str, model: &LoraModel<Net>| {
        let error = |goal: &Tensor<2>| {
            host_values(
                (model.forward(x.clone()) - goal.clone().inner())
                    .square()
                    .mean(),
            )[0]
        };
        let [sine, square] = [&goals[0].1, &goals[1].1].map(error);
        println!("{what:<18} error of sine {sine:.3}, of square {square:.3}");
    };
    for active in [
        &[][..],
        &["sine"],
        &["square"],
        &["sine", "square"],
        &["both"],
    ] {
        model.set_adapter(active)?;
        show(&active.join(" + "), &model);
    }
    model.set_adapter(&["sine"])?;
    println!("{}", model.merge()?);
    show("sine, merged", &model);
    model.unmerge();
    show("sine, unmerged", &model);
    Ok(())
}
