//! The checked plan of a pipeline: what `check` gives and what the runtime runs.

mod restart;
mod timing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostics::{Sources, Span};
use crate::packet::StreamId;
use crate::registry::{AnyConfig, ModelDecl, PreparedComponent, Role};

pub use restart::{BackoffSpec, ReconnectSpec, RestartPolicy, RestartSpec};
pub use timing::{BatchSpec, OnExceed, RateLimitSpec, RateScope};

/// A checked pipeline. Components stand in topological order: every producer before its consumers.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Name of the pipeline, from `name` or else from the file.
    pub name: String,
    /// The file as it was named by the user, for messages.
    pub file: String,
    /// Folder of the pipeline file; files to be read may lie beside it.
    pub folder: PathBuf,
    /// Options of the run as a whole.
    pub runtime: RuntimeSpec,
    /// The `models` section.
    pub models: BTreeMap<String, ModelDecl>,
    /// Sources, stages and sinks in topological order.
    pub components: Vec<Component>,
    /// Where the path of each model stands in the pipeline file.
    pub model_spans: BTreeMap<String, Span>,
    /// The texts that spans point into.
    pub sources: Arc<Sources>,
}

impl Pipeline {
    /// A pipeline built without a file.
    pub fn new(name: &str, components: Vec<Component>) -> Self {
        Self {
            name: name.to_owned(),
            file: String::new(),
            folder: PathBuf::new(),
            runtime: RuntimeSpec::default(),
            models: BTreeMap::new(),
            components,
            model_spans: BTreeMap::new(),
            sources: Arc::default(),
        }
    }

    /// Index and component of that name.
    pub fn component(&self, name: &str) -> Option<(usize, &Component)> {
        self.components.iter().enumerate().find(|(_, c)| &*c.name == name)
    }

    /// Indices of the components that take the output of component `index`, with the number of the edge
    /// among their inputs, in topological order.
    pub fn consumers(&self, index: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.components
            .iter()
            .enumerate()
            .flat_map(move |(c, component)| {
                let edges = component.inputs.iter().enumerate();
                edges
                    .filter(move |(_, e)| e.from == index)
                    .map(move |(e, _)| (c, e))
            })
    }
}

/// One source, stage or sink of the plan.
#[derive(Clone)]
pub struct Component {
    /// Name in the pipeline file, unique over sources, stages and sinks.
    pub name: Arc<str>,
    /// Source, stage or sink.
    pub role: Role,
    /// Name of its kind (`type:`).
    pub kind: &'static str,
    /// Its configuration, parsed by its kind.
    pub config: AnyConfig,
    /// The entry of `models` that its key `model` names.
    pub model: Option<String>,
    /// Edges that feed it, in the order of the file; empty for sources. Several edges merge: the component
    /// takes the union of their streams.
    pub inputs: Vec<InputEdge>,
    /// Streams that reach it (for a source: its own), in the order of the pipeline file.
    pub streams: Vec<StreamId>,
    /// Number of instances.
    pub replicas: Replicas,
    /// Threads each replica may use, and CPUs it is given when pinned; at least 1.
    pub threads: usize,
    /// Where its workers are pinned; `None`: not pinned.
    pub pin: Option<PinSpec>,
    /// What becomes of a packet that fails here.
    pub on_error: OnError,
    /// How often an instance that panicked or failed fatally is rebuilt.
    pub restart: RestartSpec,
    /// Sources: how one that was lost is opened again; `None`: its stream ends.
    pub reconnect: Option<ReconnectSpec>,
    /// Sources: one that gives nothing for so long counts as lost.
    pub stall_timeout: Option<Duration>,
    /// Which replica takes a packet.
    pub route: Route,
    /// Order in which packets leave a replicated stage.
    pub order: Order,
    /// Several inputs carry the same stream, whose packets are put together; `None`: no two do.
    pub join: Option<Join>,
    /// Packets of one stream that a replicated stage may have taken and not yet let go; `None`: twice what its
    /// replicas work on.
    pub window: Option<usize>,
    /// How packets are put together before the stage is called; `None`: one at a time.
    pub batch: Option<BatchSpec>,
    /// Age since its capture beyond which a packet is dropped rather than processed.
    pub deadline: Option<Duration>,
    /// Longest time that a call for one packet or batch may take; a worker that takes longer is replaced.
    pub timeout: Option<Duration>,
    /// How many packets are taken per time.
    pub rate_limit: Option<RateLimitSpec>,
    /// Sinks: a packet counts as delivered when all required sinks took it. Always `true` for others.
    pub required: bool,
    /// Sources: packets arrive at the pace of the world, so that lossy queues may drop them even on the way
    /// to a required sink. Always `false` for others.
    pub live: bool,
    /// Where its name stands in the pipeline file.
    pub span: Span,
    /// Where its keys stand in the pipeline file, by path relative to the component (`size[0]`); used to
    /// point at a key when preparing fails.
    pub key_spans: Arc<BTreeMap<String, Span>>,
}

