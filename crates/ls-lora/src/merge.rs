//! [`MergeReport`]: folding the adapters of a model into its weights, layer by layer.

use std::fmt;

use crate::error::{Result, in_module};
use crate::layer::MergeDrift;
use crate::module::LoraModule;

/// What merging changed by casting, layer by layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergeReport {
    /// The merged layers.
    pub layers: Vec<MergeDrift>,
}

impl MergeReport {
    /// The layer whose rounding is largest beside the change.
    #[must_use]
    pub fn worst(&self) -> Option<&MergeDrift> {
        self.layers
            .iter()
            .max_by(|a, b| a.relative.total_cmp(&b.relative))
    }
}

impl fmt::Display for MergeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worst() {
            None => f.write_str("no layer had an active adapter"),
            Some(worst) => write!(
                f,
                "{} layers merged; rounding is at most {:.2e} of the change (in {}, {:.1e} in one weight)",
                self.layers.len(),
                worst.relative,
                worst.module,
                worst.max_abs
            ),
        }
    }
}

/// Merges layer by layer, if asked letting go of what unmerging would need as it goes.
pub(crate) fn merge_layers<M: LoraModule>(model: &mut M, unload: bool) -> Result<MergeReport> {
    let mut report = MergeReport::default();
    for (module, layer) in model.layers_mut() {
        if let Some(drift) = layer.merge().map_err(|error| in_module(&module, error))? {
            report.layers.push(MergeDrift { module, ..drift });
        }
        if unload {
            layer.unload();
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_where_rounding_is_worst() {
        assert_eq!(
            MergeReport::default().to_string(),
            "no layer had an active adapter"
        );
        let layer = |module: &str, relative| MergeDrift {
            module: module.to_owned(),
            max_abs: 1e-4,
            relative,
        };
        let report = MergeReport {
            layers: vec![layer("fc1", 0.01), layer("fc2", 0.2), layer("fc3", 0.1)],
        };
        assert_eq!(
            report.worst().map(|layer| layer.module.as_str()),
            Some("fc2")
        );
        assert_eq!(
            report.to_string(),
            "3 layers merged; rounding is at most 2.00e-1 of the change (in fc2, 1.0e-4 in one weight)"
        );
    }
}
