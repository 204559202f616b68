//! One portable body, compiled for several instruction sets.

use super::Isa;

/// Vectors that portable bodies are compiled for. Whoever holds one may run its versions: [`Simd::new`] hands out
/// none that the processor lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Simd(Width);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// The baseline of the target.
    Plain,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Narrow,
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Wide,
}

impl Simd {
    /// The widest that the processor has, up to `cap`.
    pub(crate) fn new(cap: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if cap >= Isa::Avx512Bw && Isa::Avx512Bw.is_supported() {
                return Self(Width::Wide);
            }
            if cap >= Isa::Avx2 && Isa::Avx2.is_supported() {
                return Self(Width::Narrow);
            }
        }
        let _ = cap;
        Self(Width::Plain)
    }

    pub(crate) fn width(self) -> Width {
        self.0
    }
}

/// Declares a function that runs `body` compiled for the vectors in its first argument.
///
/// `body` is an `#[inline(always)]` function of plain Rust. Operations on floats are neither fused nor reordered, so
/// that all versions give the same bits; only [`f32::mul_add`], exact everywhere, is fast where the processor has it.
macro_rules! versions {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path) => {
        $(#[$doc])*
        $vis fn $name(simd: $crate::kernels::versions::Simd, $($arg: $type),*) {
            use $crate::kernels::versions::Width;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
            fn wide($($arg: $type),*) {
                $body($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn narrow($($arg: $type),*) {
                $body($($arg),*);
            }
            match simd.width() {
                // SAFETY: the processor has the features, as `Simd` tells.
                #[cfg(target_arch = "x86_64")]
                Width::Wide => unsafe { wide($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Width::Narrow => unsafe { narrow($($arg),*) },
                Width::Plain => $body($($arg),*),
            }
        }
    };
}
pub(crate) use versions;
