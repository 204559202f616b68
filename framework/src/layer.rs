//! Instances around others: what a layer does not say itself, the one inside it does.
//!
//! Whatever is added to [`Source`], [`Stage`] or [`Sink`] is passed on here, once for all layers.

use crate::error::StageError;
use crate::packet::{Packet, StreamId};
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage, WorkerContext};

/// A source around another.
pub(crate) trait SourceLayer: Send {
    /// The one inside.
    fn inner(&self) -> &dyn Source;
    /// The same, to be changed.
    fn inner_mut(&mut self) -> &mut dyn Source;
    /// [`Source::open`].
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.inner_mut().open(cx)
    }
    /// [`Source::next`].
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError>;
    /// [`Source::size_hint`].
    fn size_hint(&self) -> Option<u64> {
        self.inner().size_hint()
    }
}

impl<L: SourceLayer> Source for L {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        SourceLayer::open(self, cx)
    }
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        SourceLayer::next(self, out)
    }
    fn idle(&self) -> bool {
        self.inner().idle()
    }
    fn size_hint(&self) -> Option<u64> {
        SourceLayer::size_hint(self)
    }
    fn close(&mut self) -> Result<(), StageError> {
        self.inner_mut().close()
    }
}

/// A stage around another.
pub(crate) trait StageLayer: Send {
    /// The one inside.
    fn inner(&mut self) -> &mut dyn Stage;
    /// [`Stage::open`].
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.inner().open(cx)
    }
    /// [`Stage::process`].
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError>;
    /// [`Stage::process_batch`].
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError>;
    /// [`Stage::shape_changed`].
    fn shape_changed(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.inner().shape_changed(stream, out)
    }
    /// [`Stage::flush`].
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.inner().flush(stream, out)
    }
    /// [`Stage::discontinuity`].
    fn discontinuity(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.inner().discontinuity(stream, out)
    }
}

impl<L: StageLayer> Stage for L {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        StageLayer::open(self, cx)
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        StageLayer::process(self, packet, out)
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        StageLayer::process_batch(self, packets, out)
    }
    fn shape_changed(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        StageLayer::shape_changed(self, stream, out)
    }
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        StageLayer::flush(self, stream, out)
    }
    fn discontinuity(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        StageLayer::discontinuity(self, stream, out)
    }
    fn close(&mut self) -> Result<(), StageError> {
        self.inner().close()
    }
}

/// A sink around another.
pub(crate) trait SinkLayer: Send {
    /// The one inside.
    fn inner(&mut self) -> &mut dyn Sink;
    /// [`Sink::open`].
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.inner().open(cx)
    }
    /// [`Sink::consume`].
    fn consume(&mut self, packet: Packet) -> Result<(), StageError>;
}

impl<L: SinkLayer> Sink for L {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        SinkLayer::open(self, cx)
    }
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        SinkLayer::consume(self, packet)
    }
    fn shape_changed(&mut self, stream: &StreamId) -> Result<(), StageError> {
        self.inner().shape_changed(stream)
    }
    fn end_of_stream(&mut self, stream: &StreamId) -> Result<(), StageError> {
        self.inner().end_of_stream(stream)
    }
    fn close(&mut self) -> Result<(), StageError> {
        self.inner().close()
    }
}
