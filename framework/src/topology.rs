//! The processors of this machine: logical CPUs, the cores, caches and NUMA nodes they belong to.
//!
//! Two readers give the same plain data: libhwloc (feature `hwloc`) and `/sys`. Cores and caches are named by the
//! lowest logical CPU in them, so that both agree on the names.

#[cfg(feature = "hwloc")]
mod hwloc;
mod recorded;
mod sysfs;

use std::collections::BTreeSet;
use std::path::Path;

pub use recorded::RecordedError;

/// The logical CPUs of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Logical CPUs by ascending number.
    pub cpus: Vec<Cpu>,
    /// Data and unified caches, by level and first CPU.
    pub caches: Vec<Cache>,
    /// Who told.
    pub origin: Origin,
}

/// Who described the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// libhwloc.
    Hwloc,
    /// `/sys/devices/system`.
    Sysfs,
    /// Made up, for tests and plans of other machines.
    Given,
}

/// One logical CPU (hardware thread).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub id: usize,
    /// Lowest logical CPU of the core it belongs to.
    pub core: usize,
    /// The kernel's number of its package (socket).
    pub package: usize,
    /// NUMA node.
    pub node: usize,
    /// Kind of core.
    pub class: CoreClass,
}

/// Kind of core, on processors that have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreClass {
    /// All cores are alike.
    Uniform,
    /// Performance core.
    Performance,
    /// Efficiency core.
    Efficiency,
}

/// One data or unified cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// 1 to 3.
    pub level: u8,
    /// Size in bytes.
    pub bytes: u64,
    /// Line in bytes.
    pub line: u32,
    /// Logical CPUs that share it, ascending.
    pub cpus: Vec<usize>,
}

impl Topology {
    /// This machine's topology, from hwloc if it is compiled in and agrees with the kernel's list of CPUs, else
    /// from `/sys`; `None` where neither can be read.
    pub fn read() -> Option<Self> {
        let sysfs = sysfs::read(Path::new("/sys/devices"));
        #[cfg(feature = "hwloc")]
        if let Some(hwloc) = hwloc::read() {
            // `HWLOC_SYNTHETIC` and `HWLOC_XMLFILE` describe another machine: nothing can be pinned there.
            let same = |t: &Self| t.cpus.iter().map(|c| c.id).eq(hwloc.cpus.iter().map(|c| c.id));
            if sysfs.as_ref().is_none_or(same) {
                return Some(hwloc);
            }
        }
        sysfs
    }

    /// A machine of equal cores. Logical CPUs are numbered as Linux does on x86: first threads of all cores first.
    pub fn uniform(packages: usize, cores_per_package: usize, threads_per_core: usize) -> Self {
        let cores = packages * cores_per_package;
        let cpus = (0..cores * threads_per_core).map(|id| Cpu {
            id,
            core: id % cores,
            package: id % cores / cores_per_package,
            node: id % cores / cores_per_package,
            class: CoreClass::Uniform,
        });
        Self {
            cpus: cpus.collect(),
            caches: Vec::new(),
            origin: Origin::Given,
        }
    }

    /// The CPU of that number.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// Place of a CPU among the hardware threads of its core, from 0.
    pub fn thread_rank(&self, cpu: &Cpu) -> usize {
        let same_core = self.cpus.iter().filter(|other| other.core == cpu.core);
        same_core.filter(|other| other.id < cpu.id).count()
    }

    /// What tells the last-level cache that a CPU uses from others: the first CPU that shares it. Without caches: its NUMA
    /// node.
    pub fn shared_cache(&self, id: usize) -> usize {
        let shared = self.caches.iter().filter(|cache| cache.cpus.contains(&id));
        let last = shared.max_by_key(|cache| cache.level);
        match last.and_then(|cache| cache.cpus.first()) {
            Some(first) => *first,
            None => self.cpu(id).map_or(0, |cpu| cpu.node),
        }
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.cpus
            .iter()
            .map(|cpu| cpu.core)
            .collect::<BTreeSet<_>>()
            .len()
    }
}

/// Reads a kernel CPU list such as `0-3,8`; `None` if it is not one, or names CPUs beyond any kernel's limit.
pub(crate) fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    /// Linux supports 8192 CPUs at most.
    const LIMIT: usize = 8192;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= LIMIT {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Writes CPU numbers as the kernel does: `0-3,8`.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let part = |(first, last): (usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        for bad in ["a", "3-1", "0-99999999999", "1--2"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let topology = Topology::read().unwrap();
        assert!(!topology.cpus.is_empty());
        assert!(topology.cores() <= topology.cpus.len());
    }

    #[test]
    #[cfg(feature = "hwloc")]
    fn hwloc_and_sysfs_tell_the_same() {
        let sysfs = sysfs::read(Path::new("/sys/devices")).unwrap();
        let mut hwloc = hwloc::read().unwrap();
        assert_eq!(hwloc.origin, Origin::Hwloc);
        hwloc.origin = Origin::Sysfs;
        assert_eq!(hwloc, sysfs);
    }

    proptest! {
        #[test]
        fn cpu_lists_survive_being_written(cpus in prop::collection::btree_set(0_usize..300, 0..40)) {
            let cpus: Vec<usize> = cpus.into_iter().collect();
            prop_assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)), Some(cpus));
        }
    }
}
