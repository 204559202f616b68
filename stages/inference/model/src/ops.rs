//! What operations mean: attributes, shape inference and evaluation, one module per family.
//!
//! Evaluation is plain. Sums of products, averages, FakeQuantize and `linear_onnx` interpolation of floats
//! round in f32 in the order that `docs/numerics.md` states; other operations on floats are computed in f64
//! and rounded once to the element type. Sums of products of integers are exact.

mod activation;
mod adaptive_pool;
mod attention;
pub mod attributes;
mod binary;
mod bitwise;
mod chain;
mod classify;
mod col2im;
mod concat;
pub mod control;
mod convert;
mod convert_like;
mod convolution;
mod ctc;
mod deconvolution;
mod deformable;
mod depth_to_space;
mod detection;
mod einsum;
mod explicit_broadcast;
pub mod exponential;
pub mod fake_quantize;
mod fourier;
mod gather;
mod grid_sample;
mod identity;
mod index;
mod interpolate;
mod interpolate_1;
mod lanes;
mod log_softmax;
mod matmul;
mod normalize;
mod pad;
mod pool;
mod pool_variants;
mod quantized;
mod rearrange;
mod recurrent;
mod reduce;
mod reshape;
mod slice;
mod softmax;
mod strided_slice;
pub(crate) mod support;
mod topk;
mod transpose;
mod unary;

use std::ops::RangeInclusive;

use attributes::Attributes;
pub(crate) use binary::NAMES as BINARY_NAMES;
pub(crate) use convolution::AUTO_PAD;
pub use depth_to_space::{DepthToSpace, DepthToSpaceMode};
pub use interpolate::{AxisTaps, axis_taps};
pub(crate) use interpolate::{COORDINATES, MODES as INTERPOLATE_MODES, NEAREST};
pub(crate) use normalize::l2::EPS_MODES as L2_EPS_MODES;
pub(crate) use normalize::mvn::EPS_MODES as MVN_EPS_MODES;
pub(crate) use pad::MODES as PAD_MODES;
pub(crate) use reduce::NAMES as REDUCE_NAMES;
pub(crate) use support::axis;
pub use support::{Input, broadcast_offsets};
pub(crate) use topk::SORTS;
pub(crate) use unary::ROUND_MODES;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{MvnAxes, Op};
use crate::tensor::{Tensor, element_count};

/// Largest tensor that evaluation makes, in elements; [`limits::memory`](crate::limits::memory) may lower it.
pub const MAX_ELEMENTS: usize = 1 << 30;

/// Reads an operation of one family from its attributes; `None` if it is of another.
type Family = fn(&Attributes) -> Result<Option<Op>, OpError>;

/// How every operation is read.
const FAMILIES: &[Family] = &[
    activation::parse,
    adaptive_pool::parse,
    attention::parse,
    col2im::parse,
    deformable::parse,
    einsum::parse,
    fourier::parse,
    grid_sample::parse,
    identity::parse,
    log_softmax::parse,
    recurrent::parse,
    explicit_broadcast::parse,
    convert::parse,
    binary::parse,
    unary::parse,
    fake_quantize::parse,
    convolution::parse,
    deconvolution::parse,
    matmul::parse,
    pool_variants::parse,
    pool::parse,
    reduce::parse,
    reshape::parse,
    transpose::parse,
    concat::parse,
    slice::parse,
    strided_slice::parse,
    gather::parse,
    interpolate::parse,
    interpolate_1::parse,
    depth_to_space::parse,
    softmax::parse,
    topk::parse,
    pad::parse,
    bitwise::parse,
    classify::parse,
    convert_like::parse,
    ctc::parse,
];

/// Reads an operation from its attributes; `None` if it is not known in that operation set.
///
/// # Errors
/// If an attribute is missing or wrong, or the number of inputs is.
pub fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let folders = [
        index::FAMILIES,
        detection::FAMILIES,
        normalize::FAMILIES,
        rearrange::FAMILIES,
    ];
    for family in folders.into_iter().chain([FAMILIES]).flatten() {
        if let Some(op) = family(a)? {
            check_inputs(&op, a.inputs)?;
            return Ok(Some(op));
        }
    }
    Ok(None)
}

