//! Packed weights: the codes of bitsandbytes, products and gradients of what they stand for, and
//! how little they cost.

// Figures beside the verdict, for whoever asks for them.
#![allow(clippy::print_stdout)]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_files::TensorFile;
use ls_lora::{
    BaseLayer, LoraAdapter, LoraError, LoraLayer, LoraLinear, Quantization, QuantizedWeight,
    host_values,
};
use ls_ops::device::of_tests;

/// The same bits on the CPU. Elsewhere the kernels of two ways to one result may add up in another
/// order.
#[track_caller]
fn assert_same(found: &[f32], expected: &[f32]) {
    if ls_ops::is_host(&of_tests()) {
        assert_eq!(found, expected);
    } else {
        assert_near(found, expected, 2e-6);
    }
}

/// Of the largest of the expected values.
#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let tolerance = ls_ops::device::tolerance_of_tests(tolerance);
    let scale = expected.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let mut worst = 0.0f32;
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * scale, "{found} is not {expected}");
        worst = worst.max(difference / scale);
    }
    println!("error {worst:e} limit {tolerance:e}");
}

/// Rows of the file are outputs; ours are inputs.
fn weight(file: &TensorFile, name: &str, device: &Device) -> Tensor<2> {
    let tensor = file.read(name).unwrap();
    let shape = [tensor.shape[0], tensor.shape[1]];
    let data = TensorData::new(tensor.to_f32().unwrap(), shape);
    Tensor::<2>::from_data(data, device).transpose()
}

#[test]
fn nf4_values_are_those_of_bitsandbytes() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nf4/expected.safetensors");
    let file = TensorFile::open(path).unwrap();
    let device = of_tests();
    let packed = QuantizedWeight::quantize(weight(&file, "weight", &device), Quantization::Nf4);
    let found = host_values(packed.unwrap().dequantize().transpose());
    let expected = file.read("dequantized").unwrap().to_f32().unwrap();
    let codes = file.read("codes").unwrap().bytes;
    let table = file.read("table").unwrap().to_f32().unwrap();
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        // The same code; its block's scale is rounded to bf16, 8 bits.
        let difference = (found - expected).abs();
        assert!(
            difference <= expected.abs() / 256.0,
            "[{at}]: {found} {expected}"
        );
        assert_eq!(
            *found == 0.0,
            table[usize::from(codes[at])] == 0.0 || *expected == 0.0
        );
    }
}

fn random(shape: [usize; 2], seed: usize) -> Tensor<2> {
    let values = (0..shape[0] * shape[1]).map(|i| {
        let x = ((i * 7919 + seed * 104_729) % 100_003) as f32 / 100_003.0 - 0.5;
        x * (1.0 + (i % 7) as f32)
    });
    Tensor::from_data(TensorData::new(values.collect(), shape), &of_tests())
}

#[test]
fn a_value_comes_back_within_half_a_step_of_its_block() {
    // Inputs that do not fill a block, or a word; one input; one output.
    for shape in [[64, 3], [65, 2], [130, 5], [7, 4], [1, 1], [128, 1]] {
        let exact = random(shape, 1);
        for (format, step) in [
            (Quantization::Nf4, 0.152),
            (Quantization::Int8, 0.5 / 127.0),
        ] {
            let packed = QuantizedWeight::quantize(exact.clone(), format).unwrap();
            assert_eq!(packed.shape(), shape);
            let found = host_values(packed.dequantize());
            let values = host_values(exact.clone());
            for row in 0..shape[0] {
                for column in 0..shape[1] {
                    let at = row * shape[1] + column;
                    let block = row / 64 * 64..(row / 64 * 64 + 64).min(shape[0]);
                    let largest = block.map(|r| values[r * shape[1] + column].abs());
                    let largest = largest.fold(0.0f32, f32::max);
                    let difference = (found[at] - values[at]).abs();
                    // Half the widest step, and the rounding of the scale.
                    assert!(
                        difference <= largest * (step + 1.0 / 256.0),
                        "{shape:?} {format:?} [{row}, {column}]: {} {}",
                        found[at],
                        values[at]
                    );
                }
            }
        }
    }
}

#[test]
fn a_packed_product_and_its_gradient_are_those_of_the_unpacked_weight() {
    let device = of_tests().autodiff();
    for shape in [[65, 9], [128, 4]] {
        for format in [Quantization::Nf4, Quantization::Int8] {
            let packed = QuantizedWeight::quantize(random(shape, 2), format).unwrap();
            let dense = packed.dequantize();
            let x = || Tensor::from_inner(random([3, shape[0]], 5)).require_grad();
            let (x1, x2) = (x(), x());
            let weights = Tensor::<2>::from_inner(random([3, shape[1]], 7));
            let y1 = packed.matmul(x1.clone());
            let y2 = ls_ops::linear(x2.clone(), dense);
            assert_same(&host_values(y1.clone()), &host_values(y2.clone()));
            let g1 = (y1 * weights.clone()).sum().backward();
            let g2 = (y2 * weights).sum().backward();
            assert_same(
                &host_values(x1.grad(&g1).unwrap()),
                &host_values(x2.grad(&g2).unwrap()),
            );
        }
    }
    let _ = device;
}

