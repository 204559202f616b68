//! Joins: a stream that comes by several ways, and whether those ways can hold what the others hold.

use std::collections::BTreeSet;

use super::components::Draft;
use super::graph::Graph;
use crate::codes;
use crate::config::keys::{OrderKey, ReplicasKey};
use crate::config::plan::{Overflow, QueueSpec};
use crate::diagnostics::Diagnostic;
use crate::registry::Role;

/// Inputs that carry the same stream, and `join`.
pub(super) fn check_joins(
    drafts: &[Draft<'_>],
    graph: &Graph,
    queues: &[Vec<QueueSpec>],
    found: &mut Vec<Diagnostic>,
) {
    for &i in &graph.order {
        let draft = &drafts[i];
        let mut pairs = Vec::new();
        for b in 0..draft.inputs.len() {
            for a in 0..b {
                let (Some(x), Some(y)) = (draft.inputs[a].from, draft.inputs[b].from) else {
                    continue;
                };
                let shared = graph.streams[x].iter().find(|s| graph.streams[y].contains(s));
                pairs.extend(shared.map(|stream| (a, b, *stream)));
            }
        }
        let span = draft.node.entry("join").map_or(draft.name_span, |e| e.key_span);
        match (draft.join, pairs.first()) {
            (None, Some(&(a, b, stream))) => {
                let (first, second) = (&draft.inputs[a], &draft.inputs[b]);
                found.push(
                    Diagnostic::error(
                        codes::JOIN_NEEDED,
                        second.span,
                        format!(
                            "{} gets the stream `{}` from `{}` and from `{}`",
                            draft.path, drafts[stream].name, first.name, second.name
                        ),
                    )
                    .note(first.span, "the other way")
                    .help("say `join: all` to put its packets together, or take one of them; packets keep what earlier stages attached, such as the frame"),
                );
            }
            (Some(_), None) if draft.inputs_known => found.push(
                Diagnostic::error(
                    codes::FOREIGN_KEY,
                    span,
                    format!(
                        "`join` in {} does nothing: no stream comes by two inputs",
                        draft.path
                    ),
                )
                .help("remove it; inputs with streams of their own are merged"),
            ),
            (Some(_), Some(_)) => {
                if draft.batch.is_some() {
                    found.push(
                        Diagnostic::error(
                            codes::JOIN_ORDER,
                            draft.key_span("batch"),
                            format!(
                                "{} joins packets and cannot put them into batches as well",
                                draft.path
                            ),
                        )
                        .help("join in a stage of its own before this one"),
                    );
                }
                check_order(drafts, graph, i, found);
                // Each with each costs too much where there are hundreds: then each with the first.
                let few = draft.inputs.len() <= 32;
                for (a, b, _) in pairs.into_iter().filter(|(a, ..)| few || *a == 0) {
                    check_room(drafts, graph, queues, i, (a, b), found);
                }
            }
            _ => {}
        }
    }
}

/// Every stage on the ways must keep the order: places are counted, not looked up.
fn check_order(drafts: &[Draft<'_>], graph: &Graph, join: usize, found: &mut Vec<Diagnostic>) {
    let inputs = || drafts[join].inputs.iter().filter_map(|input| input.from);
    let ways: Vec<BTreeSet<usize>> = inputs().map(|from| before(drafts, from)).collect();
    let on_some = |i: &usize| ways.iter().any(|way| way.contains(i));
    let on_all = |i: &usize| ways.iter().all(|way| way.contains(i));
    for &i in &graph.order {
        let draft = &drafts[i];
        let several = !matches!(draft.replicas, None | Some(ReplicasKey::Count(1)));
        let between = on_some(&i) && !on_all(&i) && draft.role == Role::Stage;
        if between && several && draft.order == Some(OrderKey::None) {
            found.push(
                Diagnostic::error(
                    codes::JOIN_ORDER,
                    draft.key_span("order"),
                    format!(
                        "`{}` gives up the order of packets that `{}` joins",
                        draft.name, drafts[join].name
                    ),
                )
                .help("remove `order: none`"),
            );
        }
    }
}

/// What a way holds, from a component to the join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hold {
    /// Packets in its queues and stages together.
    packets: usize,
    /// Packets in its stages.
    at_work: usize,
    /// Whether one of its queues drops rather than blocks.
    drops: bool,
}

fn at_work(draft: &Draft<'_>) -> usize {
    let replicas = match draft.replicas {
        Some(ReplicasKey::Count(n)) => n,
        _ => 1,
    };
    let batch = draft.batch.as_ref().map_or(1, |batch| batch.max);
    replicas.saturating_mul(batch)
}

/// Components that lead to `from`, itself included.
fn before(drafts: &[Draft<'_>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for producer in drafts[at].inputs.iter().filter_map(|input| input.from) {
            if reached.insert(producer) {
                open.push(producer);
            }
        }
    }
    reached
}

