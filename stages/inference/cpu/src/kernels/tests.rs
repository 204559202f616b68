//! Every table that this machine runs against references written from the definitions, with buffers that end
//! at unreadable pages.

mod conv;
mod f32s;
mod guard;
mod layer;
mod pixels;
mod reference;

use super::table::{AVX_VNNI, AVX2, AVX512_AMX, AVX512_BW, AVX512_VNNI, EVEX_256, SCALAR, SSE42};
use super::{Isa, KernelTable};

/// Every table, and whether this machine runs it.
fn all_tables() -> [(&'static KernelTable, bool); 8] {
    [
        (&SCALAR, true),
        (&SSE42, Isa::Sse42.is_supported()),
        (&AVX2, Isa::Avx2.is_supported()),
        (
            &AVX_VNNI,
            Isa::Avx2.is_supported() && is_x86_feature_detected!("avxvnni"),
        ),
        (&EVEX_256, Isa::Avx512Vnni.is_supported()),
        (&AVX512_BW, Isa::Avx512Bw.is_supported()),
        (&AVX512_VNNI, Isa::Avx512Vnni.is_supported()),
        (&AVX512_AMX, Isa::Avx512Amx.is_supported()),
    ]
}

/// The tables that this machine runs.
fn tables() -> Vec<&'static KernelTable> {
    all_tables()
        .into_iter()
        .filter_map(|(table, runs)| runs.then_some(table))
        .collect()
}

/// Instruction sets by what the system says about the processor, not by our own detection.
fn sets_of_the_processor() -> Vec<Isa> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap();
    let has = |wanted: &[&str]| {
        wanted
            .iter()
            .all(|w| flags.split_whitespace().any(|flag| flag == *w))
    };
    let avx512 = ["avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"];
    [
        (Isa::Scalar, true),
        (Isa::Sse42, has(&["sse4_2", "ssse3"])),
        (Isa::Avx2, has(&["avx2", "fma"])),
        (
            Isa::AvxVnni,
            has(&["avx2", "fma", "avx_vnni"]) || has(&avx512) && has(&["avx512_vnni"]),
        ),
        (Isa::Avx512Bw, has(&avx512)),
        (Isa::Avx512Vnni, has(&avx512) && has(&["avx512_vnni"])),
        (
            Isa::Avx512Amx,
            has(&avx512) && has(&["avx512_vnni", "amx_tile", "amx_int8"]),
        ),
    ]
    .into_iter()
    .filter_map(|(isa, there)| there.then_some(isa))
    .collect()
}

/// The tests of this module run what `tables` lists.
#[test]
fn no_instruction_set_of_this_machine_is_skipped() {
    let mut tested: Vec<Isa> = tables().iter().map(|t| t.isa()).collect();
    tested.dedup();
    assert_eq!(tested, sets_of_the_processor());
    for isa in Isa::ALL {
        assert!(
            all_tables().iter().any(|(t, _)| t.isa() == isa),
            "no kernels for {isa}"
        );
        if isa.is_supported() {
            let selected = KernelTable::of(isa);
            assert!(
                tables().iter().any(|t| std::ptr::eq(*t, selected)),
                "{isa} is not tested"
            );
        }
    }
}

/// A machine that is meant to test an instruction set must have it.
#[test]
fn the_required_instruction_set_is_there() {
    if let Ok(required) = std::env::var("FLOW_REQUIRE_ISA") {
        let required: Isa = required.parse().unwrap();
        assert!(required.is_supported(), "this machine lacks {required}");
    }
}

#[test]
fn the_table_never_passes_its_cap() {
    for cap in Isa::ALL {
        assert!(KernelTable::select(Some(cap)).unwrap().isa() <= cap);
    }
}
