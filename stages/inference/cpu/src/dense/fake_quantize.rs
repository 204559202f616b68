//! FakeQuantize of f32 with constant limits.

use super::{Dense, DenseCall};
use crate::kernels::fake_quantize::{Grid, Interval, Intervals, quantize_each, quantize_run};
use crate::nest::{Loop, Nest, row_major};
use crate::placement::Placement;
use crate::run::Fault;

/// A FakeQuantize; its limits are broadcast to the data.
#[derive(Debug)]
pub(crate) struct FakeQuantize {
    grid: Grid,
    intervals: Intervals,
    /// Shape of the limits, with as many axes as the data or fewer.
    limits: Vec<usize>,
    /// Output, input and interval.
    nest: Nest<3>,
}

impl FakeQuantize {
    /// `limits` are input low, input high, output low and output high of each interval, row-major over `shape`.
    pub fn new(grid: Grid, shape: Vec<usize>, limits: impl Iterator<Item = [f32; 4]>) -> Self {
        Self {
            grid,
            intervals: limits.map(|l| Interval::new(l, grid.last, grid.fused)).collect(),
            limits: shape,
            nest: Nest::new(&[0], [0; 3], [&[0], &[0], &[0]]),
        }
    }
}

impl Dense for FakeQuantize {
    fn kernel(&self) -> String {
        "fake_quantize_f32".into()
    }

    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        let Some(input) = inputs.first() else { return };
        let shape = output.shape();
        let own = row_major(&self.limits);
        let missing = shape.len() - self.limits.len();
        let along: Vec<usize> = (0..shape.len())
            .map(|axis| match axis.checked_sub(missing) {
                Some(i) if self.limits[i] != 1 => own[i],
                _ => 0,
            })
            .collect();
        self.nest = Nest::new(
            &shape,
            [output.offset(), input.offset(), 0],
            [&output.strides(), &input.strides(), &along],
        );
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([from, _], to, _) = call.floats()?;
        let Loop { count, strides } = self.nest.inner();
        let (all, grid) = (&self.intervals, self.grid);
        self.nest.rows(|[d, s, l]| match strides {
            [1, 1, 0] => quantize_run(simd, &mut to[d..d + count], &from[s..s + count], all.at(l), grid),
            [1, 1, 1] => quantize_each(simd, &mut to[d..d + count], &from[s..s + count], all, l, grid),
            [d_step, s_step, l_step] => {
                for i in 0..count {
                    let (d, s) = (d + i * d_step, s + i * s_step);
                    let interval = all.at(l + i * l_step);
                    quantize_run(simd, &mut to[d..=d], &from[s..=s], interval, grid);
                }
            }
        });
        Ok(())
    }
}
