//! The check phase: from a document to a plan, without I/O, with all errors at once.

mod components;
mod flow;
mod graph;
mod joins;
mod sections;
mod timing;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub(super) use components::section;

use super::document::Document;
use super::keys::{self, DefaultsKeys};
use super::path::KeyPath;
use super::plan::Pipeline;
use super::tree::{Node, Value};
use super::validate::{Rules, validate};
use crate::codes;
use crate::diagnostics::{Diagnostic, Diagnostics, Span};
use crate::registry::Registry;

/// A pipeline without errors, and the warnings about it.
#[derive(Debug)]
pub struct Checked {
    /// The plan.
    pub pipeline: Pipeline,
    /// What may not be meant.
    pub warnings: Diagnostics,
}

/// Checks a document against the kinds of a registry: keys and values, names, the graph, ports, queues,
/// replicas and pins. The error holds everything that was found, warnings included.
pub fn check(document: &Document, registry: &Registry) -> Result<Checked, Diagnostics> {
    let mut found = document.found.clone();
    let pipeline = plan(document, registry, &mut found);
    let mut diagnostics = Diagnostics::new(document.sources.clone());
    diagnostics.extend(found);
    diagnostics.sort();
    match pipeline {
        Some(pipeline) if !diagnostics.has_errors() => Ok(Checked {
            pipeline,
            warnings: diagnostics,
        }),
        _ => Err(diagnostics),
    }
}

fn plan(document: &Document, registry: &Registry, found: &mut Vec<Diagnostic>) -> Option<Pipeline> {
    let root = &document.root;
    if !matches!(root.value, Value::Mapping(_)) {
        let what = match root.value {
            Value::Null => "the file is empty".to_owned(),
            _ => format!("the file is {}, not a mapping", root.describe()),
        };
        found.push(
            Diagnostic::error(codes::NOT_A_MAPPING, root.span, what)
                .help("a pipeline file has `version: 1`, `sources:`, `stages:` and `sinks:`"),
        );
        return None;
    }
    sections::check_top(root, found);
    let name = sections::pipeline_name(root, Path::new(&document.file));
    let runtime = sections::runtime(root, found);
    let defaults: DefaultsKeys = sections::defaults(root, found);
    let (models, model_spans) = sections::models(root, found);
    let mut drafts = components::drafts(root, registry, found);
    components::check_names(&drafts, found);
    components::check_models(&drafts, &models, &model_spans, found);
    let graph = graph::link(&mut drafts, root, found);
    flow::check_ports(&drafts, &graph, registry, found);
    flow::check_replication(&drafts, found);
    let queues = flow::queues(&drafts, &graph, &defaults, found);
    flow::check_loss(&drafts, &graph, &queues, found);
    joins::check_joins(&drafts, &graph, &queues, found);
    timing::check_timing(&drafts, found);
    flow::check_pins(&drafts, &runtime.reserve, found);
    if found
        .iter()
        .any(|d| d.severity == crate::diagnostics::Severity::Error)
    {
        return None;
    }
    let components = graph::components(&drafts, &graph, &queues, &defaults, &models)?;
    Some(Pipeline {
        name,
        file: document.file.clone(),
        folder: document.folder.clone(),
        runtime,
        models,
        components,
        model_spans,
        sources: document.sources.clone(),
    })
}

/// Checks `node` against a schema and reads it; `None` where it is absent, has errors or holds unknown values.
fn read<T: DeserializeOwned>(
    schema: &Json,
    node: &Node,
    key_span: Span,
    path: &KeyPath,
    found: &mut Vec<Diagnostic>,
) -> Option<T> {
    let rules = Rules {
        root: schema,
        also_known: &[],
        planned: keys::planned,
    };
    let errors = validate(rules, node, key_span, path);
    let clean = errors.is_empty() && !node.has_unknown();
    found.extend(errors);
    if !clean {
        return None;
    }
    typed(node, key_span, path, found)
}

/// Reads a value that has passed its schema.
fn typed<T: DeserializeOwned>(
    node: &Node,
    key_span: Span,
    path: &KeyPath,
    found: &mut Vec<Diagnostic>,
) -> Option<T> {
    match serde_path_to_error::deserialize(node.to_json()) {
        Ok(value) => Some(value),
        Err(error) => {
            let key = error.path().to_string();
            found.push(refused(node, key_span, path, &key, &error.inner().to_string()));
            None
        }
    }
}

/// The error for a value that its schema takes and its type does not.
fn refused(node: &Node, key_span: Span, path: &KeyPath, key: &str, message: &str) -> Diagnostic {
    let (span, place) = locate(node, key_span, path, key);
    Diagnostic::error(codes::BAD_CONFIG, span, format!("`{place}`: {message}"))
}

/// Place and full path of `key`, a path relative to `node`.
fn locate(node: &Node, key_span: Span, path: &KeyPath, key: &str) -> (Span, String) {
    let relative = KeyPath::parse(key).unwrap_or_default();
    if relative.is_root() {
        return (key_span, path.to_string());
    }
    let span = node.span_at(&relative);
    let span = if span == node.span { key_span } else { span };
    let separator = if key.starts_with('[') || path.is_root() {
        ""
    } else {
        "."
    };
    (span, format!("{path}{separator}{relative}"))
}
