//! The keys of a pipeline file that do not belong to a kind, as typed structs. Their doc comments are the
//! reference.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::path::KeyPath;
use super::plan::{
    CpuSet, Lossy, OnError, Order, Overflow, PinSpec, QueueSpec, Replicas, RestartSpec, Route, Smt,
};
use crate::diagnostics::Span;
use crate::units::{Duration, Percent, Size};

/// Pattern of the names of pipelines, models, sources, stages and sinks.
pub const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]{0,62}$";

/// Most replicas, and most threads of a replica.
pub const MAX_WORKERS: usize = 1024;

/// Options of the run as a whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "runtime")]
pub struct RuntimeKeys {
    /// Longest time the pipeline may take to empty itself after the sources ended or a stop was asked for.
    pub drain_timeout: Duration,
    /// A pin that the machine cannot give is an error rather than a warning.
    pub strict_pins: bool,
    /// CPUs that no worker is pinned to.
    pub reserve: ReserveKeys,
    /// Part of the source packets that may be lost to errors before the run counts as failed (exit code 3).
    /// What lossy queues drop is declared, and does not count.
    pub max_loss: Percent,
}

impl Default for RuntimeKeys {
    fn default() -> Self {
        Self {
            drain_timeout: Duration(std::time::Duration::from_secs(20)),
            strict_pins: false,
            reserve: ReserveKeys::default(),
            max_loss: Percent(0.0),
        }
    }
}

/// CPUs left to others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReserveKeys {
    /// Kernel CPU numbers and ranges, such as `[0, 8-11]`.
    pub cores: Vec<CoreRange>,
}

/// A kernel CPU number such as `3`, or a range such as `2-5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CoreRangeText")]
pub struct CoreRange {
    /// First CPU.
    pub first: usize,
    /// Last CPU, itself included.
    pub last: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CoreRangeText {
    One(usize),
    Range(String),
}

/// Highest kernel CPU number.
const MAX_CPU: usize = 1023;

impl TryFrom<CoreRangeText> for CoreRange {
    type Error = String;

    fn try_from(text: CoreRangeText) -> Result<Self, String> {
        let (first, last) = match text {
            CoreRangeText::One(n) => (n, n),
            CoreRangeText::Range(text) => text
                .split_once('-')
                .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
                .ok_or_else(|| format!("expected a CPU number or a range such as 2-5, found \"{text}\""))?,
        };
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if last > MAX_CPU {
            return Err(format!("the highest CPU number is {MAX_CPU}, found {last}"));
        }
        Ok(Self { first, last })
    }
}

impl JsonSchema for CoreRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CoreRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A kernel CPU number such as `3`, or a range such as `2-5`.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": MAX_CPU },
                {
                    "type": "string",
                    "description": "A range of kernel CPU numbers, such as `2-5`.",
                    "pattern": "^[0-9]{1,4}-[0-9]{1,4}$"
                }
            ]
        })
    }
}

/// CPU numbers of ranges, ascending, each once.
pub fn cpus(ranges: &[CoreRange]) -> Vec<usize> {
    let mut all: Vec<usize> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What components have when they do not say otherwise; merged key by key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "defaults")]
pub struct DefaultsKeys {
    /// Queue of every edge.
    pub queue: QueueKeys,
    /// What becomes of packets that fail.
    pub on_error: Option<OnErrorKeys>,
    /// How often instances are rebuilt.
    pub restart: RestartKeys,
}

/// A model file that stages refer to by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "model")]
pub struct ModelKeys {
    /// The model file. A relative path is looked for in the working directory, then beside the pipeline file.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// SHA-256 of the file, 64 hexadecimal digits; a file with another sum is refused.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
}

