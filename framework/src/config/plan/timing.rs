//! Rules of a component about time and batches.

use std::time::Duration;

/// How packets are put together before a stage is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSpec {
    /// Most packets of a batch, at least 1.
    pub max: usize,
    /// Longest time that a batch stays open, since its first packet was taken.
    pub max_wait: Duration,
    /// Most packets of one stream in a batch, from 1 to `max`.
    pub per_stream_max: usize,
    /// Lengths that the stage runs, ascending, the last of them `max`; a batch of another length is padded to the
    /// next one. Empty: any length.
    pub sizes: Vec<usize>,
}

impl BatchSpec {
    /// The length that a batch of `packets` is run at.
    pub fn padded(&self, packets: usize) -> usize {
        let fits = self.sizes.iter().find(|size| **size >= packets);
        fits.copied().unwrap_or(packets)
    }
}

/// How many packets a component takes per time: a bucket of `burst` tokens that is filled at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimitSpec {
    /// Packets per second, above 0.
    pub per_second: f64,
    /// Whether each stream has a bucket of its own.
    pub per: RateScope,
    /// Packets that may come at once, at least 1.
    pub burst: u32,
    /// What becomes of a packet that is one too many.
    pub on_exceed: OnExceed,
}

/// What shares a bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateScope {
    /// All packets of the component.
    #[default]
    Stage,
    /// The packets of one stream.
    Stream,
}

/// What becomes of a packet beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExceed {
    /// It waits for a token.
    #[default]
    Wait,
    /// It is dropped under the reason `rate_limit`.
    Drop,
}
