//! What became of each operation of a model.

use std::borrow::Cow;

use flow_cpu::{StepRecord, StepTime};
use flow_lpt::{Fate, Report};
use flow_model::{ElementType, Graph, OutputInfo};
use serde::Serialize;

use crate::counters::constant_nodes;
use crate::engine::{Engine, is_work};

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

impl Engine {
    /// What each step is, in order of execution: a kernel's, or on the reference evaluator an operation's.
    pub(crate) fn steps(&self) -> Cow<'_, [StepRecord]> {
        match (self.program(), self.evaluated()) {
            (Some(program), _) => Cow::Borrowed(program.steps()),
            (None, Some(graph)) => Cow::Owned(evaluated_steps(graph)),
            (None, None) => Cow::Borrowed(&[]),
        }
    }

    /// One row per operation of the model: precision, kernel, where it was fused, why it is not INT8.
    pub fn inspect(&self) -> Vec<LayerRow> {
        rows(self.original(), self.report(), &self.steps())
    }

    /// As [`inspect`](Self::inspect), with the mean times of the steps, as
    /// [`Profile::mean`](crate::Profile::mean) gives them.
    pub fn inspect_timed(&self, times: &[StepTime]) -> Vec<LayerRow> {
        let mut rows = self.inspect();
        // The evaluator takes a time for each node of its graph.
        let names: Vec<&str> = match (self.program(), self.evaluated()) {
            (Some(program), _) => program.steps().iter().map(|s| &*s.name).collect(),
            (None, Some(graph)) => graph.nodes.iter().map(|n| &*n.name).collect(),
            (None, None) => Vec::new(),
        };
        for (name, time) in names.into_iter().zip(times) {
            let own = rows
                .iter_mut()
                .find(|r| r.name == name && r.fused_into.is_none() && r.kernel.is_some());
            if let Some(row) = own {
                *row.ms.get_or_insert(0.0) += time.real.as_secs_f64() * 1e3;
            }
        }
        rows
    }
}

/// The operations that the reference evaluator runs one after another.
fn evaluated_steps(graph: &Graph) -> Vec<StepRecord> {
    let constant = constant_nodes(graph);
    graph
        .iter()
        .filter(|(id, node)| is_work(&node.op) && !constant[id.index()])
        .map(|(_, node)| {
            let output = node.outputs.first();
            StepRecord {
                name: node.name.clone(),
                fused: Vec::new(),
                kernel: "reference".to_owned(),
                precision: output.map_or(ElementType::F32, |o| o.element_type),
                macs: 0,
                bytes: 0,
                shape: output.and_then(OutputInfo::static_shape).unwrap_or_default(),
                reference: true,
                unguarded: None,
            }
        })
        .collect()
}

/// One row per operation, in the order of the model.
fn rows(graph: &Graph, report: Option<&Report>, steps: &[StepRecord]) -> Vec<LayerRow> {
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
