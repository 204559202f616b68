//! Kernels on images: one call per picture, shared by the members of a team.

use std::sync::{Mutex, PoisonError};

use flow_model::ElementType;

use super::share::{Division, Part};
use super::{Fault, Machine, cast, cast_mut, locked};
use crate::bind::{Call, Step};
use crate::kernels::literal::{Data, Doubts, LANES, Literal, LiteralArgs, RestsArgs, Root, Scratch};
use crate::kernels::{
    AffineU8Args, AvgPoolArgs, Band, ConvF32Args, ConvU8Args, DepthwiseF32Args, DepthwiseU8Args, KernelTable,
    Layout, MaxPoolArgs, Output, View, ViewMut,
};
use crate::lower::{Action, PhaseKernel};

/// The bytes of a tensor that members of a team write to, each its own part.
#[derive(Clone, Copy)]
struct Bytes {
    data: *mut u8,
    len: usize,
}

// SAFETY: a pointer is a number; what it points to is written through views whose makers keep parts apart.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// A view of all of them.
    ///
    /// # Safety
    /// As [`ViewMut::from_raw`].
    unsafe fn view<'a, T: bytemuck::Pod>(self, layout: Layout) -> Result<ViewMut<'a, T>, Fault> {
        if !(self.data.cast::<T>()).is_aligned() {
            return Err(Fault::new("a tensor is not aligned"));
        }
        // SAFETY: the caller's contract; any bytes are values of `T`.
        Ok(unsafe { ViewMut::from_raw(self.data.cast(), self.len / size_of::<T>(), layout) }?)
    }
}

/// One call of a kernel.
struct Job<'a> {
    table: &'static KernelTable,
    action: &'a Action,
    literal: Option<&'a Literal>,
    call: &'a Call,
    first: &'a [u8],
    second: Option<&'a [u8]>,
    to: Bytes,
    /// Of the output.
    element_type: ElementType,
}

impl Machine<'_> {
    pub(super) fn kernel(&mut self, step: &Step, calls: &[Call]) -> Result<(), Fault> {
        let table = self.table;
        let element_type = self.bound.tensors[step.draft.outputs[0]].element_type;
        let has_second = step.draft.inputs.len() > 1;
        let scratch = self.scratch;
        let mut team = self.team.take();
        let ([first, second], to) = self.operands(step)?;
        let to = Bytes {
            data: to.as_mut_ptr(),
            len: to.len(),
        };
        let mut done = Ok(());
        for call in calls {
            let job = Job {
                table,
                action: &step.draft.action,
                literal: step.draft.literal.as_deref(),
                call,
                first,
                second: has_second.then_some(second),
                to,
                element_type,
            };
            let members = team.as_ref().map_or(1, |team| team.members());
            let division = Division::of(&step.draft, calls.len(), call, members);
            done = match &mut team {
                Some(team) if division.parts() > 1 => {
                    let fault = Mutex::new(None);
                    let whole = team.run(division.parts(), &|part, member| {
                        if let Err(e) = job.run(&division.part(part), &scratch[member]) {
                            *locked(&fault) = Some(e);
                        }
                    });
                    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
                        Some(e) => Err(e),
                        None if whole => Ok(()),
                        None => Err(Fault::new("a thread panicked")),
                    }
                }
                _ => job.run(&division.part(0), &scratch[0]),
            };
            if done.is_err() {
                break;
            }
        }
        self.team = team;
        done
    }
}

