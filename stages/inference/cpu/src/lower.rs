//! Lowering: from the operations of a graph to steps over tensors in memory.
//!
//! Operations are taken in topological order. Heavy ones absorb what follows them ([`chain`]); operations that
//! only move elements become views that are copied when somebody needs them in memory ([`movement`]);
//! dequantizations are computed only if somebody needs real values. What nothing else takes is evaluated by
//! the reference evaluator.

mod affine;
mod chain;
mod convolution;
mod deconvolution;
mod dense;
mod draft;
mod exact;
mod exactness;
mod fake_quantize;
mod heavy;
mod light;
mod movement;
mod pooling;
mod product;
mod recall;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use flow_model::op::Op;
use flow_model::{ElementType, Graph, NodeId, Value};

use crate::error::CompileError;
use crate::kernels::{Halo, KernelTable};
use crate::literal::{Known, Model};
use crate::placement::{Image, Placement};
use crate::recall::Recall;
pub(crate) use chain::Site;
use chain::is_code;
pub(crate) use deconvolution::{Phase, PhaseKernel};
pub(crate) use draft::{
    Action, CopyPart, Draft, Home, Rounding, StepDraft, TensorDraft, TensorId, element_bytes, stored_bias,
};
pub(crate) use movement::IndexMap;
pub(crate) use recall::MAX_LEAVES;

/// How a tensor should lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Any,
    Plain,
    Image,
}

/// A value that is not in memory yet: elements of another one.
#[derive(Debug, Clone)]
struct Moved {
    base: Value,
    map: Option<IndexMap>,
}

/// A chain waiting for its last operation.
struct Pending {
    root: NodeId,
    heavy: heavy::Heavy,
    chain: chain::Chain,
}

struct Lowering<'a> {
    graph: &'a Graph,
    /// The model before low precision transformations, where its rounding is wanted.
    model: Option<Model<'a>>,
    original: Option<&'a Graph>,
    /// Whether a value that is a little off may fall on another level somewhere behind.
    quantized: bool,
    /// For each operation whether its real values are the model's, once somebody has asked.
    exactness: std::cell::OnceCell<Vec<Known<()>>>,
    by_name: HashMap<&'a str, NodeId>,
    users: Vec<Vec<NodeId>>,
    table: &'static KernelTable,
    draft: Draft,
    /// Forms in memory of each value.
    held: HashMap<Value, Vec<TensorId>>,
    moved: HashMap<Value, Moved>,
    wants_image: Vec<bool>,
    /// Operations that a chain covers.
    taken: Vec<bool>,
    /// Chains by their last operation.
    pending: HashMap<NodeId, Pending>,
    roundings: HashMap<NodeId, fake_quantize::Rounding>,
}

/// Lowers a graph whose shapes are all fixed.
pub(crate) fn lower<'a>(
    graph: &'a Graph,
    original: Option<&'a Graph>,
    table: &'static KernelTable,
) -> Result<Draft, CompileError> {
    for (_, node) in graph.iter() {
        if let Some(output) = node.outputs.iter().find(|o| o.static_shape().is_none()) {
            return Err(CompileError::DynamicShape {
                layer: node.name.to_string(),
                line: node.line,
                shape: output.shape.clone(),
            });
        }
    }
    let mut lowering = Lowering {
        graph,
        model: original.map(|model| Model::new(model, graph)),
        exactness: std::cell::OnceCell::new(),
        by_name: graph.iter().map(|(id, node)| (&*node.name, id)).collect(),
        original,
        quantized: graph
            .nodes
            .iter()
            .any(|n| matches!(n.op, Op::FakeQuantize { .. } | Op::Quantize(_))),
        users: graph.users(),
        table,
        draft: Draft::default(),
        held: HashMap::new(),
        moved: HashMap::new(),
        wants_image: image_wishes(graph),
        taken: vec![false; graph.nodes.len()],
        pending: HashMap::new(),
        roundings: HashMap::new(),
    };
    lowering.run()?;
    Ok(lowering.draft)
}

