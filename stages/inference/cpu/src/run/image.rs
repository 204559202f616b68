//! Kernels on images: one call per picture.

use flow_model::ElementType;

use super::{Fault, Machine, cast, cast_mut};
use crate::bind::{Call, Step};
use crate::kernels::literal::{LANES, Literal, LiteralArgs, Scratch};
use crate::kernels::{
    AffineU8Args, AvgPoolArgs, ConvF32Args, ConvU8Args, DepthwiseF32Args, DepthwiseU8Args, KernelTable,
    Layout, MaxPoolArgs, Output, View, ViewMut,
};
use crate::lower::{Action, PhaseKernel};

impl Machine<'_> {
    pub(super) fn kernel(&mut self, step: &Step, calls: &[Call]) -> Result<(), Fault> {
        let table = self.table;
        let element_type = self.bound.tensors[step.draft.outputs[0]].element_type;
        let has_second = step.draft.inputs.len() > 1;
        if let Some(literal) = &step.draft.literal {
            let mut scratch = std::mem::take(self.scratch);
            let done = self.literal(step, literal, calls, &mut scratch);
            *self.scratch = scratch;
            return done;
        }
        let ([first, second], to) = self.operands(step)?;
        for call in calls {
            let view = || View::new(first, call.inputs[0]);
            let residual = if has_second {
                Some(View::new(second, call.inputs[1]))
            } else {
                None
            };
            match &step.draft.action {
                Action::ConvU8(conv) => {
                    let output = output(to, call.output, element_type)?;
                    let mut args = ConvU8Args::new(conv, view()?, residual.transpose()?, output)?;
                    let all = args.whole();
                    table.conv_u8(&mut args, &all);
                }
                Action::DepthwiseU8(conv) => {
                    let output = output(to, call.output, element_type)?;
                    let mut args = DepthwiseU8Args::new(conv, view()?, residual.transpose()?, output)?;
                    table.depthwise_u8(&mut args, 0..call.output.height);
                }
                Action::Phases(phases) => {
                    for part in phases {
                        let layouts = [part.input(&call.inputs[0]), part.output(&call.output)];
                        let residual = match has_second {
                            true => Some(View::new(second, part.output(&call.inputs[1]))?),
                            false => None,
                        };
                        phase(
                            table,
                            &part.kernel,
                            (first, residual, &mut *to),
                            layouts,
                            element_type,
                        )?;
                    }
                }
                Action::AffineU8(epilogue) => {
                    let output = output(to, call.output, element_type)?;
                    let mut args = AffineU8Args::new(epilogue, view()?, residual.transpose()?, output)?;
                    table.affine_u8(&mut args, 0..call.output.height);
                }
                Action::AvgPoolU8 {
                    window,
                    over,
                    epilogue,
                } => {
                    let output = output(to, call.output, element_type)?;
                    let mut args = AvgPoolArgs::new(*window, *over, epilogue, view()?, output)?;
                    table.avg_pool_u8(&mut args, 0..call.output.height);
                }
                Action::MaxPool(window) if element_type == ElementType::F32 => {
                    let input = View::new(cast::<f32>(first)?, call.inputs[0])?;
                    let output = ViewMut::new(cast_mut::<f32>(to)?, call.output)?;
                    let mut args = MaxPoolArgs::new(*window, input, output)?;
                    table.max_pool_f32(&mut args, 0..call.output.height);
                }
                Action::MaxPool(window) => {
                    let output = ViewMut::new(to, call.output)?;
                    let mut args = MaxPoolArgs::new(*window, view()?, output)?;
                    table.max_pool_u8(&mut args, 0..call.output.height);
                }
                Action::ConvF32(conv) => {
                    let input = View::new(cast::<f32>(first)?, call.inputs[0])?;
                    let output = ViewMut::new(cast_mut::<f32>(to)?, call.output)?;
                    let mut args = ConvF32Args::new(conv, input, None, output)?;
                    let all = args.whole();
                    table.conv_f32(&mut args, &all);
                }
                Action::DepthwiseF32(conv) => {
                    let input = View::new(cast::<f32>(first)?, call.inputs[0])?;
                    let output = ViewMut::new(cast_mut::<f32>(to)?, call.output)?;
                    let mut args = DepthwiseF32Args::new(conv, input, None, output)?;
                    table.depthwise_f32(&mut args, 0..call.output.height);
                }
                _ => return Err(Fault::new("no such kernel")),
            }
        }
        Ok(())
    }

    /// Runs a kernel, and evaluates again what is in doubt.
    fn literal(
        &mut self,
        step: &Step,
        literal: &Literal,
        calls: &[Call],
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        let table = self.table;
        let has_second = step.draft.inputs.len() > 1;
        let ([first, second], to) = self.operands(step)?;
        for call in calls {
            let input = || View::new(first, call.inputs[0]);
            let residual = || has_second.then(|| View::new(second, call.inputs[1])).transpose();
            let height = call.output.height;
            let vectors = height * call.output.width * call.output.channels.div_ceil(LANES);
            scratch.counts[0] += vectors as u64;
            scratch.doubts.clear();
            let output = Output::Noted(ViewMut::new(&mut *to, call.output)?, &mut scratch.doubts);
            match &step.draft.action {
                Action::ConvU8(conv) => {
                    let mut args = ConvU8Args::new(conv, input()?, residual()?, output)?;
                    let all = args.whole();
                    table.conv_u8(&mut args, &all);
                }
                Action::DepthwiseU8(conv) => {
                    let mut args = DepthwiseU8Args::new(conv, input()?, residual()?, output)?;
                    table.depthwise_u8(&mut args, 0..height);
                }
                Action::AffineU8(epilogue) => {
                    let mut args = AffineU8Args::new(epilogue, input()?, residual()?, output)?;
                    table.affine_u8(&mut args, 0..height);
                }
                Action::AvgPoolU8 {
                    window,
                    over,
                    epilogue,
                } => {
                    let mut args = AvgPoolArgs::new(*window, *over, epilogue, input()?, output)?;
                    table.avg_pool_u8(&mut args, 0..height);
                }
                _ => return Err(Fault::new("no such kernel")),
            }
            if scratch.doubts.is_empty() {
                continue;
            }
            table.literal(&mut LiteralArgs {
                literal,
                input: &input()?,
                operand: residual()?.as_ref(),
                output: &mut ViewMut::new(&mut *to, call.output)?,
                scratch,
            });
        }
        Ok(())
    }
}

