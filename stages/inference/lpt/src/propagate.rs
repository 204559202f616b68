//! Pushes dequantizations down.
//!
//! One forward sweep carries for each value what it is as a function of 8-bit codes. Operations that only move
//! values work on the codes; a convolution of codes with constant codes becomes an integer convolution whose
//! sums get the product of the scales; a function of codes that is quantized again becomes a table. Where an
//! operation needs the value itself, a Dequantize is made, once per value.

mod average;
mod border;
mod branches;
mod coded;
mod concat;
mod convolution;
mod deconvolution;
mod elementwise;
mod layout;
mod matmul;
mod normalization;
mod order;
mod requantize;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, Lookup, Op, ReduceKind};
use flow_model::tensor::ElementType;

use crate::options::Options;
use crate::report::{Fate, Notes, Reason, ReasonCode};
use coded::{Coded, Meaning};

/// Pushes the dequantizations of a graph down and makes operations on codes integer.
pub(crate) fn push_down(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let mut sweep = Sweep {
        old: graph,
        options,
        notes,
        new: Graph {
            name: graph.name.clone(),
            ..Graph::default()
        },
        plain: HashMap::new(),
        coded: HashMap::new(),
        dequantized: HashMap::new(),
    };
    for (id, node) in graph.iter() {
        sweep.visit(id, node);
    }
    sweep.finish()
}

/// Whether an operation works on codes when its inputs are codes.
pub(crate) fn has_integer_form(op: &Op) -> bool {
    let maps = matches!(op, Op::Standard(operation) if operation.maps_values());
    layout::moves_values(op)
        || maps
        || matches!(
            op,
            Op::Convolution(_)
                | Op::GroupConvolution(_)
                | Op::ConvolutionBackpropData(_)
                | Op::GroupConvolutionBackpropData(_)
                | Op::MatMul { .. }
                | Op::Concat { .. }
                | Op::MaxPool(_)
                | Op::Reduce {
                    kind: ReduceKind::Max | ReduceKind::Min,
                    ..
                }
        )
}

pub(crate) use layout::moves_values;

struct Sweep<'a> {
    old: &'a Graph,
    options: &'a Options,
    notes: &'a mut Notes,
    new: Graph,
    /// Old values as they are, in the new graph.
    plain: HashMap<Value, Value>,
    /// Old values as functions of codes.
    coded: HashMap<Value, Coded>,
    /// Dequantizes in the new graph by the codes they read.
    dequantized: HashMap<Value, Vec<(Arc<Dequantize>, Value)>>,
}

