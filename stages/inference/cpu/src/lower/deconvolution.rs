//! Transposed convolutions: one ordinary convolution per phase of the stride.
//!
//! Along an axis, output `y` sums the taps `t` with `y + pad = in * stride + t * dilation`. Outputs a stride apart
//! read the same taps at neighbouring inputs: a convolution of stride 1 with those taps in descending order.

use flow_model::op::{ConvAttrs, Op};
use flow_model::{ElementType, NodeId, Value};

use super::chain::{Abilities, Chain, Site, bias_of};
use super::convolution::weight_codes;
use super::exact::Sum;
use super::heavy::{Heavy, finish, macs};
use super::window::{image_dims, kernel_dims, two};
use super::{Action, Form, Lowering};
use crate::kernels::literal::Taps;
use crate::kernels::{
    Channels, ConvF32, ConvU8, DepthwiseF32, DepthwiseU8, EpilogueF32, Halo, Layout, WeightCodes, Weights,
    Window,
};

/// The outputs of one phase along both axes.
#[derive(Debug)]
pub(crate) struct Phase {
    pub kernel: PhaseKernel,
    /// Input pixels before the first that it reads, where it reads none of the padding.
    skip: [usize; 2],
    /// First output.
    first: [usize; 2],
    /// Outputs of the phase.
    count: [usize; 2],
    /// Distance of outputs.
    step: [usize; 2],
}

/// The convolution of a phase.
#[derive(Debug)]
pub(crate) enum PhaseKernel {
    Dense(Box<ConvU8>),
    Depthwise(Box<DepthwiseU8>),
    DenseF32(Box<ConvF32>),
    DepthwiseF32(Box<DepthwiseF32>),
}

impl Phase {
    /// The input as the phase sees it.
    pub fn input(&self, layout: &Layout) -> Layout {
        let [y, x] = self.skip;
        Layout {
            height: layout.height - y,
            width: layout.width - x,
            origin: layout.origin + y * layout.row_pitch + x * layout.pixel_stride,
            halo: Halo {
                top: layout.halo.top + y,
                left: layout.halo.left + x,
                ..layout.halo
            },
            ..*layout
        }
    }

    /// The pixel of the output that is its pixel `(y, x)`.
    pub fn pixel(&self, pixel: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis: usize| self.first[axis] + pixel[axis] * self.step[axis])
    }

    /// Its pixels of the output.
    pub fn output(&self, layout: &Layout) -> Layout {
        Layout {
            height: self.count[0],
            width: self.count[1],
            pixel_stride: layout.pixel_stride * self.step[1],
            row_pitch: layout.row_pitch * self.step[0],
            origin: layout.origin + self.first[0] * layout.row_pitch + self.first[1] * layout.pixel_stride,
            halo: Halo::default(),
            ..*layout
        }
    }
}

/// A phase along one axis.
struct AxisPhase {
    first: usize,
    count: usize,
    /// Taps in the order of the inputs they meet.
    taps: Vec<usize>,
    /// Distance of their inputs.
    dilation: usize,
    /// Input of the first tap for the first output.
    start: isize,
}

impl AxisPhase {
    /// Last input that is read.
    fn end(&self) -> isize {
        self.start + (self.count - 1 + (self.taps.len().max(1) - 1) * self.dilation) as isize
    }
}

fn axis_phases(taps: usize, stride: usize, dilation: usize, pad: isize, outputs: usize) -> Vec<AxisPhase> {
    let phase = |first: usize| {
        let base = first as isize + pad;
        let met: Vec<usize> = (0..taps)
            .rev()
            .filter(|&t| (base - (t * dilation) as isize).rem_euclid(stride as isize) == 0)
            .collect();
        let input = |t: usize| (base - (t * dilation) as isize).div_euclid(stride as isize);
        AxisPhase {
            first,
            count: (outputs - first).div_ceil(stride),
            dilation: match met.as_slice() {
                [a, b, ..] => (input(*b) - input(*a)).unsigned_abs(),
                _ => 1,
            },
            start: met.first().map_or(0, |&t| input(t)),
            taps: met,
        }
    };
    (0..stride.min(outputs)).map(phase).collect()
}

/// Phases of both axes, and the padding that they read.
struct Plan {
    axes: [Vec<AxisPhase>; 2],
    step: [usize; 2],
    halo: Halo,
}

