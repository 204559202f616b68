use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::plan::{Component, CpuSet, InputEdge, PinSpec, Replicas, Smt};
use crate::registry::Role;
use crate::topology::{CoreClass, Cpu};

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
