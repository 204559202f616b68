//! Starts the workers of a run, waits for them to drain, and sums up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::component::Component;
use super::core::Core;
use super::dead_letter::DeadLetters;
use super::edge::Edge;
use super::report::{EdgeReport, Outcome, RunReport};
use super::source::SourceWorker;
use super::wiring::{WorkerPlan, wire};
use super::worker::Worker;
use super::{RunError, RunOptions};
use crate::config::plan::{Pipeline, PreparedPipeline, RuntimeSpec};
use crate::error::{Code, StageError};
use crate::ledger::{LedgerReport, lock};
use crate::packet::StreamId;
use crate::pins::{self, PinPlan, PinReport};
use crate::registry::Role;
use crate::stage::WorkerContext;

/// How long workers may take to notice that the run is cut short.
const GRACE: Duration = Duration::from_secs(2);

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
    spec: RuntimeSpec,
}

/// Tells the supervisor that a worker is done, even if its thread unwinds.
struct Sign {
    done: Sender<usize>,
    worker: usize,
}

impl Drop for Sign {
    fn drop(&mut self) {
        // The channel has room for every worker; without a supervisor nobody needs to know.
        let _ = self.done.try_send(self.worker);
    }
}

/// Sources start once every stage and sink is open: models are loaded before the first frame is read.
struct Gate {
    closed: AtomicUsize,
    opener: Mutex<Option<Sender<Infallible>>>,
}

impl Gate {
    fn opened(&self) {
        if self.closed.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock(&self.opener).take();
        }
    }
}

/// The threads of a run.
pub(crate) struct Workers {
    run: Arc<Run>,
    workers: Vec<WorkerHandle>,
    done: Receiver<usize>,
    deadline: Option<Instant>,
}

struct WorkerHandle {
    /// `component#replica`.
    name: String,
    source: bool,
    /// `None`: it has ended.
    thread: Option<thread::JoinHandle<()>>,
}

/// Wires the pipeline and starts its workers.
pub(crate) fn start(prepared: PreparedPipeline, options: &RunOptions) -> Result<Workers, RunError> {
    let pipeline = prepared.pipeline.clone();
    let spec = pipeline.runtime.clone();
    let (pin_plan, notes) = plan_pins(&pipeline)?;
    let dead_letters = DeadLetters::open(&pipeline).map_err(RunError::DeadLetters)?;
    let wiring = wire(prepared);
    let clock = options.clock.clone();
    let core = Core::new(pipeline.name.clone(), &wiring.streams, dead_letters, clock);
    for note in notes {
        tracing::warn!("{note}");
        core.warn(note);
    }
    let run = Arc::new(Run {
        core: Arc::new(core),
        started: Instant::now(),
        components: wiring.components,
        edges: wiring.edges,
        expected: wiring
            .streams
            .iter()
            .map(|_| Arc::new(AtomicU64::new(super::source::UNKNOWN)))
            .collect(),
        pins: Mutex::default(),
        spec,
    });

    let count: usize = wiring.inlets.iter().map(|inlets| inlets.len().max(1)).sum();
    let (done_sender, done) = bounded(count);
    let (opener, gate_receiver) = bounded(0);
    let consumers = wiring
        .inlets
        .iter()
        .flatten()
        .filter(|plan| !plan.streams.is_empty());
    let gate = Arc::new(Gate {
        // One more, so that the gate opens only after all threads are started.
        closed: AtomicUsize::new(consumers.count() + 1),
        opener: Mutex::new(Some(opener)),
    });

    let mut starter = Starter {
        run: run.clone(),
        pin_plan: &pin_plan,
        done: done_sender,
        gate: gate.clone(),
        gate_receiver,
        workers: Vec::new(),
    };
    // Sinks first, sources last.
    let mut plans: Vec<(usize, Vec<WorkerPlan>)> = wiring.inlets.into_iter().enumerate().collect();
    plans.reverse();
    for (index, plans) in plans {
        if let Err(error) = starter.component(index, plans) {
            run.core.abort();
            return Err(error);
        }
    }
    let workers = starter.workers;
    gate.opened();
    Ok(Workers {
        run,
        workers,
        done,
        deadline: options.duration.and_then(|d| Instant::now().checked_add(d)),
    })
}

fn plan_pins(pipeline: &Pipeline) -> Result<(PinPlan, Vec<String>), RunError> {
    if pipeline.components.iter().all(|c| c.pin.is_none()) {
        return Ok((PinPlan::unpinned(pipeline), Vec::new()));
    }
    pins::plan_here(pipeline).map_err(RunError::Pins)
}

struct Starter<'a> {
    run: Arc<Run>,
    pin_plan: &'a PinPlan,
    done: Sender<usize>,
    gate: Arc<Gate>,
    gate_receiver: Receiver<Infallible>,
    workers: Vec<WorkerHandle>,
}

