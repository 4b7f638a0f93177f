//! Golden values from files, and a classifier's gradients under the keys that those files have.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Gradients, Tensor};
use ls_files::TensorFile;
use ls_lora::LoraConfig;
use ls_model::LlamaClassifier;
use ls_train::loss::{counted, cross_entropy_sum};

/// f32 against f32, of the largest gradient of a tensor.
const GRADIENTS: f32 = 1e-3;

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

    /// The token ids of the padded batch.
    pub fn ids(&self) -> Vec<Vec<u32>> {
        let rows = self.rows("input_ids").into_iter();
        rows.map(|row| row.into_iter().map(|id| id as u32).collect())
            .collect()
    }

    /// 1 where the padded batch has a token.
    pub fn mask(&self) -> Vec<Vec<u8>> {
        let rows = self.rows("attention_mask").into_iter();
        rows.map(|row| row.into_iter().map(|one| one as u8).collect())
            .collect()
    }
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32, relative: bool) {
    assert_eq!(found.len(), expected.len(), "{what}: sizes differ");
    let tolerance = ls_ops::device::tolerance_of_tests(tolerance);
    let scale = if relative {
        expected
            .iter()
            .fold(1e-6f32, |max, value| max.max(value.abs()))
    } else {
        1.0
    };
    let mut worst = 0.0f32;
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / scale;
        assert!(
            difference <= tolerance,
            "{what}[{at}]: {found} is not {expected} (difference {difference:e})"
        );
        worst = worst.max(difference);
    }
    println!("error {worst:e} limit {tolerance:e} {what}");
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

/// The mean cross-entropy of `logits`, and the gradient of everything that trains.
pub fn check_training(
    what: &str,
    of: (&LlamaClassifier, &LoraConfig),
    logits: Tensor<2>,
    labels: &[f32],
    expected: &Expected,
    tolerance: (f32, bool),
) {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let loss = cross_entropy_sum(logits, &labels).div_scalar(counted(&labels) as f32);
    check_loss(what, of, loss, expected, tolerance);
}

/// A loss, and the gradient of everything that trains.
pub fn check_loss(
    what: &str,
    (model, config): (&LlamaClassifier, &LoraConfig),
    loss: Tensor<1>,
    expected: &Expected,
    (loss_tolerance, relative): (f32, bool),
) {
    let reference = expected.get("loss").1;
    let found = values(loss.clone());
    assert_close(
        &format!("{what}: loss"),
        &found,
        &reference,
        loss_tolerance,
        relative,
    );
    let found = gradients_by_key(model, config, &loss.backward());
    let names = expected.0.names();
    let keys: Vec<&str> = names
        .filter_map(|name| name.strip_prefix("grad."))
        .collect();
    assert!(keys.len() > 2, "{what}: the fixture has no gradients");
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        keys,
        "{what}: trained tensors"
    );
    for (key, found) in &found {
        let reference = expected.get(&format!("grad.{key}")).1;
        assert_close(
            &format!("{what}: gradient of {key}"),
            found,
            &reference,
            GRADIENTS,
            true,
        );
    }
}

/// The gradients of everything that trains, by its key in an adapter file and in its layout there.
///
/// Parameters are replaced by their gradients and asked for as an adapter. Nothing else may have a
/// gradient.
fn gradients_by_key(
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
