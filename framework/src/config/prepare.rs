//! The prepare phase: every kind opens what it needs, and the details of ports are compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::section;
use super::plan::{Component, Pipeline, PreparedPipeline};
use crate::codes;
use crate::diagnostics::{Diagnostic, Diagnostics, Span};
use crate::ports::SharedDetail;
use crate::registry::{ModelDecl, PrepareContext, PreparedComponent, Registry};

/// Prepares all components, consumers before their producers, so that a producer knows what is wanted of it.
/// All errors come out at once.
pub fn prepare(pipeline: &Pipeline, registry: &Registry) -> Result<PreparedPipeline, Diagnostics> {
    let mut found = Diagnostics::new(pipeline.sources.clone());
    let models = resolve_models(pipeline, &mut found);
    let count = pipeline.components.len();
    let mut parts: Vec<Option<PreparedComponent>> = Vec::new();
    parts.resize_with(count, || None);
    for (i, component) in pipeline.components.iter().enumerate().rev() {
        let downstream: Vec<(String, SharedDetail)> = pipeline
            .consumers(i)
            .filter_map(|(c, _)| {
                let detail = wants(parts[c].as_ref()?)?;
                Some((pipeline.components[c].name.to_string(), detail))
            })
            .collect();
        let consumers_failed = pipeline.consumers(i).any(|(c, _)| parts[c].is_none());
        let cx = Preparing {
            pipeline,
            registry,
            models: &models,
            downstream: &downstream,
            consumers_failed,
        };
        parts[i] = cx.component(component, &mut found);
    }
    check_details(pipeline, &parts, &mut found);
    check_files(pipeline, &parts, &mut found);
    let complete: Option<Vec<PreparedComponent>> = parts.into_iter().collect();
    match complete {
        Some(parts) if !found.has_errors() => Ok(PreparedPipeline {
            pipeline: pipeline.clone(),
            parts,
        }),
        _ => {
            found.sort();
            Err(found)
        }
    }
}

/// What is known before a component is prepared.
struct Preparing<'a> {
    pipeline: &'a Pipeline,
    registry: &'a Registry,
    models: &'a BTreeMap<String, ModelDecl>,
    /// What its consumers want.
    downstream: &'a [(String, SharedDetail)],
    /// Some of its consumers could not be prepared.
    consumers_failed: bool,
}

impl Preparing<'_> {
    fn component(&self, component: &Component, found: &mut Diagnostics) -> Option<PreparedComponent> {
        // That its model is missing has been said.
        if component
            .model
            .as_ref()
            .is_some_and(|m| !self.models.contains_key(m))
        {
            return None;
        }
        let context = PrepareContext {
            name: &component.name,
            folder: &self.pipeline.folder,
            models: self.models,
            downstream: self.downstream,
            streams: &component.streams,
            replicas: component.replica_count(),
            threads: component.threads,
            batch: component.batch.as_ref(),
        };
        let Some(kind) = self.registry.get(component.role, component.kind) else {
            found.push(Diagnostic::error(
                codes::UNKNOWN_TYPE,
                component.span,
                format!("unknown type `{}` of {}", component.kind, component.name),
            ));
            return None;
        };
        match kind.prepare(&component.config, &context) {
            Ok(part) => {
                if component.batch.is_some() && !matches!(&part, PreparedComponent::Stage(p) if p.batches) {
                    found.push(not_batched(component));
                }
                return Some(part);
            }
            // What is wrong with the consumer has been said.
            Err(error) if error.wants_consumers && self.consumers_failed => {}
            Err(error) => {
                let section = section(component.role);
                let place = if error.key.is_empty() {
                    format!("`{section}.{}`", component.name)
                } else {
                    format!("`{section}.{}.{}`", component.name, error.key)
                };
                let span = key_span(component, &error.key);
                let mut diagnostic =
                    Diagnostic::error(error.code, span, format!("{place}: {}", error.message));
                diagnostic.help.extend(error.help);
                found.push(diagnostic);
            }
        }
        None
    }
}

