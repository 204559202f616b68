//! Performance counters: what ran for each layer, with which kernel, and how long.

use std::collections::HashMap;
use std::time::Duration;

use flow_cpu::kernels::Isa;
use flow_cpu::{StepRecord, StepTime};
use flow_model::{ElementType, Graph, Op};

use crate::engine::Engine;

/// The counters of one layer. Names and types are those that OpenVINO's tools print.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerCounter {
    /// Name of the layer in the model; of the node that transformations made, where it is not in the model.
    pub name: String,
    /// Whether something runs for it. It does not where the layer is part of another one's step, or only renames
    /// or moves what the next step reads.
    pub executed: bool,
    /// Type of the layer: `Convolution`, `Softmax`.
    pub layer_type: String,
    /// `<implementation>_<instruction set>_<precision>`: `conv_avx512vnni_1x1_I8`. The precision is `I8` for
    /// every 8-bit type. `undef` where nothing runs, `unknown_<precision>` of inputs and outputs.
    pub exec_type: String,
    /// Time by the clock on the wall; zero where nothing runs.
    pub real: Duration,
    /// CPU time of the thread.
    pub cpu: Duration,
    /// The first of its steps in the program; `None` where nothing runs.
    pub step: Option<usize>,
}

/// The name OpenVINO's tools give a type, which is that of its class rather than of the file.
pub(crate) fn class_name(kind: &str) -> &str {
    match kind {
        "ReLU" => "Relu",
        "PReLU" => "PRelu",
        "SoftMax" => "Softmax",
        "Const" => "Constant",
        other => other,
    }
}

/// `I8` for 8-bit types, else the type's name.
pub(crate) fn precision_name(element_type: ElementType) -> &'static str {
    match element_type {
        ElementType::U8 | ElementType::I8 => "I8",
        other => other.name(),
    }
}

/// `conv_u8s8_1x1_avx512vnni` as `conv_avx512vnni_1x1_I8`.
pub(crate) fn exec_type(record: &StepRecord, integer: bool) -> String {
    let mut implementation = Vec::new();
    let mut isa = None;
    let mut suffix = "";
    for part in record.kernel.split('_') {
        match part {
            "u8s8" | "u8" | "i8" | "f32" => {}
            "depthwise" => {
                implementation.push("conv");
                suffix = "_dw";
            }
            "1x1" => suffix = "_1x1",
            "reference" => implementation.push("ref"),
            _ if Isa::ALL.iter().any(|i| i.name() == part) => isa = Some(part),
            _ if is_size(part) => {}
            _ => implementation.push(part),
        }
    }
    let isa = isa.unwrap_or("any");
    let precision = if integer {
        "I8"
    } else {
        precision_name(record.precision)
    };
    format!("{}_{isa}{suffix}_{precision}", implementation.join("_"))
}

/// `3x3`.
fn is_size(part: &str) -> bool {
    part.split('x').count() > 1
        && part
            .split('x')
            .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether each node depends on constants alone: weights, their scales, limits. Such nodes are computed once.
pub fn constant_nodes(graph: &Graph) -> Vec<bool> {
    let mut constant = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        constant[id.index()] = match node.op {
            Op::Parameter | Op::Result => false,
            _ => node.inputs.iter().all(|v| constant[v.node.index()]),
        };
    }
    constant
}

impl Engine {
    /// The counters of each layer, in order of execution; `times` has one entry per step of the program, as
    /// [`Profile::mean`](crate::Profile::mean) gives them, and zero is taken for what is missing.
    ///
    pub fn counters(&self, times: &[StepTime]) -> Vec<LayerCounter> {
        match self.evaluated() {
            Some(graph) => evaluated(graph, times),
            None => self.compiled(times),
        }
    }

