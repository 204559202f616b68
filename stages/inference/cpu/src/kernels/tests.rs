//! Every table that this machine runs against references written from the definitions, with buffers that end
//! at unreadable pages.

mod conv;
mod f32s;
mod guard;
mod pixels;
mod reference;

use super::table::{AVX512_VNNI, SCALAR};
use super::{Isa, KernelTable};

/// Tables with kernels of their own that this machine runs.
fn tables() -> Vec<&'static KernelTable> {
    [&SCALAR, &AVX512_VNNI]
        .into_iter()
        .filter(|t| t.isa().is_supported())
        .collect()
}

/// A machine that is meant to test an instruction set must have it: the tests above would pass without.
#[test]
fn the_required_instruction_set_is_tested() {
    let Ok(required) = std::env::var("FLOW_REQUIRE_ISA") else {
        return;
    };
    let required: Isa = required.parse().unwrap();
    assert!(required.is_supported(), "this machine lacks {required}");
    assert!(
        tables().iter().any(|t| t.isa() == required),
        "no kernels are written for {required}"
    );
}

#[test]
fn the_table_never_passes_its_cap() {
    for cap in Isa::ALL {
        assert!(KernelTable::select(Some(cap)).unwrap().isa() <= cap);
    }
}
