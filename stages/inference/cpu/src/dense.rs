//! Operations on whole tensors with kernels of their own: no chain behind them, no layout of images.

mod fake_quantize;
mod gemm;
mod geometry;
mod interpolate;
mod normalize;
mod pool;
mod product;
mod reduce;
mod softmax;
mod typed;

use crate::kernels::KernelTable;
use crate::kernels::literal::{Literal, Scratch};
use crate::kernels::versions::Simd;
use crate::placement::Placement;
use crate::run::{Fault, cast, cast_mut};

pub(crate) use fake_quantize::FakeQuantize;
pub(crate) use gemm::MatMul;
pub(crate) use geometry::Geometry;
pub(crate) use interpolate::Interpolate;
pub(crate) use normalize::{Normalize, Rule};
pub(crate) use pool::{Pool, Pooling};
pub(crate) use product::ProductU8;
pub(crate) use reduce::Reduce;
pub(crate) use softmax::Softmax;
pub(crate) use typed::{Task, Typed};

/// Most inputs of a [`Dense`] step.
pub(crate) const MAX_INPUTS: usize = 4;

/// An operation that a plan was made for at compile.
pub(crate) trait Dense: std::fmt::Debug + Send + Sync {
    /// Name of the kernel, without instruction set.
    fn kernel(&self) -> String;

    /// Multiply-accumulates of one run.
    fn macs(&self) -> u64 {
        0
    }

    /// Learns where the elements of its operands lie, before it runs.
    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        let _ = (inputs, output);
    }

    /// Runs.
    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault>;
}

/// What a [`Dense`] step runs on.
pub(crate) struct DenseCall<'a> {
    pub simd: Simd,
    /// Bytes of the inputs, empty where there are fewer.
    pub inputs: [&'a [u8]; MAX_INPUTS],
    pub output: &'a mut [u8],
    pub workspace: &'a mut Workspace,
    /// How its codes are rounded, where they are to be those of the model.
    pub guard: Option<Guard<'a>>,
}

/// What rounds the scaled sums of a step to the codes of the model.
pub(crate) struct Guard<'a> {
    pub table: &'static KernelTable,
    pub literal: &'a Literal,
    pub scratch: &'a mut Scratch,
}

/// Two inputs, the output, and memory to work in.
type Floats<'a> = ([&'a [f32]; 2], &'a mut [f32], &'a mut Workspace);

impl<'a> DenseCall<'a> {
    /// The first two inputs and the output as floats.
    pub fn floats(self) -> Result<Floats<'a>, Fault> {
        let inputs = [cast(self.inputs[0])?, cast(self.inputs[1])?];
        Ok((inputs, cast_mut(self.output)?, self.workspace))
    }
}

/// Memory that kernels need while they run; it grows to the largest need and stays.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    floats: Vec<f32>,
    doubles: Vec<f64>,
    words: Vec<i16>,
    sums: Vec<i32>,
}

impl Workspace {
    /// `count` floats with any content.
    pub fn floats(&mut self, count: usize) -> &mut [f32] {
        if self.floats.len() < count {
            self.floats.resize(count, 0.0);
        }
        &mut self.floats[..count]
    }

    /// Words of both factors of a product of codes, and sums, with any content.
    pub fn product(
        &mut self,
        left: usize,
        right: usize,
        sums: usize,
    ) -> (&mut [i16], &mut [i16], &mut [i32]) {
        if self.words.len() < left + right {
            self.words.resize(left + right, 0);
        }
        if self.sums.len() < sums {
            self.sums.resize(sums, 0);
        }
        let (first, second) = self.words[..left + right].split_at_mut(left);
        (first, second, &mut self.sums[..sums])
    }

    /// `count` doubles with any content.
    pub fn doubles(&mut self, count: usize) -> &mut [f64] {
        if self.doubles.len() < count {
            self.doubles.resize(count, 0.0);
        }
        &mut self.doubles[..count]
    }
}
