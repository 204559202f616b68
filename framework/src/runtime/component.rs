//! What the replicas of one component share.

use std::any::Any;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::exit::Exit;
use super::inlet::Control;
use super::limits::Limits;
use crate::config::plan::{BatchSpec, Join, OnError, ReconnectSpec, RestartPolicy, RestartSpec};
use crate::error::{Code, StageError};
use crate::ledger::lock;
use crate::metrics::{Meter, StageReport, merge};
use crate::packet::{Packet, StreamId};
use crate::registry::{PreparedComponent, Role};

pub(crate) struct Component {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// Whether a required sink depends on it.
    pub(crate) required: bool,
    /// Whether each replica has a stream of its own.
    pub(crate) per_stream: bool,
    pub(crate) on_error: OnError,
    pub(crate) limits: Limits,
    pub(crate) batch: Option<BatchSpec>,
    /// Longest time that a call may take.
    pub(crate) timeout: Option<Duration>,
    pub(crate) join: Option<Join>,
    pub(crate) reconnect: Option<ReconnectSpec>,
    /// Longest time that a source may give nothing.
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) live: bool,
    restart: RestartSpec,
    pub(crate) restarts: AtomicU64,
    recent: Mutex<VecDeque<Instant>>,
    pub(crate) part: PreparedComponent,
    pub(crate) exit: Exit,
    /// One meter per replica.
    pub(crate) meters: Vec<Arc<Meter>>,
    /// All streams of the pipeline, by index.
    pub(crate) streams: Arc<[StreamId]>,
    /// By stream: edges that have not brought its end yet, and replicas that have not flushed it yet.
    pub(crate) progress: Vec<StreamProgress>,
    /// Ways to the replicas, where they share packets.
    pub(crate) controls: Vec<Sender<Control>>,
}

#[derive(Default)]
pub(crate) struct StreamProgress {
    unended: AtomicUsize,
    unflushed: AtomicUsize,
    /// By replica: a request to settle the stream is on its way.
    asked: Vec<AtomicBool>,
}

impl StreamProgress {
    pub(crate) fn new(edges: usize, flushes: usize, replicas: usize) -> Self {
        Self {
            unended: AtomicUsize::new(edges),
            unflushed: AtomicUsize::new(flushes),
            asked: (0..replicas).map(|_| AtomicBool::new(false)).collect(),
        }
    }
}

/// The part of a component that the plan decides.
pub(crate) struct Traits {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) required: bool,
    pub(crate) per_stream: bool,
    pub(crate) on_error: OnError,
    pub(crate) restart: RestartSpec,
    pub(crate) limits: Limits,
    pub(crate) batch: Option<BatchSpec>,
    /// Longest time that a call may take.
    pub(crate) timeout: Option<Duration>,
    pub(crate) join: Option<Join>,
    pub(crate) reconnect: Option<ReconnectSpec>,
    /// Longest time that a source may give nothing.
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) live: bool,
}

impl Component {
    pub(crate) fn new(
        traits: Traits,
        part: PreparedComponent,
        exit: Exit,
        streams: Arc<[StreamId]>,
        progress: Vec<StreamProgress>,
        controls: Vec<Sender<Control>>,
        replicas: usize,
    ) -> Self {
        Self {
            name: traits.name,
            role: traits.role,
            required: traits.required,
            per_stream: traits.per_stream,
            on_error: traits.on_error,
            restart: traits.restart,
            limits: traits.limits,
            batch: traits.batch,
            timeout: traits.timeout,
            join: traits.join,
            reconnect: traits.reconnect,
            stall_timeout: traits.stall_timeout,
            live: traits.live,
            restarts: AtomicU64::new(0),
            recent: Mutex::default(),
            part,
            exit,
            meters: (0..replicas).map(|_| Arc::default()).collect(),
            streams,
            progress,
            controls,
        }
    }

