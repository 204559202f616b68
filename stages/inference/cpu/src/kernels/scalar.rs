//! Portable kernels: the reference for all others, and the fallback.

mod conv;
mod peak;
mod pixelwise;
mod pool;

pub(crate) use conv::{conv_f32, conv_u8, depthwise_f32, depthwise_u8};
pub(crate) use peak::{peak_f32, peak_u8};
pub(crate) use pixelwise::{affine_u8, copy, lookup_u8, quantize};
pub(crate) use pool::{avg_pool_u8, max_pool};

use super::ties::{Share, note};
use super::{Epilogue, Output, View};

/// Writes channels `first .. first + sums.len()` of output pixel `(y, x)`.
#[inline(always)]
pub(super) fn finish(
    epilogue: &Epilogue,
    output: &mut Output<'_>,
    residual: Option<&View<'_, u8>>,
    (y, x): (usize, usize),
    first: usize,
    sums: &[i32],
) {
    for (i, &sum) in sums.iter().enumerate() {
        let c = first + i;
        let code = || residual.map_or(0, |r| r.at(y as isize, x as isize, c));
        let mut in_doubt = false;
        let f = epilogue.apply_noting(sum, epilogue.scale[c], c, code, &mut in_doubt);
        let share = in_doubt.then(|| epilogue.doubt(sum, c, code())).flatten();
        write(epilogue, output, (y, x), c, f, share);
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
    in_doubt: Option<Share>,
) {
    // SAFETY: (y, x, c) lies in the output, whose view was checked.
    unsafe {
        match output {
            Output::U8(view) => *view.pixel(y, x).add(c) = epilogue.code(f),
            Output::Noted(view, doubts) => {
                *view.pixel(y, x).add(c) = epilogue.code(f);
                if let Some(share) = in_doubt {
                    note(doubts, (y, x), std::iter::once((c, share)));
                }
            }
            Output::F32(view) => *view.pixel(y, x).add(c) = f,
        }
    }
}
