//! Interpolation of f32 by weights per axis: linear and cubic.

use flow_model::ops::AxisTaps;

use super::{Dense, DenseCall};
use crate::kernels::interpolate::{Pass, Taps, blend_pass, weigh_pass};
use crate::nest::row_major;
use crate::placement::Placement;
use crate::run::Fault;

/// An interpolation from one axis to the next; operands lie alike, both plain or both images.
#[derive(Debug)]
pub(crate) struct Interpolate {
    /// Per pass the axis and its weights.
    passes: Vec<(usize, Taps)>,
    /// Whether two neighbours are blended in f32, the way of `linear_onnx`; else sums are in f64.
    blends: bool,
    input: Dims,
    output: Dims,
}

/// A value in the order of its memory.
#[derive(Debug, Default)]
struct Dims {
    shape: Vec<usize>,
    /// Where each logical axis stands in it.
    axes: Vec<usize>,
    /// Where runs without gaps begin, and how long they are.
    starts: Vec<usize>,
    run: usize,
}

impl Dims {
    fn new(placement: &Placement) -> Self {
        match placement {
            Placement::Plain { shape } => Self {
                axes: (0..shape.len()).collect(),
                shape: shape.clone(),
                starts: vec![0],
                run: shape.iter().product(),
            },
            Placement::Image(i) => Self {
                shape: vec![i.batch, i.height, i.width, i.channels],
                axes: if i.rank == 3 {
                    vec![0, 3, 2]
                } else {
                    vec![0, 3, 1, 2]
                },
                starts: (0..i.batch * i.height)
                    .map(|row| i.origin() + row / i.height * i.image_pitch() + row % i.height * i.row_pitch())
                    .collect(),
                // f32 images have no channels of padding.
                run: i.width * i.channels,
            },
        }
    }

    fn runs(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let run = self.run;
        self.starts
            .iter()
            .enumerate()
            .map(move |(i, &start)| (start, i * run..(i + 1) * run))
    }
}

impl Interpolate {
    /// `passes` in the order in which they are made.
    pub fn new(passes: Vec<AxisTaps>) -> Self {
        Self {
            blends: passes.iter().any(|pass| pass.in_f32),
            passes: passes
                .into_iter()
                .map(|pass| (pass.axis, Taps::new(&pass.taps)))
                .collect(),
            input: Dims::default(),
            output: Dims::default(),
        }
    }

    /// Most elements between passes, and each pass over `[outer, length, inner]`.
    fn plan(&self) -> (usize, Vec<(Pass, &Taps)>) {
        let mut shape = self.input.shape.clone();
        let mut most: usize = shape.iter().product();
        let mut plan = Vec::with_capacity(self.passes.len());
        for (axis, taps) in &self.passes {
            let at = self.input.axes[*axis];
            let pass = Pass {
                outer: shape[..at].iter().product(),
                length: shape[at],
                inner: row_major(&shape)[at],
            };
            shape[at] = taps.len();
            most = most.max(shape.iter().product());
            plan.push((pass, taps));
        }
        (most, plan)
    }
}

impl Dense for Interpolate {
    fn kernel(&self) -> String {
        "interpolate_f32".into()
    }

    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        if let Some(input) = inputs.first() {
            self.input = Dims::new(input);
        }
        self.output = Dims::new(output);
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([from, _], to, workspace) = call.floats()?;
        let (most, plan) = self.plan();
        if self.blends {
            let (mut now, mut next) = workspace.floats(2 * most).split_at_mut(most);
            for (start, place) in self.input.runs() {
                let run = place.len();
                now[place].copy_from_slice(&from[start..start + run]);
            }
            for (i, (pass, taps)) in plan.iter().enumerate() {
                blend_pass(simd, next, now, pass, taps, i == 0);
                std::mem::swap(&mut now, &mut next);
            }
            for (start, place) in self.output.runs() {
                let run = place.len();
                to[start..start + run].copy_from_slice(&now[place]);
            }
            return Ok(());
        }
        let (mut now, mut next) = workspace.doubles(2 * most).split_at_mut(most);
        for (start, place) in self.input.runs() {
            for (value, &x) in now[place].iter_mut().zip(&from[start..]) {
                *value = f64::from(x);
            }
        }
        for (pass, taps) in &plan {
            weigh_pass(simd, next, now, pass, taps);
            std::mem::swap(&mut now, &mut next);
        }
        for (start, place) in self.output.runs() {
            for (to, &value) in to[start..].iter_mut().zip(&now[place]) {
                *to = value as f32;
            }
        }
        Ok(())
    }
}
