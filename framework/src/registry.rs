//! The registry: which `type:` names exist, what their configuration looks like and how they are built.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::config::plan::BatchSpec;
use crate::error::{Code, PrepareError, StageError};
use crate::packet::StreamId;
use crate::ports::{Ports, SharedDetail};
use crate::stage::{Sink, Source, Stage};

/// Configuration of a kind: parsed, described by its JSON Schema, and checked without I/O.
///
/// Implementations carry `#[serde(deny_unknown_fields)]`; their doc comments become the reference.
pub trait Config: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Checks beyond what the schema says (ranges that depend on each other), without I/O.
    fn check(&self) -> Vec<ConfigIssue> {
        Vec::new()
    }
}

/// A fault that [`Config::check`] found.
#[derive(Debug, Clone)]
pub struct ConfigIssue {
    /// Stable code.
    pub code: Code,
    /// Path of the key relative to the component, such as `batch.max`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// The part of a pipeline a kind can stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Stands in `sources`.
    Source,
    /// Stands in `stages`.
    Stage,
    /// Stands in `sinks`.
    Sink,
}

/// How a stage may be replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Packets are independent: any replica can take any packet.
    Free,
    /// The stage keeps state per stream: one replica per stream, or packets routed by stream.
    PerStream,
    /// One instance only.
    Single,
}

/// Facts about a kind.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// The name used with `type:`.
    pub name: &'static str,
    /// One line for `flowrun stages`.
    pub summary: &'static str,
    /// Port types.
    pub ports: Ports,
    /// How it may be replicated.
    pub replication: Replication,
}

/// A model declared in the `models` section.
#[derive(Debug, Clone)]
pub struct ModelDecl {
    /// Path of the model file, relative paths resolved against the pipeline file's folder.
    pub path: PathBuf,
    /// Expected SHA-256 of the model file, in hex.
    pub sha256: Option<String>,
}

/// What a kind may ask while it prepares.
pub struct PrepareContext<'a> {
    /// Name of the component.
    pub name: &'a str,
    /// Folder of the pipeline file. Files that are read (models, labels, inputs) are resolved against the
    /// working directory first, then against this folder.
    pub folder: &'a Path,
    /// The `models` section.
    pub models: &'a BTreeMap<String, ModelDecl>,
    /// What the components that take this one's output want, by name; those that said nothing are left out.
    pub downstream: &'a [(String, SharedDetail)],
    /// Streams that reach this component.
    pub streams: &'a [StreamId],
    /// Number of replicas that will be built.
    pub replicas: usize,
    /// Number of threads each replica may use.
    pub threads: usize,
    /// How packets will be put together before a stage is called; a kind that takes batches says so with
    /// [`Prepared::batching`].
    pub batch: Option<&'a BatchSpec>,
}

impl PrepareContext<'_> {
    /// Resolves a file to be read: as given if it exists (or is absolute), else beside the pipeline file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        if path.is_absolute() || path.exists() {
            return path.to_path_buf();
        }
        let beside = self.folder.join(path);
        if beside.exists() {
            beside
        } else {
            path.to_path_buf()
        }
    }
}

/// A prepared component: it can build instances for its workers, again after a failure.
pub struct Prepared<T: ?Sized> {
    /// Builds one instance for the replica with the given index; runs on the worker's own thread.
    pub build: Build<T>,
    /// Whether it runs several packets in one call.
    pub batches: bool,
    /// What it wants to be fed, where known.
    pub wants: Option<SharedDetail>,
    /// What it will give, where known.
    pub gives: Option<SharedDetail>,
    /// Files it reads; `-` is standard input.
    pub reads: Vec<PathBuf>,
    /// Files it writes, placeholders left as they are; `-` is standard output.
    pub writes: Vec<PathBuf>,
}

/// Builds the instance of a replica.
pub type Build<T> = Box<dyn Fn(usize) -> Result<Box<T>, StageError> + Send + Sync>;

impl<T: ?Sized> Prepared<T> {
    /// A component that says nothing about its ports beyond their types.
    pub fn new(build: impl Fn(usize) -> Result<Box<T>, StageError> + Send + Sync + 'static) -> Self {
        Self {
            build: Box::new(build),
            batches: false,
            wants: None,
            gives: None,
            reads: Vec::new(),
            writes: Vec::new(),
        }
    }
    /// States that it runs several packets in one call ([`Stage::process_batch`]).
    #[must_use]
    pub fn batching(mut self) -> Self {
        self.batches = true;
        self
    }
    /// States what it wants.
    #[must_use]
    pub fn wants(mut self, detail: SharedDetail) -> Self {
        self.wants = Some(detail);
        self
    }
    /// States what it gives.
    #[must_use]
    pub fn gives(mut self, detail: SharedDetail) -> Self {
        self.gives = Some(detail);
        self
    }
    /// States a file it reads; `-` is standard input. No other component may write it.
    #[must_use]
    pub fn reads(mut self, file: impl Into<PathBuf>) -> Self {
        self.reads.push(file.into());
        self
    }
    /// States a file it writes; `-` is standard output. No other component may read or write it.
    #[must_use]
    pub fn writes(mut self, file: impl Into<PathBuf>) -> Self {
        self.writes.push(file.into());
        self
    }
}

