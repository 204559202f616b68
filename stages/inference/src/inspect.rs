//! What became of each operation of a model.

use flow_cpu::{Program, StepRecord};
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
}

/// One row per operation, in the order of the model.
pub(crate) fn rows(graph: &Graph, program: Option<&Program>) -> Vec<LayerRow> {
    let steps = program.map_or(&[][..], Program::steps);
    graph
        .nodes
        .iter()
        .filter(|node| is_work(&node.op))
        .map(|node| {
            let step = step_of(steps, &node.name);
            LayerRow {
                name: node.name.to_string(),
                kind: flow_model::text::operation(&node.op),
                precision: node.outputs[0].element_type.name().to_uppercase(),
                kernel: step.map(|s| s.kernel.clone()),
                fused_into: step.filter(|s| *s.name != *node.name).map(|s| s.name.to_string()),
                reason: None,
            }
        })
        .collect()
}

/// The step that does the work of an operation: its own, or the one it is fused into.
fn step_of<'a>(steps: &'a [StepRecord], name: &str) -> Option<&'a StepRecord> {
    steps
        .iter()
        .find(|s| &*s.name == name)
        .or_else(|| steps.iter().find(|s| s.fused.iter().any(|f| &**f == name)))
}
