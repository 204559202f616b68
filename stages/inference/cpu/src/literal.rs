//! From a model as it was before low precision transformations to what its f32 arithmetic does, so that codes
//! are rounded as there.

mod meaning;
mod path;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use flow_model::fusing::{Quantization, quantizations};
use flow_model::op::{Lookup, Op, UnaryKind};
use flow_model::ops::fake_quantize::Formula;
use flow_model::{ElementType, Graph, Node, NodeId, Tensor, Value};

use crate::kernels::literal::Levels;
use crate::kernels::{AlignedVec, CHANNEL_BLOCK, gemm};
use crate::lower::{IndexMap, Site};
pub(crate) use meaning::Meaning;
pub(crate) use path::Path;

/// What the model says, or why it does not tell: then codes are not looked at near ties.
pub(crate) type Known<T> = Result<T, String>;

/// The answer where there is one, else the reason.
pub(crate) fn known<T>(answer: Option<T>, reason: impl FnOnce() -> String) -> Known<T> {
    answer.ok_or_else(reason)
}

/// Input channels that a convolution of one tap sums before it adds them to the rest (`docs/numerics.md`).
pub(crate) const POINTWISE_BLOCK: usize = 1280;

/// Terms that a matrix product sums before it adds them to the rest.
pub(crate) const PRODUCT_BLOCK: usize = 1024;

/// Terms that a product of two activations sums before it adds them to the rest.
pub(crate) fn block_of_computed(terms: usize) -> usize {
    if terms > gemm::BLOCK {
        gemm::BLOCK
    } else {
        gemm::BLOCK_OF_COMPUTED
    }
}

/// A FakeQuantize of the model, or the part of one that stands behind one branch: low precision transformations move
/// `Concat, [Relu], FakeQuantize` to the inputs of the Concat, where `NAME` becomes `NAME/0`, `NAME/1` and so on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantizer {
    /// The FakeQuantize.
    pub node: NodeId,
    /// The branch; `None` for all of it.
    pub part: Option<Part>,
}

/// One input of a Concat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    concat: NodeId,
    input: usize,
    /// Axis of the Concat, from the front.
    pub axis: usize,
    /// First index along it, and length of all inputs together.
    start: usize,
    whole: usize,
}

/// A model with what is asked of it.
pub(crate) struct Model<'a> {
    graph: &'a Graph,
    /// Tables of codes that low precision transformations have put in the place of operations, by their names.
    lookups: HashMap<&'a str, &'a Lookup>,
    quantizations: Vec<Option<Quantization>>,
    by_name: HashMap<&'a str, NodeId>,
    constants: RefCell<HashMap<NodeId, Option<Vec<Tensor>>>>,
    /// How deep a question has led into the model, and how many nodes it has asked.
    asked: Cell<(usize, usize)>,
}

/// Nodes between an operation and the FakeQuantize behind it, at most.
const MAX_DEPTH: usize = 256;
/// Nodes that a question may ask; a value that is added to itself again and again has paths without number.
const MAX_ASKED: usize = 20_000;

/// Most elements of a tensor that is followed through an operation that moves them: indices are exact in f32.
const MAX_MOVED: usize = 1 << 24;

/// A question on its way through the model.
struct Search<'a>(&'a Cell<(usize, usize)>);

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let (depth, asked) = self.0.get();
        self.0.set((depth - 1, if depth == 1 { 0 } else { asked }));
    }
}

impl<'a> Model<'a> {
    /// The model that `lowered` was made of.
    pub fn new(graph: &'a Graph, lowered: &'a Graph) -> Self {
        let lookups = lowered.nodes.iter().filter_map(|node| match &node.op {
            Op::Lookup(lookup) => Some((&*node.name, lookup)),
            _ => None,
        });
        Self {
            graph,
            lookups: lookups.collect(),
            quantizations: quantizations(graph),
            by_name: graph.iter().map(|(id, node)| (&*node.name, id)).collect(),
            constants: RefCell::new(HashMap::new()),
            asked: Cell::default(),
        }
    }