impl Starter<'_> {
    fn component(&mut self, index: usize, plans: Vec<WorkerPlan>) -> Result<(), RunError> {
        let Some(component) = self.run.components.get(index).cloned() else {
            return Ok(());
        };
        let core = self.run.core.clone();
        if component.role == Role::Source {
            let stream = component.streams.iter().position(|s| *s == component.name);
            let stream = stream.unwrap_or_default();
            let cx = self.context(index, 0, 1, vec![component.stream(stream)]);
            let expected = self.run.expected.get(stream).cloned().unwrap_or_default();
            let gate = self.gate_receiver.clone();
            let cpus = cx.cpus.clone();
            return self.spawn(&component.clone(), 0, cpus, move || {
                select! {
                    recv(gate) -> _ => {}
                    recv(core.cut_short) -> _ => {}
                }
                SourceWorker::new(core, component, cx, stream, expected).run();
            });
        }
        let mut reached: Vec<usize> = plans.iter().flat_map(|plan| plan.streams.clone()).collect();
        reached.sort_unstable();
        reached.dedup();
        let streams: Vec<StreamId> = reached.into_iter().map(|s| component.stream(s)).collect();
        let replicas = plans.len();
        for (replica, plan) in plans.into_iter().enumerate() {
            // More replicas than streams: this one would never see a packet.
            if plan.streams.is_empty() {
                continue;
            }
            let cx = self.context(index, replica, replicas, streams.clone());
            let (component, core, gate) = (component.clone(), core.clone(), self.gate.clone());
            self.spawn(&component.clone(), replica, cx.cpus.clone(), move || {
                let mut worker = Worker::new(core, component, plan.inlet, cx, plan.streams);
                worker.open();
                gate.opened();
                worker.run();
            })?;
        }
        Ok(())
    }

    fn context(
        &self,
        index: usize,
        replica: usize,
        replicas: usize,
        streams: Vec<StreamId>,
    ) -> WorkerContext {
        let name = self.run.components.get(index).map(|c| c.name.clone());
        WorkerContext {
            name: name.unwrap_or_else(|| "".into()),
            replica,
            replicas,
            streams,
            cpus: self.pin_plan.cpus(index, replica).to_vec(),
            stopping: self.run.core.stopping.clone(),
        }
    }

    fn spawn(
        &mut self,
        component: &Component,
        replica: usize,
        cpus: Vec<usize>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), RunError> {
        let full_name = format!("{}#{replica}", component.name);
        let sign = Sign {
            done: self.done.clone(),
            worker: self.workers.len(),
        };
        let run = self.run.clone();
        let worker = full_name.clone();
        let handle = thread::Builder::new()
            .name(thread_name(&component.name, replica))
            .spawn(move || {
                let _sign = sign;
                let _span = tracing::info_span!("worker", name = worker).entered();
                if !cpus.is_empty() {
                    pin(&run, worker, &cpus);
                }
                // The body keeps what it needs: the report is not to wait for this handle.
                drop(run);
                body();
            })
            .map_err(|error| RunError::Thread {
                worker: full_name.clone(),
                error,
            })?;
        self.workers.push(WorkerHandle {
            name: full_name,
            source: component.role == Role::Source,
            thread: Some(handle),
        });
        Ok(())
    }
}

fn pin(run: &Run, worker: String, cpus: &[usize]) {
    let report = pins::pin_current_thread(worker, cpus);
    if !report.ok {
        let message = format!("{report}; free these CPUs for the process, or leave out `strict_pins`");
        if run.spec.strict_pins {
            let error = StageError::fatal(Code("E0410"), message);
            tracing::error!(code = error.code.0, "{error}");
            run.core.fail(&report.worker, &error);
        } else {
            tracing::warn!("{report}");
            run.core.warn(report.to_string());
        }
    }
    lock(&run.pins).push(report);
}

/// `name#replica`, with the name cut so that all of it fits into the 15 bytes the kernel keeps.
pub(crate) fn thread_name(name: &str, replica: usize) -> String {
    let suffix = format!("#{replica}");
    let mut keep = name.len().min(15_usize.saturating_sub(suffix.len()));
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{suffix}", &name[..keep])
}

impl Workers {
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Waits until all workers are done, or for as long as the drain may take.
    pub(crate) fn wait(mut self) -> RunReport {
        let mut drain = Drain::new(&self.run);
        while self.workers.iter().any(|worker| worker.thread.is_some()) {
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.deadline = None;
                self.run.core.stop();
            }
            let reading = self
                .workers
                .iter()
                .any(|worker| worker.source && worker.thread.is_some());
            let until = drain.until(&self.run, reading, now);
            if until.is_some_and(|until| until <= now) {
                if drain.cut {
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
                default(timeout) => {}
            }
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

/// How long the run may still take.
struct Drain {
    /// When the stop was noticed.
    stopped: Option<Instant>,
    /// Packets booked when last looked at, and since when it has been that many.
    booked: (u64, Instant),
    /// Whether the run has been cut short, and when the grace ends.
    cut: bool,
    grace: Option<Instant>,
}

impl Drain {
    fn new(run: &Run) -> Self {
        Self {
            stopped: None,
            booked: (run.core.booked(), Instant::now()),
            cut: false,
            grace: None,
        }
    }

    /// When patience ends: `drain_timeout` after a stop; where all sources have ended by themselves, that long
    /// without any packet being settled; after a cut, a short grace.
    fn until(&mut self, run: &Run, reading: bool, now: Instant) -> Option<Instant> {
        if run.core.is_aborted() {
            self.cut = true;
            return Some(*self.grace.get_or_insert(now + GRACE));
        }
        if run.core.stopping.is_set() {
            let stopped = *self.stopped.get_or_insert(now);
            return stopped.checked_add(run.spec.drain_timeout);
        }
        let booked = run.core.booked();
        if reading || booked != self.booked.0 {
            self.booked = (booked, now);
        }
        if reading {
            return None;
        }
        self.booked.1.checked_add(run.spec.drain_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::thread_name;

    #[test]
    fn thread_names_fit_into_what_the_kernel_keeps() {
        assert_eq!(thread_name("decode", 3), "decode#3");
        assert_eq!(thread_name("a_rather_long_stage", 12), "a_rather_lon#12");
        assert_eq!(thread_name("größe_der_bilder", 0).len(), 15);
        assert_eq!(thread_name("ooooooooooooüü", 0), "oooooooooooo#0");
    }
}