impl Plan {
    fn new(conv: &ConvAttrs, kernel: [usize; 2], input: [usize; 2], output: [usize; 2]) -> Option<Self> {
        let (step, dilations) = (two(&conv.strides, 1)?, two(&conv.dilations, 1)?);
        let pads = two(&conv.pads_begin, 0)?;
        let axes = [0, 1].map(|i| {
            let mut phases = axis_phases(kernel[i], step[i], dilations[i], pads[i], output[i]);
            for phase in phases.iter_mut().filter(|p| p.start >= input[i] as isize) {
                // It would read padding alone.
                phase.taps.clear();
                (phase.start, phase.dilation) = (0, 1);
            }
            phases
        });
        let margin = |phases: &[AxisPhase], inputs: usize| -> Option<[usize; 2]> {
            let first = phases.iter().map(|p| p.start).min()?;
            let last = phases.iter().map(AxisPhase::end).max()?;
            Some([
                first.min(0).unsigned_abs(),
                usize::try_from(last + 1 - inputs as isize).unwrap_or(0),
            ])
        };
        let ([top, bottom], [left, right]) = (margin(&axes[0], input[0])?, margin(&axes[1], input[1])?);
        let halo = Halo {
            top,
            bottom,
            left,
            right,
        };
        Some(Self { axes, step, halo })
    }

    /// All phases; `kernel` makes one from its window and the places of its taps in a kernel of that width. A phase that
    /// no tap meets has one tap and no place.
    fn phases(
        &self,
        width: usize,
        mut kernel: impl FnMut(Window, &[usize]) -> Option<PhaseKernel>,
    ) -> Option<Vec<Phase>> {
        let mut phases = Vec::new();
        for y in &self.axes[0] {
            for x in &self.axes[1] {
                let window = Window {
                    kernel: [y.taps.len().max(1), x.taps.len().max(1)],
                    stride: [1, 1],
                    dilation: [y.dilation, x.dilation],
                    pad_begin: [y.start, x.start].map(|start| start.min(0).unsigned_abs()),
                };
                let taps = y
                    .taps
                    .iter()
                    .flat_map(|ty| x.taps.iter().map(move |tx| ty * width + tx));
                phases.push(Phase {
                    kernel: kernel(window, &taps.collect::<Vec<_>>())?,
                    skip: [y.start, x.start].map(|start| start.max(0).unsigned_abs()),
                    first: [y.first, x.first],
                    count: [y.count, x.count],
                    step: self.step,
                });
            }
        }
        Some(phases)
    }
}

/// The taps of one phase of every plane of a kernel, zeros where it has none.
fn pick<T: Copy + Default>(values: &[T], taps: usize, window: Window, places: &[usize]) -> Vec<T> {
    let mut picked = Vec::new();
    for values in values.chunks_exact(taps.max(1)) {
        if is_empty(window, places) {
            picked.extend(std::iter::repeat_n(T::default(), window.taps()));
        } else {
            picked.extend(places.iter().map(|&place| values[place]));
        }
    }
    picked
}

/// Whether no tap meets a phase.
fn is_empty(window: Window, places: &[usize]) -> bool {
    places.len() < window.taps()
}

