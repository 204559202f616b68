//! From a model as it was before low precision transformations to what its f32 arithmetic does, so that codes
//! are rounded as there.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use flow_model::fusing::{Quantization, quantizations};
use flow_model::op::{BinaryKind, InterpolateMode, Op, UnaryKind};
use flow_model::ops::fake_quantize::Formula;
use flow_model::{Graph, NodeId, Tensor, Value};

use crate::kernels::literal::{Levels, Operation, Values};
use crate::kernels::{AlignedVec, CHANNEL_BLOCK};
use crate::lower::Site;

/// Input channels that a convolution of one tap sums before it adds them to the rest (`docs/numerics.md`).
pub(crate) const POINTWISE_BLOCK: usize = 1280;

/// Terms that a matrix product sums before it adds them to the rest.
pub(crate) const PRODUCT_BLOCK: usize = 1024;

/// The operations between a root and a FakeQuantize, and the FakeQuantize.
pub(crate) struct Path {
    pub operations: Vec<Operation>,
    pub levels: Levels,
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

/// A question on its way through the model.
struct Search<'a>(&'a Cell<(usize, usize)>);

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let (depth, asked) = self.0.get();
        self.0.set((depth - 1, if depth == 1 { 0 } else { asked }));
    }
}

impl<'a> Model<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
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

    /// Weights of a convolution or matrix product, `[output channel][the rest]`.
    pub fn weights(&self, id: NodeId) -> Option<Vec<f32>> {
        let tensor = self.constant(self.input(id, 1)?)?;
        let values = tensor.to_f32();
        let Op::MatMul {
            transpose_b: false, ..
        } = self.graph.node(id).op
        else {
            return Some(values);
        };
        let &[.., k, n] = tensor.shape() else {
            return None;
        };
        (values.len() == n * k).then(|| (0..n * k).map(|i| values[i % k * n + i / k]).collect())
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

    /// Goes one node further; `None` if that is too far.
    fn search(&self) -> Option<Search<'_>> {
        let (depth, asked) = self.asked.get();
        if depth >= MAX_DEPTH || asked >= MAX_ASKED {
            return None;
        }
        self.asked.set((depth + 1, asked + 1));
        Some(Search(&self.asked))
    }

    /// A value that depends on no input of the network.
    pub fn constant(&self, value: Value) -> Option<Tensor> {
        let _search = self.search()?;
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

    /// One value per channel of `axis` (of `rank`), padded; those of one part, if the tensor has one for each channel
    /// of the whole.
    fn per_channel(&self, tensor: &Tensor, site: Site, part: Option<Part>) -> Option<AlignedVec<f32>> {
        let (start, length) = match part {
            Some(part) if part.axis == site.axis => (part.start, part.whole),
            _ => (0, site.channels),
        };
        let values = tensor.to_f32();
        let shape = tensor.shape();
        let mut out =
            AlignedVec::zeroed(site.channels.checked_next_multiple_of(CHANNEL_BLOCK)? + CHANNEL_BLOCK);
        if let [value] = values[..] {
            out[..site.channels].fill(value);
            return Some(out);
        }
        let missing = site.rank.checked_sub(shape.len())?;
        let along = shape
            .iter()
            .enumerate()
            .all(|(i, &d)| d == 1 || (i + missing == site.axis && d == length));
        if !along {
            return None;
        }
        out[..site.channels].copy_from_slice(values.get(start..start.checked_add(site.channels)?)?);
        Some(out)
    }

    /// How a FakeQuantize puts values on levels.
    pub fn levels(&self, quantizer: Quantizer, site: Site) -> Option<Levels> {
        let quantization = self.quantizations[quantizer.node.index()].as_ref()?;
        let limits = quantization.limits(|v| self.constant(v)).ok()?;
        let [low, high, output_low, output_high] =
            [0, 1, 2, 3].map(|i| self.per_channel(&limits[i], site, quantizer.part));
        let (low, high, output_low, output_high) = (low?, high?, output_low?, output_high?);
        let last = (quantization.levels() - 1) as f32;
        // Intervals without width are taken apart otherwise: their codes are not levels.
        let widths = [(&low, &high), (&output_low, &output_high)];
        if widths
            .iter()
            .any(|(l, h)| (0..site.channels).any(|c| l[c] == h[c]))
        {
            return None;
        }
        let fused = quantization.formula() == Formula::Fused;
        let of = |f: &dyn Fn(usize) -> f32| {
            let mut out = AlignedVec::zeroed(low.len());
            (0..site.channels).for_each(|c| out[c] = f(c));
            out
        };
        Some(Levels {
            fused,
            last,
            least: of(&|c| low[c].min(high[c])),
            most: of(&|c| low[c].max(high[c])),
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

    /// What stored codes of a tensor mean that is a FakeQuantize moved about, or a function of one.
    pub fn values(&self, value: Value) -> Option<Values> {
        let _search = self.search()?;
        let node = self.graph.node(value.node);
        let first = || self.values(*node.inputs.first()?);
        let uniform = || first().filter(|values| values.channels() == 1);
        match &node.op {
            Op::FakeQuantize { .. } => {
                let shape = self.graph.info(value).static_shape()?;
                let site = Site {
                    rank: shape.len(),
                    axis: 1,
                    channels: shape.get(1).copied().unwrap_or(1),
                };
                let quantization = self.quantizations[value.node.index()].as_ref()?;
                let limits = quantization.limits(|v| self.constant(v)).ok()?;
                let [low, high] = [
                    self.per_channel(&limits[2], site, None)?,
                    self.per_channel(&limits[3], site, None)?,
                ];
                let last = (quantization.levels() - 1) as f32;
                let single = limits[2].to_f32().len() == 1 && limits[3].to_f32().len() == 1;
                if !single && shape.len() != 4 {
                    return None;
                }
                let channels = 0..if single { 1 } else { site.channels };
                Some(Values(
                    channels
                        .flat_map(|c| {
                            let (low, scale) = (low[c], (high[c] - low[c]) / last);
                            (0..256).map(move |code| (code as f32).mul_add(scale, low))
                        })
                        .collect(),
                ))
            }
            Op::Unary(UnaryKind::Relu) => {
                let mut values = first()?;
                values.0.iter_mut().for_each(|v| *v = v.max(0.0));
                Some(values)
            }
            Op::Clamp { min, max } => {
                let mut values = first()?;
                values.0.iter_mut().for_each(|v| *v = v.max(*min).min(*max));
                Some(values)
            }
            Op::MaxPool(_) => first(),
            Op::Interpolate(attrs) if attrs.mode == InterpolateMode::Nearest => first(),
            Op::Reshape { .. }
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Transpose
            | Op::Split { .. }
            | Op::VariadicSplit
            | Op::StridedSlice(_)
            | Op::Slice
            | Op::Gather { .. } => uniform(),
            Op::Standard(operation) if operation.moves_values() => uniform(),
            Op::Concat { axis } => {
                let parts: Vec<Values> = node
                    .inputs
                    .iter()
                    .map(|&v| self.values(v))
                    .collect::<Option<_>>()?;
                if parts.iter().all(|p| p.channels() == 1 && *p == parts[0]) {
                    return parts.into_iter().next();
                }
                let rank = self.graph.info(value).shape.len() as i64;
                if rank != 4 || (*axis != 1 && *axis != 1 - rank) {
                    return None;
                }
                let mut joined = Vec::new();
                for (&input, part) in node.inputs.iter().zip(&parts) {
                    let channels = self.graph.info(input).static_shape()?[1];
                    for _ in 0..channels / part.channels() {
                        joined.extend_from_slice(&part.0);
                    }
                }
                Some(Values(joined))
            }
            _ => None,
        }
    }

    /// What happens between the result of the operation `root` and the FakeQuantize `last`.
    pub fn path(&self, root: NodeId, last: Quantizer, site: Site) -> Option<Path> {
        let levels = self.levels(last, site)?;
        let source = self.quantizations[last.node.index()].as_ref()?.source();
        let mut operations = Vec::new();
        self.walk(root, source, (site, last.part), &mut operations)?;
        Some(Path { operations, levels })
    }

    /// As [`Model::path`]; the Concat of `part` is on the way.
    fn walk(
        &self,
        root: NodeId,
        value: Value,
        (site, part): (Site, Option<Part>),
        operations: &mut Vec<Operation>,
    ) -> Option<()> {
        let _search = self.search()?;
        if value.node == root {
            return Some(());
        }
        if let Some(part) = part.filter(|part| part.concat == value.node) {
            let branch = self.input(part.concat, part.input)?;
            return self.walk(root, branch, (site, None), operations);
        }
        let at = (site, part);
        let node = self.graph.node(value.node);
        match (&node.op, node.inputs.as_slice()) {
            (Op::Unary(UnaryKind::Relu), &[x]) => {
                self.walk(root, x, at, operations)?;
                operations.push(Operation::Relu);
            }
            (Op::Clamp { min, max }, &[x]) => {
                self.walk(root, x, at, operations)?;
                operations.push(Operation::Clamp(*min, *max));
            }
            (Op::FakeQuantize { .. }, _) => {
                let source = self.quantizations[value.node.index()].as_ref()?.source();
                self.walk(root, source, at, operations)?;
                let inner = Quantizer {
                    node: value.node,
                    part,
                };
                operations.push(Operation::Round(self.levels(inner, site)?));
            }
            (Op::Binary(kind), &[a, b]) => {
                let (x, other, first) = if let Some(c) = self.constant(b) {
                    (a, Some(c), true)
                } else if let Some(c) = self.constant(a) {
                    (b, Some(c), false)
                } else {
                    (a, None, true)
                };
                if let Some(constant) = other {
                    self.walk(root, x, at, operations)?;
                    let c = self.per_channel(&constant, site, part)?;
                    operations.push(match (kind, first) {
                        (BinaryKind::Add, _) => Operation::Add(c),
                        (BinaryKind::Subtract, true) => Operation::Subtract(c),
                        (BinaryKind::Multiply, _) => Operation::Multiply(c),
                        (BinaryKind::Divide, true) => Operation::Divide(c),
                        _ => return None,
                    });
                    return Some(());
                }
                let before = operations.len();
                let mut residual = b;
                if self.walk(root, a, at, operations).is_none() {
                    operations.truncate(before);
                    if *kind != BinaryKind::Add {
                        return None;
                    }
                    self.walk(root, b, at, operations)?;
                    residual = a;
                }
                let table = self.values(residual)?;
                operations.push(match kind {
                    BinaryKind::Add => Operation::AddOperand(table),
                    BinaryKind::Subtract => Operation::SubtractOperand(table),
                    _ => return None,
                });
            }
            _ => return None,
        }
        Some(())
    }
}
