//! The run phase: workers, the queues between them, supervision, drain and the report.
//!
//! Each replica of each component is a worker: one OS thread that builds, opens, runs and drops its instance.
//! Edges are bounded channels. What holds for every run:
//!
//! * **Order.** Packets of one stream leave a component in the order in which it took them, also when several
//!   replicas share them, unless it says `order: none`. Edges keep that order.
//! * **Ends.** The end of a stream travels behind its last packet. A component flushes a stream once all its inputs
//!   have brought its end, and ends once all its streams have.
//! * **Queues.** An edge holds up to `capacity` waiting packets, shared by the replicas of its consumer; where a
//!   replica has streams of its own (`per_stream`, `by_stream`), it has a queue of its own. Lossy policies touch
//!   only the streams of live sources on the way to a required sink, unless `lossy: all`; other streams then wait
//!   in a queue of their own. Where an optional branch leaves the way to required sinks, `block` means
//!   `drop_oldest`: it may not hold up the others.
//! * **Errors.** A panic or error is an error of the packet in hand, and `on_error` says what becomes of it. After a
//!   panic, or an error it cannot go on from, a stage is rebuilt within its restart budget; what it held back fails
//!   with it. Once the budget is spent, a stage with one replica per stream takes only that stream with it; another
//!   one ends the pipeline. A sink is never rebuilt, since its output would start over and look whole. A source that
//!   fails ends its stream; the others go on and the run counts as failed.
//! * **Batches, deadlines, rates.** A consumer with a batch picks packets over its streams in turn; packets that are too
//!   old or too many are dropped where they are taken, under a reason of their own.
//! * **Joins.** On the ways from a fan-out to its join a dropped packet leaves a tombstone in its place, so that a join
//!   counts places and never waits for what will not come.
//! * **Timeouts.** A worker whose call does not return is left behind: its packets fail, a spare takes its place, and
//!   what it gives later is not taken. A source that is lost is opened again where it says `reconnect`.
//! * **Stop.** [`RunHandle::stop`] ends the sources; everything under way drains within `drain_timeout`. Without a
//!   stop, a pipeline whose sources have ended may take any time as long as packets are being settled.
//!   [`RunHandle::abort`] cuts the run short: what is under way counts as aborted, and sinks are not closed, so that
//!   nothing cut off looks whole. A thread that does not come back is named and abandoned.
//! * **Ledger.** See [`crate::ledger`]. Errors and dead letters count as loss, and more of it than `max_loss` allows
//!   is [`Outcome::LossBeyondLimit`]; drops of lossy queues and of stages are declared in the pipeline.

mod bell;
mod component;
mod core;
mod dead_letter;
mod drain;
mod edge;
mod event;
mod exit;
mod fair;
mod fifo;
mod inlet;
mod join;
mod limits;
mod marks;
mod report;
mod resequencer;
mod snapshot;
mod source;
mod start;
mod supervisor;
#[cfg(test)]
mod tests;
mod wiring;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use report::{EdgeReport, Failure, Outcome, RunReport};
pub use snapshot::{EdgeSnapshot, Snapshot, StageSnapshot};

use crate::clock::{Clock, MonotonicClock};
use crate::config::plan::PreparedPipeline;
use crate::error::{Code, StageError};
use crate::pins::PinError;
use supervisor::{Run, Workers};

/// Options of a run that do not come from the pipeline file.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// The clock that every rule about time asks; tests move one by hand.
    pub clock: Arc<dyn Clock>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            duration: None,
            clock: Arc::new(MonotonicClock),
        }
    }
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Pins that cannot be had.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Pins(Vec<PinError>),
    /// A dead-letter file that cannot be created.
    #[error(transparent)]
    DeadLetters(StageError),
    /// A thread that the system did not give.
    #[error(
        "cannot start a thread for the worker {worker}: {error}; lower the number of replicas or raise the limit of processes (`ulimit -u`)"
    )]
    Thread {
        /// The worker, `component#replica`.
        worker: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl RunError {
    /// Stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Pins(errors) => errors.first().map_or(Code("E0331"), PinError::code),
            Self::DeadLetters(error) => error.code,
            Self::Thread { .. } => Code("E0411"),
        }
    }
}

