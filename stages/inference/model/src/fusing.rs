//! What is computed together with a FakeQuantize, where that changes the last bit.
//!
//! The meaning of a quantized network down to the last bit is that of OpenVINO's CPU plugin without low
//! precision transformations (`docs/numerics.md`). Before it runs a network it moves constants that are added
//! to or multiplied with the input of a FakeQuantize into the limits, and it computes a FakeQuantize that
//! follows no sum of products in a way of its own.

use crate::error::{OpError, bail};
use crate::graph::{Graph, Node, NodeId, Value};
use crate::op::{BinaryKind, Op, UnaryKind};
use crate::ops;
use crate::ops::fake_quantize::Formula;
use crate::tensor::Tensor;

/// How one FakeQuantize is computed.
#[derive(Debug, Clone)]
pub struct Quantization {
    levels: u32,
    /// The tensor that is quantized, before `folded` is done to it.
    input: Value,
    limits: [Value; 4],
    /// What is done to the input with constants, as the last step first.
    folded: Vec<(BinaryKind, Value)>,
    formula: Formula,
}

impl Quantization {
    /// The tensor that is quantized, before what was moved into the limits.
    pub fn source(&self) -> Value {
        self.input
    }

    /// Number of levels.
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// How a value is put on a level.
    pub fn formula(&self) -> Formula {
        self.formula
    }

    /// Input low, input high, output low and output high, with the constants moved into them.
    ///
    /// # Errors
    /// [`OpError`] where a limit is not among the constants.
    pub fn limits(&self, constant: impl Fn(Value) -> Option<Tensor>) -> Result<[Tensor; 4], OpError> {
        let values: Option<Vec<Tensor>> = self.inputs()[1..].iter().map(|&v| constant(v)).collect();
        let values = values.ok_or_else(|| OpError("a limit is not constant".to_owned()))?;
        self.moved(&values)
    }

    /// The values it is computed from, in the order that [`Self::evaluate`] takes them.
    pub(crate) fn inputs(&self) -> Vec<Value> {
        let constants = self.folded.iter().map(|&(_, constant)| constant);
        std::iter::once(self.input)
            .chain(self.limits)
            .chain(constants)
            .collect()
    }

    /// Evaluates it on the values of [`Self::inputs`].
    pub(crate) fn evaluate(&self, values: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        let Some((input, rest)) = values.split_first() else {
            bail!("expected an input and four limits, found nothing");
        };
        let [low, high, output_low, output_high] = self.moved(rest)?;
        let inputs = [input.clone(), low, high, output_low, output_high];
        ops::fake_quantize::evaluate_by(self.formula, self.levels, &inputs)
    }

    /// The limits after moving the constants that follow them into them.
    fn moved(&self, values: &[Tensor]) -> Result<[Tensor; 4], OpError> {
        let [low, high, output_low, output_high, constants @ ..] = values else {
            bail!("expected four limits, found {} values", values.len());
        };
        let (mut low, mut high) = (low.clone(), high.clone());
        for (&(kind, _), constant) in self.folded.iter().zip(constants) {
            let undo = match kind {
                BinaryKind::Add => BinaryKind::Subtract,
                BinaryKind::Subtract => BinaryKind::Add,
                _ => BinaryKind::Divide,
            };
            for limit in [&mut low, &mut high] {
                let inputs = [limit.clone(), constant.clone()];
                *limit = ops::evaluate(&Op::Binary(undo), &inputs)?.swap_remove(0);
            }
        }
        Ok([low, high, output_low.clone(), output_high.clone()])
    }
}

/// For each node of the graph, whether it depends on an input of the network.
pub(crate) fn computed(graph: &Graph) -> Vec<bool> {
    let mut computed: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for (_, node) in graph.iter() {
        let of_computed = node.inputs.iter().any(|v| computed[v.node.index()]);
        computed.push(matches!(node.op, Op::Parameter) || of_computed);
    }
    computed
}

/// For each node of the graph, if it is a FakeQuantize on what the network computes: how to compute it.
pub fn quantizations(graph: &Graph) -> Vec<Option<Quantization>> {
    let surroundings = Surroundings::new(graph);
    graph
        .iter()
        .map(|(id, _)| surroundings.quantization(id))
        .collect()
}

struct Surroundings<'a> {
    graph: &'a Graph,
    uses: Vec<usize>,
    /// Nodes that depend on no input of the network.
    constant: Vec<bool>,
    /// Nodes computed in one go with a sum of products before them, or such a sum. What a second operation
    /// reads ends such a row.
    behind_sum: Vec<bool>,
}

