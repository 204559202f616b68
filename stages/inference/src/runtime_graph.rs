//! The graph that runs: one node per step, input and output, with what each covers and how long it takes.

use std::collections::HashMap;
use std::fmt::Write as _;

use flow_cpu::{StepRecord, StepTime};
use flow_model::text::escape;
use flow_model::{ElementType, Graph, NodeId, Op, Value};

use crate::counters::LayerCounter;
use crate::engine::Engine;
use crate::error::EngineError;

/// A node of the graph that runs.
#[derive(Debug, Clone)]
pub struct RuntimeNode {
    /// The counters of its layer.
    pub counter: LayerCounter,
    /// Layers of the model whose work it does.
    pub originals: Vec<String>,
    /// Element type of its first output.
    pub output_type: ElementType,
    /// Element type that it works on.
    pub runtime_type: ElementType,
    /// Axis lengths of its first output.
    pub shape: Vec<usize>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Nodes that it reads, by index; each once.
    pub inputs: Vec<usize>,
}

impl Engine {
    /// The graph that runs, in order of execution; `times` as of [`counters`](Self::counters).
    ///
    /// # Errors
    /// Those of the transformations, which are made anew.
    pub fn runtime_graph(&self, times: &[StepTime]) -> Result<Vec<RuntimeNode>, EngineError> {
        let lowered = self.lowered()?;
        let steps = self.steps();
        let counters = self.counters(times);
        let counter_of: HashMap<&str, &LayerCounter> =
            counters.iter().map(|c| (c.name.as_str(), c)).collect();
        // Which node of the result stands for each node of the graph: inputs first, then steps, then outputs.
        let first_step = lowered.parameters.len();
        let mut place: Vec<Option<usize>> = vec![None; lowered.nodes.len()];
        // A layer may take several steps: they are one node.
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        let mut layers: Vec<&StepRecord> = Vec::new();
        for step in steps.iter() {
            by_name.entry(&step.name).or_insert_with(|| {
                layers.push(step);
                first_step + layers.len() - 1
            });
        }
        let owners: Vec<usize> = steps.iter().map(|step| by_name[&*step.name]).collect();
        for (step, &owner) in steps.iter().zip(&owners) {
            for name in &step.fused {
                by_name.entry(name).or_insert(owner);
            }
        }
        for (id, node) in lowered.iter() {
            if !matches!(node.op, Op::Constant(_)) {
                place[id.index()] = by_name.get(&*node.name).copied();
            }
        }
        for (i, id) in lowered.parameters.iter().enumerate() {
            place[id.index()] = Some(i);
        }
        for (i, id) in lowered.results.iter().enumerate() {
            place[id.index()] = Some(first_step + layers.len() + i);
        }
        let names: std::collections::HashSet<&str> = self.original().nodes.iter().map(|n| &*n.name).collect();
        let mut nodes = Vec::new();
        let edge = |id: NodeId| -> RuntimeNode {
            let node = lowered.node(id);
            let value = node.inputs.first().copied().unwrap_or(Value::of(id));
            let info = lowered.info(value);
            let counter = counter_of.get(&*node.name).map_or_else(
                || LayerCounter {
                    name: node.name.to_string(),
                    executed: false,
                    layer_type: node.op.type_name().to_owned(),
                    exec_type: "undef".to_owned(),
                    real: std::time::Duration::ZERO,
                    cpu: std::time::Duration::ZERO,
                    step: None,
                },
                |c| (*c).clone(),
            );
            RuntimeNode {
                originals: vec![node.name.to_string()],
                output_type: info.element_type,
                runtime_type: info.element_type,
                shape: info.static_shape().unwrap_or_default(),
                macs: 0,
                inputs: Vec::new(),
                counter,
            }
        };
        nodes.extend(lowered.parameters.iter().map(|&id| edge(id)));
        for (at, step) in layers.iter().enumerate() {
            let Some(&counter) = counter_of.get(&*step.name) else {
                continue;
            };
            let last = lowered
                .iter()
                .filter(|(id, _)| place[id.index()] == Some(first_step + at))
                .last();
            let output = last.and_then(|(_, n)| n.outputs.first());
            nodes.push(RuntimeNode {
                counter: counter.clone(),
                originals: std::iter::once(&step.name)
                    .chain(&step.fused)
                    .filter(|n| names.contains(&***n))
                    .map(ToString::to_string)
                    .collect(),
                output_type: output.map_or(step.precision, |o| o.element_type),
                runtime_type: step.precision,
                shape: step.shape.clone(),
                macs: steps.iter().filter(|s| s.name == step.name).map(|s| s.macs).sum(),
                inputs: Vec::new(),
            });
        }
        nodes.extend(lowered.results.iter().map(|&id| edge(id)));
        for (id, node) in lowered.iter() {
            let Some(to) = place[id.index()] else { continue };
            for value in &node.inputs {
                sources(&lowered, &place, value.node, to, &mut nodes);
            }
        }
        Ok(nodes)
    }
}

