//! Plans of pins on recorded machines: what `flowrun plan --topology` gives, as a pure function.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use flow::config::plan::{Component, CpuSet, InputEdge, PinSpec, Pipeline, Replicas, Smt};
use flow::pins::{self, PinPlan};
use flow::registry::Role;
use flow::topology::{CoreClass, Topology};

fn machine(name: &str) -> (Topology, Vec<usize>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    let text = std::fs::read_to_string(folder.join(format!("{name}.xml"))).unwrap();
    Topology::from_hwloc_xml(&text).unwrap()
}

/// A chain of components: name, replicas, threads, pin.
fn chain(parts: &[(&str, usize, usize, PinSpec)]) -> Pipeline {
    let components = parts
        .iter()
        .enumerate()
        .map(|(index, (name, replicas, threads, pin))| {
            let role = if index == 0 { Role::Source } else { Role::Stage };
            let mut component = Component::new(name, role, "test", Arc::new(()));
            component.replicas = Replicas::Count(*replicas);
            component.threads = *threads;
            component.pin = Some(pin.clone());
            component.inputs = index.checked_sub(1).map(InputEdge::new).into_iter().collect();
            component
        });
    Pipeline::new("test", components.collect())
}

fn any() -> PinSpec {
    PinSpec::default()
}

fn planned(on: &str, pipeline: &Pipeline) -> PinPlan {
    let (topology, allowed) = machine(on);
    pins::plan(&topology, &allowed, pipeline).unwrap()
}

fn refused(on: &str, pipeline: &Pipeline) -> Vec<String> {
    let (topology, allowed) = machine(on);
    let errors = pins::plan(&topology, &allowed, pipeline).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

/// First CPU of the last-level cache that all of these share.
fn one_cache(topology: &Topology, cpus: &[usize]) -> Option<usize> {
    let mut homes: Vec<usize> = cpus.iter().map(|cpu| topology.shared_cache(*cpu)).collect();
    homes.dedup();
    (homes.len() == 1).then(|| homes[0])
}

#[test]
fn recorded_machines_are_what_they_are() {
    for (name, cpus, cores, packages, nodes, last_caches) in [
        ("vm-2-cpus", 2, 2, 2, 1, 2),
        ("alder-lake", 24, 16, 1, 1, 1),
        ("epyc-8-ccx", 64, 32, 1, 1, 8),
        ("xeon-2-sockets", 32, 16, 2, 2, 2),
    ] {
        let (topology, allowed) = machine(name);
        assert_eq!((topology.cpus.len(), topology.cores()), (cpus, cores), "{name}");
        assert_eq!(allowed.len(), cpus, "{name}");
        let different = |of: &dyn Fn(&flow::topology::Cpu) -> usize| {
            let all: std::collections::BTreeSet<usize> = topology.cpus.iter().map(of).collect();
            all.len()
        };
        assert_eq!(different(&|c| c.package), packages, "{name}");
        assert_eq!(different(&|c| c.node), nodes, "{name}");
        assert_eq!(different(&|c| topology.shared_cache(c.id)), last_caches, "{name}");
    }
    let (hybrid, _) = machine("alder-lake");
    let efficient = hybrid.cpus.iter().filter(|c| c.class == CoreClass::Efficiency);
    assert_eq!(
        efficient.map(|c| c.id).collect::<Vec<_>>(),
        (16..24).collect::<Vec<_>>()
    );
    let (xeon, _) = machine("xeon-2-sockets");
    assert_eq!((xeon.cpu(17).unwrap().core, xeon.cpu(17).unwrap().node), (1, 1));
}

#[test]
fn a_node_of_a_machine_with_two_sockets_is_kept_to() {
    // Even CPUs are on node 0: what is near is not what has neighbouring numbers.
    let on_node = |node| PinSpec {
        node: Some(node),
        ..any()
    };
    let plan = planned(
        "xeon-2-sockets",
        &chain(&[("decode", 2, 1, on_node(0)), ("infer", 2, 4, on_node(1))]),
    );
    assert_eq!(
        plan.components,
        [
            vec![vec![0], vec![2]],
            vec![vec![1, 3, 5, 7], vec![9, 11, 13, 15]]
        ]
    );
    // Without a node, the CPUs of one replica share a cache, and stages that talk are near each other.
    let plan = planned(
        "xeon-2-sockets",
        &chain(&[("decode", 1, 1, any()), ("infer", 3, 4, any())]),
    );
    let (topology, _) = machine("xeon-2-sockets");
    for cpus in plan.components.iter().flatten() {
        assert!(one_cache(&topology, cpus).is_some(), "{plan:?}");
    }
    assert_eq!(plan.components[0], [[0]]);
    assert_eq!(plan.components[1][0], [2, 4, 6, 8]);

    let avoiding = PinSpec {
        smt: Smt::Avoid,
        ..on_node(0)
    };
    let said = refused(
        "xeon-2-sockets",
        &chain(&[("decode", 1, 1, any()), ("infer", 9, 1, avoiding)]),
    );
    assert!(
        said[0].contains("`infer` needs 9 CPUs")
            && said[0].contains("one thread per core: 0,2,4,6,8,10,12,14"),
        "{said:?}"
    );
}

#[test]
fn classes_of_a_hybrid_processor_are_told_apart() {
    let of = |cpuset| PinSpec { cpuset, ..any() };
    let plan = planned(
        "alder-lake",
        &chain(&[
            ("decode", 4, 1, of(CpuSet::Ecores)),
            ("infer", 4, 2, of(CpuSet::Pcores)),
        ]),
    );
    assert_eq!(plan.components[0], [[16], [17], [18], [19]]);
    // Cores of their own first, their second threads only where there are no more.
    assert_eq!(plan.components[1], [[0, 2], [4, 6], [8, 10], [12, 14]]);

    // Without a class performance cores go first, and no replica mixes the two while there are enough.
    let plan = planned(
        "alder-lake",
        &chain(&[("decode", 1, 1, any()), ("infer", 4, 3, any())]),
    );
    assert_eq!(plan.components[0], [[0]]);
    let (topology, _) = machine("alder-lake");
    for cpus in &plan.components[1] {
        let first = topology.cpu(cpus[0]).unwrap().class;
        assert!(
            cpus.iter().all(|c| topology.cpu(*c).unwrap().class == first),
            "{plan:?}"
        );
    }

    let said = refused(
        "alder-lake",
        &chain(&[("decode", 1, 1, any()), ("infer", 5, 2, of(CpuSet::Ecores))]),
    );
    assert!(said[0].contains("cpuset: ecores: 16-23"), "{said:?}");
    // One hardware thread of each core, of both classes.
    let said = refused("alder-lake", &chain(&[("decode", 17, 1, of(CpuSet::Physical))]));
    assert!(
        said[0].contains("one thread per core: 0,2,4,6,8,10,12,14,16-23"),
        "{said:?}"
    );
}

#[test]
fn slices_stay_within_a_cache_of_an_epyc() {
    let (topology, _) = machine("epyc-8-ccx");
    // Three of the four cores of each group: taken in a row, every second slice would straddle two caches.
    let plan = planned(
        "epyc-8-ccx",
        &chain(&[("decode", 1, 1, any()), ("infer", 7, 3, any())]),
    );
    let mut homes = Vec::new();
    for cpus in &plan.components[1] {
        assert_eq!(cpus.len(), 3);
        assert!(
            cpus.iter().all(|cpu| *cpu < 32),
            "a core of its own for each: {plan:?}"
        );
        homes.push(one_cache(&topology, cpus).unwrap());
    }
    homes.sort_unstable();
    homes.dedup();
    assert_eq!(homes.len(), 7);
    // The first one shares its cache with what feeds it.
    assert_eq!(plan.components[0], [[0]]);
    assert_eq!(plan.components[1][0], [1, 2, 3]);

    // Where there are no more whole ones, slices are had all the same.
    let plan = planned(
        "epyc-8-ccx",
        &chain(&[("decode", 1, 1, any()), ("infer", 10, 3, any())]),
    );
    let mut used: Vec<usize> = plan.components.iter().flatten().flatten().copied().collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 31);
}

