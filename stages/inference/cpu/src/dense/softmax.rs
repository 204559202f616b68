//! Softmax along any axis.

use super::{Dense, DenseCall};
use crate::kernels::softmax::{softmax_columns, softmax_run};
use crate::nest::{Loop, Nest};
use crate::placement::Placement;
use crate::run::Fault;

/// Columns at a time.
const WIDTH: usize = 64;

/// Softmax of f32.
#[derive(Debug)]
pub(crate) struct Softmax {
    axis: usize,
    length: usize,
    /// Steps along the axis, of output and input.
    steps: [usize; 2],
    /// All other axes: (output, input).
    others: Nest<2>,
}

impl Softmax {
    /// Along `axis`.
    pub fn new(axis: usize) -> Self {
        Self {
            axis,
            length: 0,
            steps: [0; 2],
            others: Nest::new(&[0], [0, 0], [&[0], &[0]]),
        }
    }
}

impl Dense for Softmax {
    fn kernel(&self) -> String {
        "softmax_f32".into()
    }

    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        let Some(input) = inputs.first() else { return };
        let mut shape = output.shape();
        let strides = [output.strides(), input.strides()];
        self.length = shape[self.axis];
        self.steps = [0, 1].map(|k: usize| strides[k][self.axis]);
        shape[self.axis] = 1;
        self.others = Nest::new(
            &shape,
            [output.offset(), input.offset()],
            [&strides[0], &strides[1]],
        );
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([from, _], to, workspace) = call.floats()?;
        let length = self.length;
        let Loop {
            count,
            strides: [d_step, s_step],
        } = self.others.inner();
        if self.steps == [1, 1] {
            let exponentials = workspace.doubles(length);
            self.others.rows(|[d, s]| {
                for i in 0..count {
                    let (d, s) = (d + i * d_step, s + i * s_step);
                    softmax_run(simd, &mut to[d..d + length], &from[s..s + length], exponentials);
                }
            });
        } else if (d_step, s_step) == (1, 1) {
            let exponentials = workspace.doubles(length * WIDTH);
            self.others.rows(|[d, s]| {
                for first in (0..count).step_by(WIDTH) {
                    let width = WIDTH.min(count - first);
                    softmax_columns(
                        simd,
                        &mut to[d + first..],
                        &from[s + first..],
                        self.steps,
                        [length, width],
                        exponentials,
                    );
                }
            });
        } else {
            let exponentials = workspace.doubles(length);
            self.others.rows(|[d, s]| {
                for i in 0..count {
                    let (d, s) = (d + i * d_step, s + i * s_step);
                    softmax_columns(
                        simd,
                        &mut to[d..],
                        &from[s..],
                        self.steps,
                        [length, 1],
                        exponentials,
                    );
                }
            });
        }
        Ok(())
    }
}
