//! From what was seen to a verdict.

use std::time::Duration;

use serde::Serialize;

use super::deliveries::Deliveries;
use super::load::Arrivals;
use super::{Options, PARTS, Sample, SoakReport, Trend, theil_sen};
use crate::chaos::{Chaos, Fault};
use crate::runtime::{Outcome, RunReport};

const MIB: f64 = 1024.0 * 1024.0;

/// Measured time from which a trend of memory says something by itself: that of a run of ten minutes, a sixth of which is
/// the warm-up and a tenth of which has no faults.
const LONG: Duration = Duration::from_secs(420);

/// Growth that a short run may show: pools and allocators still fill.
const SHORT_GROWTH: f64 = 16.0 * MIB;

/// Growth that a long run must exceed before its slope counts.
const LONG_GROWTH: f64 = 0.5 * MIB;

/// Fewest latencies of a fifth for its 99th percentile to mean anything.
const FEWEST: u64 = 200;

/// A rise of p99 below this is noise of the scheduler, whatever its share.
const DRIFT_FLOOR_MS: f64 = 2.0;

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// The run was too short, or the check was turned off.
    NotJudged,
}

/// One thing that must hold.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// What was found, and the limit.
    pub found: String,
}

impl Check {
    fn new(name: &'static str, holds: bool, found: impl Into<String>) -> Self {
        Self {
            name,
            status: if holds { Status::Pass } else { Status::Fail },
            found: found.into(),
        }
    }

    fn not_judged(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::NotJudged,
            found: found.into(),
        }
    }
}

pub(super) struct Evidence<'a> {
    pub(super) options: &'a Options,
    pub(super) warm_up: Duration,
    pub(super) sources: u64,
    pub(super) chaos: Option<&'a Chaos>,
    pub(super) arrivals: &'a Arrivals,
    pub(super) deliveries: &'a Deliveries,
    pub(super) samples: Vec<Sample>,
    pub(super) run: RunReport,
}

pub(super) fn judge(evidence: Evidence<'_>) -> SoakReport {
    let warm_up = evidence.warm_up.as_secs_f64();
    let measured: Vec<&Sample> = evidence.samples.iter().filter(|s| s.seconds >= warm_up).collect();
    // Once faults have ended nothing is torn down any more, so that pools stay full: a step that is no trend.
    let disturbed = match evidence.chaos {
        Some(_) => super::calm_from(evidence.options.duration).as_secs_f64(),
        None => f64::INFINITY,
    };
    let alike = measured.iter().copied().filter(|s| s.seconds < disturbed);
    let alike: Vec<&Sample> = alike.collect();
    let trend = theil_sen(&points(&alike, |s| s.rss)).map(per_hour);
    let counted = alike.iter().copied().filter(|s| s.heap.is_some());
    let counted: Vec<&Sample> = counted.collect();
    let heap = theil_sen(&points(&counted, |s| s.heap.unwrap_or(0))).map(per_hour);
    let parts = evidence.deliveries.by_part();
    let mut checks = vec![
        ledger(&evidence.run),
        outcome(&evidence.run, evidence.chaos),
        order(evidence.deliveries),
        memory("memory", &alike, trend, evidence.options),
        memory("heap", &counted, heap, evidence.options),
        growth("file descriptors", &measured, |s| s.fds),
        growth("threads", &measured, |s| s.threads),
        drift(&parts, evidence.options),
        restarts(&evidence.run, evidence.chaos),
        traffic(&evidence),
    ];
    if let Some(chaos) = evidence.chaos {
        checks.push(faults(chaos));
        checks.push(recovery(chaos, evidence.deliveries));
    }
    let chaos = evidence.chaos;
    SoakReport {
        passed: checks.iter().all(|check| check.status != Status::Fail),
        checks,
        chaos: chaos.map_or_else(String::new, |chaos| chaos.spec().to_string()),
        faults: chaos.map_or_else(Vec::new, super::faults),
        fault_times: chaos.map_or_else(Vec::new, |chaos| {
            let times = chaos.times().into_iter();
            times
                .map(|(at, fault)| (at.as_secs_f64(), fault.name()))
                .collect()
        }),
        due: evidence.arrivals.due(evidence.options.duration),
        load: evidence.options.load.to_string(),
        seed: evidence.options.seed,
        p99_by_fifth_ms: parts.iter().map(|(p, _)| p.map_or(0.0, |p| p.p99)).collect(),
        memory: trend,
        heap,
        warm_up,
        samples: evidence.samples,
        run: evidence.run,
    }
}

