//! The arithmetic of [`Literal`](crate::kernels::literal::Literal) on vectors.

use super::Vector;
use crate::kernels::AlignedVec;
use crate::kernels::literal::{Arithmetic, Doubt, LANES, LiteralArgs, Portable, SIDE};

impl<V: Vector> Arithmetic for V {
    const FMA: bool = V::FUSED;

    #[inline(always)]
    unsafe fn finish(args: &mut LiteralArgs<'_, '_>) {
        let (literal, e) = (args.literal, &args.literal.epilogue);
        let (width, channels) = (args.output.layout().width, args.output.layout().channels);
        let [first_row, rows] = args.rows;
        let scratch = &mut *args.scratch;
        for y in 0..rows {
            for x in 0..width {
                let pixel = &scratch.sums[(y * width + x) * args.stride..][..args.stride];
                let row = first_row + y;
                let codes_at = args.operand.map_or(std::ptr::null(), |view| {
                    let l = view.layout();
                    view.origin().wrapping_add(row * l.row_pitch + x * l.pixel_stride)
                });
                let to = args.output.pixel(row, x);
                for (block, sums) in pixel.chunks_exact(LANES).enumerate() {
                    let mut doubt = 0;
                    let left = channels - block * LANES;
                    for part in (0..left.min(LANES)).step_by(V::LANES) {
                        let (c, used) = (block * LANES + part, left - part);
                        // SAFETY: 16 sums; per-channel arrays are padded by a block; pixels lie in views that were
                        // checked, and only their channels are accessed.
                        unsafe {
                            let array = |a: &AlignedVec<f32>| a.as_ptr().add(c);
                            let half = V::splat_f32(0.5);
                            let mut in_doubt = 0;
                            let mut f = V::load_f32(sums.as_ptr().add(part));
                            if let Some(mid) = &e.mid {
                                let (low, high) = (V::splat_f32(mid.low), V::splat_f32(mid.high));
                                let one = V::splat_f32(1.0);
                                let off = V::abs_f32(V::sub_f32(f, V::round_f32(f)));
                                let near = V::sub_f32(half, V::load_f32(array(&literal.margin)));
                                in_doubt |= V::greater(off, near)
                                    & V::greater(f, V::sub_f32(low, one))
                                    & V::greater(V::add_f32(high, one), f);
                                f = V::round_f32(V::min_f32(V::max_f32(f, low), high));
                                f = V::mul_f32(f, V::load_f32(array(&mid.scale)));
                                f = V::add_f32(f, V::load_f32(array(&mid.offset)));
                            }
                            if let Some(r) = &e.residual {
                                let r_scale = V::load_f32(array(&r.scale));
                                let codes = V::to_f32(V::load_codes(codes_at.add(c), used));
                                let r = V::add_f32(V::mul_f32(codes, r_scale), V::load_f32(array(&r.offset)));
                                f = V::add_f32(f, r);
                            }
                            let (low, high) = (V::load_f32(array(&e.low)), V::load_f32(array(&e.high)));
                            let margin = V::load_f32(array(&literal.last_margin));
                            let off = V::abs_f32(V::sub_f32(f, V::round_f32(f)));
                            in_doubt |= V::greater(off, V::sub_f32(half, margin))
                                & V::greater(f, V::sub_f32(low, margin))
                                & V::greater(V::add_f32(high, margin), f);
                            let q = V::to_i32(V::min_f32(V::max_f32(f, low), high));
                            let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
                            V::store_codes(to.add(c), used, q, low, high);
                            if let Some(table) = &e.table {
                                for i in c..c + used.min(V::LANES) {
                                    *to.add(i) = table[usize::from(*to.add(i))];
                                }
                            }
                            doubt |= if used < V::LANES {
                                in_doubt & ((1 << used) - 1)
                            } else {
                                in_doubt
                            };
                        }
                    }
                    if doubt != 0 {
                        scratch.doubts.push(Doubt {
                            channel: (block * LANES) as u32,
                            row: row as u32,
                            column: x as u32,
                        });
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn chain(weights: &[f32], columns: &[f32]) -> [[f32; LANES]; SIDE] {
        let mut out = [[0.0; LANES]; SIDE];
        // SAFETY: the caller's contract; a term has `LANES` weights and `SIDE` columns.
        unsafe {
            let mut in_doubt = V::zero();
            // Four vectors of each side at most stay in registers.
            for first in (0..LANES).step_by(V::LANES) {
                let mut acc = [V::splat_f32(0.0); SIDE];
                for (w, x) in weights.chunks_exact(LANES).zip(columns.chunks_exact(SIDE)) {
                    let w = V::load_f32(w.as_ptr().add(first));
                    for side in 0..SIDE {
                        acc[side] = V::fused(V::splat_f32(x[side]), w, acc[side], &mut in_doubt);
                    }
                }
                for side in 0..SIDE {
                    V::store_f32(out[side].as_mut_ptr().add(first), V::LANES, acc[side]);
                }
            }
            if !V::FUSED && V::any(in_doubt) {
                return Portable::chain(weights, columns);
            }
        }
        out
    }
}