#[test]
fn exclusive_reserved_and_hidden_cpus_are_left_alone() {
    let mut pipeline = chain(&[
        ("decode", 1, 1, any()),
        (
            "infer",
            2,
            4,
            PinSpec {
                exclusive: true,
                ..any()
            },
        ),
        ("draw", 4, 1, any()),
    ]);
    pipeline.runtime.reserve = vec![0, 32];
    let (topology, mut allowed) = machine("epyc-8-ccx");
    // As `taskset` or a container hides a group of cores.
    allowed.retain(|cpu| !(4..8).contains(cpu));
    let plan = pins::plan(&topology, &allowed, &pipeline).unwrap();
    let all: Vec<usize> = plan.components.iter().flatten().flatten().copied().collect();
    assert!(
        all.iter().all(|cpu| ![0, 32, 4, 5, 6, 7].contains(cpu)),
        "{plan:?}"
    );
    let infer: Vec<usize> = plan.components[1].iter().flatten().copied().collect();
    let others = plan.components[0].iter().chain(&plan.components[2]).flatten();
    assert!(others.clone().all(|cpu| !infer.contains(cpu)), "{plan:?}");
}

#[test]
fn a_small_machine_holds_little_and_says_so() {
    // Two CPUs: two stages that talk fit, a third that talks to the second shares with the first.
    let plan = planned(
        "vm-2-cpus",
        &chain(&[
            ("decode", 1, 1, any()),
            ("infer", 1, 1, any()),
            ("draw", 1, 1, any()),
        ]),
    );
    assert_eq!(plan.components, [[[0]], [[1]], [[0]]]);
    let said = refused(
        "vm-2-cpus",
        &chain(&[("decode", 1, 1, any()), ("infer", 2, 2, any())]),
    );
    assert!(
        said[0].contains("`infer` needs 4 CPUs (2 replicas of 2)"),
        "{said:?}"
    );
    let crowded = PinSpec {
        oversubscribe: true,
        ..any()
    };
    let plan = planned(
        "vm-2-cpus",
        &chain(&[("decode", 1, 1, any()), ("infer", 2, 2, crowded)]),
    );
    assert_eq!(plan.components[1], [[0, 1], [0, 1]]);
}

#[test]
fn errors_have_their_places() {
    let pipeline = chain(&[("decode", 1, 1, any()), ("infer", 2, 2, any())]);
    let (topology, allowed) = machine("vm-2-cpus");
    let errors = pins::plan(&topology, &allowed, &pipeline).unwrap_err();
    let found = pins::diagnostics(&pipeline, &errors);
    let text = found.render(false);
    assert!(text.starts_with("error[E0331]: `infer` needs 4 CPUs"), "{text}");
    assert!(text.contains("help: widen the pin"), "{text}");
}
