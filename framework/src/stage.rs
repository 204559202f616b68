//! The traits that sources, stages and sinks implement.
//!
//! An instance belongs to one worker thread, so it needs `Send`, not `Sync`. The contract of a stage is one
//! outcome per packet: each packet taken is, now or by `flush` at the latest, emitted with the same id,
//! dropped with a reason, or failed with an error. The ledger holds stages to it.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::StageError;
use crate::packet::{Header, Packet, Payload, StreamId};
use std::sync::Arc;

/// What a worker tells its instance when it opens.
#[derive(Debug, Clone)]
pub struct WorkerContext {
    /// Name of the component in the pipeline file.
    pub name: Arc<str>,
    /// Index of this replica, from 0.
    pub replica: usize,
    /// Number of replicas.
    pub replicas: usize,
    /// Streams that reach this component, in the order of the pipeline file.
    pub streams: Vec<StreamId>,
    /// Logical CPUs this worker is pinned to; empty: not pinned.
    pub cpus: Vec<usize>,
    /// True once the pipeline has been asked to stop; long waits look at it.
    pub stopping: StopFlag,
    /// The clock that every rule about time asks; whoever waits for a moment waits with its timers, so that tests move time.
    pub clock: Arc<dyn Clock>,
}

/// Shared flag: the pipeline has been asked to stop.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<std::sync::atomic::AtomicBool>);

impl StopFlag {
    /// Whether a stop has been asked for.
    pub fn is_set(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
    /// Asks for a stop.
    pub fn set(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What a source did in one call of [`Source::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There may be more; call again.
    More,
    /// The stream has ended.
    End,
}

/// Takes what a source produces. The framework gives each packet its id.
pub trait SourceEmitter {
    /// Emits the next packet of the stream. Blocks while the queues are full. `attachments` may be added by
    /// the closure through [`Packet::attach`].
    fn emit(&mut self, pts: Option<Duration>, payload: Arc<dyn Payload>, attach: &mut dyn FnMut(&mut Packet));
    /// Counts a packet of the stream that was damaged beyond delivery: it takes a sequence number and
    /// becomes a tombstone.
    fn fail(&mut self, pts: Option<Duration>, error: StageError);
    /// Starts a new epoch: what follows does not continue what came before.
    fn discontinuity(&mut self);
}

/// Takes what a stage produces.
pub trait Emitter {
    /// Emits a packet; its header id must be one the stage has taken and not yet settled.
    fn emit(&mut self, packet: Packet);
    /// Settles a packet as dropped, with a short snake_case reason that the ledger counts.
    fn drop_packet(&mut self, header: &Header, reason: &'static str);
    /// Settles a packet as failed; `on_error` decides what becomes of it.
    fn fail(&mut self, header: &Header, error: StageError);
}

/// Reads one stream.
pub trait Source: Send {
    /// Called once on the worker thread before anything else.
    fn open(&mut self, _cx: &WorkerContext) -> Result<(), StageError> {
        Ok(())
    }
    /// Reads a little and emits any number of packets, preferably one. Must return within about 100 ms
    /// when nothing arrives, so that a stop is noticed. A recoverable error is counted and reading goes on;
    /// another ends the stream.
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError>;
    /// Whether it gives nothing on purpose, so that its `stall_timeout` does not run.
    fn idle(&self) -> bool {
        false
    }
    /// Number of packets the source will give, if it knows.
    fn size_hint(&self) -> Option<u64> {
        None
    }
    /// Called once at the end.
    fn close(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}

/// Turns packets into packets.
pub trait Stage: Send {
    /// Called once on the worker thread before anything else.
    fn open(&mut self, _cx: &WorkerContext) -> Result<(), StageError> {
        Ok(())
    }
    /// Takes one packet. On `Err` the packet counts as failed and must not have been emitted.
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError>;
    /// Takes the packets of a batch, all of one shape, and settles each of them before it returns. On `Err` those
    /// that were not settled are given to [`process`](Stage::process) one by one, so that only what is at fault fails.
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        packets
            .iter()
            .try_for_each(|packet| self.process(packet.clone(), out))
    }
    /// Payloads of the stream have another shape from the next packet on, such as a new resolution.
    fn shape_changed(&mut self, _stream: &StreamId, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }
    /// The stream has ended: whatever is held back for it must be settled now.
    fn flush(&mut self, _stream: &StreamId, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }
    /// The stream starts anew (next epoch): state that depends on continuity is reset after a flush.
    fn discontinuity(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.flush(stream, out)
    }
    /// Called once at the end.
    fn close(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}

/// Takes packets out of the pipeline.
pub trait Sink: Send {
    /// Called once on the worker thread before anything else.
    fn open(&mut self, _cx: &WorkerContext) -> Result<(), StageError> {
        Ok(())
    }
    /// Takes one packet; `Ok` acknowledges it.
    fn consume(&mut self, packet: Packet) -> Result<(), StageError>;
    /// Payloads of the stream have another shape from the next packet on, such as a new resolution.
    fn shape_changed(&mut self, _stream: &StreamId) -> Result<(), StageError> {
        Ok(())
    }
    /// The stream has ended.
    fn end_of_stream(&mut self, _stream: &StreamId) -> Result<(), StageError> {
        Ok(())
    }
    /// Called once at the end: finish files, make them appear whole.
    fn close(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}
