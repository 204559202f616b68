//! Which CPUs a component may have.

use std::collections::BTreeSet;

use super::list;
use crate::config::plan::{CpuSet, PinSpec, Smt};
use crate::topology::{CoreClass, Topology};

/// CPUs a component may have, nearest together, and how they became so few.
pub(super) struct Candidates {
    pub(super) cpus: Vec<usize>,
    pub(super) steps: Vec<String>,
}

impl Candidates {
    pub(super) fn keep(&mut self, what: &str, keep: impl Fn(usize) -> bool) {
        let before = self.cpus.len();
        self.cpus.retain(|cpu| keep(*cpu));
        if self.cpus.len() < before {
            let left: BTreeSet<usize> = self.cpus.iter().copied().collect();
            self.steps.push(format!("{what}: {}", list(&left)));
        }
    }
}

pub(super) fn candidates(
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
