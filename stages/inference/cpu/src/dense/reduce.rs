//! Reductions of f32 over any axes.

use flow_model::op::ReduceKind;

use super::{Dense, DenseCall};
use crate::kernels::reduce::{Fold, LANES, fold_run};
use crate::nest::{Loop, Nest};
use crate::placement::Placement;
use crate::run::Fault;

/// A reduction; its output is dense, without or with the reduced axes.
#[derive(Debug)]
pub(crate) struct Reduce {
    kind: ReduceKind,
    axes: Vec<usize>,
    fold: Fold,
    /// Elements folded into one.
    folded: usize,
    /// The axes that stay: (output, input).
    kept: Nest<2>,
    /// Reduced axes but the last: offsets of the runs, in order.
    runs: Nest<1>,
    /// The last reduced axis.
    run: Loop<1>,
}

impl Reduce {
    /// A reduction over axes, ascending; `None` for kinds without a kernel.
    pub fn new(kind: ReduceKind, axes: Vec<usize>) -> Option<Self> {
        let fold = match kind {
            ReduceKind::Mean | ReduceKind::Sum => Fold::Sum,
            ReduceKind::Max => Fold::Max,
            ReduceKind::Min => Fold::Min,
            ReduceKind::Prod => Fold::Product,
            ReduceKind::L2 => Fold::Squares,
            _ => return None,
        };
        Some(Self {
            kind,
            axes,
            fold,
            folded: 0,
            kept: Nest::new(&[0], [0, 0], [&[0], &[0]]),
            runs: Nest::new(&[], [0], [&[]]),
            run: Loop {
                count: 0,
                strides: [0],
            },
        })
    }

    fn finish(&self, value: f64) -> f32 {
        match self.kind {
            ReduceKind::Mean => value as f32 / self.folded as f32,
            ReduceKind::L2 => value.sqrt() as f32,
            _ => value as f32,
        }
    }
}

impl Dense for Reduce {
    fn kernel(&self) -> String {
        "reduce_f32".into()
    }

    fn place(&mut self, inputs: &[&Placement], _output: &Placement) {
        let Some(input) = inputs.first() else { return };
        let (shape, strides) = (input.shape(), input.strides());
        let reduced = |axis: &usize| self.axes.contains(axis);
        let kept: Vec<usize> = (0..shape.len()).filter(|a| !reduced(a)).collect();
        let of = |list: &[usize], values: &[usize]| list.iter().map(|&a| values[a]).collect::<Vec<_>>();
        let (kept_shape, kept_strides) = (of(&kept, &shape), of(&kept, &strides));
        let dense = crate::nest::row_major(&kept_shape);
        self.kept = Nest::new(&kept_shape, [0, input.offset()], [&dense, &kept_strides]);
        let mut loops: Vec<Loop<1>> = self
            .axes
            .iter()
            .map(|&a| Loop {
                count: shape[a],
                strides: [strides[a]],
            })
            .collect();
        self.folded = loops.iter().map(|l| l.count).product();
        self.run = loops.pop().unwrap_or(Loop {
            count: 1,
            strides: [0],
        });
        // One loop more: `rows` gives the innermost as a row.
        loops.push(Loop {
            count: 1,
            strides: [0],
        });
        self.runs = Nest::in_order([0], loops);
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([from, _], to, _) = call.floats()?;
        let Loop {
            count,
            strides: [d_step, s_step],
        } = self.kept.inner();
        let Loop {
            count: length,
            strides: [step],
        } = self.run;
        self.kept.rows(|[d, s]| {
            for first in (0..count).step_by(LANES) {
                let lanes = LANES.min(count - first);
                let mut results = [self.fold.start(); LANES];
                let start = s + first * s_step;
                if self.folded > 0 {
                    self.runs.rows(|[run]| {
                        fold_run(
                            simd,
                            self.fold,
                            &from[start + run..],
                            (lanes, s_step),
                            (length, step),
                            &mut results,
                        );
                    });
                }
                for (lane, &result) in results[..lanes].iter().enumerate() {
                    to[d + (first + lane) * d_step] = self.finish(result);
                }
            }
        });
        Ok(())
    }
}
