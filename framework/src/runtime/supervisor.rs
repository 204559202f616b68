//! Watches over the workers of a run, waits for them to drain, and sums up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use super::component::Component;
use super::core::Core;
use super::drain::Drain;
use super::edge::Edge;
use super::event;
use super::inlet::Inlet;
use super::report::{EdgeReport, Outcome, RunReport};
use super::start::spawn;
use super::worker::Worker;
use super::worker::held::{Desk, Found, Holding};
use crate::clock::Timer;
use crate::config::plan::RuntimeSpec;
use crate::error::{Code, StageError};
use crate::ledger::{LedgerReport, lock};
use crate::pins::PinReport;
use crate::stage::WorkerContext;

/// Longest time between two looks at the progress of a drain.
const TICK: Duration = Duration::from_millis(100);

/// Everything about a run that outlives its workers.
pub(crate) struct Run {
    pub(crate) core: Arc<Core>,
    pub(crate) started: Instant,
    pub(crate) components: Vec<Arc<Component>>,
    pub(crate) edges: Vec<Arc<Edge>>,
    /// By stream: number of packets its source will give.
    pub(crate) expected: Vec<Arc<AtomicU64>>,
    pub(crate) pins: Mutex<Vec<PinReport>>,
    pub(super) spec: RuntimeSpec,
}

/// Tells the supervisor that a worker is done, even if its thread unwinds.
pub(super) struct Sign {
    pub(super) done: Sender<usize>,
    pub(super) worker: usize,
}

impl Drop for Sign {
    fn drop(&mut self) {
        // Without room or without a supervisor: who looks at the threads now and then finds out.
        let _ = self.done.try_send(self.worker);
    }
}

/// The threads of a run.
pub(crate) struct Workers {
    pub(super) run: Arc<Run>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) done: Receiver<usize>,
    pub(super) signs: Sender<usize>,
    pub(super) deadline: Option<Instant>,
}

pub(super) struct WorkerHandle {
    /// `component#replica`.
    pub(super) name: String,
    pub(super) source: bool,
    /// `None`: it has ended.
    pub(super) thread: Option<thread::JoinHandle<()>>,
    /// What it takes to replace it, where its calls may take too long.
    pub(super) watched: Option<Watched>,
    /// Another one has its place: nobody waits for it any more.
    pub(super) replaced: bool,
}

pub(super) struct Watched {
    pub(super) limit: Duration,
    pub(super) desk: Arc<Desk>,
    pub(super) component: Arc<Component>,
    pub(super) inlet: Inlet,
    pub(super) cx: WorkerContext,
    pub(super) streams: Vec<usize>,
}

impl WorkerHandle {
    fn at_work(&self) -> bool {
        self.thread.is_some() && !self.replaced
    }
}

