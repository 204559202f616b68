//! The bounded queue of an edge.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::plan::{Lossy, Overflow, QueueSpec};
use crate::units::Size;

/// The bounded queue of an edge.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "queue")]
pub struct QueueKeys {
    /// Packets that may wait, shared by the replicas of the consumer. 0: the producer waits until its packet is
    /// taken; it goes with `block` alone. Default: 4.
    #[schemars(range(max = 65536))]
    pub capacity: Option<usize>,
    /// Bytes of payloads that may wait; whichever limit is reached first holds. A larger packet waits alone.
    pub bytes: Option<Size>,
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
            bytes: self.bytes.or(below.bytes),
            overflow: self.overflow.or(below.overflow),
            lossy: self.lossy.or(below.lossy),
        }
    }

    /// The queue; what is not said is as in [`QueueSpec::default`], `overflow` as given.
    pub fn spec(&self, overflow: Overflow) -> QueueSpec {
        let default = QueueSpec::default();
        QueueSpec {
            capacity: self.capacity.unwrap_or(default.capacity),
            bytes: self.bytes.map(|size| size.0),
            overflow: self.overflow.map_or(overflow, Overflow::from),
            lossy: match self.lossy {
                Some(LossyKey::All) => Lossy::All,
                Some(LossyKey::Live) => Lossy::Live,
                None => default.lossy,
            },
        }
    }
}
