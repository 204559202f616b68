//! The topology as the kernel shows it under `/sys/devices`.

use std::fs;
use std::path::Path;

use super::{Cache, CoreClass, Cpu, Origin, Topology, parse_cpu_list};

/// Reads the machine below `root` (`/sys/devices`); `None` where the kernel shows no CPU.
pub(super) fn read(root: &Path) -> Option<Topology> {
    let system = root.join("system");
    let classes = classes(root);
    let nodes = nodes(&system);
    let mut cpus = Vec::new();
    let mut caches: Vec<Cache> = Vec::new();
    for id in list(&system.join("cpu/online"))? {
        let folder = system.join(format!("cpu/cpu{id}"));
        let siblings = list(&folder.join("topology/thread_siblings_list"));
        let node = nodes.iter().find(|(_, cpus)| cpus.contains(&id));
        cpus.push(Cpu {
            id,
            core: siblings.and_then(|cpus| cpus.first().copied()).unwrap_or(id),
            package: number(&folder.join("topology/physical_package_id")).unwrap_or(0),
            node: node.map_or(0, |(node, _)| *node),
            class: classes.of(id),
        });
        for index in 0..16 {
            let Some(cache) = cache(&folder.join(format!("cache/index{index}"))) else {
                continue;
            };
            if !caches
                .iter()
                .any(|c| c.level == cache.level && c.cpus == cache.cpus)
            {
                caches.push(cache);
            }
        }
    }
    caches.sort_by_key(|cache| (cache.level, cache.cpus.first().copied()));
    (!cpus.is_empty()).then_some(Topology {
        cpus,
        caches,
        origin: Origin::Sysfs,
    })
}

/// Which CPUs are performance and which efficiency cores, on hybrid x86 processors.
pub(super) struct Classes {
    performance: Vec<usize>,
    efficiency: Vec<usize>,
}

impl Classes {
    pub(super) fn of(&self, cpu: usize) -> CoreClass {
        if self.performance.contains(&cpu) {
            CoreClass::Performance
        } else if self.efficiency.contains(&cpu) {
            CoreClass::Efficiency
        } else {
            CoreClass::Uniform
        }
    }
}

pub(super) fn classes(root: &Path) -> Classes {
    Classes {
        performance: list(&root.join("cpu_core/cpus")).unwrap_or_default(),
        efficiency: list(&root.join("cpu_atom/cpus")).unwrap_or_default(),
    }
}

fn nodes(system: &Path) -> Vec<(usize, Vec<usize>)> {
    let numbers = list(&system.join("node/online")).unwrap_or_default();
    let cpus = |node| list(&system.join(format!("node/node{node}/cpulist"))).map(|cpus| (node, cpus));
    numbers.into_iter().filter_map(cpus).collect()
}

fn cache(folder: &Path) -> Option<Cache> {
    let kind = text(&folder.join("type"))?;
    if kind == "Instruction" {
        return None;
    }
    let size = text(&folder.join("size"))?;
    let (digits, unit) = match size.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => size
            .strip_suffix('M')
            .map_or((size.as_str(), 1), |digits| (digits, 1 << 20)),
    };
    Some(Cache {
        level: u8::try_from(number(&folder.join("level"))?).ok()?,
        bytes: digits.parse::<u64>().ok()?.checked_mul(unit)?,
        line: u32::try_from(number(&folder.join("coherency_line_size"))?).ok()?,
        cpus: list(&folder.join("shared_cpu_list"))?,
    })
    .filter(|cache| (1..=3).contains(&cache.level))
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<usize> {
    text(path)?.parse().ok()
}

fn list(path: &Path) -> Option<Vec<usize>> {
    parse_cpu_list(&text(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_hybrid_machine_with_two_nodes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "system/cpu/online", "0-2\n");
        write(root, "system/node/online", "0-1\n");
        write(root, "system/node/node0/cpulist", "0-1\n");
        write(root, "system/node/node1/cpulist", "2\n");
        write(root, "cpu_core/cpus", "0-1\n");
        write(root, "cpu_atom/cpus", "2\n");
        for (cpu, siblings) in [(0, "0-1"), (1, "0-1"), (2, "2")] {
            let cpu = format!("system/cpu/cpu{cpu}");
            write(root, &format!("{cpu}/topology/thread_siblings_list"), siblings);
            write(root, &format!("{cpu}/topology/physical_package_id"), "0\n");
            for (index, kind, size) in [
                (0, "Data", "32K"),
                (1, "Instruction", "32K"),
                (2, "Unified", "1M"),
            ] {
                let cache = format!("{cpu}/cache/index{index}");
                write(root, &format!("{cache}/type"), kind);
                write(root, &format!("{cache}/size"), size);
                write(
                    root,
                    &format!("{cache}/level"),
                    if index == 2 { "2" } else { "1" },
                );
                write(root, &format!("{cache}/coherency_line_size"), "64");
                write(root, &format!("{cache}/shared_cpu_list"), siblings);
            }
        }
        let topology = read(root).unwrap();
        assert_eq!(topology.cores(), 2);
        assert_eq!(topology.cpu(1).unwrap().core, 0);
        assert_eq!(topology.cpu(1).unwrap().class, CoreClass::Performance);
        let efficient = topology.cpu(2).unwrap();
        assert_eq!((efficient.node, efficient.class), (1, CoreClass::Efficiency));
        let l2: Vec<_> = topology.caches.iter().filter(|c| c.level == 2).collect();
        assert_eq!(l2.len(), 2);
        assert_eq!((l2[0].bytes, l2[0].line, &l2[0].cpus), (1 << 20, 64, &vec![0, 1]));
        assert_eq!(topology.caches.len(), 4);
    }

    #[test]
    fn nothing_to_read_is_no_topology() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
    }
}
