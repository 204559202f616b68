//! Pooling of f32 over up to three spatial axes.

use flow_model::op::PoolAttrs;

use super::{Dense, DenseCall};
use crate::kernels::reduce::LANES;
use crate::placement::Placement;
use crate::run::Fault;

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Max,
    /// The mean over the window inside the image, or with its padding.
    Average {
        exclude_pad: bool,
    },
}

/// One output index along an axis: first input, and number of inputs inside.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: usize,
    inside: usize,
}

/// A pooling.
#[derive(Debug)]
pub(crate) struct Pool {
    pooling: Pooling,
    /// What an average is divided by, where it is not the number of inputs inside.
    area: Option<usize>,
    dilation: [usize; 3],
    spans: [Vec<Span>; 3],
    /// Pictures and channels.
    planes: [usize; 2],
    /// Strides of output and input: picture, channel, three spatial axes.
    strides: [[usize; 5]; 2],
    offsets: [usize; 2],
}

impl Pool {
    /// A pooling from `input` to `output`, both `[N, C, spatial..]`; `None` for other shapes.
    pub fn new(pooling: Pooling, pool: &PoolAttrs, input: &[usize], output: &[usize]) -> Option<Self> {
        let axes = pool.kernel.len();
        if !(1..=3).contains(&axes) || input.len() != axes + 2 || output.len() != axes + 2 {
            return None;
        }
        let mut spans = [const { Vec::new() }; 3];
        let mut dilation = [1; 3];
        for (at, spans) in spans.iter_mut().enumerate() {
            let Some(axis) = (at + axes).checked_sub(3) else {
                spans.push(Span { first: 0, inside: 1 });
                continue;
            };
            let step = pool.dilations.get(axis).copied().unwrap_or(1);
            dilation[at] = step;
            let (length, begin) = (input[axis + 2], pool.pads_begin[axis]);
            for o in 0..output[axis + 2] {
                let start = o * pool.strides[axis];
                let at = |k: usize| start + k * step;
                let mut inside = (0..pool.kernel[axis]).filter(|&k| (begin..begin + length).contains(&at(k)));
                let first = inside.next();
                spans.push(Span {
                    first: first.map_or(0, |k| at(k) - begin),
                    inside: first.map_or(0, |_| 1 + inside.count()),
                });
            }
        }
        let padded = pool.pads_begin.iter().chain(&pool.pads_end).any(|&p| p > 0);
        let whole = padded && pooling == Pooling::Average { exclude_pad: false };
        Some(Self {
            pooling,
            area: whole.then(|| pool.kernel.iter().product()),
            dilation,
            spans,
            planes: [input[0], input[1]],
            strides: [[0; 5]; 2],
            offsets: [0; 2],
        })
    }
}

fn five(placement: &Placement) -> [usize; 5] {
    let strides = placement.strides();
    let mut out = [0; 5];
    out[..2].copy_from_slice(&strides[..2]);
    out[7 - strides.len()..].copy_from_slice(&strides[2..]);
    out
}

impl Dense for Pool {
    fn kernel(&self) -> String {
        match self.pooling {
            Pooling::Max => "max_pool_f32".into(),
            Pooling::Average { .. } => "avg_pool_f32".into(),
        }
    }

    fn place(&mut self, inputs: &[&Placement], output: &Placement) {
        let Some(input) = inputs.first() else { return };
        self.strides = [five(output), five(input)];
        self.offsets = [output.offset(), input.offset()];
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let ([from, _], to, _) = call.floats()?;
        let [d, s] = &self.strides;
        let [dz, dy, dx] = self.dilation;
        let [pictures, channels] = self.planes;
        let least = |inside: [usize; 3]| match self.pooling {
            // A window that lies in the padding altogether.
            Pooling::Max if inside.contains(&0) => f32::MIN,
            Pooling::Max => f32::NEG_INFINITY,
            Pooling::Average { .. } => 0.0,
        };
        for n in 0..pictures {
            for (oz, z) in self.spans[0].iter().enumerate() {
                for (oy, y) in self.spans[1].iter().enumerate() {
                    for (ox, x) in self.spans[2].iter().enumerate() {
                        let at = self.offsets[0] + n * d[0] + oz * d[2] + oy * d[3] + ox * d[4];
                        let begin =
                            self.offsets[1] + n * s[0] + z.first * s[2] + y.first * s[3] + x.first * s[4];
                        let count = self.area.unwrap_or(z.inside * y.inside * x.inside);
                        for c in (0..channels).step_by(LANES) {
                            let lanes = LANES.min(channels - c);
                            let mut kept = [least([z.inside, y.inside, x.inside]); LANES];
                            for kz in 0..z.inside {
                                for ky in 0..y.inside {
                                    for kx in 0..x.inside {
                                        let tap = begin
                                            + c * s[1]
                                            + kz * dz * s[2]
                                            + ky * dy * s[3]
                                            + kx * dx * s[4];
                                        self.fold(&from[tap..], lanes, &mut kept);
                                    }
                                }
                            }
                            for (lane, &value) in kept[..lanes].iter().enumerate() {
                                to[at + (c + lane) * d[1]] = match self.pooling {
                                    Pooling::Max => value,
                                    Pooling::Average { .. } if count == 0 => 0.0,
                                    Pooling::Average { .. } => value / count as f32,
                                };
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Pool {
    fn fold(&self, from: &[f32], lanes: usize, kept: &mut [f32; LANES]) {
        let step = self.strides[1][1];
        let max = self.pooling == Pooling::Max;
        let join = |kept: f32, x: f32| match max {
            true if x > kept => x,
            true => kept,
            false => kept + x,
        };
        if step == 1 {
            for (kept, &x) in kept[..lanes].iter_mut().zip(from) {
                *kept = join(*kept, x);
            }
        } else {
            for (kept, &x) in kept[..lanes].iter_mut().zip(from.iter().step_by(step)) {
                *kept = join(*kept, x);
            }
        }
    }
}
