//! Golden values from files, and a classifier's gradients under the keys that those files have.
// Each test that shares it uses a part.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Gradients, Tensor};
use ls_lora::{LoraConfig, TensorFile};
use ls_model::LlamaClassifier;

/// A file's tensors as f32 with their shapes.
pub struct Expected(pub TensorFile);

impl Expected {
    pub fn open(path: &Path) -> Self {
        Self(TensorFile::open(path).unwrap())
    }

    pub fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (dtype, shape) = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the fixture"));
        let shape = shape.to_vec();
        let values = match format!("{dtype:?}").as_str() {
            "I32" => {
                let bytes = self.0.read(name).unwrap().bytes;
                bytes
                    .chunks_exact(4)
                    .map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32)
                    .collect()
            }
            _ => self.0.read(name).unwrap().to_f32().unwrap(),
        };
        (shape, values)
    }

    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let (shape, values) = self.get(name);
        values
            .chunks(shape[1..].iter().product())
            .map(<[f32]>::to_vec)
            .collect()
    }
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32, relative: bool) {
    assert_eq!(found.len(), expected.len(), "{what}: sizes differ");
    let scale = if relative {
        expected
            .iter()
            .fold(1e-6f32, |max, value| max.max(value.abs()))
    } else {
        1.0
    };
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / scale;
        assert!(
            difference <= tolerance,
            "{what}[{at}]: {found} is not {expected} (difference {difference:e})"
        );
    }
}

/// Of values laid out for every place of the padded batch, those of the places where `mask` is 1.
pub fn at_tokens(rows: &[Vec<f32>], mask: &[Vec<u8>], width: usize) -> Vec<f32> {
    let places = rows
        .iter()
        .zip(mask)
        .flat_map(|(row, mask)| row.chunks(width).zip(mask));
    places
        .filter(|(_, one)| **one == 1)
        .flat_map(|(values, _)| values.to_vec())
        .collect()
}

/// The gradients of everything that trains, by its key in an adapter file and in its layout there.
///
/// Parameters are replaced by their gradients and asked for as an adapter. Nothing else may have a gradient.
pub fn gradients_by_key(
    model: &LlamaClassifier,
    config: &LoraConfig,
    gradients: &Gradients,
) -> BTreeMap<String, Vec<f32>> {
    struct Replace<'a>(&'a Gradients, usize);
    impl ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match param.val().grad(self.0) {
                Some(gradient) => {
                    self.1 += 1;
                    param.map(|_| Tensor::from_inner(gradient))
                }
                None => param,
            }
        }
    }
    let mut replace = Replace(gradients, 0);
    let adapter = model.clone().map(&mut replace).to_adapter(config);
    let found: BTreeMap<String, Vec<f32>> = adapter
        .tensors()
        .map(|(key, tensor)| (key, tensor.to_f32().unwrap()))
        .collect();
    assert_eq!(
        found.len(),
        replace.1,
        "something else has a gradient, or something has none"
    );
    found
}
