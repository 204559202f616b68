//! Reads arbitrary bytes as a model: the text up to the first zero byte is the `.xml`, the rest the `.bin`.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use flow_model::{ir, passes, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let (xml, bin) = data.split_at(cut);
    let weights = ir::Weights::Memory(Arc::new(bin.to_vec()));
    if let Ok(graph) = ir::parse(Path::new("model.xml"), xml, weights) {
        let _ = passes::fold_constants(&graph);
        let _ = text::to_dot(&graph);
        let _ = ir::to_bytes(&graph);
    }
});
