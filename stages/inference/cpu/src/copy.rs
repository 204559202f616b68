//! Copies between placements: layout changes, and every operation that only moves elements.

use crate::nest::{Loop, Nest};
use crate::placement::Placement;

/// A copy as a list of loop nests over (destination, source).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyPlan {
    nests: Vec<Nest<2>>,
    /// What does the same in fewer passes.
    pixels: Option<Pixels>,
}

/// Planes that become pixels of a few channels without gaps, as those of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pixels {
    /// Rows of pixels: of the first plane.
    rows: Nest<2>,
    channels: usize,
    /// From a plane to the next.
    plane: usize,
}

impl Pixels {
    fn of(nest: &Nest<2>) -> Option<Self> {
        let [pixel, 1] = nest.inner().strides else {
            return None;
        };
        let (planes, rows) =
            nest.without(|l| l.strides[0] == 1 && l.count == pixel && [2, 3, 4].contains(&l.count))?;
        Some(Self {
            rows,
            channels: planes.count,
            plane: planes.strides[1],
        })
    }

    fn run<T: Copy>(&self, to: &mut [T], from: &[T]) {
        let count = self.rows.inner().count;
        self.rows.rows(|[d, s]| {
            let to = &mut to[d..d + count * self.channels];
            match self.channels {
                2 => interleave::<T, 2>(to, &from[s..], self.plane),
                3 => interleave::<T, 3>(to, &from[s..], self.plane),
                _ => interleave::<T, 4>(to, &from[s..], self.plane),
            }
        });
    }
}

/// Pixels of `C` channels, whose planes lie `plane` apart.
fn interleave<T: Copy, const C: usize>(to: &mut [T], from: &[T], plane: usize) {
    let (pixels, _) = to.as_chunks_mut::<C>();
    let planes: [&[T]; C] = std::array::from_fn(|c| &from[c * plane..][..pixels.len()]);
    for (x, pixel) in pixels.iter_mut().enumerate() {
        for c in 0..C {
            pixel[c] = planes[c][x];
        }
    }
}

impl CopyPlan {
    /// Copies a value of the same logical shape from one placement to another.
    pub fn relayout(from: &Placement, to: &Placement) -> Self {
        debug_assert_eq!(from.shape(), to.shape());
        let nest = Nest::new(
            &to.shape(),
            [to.offset(), from.offset()],
            [&to.strides(), &from.strides()],
        );
        Self {
            pixels: Pixels::of(&nest),
            nests: vec![nest],
        }
    }

    /// Copies a value into the part of `to` that begins at `start` along `axis`.
    pub fn into_part(from: &Placement, to: &Placement, axis: usize, start: usize) -> Self {
        let strides = to.strides();
        let nest = Nest::new(
            &from.shape(),
            [to.offset() + start * strides[axis], from.offset()],
            [&strides, &from.strides()],
        );
        Self {
            nests: vec![nest],
            pixels: None,
        }
    }

    /// Copies element `map[i]` of `from` (both counted row-major in logical order) to element `i` of `part`,
    /// a value of shape `part` that begins at `start` along `axis` of `to`.
    pub fn gather(
        from: &Placement,
        map: &[u32],
        to: &Placement,
        part: &[usize],
        axis: usize,
        start: usize,
    ) -> Self {
        let strides = to.strides();
        let origin = to.offset() + strides.get(axis).map_or(0, |s| s * start);
        let source = physical_offsets(from);
        // Visit the destination in memory order: runs are longest there.
        let mut order: Vec<usize> = (0..part.len()).collect();
        order.sort_by_key(|&a| std::cmp::Reverse(strides[a]));
        let logical = crate::nest::row_major(part);
        let loops: Vec<Loop<2>> = order
            .iter()
            .map(|&a| Loop {
                count: part[a],
                strides: [strides[a], logical[a]],
            })
            .collect();
        let mut pairs = Vec::with_capacity(map.len());
        visit(&loops, [origin, 0], &mut |[d, i]| {
            pairs.push(Run {
                at: [d, source[map[i] as usize]],
                loops: Vec::new(),
            });
        });
        let mut runs = pairs;
        for _ in 0..4 {
            runs = fold(runs);
        }
        let nests = runs
            .into_iter()
            .map(|run| {
                let mut loops = run.loops;
                loops.reverse();
                Nest::in_order(run.at, loops)
            })
            .collect();
        Self { nests, pixels: None }
    }

    /// Runs the copy on elements of any plain type.
    pub fn run<T: Copy>(&self, to: &mut [T], from: &[T]) {
        if let Some(pixels) = &self.pixels {
            return pixels.run(to, from);
        }
        for nest in &self.nests {
            let Loop {
                count,
                strides: [d_step, s_step],
            } = nest.inner();
            nest.rows(|[d, s]| match (d_step, s_step) {
                (1, 1) => to[d..d + count].copy_from_slice(&from[s..s + count]),
                (1, 0) => to[d..d + count].fill(from[s]),
                (1, step) => {
                    for (to, from) in to[d..d + count].iter_mut().zip(from[s..].iter().step_by(step)) {
                        *to = *from;
                    }
                }
                _ => {
                    for i in 0..count {
                        to[d + i * d_step] = from[s + i * s_step];
                    }
                }
            });
        }
    }
}

/// A run being built: where it begins and its loops, innermost first.
#[derive(PartialEq, Eq)]
struct Run {
    at: [usize; 2],
    loops: Vec<Loop<2>>,
}

