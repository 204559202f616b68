//! The report of a run: its summary in JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::error::StageError;
use crate::ledger::LedgerReport;
use crate::metrics::{Percentiles, StageReport};
use crate::pins::PinReport;

/// How a run ended; the numbers are exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every packet was delivered, or dropped where the pipeline declares it.
    Ok,
    /// More packets were lost to errors than `max_loss` allows.
    LossBeyondLimit,
    /// A component failed.
    Failed,
    /// The run was cut short: it did not drain in time, or was stopped twice.
    CutShort,
    /// A packet was not accounted for.
    LedgerMismatch,
}

impl Outcome {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::LossBeyondLimit => 3,
            Self::Failed => 4,
            Self::CutShort => 5,
            Self::LedgerMismatch => 6,
        }
    }
}

/// Why a pipeline failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Component that failed, or the edge `producer -> consumer`.
    pub component: String,
    /// Stable code.
    pub code: &'static str,
    /// What happened, and below it each cause.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(component: &str, error: &StageError) -> Self {
        let mut message = error.message.clone();
        let mut cause = std::error::Error::source(error);
        for _ in 0..8 {
            let Some(error) = cause else { break };
            let below = error.to_string();
            if !message.contains(&below) {
                let _ = write!(message, ": {below}");
            }
            cause = error.source();
        }
        Self {
            component: component.to_owned(),
            code: error.code.0,
            message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}: {}", self.code, self.component, self.message)
    }
}

/// What one edge carried.
#[derive(Debug, Clone, Serialize)]
pub struct EdgeReport {
    /// `producer -> consumer`.
    pub name: String,
    /// Packets the producer handed over.
    pub offered: u64,
    /// Packets the queue dropped.
    pub dropped: u64,
    /// Packets the consumer took.
    pub taken: u64,
    /// Most packets and ends that waited at one time.
    pub deepest: usize,
}

/// Everything known about a finished run. Its JSON form is the run's summary.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// Name of the pipeline.
    pub pipeline: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What became of the packets of all sources.
    pub ledger: LedgerReport,
    /// What each component did, in topological order.
    #[serde(serialize_with = "as_map")]
    pub stages: Vec<(String, StageReport)>,
    /// Wall time of the run.
    pub seconds: f64,
    /// What became of the packets of each stream.
    pub streams: BTreeMap<String, LedgerReport>,
    /// What each edge carried.
    pub edges: Vec<EdgeReport>,
    /// Where each pinned worker was to run and where it was allowed to.
    pub pins: Vec<PinReport>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Broken contracts and sums that do not match; empty unless the ledger is not balanced.
    pub mismatches: Vec<String>,
    /// Workers that did not end in time and were abandoned.
    pub wedged: Vec<String>,
    /// What went wrong without loss of data.
    pub warnings: Vec<String>,
}

fn as_map<S: serde::Serializer>(stages: &[(String, StageReport)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(stages.iter().map(|(name, report)| (name, report)))
}

impl RunReport {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.outcome.exit_code()
    }

    /// The report of one component.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, report)| report)
    }

    /// The summary as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        // Maps with string keys and numbers always serialize.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A table for people; ends with a line break.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.stages.iter().map(|(name, _)| name.chars().count()).max();
        let width = widest.unwrap_or(0).max("stage".len());
        writeln!(
            f,
            "{:width$}  {:>9}  {:>9}  {:>26}  {:>26}",
            "stage", "packets", "fps", "service ms p50/p95/p99", "queue wait ms p50/p95/p99"
        )?;
        for (name, stage) in &self.stages {
            write!(
                f,
                "{name:width$}  {:>9}  {:>9.1}  {:>26}  {:>26}",
                stage.packets,
                stage.fps,
                triple(&stage.service_ms),
                triple(&stage.queue_wait_ms)
            )?;
            for (count, what) in [
                (stage.dropped, "dropped"),
                (stage.failed, "failed"),
                (stage.restarts, "restarts"),
            ] {
                if count > 0 {
                    write!(f, "  {count} {what}")?;
                }
            }
            writeln!(f)?;
        }
        for edge in self.edges.iter().filter(|edge| edge.dropped > 0) {
            writeln!(
                f,
                "queue {}: {} dropped of {}",
                edge.name, edge.dropped, edge.offered
            )?;
        }
        for pin in &self.pins {
            writeln!(f, "{pin}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for worker in &self.wedged {
            writeln!(f, "warning: {worker} did not end and was abandoned")?;
        }
        for mismatch in &self.mismatches {
            writeln!(f, "error[E0408]: {mismatch}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "{failure}")?;
        }
        if self.outcome == Outcome::LossBeyondLimit {
            writeln!(
                f,
                "error: more packets were lost to errors than `runtime.max_loss` allows"
            )?;
        }
        writeln!(f, "{} in {:.1} s", Ledger(&self.ledger), self.seconds)
    }
}

fn triple(times: &Percentiles) -> String {
    format!("{:.2} / {:.2} / {:.2}", times.p50, times.p95, times.p99)
}

struct Ledger<'a>(&'a LedgerReport);

impl fmt::Display for Ledger<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = self.0;
        let sign = if ledger.balanced { "=" } else { "!=" };
        write!(f, "ledger: {} in {sign} {} out", ledger.entered, ledger.out)?;
        for (reason, n) in &ledger.dropped {
            write!(f, " + {n} dropped ({reason})")?;
        }
        if ledger.dead_lettered > 0 {
            write!(f, " + {} dead-lettered", ledger.dead_lettered)?;
        }
        Ok(())
    }
}
