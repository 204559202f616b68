//! Pipelines of numbers, built without a file.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use flow::clock::ManualClock;
use flow::config::plan::{Component, InputEdge, Pipeline, PreparedPipeline, QueueSpec, RuntimeSpec};
use flow::error::{Code, StageError};
use flow::packet::{Packet, PacketId, Payload, PayloadFile, StreamId};
use flow::ports::PortType;
use flow::registry::{Prepared, PreparedComponent, Role};
use flow::runtime::{RunOptions, RunReport, Running, run, start};
use flow::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage, WorkerContext};

pub struct Number(pub u64);

impl Payload for Number {
    fn port_type(&self) -> PortType {
        PortType("number")
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
    fn files(&self, _: &Packet) -> Vec<PayloadFile> {
        vec![PayloadFile {
            name: "../number.txt".into(),
            about: format!("the number {}", self.0),
            bytes: self.0.to_string().into_bytes(),
        }]
    }
}

pub fn number(packet: &Packet) -> u64 {
    packet.payload::<Number>().unwrap().0
}

/// Calls a closure for each packet.
pub struct Each<F>(pub F);

impl<F> Stage for Each<F>
where
    F: FnMut(Packet, &mut dyn Emitter) -> Result<(), StageError> + Send,
{
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        (self.0)(packet, out)
    }
}

/// Counts up to `count`, calling a closure before each number.
struct Counting<F> {
    count: u64,
    next: u64,
    before: F,
}

impl<F> Source for Counting<F>
where
    F: FnMut(u64, &mut dyn SourceEmitter) -> Result<(), StageError> + Send,
{
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if self.next == self.count {
            return Ok(Progress::End);
        }
        let n = self.next;
        self.next += 1;
        (self.before)(n, out)?;
        out.emit(None, Arc::new(Number(n)), &mut |_| {});
        Ok(Progress::More)
    }
    fn size_hint(&self) -> Option<u64> {
        Some(self.count)
    }
}

struct Taking<F>(F);

impl<F> Sink for Taking<F>
where
    F: FnMut(Packet) -> Result<(), StageError> + Send,
{
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        (self.0)(packet)
    }
}

/// What a collecting sink saw.
#[derive(Clone, Default)]
pub struct Seen {
    pub packets: Arc<Mutex<Vec<(PacketId, u64)>>>,
    pub ended: Arc<Mutex<Vec<StreamId>>>,
    pub closed: Arc<Mutex<u32>>,
}

impl Seen {
    pub fn numbers(&self, stream: &str) -> Vec<u64> {
        let packets = self.packets.lock().unwrap();
        let of_stream = packets.iter().filter(|(id, _)| &*id.stream == stream);
        of_stream.map(|(_, number)| *number).collect()
    }
    pub fn len(&self) -> usize {
        self.packets.lock().unwrap().len()
    }
}

struct Collecting(Seen);

impl Sink for Collecting {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let entry = (packet.header.id.clone(), number(&packet));
        self.0.packets.lock().unwrap().push(entry);
        Ok(())
    }
    fn end_of_stream(&mut self, stream: &StreamId) -> Result<(), StageError> {
        self.0.ended.lock().unwrap().push(stream.clone());
        Ok(())
    }
    fn close(&mut self) -> Result<(), StageError> {
        *self.0.closed.lock().unwrap() += 1;
        Ok(())
    }
}

/// A pipeline under construction; components are added producers first.
pub struct Build {
    pipeline: Pipeline,
    parts: Vec<PreparedComponent>,
}

impl Build {
    pub fn new() -> Self {
        Self {
            pipeline: Pipeline::new("test", Vec::new()),
            parts: Vec::new(),
        }
    }

    pub fn runtime(&mut self) -> &mut RuntimeSpec {
        &mut self.pipeline.runtime
    }

    fn add(&mut self, name: &str, role: Role, inputs: &[&str], part: PreparedComponent) -> &mut Component {
        let mut component = Component::new(name, role, "test", Arc::new(()));
        for input in inputs {
            let (from, producer) = self.pipeline.component(input).expect("producers come first");
            component.streams.extend(producer.streams.iter().cloned());
            component.inputs.push(InputEdge::new(from));
        }
        if role == Role::Source {
            component.streams.push((&component.name).into());
        }
        component.streams.sort();
        component.streams.dedup();
        self.pipeline.components.push(component);
        self.parts.push(part);
        self.pipeline.components.last_mut().unwrap()
    }

    pub fn source(&mut self, name: &str, count: u64) -> &mut Component {
        self.source_with(name, count, |_, _| Ok(()))
    }

    pub fn source_with<F>(&mut self, name: &str, count: u64, before: F) -> &mut Component
    where
        F: FnMut(u64, &mut dyn SourceEmitter) -> Result<(), StageError> + Clone + Send + Sync + 'static,
    {
        let build = move |_| {
            let before = before.clone();
            Ok(Box::new(Counting {
                count,
                next: 0,
                before,
            }) as Box<dyn Source>)
        };
        self.add(
            name,
            Role::Source,
            &[],
            PreparedComponent::Source(Prepared::new(build)),
        )
    }