/// The bounded queue of an edge.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "queue")]
pub struct QueueKeys {
    /// Packets that may wait, shared by the replicas of the consumer. Default: 4.
    #[schemars(range(min = 1, max = 65536))]
    pub capacity: Option<usize>,
    /// What happens when the queue is full. Default: `block`; `drop_oldest` where an edge leads to optional
    /// sinks only, so that they never delay required ones.
    pub overflow: Option<OverflowKey>,
    /// Which streams a lossy policy may touch on an edge that leads to a required sink. Default: `live`.
    pub lossy: Option<LossyKey>,
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverflowKey {
    /// The producer waits.
    Block,
    /// One slot per stream; a newer packet replaces the older one.
    Latest,
    /// The oldest waiting packet is dropped.
    DropOldest,
    /// The new packet is dropped.
    DropNewest,
    /// The pipeline ends with an error.
    Fail,
}

impl From<OverflowKey> for Overflow {
    fn from(key: OverflowKey) -> Self {
        match key {
            OverflowKey::Block => Self::Block,
            OverflowKey::Latest => Self::Latest,
            OverflowKey::DropOldest => Self::DropOldest,
            OverflowKey::DropNewest => Self::DropNewest,
            OverflowKey::Fail => Self::Fail,
        }
    }
}

/// Streams that a lossy policy may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossyKey {
    /// Streams of live sources; others wait.
    Live,
    /// All streams.
    All,
}

impl QueueKeys {
    /// These keys, and `below` where they say nothing.
    #[must_use]
    pub fn or(&self, below: &Self) -> Self {
        Self {
            capacity: self.capacity.or(below.capacity),
            overflow: self.overflow.or(below.overflow),
            lossy: self.lossy.or(below.lossy),
        }
    }

    /// The queue; what is not said is as in [`QueueSpec::default`], `overflow` as given.
    pub fn spec(&self, overflow: Overflow) -> QueueSpec {
        let default = QueueSpec::default();
        QueueSpec {
            capacity: self.capacity.unwrap_or(default.capacity),
            overflow: self.overflow.map_or(overflow, Overflow::from),
            lossy: match self.lossy {
                Some(LossyKey::All) => Lossy::All,
                Some(LossyKey::Live) => Lossy::Live,
                None => default.lossy,
            },
        }
    }
}

/// What becomes of a packet that fails.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "on_error")]
pub struct OnErrorKeys {
    /// What is done.
    pub action: ActionKey,
    /// `dead_letter`: the file that takes one JSON line per packet; without it they are counted and logged.
    #[schemars(length(min = 1))]
    pub path: Option<PathBuf>,
    /// `dead_letter`: largest size of that file. Default: `64MiB`.
    pub max_bytes: Option<Size>,
    /// `retry`: number of further tries. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub max: Option<u32>,
    /// `retry`: what is done after the last try. Default: `drop`.
    pub then: Option<ThenKey>,
}

/// What is done with a packet that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKey {
    /// The pipeline ends with exit code 4.
    Fail,
    /// The packet is dropped and counted under its error code.
    Drop,
    /// The packet is set aside: counted as dead-lettered, and written where a path is given.
    DeadLetter,
    /// The stage is given the packet again.
    Retry,
}

/// What is done after the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThenKey {
    /// The pipeline ends with exit code 4.
    Fail,
    /// The packet is dropped and counted under its error code.
    Drop,
    /// The packet is set aside.
    DeadLetter,
}

impl OnErrorKeys {
    /// The action, and the names of keys that do not belong to it.
    pub fn spec(&self) -> (OnError, Vec<&'static str>) {
        let dead_letter = || OnError::DeadLetter {
            path: self.path.clone(),
            max_bytes: self.max_bytes.map_or(64 << 20, |size| size.0),
        };
        let spec = match self.action {
            ActionKey::Fail => OnError::Fail,
            ActionKey::Drop => OnError::Drop,
            ActionKey::DeadLetter => dead_letter(),
            ActionKey::Retry => OnError::Retry {
                max: self.max.unwrap_or(1),
                then: Box::new(match self.then {
                    Some(ThenKey::Fail) => OnError::Fail,
                    Some(ThenKey::DeadLetter) => dead_letter(),
                    Some(ThenKey::Drop) | None => OnError::Drop,
                }),
            },
        };
        let retries = self.action == ActionKey::Retry;
        let letters =
            self.action == ActionKey::DeadLetter || retries && self.then == Some(ThenKey::DeadLetter);
        let foreign = [
            ("path", self.path.is_some() && !letters),
            ("max_bytes", self.max_bytes.is_some() && !letters),
            ("max", self.max.is_some() && !retries),
            ("then", self.then.is_some() && !retries),
        ];
        let foreign = foreign.into_iter().filter(|(_, is)| *is).map(|(key, _)| key);
        (spec, foreign.collect())
    }
}

/// How often instances that panicked or failed are rebuilt.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "restart")]
pub struct RestartKeys {
    /// Restarts within the window before the pipeline fails; 0: none. Default: 5.
    #[schemars(range(max = 1000))]
    pub max: Option<u32>,
    /// Length of the sliding window. Default: `60s`.
    pub within: Option<Duration>,
}

