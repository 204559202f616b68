//! Products of two matrices of codes, both packed when they are known: sums of pairs of 16-bit products, which are
//! exact for codes less any zero point.

use super::ties::{Doubts, note};
use super::versions::{Simd, Width, versions};
use super::{ArgError, Epilogue, error::expect_len, gemm};

/// Columns that lie together in a packed second factor.
const PANEL: usize = gemm::PANEL;

/// Rows of a tile.
pub(crate) const ROWS: usize = 12;

/// Most terms of a sum: `255 * 255` each, within an i32.
pub(crate) const MAX_TERMS: usize = 33_025;

/// Lengths of a product: rows, inner length, columns.
pub(crate) type Size = [usize; 3];

/// Words of the packed factors of a product; `None` on overflow.
pub(crate) fn packed_len([rows, inner, columns]: Size) -> Option<[usize; 2]> {
    let even = inner.checked_next_multiple_of(2)?;
    let columns = columns.checked_next_multiple_of(PANEL)?;
    Some([rows.checked_mul(even)?, columns.checked_mul(even)?])
}

/// Packs a first factor less its zero point as `[row][k]`, element `(i, k)` being at
/// `i * strides[0] + k * strides[1]`; an odd inner length gets a zero more.
///
/// # Errors
/// [`ArgError`] where an element lies outside `codes`, or `to` has a wrong length.
pub(crate) fn pack_left(
    codes: &[u8],
    [rows, inner]: [usize; 2],
    strides: [usize; 2],
    zero_point: i16,
    to: &mut [i16],
) -> Result<(), ArgError> {
    let even = inner.next_multiple_of(2);
    expect_len("words of the first factor", rows.saturating_mul(even), to.len())?;
    if to.is_empty() {
        return Ok(());
    }
    gemm::check("first factor", codes.len(), [rows, inner], strides)?;
    for (i, row) in to.chunks_exact_mut(even).enumerate() {
        let codes = &codes[i * strides[0]..];
        if strides[1] == 1 {
            for (to, &code) in row.iter_mut().zip(&codes[..inner]) {
                *to = i16::from(code) - zero_point;
            }
        } else {
            for (k, to) in row[..inner].iter_mut().enumerate() {
                *to = i16::from(codes[k * strides[1]]) - zero_point;
            }
        }
        row[inner..].fill(0);
    }
    Ok(())
}

/// Packs a second factor less its zero point as `[panel][pair of k][lane][2]`, element `(k, j)` being at
/// `k * strides[0] + j * strides[1]`.
///
/// # Errors
/// As [`pack_left`].
pub(crate) fn pack_right(
    codes: &[u8],
    [inner, columns]: [usize; 2],
    strides: [usize; 2],
    zero_point: i16,
    to: &mut [i16],
) -> Result<(), ArgError> {
    let even = inner.next_multiple_of(2);
    let wide = columns.next_multiple_of(PANEL);
    expect_len("words of the second factor", wide.saturating_mul(even), to.len())?;
    if to.is_empty() {
        return Ok(());
    }
    gemm::check("second factor", codes.len(), [inner, columns], strides)?;
    for (panel, to) in to.chunks_exact_mut(even * PANEL).enumerate() {
        let first = panel * PANEL;
        let used = PANEL.min(columns - first);
        if used < PANEL || even > inner {
            to.fill(0);
        }
        for k in 0..inner {
            let codes = &codes[k * strides[0] + first * strides[1]..];
            let pair = &mut to[k / 2 * 2 * PANEL + k % 2..];
            for (j, to) in pair.iter_mut().step_by(2).take(used).enumerate() {
                *to = i16::from(codes[j * strides[1]]) - zero_point;
            }
        }
    }
    Ok(())
}

