//! Running one step.

mod image;
mod share;

use std::sync::{Mutex, MutexGuard, PoisonError};

use flow_model::{ElementType, Graph};

use crate::bind::{Bound, Source, Step, Tensor, Work, fill_halo};
use crate::dense::{DenseCall, Guard, Workspace};
use crate::error::RunError;
use crate::kernels::literal::{LANES, Scratch};
use crate::kernels::versions::Simd;
use crate::kernels::{AlignedVec, ArgError, KernelTable};
use crate::lower::{Action, MAX_LEAVES, TensorId};
use crate::memory::{Arena, Place};
use crate::placement::Placement;
use crate::recall::{Memory, Recall};
use crate::rows;
use crate::team::Team;

/// What a step runs on.
pub(crate) struct Machine<'a> {
    pub bound: &'a Bound,
    pub table: &'static KernelTable,
    pub arena: &'a mut Arena,
    pub simd: Simd,
    /// One for each member of the team, or one.
    pub scratch: &'a [Mutex<Scratch>],
    /// Who shares the work of a step; `None` for the calling thread alone.
    pub team: Option<&'a mut Team>,
    pub workspace: &'a mut Workspace,
    /// What values are evaluated again in.
    pub memory: &'a mut Memory,
    /// Bytes of the network inputs, aligned for their element type.
    pub inputs: &'a [&'a [u8]],
}

/// Why a step could not run: a fault of the executor, or of the reference evaluator.
pub(crate) enum Fault {
    Internal(String),
    Evaluation(flow_model::EvalError),
}

impl From<ArgError> for Fault {
    fn from(e: ArgError) -> Self {
        Self::Internal(e.to_string())
    }
}

impl Fault {
    fn new(message: &str) -> Self {
        Self::Internal(message.into())
    }

    /// With the name of the step.
    pub fn at(self, step: &str) -> RunError {
        match self {
            Self::Internal(message) => RunError::Internal {
                step: step.to_owned(),
                message,
            },
            Self::Evaluation(e) => RunError::Evaluation(e),
        }
    }
}

