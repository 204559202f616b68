//! The lowered network: steps over tensors whose places in memory are still open.

use std::sync::Arc;

use flow_model::{ElementType, Graph, NodeId};

use super::chain;
use super::{IndexMap, Phase};
use crate::dense::Dense;
use crate::kernels::functions::{Binary, Unary};
use crate::kernels::literal::{Level, Literal};
use crate::kernels::{AverageOver, ConvF32, ConvU8, DepthwiseF32, DepthwiseU8, Epilogue, Window};
use crate::literal::Meaning;
use crate::placement::Placement;
use crate::recall::Recall;

/// Index of a tensor of a [`Draft`].
pub(crate) type TensorId = usize;

/// Where a tensor's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// In the arena of a request.
    Arena,
    /// Given by the caller: input of that index.
    Input(usize),
    /// A constant of the program.
    Constant(Arc<crate::kernels::AlignedVec<u8>>),
    /// The bytes of another tensor, seen with another shape.
    Alias(TensorId),
}

/// A tensor in memory. `I8` codes are stored as u8 = code + 128 wherever the home is the arena.
#[derive(Debug, Clone)]
pub(crate) struct TensorDraft {
    pub element_type: ElementType,
    pub placement: Placement,
    /// What the halo holds: a stored code, or all-zero bytes for other types.
    pub fill: u8,
    pub home: Home,
}

impl TensorDraft {
    /// Bytes of one element.
    pub fn element_bytes(&self) -> usize {
        element_bytes(self.element_type)
    }
}

/// What is added to codes of that type where they are stored.
pub(crate) fn stored_bias(element_type: ElementType) -> f32 {
    chain::bias_of(element_type) as f32
}

/// Bytes of one element of a type that is not packed below a byte.
pub(crate) fn element_bytes(element_type: ElementType) -> usize {
    (element_type.bits() / 8).max(1)
}

/// Which part of a Copy's output one input fills.
#[derive(Debug, Clone)]
pub(crate) struct CopyPart {
    /// Shape of the part.
    pub shape: Vec<usize>,
    /// Where its elements come from, counted in logical order; `None`: in order.
    pub map: Option<IndexMap>,
    /// Axis along which it begins at `start`.
    pub axis: usize,
    pub start: usize,
}

/// What a step does with its inputs.
#[derive(Debug)]
pub(crate) enum Action {
    ConvU8(Box<ConvU8>),
    DepthwiseU8(Box<DepthwiseU8>),
    /// Codes, and perhaps a second input, through an epilogue.
    AffineU8(Box<Epilogue>),
    AvgPoolU8 {
        window: Window,
        over: AverageOver,
        epilogue: Box<Epilogue>,
    },
    MaxPool(Window),
    /// A transposed convolution, phase by phase.
    Phases(Vec<Phase>),
    ConvF32(Box<ConvF32>),
    DepthwiseF32(Box<DepthwiseF32>),
    /// f32 to stored codes; with the model's own levels where they are known.
    Quantize(flow_model::op::Quantize, Option<Vec<Level>>),
    /// Stored codes to f32; the first field is the input's type, the last what codes mean in the model.
    Dequantize(ElementType, flow_model::op::Dequantize, Option<Meaning>),
    /// Stored codes through a table.
    Table(Box<[u8; 256]>),
    /// f32 to f32, with the parameter of the function.
    Apply(Unary, f64),
    Clamp(f32, f32),
    Combine(Binary),
    Dense(Box<dyn Dense>),
    Copy(Vec<CopyPart>),
    /// The reference evaluator on a graph of one operation.
    Evaluate(Box<Graph>),
}

/// A step in the making.
#[derive(Debug)]
pub(crate) struct StepDraft {
    pub action: Action,
    pub inputs: Vec<TensorId>,
    pub outputs: Vec<TensorId>,
    /// Operation whose work this is.
    pub node: NodeId,
    /// Further operations it covers.
    pub members: Vec<NodeId>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// How codes that its kernel notes as in doubt are evaluated again.
    pub literal: Option<Box<Literal>>,
    /// For a quantization of real values: how codes next to ties are evaluated again.
    pub recall: Option<Box<Recall>>,
    /// How it rounds.
    pub rounding: Rounding,
}

/// Whether a step that rounds gives the codes of the model's own f32 arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Rounding {
    /// Nothing is rounded, or nobody asked for the model's own arithmetic.
    #[default]
    Nothing,
    /// It is that arithmetic.
    Exact,
    /// Near ties it is evaluated again in that arithmetic.
    Guarded,
    /// Near ties it may give another code, and why.
    Unguarded(String),
}

/// The lowered network.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub tensors: Vec<TensorDraft>,
    pub steps: Vec<StepDraft>,
    /// Tensor of each network input as the caller gives it, in parameter order.
    pub inputs: Vec<TensorId>,
    /// Tensor of each network output, plain and with true codes, in result order.
    pub outputs: Vec<TensorId>,
    /// For inputs that are quantized first: the step that does it, and the quantization.
    pub input_quantize: Vec<Option<usize>>,
}
