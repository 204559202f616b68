//! A trace of every call into an instance, in the JSON form that Perfetto and `chrome://tracing` read.
//!
//! One track for each worker; a slice for each packet, with waits for room downstream inside of it; arrows follow a packet
//! from worker to worker. Bounded: the first calls are kept, those beyond are counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::layer::{SinkLayer, SourceLayer, StageLayer};
use crate::ledger::lock;
use crate::packet::{Header, Packet, PacketId, Payload, StreamId};
use crate::registry::PreparedComponent;
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};

/// Most slices that are kept: some 100 MB of JSON.
pub const MAX_SLICES: usize = 500_000;

/// Slices that are allocated at once, so that no growing list is copied while workers wait for it.
const CHUNK: usize = 4096;

/// Waits for room shorter than this are no slices of their own.
const SHORTEST_WAIT: Duration = Duration::from_micros(20);

/// What a slice shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Next,
    Process,
    Flush,
    Wait,
}

struct Slice {
    worker: u32,
    what: What,
    began: Instant,
    took: Duration,
    id: Option<PacketId>,
}

/// A trace under way.
pub struct Trace {
    started: Instant,
    most: usize,
    chunks: Mutex<Vec<Vec<Slice>>>,
    /// Names of workers; their places are their tracks.
    workers: Mutex<Vec<(usize, String)>>,
    beyond: AtomicU64,
}

impl Trace {
    /// Wraps all instances of a pipeline so that their calls are traced; keeps the first `most` slices.
    pub fn of(prepared: &mut PreparedPipeline, most: usize) -> Arc<Self> {
        let this = Arc::new(Self {
            started: Instant::now(),
            most,
            chunks: Mutex::default(),
            workers: Mutex::default(),
            beyond: AtomicU64::new(0),
        });
        let parts = std::mem::take(&mut prepared.parts).into_iter();
        let parts = parts.zip(prepared.pipeline.components.iter().enumerate());
        prepared.parts = parts
            .map(|(part, (index, component))| {
                let (trace, name) = (this.clone(), component.name.clone());
                let track = move |replica: usize| Track {
                    worker: trace.worker(index, &name, replica),
                    trace: trace.clone(),
                };
                match part {
                    PreparedComponent::Source(part) => {
                        PreparedComponent::Source(part.layered(move |replica, inner| {
                            Box::new(Traced {
                                inner,
                                track: track(replica),
                            })
                        }))
                    }
                    PreparedComponent::Stage(part) => {
                        PreparedComponent::Stage(part.layered(move |replica, inner| {
                            Box::new(Traced {
                                inner,
                                track: track(replica),
                            })
                        }))
                    }
                    PreparedComponent::Sink(part) => {
                        PreparedComponent::Sink(part.layered(move |replica, inner| {
                            Box::new(Traced {
                                inner,
                                track: track(replica),
                            })
                        }))
                    }
                }
            })
            .collect();
        this
    }

