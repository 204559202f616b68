//! Operations of a model between codes and a rounding.

use flow_model::Tensor;
use flow_model::op::{EpsMode, InterpolateMode, Op};

use crate::dense;
use crate::kernels::functions;
use crate::kernels::sums::Normalization;
use crate::recall::{Each, Grouped};
use crate::rows::{function, operation};

/// How an element-wise operation is evaluated.
pub(super) fn each(op: &Op) -> Each {
    let found = match op {
        Op::Unary(kind) => function(*kind).map(|(function, parameter)| Each::One(function, parameter)),
        Op::Clamp { min, max } => Some(Each::Clamp(*min, *max)),
        Op::PRelu => Some(Each::Two(functions::leaky)),
        Op::Binary(kind) => operation(*kind).map(Each::Two),
        _ => None,
    };
    found.unwrap_or_else(|| Each::Other(op.clone()))
}

/// The axes, ascending, and the operation of a normalization; `list` is its second input, if it has one.
pub(super) fn normalized(
    op: &Op,
    shape: &[usize],
    list: Option<Option<Tensor>>,
) -> Option<(Vec<usize>, Grouped)> {
    let list = match list {
        Some(list) => Some(list?.to_i64()),
        None => None,
    };
    let rank = shape.len() as i64;
    let axis = |a: i64| {
        usize::try_from(if a < 0 { a + rank } else { a })
            .ok()
            .filter(|&a| a < shape.len())
    };
    let (mut axes, grouped) = match op {
        Op::NormalizeL2 { eps, eps_mode } => {
            let axes = list?.into_iter().map(axis).collect::<Option<Vec<_>>>()?;
            let rule = dense::Rule::Norm(f64::from(*eps), *eps_mode == EpsMode::Add);
            (axes, Grouped::Normalized(rule))
        }
        Op::Mvn(attrs) => {
            let mut axes = attrs.reduced_axes(shape.len(), list.as_deref()).ok()?;
            axes.sort_unstable();
            let how = Normalization::of(attrs, shape, &axes);
            (axes, Grouped::Normalized(dense::Rule::Mvn(how)))
        }
        Op::Softmax { axis: along } => {
            let along = axis(*along)?;
            let in_order = shape[along + 1..].iter().any(|&n| n != 1);
            (vec![along], Grouped::Softmax { in_order })
        }
        _ => return None,
    };
    axes.sort_unstable();
    axes.dedup();
    Some((axes, grouped))
}

/// Whether an operation only moves elements.
pub(super) fn moves(op: &Op) -> bool {
    match op {
        Op::Transpose
        | Op::Split { .. }
        | Op::VariadicSplit
        | Op::Slice
        | Op::StridedSlice(_)
        | Op::Gather { .. }
        | Op::GatherNd { .. }
        | Op::Broadcast => true,
        Op::Interpolate(attrs) => {
            let pads = attrs.pads_begin.iter().chain(&attrs.pads_end);
            attrs.mode == InterpolateMode::Nearest && pads.into_iter().all(|&p| p == 0)
        }
        Op::Standard(operation) => operation.moves_values(),
        _ => false,
    }
}