    /// A source whose instances `build` gives.
    pub fn source_of<S: Source + 'static>(
        &mut self,
        name: &str,
        build: impl Fn() -> S + Send + Sync + 'static,
    ) -> &mut Component {
        let build = move |_| Ok(Box::new(build()) as Box<dyn Source>);
        let part = PreparedComponent::Source(Prepared::new(build));
        self.add(name, Role::Source, &[], part)
    }

    /// A stage whose instances `build` gives.
    pub fn stage<S: Stage + 'static>(
        &mut self,
        name: &str,
        inputs: &[&str],
        build: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> &mut Component {
        let build = move |replica| Ok(Box::new(build(replica)) as Box<dyn Stage>);
        self.add(
            name,
            Role::Stage,
            inputs,
            PreparedComponent::Stage(Prepared::new(build)),
        )
    }

    pub fn each<F>(&mut self, name: &str, inputs: &[&str], f: F) -> &mut Component
    where
        F: FnMut(Packet, &mut dyn Emitter) -> Result<(), StageError> + Clone + Send + Sync + 'static,
    {
        self.stage(name, inputs, move |_| Each(f.clone()))
    }

    pub fn pass(&mut self, name: &str, inputs: &[&str]) -> &mut Component {
        self.each(name, inputs, |packet, out| {
            out.emit(packet);
            Ok(())
        })
    }

    pub fn sink(&mut self, name: &str, inputs: &[&str]) -> Seen {
        let seen = Seen::default();
        let given = seen.clone();
        let build = move |_| Ok(Box::new(Collecting(given.clone())) as Box<dyn Sink>);
        self.add(
            name,
            Role::Sink,
            inputs,
            PreparedComponent::Sink(Prepared::new(build)),
        );
        seen
    }

    pub fn sink_with<F>(&mut self, name: &str, inputs: &[&str], f: F) -> &mut Component
    where
        F: FnMut(Packet) -> Result<(), StageError> + Clone + Send + Sync + 'static,
    {
        let build = move |_| Ok(Box::new(Taking(f.clone())) as Box<dyn Sink>);
        self.add(
            name,
            Role::Sink,
            inputs,
            PreparedComponent::Sink(Prepared::new(build)),
        )
    }

    pub fn component(&mut self, name: &str) -> &mut Component {
        let (index, _) = self.pipeline.component(name).unwrap();
        &mut self.pipeline.components[index]
    }

    /// Sets all queues into a component.
    pub fn queue(&mut self, name: &str, queue: QueueSpec) -> &mut Self {
        for input in &mut self.component(name).inputs {
            input.queue = queue;
        }
        self
    }

    pub fn prepared(self) -> PreparedPipeline {
        PreparedPipeline {
            pipeline: self.pipeline,
            parts: self.parts,
        }
    }

    /// Starts the pipeline under a clock that is moved by hand.
    pub fn start(self, clock: &ManualClock) -> Running {
        let options = RunOptions {
            clock: Arc::new(clock.clone()),
            ..RunOptions::default()
        };
        start(self.prepared(), &options).unwrap()
    }

    pub fn run(self) -> RunReport {
        run(self.prepared(), &RunOptions::default()).unwrap()
    }
}

/// Waits until something holds that will hold soon.
pub fn until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

/// Packets that a component has taken.
pub fn taken(running: &Running, component: &str) -> u64 {
    let progress = running.handle().progress();
    let stage = progress.stages.iter().find(|stage| stage.name == component);
    stage.unwrap().packets
}

/// A gate that tests open: whoever passes it waits until then.
#[derive(Clone)]
pub struct Barrier {
    open: Sender<()>,
    wait: Receiver<()>,
    pub reached: Receiver<()>,
    reach: Sender<()>,
}

impl Barrier {
    pub fn new() -> Self {
        let (open, wait) = bounded(1 << 12);
        let (reach, reached) = bounded(1 << 12);
        Self {
            open,
            wait,
            reached,
            reach,
        }
    }
    /// Says that somebody is here, and waits to be let through.
    pub fn pass(&self) {
        self.reach.send(()).unwrap();
        self.wait.recv().unwrap();
    }
    /// Lets `n` through.
    pub fn open(&self, n: usize) {
        for _ in 0..n {
            self.open.send(()).unwrap();
        }
    }
}

pub fn oops() -> StageError {
    StageError::packet(Code("E0499"), "oops")
}

pub fn fatal() -> StageError {
    StageError::fatal(Code("E0498"), "broken")
}

/// A small generator, so that faults fall at random and the same way again.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    /// A number below `n`.
    pub fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }
}

/// Tells the context of each worker that opens.
pub struct Opening<S>(pub S, pub Arc<Mutex<Vec<WorkerContext>>>);

impl<S: Stage> Stage for Opening<S> {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.1.lock().unwrap().push(cx.clone());
        self.0.open(cx)
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.0.process(packet, out)
    }
}