#[test]
fn a_weight_that_is_multiplied_in_parts_gives_the_whole_product() {
    // More than two parts of 2^21 values, the last of them shorter.
    let shape = [4200, 1024];
    let packed = QuantizedWeight::quantize(random(shape, 2), Quantization::Nf4).unwrap();
    let dense = packed.dequantize();
    let x = || Tensor::from_inner(random([2, shape[0]], 5)).require_grad();
    let (x1, x2) = (x(), x());
    let (y1, y2) = (packed.matmul(x1.clone()), x2.clone().matmul(dense));
    let near = |found: Tensor<2>, expected: Tensor<2>| {
        assert_near(&host_values(found), &host_values(expected), 1e-5);
    };
    near(y1.clone(), y2.clone());
    let (g1, g2) = (y1.square().sum().backward(), y2.square().sum().backward());
    near(x1.grad(&g1).unwrap(), x2.grad(&g2).unwrap());
}

fn layer(shape: [usize; 2]) -> LoraLinear {
    let mut layer = LoraLinear::new(Linear {
        weight: Param::from_tensor(random(shape, 3)),
        bias: Some(Param::from_tensor(
            random([1, shape[1]], 4).reshape([shape[1]]),
        )),
    });
    let device = of_tests().autodiff();
    let mut adapter = LoraAdapter::fresh("default", shape, 3, 2.5, 0.0, 1, &device);
    adapter.lora_a =
        Param::from_tensor(Tensor::from_inner(random([shape[0], 3], 8)).require_grad());
    adapter.lora_b =
        Param::from_tensor(Tensor::from_inner(random([3, shape[1]], 9)).require_grad());
    layer.adapters.push(adapter);
    layer
}

#[test]
fn an_adapter_on_a_packed_base_is_the_adapter_on_what_it_stands_for() {
    let shape = [70, 6];
    for format in [Quantization::Nf4, Quantization::Int8] {
        let mut packed = layer(shape);
        packed.quantize(format).unwrap();
        assert_eq!(packed.packed_parameters(), 420);
        // A second time changes nothing.
        packed.quantize(Quantization::Int8).unwrap();
        let mut dense = layer(shape);
        dense.base_layer = BaseLayer::Dense(Linear {
            weight: Param::from_tensor(LoraLayer::weight(&packed)),
            bias: packed.base_layer.bias().cloned(),
        });
        let x = || random([4, 70], 11);
        let (y1, y2) = (packed.forward(x()), dense.forward(x()));
        assert_same(&host_values(y1.clone()), &host_values(y2.clone()));
        let gradients = |layer: &LoraLinear, y: Tensor<2>| {
            let gradients = y.square().sum().backward();
            let adapter = &layer.adapters[0];
            [&adapter.lora_a, &adapter.lora_b]
                .map(|p| host_values(p.val().grad(&gradients).unwrap()))
        };
        let (found, expected) = (gradients(&packed, y1.clone()), gradients(&dense, y2));
        for (found, expected) in found.iter().zip(&expected) {
            assert_same(found, expected);
        }

        // Merging packs again, says what that cost, and is undone exactly.
        let before = host_values(LoraLayer::weight(&packed));
        let drift = packed.merge().unwrap().unwrap();
        assert!(drift.relative > 0.0 && drift.relative < 0.5, "{drift:?}");
        assert!(matches!(packed.base_layer, BaseLayer::Quantized(_)));
        let merged = host_values(packed.forward(x()));
        let unmerged = host_values(y1);
        let error = |a: &[f32], b: &[f32]| -> f32 {
            let difference: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            (difference / b.iter().map(|b| b.powi(2)).sum::<f32>()).sqrt()
        };
        assert!(error(&merged, &unmerged) < 0.2);
        packed.unmerge();
        assert_eq!(host_values(LoraLayer::weight(&packed)), before);
        assert_same(&host_values(packed.forward(x())), &unmerged);
    }
}

#[test]
fn bf16_activations_stay_bf16() {
    if !of_tests().supports_dtype(DType::BF16) {
        println!("left out: the device has no BF16");
        return;
    }
    let mut packed = layer([64, 8]);
    packed.quantize(Quantization::Nf4).unwrap();
    let bias = packed.base_layer.bias().unwrap().clone();
    if let BaseLayer::Quantized(linear) = &mut packed.base_layer {
        linear.bias = Some(bias.map(|b| b.cast(DType::BF16)));
    }
    let x = random([4, 64], 11);
    let exact = host_values(packed.forward(x.clone().cast(DType::BF16)));
    let y = packed.forward(x.cast(DType::BF16));
    assert_eq!(y.dtype(), DType::BF16);
    assert_eq!(host_values(y), exact);
}

#[test]
fn four_bits_are_a_quarter_of_bf16() {
    let packed = |format| QuantizedWeight::quantize(random([512, 256], 1), format).unwrap();
    let bf16 = (512 * 256 * 2) as f64;
    let nf4 = packed(Quantization::Nf4).bytes() as f64 / bf16;
    let int8 = packed(Quantization::Int8).bytes() as f64 / bf16;
    // A scale for 64 values, in f32 where the device has no bf16.
    let scale = if of_tests().supports_dtype(DType::BF16) {
        1.0 / 64.0
    } else {
        2.0 / 64.0
    };
    assert!(nf4 < 0.2515 + scale, "{nf4}");
    assert!(int8 < 0.5045 + scale, "{int8}");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let mut values = vec![0.5f32; 64];
    values[3] = f32::NAN;
    let weight = Tensor::<2>::from_data(TensorData::new(values, [64, 1]), &of_tests());
    assert!(matches!(
        QuantizedWeight::quantize(weight, Quantization::Nf4),
        Err(LoraError::NonFiniteWeight)
    ));
}