/// Numbers of inputs an operation may have.
pub fn input_count(op: &Op) -> RangeInclusive<usize> {
    match op {
        Op::Parameter | Op::Constant(_) => 0..=0,
        Op::Binary(_)
        | Op::PRelu
        | Op::Convolution(_)
        | Op::GroupConvolution(_)
        | Op::MatMul { .. }
        | Op::Reduce { .. }
        | Op::Reshape { .. }
        | Op::Transpose
        | Op::Unsqueeze
        | Op::Split { .. }
        | Op::GatherNd { .. }
        | Op::TopK(_)
        | Op::NormalizeL2 { .. }
        | Op::Broadcast
        | Op::BroadcastBidirectional
        | Op::QuantizedConvolution(_)
        | Op::QuantizedDeconvolution(_)
        | Op::QuantizedMatMul(_)
        | Op::QuantizedBatchMatMul(_) => 2..=2,
        Op::Squeeze => 1..=2,
        Op::ConvolutionBackpropData(_) | Op::GroupConvolutionBackpropData(_) => 2..=3,
        Op::Select | Op::VariadicSplit | Op::Gather { .. } => 3..=3,
        Op::Pad(_) | Op::StridedSlice(_) => 3..=4,
        Op::Slice => 4..=5,
        Op::Mvn(a) if a.axes == MvnAxes::Input => 2..=2,
        Op::Interpolate(a) if a.version >= 11 => 2..=3,
        Op::Interpolate(_) => 3..=4,
        Op::FakeQuantize { .. } => 5..=5,
        Op::Concat { .. } => 1..=usize::MAX,
        Op::Result
        | Op::Convert(_)
        | Op::Unary(_)
        | Op::Clamp { .. }
        | Op::MaxPool(_)
        | Op::AvgPool { .. }
        | Op::Softmax { .. }
        | Op::Mvn(_)
        | Op::ShapeOf(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::Lookup(_) => 1..=1,
        Op::If(_) => 1..=usize::MAX,
        Op::Iteration(iteration) => match iteration.kind {
            crate::body::IterationKind::Loop => 2..=usize::MAX,
            crate::body::IterationKind::TensorIterator => 1..=usize::MAX,
        },
        Op::Standard(operation) => operation.input_count(),
    }
}

fn check_inputs(op: &Op, found: usize) -> Result<(), OpError> {
    let range = input_count(op);
    if range.contains(&found) {
        return Ok(());
    }
    let expected = match (*range.start(), *range.end()) {
        (low, high) if low == high => low.to_string(),
        (low, usize::MAX) => format!("at least {low}"),
        (low, high) => format!("{low} to {high}"),
    };
    bail!("expected {expected} inputs, found {found}")
}

/// Types and shapes of the outputs of an operation, without names. A Parameter has none of its own: the
/// caller knows them.
///
/// # Errors
/// If number, types, shapes or values of the inputs do not fit.
pub fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    check_inputs(op, inputs.len())?;
    match op {
        Op::Parameter => bail!("the type and shape of a Parameter come from outside"),
        Op::Constant(t) => Ok(vec![OutputInfo::fixed(t.element_type(), t.shape())]),
        Op::Result | Op::Convert(_) | Op::ShapeOf(_) => convert::infer(op, inputs),
        Op::Binary(_) | Op::Select => binary::infer(op, inputs),
        Op::Unary(_) | Op::Clamp { .. } | Op::PRelu => unary::infer(op, inputs),
        Op::Convolution(_) | Op::GroupConvolution(_) => convolution::infer(op, inputs),
        Op::ConvolutionBackpropData(_) | Op::GroupConvolutionBackpropData(_) => {
            deconvolution::infer(op, inputs)
        }
        Op::MatMul { .. } => matmul::infer(op, inputs),
        Op::MaxPool(_) | Op::AvgPool { .. } => pool::infer(op, inputs),
        Op::Reduce { .. } => reduce::infer(op, inputs),
        Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => reshape::infer(op, inputs),
        Op::Transpose | Op::Broadcast | Op::BroadcastBidirectional => transpose::infer(op, inputs),
        Op::Concat { .. } | Op::Split { .. } | Op::VariadicSplit => concat::infer(op, inputs),
        Op::Slice => slice::infer(inputs),
        Op::StridedSlice(attrs) => strided_slice::infer(attrs, inputs),
        Op::Gather { .. } | Op::GatherNd { .. } => gather::infer(op, inputs),
        Op::Interpolate(attrs) => interpolate::infer(attrs, inputs),
        Op::Mvn(attrs) => normalize::mvn::infer(attrs, inputs),
        Op::NormalizeL2 { .. } => normalize::l2::infer(inputs),
        Op::Softmax { axis } => softmax::infer(*axis, inputs),
        Op::TopK(attrs) => topk::infer(attrs, inputs),
        Op::Pad(_) => pad::infer(inputs),
        Op::FakeQuantize { .. } => fake_quantize::infer(inputs),
        Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::QuantizedConvolution(_)
        | Op::QuantizedDeconvolution(_)
        | Op::QuantizedMatMul(_)
        | Op::QuantizedBatchMatMul(_)
        | Op::Lookup(_) => quantized::infer(op, inputs),
        Op::If(_) | Op::Iteration(_) => control::infer(op, inputs),
        Op::Standard(operation) => operation.infer(inputs),
    }
}