/// Elements behind bytes, cut to whole elements.
pub(crate) fn cast<T: bytemuck::Pod>(bytes: &[u8]) -> Result<&[T], Fault> {
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    if whole == 0 {
        // No bytes may lie anywhere.
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(&bytes[..whole]).map_err(|_| Fault::new("a tensor is not aligned"))
}

pub(crate) fn cast_mut<T: bytemuck::Pod>(bytes: &mut [u8]) -> Result<&mut [T], Fault> {
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    bytemuck::try_cast_slice_mut(&mut bytes[..whole]).map_err(|_| Fault::new("a tensor is not aligned"))
}

/// The value behind a lock; whoever panicked with it left memory that the next run writes anew.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine<'_> {
    /// Fills the halo of a tensor.
    pub fn fill(&mut self, t: TensorId) {
        let tensor = &self.bound.tensors[t];
        if let (Placement::Image(image), Source::Arena(range)) = (&tensor.placement, &tensor.source) {
            let bytes = self.arena.write(range.clone());
            fill_halo(
                bytes,
                image,
                crate::lower::element_bytes(tensor.element_type),
                tensor.fill,
            );
        }
    }

    /// Runs a step, and what it has to evaluate again.
    pub fn run(&mut self, step: &Step) -> Result<(), Fault> {
        self.work(step)?;
        match &step.draft.recall {
            Some(recall) => self.recall(step, recall),
            None => Ok(()),
        }
    }

    fn recall(&mut self, step: &Step, recall: &Recall) -> Result<(), Fault> {
        let (scratch, output) = (self.scratch, step.draft.outputs[0]);
        let (simd, table) = (self.simd, self.table);
        let mut memory = std::mem::take(self.memory);
        let reads = std::array::from_fn::<_, { 1 + MAX_LEAVES }, _>(|i| step.draft.inputs.get(i).copied());
        let (bytes, to) = self.split(reads, output)?;
        let ([from, leaves @ ..], [from_at, places @ .., to_at]) = (&bytes[..], &step.places[..]) else {
            return Err(Fault::new("a quantization lacks its input"));
        };
        let all = recall.elements();
        let (from, to, leaves) = ((cast(from)?, from_at), (to, to_at), (leaves, places));
        let again = recall.settle(from, to, leaves, (simd, table), &mut memory);
        *self.memory = memory;
        let counts = &mut locked(&scratch[0]).counts;
        counts[0] += all.div_ceil(LANES) as u64;
        counts[1] += again as u64;
        Ok(())
    }

    fn work(&mut self, step: &Step) -> Result<(), Fault> {
        for &t in &step.fills {
            self.fill(t);
        }
        let simd = self.simd;
        match &step.work {
            Work::Kernel(calls) => self.kernel(step, calls),
            Work::Copy(plans) => {
                for (plan, &input) in plans.iter().zip(&step.draft.inputs) {
                    let element_type = self.bound.tensors[input].element_type;
                    let ([from, _], to) = self.split([Some(input), None], step.draft.outputs[0])?;
                    copy(plan, to, from, element_type)?;
                }
                Ok(())
            }
            Work::One(nest) => {
                let ([from, _], to) = self.operands(step)?;
                match &step.draft.action {
                    Action::Table(table) => rows::map(nest, to, from, |code: u8| table[usize::from(code)]),
                    Action::Apply(function, parameter) => {
                        rows::apply(simd, nest, cast_mut(to)?, cast(from)?, (*function, *parameter));
                    }
                    Action::Clamp(min, max) => {
                        let (min, max) = (*min, *max);
                        rows::map(nest, cast_mut(to)?, cast(from)?, |x: f32| {
                            let x = if x < min { min } else { x };
                            if x > max { max } else { x }
                        });
                    }
                    _ => return Err(Fault::new("no such loop")),
                }
                Ok(())
            }
            Work::Two(nest) => {
                let ([a, b], to) = self.operands(step)?;
                match &step.draft.action {
                    Action::Combine(operation) => {
                        rows::combine(simd, nest, cast_mut(to)?, cast(a)?, cast(b)?, *operation);
                    }
                    _ => return Err(Fault::new("no such loop")),
                }
                Ok(())
            }
            Work::Quantize {
                nest,
                limits,
                steps,
                base,
            } => {
                let ([from, _], to) = self.operands(step)?;
                rows::quantize(nest, to, cast(from)?, limits, *steps, *base);
                Ok(())
            }
            Work::QuantizeLiteral { nest, levels, base } => {
                let table = self.table;
                let ([from, _], to) = self.operands(step)?;
                (table.quantize_literal)(nest, to, cast(from)?, levels, *base);
                Ok(())
            }
            Work::Values(nest, indices, values) => {
                let ([from, _], to) = self.operands(step)?;
                let to: &mut [f32] = cast_mut(to)?;
                rows::zip(nest, to, from, indices, |code: u8, table: u32| {
                    values[table as usize * 256 + usize::from(code)]
                });
                Ok(())
            }
            Work::Dequantize { nest, channels } => {
                let ([from, _], to) = self.operands(step)?;
                let to: &mut [f32] = cast_mut(to)?;
                rows::zip(nest, to, from, channels, |code: u8, (zero, scale)| {
                    (f32::from(code) - zero) * scale
                });
                Ok(())
            }
            Work::Dense => self.dense(step),
            Work::Evaluate { gather, scatter } => self.evaluate(step, gather, scatter),
        }
    }

    fn dense(&mut self, step: &Step) -> Result<(), Fault> {
        let Action::Dense(dense) = &step.draft.action else {
            return Err(Fault::new("no such step"));
        };
        let reads = std::array::from_fn(|i| step.draft.inputs.get(i).copied());
        let (simd, table) = (self.simd, self.table);
        let mut workspace = std::mem::take(self.workspace);
        let scratch = self.scratch;
        let mut scratch = locked(&scratch[0]);
        let (inputs, output) = self.split(reads, step.draft.outputs[0])?;
        let done = dense.run(DenseCall {
            simd,
            inputs,
            output,
            workspace: &mut workspace,
            guard: step.draft.literal.as_ref().map(|literal| Guard {
                table,
                literal,
                scratch: &mut scratch,
            }),
        });
        *self.workspace = workspace;
        done
    }

    fn operands(&mut self, step: &Step) -> Result<([&[u8]; 2], &mut [u8]), Fault> {
        let inputs = [
            step.draft.inputs.first().copied(),
            step.draft.inputs.get(1).copied(),
        ];
        self.split(inputs, step.draft.outputs[0])
    }

    fn split<const N: usize>(
        &mut self,
        reads: [Option<TensorId>; N],
        write: TensorId,
    ) -> Result<([&[u8]; N], &mut [u8]), Fault> {
        let (bound, inputs) = (self.bound, self.inputs);
        let place = |t: TensorId| match &bound.tensors[t].source {
            Source::Arena(range) => Place::Arena(range.clone()),
            Source::Input(i) => Place::Outside(inputs.get(*i).copied().unwrap_or_default()),
            Source::Constant(bytes) => Place::Outside(bytes),
        };
        let Source::Arena(range) = &bound.tensors[write].source else {
            return Err(Fault::new("a step writes outside the arena"));
        };
        self.arena
            .split(reads.map(|t| t.map(place)), range.clone())
            .ok_or_else(|| Fault::new("a step reads what it writes"))
    }

    fn evaluate(
        &mut self,
        step: &Step,
        gather: &[crate::copy::CopyPlan],
        scatter: &[crate::copy::CopyPlan],
    ) -> Result<(), Fault> {
        let Action::Evaluate(graph) = &step.draft.action else {
            return Err(Fault::new("no such step"));
        };
        let graph: &Graph = graph;
        let mut inputs = Vec::with_capacity(gather.len());
        for (plan, &t) in gather.iter().zip(&step.draft.inputs) {
            let tensor = &self.bound.tensors[t];
            let shape = tensor.placement.shape();
            let count: usize = shape.iter().product();
            let len = count * crate::lower::element_bytes(tensor.element_type);
            let mut bytes = AlignedVec::<u8>::zeroed(len);
            copy(plan, &mut bytes, self.bytes(tensor), tensor.element_type)?;
            if tensor.element_type == ElementType::I8 {
                bytes.iter_mut().for_each(|b| *b ^= 0x80);
            }
            let tensor = flow_model::Tensor::new(tensor.element_type, shape, bytes.to_vec())
                .map_err(|e| Fault::Internal(e.to_string()))?;
            inputs.push(tensor);
        }
        let outputs = flow_model::evaluate(graph, &inputs).map_err(Fault::Evaluation)?;
        for ((plan, &t), value) in scatter.iter().zip(&step.draft.outputs).zip(&outputs) {
            let tensor = &self.bound.tensors[t];
            let Source::Arena(range) = &tensor.source else {
                return Err(Fault::new("a step writes outside the arena"));
            };
            if range.is_empty() {
                continue;
            }
            let mut bytes = AlignedVec::from_slice(value.bytes());
            if tensor.element_type == ElementType::I8 {
                bytes.iter_mut().for_each(|b| *b ^= 0x80);
            }
            let to = self.arena.write(range.clone());
            copy(plan, to, &bytes, tensor.element_type)?;
        }
        Ok(())
    }

    /// The bytes of a tensor.
    fn bytes<'b>(&'b self, tensor: &'b Tensor) -> &'b [u8] {
        match &tensor.source {
            Source::Arena(range) => self.arena.read(range.clone()),
            Source::Input(i) => self.inputs.get(*i).copied().unwrap_or_default(),
            Source::Constant(bytes) => bytes,
        }
    }
}

/// Copies elements of any type by their width.
pub(crate) fn copy(
    plan: &crate::copy::CopyPlan,
    to: &mut [u8],
    from: &[u8],
    element_type: ElementType,
) -> Result<(), Fault> {
    fn of<T: bytemuck::Pod>(plan: &crate::copy::CopyPlan, to: &mut [u8], from: &[u8]) -> Result<(), Fault> {
        plan.run::<T>(cast_mut(to)?, cast(from)?);
        Ok(())
    }
    match crate::lower::element_bytes(element_type) {
        1 => of::<u8>(plan, to, from),
        2 => of::<u16>(plan, to, from),
        4 => of::<u32>(plan, to, from),
        _ => of::<u64>(plan, to, from),
    }
}
