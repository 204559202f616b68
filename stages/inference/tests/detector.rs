//! Requests on streams, counters and the graph that runs, on the demo's detector.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use flow_inference::{Device, Engine, InferQueue, Input, Options, QueueOptions, execution_xml, profile};

const DETECTOR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../pipelines/demo/detector-int8.xml"
);

fn engine(options: &Options) -> Engine {
    Engine::load(DETECTOR, options).unwrap()
}

fn picture(engine: &Engine, seed: usize) -> Vec<Vec<u8>> {
    let count: usize = engine.inputs()[0].shape.iter().product();
    let values = (0..count).flat_map(|i| (((i * 31 + seed * 17) % 200) as f32 / 100.0 - 1.0).to_le_bytes());
    vec![values.collect()]
}

fn queue(engine: &Engine, requests: usize, streams: usize, profiled: bool) -> InferQueue {
    let options = QueueOptions {
        requests,
        streams,
        profiled,
        cpus: Vec::new(),
    };
    InferQueue::new(std::slice::from_ref(engine), &options).unwrap()
}

#[test]
fn requests_on_streams_give_what_a_session_gives() {
    let engine = engine(&Options::default());
    let mut queue = queue(&engine, 3, 2, true);
    let pictures: Vec<_> = (0..3).map(|seed| Arc::new(picture(&engine, seed))).collect();
    for round in 0..4 {
        for picture in &pictures {
            let (request, finished) = queue.wait_idle().unwrap();
            assert_eq!(
                finished.is_some(),
                round > 0,
                "all are idle in the first round only"
            );
            queue.start(request, 0, picture.clone()).unwrap();
        }
    }
    assert_eq!(queue.wait_all().unwrap().len(), 3);
    let runs: u32 = queue.sessions_mut().map(|s| s[0].profile().unwrap().runs()).sum();
    assert_eq!(runs, 12);
    for (request, picture) in pictures.iter().enumerate() {
        queue.start(request, 0, picture.clone()).unwrap();
    }
    let busy = queue.start(0, 0, pictures[0].clone()).unwrap_err();
    assert_eq!(busy.to_string(), "request 0 is not idle");
    assert!(queue.wait_all().unwrap().iter().all(|f| !f.latency.is_zero()));
    let mut session = engine.session();
    for (sessions, picture) in queue.sessions_mut().zip(&pictures) {
        session.run(&[Input::Values(&picture[0])]).unwrap();
        for output in 0..engine.outputs().len() {
            assert!(!session.output(output).is_empty());
            assert!(
                sessions[0].output(output) == session.output(output),
                "output {output}"
            );
        }
    }
}

#[test]
fn a_run_that_fails_is_told_and_the_request_is_idle_again() {
    let engine = engine(&Options::default());
    let mut queue = queue(&engine, 1, 1, false);
    queue.start(0, 0, Arc::new(vec![vec![0; 3]])).unwrap();
    let error = queue.wait_all().unwrap_err().to_string();
    assert!(error.contains('3'), "{error}");
    queue.start(0, 0, Arc::new(picture(&engine, 0))).unwrap();
    assert_eq!(queue.wait_all().unwrap().len(), 1);
}

#[test]
fn every_layer_has_one_counter_and_steps_have_their_times() {
    let engine = engine(&Options::default());
    let times = profile(&engine, 2).unwrap();
    let counters = engine.counters(&times);
    let steps = engine.program().unwrap().steps();
    for step in steps {
        assert!(
            counters.iter().any(|c| c.executed && *c.name == *step.name),
            "{}",
            step.name
        );
    }
    let total: Duration = counters.iter().map(|c| c.real).sum();
    assert_eq!(total, times.iter().map(|t| t.real).sum());
    let position = |name: &str| counters.iter().position(|c| c.name == name).unwrap();
    assert!(
        position("stem") < position("stem/relu"),
        "what is fused comes behind its step"
    );
    for name in ["stem/add", "stem/relu", "stem/relu/fq_output_0"] {
        let counter = &counters[position(name)];
        assert_eq!((counter.executed, counter.exec_type.as_str()), (false, "undef"));
    }
    let mut names: Vec<&str> = counters.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|p| p[0] != p[1]), "a name stands twice");
}

#[test]
fn the_reference_evaluator_is_timed_operation_by_operation() {
    let engine = engine(&Options {
        device: Device::Reference,
        lpt: false,
        ..Options::default()
    });
    let mut session = engine.profiled_session();
    session.run(&[Input::Values(&picture(&engine, 0)[0])]).unwrap();
    let counters = engine.counters(&session.profile().unwrap().mean());
    for counter in counters.iter().filter(|c| c.executed) {
        assert!(counter.exec_type.starts_with("ref_any_"), "{counter:?}");
    }
    let stem = counters.iter().find(|c| c.name == "stem").unwrap();
    assert!(stem.executed && !stem.real.is_zero(), "{stem:?}");
}

#[test]
fn the_graph_that_runs_is_connected_from_inputs_to_outputs() {
    let engine = engine(&Options::default());
    let nodes = engine.runtime_graph(&[]).unwrap();
    for (i, node) in nodes.iter().enumerate() {
        let name = &node.counter.name;
        assert_eq!(
            node.inputs.is_empty(),
            node.counter.layer_type == "Parameter",
            "{name}"
        );
        assert!(
            node.inputs.iter().all(|&from| from < i),
            "{name}: {:?}",
            node.inputs
        );
    }
    let mut read = vec![false; nodes.len()];
    nodes
        .iter()
        .flat_map(|n| &n.inputs)
        .for_each(|&from| read[from] = true);
    for (node, read) in nodes.iter().zip(&read) {
        assert!(
            *read || node.counter.layer_type == "Result",
            "nobody reads {}",
            node.counter.name
        );
    }
    let xml = execution_xml("a \"net\"", &nodes);
    assert!(xml.contains("<net name=\"a &quot;net&quot;\" version=\"11\">"));
    assert_eq!(xml.matches("<layer ").count(), nodes.len());
    assert!(xml.contains("originalLayersNames=\"stem,stem/add,stem/relu,stem/relu/fq_output_0\""));
}

#[test]
fn the_reference_evaluator_shows_every_operation_that_it_runs() {
    let engine = engine(&Options {
        device: Device::Reference,
        ..Options::default()
    });
    let nodes = engine.runtime_graph(&[]).unwrap();
    let executed: Vec<_> = nodes.iter().filter(|n| n.counter.executed).collect();
    assert!(executed.len() > 20, "{} operations", executed.len());
    for node in &executed {
        assert!(!node.inputs.is_empty(), "{} reads nothing", node.counter.name);
        assert!(
            node.counter.exec_type.starts_with("ref_any_"),
            "{:?}",
            node.counter
        );
    }
    let rows = engine.inspect();
    let kernels = rows
        .iter()
        .filter(|r| r.kernel.as_deref() == Some("reference"))
        .count();
    assert!(kernels > 20, "{kernels} operations have a kernel");
    let times = profile(&engine, 1).unwrap();
    assert!(
        engine
            .inspect_timed(&times)
            .iter()
            .any(|r| r.ms.is_some_and(|ms| ms > 0.0))
    );
}
