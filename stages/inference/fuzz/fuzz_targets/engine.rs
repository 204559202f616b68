//! Reads, transforms, compiles and runs damaged models. The input is a recipe: which model, and what is changed in it
//! (`flow_inference_fuzz::damaged`).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    flow_inference_fuzz::whole_way(data);
});
