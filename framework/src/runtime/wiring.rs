//! From a prepared pipeline to edges, components and the inlets of their workers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::bell::Bell;
use super::component::{Component, StreamProgress, Traits};
use super::edge::{Edge, Lane, Queue};
use super::exit::Exit;
use super::fair::FairLane;
use super::fifo::{FifoLane, Use};
use super::inlet::{Control, FairLanes, FifoLanes, Inlet, Ways};
use super::limits::Limits;
use super::marks::marked;
use super::resequencer::Resequencer;
use crate::config::plan::{
    self, Lossy, Order, Overflow, Pipeline, PreparedPipeline, QueueSpec, Replicas, Route,
};
use crate::metrics::EdgeMeter;
use crate::packet::StreamId;
use crate::registry::Role;

/// A wired pipeline, ready to be given threads.
pub(crate) struct Wiring {
    pub(crate) streams: Arc<[StreamId]>,
    pub(crate) components: Vec<Arc<Component>>,
    /// By component and replica; sources have none.
    pub(crate) inlets: Vec<Vec<WorkerPlan>>,
    pub(crate) edges: Vec<Arc<Edge>>,
}

/// What one worker of a stage or sink is given.
pub(crate) struct WorkerPlan {
    pub(crate) inlet: Inlet,
    /// Streams whose packets may come to it.
    pub(crate) streams: Vec<usize>,
}

/// How the replicas of a component share its packets.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    /// All take from the same lanes.
    Shared,
    /// Each has lanes and streams of its own.
    Split,
}

struct Facts {
    /// Streams that reach the component, by index.
    streams: Vec<usize>,
    replicas: usize,
    sharing: Sharing,
    /// Whether a required sink depends on it.
    required: bool,
    /// Whether it picks the streams it takes from.
    picks: bool,
    /// One for each group of replicas that share packets, rung when there is something to take.
    bells: Vec<Bell>,
}

impl Facts {
    /// Replica that takes a stream, as its place among the component's streams says.
    fn replica_of(&self, place: usize) -> Option<usize> {
        match self.sharing {
            Sharing::Shared => None,
            Sharing::Split => Some(place % self.replicas.max(1)),
        }
    }
}

