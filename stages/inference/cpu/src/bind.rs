//! Binding: places of all tensors, and for each step what its kernel needs at run time.

use std::ops::Range;
use std::sync::Arc;

use flow_model::{ElementType, Graph};

use crate::copy::CopyPlan;
use crate::error::CompileError;
use crate::kernels::literal::Level;
use crate::kernels::{AlignedVec, Layout, SLACK};
use crate::lower::{Action, Draft, Home, StepDraft, TensorDraft, TensorId};
use crate::nest::Nest;
use crate::placement::{Image, Placement};
use crate::plan::{Lifetime, exclusive, plan};
use crate::recall::Offsets;
use crate::rows::Limits;

/// Where a tensor's bytes are when a request runs.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Arena(Range<usize>),
    Input(usize),
    Constant(Arc<AlignedVec<u8>>),
}

/// A tensor with a place.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub source: Source,
    pub element_type: ElementType,
    pub placement: Placement,
    pub fill: u8,
}

/// Images of one call of a kernel.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub inputs: [Layout; 2],
    pub output: Layout,
}

/// How a step runs.
#[derive(Debug)]
pub(crate) enum Work {
    /// A kernel over images.
    Kernel(Vec<Call>),
    /// Copies, one per input.
    Copy(Vec<CopyPlan>),
    /// An element-wise loop over one operand.
    One(Nest<2>),
    /// An element-wise loop over two operands.
    Two(Nest<3>),
    /// Quantization with its limits.
    Quantize {
        nest: Nest<3>,
        limits: Vec<Limits>,
        steps: f32,
        base: f32,
    },
    /// Quantization to the levels of the model.
    QuantizeLiteral {
        nest: Nest<3>,
        levels: Vec<Level>,
        base: f32,
    },
    /// Dequantization: per-channel (zero point as stored, scale).
    Dequantize {
        nest: Nest<3>,
        channels: Vec<(f32, f32)>,
    },
    /// Dequantization by tables of 256 values: which one holds where, and the tables.
    Values(Nest<3>, Vec<u32>, Vec<f32>),
    /// An operation on whole tensors.
    Dense,
    /// The reference evaluator: how inputs become plain, and outputs are put back.
    Evaluate {
        gather: Vec<CopyPlan>,
        scatter: Vec<CopyPlan>,
    },
}

/// A step that can run.
#[derive(Debug)]
pub(crate) struct Step {
    pub draft: StepDraft,
    pub work: Work,
    /// Tensors whose halo is filled before the step: their place had another owner.
    pub fills: Vec<TensorId>,
    /// Where the elements of inputs and output lie, if the step evaluates values again.
    pub places: Vec<Offsets>,
}

/// All of a program but its records.
#[derive(Debug)]
pub(crate) struct Bound {
    pub tensors: Vec<Tensor>,
    pub steps: Vec<Step>,
    pub arena_bytes: usize,
    /// Tensors whose halo is filled once.
    pub fill_once: Vec<TensorId>,
}

/// Places tensors and binds steps.
pub(crate) fn bind(draft: &mut Draft, graph: &Graph) -> Result<Bound, CompileError> {
    let roots: Vec<TensorId> = (0..draft.tensors.len())
        .map(|t| root(&draft.tensors, t))
        .collect();
    let last_step = draft.steps.len();
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; draft.tensors.len()];
    for (at, step) in draft.steps.iter().enumerate() {
        for &t in step.inputs.iter().chain(&step.outputs) {
            touch(&mut lifetimes, draft, roots[t], at)?;
        }
    }
    for &t in &draft.outputs {
        touch(&mut lifetimes, draft, roots[t], last_step)?;
    }
    let owners: Vec<TensorId> = (0..lifetimes.len()).filter(|&t| lifetimes[t].is_some()).collect();
    let buffers: Vec<Lifetime> = owners.iter().filter_map(|&t| lifetimes[t]).collect();
    let plan = plan(&buffers)
        .filter(|plan| plan.bytes <= flow_model::limits::memory())
        .ok_or(CompileError::TooLarge)?;
    let alone = exclusive(&buffers, &plan);
    let mut place = vec![None; draft.tensors.len()];
    let mut fill_once = Vec::new();
    let mut fill_at: Vec<Vec<TensorId>> = vec![Vec::new(); draft.steps.len()];
    for (i, &t) in owners.iter().enumerate() {
        place[t] = Some(plan.offsets[i]..plan.offsets[i] + buffers[i].bytes);
        let has_halo =
            matches!(&draft.tensors[t].placement, Placement::Image(i) if i.halo != Default::default());
        if has_halo && alone[i] {
            fill_once.push(t);
        } else if has_halo && buffers[i].first < fill_at.len() {
            fill_at[buffers[i].first].push(t);
        }
    }
    let tensors: Vec<Tensor> = draft
        .tensors
        .iter()
        .zip(&roots)
        .map(|(t, &root)| Tensor {
            source: match &draft.tensors[root].home {
                Home::Input(i) => Source::Input(*i),
                Home::Constant(bytes) => Source::Constant(bytes.clone()),
                Home::Arena | Home::Alias(_) => Source::Arena(place[root].clone().unwrap_or(0..0)),
            },
            element_type: t.element_type,
            placement: t.placement.clone(),
            fill: t.fill,
        })
        .collect();
    let mut steps = Vec::with_capacity(draft.steps.len());
    for (mut step, fills) in std::mem::take(&mut draft.steps).into_iter().zip(fill_at) {
        let work = work(&mut step, &tensors, graph)?;
        let seen = step.inputs.iter().chain(&step.outputs);
        let places = match step.recall {
            Some(_) => seen.map(|&t| Offsets::new(&tensors[t].placement)).collect(),
            None => Vec::new(),
        };
        steps.push(Step {
            draft: step,
            work,
            fills,
            places,
        });
    }
    Ok(Bound {
        tensors,
        steps,
        arena_bytes: plan.bytes,
        fill_once,
    })
}

