//! Matrix products in f32: every element is a chain of fused multiply-adds along the inner axis, in blocks
//! that are summed apart and then added, which is the order that `docs/numerics.md` states. The result is
//! the same on every instruction set.

use super::versions::{Simd, Width};
use super::{ArgError, error::expect_len};

/// Terms that are summed before they are added to the rest.
pub(crate) const BLOCK: usize = 1024;

/// As [`BLOCK`], for a product of two computed factors whose inner axis has at most [`BLOCK`] elements.
pub(crate) const BLOCK_OF_COMPUTED: usize = 512;

/// Columns that lie together in a packed second factor.
pub(crate) const PANEL: usize = 16;

/// Rows of a tile.
const ROWS: usize = 12;

/// Elements of a packed second factor of `inner` rows and `columns` columns; `None` on overflow.
pub(crate) fn packed_len(inner: usize, columns: usize) -> Option<usize> {
    columns.div_ceil(PANEL).checked_mul(PANEL)?.checked_mul(inner)
}

/// Packs a second factor, element `(k, j)` at `k * strides[0] + j * strides[1]`, as `[panel][k][lane]` with zeros
/// behind the last column.
///
/// # Errors
/// [`ArgError`] where an element lies outside `from`, or `to` has another length than [`packed_len`].
pub(crate) fn pack(
    from: &[f32],
    inner: usize,
    columns: usize,
    strides: [usize; 2],
    to: &mut [f32],
) -> Result<(), ArgError> {
    expect_len(
        "packed elements",
        packed_len(inner, columns).ok_or(ArgError::Overflow("matrix"))?,
        to.len(),
    )?;
    if inner == 0 || columns == 0 {
        return Ok(());
    }
    check("second factor", from.len(), [inner, columns], strides)?;
    for (panel, to) in to.chunks_exact_mut(inner * PANEL).enumerate() {
        let first = panel * PANEL;
        let used = PANEL.min(columns - first);
        for (k, row) in to.chunks_exact_mut(PANEL).enumerate() {
            let at = k * strides[0] + first * strides[1];
            if strides[1] == 1 {
                row[..used].copy_from_slice(&from[at..at + used]);
            } else {
                for (j, value) in row[..used].iter_mut().enumerate() {
                    *value = from[at + j * strides[1]];
                }
            }
            row[used..].fill(0.0);
        }
    }
    Ok(())
}

pub(crate) fn check(
    what: &'static str,
    len: usize,
    counts: [usize; 2],
    strides: [usize; 2],
) -> Result<(), ArgError> {
    let last = (counts[0] - 1)
        .checked_mul(strides[0])
        .zip((counts[1] - 1).checked_mul(strides[1]))
        .and_then(|(a, b)| a.checked_add(b))
        .ok_or(ArgError::Overflow(what))?;
    if last < len {
        Ok(())
    } else {
        Err(ArgError::OutOfBounds {
            what,
            needed: last.saturating_add(1),
            available: len,
        })
    }
}

/// Multiplies, in blocks of `block` terms, `a`, element `(i, k)` at `i * strides[0] + k * strides[1]`, with a packed factor; `to` is row-major
/// `[rows][columns]`.
///
/// # Errors
/// [`ArgError`] where lengths do not fit.
pub(crate) fn multiply(
    simd: Simd,
    a: &[f32],
    strides: [usize; 2],
    [rows, inner, columns]: [usize; 3],
    packed: &[f32],
    block: usize,
    to: &mut [f32],
) -> Result<(), ArgError> {
    expect_len("elements of the product", rows.saturating_mul(columns), to.len())?;
    expect_len(
        "packed elements",
        packed_len(inner, columns).ok_or(ArgError::Overflow("matrix"))?,
        packed.len(),
    )?;
    if to.is_empty() {
        return Ok(());
    }
    if inner == 0 {
        to.fill(0.0);
        return Ok(());
    }
    check("first factor", a.len(), [rows, inner], strides)?;
    let tile = match simd.width() {
        #[cfg(target_arch = "x86_64")]
        Width::Wide => wide::TILES,
        #[cfg(target_arch = "x86_64")]
        Width::Narrow => narrow::TILES,
        Width::Plain => PLAIN,
    };
    let highest = tile.len();
    let mut sums = [[0.0_f32; PANEL]; ROWS];
    let block = block.max(1);
    for first_k in (0..inner).step_by(block) {
        let depth = block.min(inner - first_k);
        for (panel, packed) in packed.chunks_exact(inner * PANEL).enumerate() {
            let packed = &packed[first_k * PANEL..(first_k + depth) * PANEL];
            let first = panel * PANEL;
            let used = PANEL.min(columns - first);
            let mut i = 0;
            while i < rows {
                let left = rows - i;
                let count = left.div_ceil(left.div_ceil(highest));
                let at = i * strides[0] + first_k * strides[1];
                // SAFETY: rows `i .. i + count` and terms `first_k .. first_k + depth` lie in `a`, as checked above;
                // `packed` holds `depth` rows of a panel; the processor has the instructions, as `Simd` tells.
                unsafe {
                    tile[count - 1](a[at..].as_ptr(), strides, packed.as_ptr(), depth, &mut sums);
                }
                for (row, sums) in sums[..count].iter().enumerate() {
                    let to = &mut to[(i + row) * columns + first..][..used];
                    if first_k == 0 {
                        to.copy_from_slice(&sums[..used]);
                    } else {
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                    }
                }
                i += count;
            }
        }
    }
    Ok(())
}

