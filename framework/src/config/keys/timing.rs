//! Batches, and how many packets are taken per time.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::plan::{BatchSpec, OnExceed, RateLimitSpec, RateScope};
use crate::units::{Duration, Rate};

/// How packets are put together before a stage is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "batch")]
pub struct BatchKeys {
    /// Most packets of a batch.
    #[schemars(range(min = 1, max = 1024))]
    pub max: usize,
    /// Longest time that a batch stays open, since its first packet was taken. Default: `10ms`.
    pub max_wait: Option<Duration>,
    /// Most packets of one stream in a batch; a batch is closed once every stream has given that many. Default:
    /// `max`.
    #[schemars(range(min = 1, max = 1024))]
    pub per_stream_max: Option<usize>,
    /// Lengths that the stage runs, ascending; the last one is `max`. A batch of another length is padded to the
    /// next one. Default: any length.
    #[serde(default)]
    #[schemars(length(max = 64), inner(range(min = 1, max = 1024)))]
    pub sizes: Vec<usize>,
}

impl BatchKeys {
    /// The batch.
    pub fn spec(&self) -> BatchSpec {
        let wait = self.max_wait.map(|wait| wait.0);
        BatchSpec {
            max: self.max,
            max_wait: wait.unwrap_or(std::time::Duration::from_millis(10)),
            per_stream_max: self.per_stream_max.unwrap_or(self.max),
            sizes: self.sizes.clone(),
        }
    }
}

/// How many packets a component takes per time.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rate_limit")]
pub struct RateLimitKeys {
    /// Packets per time, such as `10/s`.
    pub max: Rate,
    /// What shares the limit. Default: `stage`.
    pub per: Option<PerKey>,
    /// Packets that may come at once after a pause. Default: 1.
    #[schemars(range(min = 1, max = 65536))]
    pub burst: Option<u32>,
    /// What becomes of a packet that is one too many. Default: `wait`.
    pub on_exceed: Option<OnExceedKey>,
}

/// What shares a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PerKey {
    /// All packets of the component.
    Stage,
    /// The packets of each stream.
    Stream,
}

/// What becomes of a packet beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceedKey {
    /// It waits.
    Wait,
    /// It is dropped under the reason `rate_limit`.
    Drop,
}

impl RateLimitKeys {
    /// The limit.
    pub fn spec(&self) -> RateLimitSpec {
        RateLimitSpec {
            per_second: self.max.0,
            per: match self.per {
                Some(PerKey::Stream) => RateScope::Stream,
                Some(PerKey::Stage) | None => RateScope::Stage,
            },
            burst: self.burst.unwrap_or(1),
            on_exceed: match self.on_exceed {
                Some(OnExceedKey::Drop) => OnExceed::Drop,
                Some(OnExceedKey::Wait) | None => OnExceed::Wait,
            },
        }
    }
}