impl Workers {
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Waits until all workers are done, or for as long as the drain may take.
    pub(crate) fn wait(mut self) -> RunReport {
        let mut drain = Drain::new(
            self.run.spec.drain_timeout,
            self.run.core.booked(),
            Instant::now(),
        );
        while self.workers.iter().any(WorkerHandle::at_work) {
            let now = Instant::now();
            let overdue = self.watch();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.deadline = None;
                self.run.core.stop();
            }
            let reading = self
                .workers
                .iter()
                .any(|worker| worker.source && worker.thread.is_some());
            let core = &self.run.core;
            let until = match (core.is_aborted(), core.stopping.is_set()) {
                (true, _) => drain.cut(now),
                (false, true) => drain.stopping(now),
                (false, false) => drain.running(reading, core.booked(), now),
            };
            if until.is_some_and(|until| until <= now) {
                if drain.is_cut() {
                    break;
                }
                tracing::error!("The pipeline did not drain in time; what is under way is aborted.");
                self.run.core.abort();
                continue;
            }
            let next = until.into_iter().chain(self.deadline).min();
            let timeout = next.map_or(TICK, |next| next.duration_since(now)).min(TICK);
            select! {
                recv(self.done) -> done => if let Ok(worker) = done {
                    self.ended(worker);
                },
                recv(self.run.core.woken) -> _ => {}
                recv(overdue.ticks()) -> _ => {}
                default(timeout.min(overdue.timeout())) => {}
            }
            self.reap();
        }
        self.report()
    }

    fn ended(&mut self, worker: usize) {
        let Some(worker) = self.workers.get_mut(worker) else {
            return;
        };
        if let Some(Err(_)) = worker.thread.take().map(thread::JoinHandle::join) {
            // Calls into instances are guarded, so that this is a fault of the runtime itself.
            let error = StageError::fatal(Code("E0401"), format!("the worker {} panicked", worker.name));
            self.run.core.fail(&worker.name, &error);
        }
    }

    /// Replaces workers whose call takes too long, and gives a timer for the next that may.
    fn watch(&mut self) -> Timer {
        let clock = self.run.core.clock.clone();
        let mut next: Option<Instant> = None;
        for index in 0..self.workers.len() {
            let worker = self.workers.get(index).filter(|worker| worker.at_work());
            let Some(watched) = worker.and_then(|worker| worker.watched.as_ref()) else {
                continue;
            };
            match watched.desk.look(clock.now(), watched.limit) {
                Found::Idle => {}
                Found::Until(until) => next = Some(next.map_or(until, |next| next.min(until))),
                Found::Overdue(packets) => self.replace(index, packets),
            }
        }
        next.map_or_else(Timer::never, |at| clock.timer(at))
    }

    /// Leaves a worker behind and starts one in its place.
    fn replace(&mut self, index: usize, packets: Vec<Holding>) {
        let (number, core) = (self.workers.len(), self.run.core.clone());
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        worker.replaced = true;
        let Some(watched) = worker.watched.take() else {
            return;
        };
        event::Wedged {
            worker: &worker.name,
            packets: packets.len(),
            limit: watched.limit,
        }
        .emit();
        let component = watched.component.clone();
        let (cx, streams) = (watched.cx.clone(), watched.streams.clone());
        let mut spare = Worker::new(core, component.clone(), watched.inlet.clone(), cx, streams);
        spare.inherit(&watched.desk);
        let (desk, limit) = (spare.desk(), watched.limit);
        let sign = Sign {
            done: self.signs.clone(),
            worker: number,
        };
        let (replica, cpus) = (watched.cx.replica, watched.cx.cpus.clone());
        let started = spawn(&self.run, sign, &component, replica, cpus, move || {
            spare.take_over(packets, limit);
            spare.run();
        });
        match started {
            Ok(mut handle) => {
                handle.watched = Some(Watched { desk, ..watched });
                self.workers.push(handle);
            }
            Err(error) => {
                // What the worker held and was to do is lost with it: nothing can drain any more.
                let error = StageError::fatal(Code("E0411"), error.to_string());
                self.run.core.fail(&component.name, &error);
                self.run.core.abort();
            }
        }
    }

    /// Joins threads whose sign found no room.
    fn reap(&mut self) {
        for index in 0..self.workers.len() {
            let thread = self.workers.get(index).and_then(|worker| worker.thread.as_ref());
            if thread.is_some_and(thread::JoinHandle::is_finished) {
                self.ended(index);
            }
        }
    }

    fn report(&self) -> RunReport {
        let run = &self.run;
        let core = &run.core;
        let cut_short = core.is_aborted();
        let mut mismatches = core.violations();
        let named = mismatches.len() as u64;
        let broken = core.violation_count.load(Ordering::Relaxed);
        if broken > named {
            mismatches.push(format!("{} more broken contracts", broken - named));
        }

        let mut ledger = LedgerReport::default();
        let mut streams = BTreeMap::new();
        let mut balanced = true;
        for account in &core.accounts {
            let report = account.report(cut_short);
            if !report.balanced {
                balanced = false;
                mismatches.push(format!(
                    "stream `{}`: {} packets in, {} settled",
                    account.stream,
                    report.entered,
                    report.settled()
                ));
            }
            ledger.add(&report);
            streams.insert(account.stream.to_string(), report);
        }

        let mut stages = Vec::new();
        for component in &run.components {
            let report = component.report();
            if !cut_short && !report.balanced() {
                balanced = false;
                mismatches.push(format!(
                    "`{}`: {} packets taken, {} emitted, {} dropped, {} failed",
                    component.name, report.packets, report.passed, report.dropped, report.failed
                ));
            }
            stages.push((component.name.to_string(), report));
        }
        let edges: Vec<EdgeReport> = run.edges.iter().map(|edge| edge.report()).collect();
        for edge in &edges {
            if !cut_short && edge.offered != edge.dropped + edge.taken {
                balanced = false;
                mismatches.push(format!(
                    "queue {}: {} packets offered, {} dropped, {} taken",
                    edge.name, edge.offered, edge.dropped, edge.taken
                ));
            }
        }
        ledger.balanced = balanced && broken == 0;

        let failure = core.failure();
        let loss = ledger.loss() as f64;
        let outcome = if failure.is_some() {
            Outcome::Failed
        } else if !ledger.balanced {
            Outcome::LedgerMismatch
        } else if cut_short {
            Outcome::CutShort
        } else if loss > run.spec.max_loss * ledger.entered as f64 {
            Outcome::LossBeyondLimit
        } else {
            Outcome::Ok
        };
        let wedged = self.workers.iter().filter(|worker| worker.thread.is_some());
        let mut pins = lock(&run.pins).clone();
        pins.sort_by(|a, b| a.worker.cmp(&b.worker));
        RunReport {
            pipeline: core.pipeline.clone(),
            outcome,
            ledger,
            stages,
            seconds: run.started.elapsed().as_secs_f64(),
            streams,
            edges,
            pins,
            failure,
            mismatches,
            wedged: wedged.map(|worker| worker.name.clone()).collect(),
            warnings: core.warnings(),
        }
    }
}