impl Component {
    /// A component with every option at its default, for pipelines built without a file.
    pub fn new(name: &str, role: Role, kind: &'static str, config: AnyConfig) -> Self {
        Self {
            name: name.into(),
            role,
            kind,
            config,
            model: None,
            inputs: Vec::new(),
            streams: Vec::new(),
            replicas: Replicas::Count(1),
            threads: 1,
            pin: None,
            on_error: OnError::default(),
            restart: RestartSpec::default(),
            reconnect: None,
            stall_timeout: None,
            route: Route::default(),
            order: Order::default(),
            join: None,
            window: None,
            batch: None,
            deadline: None,
            timeout: None,
            rate_limit: None,
            required: true,
            live: false,
            span: Span::default(),
            key_spans: Arc::default(),
        }
    }

    /// Number of instances that are built.
    pub fn replica_count(&self) -> usize {
        match self.replicas {
            Replicas::Count(n) => n,
            Replicas::PerStream => self.streams.len().max(1),
        }
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("kind", &self.kind)
            .field("inputs", &self.inputs)
            .field("streams", &self.streams)
            .field("replicas", &self.replicas)
            .field("threads", &self.threads)
            .field("pin", &self.pin)
            .field("on_error", &self.on_error)
            .field("restart", &self.restart)
            .field("reconnect", &self.reconnect)
            .field("stall_timeout", &self.stall_timeout)
            .field("route", &self.route)
            .field("order", &self.order)
            .field("join", &self.join)
            .field("window", &self.window)
            .field("batch", &self.batch)
            .field("deadline", &self.deadline)
            .field("timeout", &self.timeout)
            .field("rate_limit", &self.rate_limit)
            .field("required", &self.required)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// One edge into a component.
#[derive(Debug, Clone)]
pub struct InputEdge {
    /// Index of the producer in [`Pipeline::components`].
    pub from: usize,
    /// The queue between the two.
    pub queue: QueueSpec,
    /// Where the producer's name stands in the pipeline file.
    pub span: Span,
}

impl InputEdge {
    /// An edge from component `from` with the default queue.
    pub fn new(from: usize) -> Self {
        Self {
            from,
            queue: QueueSpec::default(),
            span: Span::default(),
        }
    }
}

/// The bounded queue of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSpec {
    /// Packets that may wait, shared by the consumer's replicas; with [`Overflow::Latest`] there is one slot
    /// per stream and this counts nothing. 0: a packet is handed over when it is taken, and lossy policies hold one.
    pub capacity: usize,
    /// Bytes of payloads that may wait. A larger packet waits alone.
    pub bytes: Option<u64>,
    /// What happens when the queue is full.
    pub overflow: Overflow,
    /// Which streams a lossy policy may touch on an edge that leads to a required sink.
    pub lossy: Lossy,
}

impl QueueSpec {
    /// Largest capacity that a pipeline file may ask for.
    pub const MAX_CAPACITY: usize = 65_536;
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            capacity: 4,
            bytes: None,
            overflow: Overflow::Block,
            lossy: Lossy::Live,
        }
    }
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The producer waits.
    #[default]
    Block,
    /// One slot per stream: a newer packet replaces the older one.
    Latest,
    /// The oldest packet of the queue is dropped.
    DropOldest,
    /// The new packet is dropped.
    DropNewest,
    /// The pipeline ends with an error.
    Fail,
}

impl Overflow {
    /// Whether packets may be dropped.
    pub fn is_lossy(self) -> bool {
        matches!(self, Self::Latest | Self::DropOldest | Self::DropNewest)
    }

