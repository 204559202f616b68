//! The topology as libhwloc sees it.
//!
//! The binding is used within narrow bounds, since parts of it are unsound: objects are never formatted or asked
//! for their name, handles of sets are copied into numbers while the topology lives and never kept, cache attributes
//! are read of caches only, and NUMA nodes are taken from the node sets of CPUs rather than listed.

use hwloc2::{ObjectType, Topology as Hwloc, TopologyObject};

use super::{Cache, Cpu, Origin, Topology, sysfs};

/// Largest number of CPUs or nodes in a set; sets may be infinite.
const LIMIT: usize = 8192;

/// Reads the machine; `None` where hwloc fails or tells of no CPU.
pub(super) fn read() -> Option<Topology> {
    let hwloc = Hwloc::new()?;
    let cores: Vec<Vec<usize>> = objects(&hwloc, &ObjectType::Core).into_iter().map(cpus).collect();
    let packages: Vec<(usize, Vec<usize>)> = objects(&hwloc, &ObjectType::Package)
        .into_iter()
        .map(|object| (object.os_index() as usize, cpus(object)))
        .collect();
    let classes = sysfs::classes(std::path::Path::new("/sys/devices"));
    let mut all: Vec<Cpu> = objects(&hwloc, &ObjectType::PU)
        .into_iter()
        .map(|pu| {
            let id = pu.os_index() as usize;
            let core = cores.iter().find(|cpus| cpus.contains(&id));
            let package = packages.iter().find(|(_, cpus)| cpus.contains(&id));
            Cpu {
                id,
                core: core.and_then(|cpus| cpus.first().copied()).unwrap_or(id),
                package: package.map_or(0, |(index, _)| *index),
                node: node(pu),
                class: classes.of(id),
            }
        })
        .collect();
    all.sort_by_key(|cpu| cpu.id);
    if all.is_empty() {
        return None;
    }
    let mut caches = Vec::new();
    for (level, kind) in [
        (1, ObjectType::L1Cache),
        (2, ObjectType::L2Cache),
        (3, ObjectType::L3Cache),
    ] {
        for object in objects(&hwloc, &kind) {
            if let Some(cache) = object.cache_attributes() {
                caches.push(Cache {
                    level,
                    bytes: cache.size,
                    line: cache.linesize,
                    cpus: cpus(object),
                });
            }
        }
    }
    caches.sort_by_key(|cache| (cache.level, cache.cpus.first().copied()));
    Some(Topology {
        cpus: all,
        caches,
        origin: Origin::Hwloc,
    })
}

fn objects<'a>(hwloc: &'a Hwloc, kind: &ObjectType) -> Vec<&'a TopologyObject> {
    // A kind that exists at several depths or not at all is left out.
    match hwloc.depth_for_type(kind) {
        Ok(depth) => hwloc.objects_at_depth(depth),
        Err(_) => Vec::new(),
    }
}

/// The CPUs of an object, ascending.
fn cpus(object: &TopologyObject) -> Vec<usize> {
    let set = object.cpuset().into_iter().flatten();
    set.take(LIMIT).map(|cpu| cpu as usize).collect()
}

fn node(object: &TopologyObject) -> usize {
    let mut set = object.nodeset().into_iter().flatten();
    set.next().map_or(0, |node| node as usize)
}
