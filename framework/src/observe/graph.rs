//! The shape of a pipeline: what does not change while it runs.

use serde::Serialize;

use crate::config::plan::{OnError, Pipeline};
use crate::registry::Role;

/// Components and the queues between them.
#[derive(Debug, Clone, Serialize)]
pub struct Graph {
    /// Name of the pipeline.
    pub name: String,
    /// Components in topological order.
    pub stages: Vec<GraphStage>,
    /// Edges, in the order of the runtime's reports.
    pub edges: Vec<GraphEdge>,
}

/// A source, stage or sink.
#[derive(Debug, Clone, Serialize)]
pub struct GraphStage {
    /// Its name.
    pub name: String,
    /// `source`, `stage` or `sink`.
    pub role: &'static str,
    /// Its `type`.
    pub kind: &'static str,
    /// Number of instances.
    pub replicas: usize,
    /// Threads of each instance.
    pub threads: usize,
    /// Whether more instances are possible.
    pub replicable: bool,
    /// Its distance from the sources: where a drawing puts it.
    pub depth: usize,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Sinks: whether packets count as delivered only when it took them.
    pub required: bool,
    /// What becomes of packets that fail.
    pub on_error: &'static str,
    /// Streams that reach it.
    pub streams: Vec<String>,
}

/// An edge.
#[derive(Debug, Clone, Serialize)]
pub struct GraphEdge {
    /// `producer -> consumer`.
    pub name: String,
    /// The producer.
    pub from: String,
    /// The consumer.
    pub to: String,
    /// Packets that may wait; with `latest`, one for each stream.
    pub capacity: usize,
    /// What happens when it is full.
    pub overflow: &'static str,
}

impl Graph {
    /// The shape of a pipeline. `replicable` tells of the kind of a role whether it may have several instances.
    pub fn of(pipeline: &Pipeline, replicable: impl Fn(Role, &str) -> bool) -> Self {
        let mut depths: Vec<usize> = Vec::new();
        let mut stages = Vec::new();
        let mut edges = Vec::new();
        for component in &pipeline.components {
            let before = component.inputs.iter().filter_map(|input| depths.get(input.from));
            let depth = before.max().map_or(0, |depth| depth + 1);
            depths.push(depth);
            stages.push(GraphStage {
                name: component.name.to_string(),
                role: role(component.role),
                kind: component.kind,
                replicas: component.replica_count(),
                threads: component.threads,
                replicable: replicable(component.role, component.kind),
                depth,
                pinned: component.pin.is_some(),
                required: component.required,
                on_error: match &component.on_error {
                    OnError::Fail => "fail",
                    OnError::Drop => "drop",
                    OnError::DeadLetter(_) => "dead_letter",
                    OnError::Retry { .. } => "retry",
                },
                streams: component.streams.iter().map(ToString::to_string).collect(),
            });
            for input in &component.inputs {
                let from = pipeline.components.get(input.from).map_or("", |c| &*c.name);
                edges.push(GraphEdge {
                    name: format!("{from} -> {}", component.name),
                    from: from.to_owned(),
                    to: component.name.to_string(),
                    capacity: match input.queue.overflow {
                        crate::config::plan::Overflow::Latest => component.streams.len(),
                        _ => input.queue.capacity,
                    },
                    overflow: input.queue.overflow.as_str(),
                });
            }
        }
        Self {
            name: pipeline.name.clone(),
            stages,
            edges,
        }
    }

    /// The component of that name.
    pub fn stage(&self, name: &str) -> Option<&GraphStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The edge of that name.
    pub fn edge(&self, name: &str) -> Option<&GraphEdge> {
        self.edges.iter().find(|edge| edge.name == name)
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    }
}