/// Wires the components with bounded channels.
pub(crate) fn wire(prepared: PreparedPipeline) -> Wiring {
    let PreparedPipeline { pipeline, parts } = prepared;
    let sources = pipeline.components.iter().filter(|c| c.role == Role::Source);
    let streams: Arc<[StreamId]> = sources.map(|source| StreamId::from(&source.name)).collect();
    let live: Vec<bool> = {
        let sources = pipeline.components.iter().filter(|c| c.role == Role::Source);
        sources.map(|source| source.live).collect()
    };
    let marks = marked(&pipeline);
    let facts = facts(&pipeline, &streams, &marks);
    // The ways to a join wait for each other: what is free there must be usable at once.
    let joins = pipeline.components.iter().any(|c| c.join.is_some());

    let mut edges = Vec::new();
    let mut edges_into = vec![Vec::new(); pipeline.components.len()];
    let mut edges_out_of = vec![Vec::new(); pipeline.components.len()];
    for (to, component) in pipeline.components.iter().enumerate() {
        for (number, input) in component.inputs.iter().enumerate() {
            let marked = marks.get(to).and_then(|of| of.get(number)).is_some_and(|m| *m);
            let Some((producer, consumer)) = facts.get(input.from).zip(facts.get(to)) else {
                continue;
            };
            let mut queue = input.queue;
            // An optional branch must never hold up the way to a required sink.
            if producer.required && !consumer.required && queue.overflow == Overflow::Block {
                queue.overflow = Overflow::DropOldest;
            }
            let lossy = |stream: usize| {
                !consumer.required || queue.lossy == Lossy::All || live.get(stream).is_some_and(|live| *live)
            };
            let mut lanes = Vec::new();
            let mut lane_of = vec![None; streams.len()];
            let groups = match consumer.sharing {
                Sharing::Shared => vec![None],
                Sharing::Split => (0..consumer.replicas).map(Some).collect(),
            };
            for (number, group) in groups.into_iter().enumerate() {
                let bell = consumer.bells.get(number).cloned().unwrap_or_else(Bell::new);
                let carried = |(place, stream): (usize, &usize)| {
                    let ours = consumer.replica_of(place) == group && producer.streams.contains(stream);
                    ours.then_some(*stream)
                };
                let of_group: Vec<usize> = consumer.streams.iter().enumerate().filter_map(carried).collect();
                let (dropping, waiting): (Vec<usize>, Vec<usize>) = of_group
                    .into_iter()
                    .partition(|stream| !queue.overflow.is_lossy() || lossy(*stream));
                // With one slot for each stream, streams that wait have one each as well.
                let places = match queue.overflow {
                    Overflow::Latest => waiting.len(),
                    _ => queue.capacity,
                };
                // Packets of one stream that wait for partners may not take the places of another one, whose
                // partners would then wait for those: at a join each stream has a queue of its own.
                let alone = |members: Vec<usize>| match component.join {
                    Some(_) => members.into_iter().map(|stream| vec![stream]).collect(),
                    None => vec![members],
                };
                let dropping = alone(dropping).into_iter();
                let waiting = alone(waiting).into_iter();
                let dropping = dropping.map(|members| (queue.overflow, queue.capacity, members));
                let waiting = waiting.map(|members| (Overflow::Block, places, members));
                for (policy, capacity, members) in dropping.chain(waiting) {
                    if members.is_empty() {
                        continue;
                    }
                    for stream in &members {
                        if let Some(lane) = lane_of.get_mut(*stream) {
                            *lane = Some(lanes.len());
                        }
                    }
                    let all = streams.len();
                    let bell = bell.clone();
                    let queue = if consumer.picks {
                        let spec = QueueSpec { capacity, ..queue };
                        Queue::Fair(FairLane::new(policy, spec, &members, all, marked, bell))
                    } else {
                        let used = Use {
                            // A worker that is left behind would keep what it has taken ahead.
                            ahead: (group.is_some() || consumer.replicas == 1) && component.timeout.is_none(),
                            lazy: !joins,
                        };
                        Queue::Fifo(Box::new(FifoLane::new(
                            policy, capacity, &members, all, bell, used,
                        )))
                    };
                    lanes.push(Lane {
                        replica: group,
                        queue,
                    });
                }
            }
            let from = pipeline.components.get(input.from).map_or("", |c| &*c.name);
            let edge = Arc::new(Edge {
                name: format!("{from} -> {}", component.name),
                to: component.name.to_string(),
                required: consumer.required,
                marks: marked,
                lanes,
                lane_of,
                meter: EdgeMeter::default(),
            });
            edges.push(edge.clone());
            if let Some(into) = edges_into.get_mut(to) {
                into.push(edge.clone());
            }
            if let Some(out_of) = edges_out_of.get_mut(input.from) {
                out_of.push(edge);
            }
        }
    }

    let mut components = Vec::new();
    let mut inlets = Vec::new();
    let parts = pipeline.components.iter().zip(parts).zip(&facts);
    for (((component, part), facts), (into, out_of)) in parts.zip(edges_into.into_iter().zip(edges_out_of)) {
        let marks = out_of.iter().any(|edge| edge.marks) && component.role == Role::Stage;
        let shared = facts.sharing == Sharing::Shared && facts.replicas > 1;
        let (controls, told): (Vec<Sender<Control>>, Vec<Receiver<Control>>) = if shared {
            // One request and one flush may be under way for each stream.
            (0..facts.replicas).map(|_| bounded(2 * streams.len())).unzip()
        } else {
            Default::default()
        };
        let ordered =
            shared && component.role == Role::Stage && (component.order == Order::PerStream || marks);
        let window = component.window.unwrap_or_else(|| {
            let at_work = component.batch.as_ref().map_or(1, |batch| batch.max);
            facts.replicas.saturating_mul(at_work).saturating_mul(2)
        });
        // A single worker needs it only to keep tombstones in their places.
        let window = ordered.then_some(window);
        let order = (ordered || marks).then(|| Resequencer::new(streams.len(), window, marks));
        let progress = (0..streams.len())
            .map(|stream| {
                let carriers = into
                    .iter()
                    .filter(|edge| edge.lane_of.get(stream).is_some_and(Option::is_some));
                let flushes = if shared { facts.replicas } else { 1 };
                StreamProgress::new(carriers.count(), flushes, facts.replicas)
            })
            .collect();
        let alone = ordered || shared && facts.picks;
        let baton = alone.then(|| {
            let (give, take) = bounded(1);
            // The channel has room for the one baton.
            let _ = give.try_send(());
            (give, take)
        });
        let mut told = told.into_iter();
        let workers = if component.role == Role::Source {
            0
        } else {
            facts.replicas
        };
        inlets.push(
            (0..workers)
                .map(|replica| {
                    worker_plan(
                        component,
                        facts,
                        replica,
                        &into,
                        told.next(),
                        baton.clone(),
                        streams.len(),
                    )
                })
                .collect(),
        );
        let traits = Traits {
            name: component.name.clone(),
            role: component.role,
            required: facts.required,
            per_stream: component.replicas == Replicas::PerStream,
            on_error: component.on_error.clone(),
            restart: component.restart,
            limits: Limits::new(component, streams.len()),
            batch: component.batch.clone(),
            timeout: component.timeout,
            join: component.join,
            reconnect: component.reconnect,
            stall_timeout: component.stall_timeout,
            live: component.live,
        };
        components.push(Arc::new(Component::new(
            traits,
            part,
            Exit::new(out_of, order),
            streams.clone(),
            progress,
            controls,
            facts.replicas,
        )));
    }
    Wiring {
        streams,
        components,
        inlets,
        edges,
    }
}

