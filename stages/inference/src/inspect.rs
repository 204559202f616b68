//! What became of each operation of a model.

use flow_cpu::{Program, StepRecord};
use flow_lpt::{Fate, Report};
use flow_model::Graph;
use serde::Serialize;

use crate::engine::is_work;

/// One operation of the model.
#[derive(Debug, Clone, Serialize)]
pub struct LayerRow {
    /// Name in the model file.
    pub name: String,
    /// Type in the model file.
    #[serde(rename = "type")]
    pub kind: String,
    /// Element type it works on: `u8` or `i8` for one that runs on codes.
    pub precision: String,
    /// Kernel that does its work; none where nothing runs for it.
    pub kernel: Option<String>,
    /// The operation whose kernel does its work too, where it is another one.
    #[serde(rename = "fused-into")]
    pub fused_into: Option<String>,
    /// Why it is not INT8, where it is not.
    pub reason: Option<String>,
    /// Mean time of its kernel in milliseconds, where times were taken; none for one that is fused into another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
}

/// One row per operation, in the order of the model.
pub(crate) fn rows(graph: &Graph, report: Option<&Report>, program: Option<&Program>) -> Vec<LayerRow> {
    let steps = program.map_or(&[][..], Program::steps);
    match report {
        Some(report) => report
            .layers
            .iter()
            .map(|layer| {
                let now = match &layer.fate {
                    Fate::FusedInto(name) => Some(name),
                    Fate::Kept => Some(&layer.name),
                    Fate::Removed => None,
                };
                let step = now.and_then(|name| step_of(steps, name));
                let fused_into = match (step, now) {
                    (Some(step), _) if *step.name != *layer.name => Some(step.name.to_string()),
                    (None, Some(name)) if **name != *layer.name => Some(name.to_string()),
                    _ => None,
                };
                LayerRow {
                    name: layer.name.to_string(),
                    kind: layer.kind.to_owned(),
                    precision: layer.precision.name().to_uppercase(),
                    kernel: step.map(|s| s.kernel.clone()),
                    fused_into,
                    reason: layer.reason.as_ref().map(ToString::to_string),
                    ms: None,
                }
            })
            .collect(),
        None => graph
            .nodes
            .iter()
            .filter(|node| is_work(&node.op))
            .map(|node| {
                let step = step_of(steps, &node.name);
                LayerRow {
                    name: node.name.to_string(),
                    kind: node.op.type_name().to_owned(),
                    precision: node.outputs[0].element_type.name().to_uppercase(),
                    kernel: step.map(|s| s.kernel.clone()),
                    fused_into: step.filter(|s| *s.name != *node.name).map(|s| s.name.to_string()),
                    reason: Some("low precision transformations are switched off".into()),
                    ms: None,
                }
            })
            .collect(),
    }
}

/// The step that does the work of an operation: its own, or the one it is fused into.
fn step_of<'a>(steps: &'a [StepRecord], name: &str) -> Option<&'a StepRecord> {
    steps
        .iter()
        .find(|s| &*s.name == name)
        .or_else(|| steps.iter().find(|s| s.fused.iter().any(|f| &**f == name)))
}
