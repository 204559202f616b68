//! What the drawings show: the operations of the model, and the steps that run.

use std::collections::HashMap;

use flow_inference::{Engine, EngineError, LayerRow, RuntimeNode, StepTime, constant_nodes};
use flow_model::{Op, Value};

/// What a node works on, told by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 8-bit codes.
    Int8,
    /// Floats.
    Float,
    /// Other types: indices, shapes, truth values.
    Other,
    /// Nothing runs: an input or output, or an operation that is gone.
    Idle,
}

impl Class {
    /// Short name, as CSS class.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Float => "float",
            Self::Other => "other",
            Self::Idle => "idle",
        }
    }
}

/// One node of a drawing.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name of the operation or step.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// What it works on.
    pub class: Class,
    /// Mean time of a run in milliseconds, where it was taken.
    pub ms: Option<f64>,
    /// Everything that is known, for the panel of details.
    pub details: Vec<(&'static str, String)>,
    /// Index among [`reasons`], where it works on floats.
    pub reason: Option<usize>,
    /// Nodes that it reads.
    pub inputs: Vec<usize>,
}

/// Why operations work on floats.
#[derive(Debug, Clone)]
pub struct Why {
    /// Stable code.
    pub code: String,
    /// What would help; empty where nothing does.
    pub remedy: String,
    /// The operations, with what was found at each.
    pub layers: Vec<(String, String)>,
}

/// The reasons, most frequent first, and the index of the reason of each operation.
pub fn reasons(engine: &Engine) -> (Vec<Why>, HashMap<String, usize>) {
    let mut list: Vec<Why> = Vec::new();
    for layer in engine.report().into_iter().flat_map(|r| r.float_layers()) {
        let Some(reason) = &layer.reason else { continue };
        let code = reason.code.to_string();
        let entry = (layer.name.to_string(), reason.message.clone());
        match list
            .iter_mut()
            .find(|w| w.code == code && w.remedy == reason.remedy)
        {
            Some(why) => why.layers.push(entry),
            None => list.push(Why {
                code,
                remedy: reason.remedy.clone(),
                layers: vec![entry],
            }),
        }
    }
    list.sort_by_key(|w| std::cmp::Reverse(w.layers.len()));
    let index = list
        .iter()
        .enumerate()
        .flat_map(|(i, why)| why.layers.iter().map(move |(name, _)| (name.clone(), i)))
        .collect();
    (list, index)
}

fn shape(lengths: &[usize]) -> String {
    let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
    format!("[{}]", lengths.join(", "))
}

