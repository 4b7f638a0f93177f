//! Loads tensors from files onto a device, in the element type that the model holds them in.
//!
//! A matrix is read a band of rows at a time by positioned reads, then converted and transposed on
//! all cores. Files are not mapped into memory: mapped pages count as resident, so that the whole
//! checkpoint would be resident beside the model. A tensor of a pickled file is the exception: it
//! is read whole, and let go before the next.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use ls_files::{Dtype, FileError, NotFinite, OpenTensor};
use ls_lora::{LoraError, LoraLayer, LoraLinear};
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
    fn precision(&self) -> &Precision {
        &self.precision
    }

    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>> {
        self.matrix("embed_tokens.weight", shape, false)
    }

    fn linear(&mut self, name: &str, projection: Projection) -> Result<LoraLinear> {
        let [d_in, d_out] = projection.shape;
        let full_name = format!("{name}.weight");
        let weight = self.tensor(&full_name, [d_out, d_in], true)?;
        let packed = self.precision.quantization;
        let packed = packed.filter(|_| !self.precision.in_f32.holds(&full_name));
        // What is packed at once does not stay.
        let weight = match packed {
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
        if let Some(format) = packed {
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
        let options = (self.device, data.dtype());
        Tensor::from_data(data, options)
    }

    /// The same for as long as the model is there.
    fn stay(&self, data: TensorData) -> Tensor<2> {
        let options = (self.device, data.dtype());
        ls_ops::allocate_to_stay(self.device, || Tensor::from_data(data, options))
    }

    /// A matrix in the file, or its transpose, in the model's element type.
    fn tensor(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        transposed: bool,
    ) -> Result<TensorData> {
        let compute = self.precision.of(name);
        let name = &format!("{}{name}", self.prefix);
        let file = self.files.file_of(name)?;
        let (dtype, shape_in_file) = self.files.get(name)?;
        let shape = if transposed {
            [columns, rows]
        } else {
            [rows, columns]
        };
        let mut source = Source {
            tensor: file.tensor(name)?,
            rows,
            columns,
            transposed,
            buffer: &mut self.buffer,
            dtype,
            into: match compute {
                ComputeType::F32 => Dtype::F32,
                ComputeType::Bf16 => Dtype::BF16,
            },
            not_finite: None,
        };
        let bf16_value = |b: [u8; 2]| bf16::from_le_bytes(b).to_f32();
        let f16_value = |b: [u8; 2]| f16::from_le_bytes(b).to_f32();
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
        if let Some(found) = source.not_finite {
            return Err(FileError::TensorNotFinite {
                path: file.path().to_path_buf(),
                name: name.clone(),
                shape: shape_in_file.to_vec(),
                found,
                into: source.into,
            }
            .into());
        }
        self.loaded += 1;
        (self.progress)(self.loaded, self.total);
        Ok(data)
    }
}

/// A matrix in a file. It is read a band of rows at a time, so that there is room for one band
/// beside the result.
struct Source<'a> {
    tensor: OpenTensor<'a>,
    rows: usize,
    columns: usize,
    transposed: bool,
    buffer: &'a mut Vec<u8>,
    /// The type of its values, and the one that they become.
    dtype: Dtype,
    into: Dtype,
    /// What was read that is no number.
    not_finite: Option<NotFinite>,
}