/// The least and the most that ways hold from a fan-out to each component, what that does itself included.
struct Held<'a> {
    drafts: &'a [Draft<'a>],
    queues: &'a [Vec<QueueSpec>],
    of: Vec<Option<(Hold, Hold)>>,
}

impl<'a> Held<'a> {
    fn new(drafts: &'a [Draft<'a>], queues: &'a [Vec<QueueSpec>], graph: &Graph, fan_out: usize) -> Self {
        let mut held = Self {
            drafts,
            queues,
            of: vec![None; drafts.len()],
        };
        held.of[fan_out] = Some((Hold::default(), Hold::default()));
        let behind = graph.order.iter().skip_while(|i| **i != fan_out).skip(1);
        for &i in behind {
            let work = at_work(&drafts[i]);
            let stage = |hold: Hold| Hold {
                packets: hold.packets.saturating_add(work),
                at_work: hold.at_work.saturating_add(work),
                ..hold
            };
            let ways = (0..drafts[i].inputs.len()).filter_map(|number| held.by(i, number));
            held.of[i] =
                ways.map(|(least, most)| (stage(least), stage(most)))
                    .reduce(|(l, m), (least, most)| {
                        (
                            if least.packets < l.packets { least } else { l },
                            if most.packets > m.packets { most } else { m },
                        )
                    });
        }
        held
    }

    /// Up to the queue of that input, itself included.
    fn by(&self, to: usize, number: usize) -> Option<(Hold, Hold)> {
        let queue = self.queues.get(to)?.get(number)?;
        let (least, most) = self.of[self.drafts[to].inputs.get(number)?.from?]?;
        let capacity = match queue.overflow {
            Overflow::Latest => 1,
            _ => queue.capacity,
        };
        let here = |hold: Hold| Hold {
            packets: hold.packets.saturating_add(capacity),
            drops: hold.drops || queue.overflow.is_lossy(),
            ..hold
        };
        Some((here(least), here(most)))
    }
}

/// The way with less work must hold all that the other one has under way: else the fan-out waits for room on the one
/// while the join waits for what the fan-out has not sent into the other.
fn check_room(
    drafts: &[Draft<'_>],
    graph: &Graph,
    queues: &[Vec<QueueSpec>],
    join: usize,
    (a, b): (usize, usize),
    found: &mut Vec<Diagnostic>,
) {
    let (Some(x), Some(y)) = (drafts[join].inputs[a].from, drafts[join].inputs[b].from) else {
        return;
    };
    let (before_x, before_y) = (before(drafts, x), before(drafts, y));
    // The fan-out nearest to the join: of those that lead to both inputs, the last one.
    let both = |i: &&usize| before_x.contains(i) && before_y.contains(i);
    let Some(&fan_out) = graph.order.iter().rev().find(both) else {
        return;
    };
    let held = Held::new(drafts, queues, graph, fan_out);
    let (Some(of_a), Some(of_b)) = (held.by(join, a), held.by(join, b)) else {
        return;
    };
    let (short, long, number) = match of_a.1.at_work.cmp(&of_b.1.at_work) {
        std::cmp::Ordering::Less => (of_a.0, of_b.1, a),
        std::cmp::Ordering::Greater => (of_b.0, of_a.1, b),
        std::cmp::Ordering::Equal => return,
    };
    if short.drops || short.packets >= long.packets {
        return;
    }
    let input = &drafts[join].inputs[number];
    let other = &drafts[join].inputs[if number == a { b } else { a }];
    let capacity = queues[join].get(number).map_or(0, |queue| queue.capacity);
    let needed = capacity.saturating_add(long.packets - short.packets);
    found.push(
        Diagnostic::error(
            codes::REJOIN,
            input.capacity_span.unwrap_or(input.span),
            format!(
                "the way from `{}` to `{}` by `{}` holds {} packets, but up to {} may be under way by `{}`",
                drafts[fan_out].name, drafts[join].name, input.name, short.packets, long.packets, other.name
            ),
        )
        .label(format!("at least {needed} are needed here"))
        .help(format!(
            "write `{{from: {}, queue: {{capacity: {needed}}}}}`",
            input.name
        )),
    );
}