impl Job<'_> {
    /// Computes a part of the output.
    fn run(&self, part: &Part, scratch: &Mutex<Scratch>) -> Result<(), Fault> {
        if part.rows.is_empty() || part.panels.is_empty() {
            return Ok(());
        }
        let Some(literal) = self.literal else {
            return self.compute(part, None);
        };
        let scratch = &mut *locked(scratch);
        scratch.doubts.clear();
        scratch.rests.clear();
        if let (Some(size), Root::Products(products), Action::ConvU8(_)) =
            (&literal.size, &literal.root, self.action)
        {
            (self.table.rests)(&mut RestsArgs {
                size,
                products,
                input: &self.input()?,
                rows: part.rows.clone(),
                width: self.call.output.width,
                rests: &mut scratch.rests,
                squares: &mut scratch.squares,
            });
        }
        self.compute(part, Some((&mut scratch.doubts, &scratch.rests)))?;
        let output = &self.call.output;
        if part.panels.start == 0 {
            let vectors = part.rows.len() * output.width * output.channels.div_ceil(LANES);
            scratch.counts[0] += vectors as u64;
        }
        if scratch.doubts.is_empty() {
            return Ok(());
        }
        self.table.literal(&mut LiteralArgs {
            literal,
            input: Data::Image(&self.input()?),
            operand: self.residual()?.as_ref(),
            // SAFETY: only vectors noted in this part are written, and no other part has their channels and rows.
            output: &mut unsafe { self.to.view(*output) }?,
            scratch,
        });
        Ok(())
    }

    fn input<T: bytemuck::Pod>(&self) -> Result<View<'_, T>, Fault> {
        Ok(View::new(cast(self.first)?, self.call.inputs[0])?)
    }

    fn residual(&self) -> Result<Option<View<'_, u8>>, Fault> {
        let view = self.second.map(|second| View::new(second, self.call.inputs[1]));
        Ok(view.transpose()?)
    }

    /// Runs the kernel.
    fn compute(
        &self,
        Part { rows, panels }: &Part,
        notes: Option<(&mut Doubts, &[f32])>,
    ) -> Result<(), Fault> {
        let (mut doubts, rests) = match notes {
            Some((doubts, rests)) => (Some(doubts), rests),
            None => (None, &[][..]),
        };
        let (table, layout, rows) = (self.table, self.call.output, rows.clone());
        let band = || Band {
            rows: rows.clone(),
            panels: panels.clone(),
        };
        // SAFETY: parts have no row and channel in common, and kernels write to those of their part alone.
        let output = |doubts| unsafe {
            Ok::<_, Fault>(match (self.element_type, doubts) {
                (ElementType::F32, _) => Output::F32(self.to.view(layout)?),
                (_, Some(doubts)) => Output::Noted(self.to.view(layout)?, doubts),
                _ => Output::U8(self.to.view(layout)?),
            })
        };
        match self.action {
            Action::ConvU8(conv) => {
                let args = ConvU8Args::new(conv, self.input()?, self.residual()?, output(doubts)?)?;
                table.conv_u8(&mut args.with_rests(rests), &band());
            }
            Action::DepthwiseU8(conv) => {
                let mut args = DepthwiseU8Args::new(conv, self.input()?, self.residual()?, output(doubts)?)?;
                table.depthwise_u8(&mut args, rows);
            }
            Action::Phases(phases) => {
                for part in phases {
                    let layouts = [part.input(&self.call.inputs[0]), part.output(&layout)];
                    let residual = match self.second {
                        Some(second) => Some(View::new(second, part.output(&self.call.inputs[1]))?),
                        None => None,
                    };
                    // SAFETY: phases are not divided: nobody else writes to the output.
                    let to = unsafe { std::slice::from_raw_parts_mut(self.to.data, self.to.len) };
                    let before = doubts.as_ref().map_or(0, |doubts| doubts.len());
                    phase(
                        table,
                        &part.kernel,
                        (self.first, residual, to),
                        layouts,
                        (self.element_type, doubts.as_deref_mut()),
                    )?;
                    for doubt in doubts.iter_mut().flat_map(|doubts| &mut doubts[before..]) {
                        let [y, x] = part.pixel([doubt.row as usize, doubt.column as usize]);
                        (doubt.row, doubt.column) = (y as u32, x as u32);
                    }
                }
            }
            Action::AffineU8(epilogue) => {
                let mut args = AffineU8Args::new(epilogue, self.input()?, self.residual()?, output(doubts)?)?;
                table.affine_u8(&mut args, rows);
            }
            Action::AvgPoolU8 {
                window,
                over,
                epilogue,
            } => {
                let mut args = AvgPoolArgs::new(*window, *over, epilogue, self.input()?, output(doubts)?)?;
                table.avg_pool_u8(&mut args, rows);
            }
            Action::MaxPool(window) if self.element_type == ElementType::F32 => {
                // SAFETY: as for the outputs above.
                let mut args = MaxPoolArgs::new(*window, self.input()?, unsafe { self.to.view(layout) }?)?;
                table.max_pool_f32(&mut args, rows);
            }
            Action::MaxPool(window) => {
                // SAFETY: as for the outputs above.
                let mut args = MaxPoolArgs::new(*window, self.input()?, unsafe { self.to.view(layout) }?)?;
                table.max_pool_u8(&mut args, rows);
            }
            Action::ConvF32(conv) => {
                // SAFETY: as for the outputs above.
                let mut args = ConvF32Args::new(conv, self.input()?, None, unsafe { self.to.view(layout) }?)?;
                table.conv_f32(&mut args, &band());
            }
            Action::DepthwiseF32(conv) => {
                // SAFETY: as for the outputs above.
                let output = unsafe { self.to.view(layout) }?;
                let mut args = DepthwiseF32Args::new(conv, self.input()?, None, output)?;
                table.depthwise_f32(&mut args, rows);
            }
            _ => return Err(Fault::new("no such kernel")),
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
    (element_type, doubts): (ElementType, Option<&mut Doubts>),
) -> Result<(), Fault> {
    match kernel {
        PhaseKernel::Dense(conv) => {
            let output = output(to, result, element_type, doubts)?;
            let mut args = ConvU8Args::new(conv, View::new(from, input)?, residual, output)?;
            let all = args.whole();
            table.conv_u8(&mut args, &all);
        }
        PhaseKernel::Depthwise(conv) => {
            let output = output(to, result, element_type, doubts)?;
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

fn output<'a>(
    to: &'a mut [u8],
    layout: Layout,
    element_type: ElementType,
    doubts: Option<&'a mut Doubts>,
) -> Result<Output<'a>, Fault> {
    Ok(match (element_type, doubts) {
        (ElementType::F32, _) => Output::F32(ViewMut::new(cast_mut(to)?, layout)?),
        (_, Some(doubts)) => Output::Noted(ViewMut::new(to, layout)?, doubts),
        _ => Output::U8(ViewMut::new(to, layout)?),
    })
}
