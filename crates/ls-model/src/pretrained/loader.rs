//! Loads tensors from files onto a device, in the element type that the model holds them in.
//!
//! A matrix is read a band of rows at a time by positioned reads, then converted and transposed on
//! all cores. Files are not mapped into memory: mapped pages count as resident, so that the whole
//! checkpoint would be resident beside the model.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use ls_files::{Dtype, TensorFile};
use ls_lora::{LoraLayer, LoraLinear};
use rayon::prelude::*;

use super::files::WeightFiles;
use crate::assemble::Weights;
use crate::config::Projection;
use crate::error::Result;
use crate::precision::{ComputeType, Precision};

/// Loads tensors by name.
pub(super) struct Loader<'a> {
    pub files: &'a WeightFiles,
    /// What stands before every tensor's name.
    pub prefix: &'a str,
    pub precision: Precision,
    pub device: &'a Device,
    /// Tensors loaded so far.
    pub loaded: usize,
    /// Tensors to load.
    pub total: usize,
    /// Receives `loaded` and `total` after each tensor.
    pub progress: &'a mut dyn FnMut(usize, usize),
    /// The band that is being read; kept for the next one.
    pub buffer: Vec<u8>,
}

impl Weights for Loader<'_> {
    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>> {
        self.matrix("embed_tokens.weight", shape, false)
    }

    fn linear(&mut self, name: &str, projection: Projection) -> Result<LoraLinear> {
        let [d_in, d_out] = projection.shape;
        let weight = self.tensor(&format!("{name}.weight"), [d_out, d_in], true)?;
        // What is packed at once does not stay.
        let weight = match self.precision.quantization {
            Some(_) => self.upload(weight),
            None => self.stay(weight),
        };
        let weight = Param::from_tensor(weight);
        let bias = if projection.has_bias {
            Some(self.vector(&format!("{name}.bias"), d_out)?)
        } else {
            None
        };
        let mut layer = LoraLinear::new(Linear { weight, bias });
        if let Some(format) = self.precision.quantization {
            // Layer by layer, so that at most one is unpacked.
            layer.quantize(format)?;
        }
        Ok(layer)
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>> {
        self.vector(&format!("{name}.weight"), width)
    }
}

impl Loader<'_> {
    /// A matrix of `shape` in the file, or its transpose.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        transposed: bool,
    ) -> Result<Param<Tensor<2>>> {
        let matrix = self.tensor(name, shape, transposed)?;
        Ok(Param::from_tensor(self.stay(matrix)))
    }

    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Param<Tensor<1>>> {
        let row = self.tensor(name, [1, length], false)?;
        Ok(Param::from_tensor(self.stay(row).reshape([length])))
    }

    /// Puts values on the device.
    fn upload(&self, data: TensorData) -> Tensor<2> {
        Tensor::from_data(data, (self.device, self.precision.compute.dtype()))
    }

    /// The same for as long as the model is there.
    fn stay(&self, data: TensorData) -> Tensor<2> {
        let options = (self.device, self.precision.compute.dtype());
        ls_ops::allocate_to_stay(self.device, || Tensor::from_data(data, options))
    }

    /// A matrix in the file, or its transpose, in the model's element type.
    fn tensor(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        transposed: bool,
    ) -> Result<TensorData> {
        let name = &format!("{}{name}", self.prefix);
        let file = self.files.file_of(name)?;
        let (dtype, _) = self.files.get(name)?;
        let shape = if transposed {
            [columns, rows]
        } else {
            [rows, columns]
        };
        let mut source = Source {
            file,
            name,
            rows,
            columns,
            transposed,
            buffer: &mut self.buffer,
        };
        let bf16_value = |b: [u8; 2]| bf16::from_le_bytes(b).to_f32();
        let f16_value = |b: [u8; 2]| f16::from_le_bytes(b).to_f32();
        let compute = self.precision.compute;
        let data = match (compute, dtype) {
            (ComputeType::F32, Dtype::BF16) => TensorData::new(source.read(bf16_value)?, shape),
            (ComputeType::F32, Dtype::F16) => TensorData::new(source.read(f16_value)?, shape),
            (ComputeType::F32, _) => TensorData::new(source.read(f32::from_le_bytes)?, shape),
            (ComputeType::Bf16, Dtype::BF16) => {
                TensorData::new(source.read(bf16::from_le_bytes)?, shape)
            }
            (ComputeType::Bf16, Dtype::F16) => {
                TensorData::new(source.read(|b| bf16::from_f32(f16_value(b)))?, shape)
            }
            (ComputeType::Bf16, _) => {
                let read = source.read(|b| bf16::from_f32(f32::from_le_bytes(b)));
                TensorData::new(read?, shape)
            }
        };
        self.loaded += 1;
        (self.progress)(self.loaded, self.total);
        Ok(data)
    }
}