impl Lowering<'_> {
    fn run(&mut self) -> Result<(), CompileError> {
        for (index, &id) in self.graph.parameters.iter().enumerate() {
            let value = Value::of(id);
            let tensor = self.add_tensor(value, Form::Plain, Home::Input(index));
            self.draft.inputs.push(tensor);
            self.draft.input_quantize.push(None);
            // `I8` codes are stored + 128 everywhere but in the caller's memory.
            if self.element_type(value) == ElementType::I8 {
                let stored = self.add_tensor(value, Form::Plain, Home::Arena);
                self.push(Action::Table(flip_sign_bit()), vec![tensor], vec![stored], id);
                self.held.insert(value, vec![stored]);
            } else {
                self.held.insert(value, vec![tensor]);
            }
        }
        self.plan_roundings();
        for pass in 0..3 {
            for (id, _) in self.graph.iter() {
                self.plan_chain(id, pass);
            }
        }
        for (id, _) in self.graph.iter() {
            if let Some(pending) = self.pending.remove(&id) {
                self.emit_chain(pending)?;
            } else if !self.taken[id.index()] {
                self.emit(id)?;
            }
        }
        for &id in &self.graph.results {
            let value = self.graph.node(id).inputs[0];
            let mut tensor = self.materialize(value, Form::Plain)?;
            let element_type = self.element_type(value);
            let home = self.home(tensor);
            let stored = element_type == ElementType::I8 && !matches!(home, Home::Constant(_));
            let ours = matches!(home, Home::Arena);
            if stored {
                let output = self.add_tensor(value, Form::Plain, Home::Arena);
                self.push(Action::Table(flip_sign_bit()), vec![tensor], vec![output], id);
                tensor = output;
            } else if !ours {
                // An input or a constant handed through: the caller finds outputs in the arena.
                let output = self.add_tensor(value, Form::Plain, Home::Arena);
                let part = self.whole(value);
                self.push(Action::Copy(vec![part]), vec![tensor], vec![output], id);
                tensor = output;
            }
            self.draft.outputs.push(tensor);
        }
        Ok(())
    }

    fn emit(&mut self, id: NodeId) -> Result<(), CompileError> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Parameter | Op::Constant(_) | Op::Result | Op::Dequantize(_) => Ok(()),
            _ if self.users[id.index()].is_empty() => Ok(()),
            _ => {
                if self.emit_rounding(id)?
                    || self.emit_movement(id)?
                    || self.emit_max_pool(id)?
                    || self.emit_light(id)?
                    || self.emit_dense(id)?
                {
                    Ok(())
                } else {
                    self.emit_evaluation(id)
                }
            }
        }
    }

    fn shape(&self, value: Value) -> Vec<usize> {
        // `lower` refused graphs with open shapes.
        self.graph.info(value).static_shape().unwrap_or_default()
    }

    fn element_type(&self, value: Value) -> ElementType {
        self.graph.info(value).element_type
    }

    /// Adds a tensor for `value`.
    fn add_tensor(&mut self, value: Value, form: Form, home: Home) -> TensorId {
        let shape = self.shape(value);
        let element_type = self.element_type(value);
        let placement = match window::image_dims(&shape).filter(|_| form == Form::Image) {
            Some([batch, channels, height, width]) => Placement::Image(Image {
                rank: shape.len(),
                batch,
                channels,
                height,
                width,
                pixel_stride: pixel_stride(element_type, channels),
                halo: Halo::default(),
            }),
            None => Placement::plain(&shape),
        };
        self.draft.tensors.push(TensorDraft {
            element_type,
            placement,
            fill: 0,
            home,
        });
        self.draft.tensors.len() - 1
    }

    /// Adds a tensor in the arena and notes that it holds `value`.
    fn produce(&mut self, value: Value, form: Form) -> TensorId {
        let tensor = self.add_tensor(value, form, Home::Arena);
        self.held.entry(value).or_default().push(tensor);
        tensor
    }

    fn push(&mut self, action: Action, inputs: Vec<TensorId>, outputs: Vec<TensorId>, node: NodeId) {
        self.draft.steps.push(StepDraft {
            action,
            inputs,
            outputs,
            node,
            members: Vec::new(),
            macs: 0,
            literal: None,
            recall: None,
            rounding: Rounding::Nothing,
        });
    }

    /// Where the bytes of a tensor are that may be those of another one.
    fn home(&self, mut tensor: TensorId) -> &Home {
        while let Home::Alias(of) = self.draft.tensors[tensor].home {
            tensor = of;
        }
        &self.draft.tensors[tensor].home
    }

    /// Says how the last step rounds.
    fn note_rounding(&mut self, rounding: Rounding, recall: Option<Box<Recall>>) {
        let literal = self.is_literal();
        if let Some(step) = self.draft.steps.last_mut().filter(|_| literal) {
            (step.rounding, step.recall) = (rounding, recall);
        }
    }

    fn is_image(&self, tensor: TensorId) -> bool {
        matches!(self.draft.tensors[tensor].placement, Placement::Image(_))
    }

    /// The form in which an element-wise operation should leave `output`.
    fn form_of(&self, output: Value, operands: &[TensorId]) -> Form {
        let image = matches!(self.graph.info(output).shape.len(), 3 | 4)
            && (self.wants_image[output.node.index()] || operands.iter().any(|&t| self.is_image(t)));
        if image { Form::Image } else { Form::Plain }
    }

    /// A copy of all of `value`, in order.
    fn whole(&self, value: Value) -> CopyPart {
        CopyPart {
            shape: self.shape(value),
            map: None,
            axis: 0,
            start: 0,
        }
    }

    /// A tensor that holds `value` in that form; computes or copies what is missing.
    fn materialize(&mut self, value: Value, form: Form) -> Result<TensorId, CompileError> {
        let form = if matches!(self.shape(value).len(), 3 | 4) || form == Form::Any {
            form
        } else {
            Form::Plain
        };
        let fits = |t: &TensorId| match form {
            Form::Any => true,
            Form::Plain => !self.is_image(*t),
            Form::Image => self.is_image(*t),
        };
        let known = self.held.get(&value);
        if let Some(&tensor) = known.and_then(|t| t.iter().find(|t| fits(t))) {
            return Ok(tensor);
        }
        if let Some(&other) = known.and_then(|t| t.first()) {
            let part = self.whole(value);
            let tensor = self.produce(value, form);
            self.push(Action::Copy(vec![part]), vec![other], vec![tensor], value.node);
            return Ok(tensor);
        }
        if let Some(moved) = self.moved.get(&value).cloned() {
            return self.materialize_moved(value, moved, form);
        }
        let node = self.graph.node(value.node);
        match &node.op {
            Op::Constant(constant) => {
                let mut bytes = crate::kernels::AlignedVec::from_slice(constant.bytes());
                if constant.element_type() == ElementType::I8 {
                    bytes.iter_mut().for_each(|b| *b ^= 0x80);
                }
                let tensor = self.add_tensor(value, Form::Plain, Home::Constant(Arc::new(bytes)));
                self.held.insert(value, vec![tensor]);
                if form == Form::Image {
                    return self.materialize(value, form);
                }
                Ok(tensor)
            }
            Op::Dequantize(d) => {
                let codes = node.inputs[0];
                if !is_code(self.element_type(codes)) {
                    self.emit_evaluation(value.node)?;
                    return self.materialize(value, form);
                }
                let values = self.literal_values(value.node).ok().flatten();
                let action = Action::Dequantize(self.element_type(codes), d.clone(), values);
                let input = self.materialize(codes, Form::Any)?;
                let form = match form {
                    Form::Any => self.form_of(value, &[input]),
                    form => form,
                };
                let tensor = self.produce(value, form);
                self.push(action, vec![input], vec![tensor], value.node);
                Ok(tensor)
            }
            _ => Err(CompileError::Internal {
                layer: node.name.to_string(),
                message: "a value is used before it is computed".into(),
            }),
        }
    }

    /// Makes room around an image for the windows that read it; its padding stands for `fill`.
    ///
    /// A tensor keeps one fill: a consumer that pads with another value gets a copy.
    fn with_halo(&mut self, value: Value, tensor: TensorId, halo: Halo, fill: u8) -> TensorId {
        if halo == Halo::default() {
            return tensor;
        }
        let arena = matches!(self.draft.tensors[tensor].home, Home::Arena);
        let draft = &mut self.draft.tensors[tensor];
        if let Placement::Image(image) = &mut draft.placement
            && arena
            && (image.halo == Halo::default() || draft.fill == fill)
        {
            image.halo = image.halo.union(halo);
            draft.fill = fill;
            return tensor;
        }
        let copy = self.add_tensor(value, Form::Image, Home::Arena);
        let part = self.whole(value);
        self.push(Action::Copy(vec![part]), vec![tensor], vec![copy], value.node);
        let draft = &mut self.draft.tensors[copy];
        if let Placement::Image(image) = &mut draft.placement {
            image.halo = halo;
        }
        draft.fill = fill;
        copy
    }
}

