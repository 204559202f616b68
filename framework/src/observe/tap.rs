//! Observers between components: instances are wrapped as they are built, so that a pipeline that nobody looks into
//! pays nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::layer::{SinkLayer, SourceLayer, StageLayer};
use crate::packet::{Header, Packet, Payload, StreamId};
use crate::registry::{PreparedComponent, Role};
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};

/// Sees packets pass, on the threads of the workers.
pub trait Observer: Send + Sync + 'static {
    /// A packet passes.
    fn packet(&self, packet: &Packet);
    /// A packet was lost where the observer stands: dropped with a reason, or failed.
    fn lost(&self, _header: &Header, _reason: &str) {}
}

/// Shows an observer what the component of that index emits, before any queue. Sinks emit nothing.
pub fn emitted(prepared: &mut PreparedPipeline, index: usize, observer: Arc<dyn Observer>) {
    replace(prepared, index, |part| match part {
        PreparedComponent::Source(part) => PreparedComponent::Source(part.layered(move |_, inner| {
            Box::new(Watched {
                inner,
                observer: observer.clone(),
            })
        })),
        PreparedComponent::Stage(part) => PreparedComponent::Stage(part.layered(move |_, inner| {
            Box::new(Watched {
                inner,
                observer: observer.clone(),
            })
        })),
        sink => sink,
    });
}

/// Shows an observer what the component of that index takes, in the order in which it takes it and behind its queues.
/// Sources take nothing.
pub fn taken(prepared: &mut PreparedPipeline, index: usize, observer: Arc<dyn Observer>) {
    replace(prepared, index, |part| match part {
        PreparedComponent::Stage(part) => PreparedComponent::Stage(part.layered(move |_, inner| {
            Box::new(Fed {
                inner,
                observer: observer.clone(),
            })
        })),
        PreparedComponent::Sink(part) => PreparedComponent::Sink(part.layered(move |_, inner| {
            Box::new(Fed {
                inner,
                observer: observer.clone(),
            })
        })),
        source => source,
    });
}

/// Shows an observer what passes an edge: behind its queue where it is the consumer's only one, else before it.
///
/// # Errors
/// When there is no such edge; the message names those there are.
pub fn edge(
    prepared: &mut PreparedPipeline,
    from: &str,
    to: &str,
    observer: Arc<dyn Observer>,
) -> Result<(), String> {
    let pipeline = &prepared.pipeline;
    let found = pipeline.component(from).zip(pipeline.component(to));
    let found =
        found.filter(|((from, _), (_, consumer))| consumer.inputs.iter().any(|input| input.from == *from));
    let Some(((producer, _), (consumer, component))) = found else {
        let name = |index: usize| pipeline.components.get(index).map_or("", |c| &*c.name);
        let edges = pipeline.components.iter().flat_map(|c| {
            c.inputs
                .iter()
                .map(|input| format!("`{}->{}`", name(input.from), c.name))
        });
        return Err(format!(
            "there is no edge `{from}->{to}`; there are {}",
            edges.collect::<Vec<_>>().join(", ")
        ));
    };
    if component.inputs.len() == 1 {
        taken(prepared, consumer, observer);
    } else {
        emitted(prepared, producer, observer);
    }
    Ok(())
}

fn replace(
    prepared: &mut PreparedPipeline,
    index: usize,
    f: impl FnOnce(PreparedComponent) -> PreparedComponent,
) {
    if index < prepared.parts.len() {
        let part = prepared.parts.remove(index);
        prepared.parts.insert(index, f(part));
    }
}

/// Index of every component of a role.
pub fn of_role(prepared: &PreparedPipeline, role: Role) -> Vec<usize> {
    let components = prepared.pipeline.components.iter().enumerate();
    components
        .filter(|(_, c)| c.role == role)
        .map(|(index, _)| index)
        .collect()
}

/// What it emits is observed.
struct Watched<T: ?Sized> {
    inner: Box<T>,
    observer: Arc<dyn Observer>,
}

struct Watching<'a, T: ?Sized> {
    out: &'a mut T,
    observer: &'a dyn Observer,
}

impl Emitter for Watching<'_, dyn Emitter + '_> {
    fn emit(&mut self, packet: Packet) {
        self.observer.packet(&packet);
        self.out.emit(packet);
    }
    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        self.observer.lost(header, reason);
        self.out.drop_packet(header, reason);
    }
    fn fail(&mut self, header: &Header, error: StageError) {
        self.observer.lost(header, error.code.0);
        self.out.fail(header, error);
    }
}

impl StageLayer for Watched<dyn Stage> {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }

    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let observer = &*self.observer;
        self.inner.process(packet, &mut Watching { out, observer })
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        let observer = &*self.observer;
        self.inner.process_batch(packets, &mut Watching { out, observer })
    }
    fn shape_changed(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let observer = &*self.observer;
        self.inner.shape_changed(stream, &mut Watching { out, observer })
    }
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let observer = &*self.observer;
        self.inner.flush(stream, &mut Watching { out, observer })
    }
    fn discontinuity(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let observer = &*self.observer;
        self.inner.discontinuity(stream, &mut Watching { out, observer })
    }
}

impl SourceEmitter for Watching<'_, dyn SourceEmitter + '_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let observer = self.observer;
        self.out.emit(pts, payload, &mut |packet| {
            attach(packet);
            observer.packet(packet);
        });
    }
    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.out.fail(pts, error);
    }
    fn discontinuity(&mut self) {
        self.out.discontinuity();
    }
}

impl SourceLayer for Watched<dyn Source> {
    fn inner(&self) -> &dyn Source {
        &*self.inner
    }
    fn inner_mut(&mut self) -> &mut dyn Source {
        &mut *self.inner
    }
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        let observer = &*self.observer;
        self.inner.next(&mut Watching { out, observer })
    }
}

/// What it takes is observed.
struct Fed<T: ?Sized> {
    inner: Box<T>,
    observer: Arc<dyn Observer>,
}

impl StageLayer for Fed<dyn Stage> {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }

    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.observer.packet(&packet);
        self.inner.process(packet, out)
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        packets.iter().for_each(|packet| self.observer.packet(packet));
        self.inner.process_batch(packets, out)
    }
}

impl SinkLayer for Fed<dyn Sink> {
    fn inner(&mut self) -> &mut dyn Sink {
        &mut *self.inner
    }

    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        self.observer.packet(&packet);
        self.inner.consume(packet)
    }
}
