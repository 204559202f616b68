//! What flows along the edges: port types, replicas, queues, loss and pins.

use super::components::{Draft, DraftInput};
use super::graph::Graph;
use crate::codes;
use crate::config::keys::{DefaultsKeys, OverflowKey, ReplicasKey, RouteKey, cpus};
use crate::config::plan::{Lossy, OnExceed, Overflow, QueueSpec};
use crate::config::suggest::list;
use crate::diagnostics::{Diagnostic, Span};
use crate::ports::PortType;
use crate::registry::{Registry, Replication, Role};

/// Every type a producer may give must be one that its consumer takes.
pub(super) fn check_ports(
    drafts: &[Draft<'_>],
    graph: &Graph,
    registry: &Registry,
    found: &mut Vec<Diagnostic>,
) {
    let gives = given_types(drafts, graph);
    for consumer in drafts {
        let Some(kind) = consumer.kind else { continue };
        let takes = kind.info.ports.takes;
        for input in &consumer.inputs {
            let Some(from) = input.from else { continue };
            let (producer, types) = (&drafts[from], &gives[from]);
            let refused: Vec<&str> = types
                .iter()
                .filter(|t| !t.is_taken_by(takes))
                .map(|t| t.0)
                .collect();
            if refused.is_empty() {
                continue;
            }
            let error = Diagnostic::error(
                codes::PORT_TYPE,
                input.span,
                format!(
                    "`{}` ({}) may give {}, but `{}` ({}) takes {}",
                    producer.name,
                    producer.kind_name(),
                    list(refused.iter().copied(), "and"),
                    consumer.name,
                    consumer.kind_name(),
                    list(takes.iter().map(|t| t.0), "and")
                ),
            )
            .label(format!("gives {}", list(types.iter().map(|t| t.0), "or")));
            // A stage that turns the one into the other.
            let between = registry.kinds().filter(|k| {
                k.role == Role::Stage
                    && types.iter().all(|t| t.is_taken_by(k.info.ports.takes))
                    && !k.info.ports.gives.contains(&PortType::ANY)
                    && k.info.ports.gives.iter().all(|t| t.is_taken_by(takes))
            });
            let between: Vec<&str> = between.map(|k| k.info.name).collect();
            found.push(if between.is_empty() {
                error.help(format!(
                    "no single stage turns {} into {}",
                    list(types.iter().map(|t| t.0), "or"),
                    list(takes.iter().map(|t| t.0), "or")
                ))
            } else {
                error.help(format!(
                    "put a stage between them that turns one into the other: {}",
                    list(between.iter().take(6).copied(), "or")
                ))
            });
        }
    }
}

/// Types that each component may give; a kind that hands on what it takes gives what its producers give.
fn given_types(drafts: &[Draft<'_>], graph: &Graph) -> Vec<Vec<PortType>> {
    let mut gives: Vec<Vec<PortType>> = vec![Vec::new(); drafts.len()];
    for &i in &graph.order {
        let Some(kind) = drafts[i].kind else { continue };
        let mut types = Vec::new();
        for given in kind.info.ports.gives {
            if *given == PortType::ANY {
                let from = drafts[i].inputs.iter().filter_map(|input| input.from);
                types.extend(from.flat_map(|from| gives[from].clone()));
            } else {
                types.push(*given);
            }
        }
        types.sort_unstable();
        types.dedup();
        gives[i] = types;
    }
    gives
}

/// A stage with state must see a stream in one instance.
pub(super) fn check_replication(drafts: &[Draft<'_>], found: &mut Vec<Diagnostic>) {
    for draft in drafts {
        let (Some(kind), Some(replicas)) = (draft.kind, draft.replicas) else {
            continue;
        };
        if replicas == ReplicasKey::Count(1) {
            continue;
        }
        let counted = matches!(replicas, ReplicasKey::Count(_));
        let by_stream = draft.route == Some(RouteKey::ByStream);
        let name = kind.info.name;
        let span = draft.key_span("replicas");
        let error = match kind.info.replication {
            Replication::Free => continue,
            Replication::PerStream if !counted || by_stream => continue,
            Replication::PerStream => Diagnostic::error(
                codes::REPLICAS,
                span,
                format!("`{name}` keeps state per stream; any replica may take any packet here"),
            )
            .label("packets of one stream would be spread")
            .help("say `replicas: per_stream`, or add `route: by_stream`"),
            Replication::Single => Diagnostic::error(
                codes::REPLICAS,
                span,
                format!("`{name}` runs as one instance only"),
            )
            .label("expected 1")
            .help("remove `replicas`"),
        };
        found.push(error);
    }
}

/// Which components lead to a required sink.
fn leads_to_required(drafts: &[Draft<'_>], graph: &Graph) -> Vec<bool> {
    let mut leads: Vec<bool> = drafts
        .iter()
        .map(|d| d.role == Role::Sink && d.required)
        .collect();
    for &i in graph.order.iter().rev() {
        leads[i] |= graph.consumers[i].iter().any(|(c, _)| leads[*c]);
    }
    leads
}

/// The queue of each input of each component.
pub(super) fn queues(
    drafts: &[Draft<'_>],
    graph: &Graph,
    defaults: &DefaultsKeys,
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<QueueSpec>> {
    let required = leads_to_required(drafts, graph);
    let mut all = Vec::with_capacity(drafts.len());
    for (consumer, draft) in drafts.iter().enumerate() {
        let mut queues = Vec::with_capacity(draft.inputs.len());
        for input in &draft.inputs {
            // Here the way to optional sinks leaves that to required ones.
            let leaves = input.from.is_some_and(|from| required[from]) && !required[consumer];
            let keys = input.queue.or(&defaults.queue);
            let mut spec = keys.spec(Overflow::Block);
            if leaves && !spec.overflow.is_lossy() {
                if let (Some(said), Some(span)) = (input.queue.overflow, input.overflow_span) {
                    found.push(optional_blocks(draft, &input.name, said, span));
                }
                spec.overflow = Overflow::DropOldest;
            }
            if spec.capacity == 0 && spec.overflow != Overflow::Block {
                found.push(no_places(draft, input, spec.overflow));
            }
            queues.push(spec);
        }
        all.push(queues);
    }
    all
}

fn no_places(draft: &Draft<'_>, input: &DraftInput, overflow: Overflow) -> Diagnostic {
    let span = input.capacity_span.or(input.overflow_span).unwrap_or(input.span);
    Diagnostic::error(
        codes::NO_PLACES,
        span,
        format!(
            "the queue from `{}` to `{}` has no places, but `{}` needs one",
            input.name,
            draft.name,
            overflow.as_str()
        ),
    )
    .help("give `capacity: 1`, or `overflow: block` to hand each packet over")
}

fn optional_blocks(draft: &Draft<'_>, from: &str, said: OverflowKey, span: Span) -> Diagnostic {
    let (what, reason) = match said {
        OverflowKey::Fail => ("end the pipeline", "`fail`"),
        _ => ("delay required sinks", "`block`"),
    };
    let why = match draft.role {
        Role::Sink => "is not required",
        _ => "leads to sinks that are not required",
    };
    Diagnostic::error(
        codes::OPTIONAL_BLOCKS,
        span,
        format!(
            "`{}` {why}, but {reason} on its edge from `{from}` lets it {what}",
            draft.name
        ),
    )
    .help("use `drop_oldest`, `drop_newest` or `latest`, or make the sink required")
}

/// Loss in the wrong place, or no place for it.
pub(super) fn check_loss(
    drafts: &[Draft<'_>],
    graph: &Graph,
    queues: &[Vec<QueueSpec>],
    found: &mut Vec<Diagnostic>,
) {
    let required = leads_to_required(drafts, graph);
    let lossy = |consumer: usize, input: usize| {
        queues[consumer]
            .get(input)
            .is_some_and(|queue| queue.overflow.is_lossy())
    };
    // Whether results of a model flow through, and whether a live source comes this far without a lossy queue.
    let mut paid: Vec<Option<usize>> = vec![None; drafts.len()];
    let mut blocking: Vec<Option<usize>> = vec![None; drafts.len()];
    // What takes no more than so many a second, behind nothing but queues that block.
    let mut slowed: Vec<Option<usize>> = vec![None; drafts.len()];
    for &i in &graph.order {
        let draft = &drafts[i];
        for (number, input) in draft.inputs.iter().enumerate() {
            let Some(from) = input.from else { continue };
            let drops = lossy(i, number) && required[i];
            let queue = queues[i].get(number).filter(|_| drops);
            let never = queue.filter(|queue| never_drops(drafts, graph, from, queue));
            if let Some((queue, span)) = never.zip(input.overflow_span) {
                found.push(drops_nothing(drafts, graph, (from, i), queue.overflow, span));
            }
            if let Some(model) = paid[from].filter(|_| drops && never.is_none()) {
                found.push(
                    Diagnostic::warning(
                        codes::PAID_WORK_DROPPED,
                        input.overflow_span.unwrap_or(input.span),
                        format!(
                            "this queue may drop results of `{}` on their way to a required sink",
                            drafts[model].name
                        ),
                    )
                    .help(format!(
                        "drop before `{}` instead, and block here",
                        drafts[model].name
                    )),
                );
            }
            paid[i] = paid[i].or(paid[from]);
            if !lossy(i, number) {
                blocking[i] = blocking[i].or(blocking[from]);
                slowed[i] = slowed[i].or(slowed[from]);
            }
        }
        if waits_for_tokens(draft) && blocking[i].is_some() {
            slowed[i] = Some(i);
        }
        if draft.node.get("model").is_some() {
            paid[i] = Some(i);
        }
        if draft.role == Role::Source && draft.live {
            blocking[i] = Some(i);
        }
    }
    let mut told = Vec::new();
    for (i, draft) in drafts.iter().enumerate() {
        let Some(source) = blocking[i].filter(|_| draft.role == Role::Sink && draft.required) else {
            continue;
        };
        if told.contains(&source) {
            continue;
        }
        told.push(source);
        let message = format!(
            "the live source `{}` reaches `{}` through queues that all block",
            drafts[source].name, draft.name
        );
        // What is slower on purpose must have somewhere to lose what it does not take.
        let told = match slowed[i] {
            Some(slow) => {
                let message = format!(
                    "{message}, and `{}` waits for its `rate_limit`",
                    drafts[slow].name
                );
                Diagnostic::error(codes::LIVE_BLOCKS, drafts[source].name_span, message)
                    .note(drafts[slow].key_span("rate_limit"), "frames grow old before it")
            }
            None => Diagnostic::warning(codes::LIVE_BLOCKS, drafts[source].name_span, message),
        };
        found.push(
            told.help("give one input after the decoder `queue: {capacity: 1, overflow: latest}`, so that frames are dropped there rather than grow old"),
        );
    }
}

/// Whether the queue drops nothing, since only files come by it, on the way to a required sink.
fn never_drops(drafts: &[Draft<'_>], graph: &Graph, from: usize, queue: &QueueSpec) -> bool {
    let streams = &graph.streams[from];
    queue.lossy == Lossy::Live && !streams.is_empty() && streams.iter().all(|source| !drafts[*source].live)
}

fn drops_nothing(
    drafts: &[Draft<'_>],
    graph: &Graph,
    (from, to): (usize, usize),
    overflow: Overflow,
    span: Span,
) -> Diagnostic {
    let files = graph.streams[from].iter().map(|source| drafts[*source].name);
    Diagnostic::warning(
        codes::NEVER_DROPS,
        span,
        format!(
            "`{}` drops nothing here: the queue from `{}` to `{}` leads to a required sink, and only files come by it",
            overflow.as_str(),
            drafts[from].name,
            drafts[to].name
        ),
    )
    .label(format!("no live source: {}", list(files.take(4), "and")))
    .help("leave it out; or say `live: true` on a source that stands for a camera, or `lossy: all` here")
}

/// Whether a component makes packets wait so that it takes no more than so many a second.
fn waits_for_tokens(draft: &Draft<'_>) -> bool {
    let limit = draft.rate_limit.map(|limit| limit.spec());
    limit.is_some_and(|limit| limit.on_exceed == OnExceed::Wait)
}

/// Pins that no machine could satisfy.
pub(super) fn check_pins(drafts: &[Draft<'_>], reserve: &[usize], found: &mut Vec<Diagnostic>) {
    for draft in drafts {
        let Some(cores) = draft.pin.as_ref().and_then(|p| p.cores.as_deref()) else {
            continue;
        };
        let listed = cpus(cores);
        let left: Vec<usize> = listed.iter().copied().filter(|c| !reserve.contains(c)).collect();
        let threads = draft.threads.unwrap_or(1);
        let replicas = match draft.replicas {
            Some(ReplicasKey::Count(n)) => n,
            _ => 1,
        };
        let needed = replicas.saturating_mul(threads);
        let oversubscribe = draft.pin.as_ref().is_some_and(|p| p.oversubscribe);
        let span = draft
            .node
            .get("pin")
            .and_then(|p| p.get("cores"))
            .map_or(draft.name_span, |n| n.span);
        if left.is_empty() {
            found.push(
                Diagnostic::error(
                    codes::PIN_CONTRADICTION,
                    span,
                    format!("`runtime.reserve` takes all CPUs that {} lists", draft.path),
                )
                .help("list other CPUs, or reserve fewer"),
            );
        } else if left.len() < needed && !oversubscribe {
            let reserved = match listed.len() - left.len() {
                0 => String::new(),
                n => format!(" ({n} of those listed reserved)"),
            };
            found.push(
                Diagnostic::error(
                    codes::PIN_CONTRADICTION,
                    span,
                    format!(
                        "{} needs {needed} CPUs ({replicas} replicas of {threads} threads), found {}{reserved}",
                        draft.path,
                        left.len()
                    ),
                )
                .help("list more CPUs, use fewer replicas or threads, or say `oversubscribe: true`"),
            );
        }
    }
}
