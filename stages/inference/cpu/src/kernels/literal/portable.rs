//! The arithmetic of [`Literal`](super::Literal) in plain Rust.

use super::super::{AlignedVec, epilogue::clamp};
use super::{Arithmetic, Doubt, LANES, LiteralArgs, SIDE, fused};

/// Any processor.
pub(crate) struct Portable;

impl Arithmetic for Portable {
    const FMA: bool = false;

    unsafe fn finish(args: &mut LiteralArgs<'_, '_>) {
        let (literal, e) = (args.literal, &args.literal.epilogue);
        let (width, channels) = (args.output.layout().width, args.output.layout().channels);
        let [first_row, rows] = args.rows;
        for (y, x) in (0..rows).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let pixel = &args.scratch.sums[(y * width + x) * args.stride..][..args.stride];
            let row = first_row + y;
            for (block, sums) in pixel.chunks_exact(LANES).enumerate() {
                let c = block * LANES;
                let used = LANES.min(channels - c);
                let mut codes = [0_u8; LANES];
                let mut in_doubt = false;
                for i in 0..used {
                    let at = |values: &AlignedVec<f32>| values[c + i];
                    let mut f = sums[i];
                    if let Some(mid) = &e.mid {
                        in_doubt |= (f - f.round_ties_even()).abs() > 0.5 - at(&literal.margin)
                            && f > mid.low - 1.0
                            && f < mid.high + 1.0;
                        f = clamp(f, mid.low, mid.high).round_ties_even() * at(&mid.scale) + at(&mid.offset);
                    }
                    if let (Some(r), Some(view)) = (&e.residual, args.operand) {
                        let code = view.at(row as isize, x as isize, c + i);
                        f += f32::from(code) * at(&r.scale) + at(&r.offset);
                    }
                    let (low, high, margin) = (at(&e.low), at(&e.high), at(&literal.last_margin));
                    in_doubt |= (f - f.round_ties_even()).abs() > 0.5 - margin
                        && f > low - margin
                        && f < high + margin;
                    codes[i] = e.code(clamp(f, low, high));
                }
                // SAFETY: pixel and channels lie in the output, whose view was checked.
                unsafe {
                    let to = args.output.pixel(row, x).add(c);
                    std::ptr::copy_nonoverlapping(codes.as_ptr(), to, used);
                }
                if in_doubt {
                    args.scratch.doubts.push(Doubt {
                        channel: c as u32,
                        row: row as u32,
                        column: x as u32,
                    });
                }
            }
        }
    }

    unsafe fn chain(weights: &[f32], columns: &[f32]) -> [[f32; LANES]; SIDE] {
        let mut sums = [[0.0; LANES]; SIDE];
        for (w, x) in weights.chunks_exact(LANES).zip(columns.chunks_exact(SIDE)) {
            for (sums, &x) in sums.iter_mut().zip(x) {
                for (sum, &w) in sums.iter_mut().zip(w) {
                    *sum = fused::<false>(x, w, *sum);
                }
            }
        }
        sums
    }
}