/// The operations of the model. What only feeds constants (weights and their scales) is left out.
pub fn model(
    engine: &Engine,
    rows: &[LayerRow],
    running: &[Node],
    reasons: &HashMap<String, usize>,
) -> Vec<Node> {
    let graph = engine.original();
    let step_of: HashMap<&str, Class> = running.iter().map(|n| (n.name.as_str(), n.class)).collect();
    let row_of: HashMap<&str, &LayerRow> = rows.iter().map(|r| (r.name.as_str(), r)).collect();
    let constant = constant_nodes(graph);
    let mut place: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    let mut nodes = Vec::new();
    for (id, op) in graph.iter().filter(|(id, _)| !constant[id.index()]) {
        place[id.index()] = Some(nodes.len());
        let value = match op.inputs.first() {
            Some(&value) if op.outputs.is_empty() => value,
            _ => Value::of(id),
        };
        let info = graph.info(value);
        let row = row_of.get(&*op.name).copied();
        let edge = matches!(op.op, Op::Parameter | Op::Result);
        let mut details = vec![
            ("Type", op.op.type_name().to_owned()),
            ("Output", flow_model::text::describe(info)),
        ];
        let mut class = Class::Idle;
        if let Some(row) = row.filter(|_| !edge) {
            class = class_of(&row.precision, row.reason.is_some());
            // What is part of another step works as that does.
            if row.reason.is_none() && class != Class::Int8 {
                class = match &row.fused_into {
                    Some(into) => step_of.get(into.as_str()).copied().unwrap_or(Class::Idle),
                    None if row.kernel.is_none() => Class::Idle,
                    None => class,
                };
            }
            details.push(("Works on", row.precision.to_lowercase()));
            match (&row.fused_into, &row.kernel) {
                (Some(into), Some(kernel)) => {
                    details.push(("Kernel", kernel.clone()));
                    details.push(("Part of", into.clone()));
                }
                (Some(into), None) => details.push(("Part of", into.clone())),
                (None, Some(kernel)) => details.push(("Kernel", kernel.clone())),
                (None, None) => {
                    details.push(("Kernel", "none: nothing runs for it".to_owned()));
                }
            }
            if let Some(ms) = row.ms {
                details.push(("Time", format!("{ms:.4} ms")));
            }
        }
        if op.line > 0 {
            details.push(("Line in the file", op.line.to_string()));
        }
        let mut inputs: Vec<usize> = op.inputs.iter().filter_map(|v| place[v.node.index()]).collect();
        inputs.dedup();
        nodes.push(Node {
            name: op.name.to_string(),
            kind: op.op.type_name().to_owned(),
            class,
            ms: row.and_then(|r| r.ms),
            details,
            reason: reasons.get(&*op.name).copied(),
            inputs,
        });
    }
    nodes
}

fn class_of(precision: &str, float: bool) -> Class {
    match precision.to_ascii_uppercase().as_str() {
        "U8" | "I8" if !float => Class::Int8,
        "F32" | "F16" | "BF16" | "F64" => Class::Float,
        _ if float => Class::Float,
        _ => Class::Other,
    }
}

/// The steps that run, with inputs and outputs.
///
/// # Errors
/// Those of the transformations, which are made anew.
pub fn running(
    engine: &Engine,
    times: &[StepTime],
    reasons: &HashMap<String, usize>,
) -> Result<Vec<Node>, EngineError> {
    let nodes = engine.runtime_graph(times)?;
    Ok(nodes
        .iter()
        .map(|node| step(engine, node, !times.is_empty(), reasons))
        .collect())
}

fn step(engine: &Engine, node: &RuntimeNode, timed: bool, reasons: &HashMap<String, usize>) -> Node {
    let counter = &node.counter;
    let record = counter.step.and_then(|at| engine.program()?.steps().get(at));
    let int8 = counter.exec_type.ends_with("_I8");
    let class = match (counter.executed, int8) {
        (false, _) => Class::Idle,
        (true, true) => Class::Int8,
        (true, false) if node.runtime_type.is_float() => Class::Float,
        (true, false) => Class::Other,
    };
    let mut details = vec![
        ("Type", counter.layer_type.clone()),
        ("Output", format!("{} {}", node.output_type, shape(&node.shape))),
    ];
    if let Some(record) = record {
        details.push(("Kernel", record.kernel.clone()));
        details.push(("execType", counter.exec_type.clone()));
        if node.macs > 0 {
            details.push(("Multiply-adds", format!("{:.2} million", node.macs as f64 / 1e6)));
        }
    }
    let ms = (timed && counter.executed).then_some(counter.real.as_secs_f64() * 1e3);
    if let Some(ms) = ms {
        details.push(("Time", format!("{ms:.4} ms")));
        if node.macs > 0 && ms > 0.0 {
            details.push(("Speed", format!("{:.1} GMAC/s", node.macs as f64 / ms / 1e6)));
        }
    }
    if node.originals.len() > 1 {
        details.push(("Does the work of", node.originals.join("\n")));
    }
    Node {
        name: counter.name.clone(),
        kind: counter.layer_type.clone(),
        class,
        ms,
        details,
        reason: if class == Class::Float {
            reasons.get(&counter.name).copied()
        } else {
            None
        },
        inputs: node.inputs.clone(),
    }
}
