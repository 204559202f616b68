//! Which stage holds up the others, and what would move it.
//!
//! A pipeline is as fast as its busiest stage: those before it wait for room, and those behind it wait for packets. Busy
//! time is time in the stage itself, so that waiting for room does not count. Where nobody waits for room and nothing works
//! all the time, the sources set the rate.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::Graph;

/// Share of its time from which a stage counts as busy all the time: the rest is what a hand-over costs.
const BUSY: f64 = 0.85;

/// Share of its time from which a component that waits for room counts as held up.
const HELD_UP: f64 = 0.2;

/// Share of the CPUs from which they count as all in use.
const SATURATED: f64 = 0.9;

/// What is known of one component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Packets taken.
    pub packets: u64,
    /// Packets a second.
    pub fps: f64,
    /// Number of instances.
    pub replicas: usize,
    /// Part of the time each instance spent in the stage itself.
    pub busy: f64,
    /// Part of the time each instance waited for room downstream.
    pub blocked: f64,
    /// Median time in the stage, in milliseconds.
    pub service_p50_ms: f64,
    /// Median time in the queues before it, in milliseconds.
    pub wait_p50_ms: f64,
    /// 99th percentile of that.
    pub wait_p99_ms: f64,
    /// CPUs it kept busy, where the kernel was asked.
    pub cpus: Option<f64>,
}

/// What limits the rate of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A component that works all the time.
    Stage(String),
    /// The sources: everything else has time to spare.
    Sources(Vec<String>),
    /// All CPUs are in use.
    Machine,
    /// No packet has come through yet.
    Nothing,
}

/// The finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What limits the rate.
    pub limit: Limit,
    /// Why, in a sentence or two.
    pub because: String,
    /// What to change, most promising first.
    pub advice: Vec<String>,
    /// Each component, in topological order.
    pub stages: Vec<Load>,
}

/// Reads the loads of a run's summary, or of a snapshot as `/summary` gives it.
///
/// # Errors
/// When it is neither.
pub fn loads(summary: &serde_json::Value) -> Result<Vec<Load>, String> {
    let wrong = || {
        "it is no summary of a run: `stages` and `seconds` are missing; `flowrun run --summary FILE` writes one".to_owned()
    };
    let seconds = summary
        .get("seconds")
        .and_then(serde_json::Value::as_f64)
        .ok_or_else(wrong)?;
    let stages = summary
        .get("stages")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(wrong)?;
    let threads = summary.get("cpu_seconds");
    stages
        .iter()
        .map(|(name, stage)| {
            let number = |path: &[&str]| {
                let value = path.iter().try_fold(stage, |value, key| value.get(key));
                value.and_then(serde_json::Value::as_f64)
            };
            let busy = number(&["busy_seconds"]).ok_or_else(|| {
                format!("`stages.{name}.busy_seconds` is missing: the summary is from an older version; run the pipeline again")
            })?;
            let replicas = number(&["replicas"]).unwrap_or(1.0).max(1.0);
            let packets = number(&["packets"]).unwrap_or(0.0);
            let fps = number(&["fps"]).unwrap_or(0.0);
            // Loading a model is no part of the rate: the time between the first and the last packet is.
            let active = if fps > 0.0 { (packets / fps).min(seconds) } else { seconds };
            let share = |time: f64| (time / (active * replicas).max(1e-9)).clamp(0.0, 1.0);
            let cpu = threads.and_then(|t| t.get(name)).and_then(serde_json::Value::as_f64);
            Ok(Load {
                name: name.clone(),
                packets: packets as u64,
                fps,
                replicas: replicas as usize,
                busy: share(busy),
                blocked: share(number(&["blocked_seconds"]).unwrap_or(0.0)),
                service_p50_ms: number(&["service_ms", "p50"]).unwrap_or(0.0),
                wait_p50_ms: number(&["queue_wait_ms", "p50"]).unwrap_or(0.0),
                wait_p99_ms: number(&["queue_wait_ms", "p99"]).unwrap_or(0.0),
                cpus: cpu.map(|cpu| cpu / active.max(1e-9)),
            })
        })
        .collect()
}

