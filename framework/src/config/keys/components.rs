//! The keys that every source, stage and sink has.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BatchKeys, OnErrorKeys, PinKeys, QueueKeys, RateLimitKeys, ReconnectKeys, RestartKeys};
use crate::config::plan::{Join, Order, Replicas, Route};
use crate::units::Duration;

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

/// What becomes of a packet that did not come on all ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JoinKey {
    /// What came of it is dropped under the reason `unpaired`.
    All,
    /// It goes on with what came of it.
    Any,
}

impl From<JoinKey> for Join {
    fn from(key: JoinKey) -> Self {
        match key {
            JoinKey::All => Self::All,
            JoinKey::Any => Self::Any,
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

/// The streams of a source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StreamsKey {
    /// A pattern such as `clips/*.mp4`: each file is a stream, called after it.
    Pattern(String),
    /// The `path` of each stream (of `ffmpeg`, its `url`), called after it, or numbered where that is no name.
    Inputs(#[schemars(length(min = 1, max = 1024))] Vec<String>),
    /// By name of the stream: its `path` (or `url`), or the keys in which it differs.
    Named(BTreeMap<String, StreamKey>),
}

/// One stream of a source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StreamKey {
    /// Its `path`, or `url`.
    Input(String),
    /// The keys in which it differs from the source.
    Keys(serde_json::Map<String, serde_json::Value>),
}

/// Keys that every source has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "source")]
pub struct SourceKeys {
    /// The kind of the source.
    #[serde(rename = "type")]
    pub kind: String,
    /// Several inputs, each a stream of its own with the other keys of this source; what takes this source takes all of them.
    pub streams: Option<StreamsKey>,
    /// Threads the source may use, and CPUs it is given when pinned. Default: 1.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Where the worker is pinned; without it, it is not pinned.
    pub pin: Option<PinKeys>,
    /// Opens the source again after it was lost, with a new epoch; without it its stream ends.
    pub reconnect: Option<ReconnectKeys>,
    /// A source that gives nothing for so long counts as lost.
    pub stall_timeout: Option<Duration>,
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
    /// Puts together the packets of a stream that comes by several inputs. The first input's packet goes on, with
    /// those of the others attached.
    pub join: Option<JoinKey>,
    /// Packets of one stream that the replicas may have taken and not yet let go, where they keep the order.
    /// Default: twice what they work on at a time.
    #[schemars(range(min = 1, max = 65536))]
    pub window: Option<usize>,
    /// Takes several packets at a time, over all streams; for stages that run batches.
    pub batch: Option<BatchKeys>,
    /// Age since its capture beyond which a packet is dropped under the reason `deadline`, such as `250ms`.
    pub deadline: Option<Duration>,
    /// Longest time that a call for one packet or batch may take. A worker that takes longer is left behind, its
    /// packets fail, and another one takes its place within the `restart` budget.
    pub timeout: Option<Duration>,
    /// How many packets are taken per time.
    pub rate_limit: Option<RateLimitKeys>,
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
    /// Puts together the packets of a stream that comes by several inputs. The first input's packet goes on, with
    /// those of the others attached.
    pub join: Option<JoinKey>,
    /// Age since its capture beyond which a packet is dropped under the reason `deadline`, such as `250ms`.
    pub deadline: Option<Duration>,
    /// Longest time that a call for one packet or batch may take. A worker that takes longer is left behind, its
    /// packets fail, and another one takes its place within the `restart` budget.
    pub timeout: Option<Duration>,
    /// How many packets are taken per time.
    pub rate_limit: Option<RateLimitKeys>,
    /// How often the instance is rebuilt.
    #[serde(default)]
    pub restart: RestartKeys,
}

fn yes() -> bool {
    true
}
