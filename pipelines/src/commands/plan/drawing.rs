//! A machine with the workers on it, as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use flow::config::plan::Pipeline;
use flow::pins::PinPlan;
use flow::topology::{CoreClass, Cpu, Topology, format_cpu_list};

/// Packages, NUMA nodes, last-level caches and cores, each core with the workers on its CPUs. Cores on which nothing runs
/// are put together.
pub fn draw(pipeline: &Pipeline, plan: &PinPlan, topology: &Topology, allowed: &[usize]) -> String {
    let mut workers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (index, component) in pipeline.components.iter().enumerate() {
        let count = component.replica_count();
        for replica in 0..count {
            let name = match count {
                1 => component.name.to_string(),
                _ => format!("{}#{replica}", component.name),
            };
            for cpu in plan.cpus(index, replica) {
                workers.entry(*cpu).or_default().push(name.clone());
            }
        }
    }
    let mut out = String::new();
    let (cores, cpus) = (topology.cores(), topology.cpus.len());
    let _ = writeln!(
        out,
        "machine: {cores} cores, {cpus} CPUs, allowed: {}",
        format_cpu_list(allowed)
    );
    let mut groups: BTreeMap<(usize, usize, usize), Vec<&Cpu>> = BTreeMap::new();
    for cpu in &topology.cpus {
        let key = (cpu.package, cpu.node, topology.shared_cache(cpu.id));
        groups.entry(key).or_default().push(cpu);
    }
    let mut place = None;
    for ((package, node, _), cpus) in groups {
        if place != Some((package, node)) {
            let _ = writeln!(out, "package {package}, node numa{node}");
            place = Some((package, node));
        }
        let cache = cpus.first().and_then(|cpu| last_cache(topology, cpu.id));
        let _ = writeln!(out, "  {}", cache.unwrap_or_else(|| "CPUs".into()));
        let mut by_core: BTreeMap<usize, Vec<&Cpu>> = BTreeMap::new();
        for cpu in cpus {
            by_core.entry(cpu.core).or_default().push(cpu);
        }
        let mut idle = Vec::new();
        let mut hidden = Vec::new();
        for (_, cpus) in by_core {
            if cpus.iter().all(|cpu| !workers.contains_key(&cpu.id)) {
                let (free, taken): (Vec<&Cpu>, Vec<&Cpu>) = cpus.into_iter().partition(|cpu| {
                    allowed.contains(&cpu.id) && !pipeline.runtime.reserve.contains(&cpu.id)
                });
                idle.extend(free.iter().map(|cpu| cpu.id));
                hidden.extend(taken.iter().map(|cpu| cpu.id));
                continue;
            }
            let class = match cpus.first().map(|cpu| cpu.class) {
                Some(CoreClass::Performance) => "P-core",
                Some(CoreClass::Efficiency) => "E-core",
                _ => "core",
            };
            let cells: Vec<String> = cpus
                .iter()
                .map(|cpu| {
                    let names = workers.get(&cpu.id).map(|names| names.join(" + "));
                    format!("CPU {:<3} {:<18}", cpu.id, names.as_deref().unwrap_or("-"))
                })
                .collect();
            let line = format!("    {class:<6} {}", cells.join(" "));
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for (what, mut cpus) in [("free", idle), ("not used (reserved or not allowed)", hidden)] {
            cpus.sort_unstable();
            if !cpus.is_empty() {
                let _ = writeln!(out, "    {what}: {}", format_cpu_list(&cpus));
            }
        }
    }
    let threads: BTreeSet<&String> = workers.values().flatten().collect();
    if threads.is_empty() {
        let _ = writeln!(
            out,
            "nothing is pinned: `pin` in the pipeline file says where workers run"
        );
    }
    out
}

/// Level and size of the last cache of a CPU.
fn last_cache(topology: &Topology, cpu: usize) -> Option<String> {
    let shared = topology.caches.iter().filter(|cache| cache.cpus.contains(&cpu));
    let cache = shared.max_by_key(|cache| cache.level)?;
    let size = match cache.bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    Some(format!("L{} {size}", cache.level))
}
