//! Bodies of If, Loop and TensorIterator: each is a network of its own.

use std::sync::Arc;

use flow_model::graph::Graph;
use flow_model::op::Op;
use flow_model::ops::control;

use crate::error::LptError;
use crate::options::Options;
use crate::report::{LayerReport, Reason, ReasonCode, Report};

/// What became of the operations in the bodies of one operation.
pub(crate) struct Inner {
    name: Arc<str>,
    layers: Vec<LayerReport>,
}

/// The graph with its bodies transformed, and what became of their operations.
pub(crate) fn transform(graph: &Graph, options: &Options) -> Result<(Graph, Vec<Inner>), LptError> {
    let mut changed = graph.clone();
    let mut inner = Vec::new();
    // Layers that the options name are those of the network itself.
    let options = Options {
        float_layers: Default::default(),
        ..options.clone()
    };
    for node in changed.nodes.iter_mut().filter(|n| control::has_bodies(&n.op)) {
        let mut layers = Vec::new();
        let op: Result<Op, LptError> = control::map_bodies(&node.op, |body| {
            let lowered = crate::transform(body, &options)?;
            layers.extend(lowered.report.layers);
            Ok(lowered.graph)
        });
        node.op = op?;
        inner.push(Inner {
            name: node.name.clone(),
            layers,
        });
    }
    Ok((changed, inner))
}

/// Adds what became of the operations in bodies, each named after the operation and itself.
pub(crate) fn join(report: &mut Report, inner: Vec<Inner>) {
    for inner in inner {
        let integer = inner.layers.iter().filter(|l| l.is_integer()).count();
        let total = inner.layers.len();
        if let Some(layer) = report.layers.iter_mut().find(|l| l.name == inner.name) {
            layer.reason = Some(Reason::new(
                ReasonCode::InBody,
                format!(
                    "\"{}\" runs a body of {total} operations, {integer} of them on codes",
                    inner.name
                ),
            ));
        }
        report
            .layers
            .extend(inner.layers.into_iter().map(|layer| LayerReport {
                name: format!("{}/{}", inner.name, layer.name).into(),
                ..layer
            }));
    }
}
