//! Wires a pipeline and starts its threads: sinks first, sources once everything is open.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::component::Component;
use super::core::Core;
use super::dead_letter::DeadLetters;
use super::source::SourceWorker;
use super::supervisor::{Run, Sign, Watched, WorkerHandle, Workers};
use super::wiring::{WorkerPlan, wire};
use super::worker::Worker;
use super::{RunError, RunOptions};
use crate::config::plan::{Pipeline, PreparedPipeline};
use crate::error::{Code, StageError};
use crate::ledger::lock;
use crate::packet::StreamId;
use crate::pins::{self, PinPlan, PinReport};
use crate::registry::Role;
use crate::stage::WorkerContext;

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
    let (workers, signs) = (starter.workers, starter.done);
    gate.opened();
    Ok(Workers {
        run,
        workers,
        done,
        signs,
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
            let stream = component.streams.iter().position(|s| **s == *component.name);
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
            let spare = component
                .timeout
                .map(|limit| (limit, plan.inlet.clone(), plan.streams.clone()));
            let cpus = cx.cpus.clone();
            let mut worker = Worker::new(core, component.clone(), plan.inlet, cx.clone(), plan.streams);
            let desk = worker.desk();
            self.spawn(&component, replica, cpus, move || {
                worker.open();
                gate.opened();
                worker.run();
            })?;
            if let (Some((limit, inlet, streams)), Some(handle)) = (spare, self.workers.last_mut()) {
                handle.watched = Some(Watched {
                    limit,
                    desk,
                    component: component.clone(),
                    inlet,
                    cx,
                    streams,
                });
            }
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
            clock: self.run.core.clock.clone(),
        }
    }

    fn spawn(
        &mut self,
        component: &Component,
        replica: usize,
        cpus: Vec<usize>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), RunError> {
        let sign = Sign {
            done: self.done.clone(),
            worker: self.workers.len(),
        };
        let handle = spawn(&self.run, sign, component, replica, cpus, body)?;
        self.workers.push(handle);
        Ok(())
    }
}

/// Starts the thread of a worker.
pub(super) fn spawn(
    run: &Arc<Run>,
    sign: Sign,
    component: &Component,
    replica: usize,
    cpus: Vec<usize>,
    body: impl FnOnce() + Send + 'static,
) -> Result<WorkerHandle, RunError> {
    let full_name = format!("{}#{replica}", component.name);
    let run = run.clone();
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
    Ok(WorkerHandle {
        name: full_name,
        source: component.role == Role::Source,
        thread: Some(handle),
        watched: None,
        replaced: false,
    })
}

fn pin(run: &Run, worker: String, cpus: &[usize]) {
    let report = pins::pin_current_thread(worker, cpus);
    match refused(&report, run.spec.strict_pins) {
        Some(error) => {
            tracing::error!(code = error.code.0, "{error}");
            run.core.fail(&report.worker, &error);
        }
        None if !report.ok => {
            tracing::warn!("{report}");
            run.core.warn(report.to_string());
        }
        None => {}
    }
    lock(&run.pins).push(report);
}

/// The error that a pin is which does not hold, where pins are strict.
fn refused(report: &PinReport, strict: bool) -> Option<StageError> {
    (strict && !report.ok).then(|| {
        let help = "free these CPUs for the process, or leave out `strict_pins`";
        StageError::fatal(Code("E0410"), format!("{report}; {help}"))
    })
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

#[cfg(test)]
mod tests {
    use super::{refused, thread_name};
    use crate::pins::pin_current_thread;

    #[test]
    fn a_pin_that_does_not_hold_is_an_error_where_pins_are_strict() {
        // No machine has CPU 1023 and lets this process have it.
        let report = pin_current_thread("infer#1".into(), &[1023]);
        assert!(!report.ok);
        assert!(refused(&report, false).is_none());
        let error = refused(&report, true).unwrap();
        assert_eq!(error.code.0, "E0410");
        let said = error.to_string();
        assert!(
            said.contains("infer#1: asked for CPU 1023, but runs on"),
            "{said}"
        );
        let allowed = crate::pins::current_cpus().unwrap();
        let kept = std::thread::spawn(move || pin_current_thread("infer#0".into(), &allowed[..1]))
            .join()
            .unwrap();
        assert!(refused(&kept, true).is_none());
    }

    #[test]
    fn thread_names_fit_into_what_the_kernel_keeps() {
        assert_eq!(thread_name("decode", 3), "decode#3");
        assert_eq!(thread_name("a_rather_long_stage", 12), "a_rather_lon#12");
        assert_eq!(thread_name("größe_der_bilder", 0).len(), 15);
        assert_eq!(thread_name("ooooooooooooüü", 0), "oooooooooooo#0");
    }
}