/// Finds what limits the rate. `graph` tells sources from stages and what a stage may be given; without it, the first
/// component of the summary is taken for the source. `cpus` is the number of CPUs the process may use.
pub fn find(stages: Vec<Load>, graph: Option<&Graph>, cpus: f64) -> Finding {
    let is_source = |index: usize, load: &Load| match graph.and_then(|graph| graph.stage(&load.name)) {
        Some(stage) => stage.role == "source",
        None => graph.is_none() && index == 0,
    };
    let (limit, because, advice) = if stages.iter().all(|load| load.packets == 0) {
        (
            Limit::Nothing,
            "no packet has come through yet: models may still be loading, or the source gives nothing"
                .to_owned(),
            vec!["look at the log (`-v`), and at what the source reads".to_owned()],
        )
    } else {
        let busiest_of = |free: &dyn Fn(&Load) -> bool| {
            let workers = stages
                .iter()
                .enumerate()
                .filter(|(index, load)| !is_source(*index, load) && free(load));
            workers
                .map(|(_, load)| load)
                .max_by(|a, b| a.busy.total_cmp(&b.busy))
        };
        let busiest = busiest_of(&|_| true);
        let held_up = stages.iter().any(|load| load.blocked >= HELD_UP);
        // What holds up the others is not itself held up.
        let holding = busiest_of(&|load| load.blocked < 0.5).filter(|_| held_up);
        // A source that only waits for a camera or a clock is no work for a CPU.
        let counts =
            |index: usize, load: &Load| !is_source(index, load) || load.blocked > 0.05 || load.cpus.is_some();
        let working: f64 = stages
            .iter()
            .enumerate()
            .filter(|(index, load)| counts(*index, load))
            .map(|(_, load)| load.cpus.unwrap_or(load.busy * load.replicas as f64))
            .sum();
        match (busiest, holding) {
            (Some(busiest), _) if working >= SATURATED * cpus && busiest.busy < 0.97 => {
                machine(busiest, working, cpus)
            }
            (Some(busiest), _) if busiest.busy >= BUSY => stage(busiest, graph, working, cpus),
            (_, Some(holding)) => stage(holding, graph, working, cpus),
            _ => sources(&stages, &is_source, busiest),
        }
    };
    Finding {
        limit,
        because,
        advice,
        stages,
    }
}

type Found = (Limit, String, Vec<String>);

fn stage(load: &Load, graph: Option<&Graph>, working: f64, cpus: f64) -> Found {
    let each = if load.replicas > 1 {
        format!(" in each of its {} replicas", load.replicas)
    } else {
        String::new()
    };
    // Of a batch, each packet bears its share.
    let each_ms = 1e3 * load.busy * load.replicas as f64 / load.fps.max(1e-9);
    let mut because = format!(
        "`{}` works {:.0} % of the time{each}: {each_ms:.2} ms for a packet, so that {:.0} packets a second are the most it can do",
        load.name,
        100.0 * load.busy,
        load.fps / load.busy.max(1e-9),
    );
    if load.service_p50_ms > 0.0 && each_ms > 2.0 * load.service_p50_ms {
        let _ = write!(
            because,
            "; half of its calls take {:.2} ms, so that some take far longer: the work differs, or the machine does other work",
            load.service_p50_ms
        );
    }
    if load.wait_p50_ms > load.service_p50_ms {
        let _ = write!(because, "; packets wait {:.2} ms before it", load.wait_p50_ms);
    }
    let described = graph.and_then(|graph| graph.stage(&load.name));
    let kind = described.map_or("", |stage| stage.kind);
    let name = &load.name;
    let mut advice = Vec::new();
    let free = cpus - working;
    let section = described.map_or(
        "stages",
        |stage| if stage.role == "sink" { "sinks" } else { "stages" },
    );
    if free < 0.5 {
        advice.push(format!(
            "more replicas will not help: {working:.1} of {cpus:.0} CPUs are in use; make the work smaller or use a machine with more cores"
        ));
    } else if described.is_none_or(|stage| stage.replicable && stage.role == "stage") {
        advice.push(format!(
            "`--set {section}.{name}.replicas={}`: {free:.1} of {cpus:.0} CPUs are free",
            load.replicas + (free.floor() as usize).max(1)
        ));
    } else {
        advice.push(format!(
            "`{name}` cannot have more replicas than it has; give it less to do"
        ));
    }
    match kind {
        "infer" => {
            advice.push(format!(
                "`flowrun model benchmark MODEL --per-layer` shows which layers of `{name}` take the time"
            ));
            advice.push("a smaller input or an INT8 model: `flowrun model inspect MODEL` says what does not run in INT8".into());
        }
        "decode" => advice.push(
            "a smaller or less compressed stream, or one source more: decoders run one per stream".into(),
        ),
        _ => {}
    }
    // An optional sink may lag behind those that are required, so that there must be others.
    let sinks = graph.map_or(&[][..], |graph| &graph.stages);
    let other = sinks
        .iter()
        .any(|s| s.role == "sink" && s.required && s.name != *name);
    if described.is_some_and(|stage| stage.role == "sink" && stage.required) && other {
        advice.push(format!(
            "if it may leave packets out: `--set sinks.{name}.required=false`, and it holds up the others no more"
        ));
    }
    if let Some(input) = described.and_then(|_| graph?.edges.iter().find(|edge| edge.to == *name)) {
        advice.push(format!(
            "if only the newest frames matter, and the source is live: `inputs: [{{from: {}, queue: {{overflow: latest}}}}]`",
            input.from
        ));
    }
    (Limit::Stage(load.name.clone()), because, advice)
}

