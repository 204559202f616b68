//! Pins: which CPUs each worker runs on. Planned from the topology, set on the worker's own thread, read back.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::config::plan::{CpuSet, PinSpec, Pipeline, Smt};
use crate::error::Code;
use crate::topology::{CoreClass, Topology, format_cpu_list, parse_cpu_list};

/// CPUs of every replica of every component of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinPlan {
    /// By component of [`Pipeline::components`], by replica: kernel CPU numbers, ascending; empty: not pinned.
    pub components: Vec<Vec<Vec<usize>>>,
}

impl PinPlan {
    /// Nothing pinned.
    pub fn unpinned(pipeline: &Pipeline) -> Self {
        let none = |c: &crate::config::plan::Component| vec![Vec::new(); c.replica_count()];
        Self {
            components: pipeline.components.iter().map(none).collect(),
        }
    }

    /// CPUs of one replica; empty: not pinned.
    pub fn cpus(&self, component: usize, replica: usize) -> &[usize] {
        self.components
            .get(component)
            .and_then(|replicas| replicas.get(replica))
            .map_or(&[], Vec::as_slice)
    }
}

/// A pin that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Fewer CPUs than the replicas need.
    #[error(
        "`{component}` needs {needed} CPUs ({replicas} replicas of {threads}), but its pin leaves {} ({left}); \
         widen the pin, lower `replicas` or `threads`, or set `oversubscribe: true`", .found
    )]
    TooFew {
        /// The component.
        component: String,
        /// Number of CPUs needed.
        needed: usize,
        /// Number of replicas.
        replicas: usize,
        /// CPUs of each.
        threads: usize,
        /// Number of CPUs left.
        found: usize,
        /// What is left after each step of the intersection.
        left: String,
    },
    /// A named CPU that the machine lacks or that the process may not use.
    #[error(
        "`{component}` is pinned to CPU {missing}, but this process may use only {allowed}; name others, or widen \
         its cpuset"
    )]
    NotAllowed {
        /// The component.
        component: String,
        /// CPUs that cannot be had, as a list.
        missing: String,
        /// CPUs the process may use, as a list.
        allowed: String,
    },
    /// Both ends of an edge on one logical CPU.
    #[error(
        "`{producer}` and `{consumer}` hand packets to each other and are both pinned to CPU {cpu} alone: each would \
         wait for the other's time slice; pin them to different CPUs, or set `oversubscribe: true` on one of them"
    )]
    SharedByEdge {
        /// Component that gives.
        producer: String,
        /// Component that takes.
        consumer: String,
        /// The CPU.
        cpu: usize,
    },
    /// The machine's topology cannot be read.
    #[error(
        "the topology of this machine cannot be read from hwloc or /sys, so that nothing can be pinned; leave out `pin`"
    )]
    NoTopology,
}

impl PinError {
    /// Stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::TooFew { .. } => Code("E0331"),
            Self::NotAllowed { .. } => Code("E0332"),
            Self::SharedByEdge { .. } => Code("E0333"),
            Self::NoTopology => Code("E0334"),
        }
    }
}

/// Plans the pins of a pipeline on this machine; the notes are warnings.
///
/// # Errors
/// All pins that cannot be had.
pub fn plan_here(pipeline: &Pipeline) -> Result<(PinPlan, Vec<String>), Vec<PinError>> {
    let topology = Topology::read().ok_or_else(|| vec![PinError::NoTopology])?;
    let allowed = allowed_cpus().unwrap_or_else(|| topology.cpus.iter().map(|cpu| cpu.id).collect());
    let plan = plan(&topology, &allowed, pipeline)?;
    let mut notes = Vec::new();
    let used: BTreeSet<usize> = plan.components.iter().flatten().flatten().copied().collect();
    if let Some(quota) = cpu_quota()
        && used.len() as f64 > quota
    {
        notes.push(format!(
            "workers are pinned to {} CPUs, but the control group grants the time of {quota:.1}: pinned workers will \
             be throttled",
            used.len()
        ));
    }
    Ok((plan, notes))
}

