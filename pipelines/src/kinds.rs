//! The kinds of sources, stages and sinks that the command knows.

use flow::registry::Registry;

/// Every kind that the `flowrun` command knows. A program that embeds pipelines may add its own to it.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    flow_decode::register(&mut registry);
    flow_preprocess::register(&mut registry);
    flow_inference::register(&mut registry);
    flow_postprocess::register(&mut registry);
    flow_output::register(&mut registry);
    registry
}
