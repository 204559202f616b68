//! Which inputs of a convolution or a matrix product meet which of its weights.

use flow_model::op::Op;
use flow_model::{Graph, NodeId, Value};

/// The inputs along one axis that meet one tap of a window: `count` of them, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

impl Met {
    /// The inputs among `length` at `place * stride + offset`, for `places` places.
    fn new(length: usize, places: usize, stride: usize, offset: isize) -> Self {
        let stride = stride.max(1);
        let skipped = offset.min(0).unsigned_abs().div_ceil(stride);
        let first = skipped as isize * stride as isize + offset;
        let first = usize::try_from(first).unwrap_or(0);
        let fitting = length.saturating_sub(first).div_ceil(stride);
        let count = places.saturating_sub(skipped).min(fitting);
        Self {
            first,
            step: stride,
            count,
        }
    }

    /// Whether an input is one of them.
    pub fn has(&self, at: usize) -> bool {
        let offset = at.checked_sub(self.first);
        offset.is_some_and(|o| o.is_multiple_of(self.step) && o / self.step < self.count)
    }
}

/// A window that goes over an input `[N, D, H, W, C]`: channels are last, axes that are not there have one place. The rows of a
/// matrix product are `[N, 1, 1, rows, C]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub channels: usize,
    /// Lengths of the spatial axes of the input.
    pub plane: [usize; 3],
    /// And of the output.
    pub places: [usize; 3],
    /// Taps of the window along each.
    pub taps: [usize; 3],
    strides: [usize; 3],
    dilations: [usize; 3],
    before: [isize; 3],
    /// Whether the value itself has its channels second.
    pub image: bool,
}

impl Window {
    /// The window of a layer whose data is its first input and whose weights are its second; none for a layer that has no
    /// such form.
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let shape = graph.info(*node.inputs.first()?).static_shape()?;
        let weights = graph.info(*node.inputs.get(1)?).static_shape()?;
        let mut window = Self {
            channels: 0,
            plane: [1; 3],
            places: [1; 3],
            taps: [1; 3],
            strides: [1; 3],
            dilations: [1; 3],
            before: [0; 3],
            image: true,
        };
        match &node.op {
            Op::Convolution(attrs) | Op::GroupConvolution(attrs) => {
                let output = graph.info(Value::of(id)).static_shape()?;
                let spatial = shape.len().checked_sub(2).filter(|n| (1..=3).contains(n))?;
                window.channels = shape[1];
                for axis in 0..spatial {
                    let at = 3 - spatial + axis;
                    window.plane[at] = shape[2 + axis];
                    window.places[at] = *output.get(2 + axis)?;
                    window.taps[at] = *weights.get(weights.len().checked_sub(spatial)? + axis)?;
                    window.strides[at] = *attrs.strides.get(axis)?;
                    window.dilations[at] = *attrs.dilations.get(axis)?;
                    window.before[at] = *attrs.pads_begin.get(axis)?;
                }
            }
            Op::MatMul {
                transpose_a: false, ..
            } if shape.len() >= 2 && weights.len() == 2 => {
                window.channels = *shape.last()?;
                window.plane[2] = shape[shape.len() - 2];
                window.places[2] = window.plane[2];
                window.image = false;
            }
            _ => return None,
        }
        Some(window)
    }

    /// Number of taps.
    pub fn size(&self) -> usize {
        self.taps.iter().product()
    }

    /// Where the input lies that a tap meets at the first place, along an axis.
    fn offset(&self, axis: usize, tap: usize) -> isize {
        (tap * self.dilations[axis]) as isize - self.before[axis]
    }

    /// Calls `take` with the channels of the pixel under each tap at a place of the output of one sample, in order of taps; none
    /// where the tap lies beyond the border.
    pub fn patch<'v>(&self, values: &'v [f32], place: usize, mut take: impl FnMut(usize, Option<&'v [f32]>)) {
        let [_, height, width] = self.places;
        let at = [
            place / (height * width).max(1),
            place / width.max(1) % height.max(1),
            place % width.max(1),
        ];
        let mut tap = 0;
        for i in 0..self.taps[0] {
            for j in 0..self.taps[1] {
                for k in 0..self.taps[2] {
                    let mut pixel = Some(0usize);
                    for (axis, of_axis) in [i, j, k].into_iter().enumerate() {
                        let place = (at[axis] * self.strides[axis]) as isize + self.offset(axis, of_axis);
                        let place = usize::try_from(place).ok().filter(|&p| p < self.plane[axis]);
                        pixel = pixel
                            .zip(place)
                            .map(|(pixel, place)| pixel * self.plane[axis] + place);
                    }
                    let channels = self.channels;
                    take(
                        tap,
                        pixel.and_then(|pixel| values.get(pixel * channels..(pixel + 1) * channels)),
                    );
                    tap += 1;
                }
            }
        }
    }

    /// For each tap along each axis what it meets.
    pub fn met(&self) -> [Vec<Met>; 3] {
        [0, 1, 2].map(|axis| {
            let met = |tap| {
                let offset = self.offset(axis, tap);
                Met::new(self.plane[axis], self.places[axis], self.strides[axis], offset)
            };
            (0..self.taps[axis]).map(met).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tap_meets_is_what_lies_under_it() {
        for length in 1..9 {
            for (places, stride, offset) in [
                (1, 1, 0),
                (7, 1, -2),
                (4, 2, -3),
                (3, 3, 1),
                (5, 2, 4),
                (2, 5, -6),
            ] {
                let under = (0..places as isize).map(|p| p * stride as isize + offset);
                let under = under.filter_map(|i| usize::try_from(i).ok().filter(|&i| i < length));
                let under: Vec<usize> = under.collect();
                let met = Met::new(length, places, stride, offset);
                let found: Vec<usize> = (0..met.count).map(|i| met.first + i * met.step).collect();
                assert_eq!(found, under, "{length} {places} {stride} {offset}");
                let has: Vec<usize> = (0..length).filter(|&i| met.has(i)).collect();
                assert_eq!(has, under, "{length} {places} {stride} {offset}");
            }
        }
    }
}