impl<'a> Surroundings<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut uses = vec![0; graph.nodes.len()];
        let constant: Vec<bool> = computed(graph).into_iter().map(|c| !c).collect();
        for (_, node) in graph.iter() {
            node.inputs.iter().for_each(|v| uses[v.node.index()] += 1);
        }
        let mut behind_sum: Vec<bool> = Vec::with_capacity(graph.nodes.len());
        for (_, node) in graph.iter() {
            behind_sum.push(match node.op {
                Op::Convolution(_)
                | Op::GroupConvolution(_)
                | Op::ConvolutionBackpropData(_)
                | Op::GroupConvolutionBackpropData(_)
                | Op::MatMul { .. }
                | Op::AvgPool { .. }
                | Op::Reduce { .. }
                | Op::Mvn(_)
                | Op::NormalizeL2 { .. }
                | Op::QuantizedConvolution(_)
                | Op::QuantizedDeconvolution(_)
                | Op::QuantizedMatMul(_)
                | Op::QuantizedBatchMatMul(_)
                | Op::Interpolate(_) => true,
                Op::Binary(_)
                | Op::Unary(_)
                | Op::Clamp { .. }
                | Op::PRelu
                | Op::Select
                | Op::MaxPool(_)
                | Op::Quantize(_)
                | Op::Dequantize(_)
                | Op::Lookup(_)
                | Op::FakeQuantize { .. } => {
                    let joins = |v: &Value| behind_sum[v.node.index()] && uses[v.node.index()] == 1;
                    node.inputs.iter().any(joins)
                }
                _ => false,
            });
        }
        Self {
            graph,
            uses,
            constant,
            behind_sum,
        }
    }

    fn quantization(&self, id: NodeId) -> Option<Quantization> {
        let node = self.graph.node(id);
        let (Op::FakeQuantize { levels }, &[mut input, il, ih, ol, oh]) = (&node.op, node.inputs.as_slice())
        else {
            return None;
        };
        if self.constant[id.index()] {
            return None;
        }
        let formula = if self.behind_sum[input.node.index()] && self.uses[input.node.index()] == 1 {
            Formula::Fused
        } else {
            Formula::Separate
        };
        let mut folded = Vec::new();
        if let Some(before) = self.clipped_by(input, il, ih)
            && self.foldable(before).is_some()
        {
            input = before;
        }
        while let Some((kind, before, constant)) = self.foldable(input) {
            folded.push((kind, constant));
            input = before;
        }
        Some(Quantization {
            levels: *levels,
            input,
            limits: [il, ih, ol, oh],
            folded,
            formula,
        })
    }

    /// What a Relu takes, if nothing else reads the Relu and an interval from 0 or more upwards clips as it does.
    fn clipped_by(&self, value: Value, low: Value, high: Value) -> Option<Value> {
        let node = self.graph.node(value.node);
        let Op::Unary(UnaryKind::Relu) = node.op else {
            return None;
        };
        let limits = |limit: Value| match &self.graph.node(limit.node).op {
            Op::Constant(tensor) => Some(tensor.to_f32()),
            _ => None,
        };
        let clips = limits(low)?.iter().chain(&limits(high)?).all(|&v| v >= 0.0);
        (clips && self.uses[value.node.index()] == 1).then(|| node.inputs[0])
    }

    /// If the value is the sum, difference or product of a tensor and a constant that goes into the limits:
    /// which of them, the tensor and the constant.
    fn foldable(&self, value: Value) -> Option<(BinaryKind, Value, Value)> {
        let node = self.graph.node(value.node);
        let Op::Binary(kind @ (BinaryKind::Add | BinaryKind::Subtract | BinaryKind::Multiply)) = node.op
        else {
            return None;
        };
        let (before, constant) = match *node.inputs.as_slice() {
            [a, b] if self.constant[b.node.index()] => (a, b),
            [a, b] if self.constant[a.node.index()] && kind != BinaryKind::Subtract => (b, a),
            _ => return None,
        };
        // A factor that is all that reads a FakeQuantize goes into the output limits of that one.
        let scales_levels = kind == BinaryKind::Multiply
            && matches!(self.graph.node(before.node).op, Op::FakeQuantize { .. })
            && self.uses[before.node.index()] == 1;
        let keeps_shape = self.graph.info(before).shape == node.outputs.first()?.shape;
        let once = self.uses[value.node.index()] == 1 && !self.constant[before.node.index()];
        (keeps_shape && once && !scales_levels && self.goes_into_limits(node, kind, before, constant))
            .then_some((kind, before, constant))
    }

    /// One number goes into the limits, or one per channel unless it is the bias of a sum of products; and
    /// factors that are positive.
    fn goes_into_limits(&self, node: &Node, kind: BinaryKind, before: Value, constant: Value) -> bool {
        let source = self.graph.node(constant.node);
        let Op::Constant(tensor) = &source.op else {
            let one = |s: Vec<usize>| s.iter().all(|&d| d == 1);
            // A constant stored as f16.
            let stored = source.inputs.first().map(|from| &self.graph.node(from.node).op);
            let positive = match (&source.op, stored) {
                (Op::Convert(_), Some(Op::Constant(tensor))) => tensor.to_f32().iter().all(|&v| v > 0.0),
                _ => false,
            };
            return (positive || kind != BinaryKind::Multiply)
                && self.graph.info(constant).static_shape().is_some_and(one);
        };
        let values = tensor.to_f32();
        if kind == BinaryKind::Multiply && values.iter().any(|&v| v <= 0.0) {
            return false;
        }
        if values.iter().all(|v| *v == values[0]) {
            return !values.is_empty();
        }
        let rank = node.outputs.first().map_or(0, |o| o.shape.len());
        let axis = (0..tensor.shape().len()).find(|&a| tensor.shape()[a] == values.len());
        let channels = axis.is_some_and(|a| a + rank == tensor.shape().len() + 1);
        let bias = matches!(
            self.graph.node(before.node).op,
            Op::Convolution(_) | Op::GroupConvolution(_) | Op::MatMul { .. }
        );
        channels && !bias
    }
}
