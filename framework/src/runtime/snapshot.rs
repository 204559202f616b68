//! Everything known about a run while it goes on.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::RunHandle;
use super::report::{EdgeReport, Failure};
use super::start::thread_name;
use super::supervisor::Run;
use crate::ledger::{LedgerReport, lock};
use crate::metrics::StageReport;
use crate::pins::PinReport;

/// A look at a run. Packets under way make its ledgers unbalanced.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Seconds since the start.
    pub seconds: f64,
    /// Every stage and sink is open, and sources have begun.
    pub ready: bool,
    /// A stop has been asked for.
    pub stopping: bool,
    /// What became of the packets of all sources.
    pub ledger: LedgerReport,
    /// What became of the packets of each stream.
    pub streams: BTreeMap<String, LedgerReport>,
    /// Streams that were given up.
    pub quarantined: Vec<String>,
    /// Each component, in topological order.
    pub stages: Vec<StageSnapshot>,
    /// Each edge.
    pub edges: Vec<EdgeSnapshot>,
    /// Where pinned workers are.
    pub pins: Vec<PinReport>,
    /// Why it fails, if it does.
    pub failure: Option<Failure>,
    /// What went wrong without loss of data.
    pub warnings: Vec<String>,
}

/// What a component did so far.
#[derive(Debug, Clone, Serialize)]
pub struct StageSnapshot {
    /// Its name.
    pub name: String,
    /// Names of its threads, as the kernel knows them.
    #[serde(skip)]
    pub threads: Vec<String>,
    /// Its figures.
    #[serde(flatten)]
    pub report: StageReport,
    /// Packets waiting in the queues before it.
    pub waiting: usize,
}

/// What an edge carried so far.
#[derive(Debug, Clone, Serialize)]
pub struct EdgeSnapshot {
    /// Its figures.
    #[serde(flatten)]
    pub report: EdgeReport,
    /// Packets and ends waiting now.
    pub waiting: usize,
}

impl RunHandle {
    /// Everything known about the run now. Reads counters and merges histograms: some microseconds for each worker,
    /// during which that worker may have to wait once.
    pub fn snapshot(&self) -> Snapshot {
        let run: &Run = &self.0;
        let core = &run.core;
        let mut ledger = LedgerReport::default();
        let mut streams = BTreeMap::new();
        let mut quarantined = Vec::new();
        for (index, account) in core.accounts.iter().enumerate() {
            let report = account.report(false);
            ledger.add(&report);
            streams.insert(account.stream.to_string(), report);
            if core.is_quarantined(index) {
                quarantined.push(account.stream.to_string());
            }
        }
        ledger.balanced = ledger.settled() == ledger.entered;
        let edges = run.edges.iter().map(|edge| EdgeSnapshot {
            report: edge.report(),
            waiting: edge.depth(),
        });
        let stages = run.components.iter().map(|component| {
            let into = run.edges.iter().filter(|edge| edge.leads_to(&component.name));
            StageSnapshot {
                name: component.name.to_string(),
                threads: (0..component.meters.len())
                    .map(|replica| thread_name(&component.name, replica))
                    .collect(),
                report: component.report(),
                waiting: into.map(|edge| edge.depth()).sum(),
            }
        });
        Snapshot {
            pipeline: core.pipeline.clone(),
            seconds: run.started.elapsed().as_secs_f64(),
            ready: core.ready.load(Ordering::Relaxed),
            stopping: core.stopping.is_set(),
            ledger,
            streams,
            quarantined,
            stages: stages.collect(),
            edges: edges.collect(),
            pins: lock(&run.pins).clone(),
            failure: core.failure(),
            warnings: core.warnings(),
        }
    }
}