    /// The name used in pipeline files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Latest => "latest",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Fail => "fail",
        }
    }
}

/// Which streams a lossy policy may touch on an edge that leads to a required sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lossy {
    /// Only streams of live sources; others wait.
    #[default]
    Live,
    /// All streams.
    All,
}

/// Number of instances of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// A fixed number, at least 1.
    Count(usize),
    /// One for each stream that reaches the component.
    PerStream,
}

/// Which replica takes a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Route {
    /// Whichever is free.
    #[default]
    Any,
    /// Always the same one for packets of one stream.
    ByStream,
}

/// Order in which packets leave a replicated stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Packets of one stream leave in the order in which they came.
    #[default]
    PerStream,
    /// As they are done.
    None,
}

/// What becomes of a packet that did not come on all ways to a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// What came of it is dropped under the reason `unpaired`.
    All,
    /// It goes on with what came of it.
    Any,
}

/// What becomes of a packet that fails.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnError {
    /// The pipeline ends.
    Fail,
    /// The packet is dropped and counted under its error code.
    #[default]
    Drop,
    /// The packet is counted as dead-lettered, and written where a file or folder is given.
    DeadLetter(DeadLetterSpec),
    /// The packet is given to the stage again.
    Retry {
        /// Number of further tries, at least 1.
        max: u32,
        /// How long to wait before each.
        backoff: BackoffSpec,
        /// What happens after the last of them; never `Retry`.
        then: Box<OnError>,
    },
}

impl OnError {
    /// What happens once a packet is not tried again; never `Retry`.
    pub fn last(&self) -> &Self {
        let mut action = self;
        while let Self::Retry { then, .. } = action {
            action = then;
        }
        action
    }

    /// Where packets that fail for good are written to, where they are.
    pub fn letters(&self) -> Option<&DeadLetterSpec> {
        match self.last() {
            Self::DeadLetter(spec) => Some(spec),
            _ => None,
        }
    }
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetterSpec {
    /// The file that takes one JSON line for each.
    pub path: Option<PathBuf>,
    /// The folder that takes a folder for each, with what the packet carried.
    pub folder: Option<PathBuf>,
    /// Most bytes that file or folder may hold.
    pub max_bytes: u64,
    /// Most letters that folder may hold.
    pub max_count: u64,
}

/// Where the workers of a component are pinned. The keys are intersected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PinSpec {
    /// Kernel CPU numbers, ascending without duplicates; `None`: any.
    pub cores: Option<Vec<usize>>,
    /// NUMA node.
    pub node: Option<usize>,
    /// Class of cores.
    pub cpuset: CpuSet,
    /// Whether both hardware threads of a core may be used.
    pub smt: Smt,
    /// No other component may be pinned to these CPUs.
    pub exclusive: bool,
    /// Replicas may share CPUs when there are too few.
    pub oversubscribe: bool,
    /// Where `pin` stands in the pipeline file.
    pub span: Span,
}

/// Class of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuSet {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Smt {
    /// All hardware threads.
    #[default]
    Allow,
    /// One hardware thread per core.
    Avoid,
}

/// Options of the run as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeSpec {
    /// Longest time the pipeline may take to empty itself after a stop.
    pub drain_timeout: Duration,
    /// A pin that cannot be had is an error rather than a warning.
    pub strict_pins: bool,
    /// Kernel CPU numbers that no worker is pinned to, ascending.
    pub reserve: Vec<usize>,
    /// Part of the source packets, 0 to 1, that may be lost to errors before the run counts as failed
    /// (exit code 3). Drops of lossy queues are declared and do not count.
    pub max_loss: f64,
    /// Where the program that runs the pipeline is to serve metrics and the live graph; the runtime itself serves none.
    pub http: Option<SocketAddr>,
}

impl Default for RuntimeSpec {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(20),
            strict_pins: false,
            reserve: Vec::new(),
            max_loss: 0.0,
            http: None,
        }
    }
}

/// A pipeline whose components are prepared: files found, models loaded. The runtime takes it.
pub struct PreparedPipeline {
    /// The plan.
    pub pipeline: Pipeline,
    /// One prepared component for each of [`Pipeline::components`], in the same order.
    pub parts: Vec<PreparedComponent>,
}