    /// The operation of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The FakeQuantize that an operation of that name in the transformed graph does the work of.
    pub fn quantizer(&self, name: &str) -> Option<Quantizer> {
        if let Some(node) = self.find(name) {
            return Some(Quantizer { node, part: None });
        }
        let (moved, input) = name.rsplit_once('/')?;
        let (node, input) = (self.find(moved)?, input.parse().ok()?);
        let mut concat = self.quantizations[node.index()].as_ref()?.source().node;
        if let Op::Unary(UnaryKind::Relu) = self.graph.node(concat).op {
            concat = self.input(concat, 0)?.node;
        }
        let Op::Concat { axis } = self.graph.node(concat).op else {
            return None;
        };
        let rank = self.graph.info(Value::of(concat)).shape.len() as i64;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let inputs = self.graph.node(concat).inputs.iter();
        let lengths: Vec<usize> = inputs
            .map(|&v| self.graph.info(v).static_shape()?.get(axis).copied())
            .collect::<Option<_>>()?;
        let part = Part {
            concat,
            input,
            axis,
            start: lengths.get(..input)?.iter().sum(),
            whole: lengths.iter().sum(),
        };
        (input < lengths.len()).then_some(Quantizer {
            node,
            part: Some(part),
        })
    }

    /// Input `port` of an operation.
    pub fn input(&self, id: NodeId, port: usize) -> Option<Value> {
        self.graph.node(id).inputs.get(port).copied()
    }

    /// Weights of a convolution, transposed convolution or matrix product, `[output channel][input of its
    /// group][kernel]`.
    pub fn weights(&self, id: NodeId) -> Option<Vec<f32>> {
        let tensor = self.constant(self.input(id, 1)?)?;
        let values = tensor.to_f32();
        let (groups, inputs, outputs) = match (&self.graph.node(id).op, tensor.shape()) {
            (Op::Convolution(_) | Op::GroupConvolution(_), _) => return Some(values),
            (
                Op::MatMul {
                    transpose_b: true, ..
                },
                shape,
            ) => {
                let leading = shape.len().checked_sub(2)?;
                return shape[..leading].iter().all(|&d| d == 1).then_some(values);
            }
            (Op::MatMul { .. }, &[ref leading @ .., k, n]) if leading.iter().all(|&d| d == 1) => (1, k, n),
            (Op::ConvolutionBackpropData(_), &[inputs, outputs, ..]) => (1, inputs, outputs),
            (Op::GroupConvolutionBackpropData(_), &[groups, inputs, outputs, ..]) => {
                (groups, inputs, outputs)
            }
            _ => return None,
        };
        // From `[group][input][output][tap]` to `[group][output][input][tap]`.
        let planes = groups.checked_mul(inputs)?.checked_mul(outputs)?;
        let taps = values.len().checked_div(planes)?;
        let mut turned = Vec::with_capacity(values.len());
        for (group, output) in (0..groups).flat_map(|g| (0..outputs).map(move |o| (g, o))) {
            for input in 0..inputs {
                let plane = (group * inputs + input) * outputs + output;
                turned.extend_from_slice(values.get(plane * taps..(plane + 1) * taps)?);
            }
        }
        Some(turned)
    }

    /// Whether that is the name of what a FakeQuantize quantizes in the transformed graph, before what is moved into
    /// its limits.
    pub fn quantizes(&self, quantizer: Quantizer, name: &str) -> bool {
        let Some(quantization) = &self.quantizations[quantizer.node.index()] else {
            return false;
        };
        let source = quantization.source().node;
        let of = |id: NodeId| &*self.graph.node(id).name;
        match quantizer.part {
            None => of(source) == name,
            Some(part) if source == part.concat => self
                .input(part.concat, part.input)
                .is_some_and(|v| of(v.node) == name),
            Some(part) => name
                .rsplit_once('/')
                .is_some_and(|(relu, i)| relu == of(source) && i.parse() == Ok(part.input)),
        }
    }

    /// The constant that an operation of the lowered graph reads at a port in the model, if it does the same operation
    /// there in f32.
    pub fn constant_of(&self, lowered: &Graph, node: &Node, port: usize) -> Option<Tensor> {
        let id = self.find(&node.name)?;
        let same = self.graph.node(id).op.type_name() == node.op.type_name();
        let f32s = |v: &Value| lowered.info(*v).element_type == ElementType::F32;
        if !same || !node.inputs.get(port).is_some_and(f32s) {
            return None;
        }
        self.constant(self.input(id, port)?)
    }

    /// The name of an operation.
    pub fn name(&self, id: NodeId) -> &str {
        &self.graph.node(id).name
    }

    /// An operation and its inputs.
    pub fn operation(&self, id: NodeId) -> (&'a Op, &'a [Value]) {
        let node = self.graph.node(id);
        (&node.op, &node.inputs)
    }

    /// The shape of a value, if it is fixed.
    pub fn shape(&self, value: Value) -> Option<Vec<usize>> {
        self.graph.info(value).static_shape()
    }