    /// The counters of a compiled network.
    fn compiled(&self, times: &[StepTime]) -> Vec<LayerCounter> {
        let original = self.original();
        let steps = self.program().map_or(&[][..], |p| p.steps());
        let integer = |name: &str| {
            self.report()
                .and_then(|r| r.layer(name))
                .is_some_and(|l| l.is_integer())
        };
        // The step that does the work of each layer.
        let mut step_of: HashMap<&str, usize> = HashMap::new();
        for (at, step) in steps.iter().enumerate() {
            for name in std::iter::once(&step.name).chain(&step.fused) {
                step_of.entry(name).or_insert(at);
            }
        }
        for (at, step) in steps.iter().enumerate() {
            step_of.insert(&step.name, at);
        }
        let mut kinds: HashMap<&str, &Op> = HashMap::new();
        // What does not run comes behind the step that stands for it, or the last one before it in the model.
        let mut before: Vec<LayerCounter> = Vec::new();
        let mut behind: Vec<Vec<LayerCounter>> = vec![Vec::new(); steps.len()];
        let mut last = None;
        let constant = constant_nodes(original);
        for (_, node) in original.iter().filter(|(id, _)| !constant[id.index()]) {
            kinds.insert(&node.name, &node.op);
            let at = step_of.get(&*node.name).copied();
            if at.is_some_and(|at| *steps[at].name == *node.name) {
                last = at.max(last);
                continue;
            }
            let info = node
                .outputs
                .first()
                .or_else(|| node.inputs.first().map(|&v| original.info(v)));
            let precision = info.map_or("f32", |o| precision_name(o.element_type));
            let counter = LayerCounter {
                name: node.name.to_string(),
                executed: false,
                layer_type: class_name(node.op.type_name()).to_owned(),
                exec_type: match node.op {
                    Op::Parameter | Op::Result => format!("unknown_{precision}"),
                    _ => "undef".to_owned(),
                },
                real: Duration::ZERO,
                cpu: Duration::ZERO,
                step: None,
            };
            let place = match node.op {
                Op::Parameter => None,
                Op::Result => steps.len().checked_sub(1),
                _ => at.or(last),
            };
            match place {
                Some(at) => behind[at].push(counter),
                None => before.push(counter),
            }
        }
        let mut counters = before;
        let mut row_of: HashMap<&str, usize> = HashMap::new();
        for (at, step) in steps.iter().enumerate() {
            let time = times.get(at).copied().unwrap_or_default();
            // A layer may take several steps, such as the copies of a Concat: they are one row.
            let row = *row_of.entry(&step.name).or_insert(counters.len());
            if let Some(counter) = counters.get_mut(row) {
                counter.real += time.real;
                counter.cpu += time.cpu;
            } else {
                let kind = kinds.get(&*step.name).map(|op| op.type_name());
                counters.push(LayerCounter {
                    name: step.name.to_string(),
                    executed: true,
                    layer_type: class_name(kind.unwrap_or_else(|| made(step))).to_owned(),
                    exec_type: exec_type(step, integer(&step.name)),
                    real: time.real,
                    cpu: time.cpu,
                    step: Some(at),
                });
            }
            counters.append(&mut behind[at]);
        }
        counters
    }
}

/// The counters of a graph on the reference evaluator, which runs it node by node; `times` has one entry per node.
fn evaluated(graph: &Graph, times: &[StepTime]) -> Vec<LayerCounter> {
    let constant = constant_nodes(graph);
    graph
        .iter()
        .filter(|(id, _)| !constant[id.index()])
        .map(|(id, node)| {
            let edge = matches!(node.op, Op::Parameter | Op::Result);
            let info = node
                .outputs
                .first()
                .or_else(|| node.inputs.first().map(|&v| graph.info(v)));
            let precision = info.map_or("f32", |o| precision_name(o.element_type));
            let time = match edge {
                true => StepTime::default(),
                false => times.get(id.index()).copied().unwrap_or_default(),
            };
            LayerCounter {
                name: node.name.to_string(),
                executed: !edge,
                layer_type: class_name(node.op.type_name()).to_owned(),
                exec_type: format!("{}_{precision}", if edge { "unknown" } else { "ref_any" }),
                real: time.real,
                cpu: time.cpu,
                step: None,
            }
        })
        .collect()
}

/// Type of a step that is no layer of the model.
fn made(step: &StepRecord) -> &'static str {
    let kernel = step.kernel.as_str();
    if kernel.starts_with("copy") {
        "Reorder"
    } else if kernel.starts_with("quantize") || kernel.starts_with("requantize") {
        "Quantize"
    } else if kernel.starts_with("dequantize") {
        "Dequantize"
    } else if kernel.starts_with("lookup") {
        "Lookup"
    } else {
        "Subgraph"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kernel: &str, precision: ElementType) -> StepRecord {
        StepRecord {
            name: "x".into(),
            fused: Vec::new(),
            kernel: kernel.to_owned(),
            precision,
            macs: 0,
            bytes: 0,
            shape: Vec::new(),
            reference: kernel == "reference",
            unguarded: None,
        }
    }

    #[test]
    fn kernels_are_named_as_openvino_names_them() {
        for (kernel, precision, expected) in [
            (
                "conv_u8s8_1x1_avx512vnni",
                ElementType::U8,
                "conv_avx512vnni_1x1_I8",
            ),
            ("conv_u8s8_3x3_avx2", ElementType::U8, "conv_avx2_I8"),
            (
                "depthwise_u8s8_3x3_avx512vnni",
                ElementType::U8,
                "conv_avx512vnni_dw_I8",
            ),
            ("max_pool_avx512vnni", ElementType::U8, "max_pool_avx512vnni_I8"),
            ("conv_f32_7x7", ElementType::F32, "conv_any_f32"),
            ("softmax_f32", ElementType::F32, "softmax_any_f32"),
            ("reference", ElementType::I64, "ref_any_i64"),
        ] {
            assert_eq!(exec_type(&record(kernel, precision), false), expected);
        }
        let quantize = record("quantize", ElementType::F32);
        assert_eq!(exec_type(&quantize, true), "quantize_any_I8");
    }
}