/// What prepared components want and give, by their place in the pipeline.
#[derive(Debug, Clone, Default)]
pub struct Details {
    wants: Vec<Option<SharedDetail>>,
    gives: Vec<Option<SharedDetail>>,
}

impl Details {
    /// The details of a prepared pipeline.
    pub fn of(prepared: &PreparedPipeline) -> Self {
        Self {
            wants: prepared.parts.iter().map(wants).collect(),
            gives: prepared.parts.iter().map(gives).collect(),
        }
    }
}

/// Prepares one component of a pipeline whose others are at work already, with the details that they have.
///
/// # Errors
/// What is wrong with it, or does not fit its neighbours any more.
pub fn prepare_again(
    pipeline: &Pipeline,
    registry: &Registry,
    index: usize,
    details: &Details,
) -> Result<PreparedComponent, Diagnostics> {
    let mut found = Diagnostics::new(pipeline.sources.clone());
    let models = resolve_models(pipeline, &mut found);
    let consumers = pipeline.consumers(index);
    let downstream: Vec<(String, SharedDetail)> = consumers
        .filter_map(|(c, _)| {
            let detail = details.wants.get(c)?.clone()?;
            Some((pipeline.components.get(c)?.name.to_string(), detail))
        })
        .collect();
    let cx = Preparing {
        pipeline,
        registry,
        models: &models,
        downstream: &downstream,
        consumers_failed: false,
    };
    let component = pipeline.components.get(index);
    let part = component.and_then(|component| cx.component(component, &mut found));
    if let Some(part) = &part {
        let mut details = details.clone();
        if let (Some(w), Some(g)) = (details.wants.get_mut(index), details.gives.get_mut(index)) {
            (*w, *g) = (wants(part), gives(part));
        }
        check_given(pipeline, &details, &mut found);
    }
    match part {
        Some(part) if !found.has_errors() => Ok(part),
        _ => {
            found.sort();
            Err(found)
        }
    }
}

fn not_batched(component: &Component) -> Diagnostic {
    Diagnostic::error(
        codes::NOT_BATCHED,
        key_span(component, "batch"),
        format!(
            "`{}` ({}) takes one packet at a time",
            component.name, component.kind
        ),
    )
    .help("remove `batch`; raise `replicas` for throughput")
}

/// The models whose files exist, with the paths that do.
fn resolve_models(pipeline: &Pipeline, found: &mut Diagnostics) -> BTreeMap<String, ModelDecl> {
    let mut models = BTreeMap::new();
    for (name, model) in &pipeline.models {
        if let Some(path) = resolve(&model.path, &pipeline.folder) {
            let sha256 = model.sha256.clone();
            models.insert(name.clone(), ModelDecl { path, sha256 });
            continue;
        }
        let mut looked = vec![model.path.display().to_string()];
        if model.path.is_relative() {
            looked.push(pipeline.folder.join(&model.path).display().to_string());
        }
        looked.dedup();
        let span = pipeline.model_spans.get(name).copied().unwrap_or_default();
        found.push(
            Diagnostic::error(
                codes::MODEL_MISSING,
                span,
                format!("there is no model file {}", looked.join(" nor ")),
            )
            .help(format!("correct `models.{name}.path`")),
        );
    }
    models
}

fn resolve(path: &Path, folder: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), folder.join(path)]
        .into_iter()
        .find(|p| p.exists())
}

/// Place of a key of a component, of the nearest key above it, or of the component.
fn key_span(component: &Component, key: &str) -> Span {
    let mut key = key;
    loop {
        if let Some(span) = component.key_spans.get(key) {
            return *span;
        }
        match key.rfind(['.', '[']) {
            Some(end) => key = &key[..end],
            None => return component.span,
        }
    }
}