    /// What a FakeQuantize quantizes, before what is moved into its limits, and whether a Relu comes in between.
    pub fn quantized(&self, quantizer: Quantizer) -> Option<(Value, bool)> {
        let source = self.quantizations[quantizer.node.index()].as_ref()?.source();
        match quantizer.part {
            None => Some((source, false)),
            Some(part) => Some((self.input(part.concat, part.input)?, source.node != part.concat)),
        }
    }

    /// The limits of a FakeQuantize, or of its part, and its formula.
    pub fn limits(&self, quantizer: Quantizer) -> Option<([Tensor; 4], Formula)> {
        let (_, limits, formula) = self.rounding(quantizer.node)?;
        let Some(part) = quantizer.part else {
            return Some((limits, formula));
        };
        // The channels of the part.
        let rank = self.graph.info(Value::of(part.concat)).shape.len();
        let length = self.shape(self.input(part.concat, part.input)?)?[part.axis];
        let cut = |limit: &Tensor| -> Option<Tensor> {
            let along = (part.axis + limit.shape().len()).checked_sub(rank);
            let Some(along) = along.filter(|&a| limit.shape()[a] == part.whole) else {
                return Some(limit.clone());
            };
            let mut shape = limit.shape().to_vec();
            let inner: usize = shape[along + 1..].iter().product();
            let values = limit.to_f32();
            let whole = values.chunks_exact((shape[along] * inner).max(1));
            let own = part.start * inner..(part.start + length) * inner;
            let values: Vec<f32> = whole
                .flat_map(|chunk| chunk[own.clone()].iter().copied())
                .collect();
            shape[along] = length;
            Tensor::from_slice(&shape, &values).ok()
        };
        let [a, b, c, d] = &limits;
        Some(([cut(a)?, cut(b)?, cut(c)?, cut(d)?], formula))
    }

    /// Levels that codes of a FakeQuantize tell apart.
    pub fn levels_told_apart(&self, quantizer: Quantizer) -> Option<u32> {
        let (limits, _) = self.limits(quantizer)?;
        let quantization = self.quantizations[quantizer.node.index()].as_ref()?;
        Some(self.levels_of(quantization.levels(), &limits))
    }

    /// What a FakeQuantize quantizes, its limits with the constants that moved into them, and its formula.
    pub fn rounding(&self, id: NodeId) -> Option<(Value, [Tensor; 4], Formula)> {
        let quantization = self.quantizations[id.index()].as_ref()?;
        let limits = quantization.limits(|v| self.constant(v)).ok()?;
        Some((quantization.source(), limits, quantization.formula()))
    }

    /// The name of the Concat before a FakeQuantize, with a Relu between them or not.
    pub fn concat_before(&self, id: NodeId) -> Option<String> {
        let mut before = self.quantizations[id.index()].as_ref()?.source().node;
        if let Op::Unary(UnaryKind::Relu) = self.graph.node(before).op {
            before = self.input(before, 0)?.node;
        }
        let node = self.graph.node(before);
        matches!(node.op, Op::Concat { .. }).then(|| node.name.to_string())
    }

    /// For each element of a value that is moved from the first input of its operation, the index of its source.
    pub fn map(&self, value: Value) -> Option<IndexMap> {
        let node = self.graph.node(value.node);
        let shape = self.shape(*node.inputs.first()?)?;
        let count: usize = shape.iter().product();
        if count > MAX_MOVED.min(flow_model::limits::max_elements()) {
            return None;
        }
        let indices: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let mut inputs = vec![Tensor::from_slice(&shape, &indices).ok()?];
        for &other in &node.inputs[1..] {
            inputs.push(self.constant(other)?);
        }
        let moved = flow_model::ops::evaluate(&node.op, &inputs).ok()?;
        let moved = moved.get(value.port as usize)?;
        Some(moved.to_f32().into_iter().map(|i| i as u32).collect())
    }

