use std::time::{Duration, Instant};

use super::*;
use crate::config::plan::{Component, Pipeline};
use crate::error::Code;
use crate::packet::{Header, PacketId, Payload, StreamId};
use crate::ports::PortType;
use crate::registry::Role;
use crate::stage::{Progress, Source, SourceEmitter, StopFlag};

/// What an instance that is called by this number hands on.
struct Number(u32);

impl Payload for Number {
    fn port_type(&self) -> PortType {
        PortType("number")
    }
    fn bytes(&self) -> usize {
        4
    }
}

struct Named(u32);

impl Stage for Named {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        out.emit(packet.with_payload(Arc::new(Number(self.0))));
        Ok(())
    }
}

impl Source for Named {
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        out.emit(None, Arc::new(Number(self.0)), &mut |_| {});
        Ok(Progress::More)
    }
}

fn stage(name: u32) -> Prepared<dyn Stage> {
    Prepared::new(move |_| Ok(Box::new(Named(name)) as Box<dyn Stage>))
}

fn broken() -> Prepared<dyn Stage> {
    Prepared::new(|_| Err(StageError::fatal(Code("E9999"), "no such device")))
}

fn source(name: u32) -> Prepared<dyn Source> {
    Prepared::new(move |_| Ok(Box::new(Named(name)) as Box<dyn Source>))
}

fn context() -> WorkerContext {
    WorkerContext {
        name: "test".into(),
        replica: 0,
        replicas: 1,
        streams: vec!["cam".into()],
        cpus: Vec::new(),
        stopping: StopFlag::default(),
        clock: Arc::new(crate::clock::MonotonicClock),
    }
}

/// The numbers that came out, and how often something new began.
#[derive(Default)]
struct Seen {
    numbers: Vec<u32>,
    epochs: usize,
}

impl Emitter for Seen {
    fn emit(&mut self, packet: Packet) {
        self.numbers.push(packet.payload::<Number>().unwrap().0);
    }
    fn drop_packet(&mut self, _: &Header, _: &'static str) {}
    fn fail(&mut self, _: &Header, _: StageError) {}
}

fn packet(payload: Arc<dyn Payload>) -> Packet {
    let id = PacketId {
        stream: StreamId::from("cam"),
        epoch: 0,
        seq: 0,
    };
    let header = Header {
        id,
        captured: Instant::now(),
        pts: None,
    };
    Packet::new(header, payload)
}

impl SourceEmitter for Seen {
    fn emit(&mut self, _: Option<Duration>, payload: Arc<dyn Payload>, _: &mut dyn FnMut(&mut Packet)) {
        Emitter::emit(self, packet(payload));
    }
    fn fail(&mut self, _: Option<Duration>, _: StageError) {}
    fn discontinuity(&mut self) {
        self.epochs += 1;
    }
}

/// Two stages that can be replaced, with an open instance of each.
fn two_stages() -> (Vec<Replaceable>, Vec<Box<dyn Stage>>) {
    let component = |name| Component::new(name, Role::Stage, "test", Arc::new(()));
    let mut prepared = PreparedPipeline {
        pipeline: Pipeline::new("test", vec![component("one"), component("two")]),
        parts: vec![
            PreparedComponent::Stage(stage(1)),
            PreparedComponent::Stage(stage(2)),
        ],
    };
    let stages = Replaceable::all(&mut prepared);
    let open = prepared.parts.iter().map(|part| {
        let PreparedComponent::Stage(part) = part else {
            unreachable!()
        };
        let mut instance = (part.build)(0).unwrap();
        instance.open(&context()).unwrap();
        instance
    });
    let open = open.collect();
    (stages, open)
}

/// One packet through each instance.
fn through(open: &mut [Box<dyn Stage>]) -> Vec<u32> {
    let mut seen = Seen::default();
    for instance in open {
        instance.process(packet(Arc::new(Number(0))), &mut seen).unwrap();
    }
    seen.numbers
}

#[test]
fn what_changes_together_is_taken_back_together() {
    let (stages, mut open) = two_stages();
    let group = Arc::new(Group::default());
    stages[0].replace(stage(10), &group);
    stages[1].replace(broken(), &group);
    group.seal();
    // The first takes its new instance, the second cannot, and so the first goes back.
    assert_eq!(through(&mut open), [10, 2]);
    assert!(group.was_taken_back());
    assert_eq!(through(&mut open), [1, 2]);
    for stage in &stages {
        let state = stage.state();
        assert_eq!(state.pending, 0);
        let refused = state.refused.unwrap();
        assert!(
            refused.contains("taken back") && refused.contains("no such device"),
            "{refused}"
        );
    }
    // A later change begins from what was before.
    let group = Arc::new(Group::default());
    stages[1].replace(stage(20), &group);
    group.seal();
    assert_eq!(through(&mut open), [1, 20]);
    assert!(!group.was_taken_back() && stages[1].state().refused.is_none());
}

#[test]
fn one_that_is_refused_while_others_are_still_asked_takes_them_back_too() {
    let (stages, mut open) = two_stages();
    let group = Arc::new(Group::default());
    stages[1].replace(broken(), &group);
    assert_eq!(through(&mut open), [1, 2]);
    stages[0].replace(stage(10), &group);
    group.seal();
    assert_eq!(through(&mut open), [1, 2]);
    assert!(stages.iter().all(|stage| stage.state().pending == 0));
}

/// A source that can be switched, open.
fn one_source() -> (Switchable, Box<dyn Source>) {
    let mut prepared = PreparedPipeline {
        pipeline: Pipeline::new(
            "test",
            vec![Component::new("cam", Role::Source, "test", Arc::new(()))],
        ),
        parts: vec![PreparedComponent::Source(source(1))],
    };
    let switch = Switchable::all(&mut prepared).remove(0);
    let PreparedComponent::Source(part) = prepared.parts.remove(0) else {
        unreachable!()
    };
    let mut open = (part.build)(0).unwrap();
    open.open(&context()).unwrap();
    (switch, open)
}

#[test]
fn a_source_is_switched_off_and_on_and_begins_anew() {
    let (switch, mut open) = one_source();
    let mut seen = Seen::default();
    open.next(&mut seen).unwrap();
    assert!(switch.state().on && !open.idle());
    switch.pause();
    assert!(switch.state().pending);
    for _ in 0..2 {
        assert_eq!(
            open.next(&mut seen).unwrap(),
            Progress::More,
            "its stream does not end"
        );
    }
    assert!(!switch.state().on && open.idle());
    assert_eq!((seen.numbers.len(), seen.epochs), (1, 0));
    switch.start();
    open.next(&mut seen).unwrap();
    assert_eq!((&*seen.numbers, seen.epochs), (&[1, 1][..], 1));
}

#[test]
fn a_source_that_cannot_be_opened_anew_goes_on_as_it_was() {
    let (switch, mut open) = one_source();
    let mut seen = Seen::default();
    let group = Arc::new(Group::default());
    switch.replace(
        Prepared::new(|_| Err(StageError::fatal(Code("E9999"), "no such camera"))),
        &group,
    );
    group.seal();
    open.next(&mut seen).unwrap();
    assert_eq!((&*seen.numbers, seen.epochs), (&[1][..], 0));
    let state = switch.state();
    assert!(state.on && !state.pending && state.refused.unwrap().contains("no such camera"));
    let group = Arc::new(Group::default());
    switch.replace(source(3), &group);
    group.seal();
    open.next(&mut seen).unwrap();
    assert_eq!((&*seen.numbers, seen.epochs), (&[1, 3][..], 1));
}
