//! The runtime allocates nothing for a packet once it has warmed up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow::config::plan::{BatchSpec, Component, InputEdge, Order, Pipeline, PreparedPipeline, Replicas};
use flow::error::StageError;
use flow::packet::{Packet, Payload};
use flow::ports::PortType;
use flow::registry::{Prepared, PreparedComponent, Role};
use flow::runtime::{Outcome, RunOptions, run};
use flow::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};

/// Allocations of all threads.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: the system's allocator does the work.
#[allow(unsafe_code, reason = "an allocator is unsafe by nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Packets before and while it is counted.
const WARM_UP: u64 = 4_000;
const COUNTED: u64 = 4_000;

struct Empty;

impl Payload for Empty {
    fn port_type(&self) -> PortType {
        PortType("empty")
    }
    fn bytes(&self) -> usize {
        0
    }
}

struct Same(Arc<dyn Payload>, u64);

impl Source for Same {
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        // More than what is counted, so that its end is not counted.
        if self.1 == WARM_UP + COUNTED + 1_000 {
            return Ok(Progress::End);
        }
        self.1 += 1;
        out.emit(None, self.0.clone(), &mut |_| {});
        Ok(Progress::More)
    }
}

struct Pass;

impl Stage for Pass {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        out.emit(packet);
        Ok(())
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        packets.iter().for_each(|packet| out.emit(packet.clone()));
        Ok(())
    }
}

/// Notes how many allocations there were between two of its packets.
struct Watching(u64, u64, Arc<Mutex<Option<u64>>>);

impl Sink for Watching {
    fn consume(&mut self, _: Packet) -> Result<(), StageError> {
        self.0 += 1;
        let now = ALLOCATIONS.load(Ordering::Relaxed);
        if self.0 == WARM_UP {
            self.1 = now;
        } else if self.0 == WARM_UP + COUNTED {
            *self.2.lock().unwrap() = Some(now - self.1);
        }
        Ok(())
    }
}

/// Allocations while [`COUNTED`] packets go through a source, two stages and a sink; `shape` changes the first stage.
fn allocations(shape: impl FnOnce(&mut Component)) -> u64 {
    let found = Arc::new(Mutex::new(None));
    let given = found.clone();
    let stage = || PreparedComponent::Stage(Prepared::<dyn Stage>::new(|_| Ok(Box::new(Pass))));
    let parts = vec![
        PreparedComponent::Source(Prepared::<dyn Source>::new(|_| {
            Ok(Box::new(Same(Arc::new(Empty), 0)))
        })),
        stage(),
        stage(),
        PreparedComponent::Sink(Prepared::<dyn Sink>::new(move |_| {
            Ok(Box::new(Watching(0, 0, given.clone())))
        })),
    ];
    let roles = [Role::Source, Role::Stage, Role::Stage, Role::Sink];
    let names = ["cam", "first", "second", "out"];
    let mut components: Vec<Component> = Vec::new();
    for (index, (name, role)) in names.into_iter().zip(roles).enumerate() {
        let mut component = Component::new(name, role, "empty", Arc::new(()));
        component.streams.push("cam".into());
        component.inputs.extend(index.checked_sub(1).map(InputEdge::new));
        components.push(component);
    }
    shape(&mut components[1]);
    let prepared = PreparedPipeline {
        pipeline: Pipeline::new("counted", components),
        parts,
    };
    let report = run(prepared, &RunOptions::default()).unwrap();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    let found = found.lock().unwrap().take();
    found.expect("the sink has seen them all")
}

/// None per packet: what is counted is that more packets than ever were under way at one time, or more threads asleep.
fn assert_rare(found: u64, what: &str) {
    assert!(
        found <= COUNTED / 200,
        "{what}: {found} allocations for {COUNTED} packets"
    );
}

/// One test, since the harness allocates when another one begins or ends.
#[test]
fn a_packet_costs_no_allocation() {
    assert_rare(allocations(|_| {}), "a stage");
    for order in [Order::PerStream, Order::None] {
        let found = allocations(|stage| {
            stage.replicas = Replicas::Count(2);
            stage.order = order;
        });
        assert_rare(found, &format!("replicas, order {order:?}"));
    }
    let found = allocations(|stage| stage.timeout = Some(Duration::from_secs(60)));
    assert_rare(found, "a timeout");
    let found = allocations(|stage| {
        stage.batch = Some(BatchSpec {
            max: 4,
            max_wait: Duration::from_millis(1),
            per_stream_max: 4,
            sizes: Vec::new(),
        });
    });
    assert_rare(found, "batches");
}