/// Sums of a tile: first factor, its strides, packed panel, depth, result.
type Tile = unsafe fn(*const f32, [usize; 2], *const f32, usize, &mut [[f32; PANEL]; ROWS]);

static PLAIN: &[Tile] = &[plain];

/// # Safety
/// `depth` elements of `a`, `strides[1]` apart, and `depth` panel rows of `b` are readable.
unsafe fn plain(
    a: *const f32,
    strides: [usize; 2],
    b: *const f32,
    depth: usize,
    sums: &mut [[f32; PANEL]; ROWS],
) {
    let mut kept = [0.0_f32; PANEL];
    for k in 0..depth {
        // SAFETY: the caller's contract.
        let (x, row) = unsafe { (*a.add(k * strides[1]), &*b.add(k * PANEL).cast::<[f32; PANEL]>()) };
        for (sum, &w) in kept.iter_mut().zip(row) {
            *sum = x.mul_add(w, *sum);
        }
    }
    sums[0] = kept;
}

#[cfg(target_arch = "x86_64")]
macro_rules! tiles {
    ($module:ident, $features:literal, $vector:ty, $lanes:literal, $zero:ident, $set:ident, $load:ident,
     $multiply_add:ident, $store:ident, [$($rows:literal)*]) => {
        mod $module {
            use core::arch::x86_64::*;

            use super::{PANEL, ROWS, Tile};

            pub(super) static TILES: &[Tile] = &[$(tile::<$rows>),*];

            /// # Safety
            /// The instructions are there; `ROWS` rows of `depth` elements of `a` and `depth` panel rows of `b` are
            /// readable.
            #[target_feature(enable = $features)]
            unsafe fn tile<const N: usize>(
                a: *const f32,
                strides: [usize; 2],
                b: *const f32,
                depth: usize,
                sums: &mut [[f32; PANEL]; ROWS],
            ) {
                // SAFETY: the caller's contract.
                unsafe {
                    let mut kept = [[$zero(); PANEL / $lanes]; N];
                    let (mut a, mut b) = (a, b);
                    for _ in 0..depth {
                        let w: [$vector; PANEL / $lanes] = core::array::from_fn(|j| $load(b.add(j * $lanes)));
                        for i in 0..N {
                            let x = $set(*a.add(i * strides[0]));
                            for j in 0..PANEL / $lanes {
                                kept[i][j] = $multiply_add(x, w[j], kept[i][j]);
                            }
                        }
                        a = a.wrapping_add(strides[1]);
                        b = b.add(PANEL);
                    }
                    for i in 0..N {
                        for j in 0..PANEL / $lanes {
                            $store(sums[i].as_mut_ptr().add(j * $lanes), kept[i][j]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(wide, "avx512f", __m512, 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_fmadd_ps,
    _mm512_storeu_ps, [1 2 3 4 5 6 7 8 9 10 11 12]);
#[cfg(target_arch = "x86_64")]
tiles!(narrow, "avx2,fma", __m256, 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_fmadd_ps,
    _mm256_storeu_ps, [1 2 3 4 5 6]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_element_is_its_chain(
            rows in 1usize..30, inner in 1usize..40, columns in 1usize..40, deep: bool, flip: [bool; 2],
        ) {
            let inner = if deep { inner + BLOCK } else { inner };
            let value = |i: usize| ((i * 7919 % 1009) as f32 - 500.3) / 77.7;
            let a: Vec<f32> = (0..rows * inner).map(value).collect();
            let b: Vec<f32> = (0..inner * columns).map(|i| value(i + 5)).collect();
            let a_strides = if flip[0] { [1, rows] } else { [inner, 1] };
            let b_strides = if flip[1] { [1, inner] } else { [columns, 1] };
            let mut packed = vec![f32::NAN; packed_len(inner, columns).unwrap()];
            pack(&b, inner, columns, b_strides, &mut packed).unwrap();
            let term = |i: usize, k: usize, j: usize| {
                (a[i * a_strides[0] + k * a_strides[1]], b[k * b_strides[0] + j * b_strides[1]])
            };
            let expected: Vec<f32> = (0..rows * columns)
                .map(|at| {
                    let (i, j) = (at / columns, at % columns);
                    let mut total = 0.0_f32;
                    for first in (0..inner).step_by(BLOCK) {
                        total += (first..inner.min(first + BLOCK)).fold(0.0_f32, |s, k| {
                            let (x, w) = term(i, k, j);
                            x.mul_add(w, s)
                        });
                    }
                    total
                })
                .collect();
            for isa in Isa::ALL {
                let mut found = vec![f32::NAN; rows * columns];
                multiply(Simd::new(isa), &a, a_strides, [rows, inner, columns], &packed, BLOCK, &mut found).unwrap();
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    fn factors_that_are_too_short_are_refused() {
        let mut to = [0.0; 4];
        let packed = [0.0; 2 * PANEL];
        let simd = Simd::new(Isa::Scalar);
        assert!(multiply(simd, &[0.0; 3], [2, 1], [2, 2, 2], &packed, BLOCK, &mut to).is_err());
        assert!(multiply(simd, &[0.0; 4], [2, 1], [2, 2, 2], &packed[1..], BLOCK, &mut to).is_err());
        assert!(pack(&[0.0; 3], 2, 2, [2, 1], &mut [0.0; 2 * PANEL]).is_err());
    }
}