/// Distance of neighbouring pixels. Codes of a picture with one to three channels stay dense, as rows of taps
/// are then one run; other codes are padded to whole groups of four.
fn pixel_stride(element_type: ElementType, channels: usize) -> usize {
    if is_code(element_type) && channels > 4 {
        channels.next_multiple_of(4)
    } else {
        channels
    }
}

/// The table from code to stored code of `I8`, and back.
fn flip_sign_bit() -> Box<[u8; 256]> {
    Box::new(std::array::from_fn(|i| i as u8 ^ 0x80))
}

/// For each operation, whether somebody wants its (first) output as an image.
fn image_wishes(graph: &Graph) -> Vec<bool> {
    let mut wants = vec![false; graph.nodes.len()];
    for i in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[i];
        let Some(&data) = node.inputs.first() else {
            continue;
        };
        let image = |v: Value| matches!(graph.info(v).shape.len(), 3 | 4);
        match &node.op {
            Op::Convolution(_)
            | Op::GroupConvolution(_)
            | Op::QuantizedConvolution(_)
            | Op::QuantizedDeconvolution(_)
            | Op::ConvolutionBackpropData(_)
            | Op::GroupConvolutionBackpropData(_)
            | Op::MaxPool(_)
            | Op::AvgPool { .. } => wants[data.node.index()] |= image(data),
            Op::Reduce { .. } => wants[data.node.index()] |= graph.info(data).shape.len() == 4,
            Op::Unary(_)
            | Op::Clamp { .. }
            | Op::Binary(_)
            | Op::FakeQuantize { .. }
            | Op::Quantize(_)
            | Op::Dequantize(_)
            | Op::Lookup(_)
            | Op::Interpolate(_)
            | Op::Concat { .. }
                if wants[i] =>
            {
                for &input in &node.inputs {
                    wants[input.node.index()] |= image(input);
                }
            }
            _ => {}
        }
    }
    wants
}