impl Source<'_> {
    /// Bytes of a band; it stays in the cache until it is decoded.
    const BAND: usize = 4 << 20;
    /// Bytes that a thread reads at a time, whole values.
    const PIECE: usize = 1 << 20;

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
            let tensor = &self.tensor;
            self.buffer
                .par_chunks_mut(Self::PIECE)
                .enumerate()
                .try_for_each(|(at, bytes)| {
                    tensor.read_part(first * width + at * Self::PIECE, bytes)
                })?;
            // While the band is in the cache.
            let found = self
                .buffer
                .par_chunks(Self::PIECE)
                .enumerate()
                .map(|(at, bytes)| {
                    let found = NotFinite::find(bytes, self.dtype, self.into)?;
                    Ok(found.map(|found| found.from(at * Self::PIECE / N)))
                })
                .try_reduce(|| None, |a, b| Ok(NotFinite::both(a, b)))
                .map_err(LoraError::NotAFloat)?;
            let found = found.map(|found| found.from(first * columns));
            self.not_finite = NotFinite::both(self.not_finite, found);
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
    use ls_files::{HostTensor, TensorFile};
    use ls_lora::Quantization;

    use super::*;
    use crate::Checkpoint;
    use crate::heads::{Pooling, Task};
    use crate::input::ModelInput;
    use crate::mask::AttentionMode;
    use crate::tiny::{HIDDEN, LABELS, LAYERS, Tiny, assert_close, logits_of};
    use crate::trained::Trained;

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
            let source = |name, buffer, dtype| Source {
                tensor: file.tensor(name).unwrap(),
                rows,
                columns,
                transposed,
                buffer,
                dtype,
                into: Dtype::F32,
                not_finite: None,
            };
            let read = source("wide", first, Dtype::F32).read(f32::from_le_bytes);
            assert!(read.unwrap() == expected);
            let read =
                source("half", second, Dtype::BF16).read(|b| bf16::from_le_bytes(b).to_f32());
            assert!(read.unwrap() == expected);
        }
    }

    /// Of several bands, and of every type; what is packed is looked at before.
    #[test]
    fn a_weight_that_is_no_number_is_named_with_its_place_and_their_number() {
        let (name, width) = ("model.layers.1.mlp.up_proj.weight", HIDDEN);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            for (bad, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
                let mut tiny = Tiny::with_head();
                let tensor = tiny.tensors.get_mut(name).unwrap();
                let mut values = tensor.to_f32().unwrap();
                values[2 * width + 1] = bad;
                values[3 * width] = f32::NAN;
                let shape = tensor.shape.clone();
                *tensor = HostTensor::from_f32(shape, &values)
                    .to_dtype(dtype)
                    .unwrap();
                let dir = tiny.write();
                let checkpoint = Checkpoint::open(dir.path()).unwrap();
                let precisions: [Precision; 4] = [
                    ComputeType::F32.into(),
                    ComputeType::Bf16.into(),
                    Precision {
                        compute: ComputeType::F32,
                        quantization: Some(Quantization::Int8),
                        in_f32: Trained::Head,
                    },
                    Precision {
                        compute: ComputeType::F32,
                        quantization: Some(Quantization::Nf4),
                        in_f32: Trained::Head,
                    },
                ];
                for precision in precisions {
                    let device = Device::flex();
                    let loaded = checkpoint.load_model(
                        &AttentionMode::Causal,
                        precision,
                        &device,
                        |_, _| (),
                    );
                    let error = loaded.unwrap_err().to_string();
                    let expected = format!(
                        "model.safetensors: tensor {name}: 2 of {} values are NaN or infinite, \
                         the first {shown} at [2, 1]; expected numbers",
                        values.len()
                    );
                    assert!(error.ends_with(&expected), "{error}");
                }
            }
        }
        // In the head, in its second band.
        let (rows, columns) = (1200, 1000);
        let mut values = vec![0.5; rows * columns];
        values[1100 * columns + 7] = f32::INFINITY;
        values[1199 * columns + 999] = f32::NAN;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let wide = HostTensor::from_f32([rows, columns], &values);
        ls_files::write_tensors(&path, [("wide", &wide)]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let mut source = Source {
            tensor: file.tensor("wide").unwrap(),
            rows,
            columns,
            transposed: true,
            buffer: &mut Vec::new(),
            dtype: Dtype::F32,
            into: Dtype::F32,
            not_finite: None,
        };
        source.read(f32::from_le_bytes).unwrap();
        let found = source.not_finite.unwrap();
        assert_eq!((found.count, found.first), (2, 1100 * columns + 7));
    }

    #[test]
    fn a_weight_past_the_range_of_bf16_is_refused_where_it_is_rounded() {
        let mut tiny = Tiny::with_head();
        let norm = tiny.tensors.get_mut("model.norm.weight").unwrap();
        let mut values = norm.to_f32().unwrap();
        values[3] = f32::MAX;
        *norm = HostTensor::from_f32([HIDDEN], &values);
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let load = |compute: ComputeType| {
            checkpoint.load_model(&AttentionMode::Causal, compute, &Device::flex(), |_, _| ())
        };
        load(ComputeType::F32).unwrap();
        let error = load(ComputeType::Bf16).unwrap_err().to_string();
        let expected = format!(
            "tensor model.norm.weight: 1 of {HIDDEN} values is NaN or infinite in BF16, the first \
             {} at [3]; expected numbers",
            f64::from(f32::MAX)
        );
        assert!(error.ends_with(&expected), "{error}");
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
