//! The graph that inputs make: resolving names, cycles, unused components, streams, topological order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::components::{Draft, section};
use crate::codes;
use crate::config::keys::{BatchKeys, DefaultsKeys, ReconnectKeys};
use crate::config::path::KeyPath;
use crate::config::plan::{Component, InputEdge, OnError, QueueSpec, Replicas, RestartSpec};
use crate::config::suggest::{closest, list};
use crate::config::tree::{Node, Value, shortened};
use crate::diagnostics::{Diagnostic, Span};
use crate::packet::StreamId;
use crate::registry::{ModelDecl, Role};

/// What follows from the edges. Indices are those of the drafts.
pub(super) struct Graph {
    /// Producers before consumers; what stands in a cycle is left out.
    pub order: Vec<usize>,
    /// Consumers of each component, each with the number of its input.
    pub consumers: Vec<Vec<(usize, usize)>>,
    /// Sources whose streams reach each component.
    pub streams: Vec<Vec<usize>>,
}

/// Resolves the inputs of all drafts and checks the graph they make.
pub(super) fn link(drafts: &mut [Draft<'_>], root: &Node, found: &mut Vec<Diagnostic>) -> Graph {
    check_ends(drafts, root, found);
    let mut suggested = Vec::new();
    for consumer in 0..drafts.len() {
        for input in 0..drafts[consumer].inputs.len() {
            match resolve(drafts, consumer, input) {
                Ok(from) => drafts[consumer].inputs[input].from = Some(from),
                Err(miss) => {
                    suggested.extend(miss.suggestion);
                    drafts[consumer].inputs_known &= miss.meant_known;
                    found.push(*miss.error);
                }
            }
        }
    }
    let mut consumers = vec![Vec::new(); drafts.len()];
    for (c, draft) in drafts.iter().enumerate() {
        for (i, input) in draft.inputs.iter().enumerate() {
            if let Some(from) = input.from {
                consumers[from].push((c, i));
            }
        }
    }
    check_unused(drafts, &consumers, &suggested, found);
    let order = topological_order(drafts, &consumers);
    for cycle in cycles(drafts, &order) {
        found.push(cycle_error(drafts, &cycle));
    }
    let streams = streams(drafts, &order);
    Graph {
        order,
        consumers,
        streams,
    }
}

/// A pipeline has a beginning and an end.
fn check_ends(drafts: &[Draft<'_>], root: &Node, found: &mut Vec<Diagnostic>) {
    for role in [Role::Source, Role::Sink] {
        let name = section(role);
        let faulty = root
            .get(name)
            .is_some_and(|n| !matches!(n.value, Value::Mapping(_) | Value::Null));
        if drafts.iter().any(|d| d.role == role) || faulty {
            continue;
        }
        let span = root.entry(name).map_or(root.span, |e| e.key_span);
        found.push(
            Diagnostic::error(codes::NO_SOURCES, span, format!("the pipeline has no {name}")).help(
                match role {
                    Role::Source => "add one, such as `sources: {clip: {type: file, path: clip.mp4}}`",
                    _ => "add one, such as `sinks: {events: {type: jsonl, inputs: [NAME], path: out.jsonl}}`",
                },
            ),
        );
    }
}

struct Miss {
    error: Box<Diagnostic>,
    /// The component that was probably meant.
    suggestion: Option<usize>,
    /// No other component can have been meant.
    meant_known: bool,
}

fn resolve(drafts: &[Draft<'_>], consumer: usize, input: usize) -> Result<usize, Miss> {
    let this = &drafts[consumer];
    let wanted = &this.inputs[input];
    let name = wanted.name.as_str();
    let fail = |error: Diagnostic| {
        Err(Miss {
            meant_known: error.code != codes::NOT_SUPPORTED,
            error: Box::new(error),
            suggestion: None,
        })
    };
    if let Some(first) = this.inputs[..input].iter().find(|i| i.name == name) {
        return fail(
            Diagnostic::error(
                codes::DUPLICATE_INPUT,
                wanted.span,
                format!("{} has the input `{name}` twice", this.path),
            )
            .note(first.span, "first here")
            .help("remove one of them"),
        );
    }
    let producer = |d: &&Draft<'_>| d.role != Role::Sink;
    if let Some(from) = drafts.iter().position(|d| d.name == name && producer(&d)) {
        return Ok(from);
    }
    if drafts.iter().any(|d| d.name == name) {
        let sink = drafts.iter().find(|d| d.name == name);
        let feeds: Vec<&str> = sink
            .into_iter()
            .flat_map(|s| &s.inputs)
            .map(|i| i.name.as_str())
            .collect();
        let error = Diagnostic::error(
            codes::SINK_AS_INPUT,
            wanted.span,
            format!("`{name}` is a sink; sinks feed nothing"),
        );
        return fail(if feeds.is_empty() {
            error
        } else {
            error.help(format!("take what feeds it: {}", list(feeds, "or")))
        });
    }
    if name.contains(['*', '?', '.']) {
        return fail(
            Diagnostic::error(
                codes::NOT_SUPPORTED,
                wanted.span,
                format!(
                    "patterns and named outputs such as `{}` are not supported yet",
                    shortened(name)
                ),
            )
            .help("name every input"),
        );
    }
    let names = || {
        drafts
            .iter()
            .filter(producer)
            .filter(|d| d.name != this.name)
            .map(|d| d.name)
    };
    let close = closest(name, names());
    let error = Diagnostic::error(
        codes::UNKNOWN_INPUT,
        wanted.span,
        format!("there is no source or stage `{}`", shortened(name)),
    );
    Err(Miss {
        error: Box::new(match close {
            Some(close) => error.label(format!("did you mean `{close}`?")),
            None if names().next().is_none() => error.help("the file has no other sources or stages"),
            None => error.help(format!("sources and stages: {}", list(names(), "and"))),
        }),
        meant_known: true,
        suggestion: close.and_then(|c| drafts.iter().position(|d| d.name == c)),
    })
}

fn check_unused(
    drafts: &[Draft<'_>],
    consumers: &[Vec<(usize, usize)>],
    suggested: &[usize],
    found: &mut Vec<Diagnostic>,
) {
    // Inputs that could not be read may have named it.
    let all_known = drafts.iter().all(|d| d.inputs_known || d.role == Role::Source);
    for (i, draft) in drafts.iter().enumerate() {
        let second = drafts[..i].iter().any(|d| d.name == draft.name);
        if draft.role == Role::Sink
            || !consumers[i].is_empty()
            || suggested.contains(&i)
            || !all_known
            || second
        {
            continue;
        }
        let (code, what) = match draft.role {
            Role::Source => (codes::UNUSED_SOURCE, "source"),
            _ => (codes::UNUSED_STAGE, "stage"),
        };
        found.push(
            Diagnostic::error(
                code,
                draft.name_span,
                format!("nothing takes the output of the {what} `{}`", draft.name),
            )
            .help(format!(
                "add `{}` to the inputs of a stage or sink, or remove it",
                draft.name
            )),
        );
    }
}

/// Sources, then stages as soon as all their producers stand, then sinks; each in the order of the file.
fn topological_order(drafts: &[Draft<'_>], consumers: &[Vec<(usize, usize)>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = drafts
        .iter()
        .map(|d| d.inputs.iter().filter(|i| i.from.is_some()).count())
        .collect();
    let mut order = Vec::with_capacity(drafts.len());
    let mut ready: std::collections::BTreeSet<usize> =
        (0..drafts.len()).filter(|i| waiting[*i] == 0).collect();
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for (consumer, _) in &consumers[next] {
            waiting[*consumer] -= 1;
            if waiting[*consumer] == 0 {
                ready.insert(*consumer);
            }
        }
    }
    order
}

/// One cycle for each group of components that feed one another.
fn cycles(drafts: &[Draft<'_>], order: &[usize]) -> Vec<Vec<usize>> {
    let mut settled = vec![false; drafts.len()];
    for i in order {
        settled[*i] = true;
    }
    let mut cycles = Vec::new();
    for start in 0..drafts.len() {
        // Walking from consumer to unsettled producer must come back to where it has been.
        let mut walk: Vec<usize> = Vec::new();
        let mut at = start;
        while !settled[at] {
            if let Some(begin) = walk.iter().position(|w| *w == at) {
                let mut cycle = walk[begin..].to_vec();
                cycle.reverse();
                cycles.push(cycle);
                break;
            }
            walk.push(at);
            let unsettled = drafts[at]
                .inputs
                .iter()
                .filter_map(|i| i.from)
                .find(|f| !settled[*f]);
            match unsettled {
                Some(from) => at = from,
                None => break,
            }
        }
        for i in walk {
            settled[i] = true;
        }
    }
    cycles
}

fn cycle_error(drafts: &[Draft<'_>], cycle: &[usize]) -> Diagnostic {
    let first = cycle
        .iter()
        .enumerate()
        .min_by_key(|(_, i)| **i)
        .map_or(0, |(place, _)| place);
    let rotated: Vec<usize> = cycle[first..].iter().chain(&cycle[..first]).copied().collect();
    let names: Vec<&str> = rotated
        .iter()
        .chain(rotated.first())
        .map(|i| drafts[*i].name)
        .collect();
    let head = &drafts[rotated[0]];
    let last = rotated[rotated.len() - 1];
    let span = head
        .inputs
        .iter()
        .find(|i| i.from == Some(last))
        .map_or(head.name_span, |i| i.span);
    Diagnostic::error(
        codes::CYCLE,
        span,
        format!("stages feed one another in a circle: {}", names.join(" -> ")),
    )
    .label("this edge closes it")
    .help("a pipeline has no way back; remove one of these edges")
}

fn streams(drafts: &[Draft<'_>], order: &[usize]) -> Vec<Vec<usize>> {
    let mut streams: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for &i in order {
        let mut reaching: Vec<usize> = match drafts[i].role {
            Role::Source => vec![i],
            _ => drafts[i]
                .inputs
                .iter()
                .filter_map(|input| input.from)
                .flat_map(|from| streams[from].clone())
                .collect(),
        };
        reaching.sort_unstable();
        reaching.dedup();
        streams[i] = reaching;
    }
    streams
}

/// The plan's components. `None` if a draft is incomplete, which an error has told.
pub(super) fn components(
    drafts: &[Draft<'_>],
    graph: &Graph,
    queues: &[Vec<QueueSpec>],
    defaults: &DefaultsKeys,
    models: &BTreeMap<String, ModelDecl>,
) -> Option<Vec<Component>> {
    let mut places = vec![usize::MAX; drafts.len()];
    for (place, i) in graph.order.iter().enumerate() {
        places[*i] = place;
    }
    graph
        .order
        .iter()
        .map(|&i| {
            let draft = &drafts[i];
            let kind = draft.kind?;
            let mut component = Component::new(draft.name, draft.role, kind.info.name, draft.config.clone()?);
            for (input, queue) in draft.inputs.iter().zip(&queues[i]) {
                component.inputs.push(InputEdge {
                    from: places[input.from?],
                    queue: *queue,
                    span: input.span,
                });
            }
            component.streams = graph.streams[i]
                .iter()
                .map(|s| StreamId::from(drafts[*s].name))
                .collect();
            component.replicas = draft.replicas.map_or(Replicas::Count(1), Replicas::from);
            component.threads = draft.threads.unwrap_or(1);
            component.pin = draft.pin.as_ref().map(|pin| pin.spec(draft.key_span("pin")));
            component.on_error = on_error(draft, defaults);
            component.restart = if draft.role == Role::Source {
                RestartSpec::default()
            } else {
                draft.restart.spec(&defaults.restart)
            };
            component.reconnect = draft.reconnect.as_ref().map(ReconnectKeys::spec);
            component.stall_timeout = draft.stall_timeout.map(|time| time.0);
            component.route = draft.route.map(Into::into).unwrap_or_default();
            component.order = draft.order.map(Into::into).unwrap_or_default();
            component.window = draft.window;
            component.join = draft.join.map(Into::into);
            component.batch = draft.batch.as_ref().map(BatchKeys::spec);
            component.deadline = draft.deadline.map(|deadline| deadline.0);
            component.timeout = draft.timeout.map(|timeout| timeout.0);
            component.rate_limit = draft.rate_limit.map(|limit| limit.spec());
            component.model = draft
                .node
                .get("model")
                .and_then(Node::as_str)
                .filter(|name| models.contains_key(*name))
                .map(str::to_owned);
            component.required = draft.required;
            component.live = draft.live;
            component.span = draft.name_span;
            component.key_spans = Arc::new(key_spans(draft.node));
            Some(component)
        })
        .collect()
}

/// What the component says, filled up from the defaults where the action is the same.
fn on_error(draft: &Draft<'_>, defaults: &DefaultsKeys) -> OnError {
    let keys = match (&draft.on_error, &defaults.on_error) {
        (Some(own), Some(below)) if own.action == below.action => {
            let mut keys = own.clone();
            keys.path = keys.path.or_else(|| below.path.clone());
            keys.folder = keys.folder.or_else(|| below.folder.clone());
            keys.max_bytes = keys.max_bytes.or(below.max_bytes);
            keys.max_count = keys.max_count.or(below.max_count);
            keys.backoff = keys.backoff.or(below.backoff);
            keys.max = keys.max.or(below.max);
            keys.then = keys.then.or(below.then);
            Some(keys)
        }
        (Some(own), _) => Some(own.clone()),
        (None, below) => below.clone(),
    };
    keys.map(|keys| keys.spec().0).unwrap_or_default()
}

fn key_spans(node: &Node) -> BTreeMap<String, Span> {
    let mut spans = BTreeMap::new();
    node.visit_spans(&KeyPath::root(), &mut |path, span| {
        if !path.is_root() {
            spans.insert(path.to_string(), span);
        }
    });
    spans
}
