//! What becomes of packets and instances that fail.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::plan::{BackoffSpec, DeadLetterSpec, OnError, ReconnectSpec, RestartPolicy, RestartSpec};
use crate::units::{Duration, Size};

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
    /// `dead_letter`: the folder that takes, for each packet, a folder with a JSON file and what the packet carried: a picture
    /// or a tensor. A source `dead_letters` gives them again.
    #[schemars(length(min = 1))]
    pub folder: Option<PathBuf>,
    /// `dead_letter`: most bytes that file or folder may hold. Default: `64MiB` for a file, `512MiB` for a folder.
    pub max_bytes: Option<Size>,
    /// `dead_letter`: most letters that folder may hold. Default: 10000.
    #[schemars(range(min = 1, max = 1000000))]
    pub max_count: Option<u64>,
    /// `retry`: number of further tries. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub max: Option<u32>,
    /// `retry`: how long to wait before each further try. Default: no wait.
    pub backoff: Option<BackoffKeys>,
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
    /// The packet is set aside: counted as dead-lettered, and written where a file or folder is given.
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
        let most = if self.folder.is_some() {
            512 << 20
        } else {
            64 << 20
        };
        let dead_letter = || {
            OnError::DeadLetter(DeadLetterSpec {
                path: self.path.clone(),
                folder: self.folder.clone(),
                max_bytes: self.max_bytes.map_or(most, |size| size.0),
                max_count: self.max_count.unwrap_or(10_000),
            })
        };
        let spec = match self.action {
            ActionKey::Fail => OnError::Fail,
            ActionKey::Drop => OnError::Drop,
            ActionKey::DeadLetter => dead_letter(),
            ActionKey::Retry => OnError::Retry {
                max: self.max.unwrap_or(1),
                backoff: self.backoff.map(BackoffKeys::spec).unwrap_or_default(),
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
            ("folder", self.folder.is_some() && !letters),
            ("max_bytes", self.max_bytes.is_some() && !letters),
            ("max_count", self.max_count.is_some() && !letters),
            ("max", self.max.is_some() && !retries),
            ("backoff", self.backoff.is_some() && !retries),
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
    /// After what an instance is rebuilt. Default: `on_failure`.
    pub policy: Option<RestartPolicyKey>,
    /// Restarts within the window before the pipeline fails; 0: none. Default: 5.
    #[schemars(range(max = 1000))]
    pub max: Option<u32>,
    /// Length of the sliding window. Default: `60s`.
    pub within: Option<Duration>,
    /// How long to wait before each. Default: `{initial: 10ms, max: 10s}`.
    pub backoff: Option<BackoffKeys>,
}

/// After what an instance is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicyKey {
    /// After nothing.
    Never,
    /// After a failure while it runs; one that cannot be opened at the start fails the pipeline.
    OnFailure,
    /// After any failure, one at the start included.
    Always,
}

/// Growing waits: before attempt n, counted from 0, a random part of `initial * 2^n`, at most of `max`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "backoff")]
pub struct BackoffKeys {
    /// Longest first wait.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl BackoffKeys {
    fn spec(self) -> BackoffSpec {
        BackoffSpec {
            initial: self.initial.0,
            max: self.max.0,
        }
    }
}

/// How a source that was lost is opened again, with a new epoch. A live source is lost when it ends, too.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "reconnect")]
pub struct ReconnectKeys {
    /// Longest first wait. The waits grow as with `backoff`, and begin anew once the source has given something.
    /// Default: `1s`.
    pub initial: Option<Duration>,
    /// Longest wait. Default: `30s`, or `initial` where that is longer.
    pub max: Option<Duration>,
    /// Attempts without a packet before the stream is given up. Default: any number.
    #[schemars(range(min = 1, max = 1000000))]
    pub attempts: Option<u32>,
}

impl ReconnectKeys {
    /// The rule.
    pub fn spec(&self) -> ReconnectSpec {
        let initial = self
            .initial
            .map_or(std::time::Duration::from_secs(1), |initial| initial.0);
        let longest = initial.max(std::time::Duration::from_secs(30));
        let max = self.max.map_or(longest, |max| max.0);
        ReconnectSpec {
            backoff: BackoffSpec { initial, max },
            attempts: self.attempts,
        }
    }
}

impl RestartKeys {
    /// The budget; what is not said is as in `below`, then as the keys say.
    pub fn spec(&self, below: &Self) -> RestartSpec {
        let default = RestartSpec::default();
        let waits = BackoffSpec {
            initial: std::time::Duration::from_millis(10),
            max: std::time::Duration::from_secs(10),
        };
        RestartSpec {
            policy: match self.policy.or(below.policy) {
                Some(RestartPolicyKey::Never) => RestartPolicy::Never,
                Some(RestartPolicyKey::Always) => RestartPolicy::Always,
                Some(RestartPolicyKey::OnFailure) | None => RestartPolicy::OnFailure,
            },
            max: self.max.or(below.max).unwrap_or(default.max),
            within: self.within.or(below.within).map_or(default.within, |w| w.0),
            backoff: self.backoff.or(below.backoff).map_or(waits, BackoffKeys::spec),
        }
    }
}
