//! Softmax along any axis.

use super::{Dense, DenseCall};
use crate::kernels::softmax::{SHORT, softmax_columns, softmax_run, softmax_short_runs};
use crate::nest::{Loop, Nest};
use crate::placement::Placement;
use crate::run::Fault;

/// Columns at a time.
const WIDTH: usize = 64;

/// Softmax of f32.
#[derive(Debug)]
pub(crate) struct Softmax {
    axis: usize,
    /// Whether the axis is the last of the value: its elements are summed on lanes, others in order.
    last: bool,
    length: usize,
    /// Steps along the axis, of output and input.
    steps: [usize; 2],
    /// All other axes: (output, input).
    others: Nest<2>,
}

impl Softmax {
    /// Along `axis` of a value of that rank.
    pub fn new(axis: usize, rank: usize) -> Self {
        Self {
            axis,
            last: axis + 1 == rank,
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
        // Elements of a last axis of length 1 behind the axis lie together too.
        self.last |= shape[self.axis + 1..].iter().all(|&n| n == 1);
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
        let [d_next, s_next] = self.steps;
        let Loop {
            count,
            strides: [d_step, s_step],
        } = self.others.inner();
        self.others.rows(|[d, s]| {
            let places = (0..count).map(|i| (d + i * d_step, s + i * s_step));
            if self.steps == [1, 1] && self.last && length <= SHORT && d_step == length && s_step == length {
                let all = count * length;
                softmax_short_runs(simd, &mut to[d..d + all], &from[s..s + all], length);
            } else if self.steps == [1, 1] {
                for (d, s) in places {
                    softmax_run(simd, &mut to[d..d + length], &from[s..s + length], !self.last);
                }
            } else if self.last {
                let (values, results) = workspace.floats(2 * length).split_at_mut(length);
                for (d, s) in places {
                    for (j, value) in values.iter_mut().enumerate() {
                        *value = from[s + j * s_next];
                    }
                    softmax_run(simd, results, values, false);
                    for (j, &result) in results.iter().enumerate() {
                        to[d + j * d_next] = result;
                    }
                }
            } else if (d_step, s_step) == (1, 1) {
                for first in (0..count).step_by(WIDTH) {
                    let size = [length, WIDTH.min(count - first)];
                    softmax_columns(simd, &mut to[d + first..], &from[s + first..], self.steps, size);
                }
            } else {
                for (d, s) in places {
                    softmax_columns(simd, &mut to[d..], &from[s..], self.steps, [length, 1]);
                }
            }
        });
        Ok(())
    }
}