    /// The track of a worker; the same again where its instance is rebuilt.
    fn worker(&self, component: usize, name: &str, replica: usize) -> u32 {
        let name = format!("{name}#{replica}");
        let mut workers = lock(&self.workers);
        let place = workers.iter().position(|(_, known)| *known == name);
        let place = place.unwrap_or_else(|| {
            workers.push((component, name));
            workers.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn keep(&self, slice: Slice) {
        let mut chunks = lock(&self.chunks);
        if chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            if chunks.len() * CHUNK >= self.most {
                drop(chunks);
                self.beyond.fetch_add(1, Ordering::Relaxed);
                return;
            }
            chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(slice);
        }
    }

    /// Slices beyond the limit, which the trace lacks.
    pub fn beyond(&self) -> u64 {
        self.beyond.load(Ordering::Relaxed)
    }

    /// Writes the trace.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        let mut first = true;
        let mut event = |out: &mut dyn Write, event: serde_json::Value| -> io::Result<()> {
            let comma = if std::mem::take(&mut first) { "" } else { ",\n" };
            write!(out, "{comma}{event}")
        };
        for (tid, (component, name)) in lock(&self.workers).iter().enumerate() {
            let named = serde_json::json!({"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}});
            event(out, named)?;
            let sorted = serde_json::json!({"ph": "M", "pid": 1, "tid": tid, "name": "thread_sort_index",
                "args": {"sort_index": component}});
            event(out, sorted)?;
        }
        let mut flows: HashMap<PacketId, usize> = HashMap::new();
        for slice in lock(&self.chunks).iter().flatten() {
            let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
            let began = micros(slice.began.saturating_duration_since(self.started));
            let name = match (slice.what, &slice.id) {
                (What::Next, _) => "next",
                (What::Process, _) => "process",
                (What::Flush, _) => "flush",
                (What::Wait, _) => "wait for room",
            };
            let args = slice
                .id
                .as_ref()
                .map(|id| serde_json::json!({"stream": &*id.stream, "epoch": id.epoch, "seq": id.seq}));
            event(
                out,
                serde_json::json!({"ph": "X", "pid": 1, "tid": slice.worker, "name": name, "ts": began,
                    "dur": micros(slice.took), "args": args.unwrap_or_default()}),
            )?;
            if let (Some(id), What::Next | What::Process) = (&slice.id, slice.what) {
                let next = flows.len();
                let known = flows.get(id).copied();
                let flow = *flows.entry(id.clone()).or_insert(next);
                let phase = if known.is_some() { "t" } else { "s" };
                event(
                    out,
                    serde_json::json!({"ph": phase, "bp": "e", "pid": 1, "tid": slice.worker, "cat": "packet", "name": "packet",
                        "id": flow, "ts": began}),
                )?;
            }
        }
        write!(
            out,
            "\n],\"otherData\":{{\"slices_beyond_limit\":{}}}}}\n",
            self.beyond()
        )
    }
}

#[derive(Clone)]
struct Track {
    trace: Arc<Trace>,
    worker: u32,
}

impl Track {
    fn keep(&self, what: What, began: Instant, id: Option<PacketId>) {
        self.trace.keep(Slice {
            worker: self.worker,
            what,
            began,
            took: began.elapsed(),
            id,
        });
    }

    fn waited(&self, began: Instant, id: Option<PacketId>) {
        if began.elapsed() >= SHORTEST_WAIT {
            self.keep(What::Wait, began, id);
        }
    }
}

struct Traced<T: ?Sized> {
    inner: Box<T>,
    track: Track,
}

/// Emitting is timed, since it waits for room.
struct Timing<'a, T: ?Sized> {
    out: &'a mut T,
    track: &'a Track,
    /// Id of the last packet that a source gave.
    given: Option<PacketId>,
}

impl Emitter for Timing<'_, dyn Emitter + '_> {
    fn emit(&mut self, packet: Packet) {
        let (began, id) = (Instant::now(), packet.header.id.clone());
        self.out.emit(packet);
        self.track.waited(began, Some(id));
    }
    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        self.out.drop_packet(header, reason);
    }
    fn fail(&mut self, header: &Header, error: StageError) {
        self.out.fail(header, error);
    }
}

impl SourceEmitter for Timing<'_, dyn SourceEmitter + '_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let mut given = None;
        let began = Instant::now();
        self.out.emit(pts, payload, &mut |packet| {
            attach(packet);
            given = Some(packet.header.id.clone());
        });
        self.track.waited(began, given.clone());
        self.given = given;
    }
    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.out.fail(pts, error);
    }
    fn discontinuity(&mut self) {
        self.out.discontinuity();
    }
}

impl<'a, T: ?Sized> Timing<'a, T> {
    fn new(out: &'a mut T, track: &'a Track) -> Self {
        Self {
            out,
            track,
            given: None,
        }
    }
}

impl SourceLayer for Traced<dyn Source> {
    fn inner(&self) -> &dyn Source {
        &*self.inner
    }
    fn inner_mut(&mut self) -> &mut dyn Source {
        &mut *self.inner
    }
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        let began = Instant::now();
        let mut timing = Timing::new(out, &self.track);
        let progress = self.inner.next(&mut timing);
        if timing.given.is_some() {
            let given = timing.given;
            self.track.keep(What::Next, began, given);
        }
        progress
    }
}

impl StageLayer for Traced<dyn Stage> {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }

    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let (began, id) = (Instant::now(), packet.header.id.clone());
        let outcome = self.inner.process(packet, &mut Timing::new(out, &self.track));
        self.track.keep(What::Process, began, Some(id));
        outcome
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        let began = Instant::now();
        let outcome = self
            .inner
            .process_batch(packets, &mut Timing::new(out, &self.track));
        // One slice for each packet, so that arrows find all of them; they lie in one another.
        for packet in packets {
            self.track
                .keep(What::Process, began, Some(packet.header.id.clone()));
        }
        outcome
    }
    fn shape_changed(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.inner
            .shape_changed(stream, &mut Timing::new(out, &self.track))
    }
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let began = Instant::now();
        let outcome = self.inner.flush(stream, &mut Timing::new(out, &self.track));
        self.track.keep(What::Flush, began, None);
        outcome
    }
    fn discontinuity(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.inner
            .discontinuity(stream, &mut Timing::new(out, &self.track))
    }
}

impl SinkLayer for Traced<dyn Sink> {
    fn inner(&mut self) -> &mut dyn Sink {
        &mut *self.inner
    }

    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let (began, id) = (Instant::now(), packet.header.id.clone());
        let outcome = self.inner.consume(packet);
        self.track.keep(What::Process, began, Some(id));
        outcome
    }
}
