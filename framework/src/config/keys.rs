//! The keys of a pipeline file that do not belong to a kind, as typed structs. Their doc comments are the
//! reference.

mod components;
mod faults;
mod http;
mod pins;
mod queue;
mod timing;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

pub use components::{
    EdgeKeys, InputKey, JoinKey, OrderKey, ReplicasKey, RouteKey, SinkKeys, SourceKeys, StageKeys, StreamKey,
    StreamsKey,
};
pub use faults::{OnErrorKeys, ReconnectKeys, RestartKeys};
pub use http::HttpAddress;
pub use pins::{CoreRange, PinKeys, cpus};
pub use queue::{OverflowKey, QueueKeys};
pub use timing::{BatchKeys, RateLimitKeys};

use super::path::KeyPath;
use crate::units::{Duration, Percent};

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
    /// Where metrics, health and the page with the live graph are served: an address with a port, such as
    /// `127.0.0.1:9898`, or a port alone for this machine only. Default: nowhere.
    pub http: Option<HttpAddress>,
}

impl Default for RuntimeKeys {
    fn default() -> Self {
        Self {
            drain_timeout: Duration(std::time::Duration::from_secs(20)),
            strict_pins: false,
            reserve: ReserveKeys::default(),
            max_loss: Percent(0.0),
            http: None,
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

/// Explains a key that the pipeline language plans but the runtime does not do yet. `parent` is the path of
/// the mapping the key stands in.
pub fn planned(parent: &KeyPath, key: &str) -> Option<&'static str> {
    let path = parent.to_string();
    let segments = parent.segments().len();
    let section = path.split('.').next().unwrap_or("");
    let component = segments == 2 && matches!(section, "sources" | "stages" | "sinks");
    match key {
        "tests" if segments == 0 => Some("remove it; test a pipeline by running it on a short clip"),
        "precision" if section == "models" => Some("remove it; the precision is read from the model"),
        "sync" if component => Some("say `join: all` to put packets of one stream together"),
        "to" if path.ends_with("on_error") => {
            Some("give `folder: FOLDER` for dead letters, or `path: FILE`, instead of a sink")
        }
        _ => None,
    }
}
