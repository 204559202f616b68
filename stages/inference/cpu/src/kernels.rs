//! Kernels: checked argument types, packed weights, and one table of functions per instruction set.
//!
//! A kernel takes arguments that were checked on construction, then runs without checks. All give the same bits
//! on every instruction set.
//!
//! ```text
//! let table = KernelTable::select(None)?;
//! let conv = ConvU8::new(table, window, channels, &weights, epilogue, pixel_stride)?; // once, at compile
//! let mut args = ConvU8Args::new(&conv, input, None, Output::U8(output))?;           // once per run
//! let all = args.whole();
//! table.conv_u8(&mut args, &all);                                                    // or a band
//! ```
//!
//! A team of threads splits a layer by giving each thread its own arguments, built over the same buffers with
//! [`ViewMut::from_raw`], and a band of its own.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod conv;
mod conv_f32;
mod depthwise;
mod elementwise;
mod epilogue;
mod error;
pub(crate) mod fake_quantize;
pub(crate) mod functions;
pub(crate) mod gemm;
pub(crate) mod gemm_u8;
pub(crate) mod interpolate;
mod isa;
pub(crate) mod literal;
pub(crate) mod math;
mod output;
mod pool;
pub(crate) mod reduce;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sets;
#[cfg(target_arch = "x86_64")]
mod simd;
pub(crate) mod softmax;
mod steps;
pub(crate) mod sums;
mod table;
#[cfg(test)]
#[cfg(all(target_arch = "x86_64", unix))]
mod tests;
pub(crate) mod ties;
pub(crate) mod versions;
mod view;
mod weights;
mod window;

pub use aligned::{ALIGNMENT, AlignedVec, Plain};
pub use conv::{Band, ConvU8, ConvU8Args};
pub use conv_f32::{ConvF32, ConvF32Args, DepthwiseF32, DepthwiseF32Args, EpilogueF32, F32Args};
pub use depthwise::{DepthwiseU8, DepthwiseU8Args};
pub use elementwise::{AffineU8Args, CopyArgs, LookupArgs, QuantizeArgs, Quantizer};
pub use epilogue::{CHANNEL_BLOCK, Epilogue, EpilogueSpec, MidSpec, OutputKind, ResidualSpec};
pub use error::ArgError;
pub use isa::{Isa, IsaError, MAX_ISA_ENV};
pub use output::Output;
pub use pool::{AverageOver, AvgPoolArgs, MaxPoolArgs};
pub use table::KernelTable;
pub use view::{Halo, Layout, SLACK, View, ViewMut};
pub use weights::{Channels, MAX_TAPS, WeightCodes, Weights};
pub use window::Window;
