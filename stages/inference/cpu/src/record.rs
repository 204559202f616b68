//! What steps tell about themselves.

use std::sync::Arc;

use flow_model::{ElementType, Graph};

use crate::bind::{Bound, Step};
use crate::kernels::{KernelTable, Window};
use crate::lower::{Action, PhaseKernel, Rounding, element_bytes};

/// What a step is: for inspection and performance counters.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// Name of the operation whose work it is.
    pub name: Arc<str>,
    /// Further operations it covers, by name, in order.
    pub fused: Vec<Arc<str>>,
    /// Kernel, such as `conv_u8s8_3x3_avx512vnni` or `conv_u8s8_1x1_avx2_maddubs_split7`: `docs/kernels.md`.
    pub kernel: String,
    /// Element type it reads.
    pub precision: ElementType,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Bytes of its inputs, weights and outputs.
    pub bytes: u64,
    /// Shape of its first output.
    pub shape: Vec<usize>,
    /// Whether the reference evaluator does it.
    pub reference: bool,
    /// Why codes next to a rounding tie may be others than those of the model's own f32 arithmetic, where that
    /// arithmetic was asked for.
    pub unguarded: Option<String>,
}

pub(crate) fn record(graph: &Graph, bound: &Bound, step: &Step, table: &KernelTable) -> StepRecord {
    let draft = &step.draft;
    let node = graph.node(draft.node);
    let isa = table.isa().name();
    let kernel = match &draft.action {
        Action::ConvU8(conv) => {
            let path = path(table, conv.split_percent());
            format!("conv_u8s8_{}_{isa}{path}", size(&conv.window))
        }
        Action::DepthwiseU8(conv) => {
            let path = path(table, conv.split_percent());
            format!("depthwise_u8s8_{}_{isa}{path}", size(&conv.window))
        }
        Action::Phases(phases) => {
            let real = matches!(
                phases.first().map(|p| &p.kernel),
                Some(PhaseKernel::DenseF32(_) | PhaseKernel::DepthwiseF32(_))
            );
            let types = if real { "f32" } else { "u8s8" };
            format!("deconv_{types}_{}_phases_{isa}", phases.len())
        }
        Action::AffineU8(_) if draft.inputs.len() > 1 => format!("add_u8_{isa}"),
        Action::AffineU8(_) => format!("requantize_u8_{isa}"),
        Action::AvgPoolU8 { .. } => format!("avg_pool_u8_{isa}"),
        Action::MaxPool(_) => format!("max_pool_{isa}"),
        Action::ConvF32(conv) => format!("conv_f32_{}", size(&conv.window)),
        Action::DepthwiseF32(conv) => format!("depthwise_f32_{}", size(&conv.window)),
        Action::Quantize(..) => "quantize".into(),
        Action::Dequantize(..) => "dequantize".into(),
        Action::Table(_) => "lookup".into(),
        Action::Apply(..) | Action::Clamp(..) => "unary_f32".into(),
        Action::Combine(_) => "binary_f32".into(),
        Action::Dense(dense) => dense.kernel(),
        Action::Copy(_) => "copy".into(),
        Action::Evaluate(_) => "reference".into(),
    };
    let first = draft.inputs.first().or(draft.outputs.first());
    StepRecord {
        name: node.name.clone(),
        fused: draft
            .members
            .iter()
            .map(|&m| graph.node(m).name.clone())
            .collect(),
        kernel,
        precision: first.map_or(ElementType::F32, |&t| bound.tensors[t].element_type),
        macs: match &draft.action {
            Action::Dense(dense) => dense.macs(),
            _ => draft.macs,
        },
        bytes: bytes(bound, step),
        shape: draft
            .outputs
            .first()
            .map(|&t| bound.tensors[t].placement.shape())
            .unwrap_or_default(),
        reference: matches!(draft.action, Action::Evaluate(_)),
        unguarded: match &draft.rounding {
            Rounding::Unguarded(why) => Some(why.clone()),
            _ => None,
        },
    }
}

/// Bytes that a step reads and writes, each once.
fn bytes(bound: &Bound, step: &Step) -> u64 {
    let weights = match &step.draft.action {
        Action::ConvU8(conv) => conv.weight_bytes(),
        Action::DepthwiseU8(conv) => conv.weight_bytes(),
        Action::ConvF32(conv) => conv.weight_bytes(),
        Action::DepthwiseF32(conv) => conv.weight_bytes(),
        _ => 0,
    };
    let tensors = step.draft.inputs.iter().chain(&step.draft.outputs);
    let values = tensors.map(|&t| {
        let tensor = &bound.tensors[t];
        tensor.placement.shape().iter().product::<usize>() * element_bytes(tensor.element_type)
    });
    (values.sum::<usize>() + weights) as u64
}

/// How products are summed: `_maddubs` where they are added in pairs of 16 bits, and how many percent of
/// multiplications were added because weights had to be split.
fn path(table: &KernelTable, split_percent: usize) -> String {
    let pairs = if table.adds_pairs() { "_maddubs" } else { "" };
    match split_percent {
        0 => pairs.into(),
        n => format!("{pairs}_split{n}"),
    }
}

fn size(window: &Window) -> String {
    format!("{}x{}", window.kernel[0], window.kernel[1])
}
