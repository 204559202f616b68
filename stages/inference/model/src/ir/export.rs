//! Integer operations as standard operations that other tools know.

use std::sync::Arc;

use crate::error::{ModelError, OpError};
use crate::graph::{Graph, Node, NodeId, PartialShape, Value};
use crate::op::{
    BinaryKind, DeconvAttrs, Dequantize, Lookup, Op, Quantize, QuantizedBatchMatMul, QuantizedConv,
    QuantizedDeconv, QuantizedMatMul,
};
use crate::tensor::{ElementType, Tensor};

/// The graph without integer operations:
/// - Quantize: FakeQuantize to the codes, Convert;
/// - Dequantize: Convert, Subtract, Multiply;
/// - QuantizedConvolution, QuantizedDeconvolution, QuantizedMatMul, QuantizedBatchMatMul: Convert and Subtract on both sides, the operation in f32 (exact
///   while sums stay below 2^24), Convert to i32;
/// - Lookup: Convert, Add 128 for signed codes, Gather from the table.
pub(super) fn standard(graph: &Graph) -> Result<Graph, ModelError> {
    let mut export = Export {
        graph: Graph {
            name: graph.name.clone(),
            bounds: graph.bounds.clone(),
            ..Graph::default()
        },
        map: Vec::with_capacity(graph.nodes.len()),
    };
    for node in &graph.nodes {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|v| Value {
                node: export.map[v.node.index()],
                port: v.port,
            })
            .collect();
        let failed = |source: OpError| {
            ModelError::Write(format!(
                "layer \"{}\" ({}): {source}",
                node.name,
                node.op.type_name()
            ))
        };
        let id = export.node(node, &inputs, graph).map_err(failed)?;
        export.map.push(id);
    }
    let moved = |list: &[NodeId]| list.iter().map(|id| export.map[id.index()]).collect::<Vec<_>>();
    let (parameters, results) = (moved(&graph.parameters), moved(&graph.results));
    let mut exported = export.graph;
    exported.parameters = parameters;
    exported.results = results;
    exported.infer_shapes()?;
    Ok(exported)
}

struct Export {
    graph: Graph,
    /// For each node so far of the source the node that has its outputs.
    map: Vec<NodeId>,
}

impl Export {
    fn push(&mut self, name: &str, op: Op, inputs: &[Value]) -> Value {
        Value::of(self.graph.push(Node {
            name: Arc::from(name),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: Vec::new(),
        }))
    }

    /// A constant of f32 values: a scalar, or values along one axis of a tensor of some rank.
    fn floats(
        &mut self,
        name: &str,
        values: &[f32],
        axis: Option<usize>,
        rank: usize,
    ) -> Result<Value, OpError> {
        let mut shape = vec![1; if values.len() == 1 { 0 } else { rank }];
        if let Some(length) = axis.and_then(|a| shape.get_mut(a)) {
            *length = values.len();
        }
        let tensor = Tensor::from_slice(&shape, values)?;
        Ok(self.push(name, Op::Constant(tensor), &[]))
    }

    fn node(&mut self, node: &Node, inputs: &[Value], source: &Graph) -> Result<NodeId, OpError> {
        let name = &*node.name;
        let shape = |i: usize| -> &PartialShape { &source.info(node.inputs[i]).shape };
        let last = match &node.op {
            Op::Quantize(q) => self.quantize(name, q, inputs[0], shape(0).len())?,
            Op::Dequantize(d) => self.dequantize(name, d, inputs[0], shape(0).len())?,
            Op::QuantizedConvolution(c) => self.convolution(name, c, inputs, shape(1))?,
            Op::QuantizedDeconvolution(d) => self.deconvolution(name, d, inputs, shape(1))?,
            Op::QuantizedMatMul(m) => self.matmul(name, m, inputs)?,
            Op::QuantizedBatchMatMul(m) => self.batch_matmul(name, m, inputs)?,
            Op::Lookup(l) => {
                let signed = source.info(node.inputs[0]).element_type == ElementType::I8;
                self.lookup(name, l, inputs[0], signed)?
            }
            _ => {
                let op = crate::ops::control::map_bodies(&node.op, standard);
                let copy = Node {
                    inputs: inputs.to_vec(),
                    op: op.map_err(|error| OpError(format!("in its body: {error}")))?,
                    ..node.clone()
                };
                return Ok(self.graph.push(copy));
            }
        };
        // The last node carries the names of the value it stands for.
        let info = node.outputs.clone();
        self.graph.nodes[last.node.index()].outputs = info;
        Ok(last.node)
    }

