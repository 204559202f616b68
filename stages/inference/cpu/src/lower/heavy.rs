//! Chains: what starts them, and how they become steps.

use flow_model::op::{BinaryKind, Op};
use flow_model::{NodeId, Tensor, Value};

use super::chain::{self, Abilities, Chain, End, Site};
use super::exact::Guard;
use super::{Action, Form, Home, Lowering, Pending, Rounding};
use crate::error::CompileError;
use crate::kernels::literal::Literal;
use crate::kernels::{ArgError, Epilogue, EpilogueSpec, Halo, MidSpec, OutputKind, ResidualSpec};

/// A root with its chain, ready to run.
pub(super) struct Heavy {
    pub action: Action,
    /// The value the kernel reads.
    pub data: Value,
    /// A second value that it reads, before the residual.
    pub second: Option<Value>,
    /// How its operands and its output lie.
    pub form: Form,
    /// Padding it needs around it: margin and stored code.
    pub halo: Option<(Halo, u8)>,
    pub macs: u64,
    pub literal: Option<Box<Literal>>,
    /// Why values near ties are not evaluated again, where the step ends in codes.
    pub unguarded: Option<String>,
}

impl Heavy {
    /// A kernel on one dense operand.
    pub fn new(action: Action, data: Value) -> Self {
        Self {
            action,
            data,
            second: None,
            form: Form::Plain,
            halo: None,
            macs: 0,
            literal: None,
            unguarded: None,
        }
    }

    /// With its guard, or why it has none.
    pub fn guarded(mut self, guard: Settling) -> Self {
        match guard {
            Ok(literal) => self.literal = Some(literal),
            Err(why) => self.unguarded = why,
        }
        self
    }
}

impl Lowering<'_> {
    /// Tries to start a chain at `id`. Passes run in order of preference: what has weights first.
    pub(super) fn plan_chain(&mut self, id: NodeId, pass: usize) {
        if self.taken[id.index()] || self.users[id.index()].is_empty() {
            return;
        }
        let planned = match (&self.graph.node(id).op, pass) {
            (Op::QuantizedConvolution(_), 0) => self.quantized_convolution(id),
            (Op::QuantizedDeconvolution(_), 0) => self.quantized_deconvolution(id),
            (Op::QuantizedMatMul(_), 0) => self.quantized_matmul(id),
            (Op::QuantizedBatchMatMul(_), 0) => self.quantized_product(id),
            (Op::Convolution(a) | Op::GroupConvolution(a), 0) => self.convolution(id, &a.clone()),
            (Op::ConvolutionBackpropData(a) | Op::GroupConvolutionBackpropData(a), 0) => {
                self.deconvolution(id, &a.conv)
            }
            (Op::AvgPool { .. } | Op::Reduce { .. }, 1) => self.average(id),
            (Op::Binary(BinaryKind::Add | BinaryKind::Subtract), 1) => self.addition(id),
            (Op::Dequantize(_), 2) => self.requantization(id),
            _ => None,
        };
        if let Some((heavy, chain)) = planned {
            let last = chain.members.last().copied().unwrap_or(id);
            self.taken[id.index()] = true;
            for member in &chain.members {
                self.taken[member.index()] = true;
            }
            self.pending.insert(
                last,
                Pending {
                    root: id,
                    heavy,
                    chain,
                },
            );
        }
    }

    /// Emits a step whose chain ends here.
    pub(super) fn emit_chain(&mut self, pending: Pending) -> Result<(), CompileError> {
        let Pending { root, heavy, chain } = pending;
        let form = heavy.form;
        let mut data = self.materialize(heavy.data, form)?;
        if matches!(self.home(data), Home::Input(_) | Home::Constant(_))
            && !matches!(heavy.action, Action::Dense(_))
        {
            // Kernels of images read whole groups of bytes: only the arena has slack behind its tensors.
            let part = self.whole(heavy.data);
            let copy = self.produce(heavy.data, form);
            self.push(Action::Copy(vec![part]), vec![data], vec![copy], heavy.data.node);
            data = copy;
        }
        if let Some((halo, fill)) = heavy.halo {
            data = self.with_halo(heavy.data, data, halo, fill);
        }
        let mut inputs = vec![data];
        if let Some(second) = heavy.second {
            inputs.push(self.materialize(second, form)?);
        }
        if let Some(residual) = &chain.residual {
            inputs.push(self.materialize(residual.codes, form)?);
        }
        let output = self.produce(chain.output, form);
        self.push(heavy.action, inputs, vec![output], root);
        if let Some(step) = self.draft.steps.last_mut() {
            step.members = chain.members;
            step.macs = heavy.macs;
            step.rounding = match (&heavy.literal, heavy.unguarded) {
                (Some(_), _) => Rounding::Guarded,
                (None, Some(why)) => Rounding::Unguarded(why),
                (None, None) => Rounding::Nothing,
            };
            step.literal = heavy.literal;
        }
        Ok(())
    }

    pub(super) fn extend(&self, site: Site, abilities: Abilities, start: Chain) -> Option<Chain> {
        let taken = |id: NodeId| self.taken[id.index()];
        let abilities = Abilities {
            merges: abilities.codes || !self.quantized,
            ..abilities
        };
        chain::extend(self.graph, &self.users, &taken, site, abilities, start)
    }

    pub(super) fn constant(&self, value: Value) -> Option<&Tensor> {
        match &self.graph.node(value.node).op {
            Op::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// How doubts of a kernel are settled, or why not; no reason where nobody asked.
pub(super) type Settling = Result<Box<Literal>, Option<String>>;

/// The epilogue of a kernel, with ties where it is guarded, and how its doubts are settled.
pub(super) fn finish(channels: usize, chain: &Chain, guard: Guard) -> Option<(Epilogue, Settling)> {
    let mut epilogue = epilogue(channels, chain).ok()?;
    Some(match guard {
        Ok(Some(literal)) => {
            // The table as the model computes it, for codes that are in no doubt too.
            epilogue.table.clone_from(&literal.table);
            (
                epilogue.with_ties(&literal.last_margin, &literal.margin, literal.refined.as_ref()),
                Ok(literal),
            )
        }
        Ok(None) => (epilogue, Err(None)),
        Err(why) => (epilogue, Err(Some(why))),
    })
}

/// The epilogue of a chain.
pub(super) fn epilogue(channels: usize, chain: &Chain) -> Result<Epilogue, ArgError> {
    let (output, table) = match &chain.end {
        End::F32 => (OutputKind::F32, None),
        End::Codes { table, .. } => (OutputKind::U8, table.clone()),
    };
    Epilogue::new(
        channels,
        &EpilogueSpec {
            scale: chain.first.scale.to_f32(),
            bias: chain.first.offset.to_f32(),
            mid: chain.mid.as_ref().map(|mid| MidSpec {
                rounds: mid.rounds,
                low: mid.low as f32,
                high: mid.high as f32,
                scale: mid.after.scale.to_f32(),
                offset: mid.after.offset.to_f32(),
            }),
            residual: chain.residual.as_ref().map(|residual| ResidualSpec {
                scale: residual.affine.scale.to_f32(),
                offset: residual.affine.offset.to_f32(),
            }),
            low: chain.low.to_f32(),
            high: chain.high.to_f32(),
            output,
            table,
        },
    )
}

pub(super) fn macs(output: &[usize], taps: usize) -> u64 {
    output.iter().product::<usize>() as u64 * taps as u64
}
