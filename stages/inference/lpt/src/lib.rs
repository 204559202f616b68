//! Low Precision Transformations: from FakeQuantize to 8-bit tensors and dequantizations.
//!
//! [`transform`] rewrites a quantized graph so that convolutions, matrix products and all that only moves or
//! compares values work on 8-bit codes. Passes run in the order of [`PASSES`]; each is a function from a graph
//! to a graph. What stays in floating point is told with a reason in the [`Report`]: it is never an error.
//!
//! Codes of activations are always u8 (a signed interval has its zero point in the middle), codes of weights
//! always i8, with zero point 0 wherever the codes allow it.
//!
//! ```no_run
//! let model = flow_model::ir::read("model.xml")?;
//! let lowered = flow_lpt::transform(&model, &flow_lpt::Options::default())?;
//! println!("{:?}", lowered.report.count("Convolution"));
//! for layer in lowered.report.float_layers() {
//!     println!("{}: {}", layer.name, layer.reason.as_ref().map(ToString::to_string).unwrap_or_default());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The passes follow OpenVINO's
//! (<https://docs.openvino.ai/2025/documentation/openvino-extensibility/openvino-plugin-library/advanced-guides/low-precision-transformations.html>)
//! and go beyond them: zero points in weights, signed activations, functions on codes with a zero point, and
//! shape operations between weights and their scales are all integer.
#![deny(missing_docs)]

mod bodies;
mod classify;
mod cleanup;
mod constants;
mod dequantization;
mod error;
mod fake_quantize;
mod intervals;
mod limits;
mod literal_tables;
mod move_fake_quantize;
mod options;
mod propagate;
mod regions;
mod report;
mod residual;
mod rewrite;
#[cfg(test)]
mod testing;
mod weights;

use flow_model::graph::Graph;

pub use error::LptError;
pub use options::{Limits, Numerics, Options};
pub use report::{Count, Fate, LayerReport, Notes, Reason, ReasonCode, Report};

/// A rewritten graph and what became of each operation.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The graph.
    pub graph: Graph,
    /// What became of each operation of the model.
    pub report: Report,
}

/// A step of the transformation.
pub struct Pass {
    /// What it is called in traces.
    pub name: &'static str,
    run: fn(&Graph, &Options, &mut Notes) -> Graph,
}

impl Pass {
    /// Runs the pass.
    pub fn run(&self, graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
        (self.run)(graph, options, notes)
    }
}

/// The passes in the order in which they run.
pub const PASSES: [Pass; 9] = [
    Pass {
        name: "fold constants",
        run: constants::fold,
    },
    Pass {
        name: "fold weights",
        run: weights::fold::fold,
    },
    Pass {
        name: "fuse constants into limits",
        run: limits::fuse_constants,
    },
    Pass {
        name: "move FakeQuantize before Concat",
        run: move_fake_quantize::move_up,
    },
    Pass {
        name: "drop inner rounding",
        run: residual::drop_inner_rounding,
    },
    Pass {
        name: "align intervals",
        run: intervals::align,
    },
    Pass {
        name: "decompose FakeQuantize",
        run: fake_quantize::decompose,
    },
    Pass {
        name: "push dequantizations down",
        run: propagate::push_down,
    },
    Pass {
        name: "clean up",
        run: cleanup::clean_up,
    },
];

/// Rewrites a graph for 8-bit inference.
///
/// # Errors
/// If the options name a layer that the model does not have.
pub fn transform(graph: &Graph, options: &Options) -> Result<Lowered, LptError> {
    transform_observed(graph, options, |_, _| {})
}

/// Like [`transform`], and shows the graph after each pass, with the name of the pass.
///
/// # Errors
/// As [`transform`].
pub fn transform_observed(
    graph: &Graph,
    options: &Options,
    mut observe: impl FnMut(&'static str, &Graph),
) -> Result<Lowered, LptError> {
    for layer in &options.float_layers {
        if !graph.nodes.iter().any(|n| *n.name == **layer) {
            return Err(LptError::UnknownLayer {
                model: graph.name.clone(),
                layer: layer.clone(),
            });
        }
    }
    let mut notes = Notes::default();
    let (mut lowered, inner) = bodies::transform(graph, options)?;
    for (index, pass) in PASSES.iter().enumerate() {
        lowered = pass.run(&lowered, options, &mut notes);
        if index == 0 && options.numerics == Numerics::Literal {
            notes.tables = literal_tables::tables(&lowered);
        }
        observe(pass.name, &lowered);
    }
    let mut report = classify::report(graph, &lowered, &notes);
    bodies::join(&mut report, inner);
    Ok(Lowered {
        graph: lowered,
        report,
    })
}