fn wants(part: &PreparedComponent) -> Option<SharedDetail> {
    match part {
        PreparedComponent::Source(p) => p.wants.clone(),
        PreparedComponent::Stage(p) => p.wants.clone(),
        PreparedComponent::Sink(p) => p.wants.clone(),
    }
}

fn gives(part: &PreparedComponent) -> Option<SharedDetail> {
    match part {
        PreparedComponent::Source(p) => p.gives.clone(),
        PreparedComponent::Stage(p) => p.gives.clone(),
        PreparedComponent::Sink(p) => p.gives.clone(),
    }
}

/// How a component uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Reads,
    Writes,
}

/// Finds files that one component writes and another one writes or reads, and standard streams used twice.
fn check_files(pipeline: &Pipeline, parts: &[Option<PreparedComponent>], found: &mut Diagnostics) {
    let mut users: BTreeMap<(PathBuf, Option<Use>), (usize, Use)> = BTreeMap::new();
    for (i, component) in pipeline.components.iter().enumerate() {
        let Some((reads, writes)) = parts[i].as_ref().map(|part| (part.reads(), part.writes())) else {
            continue;
        };
        let reads = reads.iter().map(|file| (file, Use::Reads));
        for (file, now) in reads.chain(writes.iter().map(|file| (file, Use::Writes))) {
            let is_stream = file == Path::new("-");
            // `-` is two things: standard input to who reads, standard output to who writes.
            let key = (identity(file), is_stream.then_some(now));
            let (other, before) = *users.entry(key).or_insert((i, now));
            if other == i || (now == Use::Reads && before == Use::Reads && !is_stream) {
                continue;
            }
            let verb = |used| if used == Use::Reads { "read" } else { "written" };
            let (what, help) = match (is_stream, now) {
                (true, Use::Reads) => ("standard input".to_owned(), "it can be read once; name a file"),
                (true, Use::Writes) => ("standard output".to_owned(), "give one of them a file"),
                (false, _) => (file.display().to_string(), "give each its own file"),
            };
            found.push(
                Diagnostic::error(
                    codes::FILE_USED_TWICE,
                    key_span(component, "path"),
                    format!(
                        "{what} is {} by `{}` and {} by `{}`",
                        verb(before),
                        pipeline.components[other].name,
                        verb(now),
                        component.name
                    ),
                )
                .help(help),
            );
        }
    }
}

/// One path for all ways to write it.
fn identity(file: &Path) -> PathBuf {
    if file == Path::new("-") {
        return file.to_path_buf();
    }
    std::fs::canonicalize(file)
        .or_else(|_| std::path::absolute(file))
        .unwrap_or_else(|_| file.to_path_buf())
}

fn check_details(pipeline: &Pipeline, parts: &[Option<PreparedComponent>], found: &mut Diagnostics) {
    let details = Details {
        wants: parts.iter().map(|part| part.as_ref().and_then(wants)).collect(),
        gives: parts.iter().map(|part| part.as_ref().and_then(gives)).collect(),
    };
    check_given(pipeline, &details, found);
}

fn check_given(pipeline: &Pipeline, details: &Details, found: &mut Diagnostics) {
    for (consumer, wanted) in pipeline.components.iter().zip(&details.wants) {
        let Some(wanted) = wanted else {
            continue;
        };
        for edge in &consumer.inputs {
            let Some(given) = details.gives.get(edge.from).and_then(Option::as_ref) else {
                continue;
            };
            let Err(difference) = given.feeds(&**wanted) else {
                continue;
            };
            let producer = &pipeline.components[edge.from];
            found.push(
                Diagnostic::error(
                    codes::PORT_DETAIL,
                    edge.span,
                    format!(
                        "mismatch on edge {} -> {}: {} gives {given}; {} wants {wanted}",
                        producer.name, consumer.name, producer.name, consumer.name
                    ),
                )
                .help(difference)
                .help(format!("run `flowrun explain {}`", codes::PORT_DETAIL)),
            );
        }
    }
}