impl RestartKeys {
    /// The budget; what is not said is as in `below`, then as in [`RestartSpec::default`].
    pub fn spec(&self, below: &Self) -> RestartSpec {
        let default = RestartSpec::default();
        RestartSpec {
            max: self.max.or(below.max).unwrap_or(default.max),
            within: self.within.or(below.within).map_or(default.within, |w| w.0),
        }
    }
}

/// Where workers are pinned. The keys are intersected.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pin")]
pub struct PinKeys {
    /// Kernel CPU numbers and ranges, such as `[1, 4-7]`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub cores: Option<Vec<CoreRange>>,
    /// NUMA node, such as `numa0`.
    #[serde(default)]
    pub node: Option<NodeKey>,
    /// Class of cores.
    #[serde(default)]
    pub cpuset: CpuSetKey,
    /// Whether both hardware threads of a core may be used.
    #[serde(default)]
    pub smt: SmtKey,
    /// No other component may be pinned to these CPUs.
    #[serde(default)]
    pub exclusive: bool,
    /// Replicas may share CPUs when there are too few.
    #[serde(default)]
    pub oversubscribe: bool,
}

/// A NUMA node such as `numa0`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeKey(pub usize);

impl TryFrom<String> for NodeKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_prefix("numa").filter(|n| (1..=4).contains(&n.len()));
        number
            .filter(|n| n.chars().all(|c| c.is_ascii_digit()))
            .and_then(|n| n.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("expected a NUMA node such as numa0, found \"{text}\""))
    }
}

impl JsonSchema for NodeKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NumaNode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A NUMA node such as `numa0`.",
            "pattern": "^numa[0-9]{1,4}$"
        })
    }
}

/// Class of cores.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpuSetKey {
    /// All CPUs.
    #[default]
    All,
    /// Performance cores of a hybrid processor.
    Pcores,
    /// Efficiency cores of a hybrid processor.
    Ecores,
    /// One hardware thread of each core.
    Physical,
}

/// Use of the hardware threads of a core.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmtKey {
    /// All hardware threads.
    #[default]
    Allow,
    /// One hardware thread per core.
    Avoid,
}

impl PinKeys {
    /// The pin, which stands at `span`.
    pub fn spec(&self, span: Span) -> PinSpec {
        PinSpec {
            cores: self.cores.as_deref().map(cpus),
            node: self.node.map(|n| n.0),
            cpuset: match self.cpuset {
                CpuSetKey::All => CpuSet::All,
                CpuSetKey::Pcores => CpuSet::Pcores,
                CpuSetKey::Ecores => CpuSet::Ecores,
                CpuSetKey::Physical => CpuSet::Physical,
            },
            smt: match self.smt {
                SmtKey::Allow => Smt::Allow,
                SmtKey::Avoid => Smt::Avoid,
            },
            exclusive: self.exclusive,
            oversubscribe: self.oversubscribe,
            span,
        }
    }
}

/// Number of instances: a number, or `per_stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReplicasKey {
    /// A fixed number.
    Count(#[schemars(range(min = 1, max = 1024))] usize),
    /// One for each stream.
    PerStream(PerStreamKey),
}

/// One for each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PerStreamKey {
    /// One instance for each stream that reaches the component.
    PerStream,
}

impl From<ReplicasKey> for Replicas {
    fn from(key: ReplicasKey) -> Self {
        match key {
            ReplicasKey::Count(n) => Self::Count(n),
            ReplicasKey::PerStream(_) => Self::PerStream,
        }
    }
}

/// Which replica takes a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKey {
    /// Whichever is free.
    Any,
    /// Always the same one for packets of one stream.
    ByStream,
}

impl From<RouteKey> for Route {
    fn from(key: RouteKey) -> Self {
        match key {
            RouteKey::Any => Self::Any,
            RouteKey::ByStream => Self::ByStream,
        }
    }
}

/// Order in which packets leave a replicated stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderKey {
    /// Packets of one stream leave in the order in which they came.
    PerStream,
    /// As they are done.
    None,
}

impl From<OrderKey> for Order {
    fn from(key: OrderKey) -> Self {
        match key {
            OrderKey::PerStream => Self::PerStream,
            OrderKey::None => Self::None,
        }
    }
}

