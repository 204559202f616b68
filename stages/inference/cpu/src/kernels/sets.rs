//! The kernels of `simd`, compiled for each instruction set.

use super::simd::{self, Avx2, Avx512Bw, Avx512Vnni, AvxVnni, Evex256, Sse42, V128, V256, V512};

/// A module with the kernels of `simd` over vectors `$vector`, and f32 tiles of as many pixels as are named, the second ones
/// of sums in blocks.
macro_rules! vector_kernels {
    (
        $(#[$doc:meta])* $name:ident, $features:tt, $vector:ident,
        f32 tiles [$($mr:literal)*], in blocks [$($few:literal)*]
    ) => {
        $(#[$doc])*
        pub(super) mod $name {
            use std::ops::Range;

            use super::$vector;
            use super::simd::{Vector, conv_f32, depthwise_f32, peak, pixelwise, pool};
            use crate::kernels::literal::{LANES, Level, Line, Literal, LiteralArgs, RestsArgs, SIDE, Size};
            use crate::kernels::{
                AffineU8Args, AvgPoolArgs, Band, ConvF32Args, DepthwiseF32Args, MaxPoolArgs, QuantizeArgs,
            };
            use crate::nest::Nest;
            use crate::rows;

            kernels! {
                $features;
                max_pool_u8(args: &mut MaxPoolArgs<'_, u8>, rows: Range<usize>) =
                    pool::max_pool_u8::<$vector>(args, rows);
                max_pool_f32(args: &mut MaxPoolArgs<'_, f32>, rows: Range<usize>) =
                    pool::max_pool_f32::<$vector>(args, rows);
                avg_pool_u8(args: &mut AvgPoolArgs<'_>, rows: Range<usize>) =
                    pool::avg_pool_u8::<$vector>(args, rows);
                affine_u8(args: &mut AffineU8Args<'_>, rows: Range<usize>) =
                    pixelwise::affine_u8::<$vector>(args, rows);
                quantize(args: &mut QuantizeArgs<'_>, rows: Range<usize>) =
                    pixelwise::quantize::<$vector>(args, rows);
                conv_f32(args: &mut ConvF32Args<'_>, band: &Band) =
                    conv_f32::run(args, band, &TILES, $vector::LANES);
                depthwise_f32(args: &mut DepthwiseF32Args<'_>, rows: Range<usize>) =
                    depthwise_f32::depthwise::<$vector>(args, rows);
                literal(args: &mut LiteralArgs<'_, '_>) = Literal::settle::<$vector>(args);
                rests(args: &mut RestsArgs<'_>) = Size::rests::<$vector>(args);
                chain(to: &mut [[f32; LANES]; SIDE], terms: usize, weights: [Line<'_>; SIDE], columns: [&[f32]; SIDE]) =
                    Literal::chain::<$vector>(to, terms, weights, columns);
                quantize_literal(nest: &Nest<3>, to: &mut [u8], from: &[f32], levels: &[Level], base: f32) =
                    rows::quantize_literal::<{ $vector::FUSED }>(nest, to, from, levels, base);
                peak_f32(steps: usize) -> u64 = peak::fused::<$vector>(steps);
            }

            static TILES: conv_f32::Tiles = conv_f32::Tiles {
                whole: [&[$(tile::<$mr, 1, false>),*], &[$(tile::<$mr, 2, false>),*]],
                in_blocks: [&[$(tile::<$few, 1, true>),*], &[$(tile::<$few, 2, true>),*]],
            };

            /// # Safety
            /// As [`conv_f32::tile`].
            #[target_feature(enable = $features)]
            unsafe fn tile<const MR: usize, const NV: usize, const BLOCKS: bool>(
                walk: &conv_f32::Walk<'_>,
                tile: &conv_f32::Tile,
            ) {
                // SAFETY: the caller's contract.
                unsafe { conv_f32::tile::<$vector, MR, NV, BLOCKS>(walk, tile) }
            }
        }
    };
}

/// A module with the integer convolutions of `simd` with dot product `$dot`: tiles of one row, of two, and of one row
/// for panels that are split, of as many pixels in a row as are named.
macro_rules! dot_kernels {
    (
        $(#[$doc:meta])* $name:ident, $features:tt, $dot:ident, $vector:ident,
        tiles [$($mr:literal)*], two rows [$($half:literal)*], split [$($listed:literal)*]
    ) => {
        $(#[$doc])*
        pub(super) mod $name {
            use std::ops::Range;

            use super::simd::finish::Target;
            use super::simd::{Dot, Vector, conv, depthwise, peak};
            use super::{$dot, $vector};
            use crate::kernels::ties::Doubts;
            use crate::kernels::weights::Packing;
            use crate::kernels::{Band, ConvU8Args, DepthwiseU8Args};

            kernels! {
                $features;
                conv_u8(args: &mut ConvU8Args<'_>, band: &Band) = conv::run(args, band, &TILES, $vector::LANES);
                depthwise_u8(args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) =
                    depthwise::depthwise::<$dot>(args, rows, finish_channels);
                peak_u8(steps: usize) -> u64 = peak::dots::<$dot>(steps);
            }

            /// How its kernels want weights.
            pub(in super::super) const PACKING: Packing = Packing {
                lanes: $vector::LANES,
                pairs: $dot::PAIRS,
                many_registers: $vector::MANY_REGISTERS,
                tiles: false,
            };

            pub(in super::super) static TILES: conv::Tiles = conv::Tiles {
                one_row: [&[$(tile::<1, $mr, 1, { $dot::PAIRS }>),*], &[$(tile::<1, $mr, 2, { $dot::PAIRS }>),*]],
                two_rows: [&[$(tile::<2, $half, 1, false>),*], &[$(tile::<2, $half, 2, false>),*]],
                listed: [&[$(tile::<1, $listed, 1, true>),*], &[$(tile::<1, $listed, 2, true>),*]],
                finish: finish_tile,
                products: false,
            };

            /// # Safety
            /// As [`conv::tile`].
            #[target_feature(enable = $features)]
            unsafe fn tile<const SEG: usize, const MR: usize, const NV: usize, const LIST: bool>(
                walk: &conv::Walk<'_>,
                tile: &conv::Tile,
                doubts: &mut Doubts,
            ) {
                // SAFETY: the caller's contract.
                unsafe { conv::tile::<$dot, SEG, MR, NV, LIST>(walk, tile, doubts) }
            }

            /// # Safety
            /// As [`conv::finish_tile`].
            #[inline(never)]
            #[target_feature(enable = $features)]
            unsafe fn finish_tile(
                walk: &conv::Walk<'_>,
                tile: &conv::Tile,
                sums: *const i32,
                pixels: conv::Pixels,
                doubts: &mut Doubts,
            ) {
                // SAFETY: the caller's contract.
                unsafe { conv::finish_tile::<$vector>(walk, tile, sums, pixels, doubts) }
            }

            /// # Safety
            /// As [`depthwise::finish_any`].
            #[inline(never)]
            #[target_feature(enable = $features)]
            unsafe fn finish_channels(
                sums: *const i32,
                block: &depthwise::Block<'_>,
                target: Target,
                residual: *const u8,
            ) -> u64 {
                // SAFETY: the caller's contract.
                unsafe { depthwise::finish_any::<$vector>(sums, block, target, residual) }
            }
        }
    };
}

/// The safe functions that a kernel table holds, each around a body compiled with target features.
macro_rules! kernels {
    ($features:tt; $($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        $(
            pub(in super::super) fn $name($($arg: $type),*) $(-> $result)? {
                /// # Safety
                /// The processor has the features.
                #[target_feature(enable = $features)]
                #[allow(unused_unsafe, reason = "some bodies are safe")]
                unsafe fn with_features($($arg: $type),*) $(-> $result)? {
                    // SAFETY: the caller's contract.
                    unsafe { $body }
                }
                // SAFETY: only the tables of this instruction set refer to this function, and
                // `KernelTable::select` hands them out on machines that have it.
                unsafe { with_features($($arg),*) }
            }
        )*
    };
}

vector_kernels!(
    /// 128-bit vectors.
    v128, "sse4.2,ssse3", V128, f32 tiles [1 2 3 4 5], in blocks [1 2]
);
vector_kernels!(
    /// 256-bit vectors.
    v256, "avx2,fma", V256, f32 tiles [1 2 3 4 5 6], in blocks [1 2 3]
);
vector_kernels!(
    /// 512-bit vectors: 28 accumulators, two weight vectors and a broadcast fill 31 of 32 registers.
    v512, "avx512f,avx512bw,avx512vl,avx512dq", V512, f32 tiles [1 2 3 4 5 6 7 8 9 10 11 12 13 14], in blocks [1 2 3 4 5 6]
);
dot_kernels!(
    /// 8 accumulators.
    sse42, "sse4.2,ssse3", Sse42, V128, tiles [1 2 3 4], two rows [], split [1 2 3 4]
);
dot_kernels!(
    /// 12 accumulators, two weight vectors, a broadcast and a product fill 16 registers.
    avx2, "avx2,fma", Avx2, V256, tiles [1 2 3 4 5 6], two rows [], split [1 2 3 4 5 6]
);
dot_kernels!(
    /// As AVX2, without the product.
    avxvnni, "avx2,fma,avxvnni", AvxVnni, V256, tiles [1 2 3 4 5 6], two rows [], split [1 2 3 4 5 6]
);
dot_kernels!(
    /// The same through AVX-512 instructions.
    evex256, "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", Evex256, V256,
    tiles [1 2 3 4 5 6], two rows [], split [1 2 3 4 5 6]
);
dot_kernels!(
    /// 24 accumulators, two weight vectors, a broadcast, ones and products.
    avx512bw, "avx512f,avx512bw,avx512vl,avx512dq", Avx512Bw, V512,
    tiles [1 2 3 4 5 6 7 8 9 10 11 12], two rows [], split [1 2 3 4 5 6 7 8 9 10 11 12]
);
dot_kernels!(
    /// 28 accumulators, two weight vectors and a broadcast fill 31 of 32 registers.
    avx512vnni, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", Avx512Vnni, V512,
    tiles [1 2 3 4 5 6 7 8 9 10 11 12 13 14], two rows [1 2 3 4 5 6 7], split [1 2 3 4 5 6 7]
);

/// AVX-512 VNNI, and AMX for the sums of convolutions.
pub(super) mod avx512amx {
    use super::avx512vnni;
    use super::simd::{V512, Vector, conv};
    use crate::kernels::weights::Packing;
    use crate::kernels::{Band, ConvU8Args};

    kernels! {
        "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni";
        conv_u8(args: &mut ConvU8Args<'_>, band: &Band) = conv::run(args, band, &TILES, V512::LANES);
        peak_u8(steps: usize) -> u64 = conv::peak(steps);
    }
    pub(in super::super) use avx512vnni::depthwise_u8;

    /// How its kernels want weights.
    pub(in super::super) const PACKING: Packing = Packing {
        tiles: true,
        ..avx512vnni::PACKING
    };

    static TILES: conv::Tiles = conv::Tiles {
        products: true,
        ..avx512vnni::TILES
    };
}
