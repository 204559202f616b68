//! Pooling.

use std::ops::Range;

use crate::kernels::{AverageOver, AvgPoolArgs, MaxPoolArgs, Window};

/// Input coordinates along `axis` of the taps of output `o` that lie in an image of `len`.
pub(crate) fn clip(
    window: &Window,
    axis: usize,
    o: usize,
    len: usize,
) -> impl Iterator<Item = usize> + Clone + use<> {
    let start = o * window.stride[axis];
    let (pad, dilation) = (window.pad_begin[axis], window.dilation[axis]);
    (0..window.kernel[axis])
        .filter_map(move |k| (start + k * dilation).checked_sub(pad))
        .take_while(move |&i| i < len)
}

pub(crate) fn max_pool<T: Copy + PartialOrd>(args: &mut MaxPoolArgs<'_, T>, rows: Range<usize>) {
    let l = *args.input.layout();
    for y in rows {
        for x in 0..args.output.layout().width {
            for c in 0..l.channels {
                let mut max = None;
                for iy in clip(&args.window, 0, y, l.height) {
                    for ix in clip(&args.window, 1, x, l.width) {
                        let v = args.input.at(iy as isize, ix as isize, c);
                        max = Some(match max {
                            Some(m) if m > v => m,
                            _ => v,
                        });
                    }
                }
                if let Some(max) = max {
                    // SAFETY: (y, x, c) lies in the output, whose view was checked.
                    unsafe { *args.output.pixel(y, x).add(c) = max };
                }
            }
        }
    }
}

pub(crate) fn avg_pool_u8(args: &mut AvgPoolArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    let taps = args.window.taps();
    for y in rows {
        let ys = clip(&args.window, 0, y, l.height);
        for x in 0..args.output.layout().width {
            let xs = clip(&args.window, 1, x, l.width);
            let valid = ys.clone().count() * xs.clone().count();
            let (start, count) = match args.over {
                AverageOver::Valid => (0, valid),
                AverageOver::Nothing => (0, 1),
                AverageOver::All { pad_code } => ((taps - valid) as i32 * i32::from(pad_code), taps),
            };
            for c in 0..l.channels {
                let mut sum = start;
                for iy in ys.clone() {
                    for ix in xs.clone() {
                        sum += i32::from(args.input.at(iy as isize, ix as isize, c));
                    }
                }
                finish_average(args, (y, x), c, sum, count);
            }
        }
    }
}

/// Writes one output: the scale of the epilogue divided by `count`.
pub(crate) fn finish_average(
    args: &mut AvgPoolArgs<'_>,
    (y, x): (usize, usize),
    c: usize,
    sum: i32,
    count: usize,
) {
    let scale = args.epilogue.scale[c] / count as f32;
    let f = args.epilogue.apply_scaled(sum, scale, c, || 0);
    let in_doubt = || args.epilogue.doubt_scaled(sum, scale, c, 0, 0.0);
    super::write(args.epilogue, &mut args.output, (y, x), c, f, in_doubt);
}
