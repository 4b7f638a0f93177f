//! [`SavedHead`]: the head that a folder holds, of which a new one may keep rows.

use std::path::PathBuf;

use ls_files::{FileError, HostTensor};
use ls_lora::{LoraError, PeftAdapter, TaskType};

use crate::error::Result;

/// A head on the host, as files hold it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedHead {
    /// `[num_labels, hidden_size]`.
    pub weight: HostTensor,
    /// `[num_labels]`, where it has one.
    pub bias: Option<HostTensor>,
    /// The file that holds it.
    pub path: PathBuf,
}

impl SavedHead {
    /// That of an adapter, whatever its task; `path` is the file of its weights. transformers calls
    /// it `score`, the reference's token model `classifier`.
    pub(crate) fn in_adapter(adapter: &PeftAdapter, path: PathBuf) -> Option<Self> {
        let part = |part: &str| {
            let tensor = |head: &str| adapter.saved_modules.get(&format!("{head}.{part}"));
            tensor("score").or_else(|| tensor("classifier")).cloned()
        };
        Some(Self {
            weight: part("weight")?,
            bias: part("bias"),
            path,
        })
    }

    /// That of an adapter, if it has one and it is of this task; `path` is the file of its weights.
    pub fn of_adapter(adapter: &PeftAdapter, path: PathBuf, task: TaskType) -> Option<Self> {
        let is_of_task = adapter.expect_task(task).is_ok();
        let head = Self::in_adapter(adapter, path).filter(|_| is_of_task)?;
        // The head of texts has no bias.
        (head.bias.is_none() || task == TaskType::TokenCls).then_some(head)
    }

    /// Its rows, one for each label.
    pub fn num_labels(&self) -> usize {
        self.weight.shape.first().copied().unwrap_or_default()
    }

    /// The values of its weight, row by row, and of its bias.
    ///
    /// # Errors
    ///
    /// If it is not of this width.
    pub(crate) fn values(&self, width: usize) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let values = |part: &str, tensor: &HostTensor, expected: Vec<usize>| -> Result<Vec<f32>> {
            if tensor.shape == expected {
                return Ok(tensor.to_f32().map_err(LoraError::NotAFloat)?);
            }
            Err(FileError::TensorShape {
                path: self.path.clone(),
                name: format!("score.{part}"),
                expected,
                found: tensor.shape.clone(),
            }
            .into())
        };
        let rows = self.num_labels();
        let weight = values("weight", &self.weight, vec![rows, width])?;
        let bias = self.bias.as_ref();
        let bias = bias.map(|bias| values("bias", bias, vec![rows]));
        Ok((weight, bias.transpose()?))
    }
}