/// Sums of up to [`ROWS`] rows of packed factors: `sums` is `[row][columns padded to panels]`.
///
/// # Errors
/// [`ArgError`] where lengths do not fit.
pub(crate) fn multiply_rows(
    simd: Simd,
    left: &[i16],
    right: &[i16],
    [rows, inner, columns]: Size,
    sums: &mut [i32],
) -> Result<(), ArgError> {
    let pairs = inner.div_ceil(2);
    let wide = columns.next_multiple_of(PANEL);
    expect_len("words of the first factor", rows * pairs * 2, left.len())?;
    expect_len("words of the second factor", wide * pairs * 2, right.len())?;
    expect_len("sums", rows * wide, sums.len())?;
    let tiles = match simd.width() {
        #[cfg(target_arch = "x86_64")]
        Width::Wide => wide::TILES,
        #[cfg(target_arch = "x86_64")]
        Width::Narrow => narrow::TILES,
        Width::Plain => PLAIN,
    };
    if pairs == 0 {
        sums.fill(0);
        return Ok(());
    }
    for (panel, right) in right.chunks_exact(pairs * 2 * PANEL).enumerate() {
        let mut row = 0;
        while row < rows {
            let count = tiles.len().min(rows - row);
            let left = &left[row * pairs * 2..][..count * pairs * 2];
            let to = &mut sums[row * wide + panel * PANEL..][..(count - 1) * wide + PANEL];
            // SAFETY: `left` holds `count` rows of `pairs` pairs, `right` `pairs` rows of a panel, `to` `count` rows of a
            // panel `wide` apart; the processor has the instructions, as `Simd` tells.
            unsafe {
                tiles[count - 1](left.as_ptr(), right.as_ptr(), pairs, to.as_mut_ptr(), wide);
            }
            row += count;
        }
    }
    Ok(())
}

/// A tile: first factor, panel of the second, pairs, sums, distance of their rows.
type Tile = unsafe fn(*const i16, *const i16, usize, *mut i32, usize);

static PLAIN: &[Tile] = &[plain];

/// # Safety
/// As in [`multiply_rows`].
unsafe fn plain(left: *const i16, right: *const i16, pairs: usize, sums: *mut i32, _: usize) {
    let mut kept = [0_i32; PANEL];
    for k in 0..pairs {
        // SAFETY: the caller's contract.
        let (x, row) = unsafe {
            (
                *left.add(2 * k).cast::<[i16; 2]>(),
                &*right.add(2 * k * PANEL).cast::<[[i16; 2]; PANEL]>(),
            )
        };
        for (sum, w) in kept.iter_mut().zip(row) {
            *sum += i32::from(x[0]) * i32::from(w[0]) + i32::from(x[1]) * i32::from(w[1]);
        }
    }
    // SAFETY: the caller's contract.
    unsafe { *sums.cast::<[i32; PANEL]>() = kept };
}