fn machine(busiest: &Load, working: f64, cpus: f64) -> Found {
    (
        Limit::Machine,
        format!(
            "{working:.1} of {cpus:.0} CPUs are in use; the most of that is `{}` with {:.2} ms for a packet",
            busiest.name, busiest.service_p50_ms
        ),
        vec![
            "more replicas will not help; make the work smaller: a smaller picture, an INT8 model, fewer streams".into(),
            "`flowrun doctor` says whether a quota or a mask keeps the process from CPUs that the machine has".into(),
        ],
    )
}

fn sources(stages: &[Load], is_source: &dyn Fn(usize, &Load) -> bool, busiest: Option<&Load>) -> Found {
    let sources: Vec<&Load> = stages
        .iter()
        .enumerate()
        .filter(|(index, load)| is_source(*index, load))
        .map(|(_, load)| load)
        .collect();
    let given: Vec<String> = sources
        .iter()
        .map(|s| format!("`{}` {:.1} packets a second", s.name, s.fps))
        .collect();
    let mut because = format!(
        "sources give {}, and everything behind them has time to spare",
        given.join(", ")
    );
    for source in sources.iter().filter(|source| source.busy >= BUSY) {
        let _ = write!(
            because,
            "; `{}` takes {:.2} ms to give one, or waits that long for it",
            source.name, source.service_p50_ms
        );
    }
    if let Some(busiest) = busiest {
        let _ = write!(
            because,
            " (the busiest is `{}` with {:.0} %)",
            busiest.name,
            100.0 * busiest.busy
        );
    }
    (
        Limit::Sources(sources.iter().map(|s| s.name.clone()).collect()),
        because,
        vec![
            "nothing is slow if that is the rate of the camera, or of `pace: realtime`".into(),
            "`pace: asap` on a file reads it as fast as it is taken".into(),
        ],
    )
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.limit {
            Limit::Stage(name) => writeln!(f, "bottleneck: {name}")?,
            Limit::Sources(names) => writeln!(f, "limited by the source: {}", names.join(", "))?,
            Limit::Machine => writeln!(f, "limited by the machine: all CPUs are in use")?,
            Limit::Nothing => writeln!(f, "nothing to tell yet")?,
        }
        writeln!(f, "  {}", self.because)?;
        for advice in &self.advice {
            writeln!(f, "  try: {advice}")?;
        }
        let width = self
            .stages
            .iter()
            .map(|s| s.name.chars().count())
            .max()
            .unwrap_or(0)
            .max("stage".len());
        writeln!(
            f,
            "\n{:width$}  {:>8}  {:>9}  {:>6}  {:>8}  {:>11}  {:>19}",
            "stage", "replicas", "packets/s", "busy", "blocked", "service p50", "queue wait p50 / p99"
        )?;
        for s in &self.stages {
            writeln!(
                f,
                "{:width$}  {:>8}  {:>9.1}  {:>4.0} %  {:>6.0} %  {:>8.2} ms  {:>8.2} / {:>6.2} ms  {}",
                s.name,
                s.replicas,
                s.fps,
                100.0 * s.busy,
                100.0 * s.blocked,
                s.service_p50_ms,
                s.wait_p50_ms,
                s.wait_p99_ms,
                bar(s.busy)
            )?;
        }
        Ok(())
    }
}