impl Sweep<'_> {
    fn visit(&mut self, id: NodeId, node: &Node) {
        if self.options.float_layers.contains(&*node.name) {
            self.stay(id, crate::fake_quantize::by_option(&node.name));
            return;
        }
        let done = match &node.op {
            Op::Dequantize(dequantize) => self.dequantize(id, node, dequantize),
            Op::Quantize(quantize) => self.quantize(id, node, quantize),
            Op::Convert(to) => self.convert(id, node, *to),
            Op::Unary(_) | Op::Clamp { .. } | Op::PRelu | Op::Binary(_) | Op::FakeQuantize { .. } => {
                self.elementwise(id, node)
            }
            Op::Convolution(attrs) => self.convolution(id, node, attrs, false),
            Op::GroupConvolution(attrs) => self.convolution(id, node, attrs, true),
            Op::ConvolutionBackpropData(attrs) => self.deconvolution(id, node, attrs, false),
            Op::GroupConvolutionBackpropData(attrs) => self.deconvolution(id, node, attrs, true),
            Op::MatMul {
                transpose_a,
                transpose_b,
            } => self.matmul(id, node, *transpose_a, *transpose_b),
            Op::Concat { axis } => self.concat(id, node, *axis),
            Op::MaxPool(_)
            | Op::Reduce {
                kind: ReduceKind::Max | ReduceKind::Min,
                ..
            } => self.order(id, node),
            Op::AvgPool { .. } => self.average(id, node),
            Op::ShapeOf(_) => self.shape_of(id, node),
            Op::Mvn(_) | Op::NormalizeL2 { .. } => self.normalization(node),
            op if layout::moves_values(op) => self.layout(id, node),
            Op::Standard(operation) if operation.maps_values() => self.elementwise(id, node),
            Op::Interpolate(_) => self.interpolate(id, node),
            _ => Ok(false),
        };
        match done {
            Ok(true) => {}
            Ok(false) => {
                self.keep(id);
            }
            Err(reason) => self.stay(id, reason),
        }
    }

    fn finish(mut self) -> Graph {
        let nodes = |ids: &[NodeId], plain: &HashMap<Value, Value>| -> Vec<NodeId> {
            ids.iter()
                .filter_map(|&id| plain.get(&Value::of(id)).map(|v| v.node))
                .collect()
        };
        self.new.parameters = nodes(&self.old.parameters, &self.plain);
        self.new.results = nodes(&self.old.results, &self.plain);
        self.new
    }

    /// Adds the node as it is on plain inputs.
    fn keep(&mut self, id: NodeId) -> NodeId {
        let mut node = self.old.node(id).clone();
        node.inputs = node.inputs.iter().map(|&v| self.plain(v)).collect();
        self.replace(id, node)
    }

    /// Adds the node as it is, and notes why.
    fn stay(&mut self, id: NodeId, reason: Reason) {
        self.notes.stays_float(&self.old.node(id).name, reason);
        self.keep(id);
    }

    /// Adds `node`, whose outputs stand for those of `id`.
    fn replace(&mut self, id: NodeId, node: Node) -> NodeId {
        let ports = node.outputs.len().max(1) as u32;
        let new = self.new.push(node);
        for port in 0..ports {
            self.plain
                .insert(Value { node: id, port }, Value { node: new, port });
        }
        new
    }

    /// What is known of an old value as a function of codes.
    fn coded(&self, value: Value) -> Option<&Coded> {
        self.coded.get(&value)
    }

    /// An old value as it is, dequantized if only its codes are there.
    fn plain(&mut self, value: Value) -> Value {
        if let Some(&plain) = self.plain.get(&value) {
            return plain;
        }
        let found = self
            .coded(value)
            .and_then(|c| Some((c.codes, c.affine()?.clone())));
        let Some((codes, dequantize)) = found else {
            // Every value is coded as a line or kept before its users are met.
            return value;
        };
        let info = self.old.info(value).clone();
        let old = self.old.node(value.node);
        let name = match (&old.op, value.port) {
            (Op::Dequantize(_), _) => old.name.to_string(),
            (_, 0) => format!("{}/dequantize", old.name),
            (_, port) => format!("{}/{port}/dequantize", old.name),
        };
        let plain = self.push_dequantize(codes, &dequantize, name, info);
        self.plain.insert(value, plain);
        plain
    }

    /// A Dequantize of codes, shared with an equal one.
    fn push_dequantize(
        &mut self,
        codes: Value,
        dequantize: &Arc<Dequantize>,
        name: String,
        info: OutputInfo,
    ) -> Value {
        let known = self.dequantized.entry(codes).or_default();
        if let Some((_, value)) = known.iter().find(|(d, _)| d == dequantize) {
            return *value;
        }
        let value = Value::of(self.new.push(Node {
            name: name.into(),
            line: 0,
            op: Op::Dequantize((**dequantize).clone()),
            inputs: vec![codes],
            outputs: vec![OutputInfo {
                element_type: ElementType::F32,
                ..info
            }],
        }));
        self.dequantized
            .entry(codes)
            .or_default()
            .push((dequantize.clone(), value));
        value
    }

    /// An old value as codes that mean a line: a function whose values all lie on the grid of its codes becomes
    /// a table of codes. `None` if the value is no such function.
    fn as_affine(&mut self, value: Value) -> Option<Coded> {
        let coded = self.coded(value)?.clone();
        let Meaning::Function {
            table,
            grid,
            absorbed,
        } = &coded.meaning
        else {
            return Some(coded);
        };
        let levels = coded::table_of(grid, 0, coded.element_type);
        let mut codes = [0u8; 256];
        for byte in coded.occurring() {
            let wanted = table[usize::from(byte)];
            // The code itself first, so that a function that changes nothing is recognised.
            let code = std::iter::once(byte)
                .chain(0..=255)
                .find(|&b| levels[usize::from(b)] == wanted)?;
            codes[usize::from(byte)] = code;
        }
        let value_of_codes = if coded::is_identity(&codes, &coded) {
            for name in absorbed {
                self.notes.moved(name, Fate::Removed);
            }
            coded.codes
        } else {
            self.push_lookup(&coded, codes, coded.element_type, absorbed)?
        };
        let range = range_of(&codes, &coded);
        let affine = Coded {
            codes: value_of_codes,
            range,
            meaning: Meaning::Affine(grid.clone()),
            ..coded
        };
        self.coded.insert(value, affine.clone());
        Some(affine)
    }

    /// Why a value that an integer operation reads is no tensor of codes on a grid.
    fn not_codes(&self, node: &Node, value: Value) -> Reason {
        let source = &self.old.node(value.node).name;
        if let (Op::FakeQuantize { .. }, Some(cause)) =
            (&self.old.node(value.node).op, self.notes.reason(source))
        {
            return Reason {
                message: format!("the data of \"{}\" are not codes: {}", node.name, cause.message),
                ..cause.clone()
            };
        }
        match self.coded(value).map(|c| &c.meaning) {
            Some(Meaning::Function { absorbed, .. }) => {
                let names: Vec<String> = absorbed.iter().map(|n| format!("\"{n}\"")).collect();
                Reason::new(
                    ReasonCode::DataOffGrid,
                    format!(
                        "the data of \"{}\" leave the levels they were quantized to in {}",
                        node.name,
                        names.join(", ")
                    ),
                )
            }
            None if self
                .old
                .node(value.node)
                .inputs
                .iter()
                .any(|&v| self.coded(v).is_some()) =>
            {
                Reason::new(
                    ReasonCode::DataOffGrid,
                    format!(
                        "the data of \"{}\" leave the levels they were quantized to in \"{source}\"",
                        node.name
                    ),
                )
            }
            _ => Reason::new(
                ReasonCode::DataNotQuantized,
                format!("the data of \"{}\", \"{source}\", are not quantized", node.name),
            ),
        }
    }

    /// A table of codes that does the work of the operations `names`; it takes the name of the last.
    /// `None` if the options refuse tables.
    fn push_lookup(
        &mut self,
        coded: &Coded,
        table: [u8; 256],
        element_type: ElementType,
        names: &[Arc<str>],
    ) -> Option<Value> {
        let (last, others) = names.split_last()?;
        if !self.options.limits.lookup {
            return None;
        }
        for name in others {
            self.notes.moved(name, Fate::FusedInto(last.clone()));
        }
        let shape = self.new.info(coded.codes).shape.clone();
        let lookup = self.new.push(Node {
            name: last.clone(),
            line: self
                .old
                .nodes
                .iter()
                .find(|n| n.name == *last)
                .map_or(0, |n| n.line),
            op: Op::Lookup(Lookup {
                table: Box::new(table),
                element_type,
            }),
            inputs: vec![coded.codes],
            outputs: vec![OutputInfo {
                element_type,
                shape,
                names: Vec::new(),
            }],
        });
        Some(Value::of(lookup))
    }

    /// Codes have the shape of their values.
    fn shape_of(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        let Some(codes) = node.inputs.first().and_then(|&v| self.coded(v)).map(|c| c.codes) else {
            return Ok(false);
        };
        self.replace(
            id,
            Node {
                inputs: vec![codes],
                ..node.clone()
            },
        );
        Ok(true)
    }
}

/// Lowest and highest code that a table gives to the codes that occur.
fn range_of(table: &[u8; 256], coded: &Coded) -> (i32, i32) {
    let numbers = coded
        .occurring()
        .map(|byte| Coded::number(coded.element_type, table[usize::from(byte)]));
    numbers.fold((i32::MAX, i32::MIN), |(low, high), q| (low.min(q), high.max(q)))
}
