//! Normalization by mean, variance or norm: MVN and NormalizeL2.

use flow_model::graph::Node;

use super::Sweep;
use crate::report::{Reason, ReasonCode};

impl Sweep<'_> {
    /// Says why a normalization of codes is computed from dequantized values.
    ///
    /// A positive scale per tensor cancels out but for epsilon, which would have to be divided by the square of the
    /// scale; both roundings differ from those of the model. OpenVINO drops the scale and leaves epsilon as it is
    /// (`LP_TRANSFORMS_MODE`), so that its results are others altogether where the variance is near epsilon: no numerics
    /// follow it.
    pub(super) fn normalization(&self, node: &Node) -> Result<bool, Reason> {
        if node.inputs.first().is_none_or(|&v| self.coded(v).is_none()) {
            return Ok(false);
        }
        Err(Reason::new(
            ReasonCode::NoIntegerForm,
            format!(
                "{} \"{}\" divides by a root of its own data and is computed in f32, with its epsilon as it is; what \
                 lies before and behind it keeps its codes",
                node.op.type_name(),
                node.name
            ),
        ))
    }
}