fn worker_plan(
    component: &plan::Component,
    facts: &Facts,
    replica: usize,
    into: &[Arc<Edge>],
    told: Option<Receiver<Control>>,
    baton: Option<(Sender<()>, Receiver<()>)>,
    all: usize,
) -> WorkerPlan {
    let own = |(place, stream): (usize, &usize)| {
        let taker = facts.replica_of(place);
        taker.is_none_or(|taker| taker == replica).then_some(*stream)
    };
    let streams = facts.streams.iter().enumerate().filter_map(own).collect();
    let lanes = into.iter().flat_map(|edge| {
        let lanes = edge.lanes.iter().enumerate();
        lanes
            .filter(|(_, lane)| lane.replica.is_none_or(|taker| taker == replica))
            .map(|(index, _)| (edge.clone(), index))
    });
    let lanes = lanes.collect();
    let group = match facts.sharing {
        Sharing::Shared => 0,
        Sharing::Split => replica,
    };
    let bell = facts.bells.get(group).cloned().unwrap_or_else(Bell::new);
    let ways = if facts.picks {
        Ways::Fair(FairLanes::new(lanes, bell, all, component.join.is_some()))
    } else {
        let shared = facts.sharing == Sharing::Shared && facts.replicas > 1;
        Ways::Fifo(FifoLanes::new(lanes, bell, shared))
    };
    WorkerPlan {
        inlet: Inlet::new(ways, told, baton),
        streams,
    }
}

/// Whether a component picks the streams it takes from, or counts the bytes that wait for it.
fn picks_streams(component: &plan::Component) -> bool {
    component.batch.is_some() || component.inputs.iter().any(|input| input.queue.bytes.is_some())
}

/// Components stand in topological order, so that one pass forward finds streams and one pass back finds what
/// required sinks depend on.
fn facts(pipeline: &Pipeline, streams: &[StreamId], marks: &[Vec<bool>]) -> Vec<Facts> {
    let mut facts: Vec<Facts> = Vec::new();
    for (component, marks) in pipeline.components.iter().zip(marks) {
        let mut reached: Vec<usize> = match component.role {
            Role::Source => streams
                .iter()
                .position(|s| **s == *component.name)
                .into_iter()
                .collect(),
            _ => {
                let producers = component.inputs.iter().filter_map(|input| facts.get(input.from));
                producers.flat_map(|p| p.streams.iter().copied()).collect()
            }
        };
        reached.sort_unstable();
        reached.dedup();
        let replicas = match component.replicas {
            Replicas::Count(n) if component.role != Role::Source => n.max(1),
            Replicas::PerStream if component.role != Role::Source => reached.len().max(1),
            _ => 1,
        };
        let split = component.replicas == Replicas::PerStream || component.route == Route::ByStream;
        let groups = if split { replicas } else { 1 };
        let picks = picks_streams(component) || marks.contains(&true);
        facts.push(Facts {
            streams: reached,
            replicas,
            sharing: if split { Sharing::Split } else { Sharing::Shared },
            required: false,
            picks,
            bells: (0..groups).map(|_| Bell::new()).collect(),
        });
    }
    let sinks = || pipeline.components.iter().filter(|c| c.role == Role::Sink);
    // Where every sink is optional, deliveries are counted at all of them.
    let all_optional = sinks().all(|sink| !sink.required);
    for (index, component) in pipeline.components.iter().enumerate().rev() {
        let required = match component.role {
            Role::Sink => component.required || all_optional,
            _ => facts.get(index).is_some_and(|f| f.required),
        };
        if !required {
            continue;
        }
        let producers = component.inputs.iter().map(|input| input.from);
        for of in producers.chain([index]) {
            if let Some(facts) = facts.get_mut(of) {
                facts.required = true;
            }
        }
    }
    facts
}