impl Lowering<'_> {
    pub(super) fn quantized_deconvolution(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedDeconvolution(q) = &node.op else {
            return None;
        };
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let ([_, ic, h, w], [_, oc, oh, ow]) = (image_dims(&input)?, image_dims(&output)?);
        let [_, _, kh, kw] = kernel_dims(weights.shape())?;
        let site = Site {
            rank: output.len(),
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, Abilities::EVERYTHING, Chain::start(Value::of(id)))?;
        let bias = bias_of(self.element_type(data)) as i32;
        let zero_points: Vec<i32> = q.data_zero_point.iter().map(|z| z + bias).collect();
        let fill = zero_points.first().and_then(|&z| u8::try_from(z).ok())?;
        let plan = Plan::new(&q.conv, [kh, kw], [h, w], [oh, ow])?;
        let packed = Weights {
            codes: weight_codes(weights)?,
            zero_point: &q.weight_zero_point,
            data_zero_point: &zero_points,
        };
        let sum = Sum {
            weights: &packed,
            taps: Taps::transposed(
                [kh, kw],
                two(&q.conv.strides, 1)?,
                two(&q.conv.dilations, 1)?,
                two(&q.conv.pads_begin, 0)?,
            ),
            kernel: [kh, kw],
            inputs: ic,
            groups: q.groups,
            block: usize::MAX,
            axis: 1,
        };
        let guard = self.literal_sums(id, &chain, site, &sum);
        let (chain, guard) = self.or_real(id, site, chain, guard)?;
        let (epilogue, guard) = finish(oc, &chain, guard)?;
        // The halo holds one code for all channels.
        if plan.halo != Halo::default() && zero_points.iter().any(|&z| z != i32::from(fill)) {
            return None;
        }
        let depthwise = q.groups == ic && q.groups == oc;
        let stride = super::pixel_stride(self.element_type(data), ic);
        let channels = Channels {
            input: ic,
            output: oc,
            groups: q.groups,
        };
        let given = weight_codes(weights)?;
        let phases = plan.phases(kw, |window, places| {
            let (signed, unsigned);
            let codes = match given {
                WeightCodes::I8(codes) => {
                    signed = pick(codes, kh * kw, window, places);
                    WeightCodes::I8(&signed)
                }
                WeightCodes::U8(codes) => {
                    unsigned = pick(codes, kh * kw, window, places);
                    WeightCodes::U8(&unsigned)
                }
            };
            // Codes of 0 mean 0 there: no code need mean 0 with the zero points of the others.
            let zero_point = if is_empty(window, places) {
                &[0]
            } else {
                q.weight_zero_point.as_slice()
            };
            let packed = Weights {
                codes,
                zero_point,
                data_zero_point: &zero_points,
            };
            let epilogue = epilogue.clone();
            Some(if depthwise {
                PhaseKernel::Depthwise(Box::new(
                    DepthwiseU8::new(self.table, window, &packed, epilogue).ok()?,
                ))
            } else {
                let conv = ConvU8::new(self.table, window, channels, &packed, epilogue, stride).ok()?;
                PhaseKernel::Dense(Box::new(conv))
            })
        })?;
        let heavy = Heavy {
            form: Form::Image,
            halo: Some((plan.halo, fill)),
            macs: macs(&input, oc / q.groups * kh * kw),
            ..Heavy::new(Action::Phases(phases), data).guarded(guard)
        };
        Some((heavy, chain))
    }

    /// In f32.
    pub(super) fn deconvolution(&self, id: NodeId, conv: &ConvAttrs) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let ([_, ic, h, w], [_, oc, oh, ow]) = (image_dims(&input)?, image_dims(&output)?);
        let (groups, kernel) = match (&node.op, weights.shape()) {
            (Op::ConvolutionBackpropData(_), kernel) => (1, kernel),
            (_, [groups, kernel @ ..]) => (*groups, kernel),
            _ => return None,
        };
        let [group_ic, group_oc, kh, kw] = kernel_dims(kernel)?;
        if weights.element_type() != ElementType::F32 || self.element_type(data) != ElementType::F32 {
            return None;
        }
        let site = Site {
            rank: output.len(),
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, Abilities::REAL, Chain::start(Value::of(id)))?;
        let taps = kh * kw;
        // From [group][input channel][output channel] to [group][output channel][input channel]; a scale after the
        // sum moves into the weights.
        let given = weights.to_f32();
        let mut values = Vec::with_capacity(given.len());
        for channel in 0..oc {
            let (group, inside) = (channel / group_oc, channel % group_oc);
            for from in 0..group_ic {
                let plane = (group * group_ic + from) * group_oc + inside;
                let scale = chain.first.scale.at(channel);
                let plane = given.get(plane * taps..(plane + 1) * taps)?;
                values.extend(plane.iter().map(|&v| (f64::from(v) * scale) as f32));
            }
        }
        let plan = Plan::new(conv, [kh, kw], [h, w], [oh, ow])?;
        let channels = Channels {
            input: ic,
            output: oc,
            groups,
        };
        let phases = plan.phases(kw, |window, places| {
            let values = pick(&values, taps, window, places);
            let epilogue = EpilogueF32::new(
                oc,
                &chain.first.offset.to_f32(),
                &chain.low.to_f32(),
                &chain.high.to_f32(),
            )
            .ok()?;
            Some(if groups == ic && groups == oc {
                PhaseKernel::DepthwiseF32(Box::new(DepthwiseF32::new(window, &values, epilogue).ok()?))
            } else {
                let conv = ConvF32::new(self.table, window, channels, &values, epilogue).ok()?;
                PhaseKernel::DenseF32(Box::new(conv))
            })
        })?;
        let heavy = Heavy {
            form: Form::Image,
            halo: Some((plan.halo, 0)),
            macs: macs(&input, group_oc * taps),
            ..Heavy::new(Action::Phases(phases), data)
        };
        Some((heavy, chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_meet_every_product_once() {
        for (taps, stride, dilation, pad) in [
            (3, 2, 1, 1),
            (4, 2, 1, 1),
            (2, 3, 2, 0),
            (5, 4, 3, -1),
            (3, 1, 2, 4),
        ] {
            let (inputs, outputs) = (6_isize, 20);
            let mut expected = vec![];
            for i in 0..inputs {
                for t in 0..taps {
                    let y = i * stride as isize + (t * dilation) as isize - pad;
                    if (0..outputs as isize).contains(&y) {
                        expected.push((y, i, t));
                    }
                }
            }
            let mut found = vec![];
            for p in axis_phases(taps, stride, dilation, pad, outputs) {
                for q in 0..p.count {
                    for (j, &t) in p.taps.iter().enumerate() {
                        let i = p.start + (q + j * p.dilation) as isize;
                        assert!(i <= p.end());
                        if (0..inputs).contains(&i) {
                            found.push(((p.first + q * stride) as isize, i, t));
                        }
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