/// Runs a pipeline to its end.
///
/// # Errors
/// When it cannot start; whatever happens afterwards is in the report.
pub fn run(prepared: PreparedPipeline, options: &RunOptions) -> Result<RunReport, RunError> {
    Ok(start(prepared, options)?.wait())
}

/// Starts a pipeline; [`Running::wait`] sees it to its end.
///
/// # Errors
/// When it cannot start; whatever happens afterwards is in the report.
pub fn start(prepared: PreparedPipeline, options: &RunOptions) -> Result<Running, RunError> {
    start::start(prepared, options).map(|workers| Running {
        workers: Some(workers),
    })
}

/// A pipeline at work. Dropping it without waiting cuts the run short.
pub struct Running {
    workers: Option<Workers>,
}

impl Running {
    /// A handle that may go to other threads.
    pub fn handle(&self) -> RunHandle {
        match &self.workers {
            Some(workers) => RunHandle(workers.run().clone()),
            None => unreachable!("only `wait` takes the workers, and it consumes the value"),
        }
    }

    /// Waits for the end of the run.
    pub fn wait(mut self) -> RunReport {
        match self.workers.take() {
            Some(workers) => workers.wait(),
            None => unreachable!("only `wait` takes the workers, and it consumes the value"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(workers) = &self.workers {
            workers.run().core.abort();
        }
    }
}

/// Stops a run and looks at its progress; cheap to clone.
#[derive(Clone)]
pub struct RunHandle(Arc<Run>);

impl RunHandle {
    /// Ends the sources; everything under way drains.
    pub fn stop(&self) {
        self.0.core.stop();
    }

    /// Cuts the run short: what is under way is aborted, and sinks are not closed.
    pub fn abort(&self) {
        self.0.core.abort();
    }

    /// Ends one source; what is under way drains, and the other streams go on. `false`: there is none of that name.
    pub fn end_source(&self, name: &str) -> bool {
        let stream = self.0.core.accounts.iter().position(|a| &*a.stream == name);
        if let Some(stream) = stream {
            self.0.core.end_stream(stream);
        }
        stream.is_some()
    }

    /// Whether a stop has been asked for.
    pub fn is_stopping(&self) -> bool {
        self.0.core.stopping.is_set()
    }

    /// Instances rebuilt so far, over all components.
    pub fn restarts(&self) -> u64 {
        let components = self.0.components.iter();
        components.map(|c| c.restarts.load(Ordering::Relaxed)).sum()
    }

    /// Where the run stands. Reads counters only: cheap, and never in the way of the workers.
    pub fn progress(&self) -> Progress {
        let run = &self.0;
        let streams = run.core.accounts.iter().zip(&run.expected);
        let depth_into = |name: &str| {
            let into = run.edges.iter().filter(|edge| edge.leads_to(name));
            into.map(|edge| edge.depth()).sum()
        };
        Progress {
            elapsed: run.started.elapsed(),
            streams: streams
                .map(|(account, expected)| {
                    let (entered, settled) = account.progress();
                    let expected = expected.load(Ordering::Relaxed);
                    StreamProgress {
                        name: account.stream.to_string(),
                        entered,
                        settled,
                        expected: (expected != source::UNKNOWN).then_some(expected),
                    }
                })
                .collect(),
            stages: run
                .components
                .iter()
                .map(|component| StageProgress {
                    name: component.name.to_string(),
                    packets: component.meters.iter().map(|meter| meter.taken.get()).sum(),
                    waiting: depth_into(&component.name),
                })
                .collect(),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Each stream, in the order of the pipeline file.
    pub streams: Vec<StreamProgress>,
    /// Each component, in topological order.
    pub stages: Vec<StageProgress>,
}

/// Where a stream stands.
#[derive(Debug, Clone)]
pub struct StreamProgress {
    /// Name of the source.
    pub name: String,
    /// Packets given.
    pub entered: u64,
    /// Packets delivered, dropped or dead-lettered.
    pub settled: u64,
    /// Packets the source will give, where it knows.
    pub expected: Option<u64>,
}

/// Where a component stands.
#[derive(Debug, Clone)]
pub struct StageProgress {
    /// Name of the component.
    pub name: String,
    /// Packets taken, or given by a source.
    pub packets: u64,
    /// Packets waiting in the queues before it.
    pub waiting: usize,
}