/// Plans the pins of a pipeline: a pure function.
///
/// Each component's CPUs are those of `cores`, of `node`, of `cpuset` and of `allowed` at once, less
/// `runtime.reserve` and what other components have `exclusive`. Each replica gets a slice of `threads` CPUs of its
/// own. CPUs that nobody uses yet come first, then those that no neighbour on an edge uses; first hardware threads
/// of all cores before second ones, near ones together.
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
        // Stable: equal ones stay in the order of nearness.
        candidates.cpus.sort_by_key(|cpu| {
            let users = uses.iter().filter(|(used, _)| used == cpu);
            let (mut count, mut talking) = (0, false);
            for (_, user) in users {
                count += 1;
                talking |= neighbours.contains(user);
            }
            (talking, count)
        });
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
        for replica in 0..replicas {
            // With `oversubscribe` slices wrap around and overlap.
            let slice: BTreeSet<usize> = (0..threads.min(found))
                .filter_map(|i| candidates.cpus.get((replica * threads + i) % found).copied())
                .collect();
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

/// CPUs a component may have, nearest together, and how they became so few.
struct Candidates {
    cpus: Vec<usize>,
    steps: Vec<String>,
}

impl Candidates {
    fn keep(&mut self, what: &str, keep: impl Fn(usize) -> bool) {
        let before = self.cpus.len();
        self.cpus.retain(|cpu| keep(*cpu));
        if self.cpus.len() < before {
            let left: BTreeSet<usize> = self.cpus.iter().copied().collect();
            self.steps.push(format!("{what}: {}", list(&left)));
        }
    }
}

fn candidates(
    topology: &Topology,
    allowed: &BTreeSet<usize>,
    reserve: &[usize],
    spec: &PinSpec,
) -> Candidates {
    let mut cpus: Vec<_> = topology
        .cpus
        .iter()
        .filter(|cpu| allowed.contains(&cpu.id))
        .collect();
    cpus.sort_by_key(|cpu| (topology.thread_rank(cpu), cpu.node, cpu.package, cpu.id));
    let mut candidates = Candidates {
        cpus: cpus.iter().map(|cpu| cpu.id).collect(),
        steps: vec![format!("allowed: {}", list(allowed))],
    };
    if let Some(cores) = &spec.cores {
        candidates.keep("cores", |cpu| cores.contains(&cpu));
    }
    if let Some(node) = spec.node {
        candidates.keep("node", |id| topology.cpu(id).is_some_and(|cpu| cpu.node == node));
    }
    let class = |class| move |id| topology.cpu(id).is_some_and(|cpu| cpu.class == class);
    match spec.cpuset {
        CpuSet::All | CpuSet::Physical => {}
        CpuSet::Pcores => candidates.keep("cpuset: pcores", class(CoreClass::Performance)),
        CpuSet::Ecores => candidates.keep("cpuset: ecores", class(CoreClass::Efficiency)),
    }
    candidates.keep("less reserve", |cpu| !reserve.contains(&cpu));
    if spec.smt == Smt::Avoid || spec.cpuset == CpuSet::Physical {
        let mut seen = BTreeSet::new();
        let core = |id: usize| topology.cpu(id).map_or(id, |cpu| cpu.core);
        let firsts: BTreeSet<usize> = candidates
            .cpus
            .iter()
            .copied()
            .filter(|id| seen.insert(core(*id)))
            .collect();
        candidates.keep("one thread per core", |cpu| firsts.contains(&cpu));
    }
    candidates
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

fn list(cpus: &BTreeSet<usize>) -> String {
    if cpus.is_empty() {
        return "none".into();
    }
    format_cpu_list(&cpus.iter().copied().collect::<Vec<_>>())
}

/// CPUs this process may use: the mask of its main thread, which no pin has narrowed.
pub fn allowed_cpus() -> Option<Vec<usize>> {
    read_mask("/proc/self/status")
}

/// CPUs the calling thread may run on, as the kernel says.
pub fn current_cpus() -> Option<Vec<usize>> {
    read_mask("/proc/thread-self/status")
}

fn read_mask(path: &str) -> Option<Vec<usize>> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpu_list(line)
}

/// CPUs' worth of time that the control group grants this process, where it limits it (cgroup v2 `cpu.max`).
pub fn cpu_quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = format!("/sys/fs/cgroup{}/cpu.max", group.trim_end_matches('/'));
    parse_quota(&std::fs::read_to_string(path).ok()?)
}

fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// Where a worker was to run, and where the kernel lets it run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinReport {
    /// The worker, `component#replica`.
    pub worker: String,
    /// CPUs asked for.
    pub asked: Vec<usize>,
    /// CPUs read back from the kernel.
    pub got: Vec<usize>,
    /// Whether they are the same.
    pub ok: bool,
}

impl fmt::Display for PinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = format_cpu_list(&self.asked);
        if self.ok {
            write!(f, "pin {}: CPU {asked}", self.worker)
        } else {
            let got = format_cpu_list(&self.got);
            write!(f, "pin {}: asked for CPU {asked}, but runs on {got}", self.worker)
        }
    }
}

/// Pins the calling thread to `cpus` and reads back what the kernel made of it. CPUs outside the process's own mask
/// are never asked for.
pub fn pin_current_thread(worker: String, cpus: &[usize]) -> PinReport {
    let allowed = allowed_cpus();
    let may = |cpu: &usize| *cpu < MASK_BITS && allowed.as_ref().is_none_or(|allowed| allowed.contains(cpu));
    if !cpus.is_empty() && cpus.iter().all(may) {
        match cpus {
            [cpu] => {
                // The answer is read back below.
                let _ = core_affinity::set_for_current(core_affinity::CoreId { id: *cpu });
            }
            several => set_mask(several),
        }
    }
    let got = current_cpus().unwrap_or_default();
    PinReport {
        worker,
        asked: cpus.to_vec(),
        ok: got == cpus,
        got,
    }
}

/// Bits of `cpu_set_t`; core_affinity aborts the process beyond them.
const MASK_BITS: usize = libc::CPU_SETSIZE as usize;