/// Joins neighbouring runs of the same shape at equal, forward distances into one run with one more loop.
fn fold(runs: Vec<Run>) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    let mut runs = runs.into_iter().peekable();
    while let Some(first) = runs.next() {
        let mut count = 1;
        let mut step: Option<[usize; 2]> = None;
        let mut last = first.at;
        while let Some(next) = runs.peek() {
            if next.loops != first.loops {
                break;
            }
            let (Some(d), Some(s)) = (next.at[0].checked_sub(last[0]), next.at[1].checked_sub(last[1]))
            else {
                break;
            };
            match step {
                None => step = Some([d, s]),
                Some(step) if step == [d, s] => {}
                Some(_) => break,
            }
            last = next.at;
            count += 1;
            runs.next();
        }
        let mut run = first;
        if let Some(strides) = step {
            run.loops.push(Loop { count, strides });
        }
        out.push(run);
    }
    out
}

fn visit<const N: usize>(loops: &[Loop<N>], mut at: [usize; N], f: &mut impl FnMut([usize; N])) {
    let Some((first, rest)) = loops.split_first() else {
        return f(at);
    };
    for _ in 0..first.count {
        visit(rest, at, f);
        for (at, stride) in at.iter_mut().zip(first.strides) {
            *at += stride;
        }
    }
}

/// The place of each element of a value, in row-major logical order.
fn physical_offsets(placement: &Placement) -> Vec<usize> {
    let (shape, strides) = (placement.shape(), placement.strides());
    let loops: Vec<Loop<1>> = shape
        .iter()
        .zip(&strides)
        .map(|(&count, &stride)| Loop {
            count,
            strides: [stride],
        })
        .collect();
    let mut offsets = Vec::with_capacity(shape.iter().product());
    visit(&loops, [placement.offset()], &mut |[at]| offsets.push(at));
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Halo;
    use crate::placement::Image;
    use proptest::prelude::*;

    fn image(channels: usize, height: usize, width: usize, pixel_stride: usize, pad: usize) -> Placement {
        Placement::Image(Image {
            rank: 4,
            batch: 1,
            channels,
            height,
            width,
            pixel_stride,
            halo: Halo {
                top: pad,
                bottom: pad,
                left: pad,
                right: pad,
            },
        })
    }

    #[test]
    fn a_relayout_there_and_back_is_the_identity() {
        let plain = Placement::plain(&[1, 3, 4, 5]);
        let nhwc = image(3, 4, 5, 16, 1);
        let data: Vec<u8> = (0..60).collect();
        let mut there = vec![0; nhwc.elements().unwrap()];
        CopyPlan::relayout(&plain, &nhwc).run(&mut there, &data);
        let mut back = vec![0; 60];
        CopyPlan::relayout(&nhwc, &plain).run(&mut back, &there);
        assert_eq!(back, data);
    }

    #[test]
    fn planes_become_pixels_in_one_pass() {
        for (channels, pixel) in [(2, 2), (3, 3), (4, 4), (3, 4), (5, 5)] {
            let plain = Placement::plain(&[2, channels, 6, 7]);
            let Placement::Image(mut pixels) = image(channels, 6, 7, pixel, 2) else {
                unreachable!("an image");
            };
            pixels.batch = 2;
            let pixels = Placement::Image(pixels);
            let plan = CopyPlan::relayout(&plain, &pixels);
            assert_eq!(plan.pixels.is_some(), channels == pixel && channels < 5);
            let data: Vec<u32> = (0..(2 * channels * 42) as u32).collect();
            let mut there = vec![u32::MAX; pixels.elements().unwrap()];
            plan.run(&mut there, &data);
            let mut slow = vec![u32::MAX; there.len()];
            CopyPlan { pixels: None, ..plan }.run(&mut slow, &data);
            assert_eq!(there, slow);
        }
    }

    #[test]
    fn a_channel_shuffle_folds_to_one_nest() {
        let from = image(8, 6, 7, 8, 1);
        let to = image(4, 6, 7, 4, 0);
        // Even channels.
        let map: Vec<u32> = (0..4 * 42).map(|i| (i / 42 * 2 * 42 + i % 42) as u32).collect();
        let plan = CopyPlan::gather(&from, &map, &to, &[1, 4, 6, 7], 0, 0);
        assert_eq!(plan.nests.len(), 1);
    }

    proptest! {
        #[test]
        fn a_gather_moves_what_the_map_says(
            (c, h, w) in (1usize..5, 1usize..5, 1usize..5),
            out in (1usize..5, 1usize..4, 1usize..4),
            seed in any::<u64>(),
        ) {
            let from = image(c, h, w, c + 2, 1);
            let part = [1, out.0, out.1, out.2];
            let to = image(out.0 + 3, out.1, out.2, out.0 + 4, 2);
            let n = part.iter().product::<usize>();
            let map: Vec<u32> = (0..n as u64)
                .map(|i| ((seed ^ (i * 0x9E37)) % (c * h * w) as u64) as u32)
                .collect();
            let plain = Placement::plain(&[1, c, h, w]);
            let values: Vec<u32> = (0..(c * h * w) as u32).collect();
            let mut source = vec![u32::MAX; from.elements().unwrap()];
            CopyPlan::relayout(&plain, &from).run(&mut source, &values);
            let mut target = vec![u32::MAX; to.elements().unwrap()];
            CopyPlan::gather(&from, &map, &to, &part, 1, 3).run(&mut target, &source);
            let whole = Placement::plain(&[1, out.0 + 3, out.1, out.2]);
            let mut dense = vec![0; whole.elements().unwrap()];
            CopyPlan::relayout(&to, &whole).run(&mut dense, &target);
            prop_assert_eq!(&dense[3 * out.1 * out.2..], &map[..]);
            prop_assert!(dense[..3 * out.1 * out.2].iter().all(|&v| v == u32::MAX));
        }
    }
}
