//! One table of functions per instruction set.

use std::ops::Range;
use std::time::Instant;

use super::literal::{Arithmetic, Chain, Level, Literal, LiteralArgs, Portable, RestsArgs, Size};
#[cfg(target_arch = "x86_64")]
use super::sets::{avx2, avx512amx, avx512bw, avx512vnni, avxvnni, evex256, sse42, v128, v256, v512};
use super::weights::Packing;
use super::{
    AffineU8Args, AvgPoolArgs, Band, ConvF32Args, ConvU8Args, CopyArgs, DepthwiseF32Args, DepthwiseU8Args,
    Isa, IsaError, LookupArgs, MaxPoolArgs, QuantizeArgs, scalar,
};
use crate::nest::Nest;
use crate::rows;

/// The kernels of one instruction set. Only [`KernelTable::select`] hands tables out, so that whoever holds
/// one may run its functions.
#[derive(Debug)]
pub struct KernelTable {
    pub(crate) isa: Isa,
    pub(crate) packing: Packing,
    pub(crate) conv_u8: fn(&mut ConvU8Args<'_>, &Band),
    pub(crate) depthwise_u8: fn(&mut DepthwiseU8Args<'_>, Range<usize>),
    pub(crate) max_pool_u8: fn(&mut MaxPoolArgs<'_, u8>, Range<usize>),
    pub(crate) max_pool_f32: fn(&mut MaxPoolArgs<'_, f32>, Range<usize>),
    pub(crate) avg_pool_u8: fn(&mut AvgPoolArgs<'_>, Range<usize>),
    pub(crate) affine_u8: fn(&mut AffineU8Args<'_>, Range<usize>),
    pub(crate) lookup_u8: fn(&mut LookupArgs<'_>, Range<usize>),
    pub(crate) copy_u8: fn(&mut CopyArgs<'_, u8>, Range<usize>),
    pub(crate) copy_f32: fn(&mut CopyArgs<'_, f32>, Range<usize>),
    pub(crate) quantize: fn(&mut QuantizeArgs<'_>, Range<usize>),
    pub(crate) conv_f32: fn(&mut ConvF32Args<'_>, &Band),
    pub(crate) depthwise_f32: fn(&mut DepthwiseF32Args<'_>, Range<usize>),
    /// [`Literal::settle`].
    pub(crate) literal: fn(&mut LiteralArgs<'_, '_>),
    /// [`Size::rests`].
    pub(crate) rests: fn(&mut RestsArgs<'_>),
    /// [`Arithmetic::chain`].
    pub(crate) chain: Chain,
    /// [`rows::quantize_literal`].
    pub(crate) quantize_literal: fn(&Nest<3>, &mut [u8], &[f32], &[Level], f32),
    /// Multiply-accumulates on registers, of 8 bits and of f32: as many as they return.
    pub(crate) peak_u8: fn(usize) -> u64,
    pub(crate) peak_f32: fn(usize) -> u64,
}

/// Portable kernels.
pub(crate) static SCALAR: KernelTable = KernelTable {
    isa: Isa::Scalar,
    packing: Packing {
        lanes: 16,
        pairs: false,
        many_registers: true,
        tiles: false,
    },
    conv_u8: scalar::conv_u8,
    depthwise_u8: scalar::depthwise_u8,
    max_pool_u8: scalar::max_pool,
    max_pool_f32: scalar::max_pool,
    avg_pool_u8: scalar::avg_pool_u8,
    affine_u8: scalar::affine_u8,
    lookup_u8: scalar::lookup_u8,
    copy_u8: scalar::copy,
    copy_f32: scalar::copy,
    quantize: scalar::quantize,
    conv_f32: scalar::conv_f32,
    depthwise_f32: scalar::depthwise_f32,
    // SAFETY: portable arithmetic runs on every processor.
    literal: |args| unsafe { Literal::settle::<Portable>(args) },
    // SAFETY: as above.
    rests: |args| unsafe { Size::rests::<Portable>(args) },
    // SAFETY: as above.
    chain: |to, terms, weights, columns| unsafe { *to = Portable::chain(terms, weights, columns) },
    quantize_literal: rows::quantize_literal::<false>,
    peak_u8: scalar::peak_u8,
    peak_f32: scalar::peak_f32,
};

/// The table of an instruction set: what is named comes from the module, the rest from another table.
#[cfg(target_arch = "x86_64")]
macro_rules! table {
    ($isa:ident, $vectors:ident, $dots:ident) => {
        KernelTable {
            isa: Isa::$isa,
            packing: $dots::PACKING,
            conv_u8: $dots::conv_u8,
            depthwise_u8: $dots::depthwise_u8,
            max_pool_u8: $vectors::max_pool_u8,
            max_pool_f32: $vectors::max_pool_f32,
            avg_pool_u8: $vectors::avg_pool_u8,
            affine_u8: $vectors::affine_u8,
            quantize: $vectors::quantize,
            conv_f32: $vectors::conv_f32,
            depthwise_f32: $vectors::depthwise_f32,
            literal: $vectors::literal,
            rests: $vectors::rests,
            chain: $vectors::chain,
            quantize_literal: $vectors::quantize_literal,
            peak_u8: $dots::peak_u8,
            peak_f32: $vectors::peak_f32,
            ..SCALAR
        }
    };
}

/// 128-bit vectors, products added in pairs.
#[cfg(target_arch = "x86_64")]
pub(crate) static SSE42: KernelTable = table!(Sse42, v128, sse42);

/// 256-bit vectors, products added in pairs.
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX2: KernelTable = table!(Avx2, v256, avx2);

/// 256-bit vectors, VEX `vpdpbusd`.
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX_VNNI: KernelTable = table!(AvxVnni, v256, avxvnni);

/// 256-bit vectors, EVEX `vpdpbusd`: stands in for [`AVX_VNNI`] on processors with AVX-512 VNNI alone.
#[cfg(target_arch = "x86_64")]
pub(crate) static EVEX_256: KernelTable = table!(AvxVnni, v256, evex256);

/// 512-bit vectors, products added in pairs.
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX512_BW: KernelTable = table!(Avx512Bw, v512, avx512bw);

/// 512-bit vectors, `vpdpbusd`.
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX512_VNNI: KernelTable = table!(Avx512Vnni, v512, avx512vnni);

/// The same with products of tiles, `tdpbusd`, in convolutions.
#[cfg(target_arch = "x86_64")]
pub(crate) static AVX512_AMX: KernelTable = table!(Avx512Amx, v512, avx512amx);

impl KernelTable {
    /// The table of the best instruction set that this machine supports, that is not above `cap` and not
    /// above `FLOW_MAX_ISA`.
    ///
    /// # Errors
    /// [`IsaError`] where `FLOW_MAX_ISA` is not the name of an instruction set.
    pub fn select(cap: Option<Isa>) -> Result<&'static KernelTable, IsaError> {
        let cap = match (cap, Isa::cap_from_env()?) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Self::of(Isa::detect(cap)))
    }

    /// The table of `isa`, which the machine supports.
    pub(super) fn of(isa: Isa) -> &'static KernelTable {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Sse42 => &SSE42,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni if is_x86_feature_detected!("avxvnni") => &AVX_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &EVEX_256,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bw => &AVX512_BW,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &AVX512_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Amx => &AVX512_AMX,
            _ => &SCALAR,
        }
    }

    /// Its instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The most multiply-accumulates per second that a thread reaches on registers: of 8 bits, and of f32. Takes some
    /// milliseconds.
    pub fn peak(&self) -> [f64; 2] {
        [self.peak_u8, self.peak_f32].map(|run| {
            let mut best = 0.0_f64;
            for _ in 0..6 {
                let start = Instant::now();
                let count = run(20_000);
                best = best.max(count as f64 / start.elapsed().as_secs_f64().max(1e-9));
            }
            best
        })
    }

    /// Whether sums are taken from products added in pairs of 16 bits, for which weights may have to be split.
    pub fn adds_pairs(&self) -> bool {
        self.packing.pairs
    }

    /// Integer convolution of a band of rows and panels.
    pub fn conv_u8(&self, args: &mut ConvU8Args<'_>, band: &Band) {
        (self.conv_u8)(args, band);
    }

    /// Integer depthwise convolution of output rows `rows`.
    pub fn depthwise_u8(&self, args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) {
        (self.depthwise_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Maximum pooling of codes, output rows `rows`.
    pub fn max_pool_u8(&self, args: &mut MaxPoolArgs<'_, u8>, rows: Range<usize>) {
        (self.max_pool_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Maximum pooling of f32, output rows `rows`.
    pub fn max_pool_f32(&self, args: &mut MaxPoolArgs<'_, f32>, rows: Range<usize>) {
        (self.max_pool_f32)(args, limit(rows, args.output.layout().height));
    }

    /// Average pooling of codes, output rows `rows`.
    pub fn avg_pool_u8(&self, args: &mut AvgPoolArgs<'_>, rows: Range<usize>) {
        (self.avg_pool_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Requantization, dequantization, addition of codes; rows `rows`.
    pub fn affine_u8(&self, args: &mut AffineU8Args<'_>, rows: Range<usize>) {
        (self.affine_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Codes through a table, rows `rows`.
    pub fn lookup_u8(&self, args: &mut LookupArgs<'_>, rows: Range<usize>) {
        (self.lookup_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Copy or nearest upsampling of codes, output rows `rows`.
    pub fn copy_u8(&self, args: &mut CopyArgs<'_, u8>, rows: Range<usize>) {
        (self.copy_u8)(args, limit(rows, args.output.layout().height));
    }

    /// Copy or nearest upsampling of f32, output rows `rows`.
    pub fn copy_f32(&self, args: &mut CopyArgs<'_, f32>, rows: Range<usize>) {
        (self.copy_f32)(args, limit(rows, args.output.layout().height));
    }

    /// Quantization of f32 to codes, rows `rows`.
    pub fn quantize(&self, args: &mut QuantizeArgs<'_>, rows: Range<usize>) {
        (self.quantize)(args, limit(rows, args.output.layout().height));
    }

    /// f32 convolution of a band of rows and panels.
    pub fn conv_f32(&self, args: &mut ConvF32Args<'_>, band: &Band) {
        (self.conv_f32)(args, band);
    }

    /// Evaluates again the codes of a layer that are in doubt.
    pub(crate) fn literal(&self, args: &mut LiteralArgs<'_, '_>) {
        (self.literal)(args);
    }

    /// f32 depthwise convolution of output rows `rows`.
    pub fn depthwise_f32(&self, args: &mut DepthwiseF32Args<'_>, rows: Range<usize>) {
        (self.depthwise_f32)(args, limit(rows, args.output.layout().height));
    }
}

fn limit(rows: Range<usize>, height: usize) -> Range<usize> {
    rows.start.min(height)..rows.end.min(height)
}
