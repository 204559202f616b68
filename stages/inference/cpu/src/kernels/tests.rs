//! Every table that this machine runs against references written from the definitions, with buffers that end
//! at unreadable pages.

mod conv;
mod f32s;
mod guard;
mod pixels;
mod reference;

use super::table::{AVX_VNNI, AVX2, AVX512_BW, AVX512_VNNI, EVEX_256, SCALAR, SSE42};
use super::{Isa, KernelTable};

/// Every table, and whether this machine runs it.
fn all_tables() -> [(&'static KernelTable, bool); 7] {
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
    ]
}

/// The tables that this machine runs.
fn tables() -> Vec<&'static KernelTable> {
    all_tables()
        .into_iter()
        .filter_map(|(table, runs)| runs.then_some(table))
        .collect()
}

#[test]
fn the_table_never_passes_its_cap() {
    for cap in Isa::ALL {
        assert!(KernelTable::select(Some(cap)).unwrap().isa() <= cap);
    }
}