fn points(samples: &[&Sample], of: impl Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    samples.iter().map(|s| (s.seconds, of(s) as f64)).collect()
}

/// Bytes a second to MiB an hour.
fn per_hour(trend: Trend) -> Trend {
    let scale = 3600.0 / MIB;
    Trend {
        slope: trend.slope * scale,
        lower: trend.lower * scale,
        upper: trend.upper * scale,
    }
}

fn ledger(run: &RunReport) -> Check {
    let ledger = &run.ledger;
    let dropped: u64 = ledger.dropped.values().sum();
    let mut found = format!(
        "{} in, {} out, {dropped} dropped, {} dead-lettered",
        ledger.entered, ledger.out, ledger.dead_lettered
    );
    for mismatch in run.mismatches.iter().take(4) {
        found.push_str("; ");
        found.push_str(mismatch);
    }
    Check::new("ledger", ledger.balanced, found)
}

/// Faults on purpose lose packets, so that more loss than the pipeline allows is no fault of the run.
fn outcome(run: &RunReport, chaos: Option<&Chaos>) -> Check {
    let forgiven = run.outcome == Outcome::LossBeyondLimit && chaos.is_some();
    let holds = (run.outcome == Outcome::Ok || forgiven) && run.wedged.is_empty();
    let mut found = match run.outcome {
        Outcome::Ok => "the run ended as it should".to_owned(),
        Outcome::LossBeyondLimit if forgiven => format!(
            "{} packets lost to errors, with faults injected",
            run.ledger.loss()
        ),
        Outcome::LossBeyondLimit => format!(
            "{} packets lost to errors, more than `runtime.max_loss`",
            run.ledger.loss()
        ),
        Outcome::Failed => "the run failed".to_owned(),
        Outcome::CutShort => "the run did not drain in time".to_owned(),
        Outcome::LedgerMismatch => "the ledger does not balance".to_owned(),
    };
    if let Some(failure) = &run.failure {
        found = format!("{found}: {failure}");
    }
    if !run.wedged.is_empty() {
        found = format!("{found}; hung: {}", run.wedged.join(", "));
    }
    Check::new("end of the run", holds, found)
}

fn order(deliveries: &Deliveries) -> Check {
    let (count, named) = deliveries.violations();
    let mut found = format!("{count} packets out of order or twice");
    for violation in &named {
        found = format!("{found}; {violation}");
    }
    if !deliveries.unordered().is_empty() {
        found = format!(
            "{found} (not checked, since the pipeline does not promise it: {})",
            deliveries.unordered().join(", ")
        );
    }
    Check::new("order", count == 0, found)
}

fn memory(name: &'static str, samples: &[&Sample], trend: Option<Trend>, options: &Options) -> Check {
    let (Some(trend), Some(first), Some(last)) = (trend, samples.first(), samples.last()) else {
        return Check::not_judged(name, "too few samples for a trend");
    };
    let seconds = last.seconds - first.seconds;
    let grown = trend.slope * MIB * seconds / 3600.0;
    let long = seconds >= LONG.as_secs_f64();
    let floor = if long { LONG_GROWTH } else { SHORT_GROWTH };
    let slope = format!(
        "{:+.2} MiB/h (95 %: {:+.2} to {:+.2}), limit {:.2}; {:+.2} MiB in {seconds:.0} s",
        trend.slope,
        trend.lower,
        trend.upper,
        options.max_growth,
        grown / MIB,
    );
    // The whole interval must lie above the limit, and the growth above what pools and allocators do.
    if trend.lower > options.max_growth && grown > floor {
        return Check::new(name, false, slope);
    }
    if !long {
        return Check::not_judged(
            name,
            format!(
                "{slope}; too short for a slope, but within {:.0} MiB",
                floor / MIB
            ),
        );
    }
    Check::new(name, true, slope)
}