/// An edge: the name of the producer, or a mapping with the name and the queue.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InputKey {
    /// The producer's name.
    Name(String),
    /// The producer and the queue.
    Edge(EdgeKeys),
}

/// An edge with its queue.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "input")]
pub struct EdgeKeys {
    /// Name of the source or stage that feeds this component.
    pub from: String,
    /// The queue of this edge.
    #[serde(default)]
    pub queue: QueueKeys,
}

/// Keys that every source has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "source")]
pub struct SourceKeys {
    /// The kind of the source.
    #[serde(rename = "type")]
    pub kind: String,
    /// Threads the source may use, and CPUs it is given when pinned. Default: 1.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Where the worker is pinned; without it, it is not pinned.
    pub pin: Option<PinKeys>,
}

/// Keys that every stage has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stage")]
pub struct StageKeys {
    /// The kind of the stage.
    #[serde(rename = "type")]
    pub kind: String,
    /// Sources and stages that feed it. The streams of several inputs are merged.
    #[schemars(length(min = 1, max = 1024))]
    pub inputs: Vec<InputKey>,
    /// Number of instances, each a worker of its own. Default: 1.
    pub replicas: Option<ReplicasKey>,
    /// Threads each replica may use, and CPUs it is given when pinned. Default: 1.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Where the workers are pinned; without it they are not pinned.
    pub pin: Option<PinKeys>,
    /// What becomes of packets that fail here. Default: `{action: drop}`.
    pub on_error: Option<OnErrorKeys>,
    /// How often instances are rebuilt.
    #[serde(default)]
    pub restart: RestartKeys,
    /// Which replica takes a packet. Default: `any`.
    pub route: Option<RouteKey>,
    /// Order in which packets leave. Default: `per_stream`.
    pub order: Option<OrderKey>,
}

/// Keys that every sink has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sink")]
pub struct SinkKeys {
    /// The kind of the sink.
    #[serde(rename = "type")]
    pub kind: String,
    /// Sources and stages that feed it. The streams of several inputs are merged.
    #[schemars(length(min = 1, max = 1024))]
    pub inputs: Vec<InputKey>,
    /// A packet counts as delivered when all required sinks took it. A sink that is not required may lag or
    /// fail without delaying or failing packets.
    #[serde(default = "yes")]
    pub required: bool,
    /// Threads the sink may use, and CPUs it is given when pinned. Default: 1.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Where the worker is pinned; without it, it is not pinned.
    pub pin: Option<PinKeys>,
    /// What becomes of packets that fail here. Default: `{action: drop}`.
    pub on_error: Option<OnErrorKeys>,
    /// How often the instance is rebuilt.
    #[serde(default)]
    pub restart: RestartKeys,
}

fn yes() -> bool {
    true
}

/// Explains a key that the pipeline language plans but the runtime does not do yet. `parent` is the path of
/// the mapping the key stands in.
pub fn planned(parent: &KeyPath, key: &str) -> Option<&'static str> {
    let path = parent.to_string();
    let segments = parent.segments().len();
    let section = path.split('.').next().unwrap_or("");
    let component = segments == 2 && matches!(section, "sources" | "stages" | "sinks");
    match key {
        "tests" if segments == 0 => Some("remove it; test a pipeline by running it on a short clip"),
        "http" if path == "runtime" => {
            Some("remove it; `flowrun run --summary FILE` writes the figures of a run")
        }
        "precision" if section == "models" => Some("remove it; the precision is read from the model"),
        "batch" if component => Some("remove it; raise `replicas` for throughput"),
        "deadline" if component => {
            Some("remove it; `queue: {overflow: latest}` on an input keeps packets fresh")
        }
        "timeout" if component => {
            Some("remove it; a worker that hangs ends the run at `runtime.drain_timeout`")
        }
        "rate_limit" if component => Some("remove it; `pace` of a source limits its rate"),
        "join" | "sync" if component => Some("remove it; several inputs are merged, not joined"),
        "bytes" if path.ends_with("queue") => Some("remove it; bound the queue with `capacity`"),
        "to" if path.ends_with("on_error") => Some("give `path: FILE` for dead letters instead of a sink"),
        "backoff" if path.ends_with("on_error") => Some("remove it; packets are tried again at once"),
        "policy" | "backoff" if path.ends_with("restart") => {
            Some("give `max` and `within` alone; `max: 0` restarts nothing")
        }
        _ => None,
    }
}