    fn quantize(&mut self, name: &str, q: &Quantize, x: Value, rank: usize) -> Result<Value, OpError> {
        // FakeQuantize rescales levels to its output range; that must give the codes themselves.
        let last = (q.levels.max(2) - 1) as f32;
        let exact = (0..q.levels.min(256)).all(|k| k as f32 / last * last == k as f32);
        if !exact {
            return Err(OpError(format!(
                "{} levels are not exact as FakeQuantize",
                q.levels
            )));
        }
        let mut limits = vec![x];
        for (suffix, values) in [("input_low", &q.input_low), ("input_high", &q.input_high)] {
            limits.push(self.floats(&format!("{name}/{suffix}"), values, q.axis, rank)?);
        }
        for (suffix, code) in [("output_low", q.low), ("output_high", q.high)] {
            limits.push(self.floats(&format!("{name}/{suffix}"), &[code as f32], None, rank)?);
        }
        let op = Op::FakeQuantize { levels: q.levels };
        let levels = self.push(&format!("{name}/fake_quantize"), op, &limits);
        Ok(self.push(name, Op::Convert(q.element_type), &[levels]))
    }

    fn dequantize(&mut self, name: &str, d: &Dequantize, x: Value, rank: usize) -> Result<Value, OpError> {
        let mut value = self.push(&format!("{name}/convert"), Op::Convert(ElementType::F32), &[x]);
        if d.zero_point.iter().any(|&z| z != 0.0) {
            let zero = self.floats(&format!("{name}/zero_point"), &d.zero_point, d.axis, rank)?;
            let op = Op::Binary(BinaryKind::Subtract);
            value = self.push(&format!("{name}/subtract"), op, &[value, zero]);
        }
        let scale = self.floats(&format!("{name}/scale"), &d.scale, d.axis, rank)?;
        Ok(self.push(name, Op::Binary(BinaryKind::Multiply), &[value, scale]))
    }

    /// Codes as f32 less their zero points.
    fn centred(
        &mut self,
        name: &str,
        codes: Value,
        zero_points: &[i32],
        axis: usize,
        rank: usize,
    ) -> Result<Value, OpError> {
        let converted = self.push(
            &format!("{name}/convert"),
            Op::Convert(ElementType::F32),
            &[codes],
        );
        if zero_points.iter().all(|&z| z == 0) {
            return Ok(converted);
        }
        let values: Vec<f32> = zero_points.iter().map(|&z| z as f32).collect();
        let zero = self.floats(&format!("{name}/zero_point"), &values, Some(axis), rank)?;
        let op = Op::Binary(BinaryKind::Subtract);
        Ok(self.push(&format!("{name}/subtract"), op, &[converted, zero]))
    }

    fn convolution(
        &mut self,
        name: &str,
        c: &QuantizedConv,
        inputs: &[Value],
        weights: &[Option<usize>],
    ) -> Result<Value, OpError> {
        let rank = weights.len();
        let data = self.centred(&format!("{name}/data"), inputs[0], &c.data_zero_point, 1, rank)?;
        let mut kernel = self.centred(
            &format!("{name}/weights"),
            inputs[1],
            &c.weight_zero_point,
            0,
            rank,
        )?;
        let op = if c.groups == 1 {
            Op::Convolution(c.conv.clone())
        } else {
            kernel = self.grouped(name, kernel, c.groups, weights)?;
            Op::GroupConvolution(c.conv.clone())
        };
        let sums = self.push(&format!("{name}/sums"), op, &[data, kernel]);
        Ok(self.push(name, Op::Convert(ElementType::I32), &[sums]))
    }

    /// Weights `[OC, C/groups, ..]` as `[groups, OC/groups, C/groups, ..]`.
    fn grouped(
        &mut self,
        name: &str,
        weights: Value,
        groups: usize,
        shape: &[Option<usize>],
    ) -> Result<Value, OpError> {
        let fixed: Option<Vec<usize>> = shape.iter().copied().collect();
        let Some(fixed) = fixed.filter(|w| groups > 0 && w[0] % groups == 0) else {
            return Err(OpError("the shape of the weights is not fixed".to_owned()));
        };
        let mut pattern = vec![groups as i64, (fixed[0] / groups) as i64];
        pattern.extend(fixed[1..].iter().map(|&d| d as i64));
        let pattern = Tensor::from_slice(&[pattern.len()], &pattern)?;
        let pattern = self.push(&format!("{name}/groups"), Op::Constant(pattern), &[]);
        let reshape = Op::Reshape { special_zero: false };
        Ok(self.push(&format!("{name}/grouped"), reshape, &[weights, pattern]))
    }

