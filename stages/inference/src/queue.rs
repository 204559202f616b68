//! Requests that wait their turn on streams.
//!
//! A stream is a thread that runs one request at a time. A request is started with its inputs, runs when a stream
//! is free, and is idle again when it has finished; its latency counts from the start, waiting included, as
//! OpenVINO's asynchronous requests count it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use flow_cpu::Input;

use crate::engine::{Engine, Session};
use crate::error::EngineError;

/// The inputs of one run, dense and row-major, in the order of the network's inputs.
pub type InputSet = Arc<Vec<Vec<u8>>>;

/// How a queue is set up.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Requests; at least 1.
    pub requests: usize,
    /// Streams; at least 1.
    pub streams: usize,
    /// Whether the requests take the time of each step.
    pub profiled: bool,
    /// The CPU of each stream, taken in turn; empty: the system chooses.
    pub cpus: Vec<usize>,
}

/// A run that is over.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// The request.
    pub request: usize,
    /// The network it ran, by its place among the queue's networks.
    pub network: usize,
    /// From the start to the end.
    pub latency: Duration,
}

struct Job {
    request: usize,
    network: usize,
    /// One session per network.
    sessions: Vec<Session>,
    inputs: InputSet,
    started: Instant,
}

struct Done {
    finished: Finished,
    sessions: Vec<Session>,
    result: Result<(), EngineError>,
}

/// Requests over streams.
pub struct InferQueue {
    /// Sessions of idle requests; `None` while one runs.
    sessions: Vec<Option<Vec<Session>>>,
    idle: VecDeque<usize>,
    running: usize,
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    streams: Vec<JoinHandle<()>>,
}

impl InferQueue {
    /// Starts the streams. Several networks are several shapes of one model: a run names the one it wants.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(networks: &[Engine], options: &QueueOptions) -> Result<Self, EngineError> {
        let requests = options.requests.max(1);
        let (job_sender, jobs) = bounded::<Job>(requests);
        let (done_sender, done) = bounded::<Done>(requests);
        let mut streams = Vec::new();
        for stream in 0..options.streams.max(1) {
            let (jobs, done) = (jobs.clone(), done_sender.clone());
            let cpu = options.cpus.get(stream % options.cpus.len().max(1)).copied();
            let name = format!("stream#{stream}");
            let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
                if let Some(cpu) = cpu {
                    let report = flow::pins::pin_current_thread(name, &[cpu]);
                    if !report.ok {
                        tracing::warn!("{report}");
                    }
                }
                while let Ok(job) = jobs.recv() {
                    if done.send(job.run()).is_err() {
                        break;
                    }
                }
            });
            streams.push(thread.map_err(EngineError::Thread)?);
        }
        let session = |engine: &Engine| match options.profiled {
            true => engine.profiled_session(),
            false => engine.session(),
        };
        Ok(Self {
            sessions: (0..requests)
                .map(|_| Some(networks.iter().map(session).collect()))
                .collect(),
            idle: (0..requests).collect(),
            running: 0,
            jobs: Some(job_sender),
            done,
            streams,
        })
    }

    /// Waits until a request is idle. Gives it, and the run that it had finished, if that was not asked for yet.
    ///
    /// # Errors
    /// [`EngineError`] of a run that failed.
    pub fn wait_idle(&mut self) -> Result<(usize, Option<Finished>), EngineError> {
        if let Some(&request) = self.idle.front() {
            return Ok((request, None));
        }
        let finished = self.receive()?;
        Ok((finished.request, Some(finished)))
    }

    /// Starts an idle request.
    ///
    /// # Errors
    /// [`EngineError::Busy`] where the request runs, or there is none of that number.
    pub fn start(&mut self, request: usize, network: usize, inputs: InputSet) -> Result<(), EngineError> {
        let sessions = self.sessions.get_mut(request).and_then(Option::take);
        let (Some(sessions), Some(jobs)) = (sessions, &self.jobs) else {
            return Err(EngineError::Busy(request));
        };
        self.idle.retain(|&r| r != request);
        self.running += 1;
        let job = Job {
            request,
            network,
            sessions,
            inputs,
            started: Instant::now(),
        };
        jobs.send(job).map_err(|_| EngineError::Busy(request))
    }

    /// Waits for all requests that run.
    ///
    /// # Errors
    /// [`EngineError`] of a run that failed.
    pub fn wait_all(&mut self) -> Result<Vec<Finished>, EngineError> {
        (0..self.running).map(|_| self.receive()).collect()
    }

    fn receive(&mut self) -> Result<Finished, EngineError> {
        let done = self.done.recv().map_err(|_| EngineError::Busy(0))?;
        let finished = done.finished;
        self.sessions[finished.request] = Some(done.sessions);
        self.idle.push_back(finished.request);
        self.running -= 1;
        done.result.map(|()| finished)
    }

    /// The sessions of the requests that are idle, in the order of the requests; one per network each.
    pub fn sessions_mut(&mut self) -> impl Iterator<Item = &mut [Session]> {
        self.sessions.iter_mut().flatten().map(Vec::as_mut_slice)
    }
}

impl Drop for InferQueue {
    fn drop(&mut self) {
        self.jobs = None;
        // A stream may wait to hand over its last run.
        while self.done.recv().is_ok() {}
        for stream in self.streams.drain(..) {
            let _ = stream.join();
        }
    }
}

impl Job {
    fn run(mut self) -> Done {
        let result = match self.sessions.get_mut(self.network) {
            Some(session) => {
                let inputs: Vec<Input<'_>> = self.inputs.iter().map(|b| Input::Values(b)).collect();
                session.run(&inputs)
            }
            None => Err(EngineError::Busy(self.request)),
        };
        Done {
            finished: Finished {
                request: self.request,
                network: self.network,
                latency: self.started.elapsed(),
            },
            sessions: self.sessions,
            result,
        }
    }
}