    /// Goes one node further; an error if that is too far.
    fn search(&self) -> Known<Search<'_>> {
        let (depth, asked) = self.asked.get();
        if depth >= MAX_DEPTH || asked >= MAX_ASKED {
            return Err("the model is too deep to look at".to_owned());
        }
        self.asked.set((depth + 1, asked + 1));
        Ok(Search(&self.asked))
    }

    /// A value that depends on no input of the network.
    pub fn constant(&self, value: Value) -> Option<Tensor> {
        let _search = self.search().ok()?;
        if let Some(known) = self.constants.borrow().get(&value.node) {
            return known.as_ref()?.get(value.port as usize).cloned();
        }
        let node = self.graph.node(value.node);
        let outputs = match &node.op {
            Op::Constant(tensor) => Some(vec![tensor.clone()]),
            Op::Parameter | Op::Result => None,
            op => {
                let inputs: Option<Vec<Tensor>> = node.inputs.iter().map(|&v| self.constant(v)).collect();
                inputs
                    .filter(|i| !i.is_empty())
                    .and_then(|inputs| flow_model::ops::fold(op, &inputs))
            }
        };
        let found = outputs.as_ref().and_then(|o| o.get(value.port as usize).cloned());
        self.constants.borrow_mut().insert(value.node, outputs);
        found
    }

    /// One value per channel of the site, padded; those of one part, if the tensor has one for each channel of the
    /// whole.
    fn per_channel(&self, tensor: &Tensor, site: Site, part: Option<Part>) -> Known<AlignedVec<f32>> {
        let lost = || {
            format!(
                "a constant of shape {:?} varies along another axis",
                tensor.shape()
            )
        };
        let (start, length) = match part {
            Some(part) if part.axis == site.axis => (part.start, part.whole),
            _ => (0, site.channels),
        };
        let values = tensor.to_f32();
        let shape = tensor.shape();
        let padded = site.channels.checked_next_multiple_of(CHANNEL_BLOCK);
        let mut out = AlignedVec::zeroed(known(padded, lost)? + CHANNEL_BLOCK);
        if let [value] = values[..] {
            out[..site.channels].fill(value);
            return Ok(out);
        }
        let missing = known(site.rank.checked_sub(shape.len()), lost)?;
        let along = shape
            .iter()
            .enumerate()
            .all(|(i, &d)| d == 1 || (i + missing == site.axis && d == length));
        let end = start.checked_add(site.channels);
        let own = end.and_then(|end| values.get(start..end));
        out[..site.channels].copy_from_slice(known(own.filter(|_| along), lost)?);
        Ok(out)
    }

    /// Levels that codes tell apart: two for a FakeQuantize that only steps, whatever it says.
    fn levels_of(&self, levels: u32, limits: &[Tensor; 4]) -> u32 {
        let (low, high) = (limits[0].to_f32(), limits[1].to_f32());
        let count = low.len().max(high.len());
        let at = |values: &[f32], i: usize| values.get(if values.len() == 1 { 0 } else { i }).copied();
        let steps = (0..count).all(|i| at(&low, i) == at(&high, i));
        if steps { 2 } else { levels }
    }

    /// How a FakeQuantize puts values on levels.
    pub fn levels(&self, quantizer: Quantizer, site: Site) -> Known<Levels> {
        let name = &self.graph.node(quantizer.node).name;
        let quantization = known(self.quantizations[quantizer.node.index()].as_ref(), || {
            format!("\"{name}\" is no FakeQuantize of what the network computes")
        })?;
        let limits = quantization
            .limits(|v| self.constant(v))
            .map_err(|_| format!("the limits of \"{name}\" are not constant"))?;
        let of = |i: usize| {
            self.per_channel(&limits[i], site, quantizer.part)
                .map_err(|why| format!("limits of \"{name}\": {why}"))
        };
        let (low, high, output_low, output_high) = (of(0)?, of(1)?, of(2)?, of(3)?);
        let last = (self.levels_of(quantization.levels(), &limits) - 1) as f32;
        let fused = quantization.formula() == Formula::Fused;
        let of = |f: &dyn Fn(usize) -> f32| {
            let mut out = AlignedVec::zeroed(low.len());
            (0..site.channels).for_each(|c| out[c] = f(c));
            out
        };
        Ok(Levels {
            fused,
            last,
            // All levels mean the same where the output interval has no width: codes are 0 then.
            least: of(&|c| {
                if output_low[c] == output_high[c] {
                    f32::INFINITY
                } else {
                    low[c].min(high[c])
                }
            }),
            most: of(&|c| {
                if output_low[c] == output_high[c] {
                    f32::INFINITY
                } else {
                    low[c].max(high[c])
                }
            }),
            scale: of(&|c| last / (high[c] - low[c])),
            shift: of(&|c| {
                if fused {
                    -low[c] * last / (high[c] - low[c])
                } else {
                    -low[c] * (last / (high[c] - low[c]))
                }
            }),
            output_scale: of(&|c| (output_high[c] - output_low[c]) / last),
            output_low,
        })
    }
}