/// Adds to node `to` what computes the value of `from`: through views, which no step computes.
fn sources(graph: &Graph, place: &[Option<usize>], from: NodeId, to: usize, nodes: &mut [RuntimeNode]) {
    let mut open = vec![from];
    let mut seen = std::collections::HashSet::new();
    while let Some(id) = open.pop() {
        match place[id.index()] {
            Some(at) if at == to => {}
            Some(at) => {
                let inputs = &mut nodes[to].inputs;
                if !inputs.contains(&at) {
                    inputs.push(at);
                }
            }
            None => open.extend(
                graph
                    .node(id)
                    .inputs
                    .iter()
                    .map(|v| v.node)
                    .filter(|id| seen.insert(*id)),
            ),
        }
    }
}

fn port(text: &mut String, id: usize, node: &RuntimeNode) {
    let _ = writeln!(
        text,
        "\t\t\t\t<port id=\"{id}\" precision=\"{}\">",
        node.output_type.precision()
    );
    for length in &node.shape {
        let _ = writeln!(text, "\t\t\t\t\t<dim>{length}</dim>");
    }
    text.push_str("\t\t\t\t</port>\n");
}

/// The graph that runs as OpenVINO writes its own (`-exec_graph_path`): layers with `execOrder`, `execTimeMcs`,
/// `originalLayersNames`, `outputPrecisions`, `primitiveType` and `runtimePrecision`.
pub fn execution_xml(name: &str, nodes: &[RuntimeNode]) -> String {
    let mut layers = String::new();
    let mut edges = String::new();
    for (id, node) in nodes.iter().enumerate() {
        let kind = match node.counter.layer_type.as_str() {
            "Parameter" => "Input",
            "Result" => "Output",
            other => other,
        };
        let time = if node.counter.executed {
            node.counter.real.as_micros().to_string()
        } else {
            "not_executed".to_owned()
        };
        let _ = writeln!(
            layers,
            "\t\t<layer id=\"{id}\" name=\"{}\" type=\"{}\">\n\t\t\t<data execOrder=\"{id}\" execTimeMcs=\"{time}\" \
             originalLayersNames=\"{}\" outputPrecisions=\"{}\" primitiveType=\"{}\" runtimePrecision=\"{}\" />",
            escape(&node.counter.name),
            escape(kind),
            escape(&node.originals.join(",")),
            node.output_type.name(),
            escape(&node.counter.exec_type),
            node.runtime_type.name()
        );
        if !node.inputs.is_empty() {
            layers.push_str("\t\t\t<input>\n");
            for (at, &from) in node.inputs.iter().enumerate() {
                port(&mut layers, at, &nodes[from]);
                let _ = writeln!(
                    edges,
                    "\t\t<edge from-layer=\"{from}\" from-port=\"{}\" to-layer=\"{id}\" to-port=\"{at}\" />",
                    nodes[from].inputs.len()
                );
            }
            layers.push_str("\t\t\t</input>\n");
        }
        if kind != "Output" {
            layers.push_str("\t\t\t<output>\n");
            port(&mut layers, node.inputs.len(), node);
            layers.push_str("\t\t\t</output>\n");
        }
        layers.push_str("\t\t</layer>\n");
    }
    format!(
        "<?xml version=\"1.0\"?>\n<net name=\"{}\" version=\"11\">\n\t<layers>\n{layers}\t</layers>\n\t<edges>\n{edges}\t</edges>\n\t<rt_info />\n</net>\n",
        escape(name)
    )
}
