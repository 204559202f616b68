//! What all workers of a run share: the ledger, the two ways to end, and what went wrong.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::dead_letter::DeadLetters;
use super::report::Failure;
use crate::clock::Clock;
use crate::error::StageError;
use crate::ledger::{Account, lock};
use crate::packet::StreamId;
use crate::stage::StopFlag;

/// Most warnings and broken contracts that a report names; all are counted and logged.
const NAMED: usize = 32;

pub(crate) struct Core {
    /// Name of the pipeline.
    pub(crate) pipeline: String,
    /// One account per stream, by stream index.
    pub(crate) accounts: Vec<Arc<Account>>,
    /// Streams that cannot go on.
    quarantined: Vec<AtomicBool>,
    /// Streams that were asked to end.
    ended: Vec<AtomicBool>,
    /// Every stage and sink is open: sources have begun.
    pub(crate) ready: AtomicBool,
    /// Sources end.
    pub(crate) stopping: StopFlag,
    /// Disconnected once the run is cut short: every blocking wait of a worker listens to it.
    pub(crate) cut_short: Receiver<Infallible>,
    cutter: Mutex<Option<Sender<Infallible>>>,
    /// Disconnected once the sources are to end: waits that a stop makes pointless listen to it.
    pub(crate) stopped: Receiver<Infallible>,
    stopper: Mutex<Option<Sender<Infallible>>>,
    /// The clock that every rule about time asks.
    pub(crate) clock: Arc<dyn Clock>,
    aborted: Arc<AtomicBool>,
    /// Wakes the supervisor.
    pub(crate) wake: Sender<()>,
    pub(crate) woken: Receiver<()>,
    pub(crate) dead_letters: DeadLetters,
    failure: Mutex<Option<Failure>>,
    warnings: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    /// Number of broken contracts.
    pub(crate) violation_count: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        pipeline: String,
        streams: &[StreamId],
        dead_letters: DeadLetters,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let aborted = Arc::new(AtomicBool::new(false));
        // Nothing is ever sent; but a wait for a channel without room allocates, and one with room does not.
        let (cutter, cut_short) = bounded(1);
        let (stopper, stopped) = bounded(1);
        let (wake, woken) = bounded(1);
        Self {
            pipeline,
            accounts: streams
                .iter()
                .map(|stream| Account::new(stream.clone(), aborted.clone()))
                .collect(),
            quarantined: streams.iter().map(|_| AtomicBool::new(false)).collect(),
            ended: streams.iter().map(|_| AtomicBool::new(false)).collect(),
            ready: AtomicBool::new(false),
            stopping: StopFlag::default(),
            cut_short,
            cutter: Mutex::new(Some(cutter)),
            stopped,
            stopper: Mutex::new(Some(stopper)),
            clock,
            aborted,
            wake,
            woken,
            dead_letters,
            failure: Mutex::default(),
            warnings: Mutex::default(),
            violations: Mutex::default(),
            violation_count: AtomicU64::new(0),
        }
    }

    /// Ends the sources; everything under way drains.
    pub(crate) fn stop(&self) {
        self.stopping.set();
        lock(&self.stopper).take();
        // A full channel means that the supervisor is about to wake anyway.
        let _ = self.wake.try_send(());
    }

    /// Cuts the run short: every wait ends, what is under way counts as aborted.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        lock(&self.cutter).take();
        self.stop();
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Waits until `at`; `false`: the run was cut short before.
    pub(crate) fn wait_until(&self, at: Instant) -> bool {
        let timer = self.clock.timer(at);
        select! {
            recv(timer.ticks()) -> _ => true,
            recv(self.cut_short) -> _ => false,
            default(timer.timeout()) => true,
        }
    }

    /// Waits until `at`, or until the sources are to end; `false`: the run was cut short before.
    pub(crate) fn wait_until_or_stop(&self, at: Instant) -> bool {
        let timer = self.clock.timer(at);
        select! {
            recv(timer.ticks()) -> _ => {}
            recv(self.stopped) -> _ => {}
            recv(self.cut_short) -> _ => {}
            default(timer.timeout()) => {}
        }
        !self.is_aborted()
    }

    /// The pipeline has failed: the first failure is the one reported, and everything under way drains.
    pub(crate) fn fail(&self, component: &str, error: &StageError) {
        self.note_failure(component, error);
        self.stop();
    }

    /// The pipeline counts as failed: the sources of these streams end, the other streams go on.
    pub(crate) fn fail_streams(&self, component: &str, error: &StageError, streams: &[usize]) {
        self.note_failure(component, error);
        for flag in streams.iter().filter_map(|stream| self.quarantined.get(*stream)) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    fn note_failure(&self, component: &str, error: &StageError) {
        let mut failure = lock(&self.failure);
        failure.get_or_insert_with(|| Failure::new(component, error));
    }

    /// Ends the source of a stream; what is under way drains, and the other streams go on.
    pub(crate) fn end_stream(&self, stream: usize) {
        if let Some(flag) = self.ended.get(stream) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a stream has been given up.
    pub(crate) fn is_quarantined(&self, stream: usize) -> bool {
        let quarantined = self.quarantined.get(stream);
        quarantined.is_some_and(|q| q.load(Ordering::Relaxed))
    }

    /// Whether the source of a stream shall go on.
    pub(crate) fn wants(&self, stream: usize) -> bool {
        let ended = self.ended.get(stream);
        let ended = ended.is_some_and(|ended| ended.load(Ordering::Relaxed));
        !self.stopping.is_set() && !ended && !self.is_quarantined(stream)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    pub(crate) fn warn(&self, message: String) {
        name(&self.warnings, message);
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// A stage broke its contract.
    pub(crate) fn violated(&self, message: String) {
        self.violation_count.fetch_add(1, Ordering::Relaxed);
        name(&self.violations, message);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Packets booked so far, over all streams.
    pub(crate) fn booked(&self) -> u64 {
        self.accounts.iter().map(|account| account.progress().1).sum()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.accounts.iter().for_each(|account| account.close());
    }
}

fn name(list: &Mutex<Vec<String>>, message: String) {
    let mut list = lock(list);
    if list.len() < NAMED {
        list.push(message);
    }
}