/// Runs one phase of a transposed convolution on input, residual and output.
fn phase(
    table: &KernelTable,
    kernel: &PhaseKernel,
    (from, residual, to): (&[u8], Option<View<'_, u8>>, &mut [u8]),
    [input, result]: [Layout; 2],
    element_type: ElementType,
) -> Result<(), Fault> {
    match kernel {
        PhaseKernel::Dense(conv) => {
            let output = output(to, result, element_type)?;
            let mut args = ConvU8Args::new(conv, View::new(from, input)?, residual, output)?;
            let all = args.whole();
            table.conv_u8(&mut args, &all);
        }
        PhaseKernel::Depthwise(conv) => {
            let output = output(to, result, element_type)?;
            let mut args = DepthwiseU8Args::new(conv, View::new(from, input)?, residual, output)?;
            table.depthwise_u8(&mut args, 0..result.height);
        }
        PhaseKernel::DenseF32(conv) => {
            let output = ViewMut::new(cast_mut::<f32>(to)?, result)?;
            let mut args = ConvF32Args::new(conv, View::new(cast(from)?, input)?, None, output)?;
            let all = args.whole();
            table.conv_f32(&mut args, &all);
        }
        PhaseKernel::DepthwiseF32(conv) => {
            let output = ViewMut::new(cast_mut::<f32>(to)?, result)?;
            let mut args = DepthwiseF32Args::new(conv, View::new(cast(from)?, input)?, None, output)?;
            table.depthwise_f32(&mut args, 0..result.height);
        }
    }
    Ok(())
}

fn output<'a>(to: &'a mut [u8], layout: Layout, element_type: ElementType) -> Result<Output<'a>, Fault> {
    Ok(match element_type {
        ElementType::F32 => Output::F32(ViewMut::new(cast_mut(to)?, layout)?),
        _ => Output::U8(ViewMut::new(to, layout)?),
    })
}
