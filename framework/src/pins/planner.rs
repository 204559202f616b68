//! From wishes to CPUs: a pure function of machine, mask and pipeline.

use std::collections::BTreeSet;

use super::candidates::{Candidates, candidates};
use super::{PinError, PinPlan, list};
use crate::config::plan::{PinSpec, Pipeline};
use crate::topology::{CoreClass, Topology, format_cpu_list};

/// Plans the pins of a pipeline: a pure function.
///
/// Each component's CPUs are those of `cores`, of `node`, of `cpuset` and of `allowed` at once, less
/// `runtime.reserve` and what other components have `exclusive`. Each replica gets a slice of `threads` CPUs of its
/// own. CPUs that nobody uses yet come first, then those that no neighbour on an edge uses; first hardware threads
/// of all cores before second ones, performance cores before efficiency cores, CPUs that share a cache with a neighbour
/// before others. The CPUs of one slice share a last-level cache and are of one class of cores wherever as good ones do.
///
/// # Errors
/// All pins that cannot be had.
pub fn plan(topology: &Topology, allowed: &[usize], pipeline: &Pipeline) -> Result<PinPlan, Vec<PinError>> {
    let mut errors = Vec::new();
    let mut plan = PinPlan::unpinned(pipeline);
    let reserve = &pipeline.runtime.reserve;
    let allowed: BTreeSet<usize> = allowed
        .iter()
        .copied()
        .filter(|cpu| topology.cpu(*cpu).is_some())
        .collect();

    let mut pinned: Vec<(usize, &PinSpec, Candidates)> = Vec::new();
    for (index, component) in pipeline.components.iter().enumerate() {
        let Some(spec) = &component.pin else { continue };
        let missing: Vec<usize> = spec
            .cores
            .iter()
            .flatten()
            .copied()
            .filter(|cpu| !allowed.contains(cpu))
            .collect();
        if !missing.is_empty() {
            errors.push(PinError::NotAllowed {
                component: component.name.to_string(),
                missing: format_cpu_list(&missing),
                allowed: list(&allowed),
            });
            continue;
        }
        pinned.push((index, spec, candidates(topology, &allowed, reserve, spec)));
    }
    // The most constrained choose first, so that they find what they need.
    pinned.sort_by_key(|(index, spec, candidates)| (!spec.exclusive, candidates.cpus.len(), *index));

    let mut exclusive: BTreeSet<usize> = BTreeSet::new();
    let mut uses: Vec<(usize, usize)> = Vec::new();
    for (index, spec, mut candidates) in pinned {
        let Some(component) = pipeline.components.get(index) else {
            continue;
        };
        candidates.keep("others' exclusive", |cpu| !exclusive.contains(&cpu));
        let neighbours: Vec<usize> = pipeline
            .consumers(index)
            .map(|(consumer, _)| consumer)
            .chain(component.inputs.iter().map(|input| input.from))
            .collect();
        let homes: BTreeSet<usize> = uses
            .iter()
            .filter(|(_, user)| neighbours.contains(user))
            .map(|(cpu, _)| topology.shared_cache(*cpu))
            .collect();
        let cost = |cpu: &usize| {
            let users = uses.iter().filter(|(used, _)| used == cpu);
            let (mut count, mut talking) = (0, false);
            for (_, user) in users {
                count += 1;
                talking |= neighbours.contains(user);
            }
            let rank = topology.cpu(*cpu).map_or(0, |cpu| topology.thread_rank(cpu));
            let efficient = topology
                .cpu(*cpu)
                .is_some_and(|c| c.class == CoreClass::Efficiency);
            (talking, count, rank, efficient)
        };
        // Stable: equal ones stay in the order of their numbers, unless they were named in an order.
        let far = |cpu: &usize| !homes.is_empty() && !homes.contains(&topology.shared_cache(*cpu));
        candidates.cpus.sort_by_cached_key(|cpu| (cost(cpu), far(cpu)));
        let replicas = component.replica_count();
        let threads = component.threads.max(1);
        let needed = replicas.saturating_mul(threads);
        let found = candidates.cpus.len();
        if found < needed && (!spec.oversubscribe || found == 0) {
            errors.push(PinError::TooFew {
                component: component.name.to_string(),
                needed,
                replicas,
                threads,
                found,
                left: candidates.steps.join(", "),
            });
            continue;
        }
        let mut left = candidates.cpus.clone();
        let slices: Vec<BTreeSet<usize>> = (0..replicas)
            .map(|_| {
                // With `oversubscribe` slices overlap once all CPUs have been given.
                if left.len() < threads.min(found) {
                    left.clone_from(&candidates.cpus);
                }
                let slice = slice(topology, &left, threads.min(found), cost);
                left.retain(|cpu| !slice.contains(cpu));
                slice
            })
            .collect();
        for (replica, slice) in slices.into_iter().enumerate() {
            uses.extend(slice.iter().map(|cpu| (*cpu, index)));
            if spec.exclusive {
                exclusive.extend(&slice);
            }
            if let Some(cpus) = plan.components.get_mut(index).and_then(|c| c.get_mut(replica)) {
                *cpus = slice.into_iter().collect();
            }
        }
    }
    errors.extend(shared_by_edges(pipeline, &plan));
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

/// The first `width` of `cpus`, or others that cost no more and lie together where those do not.
fn slice<C: Ord>(
    topology: &Topology,
    cpus: &[usize],
    width: usize,
    cost: impl Fn(&usize) -> C,
) -> BTreeSet<usize> {
    let domain = |cpu: &usize| (topology.shared_cache(*cpu), topology.cpu(*cpu).map(|c| c.class));
    let first: Vec<usize> = cpus.iter().take(width).copied().collect();
    let limit = first.iter().map(&cost).max();
    let mut seen = Vec::new();
    for cpu in cpus {
        let home = domain(cpu);
        if seen.contains(&home) {
            continue;
        }
        seen.push(home);
        let together = cpus
            .iter()
            .filter(|cpu| domain(cpu) == home && Some(cost(cpu)) <= limit);
        let together: BTreeSet<usize> = together.take(width).copied().collect();
        if together.len() == width {
            return together;
        }
    }
    first.into_iter().collect()
}

fn shared_by_edges(pipeline: &Pipeline, plan: &PinPlan) -> Vec<PinError> {
    let mut errors = Vec::new();
    for (index, consumer) in pipeline.components.iter().enumerate() {
        for input in &consumer.inputs {
            let Some(producer) = pipeline.components.get(input.from) else {
                continue;
            };
            let oversubscribed = [producer, consumer]
                .iter()
                .any(|c| c.pin.as_ref().is_some_and(|pin| pin.oversubscribe));
            if oversubscribed {
                continue;
            }
            let alone = |component: usize| -> BTreeSet<usize> {
                let replicas = plan.components.get(component).into_iter().flatten();
                replicas
                    .filter_map(|cpus| match cpus.as_slice() {
                        [cpu] => Some(*cpu),
                        _ => None,
                    })
                    .collect()
            };
            if let Some(cpu) = alone(input.from).intersection(&alone(index)).next() {
                errors.push(PinError::SharedByEdge {
                    producer: producer.name.to_string(),
                    consumer: consumer.name.to_string(),
                    cpu: *cpu,
                });
            }
        }
    }
    errors
}
