//! Operations that run graphs of their own: If-8, Loop-5 and TensorIterator-1.
//!
//! A body is a [`Graph`] whose Parameters are fed by inputs of the operation and whose Results feed its outputs.
//! [`inline_bodies`](crate::unroll::inline_bodies) puts bodies into the graph around them where it is known how
//! often they run.

use crate::graph::Graph;

/// Deepest nesting of bodies.
pub const MAX_DEPTH: usize = 6;

/// If-8: the first input chooses the branch.
#[derive(Debug, Clone)]
pub struct If {
    /// What runs where the condition is true.
    pub then_body: Branch,
    /// What runs where it is false.
    pub else_body: Branch,
}

/// One branch of an [`If`].
#[derive(Debug, Clone)]
pub struct Branch {
    /// The body.
    pub graph: Graph,
    /// For each Parameter of the body the input of the operation that feeds it.
    pub inputs: Vec<usize>,
    /// For each output of the operation the Result of the body that gives it.
    pub outputs: Vec<usize>,
}

/// Which operation an [`Iteration`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IterationKind {
    /// TensorIterator-1: runs once per slice of its sliced inputs.
    TensorIterator,
    /// Loop-5: the first input is the number of iterations (-1: no limit), the second whether the first runs.
    Loop,
}

/// Loop-5 or TensorIterator-1: a body that runs again and again.
#[derive(Debug, Clone)]
pub struct Iteration {
    /// Which of them.
    pub kind: IterationKind,
    /// The body.
    pub graph: Graph,
    /// For each Parameter of the body what feeds it.
    pub inputs: Vec<BodyInput>,
    /// For each output of the operation what gives it.
    pub outputs: Vec<BodyOutput>,
    /// Result that says after an iteration whether another follows; none: always.
    pub condition: Option<usize>,
}

/// What feeds a Parameter of the body of an [`Iteration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyInput {
    /// An input of the operation, the same in every iteration.
    Invariant {
        /// Index of the input.
        input: usize,
    },
    /// An input of the operation in the first iteration, a Result of the iteration before in the others.
    Merged {
        /// Index of the input.
        input: usize,
        /// Index of the Result.
        result: usize,
    },
    /// A part of an input of the operation.
    Sliced {
        /// Index of the input.
        input: usize,
        /// Which part.
        slicing: Slicing,
    },
    /// The number of the iteration, from 0.
    CurrentIteration,
}

/// What gives an output of an [`Iteration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyOutput {
    /// Index of the Result.
    pub result: usize,
    /// The Result of every iteration, one after another along an axis; none: that of the last iteration.
    pub concatenated: Option<Slicing>,
}

/// Parts of an axis, one per iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slicing {
    /// The axis; negative ones count from the end.
    pub axis: i64,
    /// Where the first part begins; negative: length + 1 + start.
    pub start: i64,
    /// Where the last part ends; negative: length + 1 + end.
    pub end: i64,
    /// Length of a part; negative where parts are taken from `start` backwards to `end`.
    pub stride: i64,
}

impl Slicing {
    /// First index and length of part `index`, and how many parts there are, of an axis of `length`.
    ///
    /// # Errors
    /// If the parts do not divide the axis, or lie outside.
    pub(crate) fn parts(&self, length: usize) -> Result<Parts, crate::OpError> {
        let counted = |at: i64| i128::from(at) + if at < 0 { length as i128 + 1 } else { 0 };
        let (start, end, step) = (
            counted(self.start),
            counted(self.end),
            i128::from(self.stride).abs(),
        );
        let (low, high) = if self.stride < 0 {
            (end, start)
        } else {
            (start, end)
        };
        let whole = step > 0 && low >= 0 && high <= length as i128 && low <= high && (high - low) % step == 0;
        if !whole {
            return Err(crate::OpError(format!(
                "parts of {} from {} to {} do not divide an axis of length {length}",
                self.stride, self.start, self.end
            )));
        }
        Ok(Parts {
            low: low as usize,
            step: step as usize,
            count: ((high - low) / step) as usize,
            backwards: self.stride < 0,
        })
    }

    /// Length of a part.
    pub fn part(&self) -> usize {
        usize::try_from(self.stride.unsigned_abs()).unwrap_or(usize::MAX)
    }
}

/// The parts of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    low: usize,
    /// Length of a part.
    pub step: usize,
    /// Number of parts.
    pub count: usize,
    /// The last part comes first.
    pub backwards: bool,
}

impl Parts {
    /// Where part `index` begins.
    pub fn start(&self, index: usize) -> usize {
        let index = if self.backwards {
            self.count - 1 - index
        } else {
            index
        };
        self.low + index * self.step
    }
}

impl Iteration {
    /// Name of the operation.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            IterationKind::TensorIterator => "TensorIterator",
            IterationKind::Loop => "Loop",
        }
    }
}