fn root(tensors: &[TensorDraft], mut t: TensorId) -> TensorId {
    while let Home::Alias(of) = tensors[t].home {
        t = of;
    }
    t
}

fn touch(
    lifetimes: &mut [Option<Lifetime>],
    draft: &Draft,
    t: TensorId,
    at: usize,
) -> Result<(), CompileError> {
    let tensor = &draft.tensors[t];
    if !matches!(tensor.home, Home::Arena) {
        return Ok(());
    }
    match &mut lifetimes[t] {
        Some(lifetime) => lifetime.last = at,
        none => {
            let bytes = tensor
                .placement
                .elements()
                .and_then(|n| n.checked_add(SLACK))
                .and_then(|n| n.checked_mul(tensor.element_bytes()))
                .filter(|&n| n <= isize::MAX as usize / 4)
                .ok_or(CompileError::TooLarge)?;
            *none = Some(Lifetime {
                bytes,
                first: at,
                last: at,
            });
        }
    }
    Ok(())
}

fn work(step: &mut StepDraft, tensors: &[Tensor], graph: &Graph) -> Result<Work, CompileError> {
    let node = graph.node(step.node);
    let internal = |message: &str| CompileError::Internal {
        layer: node.name.to_string(),
        message: message.into(),
    };
    let inputs: Vec<&Placement> = step.inputs.iter().map(|&t| &tensors[t].placement).collect();
    let outputs: Vec<&Placement> = step.outputs.iter().map(|&t| &tensors[t].placement).collect();
    let (Some(&output), first) = (outputs.first(), inputs.first().copied()) else {
        return Err(internal("a step has no output"));
    };
    let one = || first.ok_or_else(|| internal("a step lacks an input"));
    match &mut step.action {
        Action::ConvU8(_)
        | Action::DepthwiseU8(_)
        | Action::Phases(_)
        | Action::AffineU8(_)
        | Action::AvgPoolU8 { .. }
        | Action::MaxPool(_)
        | Action::ConvF32(_)
        | Action::DepthwiseF32(_) => calls(one()?, inputs.get(1).copied(), output)
            .map(Work::Kernel)
            .ok_or_else(|| internal("placements of a kernel's operands do not fit")),
        Action::Copy(parts) => {
            let plans = parts.iter().zip(&inputs).map(|(part, from)| match &part.map {
                Some(map) => CopyPlan::gather(from, map, output, &part.shape, part.axis, part.start),
                None if part.shape == output.shape() => CopyPlan::relayout(from, output),
                None => CopyPlan::into_part(from, output, part.axis, part.start),
            });
            Ok(Work::Copy(plans.collect()))
        }
        Action::Table(_) | Action::Apply(..) | Action::Clamp(..) => {
            let from = one()?;
            let nest = Nest::new(
                &output.shape(),
                [output.offset(), from.offset()],
                [&output.strides(), &from.strides()],
            );
            Ok(Work::One(nest))
        }
        Action::Combine(_) => {
            let &[a, b] = inputs.as_slice() else {
                return Err(internal("a step lacks an input"));
            };
            let shape = output.shape();
            let nest = Nest::new(
                &shape,
                [output.offset(), a.offset(), b.offset()],
                [
                    &output.strides(),
                    &broadcast_strides(a, &shape),
                    &broadcast_strides(b, &shape),
                ],
            );
            Ok(Work::Two(nest))
        }
        Action::Quantize(q, levels) => {
            let nest = channel_nest(output, one()?, q.axis, q.input_low.len().max(q.input_high.len()));
            let base = q.low as f32 + crate::lower::stored_bias(q.element_type);
            if let Some(levels) = levels {
                return Ok(Work::QuantizeLiteral {
                    nest,
                    levels: levels.clone(),
                    base,
                });
            }
            let low = q.input_low.iter().cycle();
            let high = q.input_high.iter().cycle();
            let n = q.input_low.len().max(q.input_high.len());
            Ok(Work::Quantize {
                nest,
                limits: low
                    .zip(high)
                    .take(n)
                    .map(|(&low, &high)| Limits { low, high })
                    .collect(),
                steps: q.levels.saturating_sub(1) as f32,
                base,
            })
        }
        Action::Dequantize(codes, d, values) => {
            if let Some(meaning) = values {
                let (tables, axis) = meaning.clone().parts();
                let nest = channel_nest(output, one()?, axis, tables.channels());
                return Ok(Work::Values(
                    nest,
                    (0..tables.channels() as u32).collect(),
                    tables.0,
                ));
            }
            let n = d.scale.len().max(d.zero_point.len());
            let nest = channel_nest(output, one()?, d.axis, n);
            let bias = crate::lower::stored_bias(*codes);
            let zero = d.zero_point.iter().cycle();
            let scale = d.scale.iter().cycle();
            Ok(Work::Dequantize {
                nest,
                channels: zero.zip(scale).take(n).map(|(z, s)| (z + bias, *s)).collect(),
            })
        }
        Action::Dense(dense) => {
            dense.place(&inputs, output);
            Ok(Work::Dense)
        }
        Action::Evaluate(_) => {
            let plain = |p: &Placement| Placement::plain(&p.shape());
            Ok(Work::Evaluate {
                gather: inputs.iter().map(|p| CopyPlan::relayout(p, &plain(p))).collect(),
                scatter: outputs.iter().map(|p| CopyPlan::relayout(&plain(p), p)).collect(),
            })
        }
    }
}