/// The median of the last fifth must not lie above that of the first.
fn growth(name: &'static str, samples: &[&Sample], of: impl Fn(&Sample) -> u64) -> Check {
    let fifth = samples.len() / PARTS;
    let median = |part: &[&Sample]| {
        let mut values: Vec<u64> = part.iter().map(|s| of(s)).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    let first = samples.get(..fifth).and_then(median);
    let last = samples
        .len()
        .checked_sub(fifth)
        .and_then(|at| samples.get(at..))
        .and_then(median);
    match (first, last) {
        (Some(first), Some(last)) => {
            Check::new(name, last <= first, format!("{first} at first, {last} at last"))
        }
        _ => Check::not_judged(name, "too few samples"),
    }
}

fn drift(parts: &[(Option<crate::metrics::Percentiles>, u64)], options: &Options) -> Check {
    const NAME: &str = "p99 drift";
    let (Some((Some(first), n)), Some((Some(last), m))) = (parts.first(), parts.last()) else {
        return Check::not_judged(NAME, "too few deliveries");
    };
    let drift = last.p99 / first.p99.max(f64::MIN_POSITIVE) - 1.0;
    let found = format!(
        "{:.2} ms in the first fifth, {:.2} ms in the last ({:+.0} %)",
        first.p99,
        last.p99,
        100.0 * drift
    );
    let Some(limit) = options.max_drift else {
        return Check::not_judged(NAME, format!("{found}; turned off"));
    };
    if *n.min(m) < FEWEST {
        return Check::not_judged(NAME, format!("{found}; fewer than {FEWEST} packets in a fifth"));
    }
    let holds = drift <= limit || last.p99 - first.p99 < DRIFT_FLOOR_MS;
    Check::new(NAME, holds, format!("{found}, limit {:.0} %", 100.0 * limit))
}

/// A panic on purpose rebuilds one instance, a damaged packet may, and so may a stall beyond the stage's `timeout`; anything
/// else rebuilds none.
fn restarts(run: &RunReport, chaos: Option<&Chaos>) -> Check {
    let restarts: u64 = run.stages.iter().map(|(_, stage)| stage.restarts).sum();
    let of = |fault| chaos.map_or(0, |chaos| chaos.count(fault));
    let (panics, damaged, stalls) = (of(Fault::Panic), of(Fault::Corrupt), of(Fault::Stall));
    let found = match chaos {
        Some(_) => {
            format!("{restarts} restarts for {panics} panics, {damaged} damaged packets and {stalls} stalls")
        }
        None => format!("{restarts} restarts"),
    };
    Check::new("restarts", restarts <= panics + damaged + stalls, found)
}

fn traffic(evidence: &Evidence<'_>) -> Check {
    let settled = evidence.run.ledger.settled();
    let due = evidence.arrivals.due(evidence.options.duration);
    let wanted = evidence.options.min_packets.unwrap_or(match due {
        // A packet a second from each source is the least that can be called traffic.
        0 => evidence.sources * evidence.options.duration.as_secs(),
        due => due / 2,
    });
    let by_schedule = if due > 0 {
        format!(" of {due} due")
    } else {
        String::new()
    };
    Check::new(
        "enough traffic",
        settled >= wanted.max(1),
        format!(
            "{settled} packets{by_schedule}, at least {} wanted",
            wanted.max(1)
        ),
    )
}

fn faults(chaos: &Chaos) -> Check {
    let total = chaos.total();
    let each = super::faults(chaos)
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect::<Vec<_>>();
    Check::new(
        "enough faults",
        total > 0,
        format!("{total}: {}", each.join(", ")),
    )
}

fn recovery(chaos: &Chaos, deliveries: &Deliveries) -> Check {
    const NAME: &str = "recovery";
    match (chaos.last(), deliveries.last()) {
        (Some(fault), Some(delivery)) => Check::new(
            NAME,
            delivery > fault,
            match delivery > fault {
                true => "packets were delivered after the last fault",
                false => "nothing was delivered after the last fault",
            },
        ),
        (None, _) => Check::not_judged(NAME, "no faults"),
        (Some(_), None) => Check::new(NAME, false, "nothing was delivered"),
    }
}
