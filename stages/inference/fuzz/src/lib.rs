//! Small valid models of many operations, ways to damage them, and the whole way from a file to a run.

mod damage;
mod models;

use std::path::Path;
use std::sync::Arc;

use flow_cpu::{CompileOptions, Input};
use flow_lpt::{Numerics, Options};
use flow_model::{Graph, Tensor, ir, passes, text, unroll};

pub use damage::damaged;
pub use models::{Model, models};

/// Most memory that values of a model may take here, in bytes.
pub const MEMORY: usize = 256 << 20;
/// Most elements of the inputs of a model that is run.
const MAX_INPUT: usize = 1 << 14;

/// Damages a model as the recipe says, and reads, transforms, compiles and runs it as far as it goes.
pub fn whole_way(recipe: &[u8]) {
    flow_model::limits::set_memory(MEMORY);
    let Some((xml, bin, how)) = damaged(recipe) else {
        return;
    };
    let weights = ir::Weights::Memory(Arc::new(bin));
    let Ok(graph) = ir::parse(Path::new("model.xml"), &xml, weights) else {
        return;
    };
    let _ = text::to_text(&graph);
    let _ = text::to_dot(&graph);
    let _ = passes::fold_constants(&graph);
    let _ = ir::to_bytes(&graph);
    let Ok(inlined) = unroll::inline_bodies(&graph) else {
        return;
    };
    let inputs = inputs(&graph);
    if let Some(inputs) = &inputs {
        let _ = flow_model::evaluate(&graph, inputs);
    }
    let numerics = if how & 1 == 0 {
        Numerics::Literal
    } else {
        Numerics::OpenVino
    };
    let options = Options {
        numerics,
        ..Options::default()
    };
    let Ok(lowered) = flow_lpt::transform(&inlined, &options) else {
        return;
    };
    let _ = ir::to_bytes(&lowered.graph);
    if let Some(inputs) = &inputs {
        let _ = flow_model::evaluate(&lowered.graph, inputs);
    }
    let options = CompileOptions {
        rounding_of: (numerics == Numerics::Literal).then_some(&inlined),
        ..CompileOptions::default()
    };
    let (Ok(program), Some(inputs)) = (flow_cpu::compile(&lowered.graph, &options), inputs) else {
        return;
    };
    if program.arena_bytes() > MEMORY {
        return;
    }
    let slices: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
    let mut request = program.request();
    if request.run(&slices).is_ok() {
        for index in 0..=program.outputs().len() {
            let _ = (request.output(index), request.output_shape(index));
        }
    }
}

/// Values for the inputs: small numbers, open axes of length 2; `None` if there would be too many.
fn inputs(graph: &Graph) -> Option<Vec<Tensor>> {
    let mut left = MAX_INPUT;
    graph
        .parameters
        .iter()
        .map(|&id| {
            let info = graph.node(id).outputs.first()?;
            let shape: Vec<usize> = info.shape.iter().map(|d| d.unwrap_or(2)).collect();
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            left = left.checked_sub(count)?;
            let values: Vec<f64> = (0..count).map(|i| (i * 37 % 101) as f64 / 25.0 - 1.0).collect();
            Tensor::from_f64(info.element_type, &shape, &values).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_valid_and_runs() {
        flow_model::limits::set_memory(MEMORY);
        for model in models() {
            let weights = ir::Weights::Memory(Arc::new(model.bin.clone()));
            let graph = ir::parse(Path::new("model.xml"), model.xml.as_bytes(), weights)
                .unwrap_or_else(|e| panic!("{}: {e}", model.name));
            let inputs = inputs(&graph).unwrap();
            flow_model::evaluate(&graph, &inputs).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        }
    }

    #[test]
    fn recipes_of_any_kind_go_the_whole_way() {
        let mut state = 1u64;
        for _ in 0..2000 {
            let recipe: Vec<u8> = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            whole_way(&recipe);
        }
    }
}