#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($module:ident, $features:literal, $vector:ty, $lanes:literal, $zero:ident, $set:ident, $load:ident, $multiply:ident,
     $add:ident, $store:ident, [$($rows:literal)*]) => {
        mod $module {
            use core::arch::x86_64::*;

            use super::{PANEL, Tile};

            pub(super) static TILES: &[Tile] = &[$(tile::<$rows>),*];

            /// # Safety
            /// The instructions are there; the rest as in [`super::multiply_rows`].
            #[target_feature(enable = $features)]
            unsafe fn tile<const N: usize>(
                left: *const i16, right: *const i16, pairs: usize, sums: *mut i32, step: usize,
            ) {
                // SAFETY: the caller's contract.
                unsafe {
                    let mut kept = [[$zero(); PANEL / $lanes]; N];
                    let left = left.cast::<i32>();
                    for k in 0..pairs {
                        let row = right.add(2 * k * PANEL);
                        let w: [$vector; PANEL / $lanes] =
                            core::array::from_fn(|j| $load(row.add(2 * j * $lanes).cast()));
                        for i in 0..N {
                            let x = $set(left.add(i * pairs + k).read_unaligned());
                            for j in 0..PANEL / $lanes {
                                kept[i][j] = $add(kept[i][j], $multiply(x, w[j]));
                            }
                        }
                    }
                    for i in 0..N {
                        for j in 0..PANEL / $lanes {
                            $store(sums.add(i * step + j * $lanes).cast(), kept[i][j]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(wide, "avx512f,avx512bw", __m512i, 16, _mm512_setzero_si512, _mm512_set1_epi32, _mm512_loadu_si512,
    _mm512_madd_epi16, _mm512_add_epi32, _mm512_storeu_si512, [1 2 3 4 5 6 7 8 9 10 11 12]);
#[cfg(target_arch = "x86_64")]
tiles!(narrow, "avx2", __m256i, 8, _mm256_setzero_si256, _mm256_set1_epi32, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_add_epi32, _mm256_storeu_si256, [1 2 3 4 5 6]);

versions!(
    /// What follows the sums of one row, to codes; `residual` is empty where there is none.
    pub(crate) fn finish_codes(epilogue: &Epilogue, sums: &[i32], residual: &[u8], to: &mut [u8]) = codes
);

#[inline(always)]
fn codes(epilogue: &Epilogue, sums: &[i32], residual: &[u8], to: &mut [u8]) {
    for (c, (to, &sum)) in to.iter_mut().zip(sums).enumerate() {
        *to = epilogue.code(epilogue.apply(sum, c, || residual[c]));
    }
}

versions!(
    /// The same, noting what is in doubt as pixel `(row, 0)`.
    pub(crate) fn finish_noting(
        epilogue: &Epilogue,
        sums: &[i32],
        residual: &[u8],
        to: &mut [u8],
        row: usize,
        doubts: &mut Doubts,
    ) = noting
);

#[inline(always)]
fn noting(
    epilogue: &Epilogue,
    sums: &[i32],
    residual: &[u8],
    to: &mut [u8],
    row: usize,
    doubts: &mut Doubts,
) {
    for (c, (to, &sum)) in to.iter_mut().zip(sums).enumerate() {
        *to = epilogue.code(epilogue.apply(sum, c, || residual[c]));
        if epilogue.doubt(sum, c, residual.get(c).copied().unwrap_or_default(), 0.0) {
            note(doubts, (row, 0), c);
        }
    }
}

versions!(
    /// What follows the sums of one row, to real values.
    pub(crate) fn finish_floats(epilogue: &Epilogue, sums: &[i32], residual: &[u8], to: &mut [f32]) = floats
);

#[inline(always)]
fn floats(epilogue: &Epilogue, sums: &[i32], residual: &[u8], to: &mut [f32]) {
    for (c, (to, &sum)) in to.iter_mut().zip(sums).enumerate() {
        *to = epilogue.apply(sum, c, || residual[c]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_exact_on_every_instruction_set(
            rows in 1usize..=ROWS, inner in 1usize..50, columns in 1usize..40, zero_points in [0i16..256, 0i16..256],
            flip: [bool; 2], extreme: bool, seed: u64,
        ) {
            let mut state = seed;
            let mut code = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let code = (state >> 56) as u8;
                if extreme { code / 128 * 255 } else { code }
            };
            let a: Vec<u8> = (0..rows * inner).map(|_| code()).collect();
            let b: Vec<u8> = (0..inner * columns).map(|_| code()).collect();
            let a_strides = if flip[0] { [1, rows] } else { [inner, 1] };
            let b_strides = if flip[1] { [1, inner] } else { [columns, 1] };
            let size = [rows, inner, columns];
            let [left_len, right_len] = packed_len(size).unwrap();
            let (mut left, mut right) = (vec![7; left_len], vec![7; right_len]);
            pack_left(&a, [rows, inner], a_strides, zero_points[0], &mut left).unwrap();
            pack_right(&b, [inner, columns], b_strides, zero_points[1], &mut right).unwrap();
            let wide = columns.next_multiple_of(PANEL);
            for isa in Isa::ALL {
                let mut sums = vec![9; rows * wide];
                multiply_rows(Simd::new(isa), &left, &right, size, &mut sums).unwrap();
                for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    let expected: i32 = (0..inner)
                        .map(|k| {
                            (i32::from(a[i * a_strides[0] + k * a_strides[1]]) - i32::from(zero_points[0]))
                                * (i32::from(b[k * b_strides[0] + j * b_strides[1]]) - i32::from(zero_points[1]))
                        })
                        .sum();
                    prop_assert_eq!(sums[i * wide + j], expected, "{} at ({}, {})", isa, i, j);
                }
            }
        }
    }
}