/// A matrix in a file. It is read a band of rows at a time, so that there is room for one band
/// beside the result.
struct Source<'a> {
    file: &'a TensorFile,
    name: &'a str,
    rows: usize,
    columns: usize,
    transposed: bool,
    buffer: &'a mut Vec<u8>,
}

impl Source<'_> {
    /// Bytes of a band; it stays in the cache until it is decoded.
    const BAND: usize = 4 << 20;

    /// Its values in row-major order, of the transpose if that is wanted; `N` is the size of a
    /// value in the file.
    fn read<T: Copy + Default + Send, const N: usize>(
        &mut self,
        decode: impl Fn([u8; N]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let (rows, columns) = (self.rows, self.columns);
        let mut out = vec![T::default(); rows * columns];
        let width = columns * N;
        let band = (Self::BAND / width.max(1)).max(1);
        for first in (0..rows).step_by(band) {
            let count = band.min(rows - first);
            self.buffer.resize(count * width, 0);
            let (file, name) = (self.file, self.name);
            let piece = 1 << 20;
            self.buffer
                .par_chunks_mut(piece)
                .enumerate()
                .try_for_each(|(at, bytes)| {
                    file.read_part(name, first * width + at * piece, bytes)
                })?;
            let values = self.buffer.as_chunks::<N>().0;
            if self.transposed {
                // Of so many neighbouring columns each cache line of the band is read once.
                const COLUMNS: usize = 16;
                out.par_chunks_mut(COLUMNS * rows)
                    .enumerate()
                    .for_each(|(tile, out)| {
                        for (at, out) in out.chunks_mut(rows).enumerate() {
                            let column = tile * COLUMNS + at;
                            let values = values[column..].iter().step_by(columns);
                            for (out, value) in out[first..first + count].iter_mut().zip(values) {
                                *out = decode(*value);
                            }
                        }
                    });
            } else {
                const VALUES: usize = 1 << 16;
                out[first * columns..(first + count) * columns]
                    .par_chunks_mut(VALUES)
                    .zip(values.par_chunks(VALUES))
                    .for_each(|(out, values)| {
                        for (out, value) in out.iter_mut().zip(values) {
                            *out = decode(*value);
                        }
                    });
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use ls_files::HostTensor;

    use super::*;
    use crate::Checkpoint;
    use crate::heads::{Pooling, Task};
    use crate::input::ModelInput;
    use crate::mask::AttentionMode;
    use crate::tiny::{HIDDEN, LABELS, LAYERS, Tiny, assert_close, logits_of};

    #[test]
    fn half_precision_stays_close_to_f32() {
        let tiny = Tiny::with_head();
        let exact = logits_of(tiny.write().path(), ComputeType::F32);
        assert!(exact.iter().any(|logit| logit.abs() > 0.3), "{exact:?}");
        // bf16 has 8 bits of mantissa, f16 has 11; three layers on logits of about 0.4.
        for (dtype, tolerance) in [(Dtype::BF16, 0.05), (Dtype::F16, 0.005)] {
            let mut half = tiny.clone();
            for tensor in half.tensors.values_mut() {
                *tensor = tensor.to_dtype(dtype).unwrap();
            }
            let found = logits_of(half.write().path(), ComputeType::F32);
            assert_close(&found, &exact, tolerance);
            assert_ne!(found, exact);
        }
        let computed = logits_of(tiny.write().path(), ComputeType::Bf16);
        assert_close(&computed, &exact, 0.1);
        assert_ne!(computed, exact);
        // A bf16 file's weights are what rounding the f32 file's gives.
        let mut half = tiny.clone();
        for (name, tensor) in &mut half.tensors {
            if name != "score.weight" {
                *tensor = tensor.to_dtype(Dtype::BF16).unwrap();
            }
        }
        assert_eq!(logits_of(half.write().path(), ComputeType::Bf16), computed);
    }

    #[test]
    fn a_matrix_of_several_bands_is_read_whole_either_way_up() {
        let (rows, columns) = (1501, 1101);
        let values: Vec<f32> = (0..rows * columns).map(|i| (i % 251) as f32).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let wide = HostTensor::from_f32([rows, columns], &values);
        let half = wide.to_dtype(Dtype::BF16).unwrap();
        ls_files::write_tensors(&path, [("wide", &wide), ("half", &half)]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        for transposed in [false, true] {
            let mut buffers = [Vec::new(), Vec::new()];
            let expected: Vec<f32> = if transposed {
                (0..rows * columns)
                    .map(|i| values[i % rows * columns + i / rows])
                    .collect()
            } else {
                values.clone()
            };
            let [first, second] = &mut buffers;
            let source = |name, buffer| Source {
                file: &file,
                name,
                rows,
                columns,
                transposed,
                buffer,
            };
            let read = source("wide", first).read(f32::from_le_bytes);
            assert!(read.unwrap() == expected);
            let read = source("half", second).read(|b| bf16::from_le_bytes(b).to_f32());
            assert!(read.unwrap() == expected);
        }
    }

    #[test]
    fn weights_are_frozen_constants_in_the_compute_type_and_the_head_is_f32() {
        let dir = Tiny::with_head().write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let device = Device::flex().autodiff();
        let model = checkpoint
            .load_classifier(
                &AttentionMode::Causal,
                Task::Sequence(Pooling::Last),
                ComputeType::Bf16,
                &device,
            )
            .unwrap();
        let count = ls_lora::ParameterCount::of(&model);
        assert_eq!(count.trainable, 0);
        assert_eq!(count.all, checkpoint.num_parameters() + LABELS * HIDDEN);
        let embeddings = model.model.embed_tokens.base_layer.weight.val();
        assert!(!embeddings.is_autodiff());
        assert_eq!(embeddings.dtype(), DType::BF16);
        assert_eq!(model.score.weight.val().dtype(), DType::F32);
        let input = ModelInput::new(&[[1u32, 2]], &checkpoint.config, &device).unwrap();
        // A CPU computes in f32, whatever it keeps.
        assert_eq!(model.model.forward(&input).dtype(), DType::F32);
        assert_eq!(model.forward(&input).dtype(), DType::F32);
    }

    #[test]
    fn progress_ends_at_the_number_of_tensors() {
        let mut tiny = Tiny::with_head();
        tiny.put("lm_head.weight", &[13, HIDDEN]);
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let mut calls = Vec::new();
        let listen = |at, of| calls.push((at, of));
        checkpoint
            .load_model(
                &AttentionMode::Causal,
                ComputeType::F32,
                &Device::flex(),
                listen,
            )
            .unwrap();
        let total = 2 + LAYERS * 9;
        let expected: Vec<_> = (1..=total).map(|at| (at, total)).collect();
        assert_eq!(calls, expected);
    }
}
