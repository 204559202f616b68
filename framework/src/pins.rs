//! Pins: which CPUs each worker runs on. Planned from the topology, set on the worker's own thread, read back.

mod affinity;
mod candidates;
mod error;
mod planner;
mod quota;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::config::plan::Pipeline;
use crate::topology::{Topology, format_cpu_list};

pub use affinity::{PinReport, allowed_cpus, current_cpus, pin_current_thread};
pub use error::{PinError, diagnostics};
pub use planner::plan;
pub use quota::cpu_quota;

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

fn list(cpus: &BTreeSet<usize>) -> String {
    if cpus.is_empty() {
        return "none".into();
    }
    format_cpu_list(&cpus.iter().copied().collect::<Vec<_>>())
}