impl<T: ?Sized + 'static> Prepared<T> {
    /// Wraps each instance as it is built, such as in one that observes or disturbs it; `layer` is given the index of
    /// the replica.
    #[must_use]
    pub fn layered(mut self, layer: impl Fn(usize, Box<T>) -> Box<T> + Send + Sync + 'static) -> Self {
        let build = self.build;
        self.build = Box::new(move |replica| Ok(layer(replica, build(replica)?)));
        self
    }
}

/// Prepares a component of a kind with configuration `C`: finds files, loads models.
pub type PrepareKind<C, T> = fn(&C, &PrepareContext<'_>) -> Result<Prepared<T>, PrepareError>;

/// A prepared source, stage or sink.
pub enum PreparedComponent {
    /// A source.
    Source(Prepared<dyn Source>),
    /// A stage.
    Stage(Prepared<dyn Stage>),
    /// A sink.
    Sink(Prepared<dyn Sink>),
}

impl PreparedComponent {
    /// Files it reads; `-` is standard input.
    pub fn reads(&self) -> &[PathBuf] {
        match self {
            Self::Source(p) => &p.reads,
            Self::Stage(p) => &p.reads,
            Self::Sink(p) => &p.reads,
        }
    }

    /// Files it writes, placeholders left as they are; `-` is standard output.
    pub fn writes(&self) -> &[PathBuf] {
        match self {
            Self::Source(p) => &p.writes,
            Self::Stage(p) => &p.writes,
            Self::Sink(p) => &p.writes,
        }
    }
}

/// A parsed configuration, its type forgotten; only its own kind reads it.
pub type AnyConfig = Arc<dyn Any + Send + Sync>;

type ParseFn = Box<dyn Fn(&serde_json::Value) -> Result<AnyConfig, ParseFailure> + Send + Sync>;
type CheckFn = Box<dyn Fn(&AnyConfig) -> Vec<ConfigIssue> + Send + Sync>;
type PrepareFn =
    Box<dyn Fn(&AnyConfig, &PrepareContext<'_>) -> Result<PreparedComponent, PrepareError> + Send + Sync>;

/// Where and why a typed configuration could not be read.
#[derive(Debug, Clone)]
pub struct ParseFailure {
    /// Path of the key relative to the component.
    pub key: String,
    /// What serde said.
    pub message: String,
}

/// One registered kind.
pub struct Kind {
    /// Facts about it.
    pub info: KindInfo,
    /// Where it may stand.
    pub role: Role,
    /// JSON Schema of its configuration (without the keys every component has).
    pub schema: schemars::Schema,
    parse: ParseFn,
    check: CheckFn,
    prepare: PrepareFn,
}

impl Kind {
    /// Reads a configuration; `value` holds only the kind's own keys.
    pub fn parse(&self, value: &serde_json::Value) -> Result<AnyConfig, ParseFailure> {
        (self.parse)(value)
    }
    /// Checks a configuration without I/O.
    pub fn check(&self, config: &AnyConfig) -> Vec<ConfigIssue> {
        (self.check)(config)
    }
    /// Prepares a component.
    pub fn prepare(
        &self,
        config: &AnyConfig,
        cx: &PrepareContext<'_>,
    ) -> Result<PreparedComponent, PrepareError> {
        (self.prepare)(config, cx)
    }
}

/// All kinds that pipelines may use.
#[derive(Default)]
pub struct Registry {
    kinds: BTreeMap<(Role, &'static str), Kind>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a source kind.
    pub fn source<C: Config>(&mut self, info: KindInfo, prepare: PrepareKind<C, dyn Source>) {
        self.add::<C>(
            Role::Source,
            info,
            Box::new(move |c, cx| Ok(PreparedComponent::Source(prepare(typed(c), cx)?))),
        );
    }

    /// Registers a stage kind.
    pub fn stage<C: Config>(&mut self, info: KindInfo, prepare: PrepareKind<C, dyn Stage>) {
        self.add::<C>(
            Role::Stage,
            info,
            Box::new(move |c, cx| Ok(PreparedComponent::Stage(prepare(typed(c), cx)?))),
        );
    }

    /// Registers a sink kind.
    pub fn sink<C: Config>(&mut self, info: KindInfo, prepare: PrepareKind<C, dyn Sink>) {
        self.add::<C>(
            Role::Sink,
            info,
            Box::new(move |c, cx| Ok(PreparedComponent::Sink(prepare(typed(c), cx)?))),
        );
    }

    fn add<C: Config>(&mut self, role: Role, info: KindInfo, prepare: PrepareFn) {
        let kind = Kind {
            info,
            role,
            schema: schemars::schema_for!(C),
            parse: Box::new(|value| match serde_path_to_error::deserialize::<_, C>(value) {
                Ok(config) => Ok(Arc::new(config)),
                Err(e) => Err(ParseFailure {
                    key: e.path().to_string(),
                    message: e.inner().to_string(),
                }),
            }),
            check: Box::new(|config| typed::<C>(config).check()),
            prepare,
        };
        self.kinds.insert((role, info.name), kind);
    }

    /// The kind of that role and name.
    pub fn get(&self, role: Role, name: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|((r, n), _)| *r == role && *n == name)
            .map(|(_, kind)| kind)
    }

    /// All kinds: sources, then stages, then sinks, each by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values()
    }
}

fn typed<C: Config>(config: &AnyConfig) -> &C {
    match config.downcast_ref() {
        Some(config) => config,
        None => unreachable!("a kind reads only configurations that it parsed"),
    }
}
