//! Instruction sets, their detection, and the table of kernels for each.

use std::str::FromStr;
use std::sync::OnceLock;

/// An instruction set that kernels are written for, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Portable code.
    Scalar,
    /// 128-bit, `pmaddubsw`.
    Sse42,
    /// 256-bit, FMA.
    Avx2,
    /// 256-bit with `vpdpbusd`.
    AvxVnni,
    /// 512-bit with byte and word instructions.
    Avx512Bw,
    /// 512-bit with `vpdpbusd`.
    Avx512Vnni,
    /// The same, and products of tiles, `tdpbusd`.
    Avx512Amx,
}

/// Environment variable that caps the instruction set.
pub const MAX_ISA_ENV: &str = "FLOW_MAX_ISA";

/// An instruction set name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place}: {found:?} is not an instruction set; expected one of scalar, sse42, avx2, avxvnni, avx512bw, \
     avx512vnni, avx512amx"
)]
pub struct IsaError {
    /// Where the name stands, such as the environment variable.
    pub place: &'static str,
    /// What was found.
    pub found: String,
}

impl Isa {
    /// All, in ascending order.
    pub const ALL: [Isa; 7] = [
        Isa::Scalar,
        Isa::Sse42,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Bw,
        Isa::Avx512Vnni,
        Isa::Avx512Amx,
    ];

    /// The name used in `FLOW_MAX_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Sse42 => "sse42",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Bw => "avx512bw",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512Amx => "avx512amx",
        }
    }

    /// The set of that name.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|i| i.name() == name)
    }

    /// Whether this processor and operating system run it.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = || {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            };
            let avx512_vnni = || avx512() && is_x86_feature_detected!("avx512vnni");
            match self {
                Isa::Scalar => true,
                Isa::Sse42 => is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("ssse3"),
                Isa::Avx2 => avx2(),
                // AVX-512 VNNI has the same instruction in another encoding.
                Isa::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni") || avx512_vnni(),
                Isa::Avx512Bw => avx512(),
                Isa::Avx512Vnni => avx512_vnni(),
                Isa::Avx512Amx => avx512_vnni() && super::amx::is_usable(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Isa::Scalar
        }
    }

    /// The best supported instruction set that is not above `cap`; found once per process.
    pub fn detect(cap: Option<Isa>) -> Isa {
        static SUPPORTED: OnceLock<Vec<Isa>> = OnceLock::new();
        let supported = SUPPORTED.get_or_init(|| Isa::ALL.into_iter().filter(|i| i.is_supported()).collect());
        let cap = cap.unwrap_or(Isa::Avx512Amx);
        supported
            .iter()
            .copied()
            .filter(|&i| i <= cap)
            .max()
            .unwrap_or(Isa::Scalar)
    }

    /// The cap that the environment states, if any.
    ///
    /// # Errors
    /// [`IsaError`] where `FLOW_MAX_ISA` is not the name of an instruction set.
    pub fn cap_from_env() -> Result<Option<Isa>, IsaError> {
        match std::env::var_os(MAX_ISA_ENV) {
            None => Ok(None),
            Some(value) => value.to_string_lossy().parse().map(Some),
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;
    fn from_str(s: &str) -> Result<Self, IsaError> {
        Isa::from_name(s).ok_or_else(|| IsaError {
            place: MAX_ISA_ENV,
            found: s.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_a_bad_one_lists_the_good() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        let text = "avx1024".parse::<Isa>().unwrap_err().to_string();
        assert!(
            text.contains("avx1024") && text.contains("avx512amx") && text.contains("scalar"),
            "{text}"
        );
    }

    #[test]
    fn a_cap_is_never_passed() {
        for cap in Isa::ALL {
            assert!(Isa::detect(Some(cap)) <= cap);
        }
        assert_eq!(Isa::detect(Some(Isa::Scalar)), Isa::Scalar);
    }
}