/// core_affinity knows single CPUs only.
fn set_mask(cpus: &[usize]) {
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: the caller has checked that `cpu` is below `CPU_SETSIZE`, the number of bits in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: 0 is the calling thread, and the kernel reads `size_of_val(&set)` bytes from a live set.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::config::plan::{Component, InputEdge, Replicas};
    use crate::registry::Role;
    use crate::topology::Cpu;

    /// A chain of components, each fed by the one before.
    fn chain(components: &[(&str, usize, usize, Option<PinSpec>)]) -> Pipeline {
        let component =
            |(index, (name, replicas, threads, pin)): (usize, &(&str, usize, usize, Option<PinSpec>))| {
                let role = if index == 0 { Role::Source } else { Role::Stage };
                let mut component = Component::new(name, role, "test", Arc::new(()));
                component.replicas = Replicas::Count(*replicas);
                component.threads = *threads;
                component.pin = pin.clone();
                component.inputs = index.checked_sub(1).map(InputEdge::new).into_iter().collect();
                component
            };
        Pipeline::new("test", components.iter().enumerate().map(component).collect())
    }

    fn pin() -> Option<PinSpec> {
        Some(PinSpec::default())
    }

    fn cores(cores: &[usize]) -> Option<PinSpec> {
        Some(PinSpec {
            cores: Some(cores.to_vec()),
            ..PinSpec::default()
        })
    }

    fn all(topology: &Topology) -> Vec<usize> {
        topology.cpus.iter().map(|cpu| cpu.id).collect()
    }

    #[test]
    fn replicas_get_slices_of_their_own() {
        let machine = Topology::uniform(1, 8, 1);
        let plan = plan(
            &machine,
            &all(&machine),
            &chain(&[("cam", 1, 1, None), ("infer", 3, 2, pin())]),
        )
        .unwrap();
        assert_eq!(
            plan.components,
            [vec![vec![]], vec![vec![0, 1], vec![2, 3], vec![4, 5]]]
        );
    }

    #[test]
    fn named_cores_go_to_replicas_in_order() {
        let machine = Topology::uniform(1, 8, 1);
        let pipeline = chain(&[("cam", 1, 1, None), ("prep", 2, 1, cores(&[1, 6]))]);
        let plan = plan(&machine, &all(&machine), &pipeline).unwrap();
        assert_eq!(plan.components[1], [vec![1], vec![6]]);
    }

    #[test]
    fn second_hardware_threads_come_last_or_not_at_all() {
        let machine = Topology::uniform(1, 4, 2);
        let pipeline = chain(&[("cam", 1, 1, None), ("infer", 5, 1, pin())]);
        let planned = plan(&machine, &all(&machine), &pipeline).unwrap();
        assert_eq!(
            planned.components[1],
            [vec![0], vec![1], vec![2], vec![3], vec![4]]
        );

        let mut avoiding = pipeline;
        avoiding.components[1].pin.as_mut().unwrap().smt = Smt::Avoid;
        let errors = plan(&machine, &all(&machine), &avoiding).unwrap_err();
        let message = errors[0].to_string();
        assert!(message.contains("`infer` needs 5 CPUs"), "{message}");
        assert!(
            message.contains("allowed: 0-7, one thread per core: 0-3"),
            "{message}"
        );
    }

    #[test]
    fn a_node_a_class_and_the_reserve_narrow_the_choice() {
        let mut machine = Topology::uniform(2, 4, 1);
        for cpu in &mut machine.cpus {
            cpu.class = if cpu.id % 4 < 2 {
                CoreClass::Performance
            } else {
                CoreClass::Efficiency
            };
        }
        let spec = PinSpec {
            node: Some(1),
            cpuset: CpuSet::Ecores,
            ..PinSpec::default()
        };
        let mut pipeline = chain(&[("cam", 1, 1, None), ("infer", 1, 1, Some(spec))]);
        pipeline.runtime.reserve = vec![6];
        let plan = plan(&machine, &all(&machine), &pipeline).unwrap();
        assert_eq!(plan.components[1], [vec![7]]);
    }

    #[test]
    fn exclusive_cpus_are_nobody_elses() {
        let machine = Topology::uniform(1, 4, 1);
        let mut greedy = cores(&[0, 1]).unwrap();
        greedy.exclusive = true;
        let pipeline = chain(&[
            ("cam", 1, 1, pin()),
            ("infer", 1, 2, Some(greedy)),
            ("post", 1, 1, pin()),
        ]);
        let planned = plan(&machine, &all(&machine), &pipeline).unwrap();
        assert_eq!(planned.components, [[vec![2]], [vec![0, 1]], [vec![3]]]);

        let mut pipeline = pipeline;
        pipeline.components[2].pin = cores(&[1]);
        let errors = plan(&machine, &all(&machine), &pipeline).unwrap_err();
        assert!(
            errors[0].to_string().contains("others' exclusive: none"),
            "{}",
            errors[0]
        );
    }

    #[test]
    fn cpus_outside_the_mask_are_named() {
        let machine = Topology::uniform(1, 8, 1);
        let pipeline = chain(&[("cam", 1, 1, None), ("infer", 1, 1, cores(&[2, 5, 900]))]);
        let errors = plan(&machine, &[0, 1, 2], &pipeline).unwrap_err();
        let message = errors[0].to_string();
        assert!(
            message.contains("CPU 5,900") && message.contains("only 0-2"),
            "{message}"
        );
        assert_eq!(errors[0].code().0, "E0332");
    }

    #[test]
    fn both_ends_of_an_edge_never_share_a_cpu() {
        let machine = Topology::uniform(1, 2, 1);
        let pipeline = chain(&[("cam", 1, 1, cores(&[1])), ("infer", 1, 1, cores(&[1]))]);
        let errors = plan(&machine, &all(&machine), &pipeline).unwrap_err();
        assert_eq!(errors[0].code().0, "E0333");
        let message = errors[0].to_string();
        assert!(
            message.contains("`cam`") && message.contains("`infer`"),
            "{message}"
        );

        let mut pipeline = pipeline;
        pipeline.components[0].pin.as_mut().unwrap().oversubscribe = true;
        assert!(plan(&machine, &all(&machine), &pipeline).is_ok());
    }

    #[test]
    fn stages_that_do_not_talk_may_share_where_cpus_are_few() {
        let machine = Topology::uniform(1, 2, 1);
        let pipeline = chain(&[
            ("a", 1, 1, pin()),
            ("b", 1, 1, pin()),
            ("c", 1, 1, pin()),
            ("d", 1, 1, pin()),
        ]);
        let plan = plan(&machine, &all(&machine), &pipeline).unwrap();
        let cpus: Vec<usize> = plan.components.iter().map(|c| c[0][0]).collect();
        assert_eq!(cpus, [0, 1, 0, 1]);
    }

    #[test]
    fn a_pin_is_set_and_read_back() {
        let allowed = allowed_cpus().unwrap();
        let one = *allowed.last().unwrap();
        let pinned = |cpus: Vec<usize>| {
            std::thread::spawn(move || (pin_current_thread("w#0".into(), &cpus), current_cpus().unwrap()))
                .join()
                .unwrap()
        };
        let (report, now) = pinned(vec![one]);
        assert!(report.ok, "{report}");
        assert_eq!(now, [one]);
        let (report, now) = pinned(allowed.clone());
        assert!(report.ok);
        assert_eq!(now, allowed);
        for impossible in [5000, 1023] {
            let (report, now) = pinned(vec![impossible]);
            assert!(!report.ok);
            assert_eq!((report.got, now), (allowed.clone(), allowed.clone()));
        }
    }

    #[test]
    fn quotas_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_quota("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota("max 100000"), None);
        assert_eq!(parse_quota("1 0"), None);
    }

    fn topology() -> impl Strategy<Value = Topology> {
        (1_usize..3, 1_usize..9, 1_usize..3).prop_map(|(p, c, t)| Topology::uniform(p, c, t))
    }

    proptest! {
        /// Whatever the machine and the wishes: a plan keeps within the mask, slices have the width asked for and
        /// do not overlap within a component, and both ends of an edge are apart.
        #[test]
        fn plans_keep_the_rules(
            machine in topology(),
            hidden in prop::collection::vec(0_usize..16, 0..4),
            wishes in prop::collection::vec((1_usize..4, 1_usize..3, any::<bool>(), any::<bool>()), 1..5),
        ) {
            let allowed: Vec<usize> = all(&machine).into_iter().filter(|id| !hidden.contains(id)).collect();
            let components: Vec<_> = wishes.iter().map(|&(replicas, threads, exclusive, avoid)| {
                let smt = if avoid { Smt::Avoid } else { Smt::Allow };
                ("stage", replicas, threads, Some(PinSpec { exclusive, smt, ..PinSpec::default() }))
            }).collect();
            let pipeline = chain(&components);
            let Ok(plan) = plan(&machine, &allowed, &pipeline) else { return Ok(()) };
            let mut exclusive: BTreeSet<usize> = BTreeSet::new();
            let mut others: BTreeSet<usize> = BTreeSet::new();
            for (component, replicas) in pipeline.components.iter().zip(&plan.components) {
                prop_assert_eq!(replicas.len(), component.replica_count());
                let mut used = BTreeSet::new();
                for cpus in replicas {
                    prop_assert_eq!(cpus.len(), component.threads);
                    for cpu in cpus {
                        prop_assert!(allowed.contains(cpu));
                        prop_assert!(used.insert(*cpu), "slices overlap");
                    }
                }
                let pin = component.pin.as_ref().unwrap();
                if pin.smt == Smt::Avoid {
                    let core = |id: &usize| machine.cpu(*id).map(|cpu: &Cpu| cpu.core);
                    let cores: BTreeSet<_> = used.iter().map(core).collect();
                    prop_assert_eq!(cores.len(), used.len());
                }
                prop_assert!(exclusive.is_disjoint(&used));
                if pin.exclusive {
                    prop_assert!(others.is_disjoint(&used));
                    exclusive.extend(&used);
                }
                others.extend(&used);
            }
            for pair in plan.components.windows(2) {
                for a in &pair[0] {
                    prop_assert!(a.len() > 1 || !pair[1].contains(a));
                }
            }
        }
    }
}
