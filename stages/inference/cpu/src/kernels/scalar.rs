//! Portable kernels: the reference for all others, and the fallback.

mod conv;
mod peak;
mod pixelwise;
mod pool;

pub(crate) use conv::{conv_f32, conv_u8, depthwise_f32, depthwise_u8};
pub(crate) use peak::{peak_f32, peak_u8};
pub(crate) use pixelwise::{affine_u8, copy, lookup_u8, quantize};
pub(crate) use pool::{avg_pool_u8, max_pool};

use super::ties::note;
use super::{Epilogue, Output, View};

/// Writes channels `first .. first + sums.len()` of output pixel `(y, x)`; `rest` as for [`Epilogue::doubt`].
#[inline(always)]
pub(super) fn finish(
    epilogue: &Epilogue,
    output: &mut Output<'_>,
    residual: Option<&View<'_, u8>>,
    (y, x): (usize, usize),
    first: usize,
    (sums, rest): (&[i32], f32),
) {
    for (i, &sum) in sums.iter().enumerate() {
        let c = first + i;
        let code = || residual.map_or(0, |r| r.at(y as isize, x as isize, c));
        let f = epilogue.apply(sum, c, code);
        let in_doubt = || epilogue.doubt(sum, c, code(), rest);
        write(epilogue, output, (y, x), c, f, in_doubt);
    }
}

/// Writes a value before the last rounding to channel `c` of an output pixel.
#[inline(always)]
fn write(
    epilogue: &Epilogue,
    output: &mut Output<'_>,
    (y, x): (usize, usize),
    c: usize,
    f: f32,
    in_doubt: impl FnOnce() -> bool,
) {
    // SAFETY: (y, x, c) lies in the output, whose view was checked.
    unsafe {
        match output {
            Output::U8(view) => *view.pixel(y, x).add(c) = epilogue.code(f),
            Output::Noted(view, doubts) => {
                *view.pixel(y, x).add(c) = epilogue.code(f);
                if in_doubt() {
                    note(doubts, (y, x), c);
                }
            }
            Output::F32(view) => *view.pixel(y, x).add(c) = f,
        }
    }
}