/// A nest over (output, input, channel parameters).
fn channel_nest(output: &Placement, input: &Placement, axis: Option<usize>, n: usize) -> Nest<3> {
    let shape = output.shape();
    let mut along = vec![0; shape.len()];
    if let Some(axis) = axis
        && n > 1
        && axis < along.len()
    {
        along[axis] = 1;
    }
    Nest::new(
        &shape,
        [output.offset(), input.offset(), 0],
        [&output.strides(), &input.strides(), &along],
    )
}

/// Strides of an operand against a broadcast shape: 0 along axes that repeat.
pub(crate) fn broadcast_strides(operand: &Placement, shape: &[usize]) -> Vec<usize> {
    let (own, strides) = (operand.shape(), operand.strides());
    let missing = shape.len() - own.len();
    (0..shape.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(i) if own[i] != 1 => strides[i],
            _ => 0,
        })
        .collect()
}

/// One call per picture; plain operands are rows of pixels.
fn calls(input: &Placement, second: Option<&Placement>, output: &Placement) -> Option<Vec<Call>> {
    let layouts = |p: &Placement, pictures: usize| match p {
        Placement::Plain { shape } if pictures > 1 => {
            // One row of the value per picture.
            let channels: usize = shape.iter().skip(1).product();
            (0..pictures)
                .map(|n| Layout {
                    origin: n * channels,
                    ..Layout::dense(1, 1, channels)
                })
                .collect()
        }
        p => p.layouts(),
    };
    let inputs = input.layouts();
    let outputs = layouts(output, inputs.len());
    let seconds = match second {
        Some(p) => layouts(p, inputs.len()),
        None => inputs.clone(),
    };
    (inputs.len() == outputs.len() && inputs.len() == seconds.len()).then(|| {
        inputs
            .into_iter()
            .zip(seconds)
            .zip(outputs)
            .map(|((a, b), output)| Call {
                inputs: [a, b],
                output,
            })
            .collect()
    })
}

/// Writes `fill` to the halo of every picture.
pub(crate) fn fill_halo(bytes: &mut [u8], image: &Image, element_bytes: usize, fill: u8) {
    let row = image.row_pitch() * element_bytes;
    let pixel = image.pixel_stride * element_bytes;
    let (left, right) = (image.halo.left * pixel, image.halo.right * pixel);
    let picture = image.image_pitch() * element_bytes;
    for picture in bytes.chunks_mut(picture.max(1)).take(image.batch) {
        let first = image.halo.top * row;
        let last = first + image.height * row;
        if picture.len() < last {
            return;
        }
        picture[..first].fill(fill);
        for row in picture[first..last].chunks_mut(row.max(1)) {
            let width = row.len();
            row[..left].fill(fill);
            row[width - right..].fill(fill);
        }
        let end = last + image.halo.bottom * row;
        let end = end.min(picture.len());
        picture[last..end].fill(fill);
    }
}