fn bar(share: f64) -> String {
    "#".repeat((share * 20.0).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::GraphStage;

    fn load(name: &str, busy: f64, blocked: f64, replicas: usize) -> Load {
        Load {
            name: name.into(),
            packets: 1000,
            fps: 100.0,
            replicas,
            busy,
            blocked,
            service_p50_ms: 10.0 * busy,
            wait_p50_ms: 1.0,
            wait_p99_ms: 2.0,
            cpus: None,
        }
    }

    #[test]
    fn the_busiest_stage_is_the_bottleneck_and_not_the_one_it_blocks() {
        let stages = vec![
            load("cam", 0.1, 0.9, 1),
            load("decode", 0.3, 0.7, 1),
            load("detect", 0.98, 0.0, 1),
            load("out", 0.01, 0.0, 1),
        ];
        let finding = find(stages, None, 8.0);
        assert_eq!(finding.limit, Limit::Stage("detect".into()));
        assert!(finding.advice[0].contains("stages.detect.replicas="), "{finding}");
    }

    #[test]
    fn a_stage_that_others_wait_for_is_the_bottleneck_though_it_does_not_work_all_the_time() {
        let stages = vec![
            load("cam", 0.0, 1.0, 1),
            load("decode", 0.4, 0.55, 1),
            load("video", 0.75, 0.0, 1),
        ];
        assert_eq!(find(stages, None, 8.0).limit, Limit::Stage("video".into()));
    }

    #[test]
    fn a_full_machine_is_told_from_a_slow_stage() {
        let stages = vec![
            load("cam", 0.1, 0.9, 1),
            load("a", 0.95, 0.0, 1),
            load("b", 0.92, 0.0, 1),
        ];
        assert_eq!(find(stages.clone(), None, 2.0).limit, Limit::Machine);
        assert_eq!(find(stages, None, 8.0).limit, Limit::Stage("a".into()));
        let stages = vec![load("cam", 0.1, 0.9, 1), load("a", 1.0, 0.0, 2)];
        let finding = find(stages, None, 2.0);
        assert!(finding.advice[0].contains("will not help"), "{finding}");
    }

    #[test]
    fn a_pipeline_with_time_to_spare_waits_for_its_source() {
        let stages = vec![load("cam", 1.0, 0.0, 1), load("detect", 0.4, 0.0, 1)];
        assert_eq!(find(stages, None, 2.0).limit, Limit::Sources(vec!["cam".into()]));
        let mut idle = load("cam", 0.0, 0.0, 1);
        idle.packets = 0;
        assert_eq!(find(vec![idle], None, 2.0).limit, Limit::Nothing);
    }

    #[test]
    fn a_sink_is_made_optional_only_where_another_one_is_required() {
        let advice = |others: &[(&'static str, &'static str, bool)], slow: &str| {
            let stages = vec![load("cam", 0.1, 0.9, 1), load(slow, 0.98, 0.0, 1)];
            let stage = |(name, role, required): &(&str, &'static str, bool)| GraphStage {
                name: (*name).into(),
                role,
                kind: "null",
                replicas: 1,
                threads: 1,
                replicable: true,
                depth: 0,
                pinned: false,
                required: *required,
                on_error: "drop",
                streams: Vec::new(),
            };
            let graph = Graph {
                name: "test".into(),
                stages: others.iter().map(stage).collect(),
                edges: Vec::new(),
            };
            find(stages, Some(&graph), 8.0).advice.join("\n")
        };
        let both = [
            ("cam", "source", true),
            ("video", "sink", true),
            ("lines", "sink", true),
        ];
        assert!(advice(&both, "video").contains("`--set sinks.video.required=false`"));
        let alone = [
            ("cam", "source", true),
            ("draw", "stage", true),
            ("video", "sink", true),
            ("view", "sink", false),
        ];
        assert!(!advice(&alone, "video").contains("required"));
        assert!(!advice(&alone, "draw").contains("required"));
        assert!(!advice(&alone, "view").contains("required"));
    }

    #[test]
    fn summaries_are_read_and_strangers_refused() {
        let summary = serde_json::json!({"seconds": 20.0, "stages": {"a": {
            "packets": 100, "fps": 10.0, "replicas": 2, "busy_seconds": 10.0, "blocked_seconds": 5.0,
            "service_ms": {"p50": 100.0}, "queue_wait_ms": {"p50": 3.0, "p99": 4.0}}}});
        let loads = loads(&summary).unwrap();
        assert_eq!(
            (loads[0].busy, loads[0].blocked, loads[0].wait_p99_ms),
            (0.5, 0.25, 4.0)
        );
        assert!(
            super::loads(&serde_json::json!({"x": 1}))
                .unwrap_err()
                .contains("--summary")
        );
        let old = serde_json::json!({"seconds": 1.0, "stages": {"a": {"packets": 1}}});
        assert!(super::loads(&old).unwrap_err().contains("older version"));
    }
}