    fn deconvolution(
        &mut self,
        name: &str,
        d: &QuantizedDeconv,
        inputs: &[Value],
        weights: &[Option<usize>],
    ) -> Result<Value, OpError> {
        let rank = weights.len();
        let data = self.centred(&format!("{name}/data"), inputs[0], &d.data_zero_point, 1, rank)?;
        let kernel = format!("{name}/weights");
        let mut kernel = self.centred(&kernel, inputs[1], &d.weight_zero_point, 0, rank)?;
        let attrs = DeconvAttrs {
            conv: d.conv.clone(),
            output_padding: d.output_padding.clone(),
        };
        // The standard operations have the input channels first.
        let (op, swapped) = if d.groups == 1 {
            (Op::ConvolutionBackpropData(attrs), 0)
        } else {
            kernel = self.grouped(name, kernel, d.groups, weights)?;
            (Op::GroupConvolutionBackpropData(attrs), 1)
        };
        let mut order: Vec<i64> = (0..(rank + swapped) as i64).collect();
        order.swap(swapped, swapped + 1);
        let order = Op::Constant(Tensor::from_slice(&[order.len()], &order)?);
        let order = self.push(&format!("{name}/order"), order, &[]);
        kernel = self.push(&format!("{name}/swapped"), Op::Transpose, &[kernel, order]);
        let sums = self.push(&format!("{name}/sums"), op, &[data, kernel]);
        Ok(self.push(name, Op::Convert(ElementType::I32), &[sums]))
    }

    fn matmul(&mut self, name: &str, m: &QuantizedMatMul, inputs: &[Value]) -> Result<Value, OpError> {
        let zero = std::slice::from_ref(&m.data_zero_point);
        let data = self.centred(&format!("{name}/data"), inputs[0], zero, 0, 0)?;
        let columns = usize::from(!m.transpose_b);
        let weights = format!("{name}/weights");
        let weights = self.centred(&weights, inputs[1], &m.weight_zero_point, columns, 2)?;
        let op = Op::MatMul {
            transpose_a: false,
            transpose_b: m.transpose_b,
        };
        let sums = self.push(&format!("{name}/sums"), op, &[data, weights]);
        Ok(self.push(name, Op::Convert(ElementType::I32), &[sums]))
    }

    fn batch_matmul(
        &mut self,
        name: &str,
        m: &QuantizedBatchMatMul,
        inputs: &[Value],
    ) -> Result<Value, OpError> {
        let a = self.centred(&format!("{name}/a"), inputs[0], &[m.zero_point_a], 0, 0)?;
        let b = self.centred(&format!("{name}/b"), inputs[1], &[m.zero_point_b], 0, 0)?;
        let op = Op::MatMul {
            transpose_a: m.transpose_a,
            transpose_b: m.transpose_b,
        };
        let sums = self.push(&format!("{name}/sums"), op, &[a, b]);
        Ok(self.push(name, Op::Convert(ElementType::I32), &[sums]))
    }

    fn lookup(&mut self, name: &str, l: &Lookup, x: Value, signed: bool) -> Result<Value, OpError> {
        let mut index = self.push(&format!("{name}/convert"), Op::Convert(ElementType::I32), &[x]);
        let mut table = l.table.to_vec();
        if signed {
            // Codes from -128 on.
            table.rotate_left(128);
            let shift = self.push(&format!("{name}/128"), Op::Constant(Tensor::scalar(128i32)), &[]);
            let op = Op::Binary(BinaryKind::Add);
            index = self.push(&format!("{name}/index"), op, &[index, shift]);
        }
        let table = Op::Constant(Tensor::new(l.element_type, vec![256], table)?);
        let table = self.push(&format!("{name}/table"), table, &[]);
        let axis = self.push(&format!("{name}/axis"), Op::Constant(Tensor::scalar(0i64)), &[]);
        Ok(self.push(name, Op::Gather { batch_dims: 0 }, &[table, index, axis]))
    }
}
