//! Whether the processor and the system let this process multiply tiles (AMX).

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// CPUID leaf 7, EDX: `amx-tile` and `amx-int8`.
const FEATURES: u32 = 1 << 24 | 1 << 25;

/// XCR0: the system saves the configuration and the data of tiles.
const STATE: u64 = 1 << 17 | 1 << 18;

/// Whether tiles can be used. On Linux a process asks for them once, before the first use, for all its threads.
pub(super) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_tiles() && is_permitted())
}

fn has_tiles() -> bool {
    // OSXSAVE: XCR0 can be read.
    __cpuid(0).eax >= 7
        && __cpuid(1).ecx & 1 << 27 != 0
        && __cpuid_count(7, 0).edx & FEATURES == FEATURES
        // SAFETY: the system has enabled `xgetbv`, as the bit above says.
        && unsafe { enabled_state() } & STATE == STATE
}

/// # Safety
/// The system has enabled `xgetbv`.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: the caller's contract.
    unsafe { _xgetbv(0) }
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    /// `ARCH_REQ_XCOMP_PERM` of the kernel's `asm/prctl.h`, since Linux 5.16.
    const REQUEST: libc::c_int = 0x1023;
    /// Number of the state component: data of tiles.
    const TILE_DATA: libc::c_ulong = 18;
    // SAFETY: the request changes nothing but what later instructions may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