    /// An edge has brought the end of a stream; `true` if it was the last to do so.
    pub(crate) fn stream_ended(&self, stream: usize) -> bool {
        let progress = self.progress.get(stream);
        progress.is_some_and(|p| p.unended.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    /// Whether all edges have brought the end of a stream.
    pub(crate) fn has_ended(&self, stream: usize) -> bool {
        let progress = self.progress.get(stream);
        progress.is_some_and(|p| p.unended.load(Ordering::Acquire) == 0)
    }

    /// A replica has flushed a stream; `true` if it was the last to do so.
    pub(crate) fn stream_flushed(&self, stream: usize) -> bool {
        let progress = self.progress.get(stream);
        progress.is_some_and(|p| p.unflushed.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    /// Asks the other replicas to settle what they hold back of a stream.
    pub(crate) fn ask_to_settle(&self, stream: usize, asking: usize) {
        let Some(progress) = self.progress.get(stream) else {
            return;
        };
        for (replica, (control, asked)) in self.controls.iter().zip(&progress.asked).enumerate() {
            if replica != asking && !asked.swap(true, Ordering::AcqRel) {
                // One request and one flush per stream at most are under way, and there is room for both.
                let _ = control.try_send(Control::Settle(stream));
            }
        }
    }

    /// A replica is about to settle what it holds back: it may be asked again.
    pub(crate) fn answering(&self, stream: usize, replica: usize) {
        let asked = self.progress.get(stream).and_then(|p| p.asked.get(replica));
        if let Some(asked) = asked {
            asked.store(false, Ordering::Release);
        }
    }

    /// Whether an instance may be rebuilt once more; if so, it counts against the budget. Gives the time to wait before.
    pub(crate) fn may_restart(&self, now: Instant) -> Option<Duration> {
        if self.restart.policy == RestartPolicy::Never {
            return None;
        }
        let mut recent = lock(&self.recent);
        while recent
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) > self.restart.within)
        {
            recent.pop_front();
        }
        let nth = u32::try_from(recent.len()).unwrap_or(u32::MAX);
        (nth < self.restart.max).then(|| {
            recent.push_back(now);
            self.restart.backoff.wait(nth, random())
        })
    }

    /// Whether an instance that cannot be opened at the start is tried again.
    pub(crate) fn retries_opening(&self) -> bool {
        self.restart.policy == RestartPolicy::Always
    }

    /// What a worker of this component says once its budget is spent.
    pub(crate) fn budget_spent(&self, last: &StageError) -> StageError {
        if self.restart.policy == RestartPolicy::Never {
            return last.clone();
        }
        let message = format!(
            "`{}` failed more than {} times within {:?} and is not rebuilt any more; last error: {last}",
            self.name, self.restart.max, self.restart.within
        );
        let mut error = StageError::fatal(Code("E0404"), message);
        error.source = Some(Arc::new(last.clone()));
        error
    }

    /// A packet that may become a dead letter with what it carries: kept until it is settled.
    pub(crate) fn keep(&self, packet: &Packet) -> Option<Box<Packet>> {
        let kept = self.on_error.letters().is_some_and(|spec| spec.folder.is_some());
        kept.then(|| Box::new(packet.clone()))
    }

    /// What all replicas did.
    pub(crate) fn report(&self) -> StageReport {
        let meters = self.meters.iter().map(|meter| &**meter);
        let mut report = merge(meters, self.role == Role::Sink);
        report.restarts = self.restarts.load(Ordering::Relaxed);
        report
    }

    /// The stream's name; empty for an index that is none.
    pub(crate) fn stream(&self, index: usize) -> StreamId {
        self.streams.get(index).cloned().unwrap_or_else(|| "".into())
    }
}

/// A number that no other call gives, as far as one can tell.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Calls into an instance; a panic becomes an error that it cannot go on from.
pub(crate) fn guard<T>(
    component: &str,
    call: &str,
    f: impl FnOnce() -> Result<T, StageError>,
) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        let said = said(&*payload);
        // The payload of a panic may panic itself when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        let message = format!("`{component}` panicked in {call}: {said}; this is a bug in the stage");
        Err(StageError::fatal(Code("E0401"), message))
    })
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