/// What [`infer`] says for the given values, none of it larger than [`MAX_ELEMENTS`].
///
/// An axis of no length makes a tensor empty, not the others short: loops over those are bounded as well.
fn inferred(op: &Op, tensors: &[Tensor]) -> Result<Vec<OutputInfo>, OpError> {
    let most = crate::limits::max_elements();
    let bounded = |shape: &[usize], what: &str| {
        let lengths: Vec<usize> = shape.iter().copied().filter(|&length| length > 0).collect();
        match element_count(&lengths) {
            Some(count) if count <= most => Ok(()),
            _ => bail!(
                "the {what} {shape:?} has axes of more than {most} elements, which is the limit (see FLOW_MEMORY_LIMIT)"
            ),
        }
    };
    for tensor in tensors {
        bounded(tensor.shape(), "input")?;
    }
    let shapes = support::shapes(tensors);
    let outputs = infer(op, &support::known(tensors, &shapes))?;
    for output in &outputs {
        // How many elements an open axis has only the operation itself finds out.
        let shape = match (op, output.static_shape()) {
            (Op::Standard(_), None) => output.shape.iter().flatten().copied().collect(),
            _ => support::fixed(output)?,
        };
        bounded(&shape, "output")?;
    }
    Ok(outputs)
}

/// Evaluates an operation on tensors.
///
/// # Errors
/// As [`infer`]; if an output would have more than [`MAX_ELEMENTS`] elements; or if a value makes no sense,
/// such as an index outside its axis.
pub fn evaluate(op: &Op, tensors: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    if control::has_bodies(op) {
        check_inputs(op, tensors.len())?;
        // Each operation of a body is checked when it runs.
        return control::evaluate(op, tensors);
    }
    let outputs = inferred(op, tensors)?;
    match op {
        Op::Parameter => bail!("a Parameter has no value of its own"),
        Op::Constant(tensor) => Ok(vec![tensor.clone()]),
        Op::Result => Ok(tensors.to_vec()),
        Op::Convert(to) => Ok(vec![convert::convert(*to, &tensors[0])?]),
        Op::ShapeOf(to) => Ok(vec![convert::shape_of(*to, tensors[0].shape())?]),
        Op::Binary(_) | Op::Select => binary::evaluate(op, tensors, &outputs),
        Op::Unary(_) | Op::Clamp { .. } | Op::PRelu => unary::evaluate(op, tensors),
        Op::Convolution(_) | Op::GroupConvolution(_) => convolution::evaluate(op, tensors, &outputs),
        Op::ConvolutionBackpropData(_) | Op::GroupConvolutionBackpropData(_) => {
            deconvolution::evaluate(op, tensors, &outputs)
        }
        Op::MatMul { .. } => matmul::evaluate(op, tensors),
        Op::MaxPool(_) | Op::AvgPool { .. } => pool::evaluate(op, tensors, &outputs),
        Op::Reduce { .. } => reduce::evaluate(op, tensors, &outputs),
        Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => reshape::evaluate(tensors, &outputs),
        Op::Transpose | Op::Broadcast | Op::BroadcastBidirectional => {
            transpose::evaluate(op, tensors, &outputs)
        }
        Op::Concat { .. } | Op::Split { .. } | Op::VariadicSplit => concat::evaluate(op, tensors, &outputs),
        Op::Slice => slice::evaluate(tensors),
        Op::StridedSlice(attrs) => strided_slice::evaluate(attrs, tensors, &outputs),
        Op::Gather { .. } | Op::GatherNd { .. } => gather::evaluate(op, tensors, &outputs),
        Op::Interpolate(attrs) => interpolate::evaluate(attrs, tensors, &outputs),
        Op::Mvn(attrs) => normalize::mvn::evaluate(attrs, tensors),
        Op::NormalizeL2 { eps, eps_mode } => normalize::l2::evaluate(*eps, *eps_mode, tensors),
        Op::Softmax { axis } => softmax::evaluate(*axis, tensors),
        Op::TopK(attrs) => topk::evaluate(attrs, tensors, &outputs),
        Op::Pad(mode) => pad::evaluate(*mode, tensors, &outputs),
        Op::FakeQuantize { .. } => fake_quantize::evaluate(op, tensors),
        Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::QuantizedConvolution(_)
        | Op::QuantizedDeconvolution(_)
        | Op::QuantizedMatMul(_)
        | Op::QuantizedBatchMatMul(_)
        | Op::Lookup(_) => quantized::evaluate(op, tensors, &outputs),
        Op::If(_) | Op::Iteration(_) => control::evaluate(op, tensors),
        Op::Standard(operation) => operation.evaluate(tensors, &outputs),
    }
}

