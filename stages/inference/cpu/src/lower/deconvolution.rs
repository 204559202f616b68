//! Transposed convolutions of codes: one ordinary convolution per phase of the stride.
//!
//! Along an axis, output `y` sums the taps `t` with `y + pad = in * stride + t * dilation`. Outputs a stride apart
//! read the same taps at neighbouring inputs: a convolution of stride 1 with those taps in descending order.

use flow_model::op::{Op, QuantizedDeconv};
use flow_model::{NodeId, Value};

use super::chain::{Abilities, Chain, Site, bias_of};
use super::convolution::weight_codes;
use super::heavy::{Heavy, epilogue, macs};
use super::window::{image_dims, kernel_dims, two};
use super::{Action, Form, Lowering};
use crate::kernels::{Channels, ConvU8, DepthwiseU8, Halo, Layout, WeightCodes, Weights, Window};

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

impl Lowering<'_> {
    pub(super) fn quantized_deconvolution(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedDeconvolution(q) = &node.op else {
            return None;
        };
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let output = self.shape(Value::of(id));
        let [_, ic, h, w] = image_dims(&self.shape(data))?;
        let [_, oc, oh, ow] = image_dims(&output)?;
        let [_, group_ic, kh, kw] = kernel_dims(weights.shape())?;
        let site = Site {
            rank: output.len(),
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, Abilities::EVERYTHING, Chain::start(Value::of(id)))?;
        let bias = bias_of(self.element_type(data)) as i32;
        let zero_points: Vec<i32> = q.data_zero_point.iter().map(|z| z + bias).collect();
        let fill = zero_points.first().and_then(|&z| u8::try_from(z).ok())?;
        let [axis_y, axis_x] = axes(q, [kh, kw], [oh, ow])?;
        let margin = |phases: &[AxisPhase], inputs: usize| -> Option<[usize; 2]> {
            let first = phases.iter().map(|p| p.start).min()?;
            let last = phases.iter().map(AxisPhase::end).max()?;
            // A phase that begins behind the image reads padding alone: too rare for a kernel.
            let inside = phases.iter().all(|p| p.start < inputs as isize);
            inside.then_some([
                first.min(0).unsigned_abs(),
                usize::try_from(last + 1 - inputs as isize).unwrap_or(0),
            ])
        };
        let ([top, bottom], [left, right]) = (margin(&axis_y, h)?, margin(&axis_x, w)?);
        let halo = Halo {
            top,
            bottom,
            left,
            right,
        };
        // The halo holds one code for all channels.
        if halo != Halo::default() && zero_points.iter().any(|&z| z != i32::from(fill)) {
            return None;
        }
        let depthwise = q.groups == ic && q.groups == oc;
        let stride = super::pixel_stride(self.element_type(data), ic);
        let channels = Channels {
            input: ic,
            output: oc,
            groups: q.groups,
        };
        let mut phases = Vec::new();
        for y in &axis_y {
            for x in &axis_x {
                let window = Window {
                    kernel: [y.taps.len().max(1), x.taps.len().max(1)],
                    stride: [1, 1],
                    dilation: [y.dilation, x.dilation],
                    pad_begin: [y.start, x.start].map(|start| start.min(0).unsigned_abs()),
                };
                let places: Vec<usize> = y
                    .taps
                    .iter()
                    .flat_map(|ty| x.taps.iter().map(move |tx| ty * kw + tx))
                    .collect();
                let pick = |plane: usize| places.iter().map(move |&place| plane * kh * kw + place);
                let mut signed = Vec::new();
                let mut unsigned = Vec::new();
                let given = weight_codes(weights)?;
                for plane in 0..oc * group_ic {
                    // A phase that no tap meets: one tap that weighs nothing.
                    let nothing = q.weight_zero_point[if q.weight_zero_point.len() == 1 {
                        0
                    } else {
                        plane / group_ic
                    }];
                    match given {
                        WeightCodes::I8(_) if places.len() < window.taps() => {
                            signed.extend(std::iter::repeat_n(i8::try_from(nothing).ok()?, window.taps()));
                        }
                        WeightCodes::U8(_) if places.len() < window.taps() => {
                            unsigned.extend(std::iter::repeat_n(u8::try_from(nothing).ok()?, window.taps()));
                        }
                        WeightCodes::I8(codes) => signed.extend(pick(plane).map(|at| codes[at])),
                        WeightCodes::U8(codes) => unsigned.extend(pick(plane).map(|at| codes[at])),
                    }
                }
                let packed = Weights {
                    codes: match given {
                        WeightCodes::I8(_) => WeightCodes::I8(&signed),
                        WeightCodes::U8(_) => WeightCodes::U8(&unsigned),
                    },
                    zero_point: &q.weight_zero_point,
                    data_zero_point: &zero_points,
                };
                let epilogue = epilogue(oc, &chain).ok()?;
                let kernel = if depthwise {
                    PhaseKernel::Depthwise(Box::new(
                        DepthwiseU8::new(self.table, window, &packed, epilogue).ok()?,
                    ))
                } else {
                    let conv = ConvU8::new(self.table, window, channels, &packed, epilogue, stride).ok()?;
                    PhaseKernel::Dense(Box::new(conv))
                };
                phases.push(Phase {
                    kernel,
                    skip: [y.start, x.start].map(|start| start.max(0).unsigned_abs()),
                    first: [y.first, x.first],
                    count: [y.count, x.count],
                    step: two(&q.conv.strides, 1)?,
                });
            }
        }
        let inputs: Vec<usize> = self.shape(data);
        let heavy = Heavy {
            form: Form::Image,
            halo: Some((halo, fill)),
            macs: macs(&inputs, oc / q.groups * kh * kw),
            ..Heavy::new(Action::Phases(phases), data)
        };
        Some((heavy, chain))
    }
}

fn axes(q: &QuantizedDeconv, kernel: [usize; 2], outputs: [usize; 2]) -> Option<[Vec<AxisPhase>; 2]> {
    let (strides, dilations) = (two(&q.conv.strides, 1)?, two(&q.conv.dilations, 1)?);
    let pads = two(&q.conv.pads_begin, 0)?;
    Some([0, 1].map(|i| axis_phases(kernel[i], strides[i], dilations[i], pads[i], outputs[i])))
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