/// Evaluates an operation whose inputs are computed from the network's inputs or not, as `computed` says: sums of
/// products are rounded in another order where both factors are computed (`docs/numerics.md`).
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn evaluate_among(op: &Op, tensors: &[Tensor], computed: &[bool]) -> Result<Vec<Tensor>, OpError> {
    match op {
        Op::MatMul { .. } if computed == [true, true] => {
            // Checks the inputs and the size of the output.
            inferred(op, tensors)?;
            matmul::evaluate_computed(op, tensors)
        }
        _ => evaluate(op, tensors),
    }
}

/// The outputs of an operation whose inputs are constants, where they may be computed before the network runs:
/// they are not much larger than the inputs and take little work. What does not evaluate is `None` here, and
/// reported when the network runs.
pub fn fold(op: &Op, tensors: &[Tensor]) -> Option<Vec<Tensor>> {
    if control::has_bodies(op) {
        return None;
    }
    let shapes = support::shapes(tensors);
    let inputs = support::known(tensors, &shapes);
    let outputs = infer(op, &inputs).ok()?;
    if !crate::limits::may_fold(op, &inputs, &outputs) {
        return None;
    }
    evaluate(op, tensors).ok()
}

/// Writes what follows from the inputs into an operation: the padding that `auto_pad` chooses, and the shapes in
/// its bodies.
pub(crate) fn settle(op: &mut Op, inputs: &[Input]) {
    let Some(data) = inputs.first().map(|i| i.shape) else {
        return;
    };
    let kernel = |skip: usize| {
        inputs
            .get(1)
            .and_then(|w| w.shape.get(skip..))
            .unwrap_or_default()
    };
    match op {
        Op::Convolution(attrs) => convolution::resolve(attrs, data, kernel(2)),
        Op::QuantizedConvolution(c) => convolution::resolve(&mut c.conv, data, kernel(2)),
        Op::GroupConvolution(attrs) => convolution::resolve(attrs, data, kernel(3)),
        Op::ConvolutionBackpropData(attrs) => {
            let wanted = inputs.get(2).and_then(Input::integers);
            deconvolution::resolve(attrs, data, kernel(2), wanted.as_deref());
        }
        Op::GroupConvolutionBackpropData(attrs) => {
            let wanted = inputs.get(2).and_then(Input::integers);
            deconvolution::resolve(attrs, data, kernel(3), wanted.as_deref());
        }
        Op::MaxPool(pool) | Op::AvgPool { pool, .. } => pool::resolve(pool, data),
        Op::If(_) | Op::Iteration(_) => control::settle(op, inputs),
        _ => {}
    }
}
