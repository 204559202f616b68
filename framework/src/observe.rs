//! Looking at a run from outside: metrics, health, the live graph and a page that shows them.
//!
//! Workers count as they always do; everything here reads what they counted, on threads of its own.
//!
//! | what | where |
//! |---|---|
//! | the shape of a pipeline | [`Graph`] |
//! | metrics for Prometheus | [`prometheus`] |
//! | the local HTTP server | [`http`], [`Service`] |
//! | changes to a run | [`control`], [`Controls`] |
//! | packets that pass | [`tap`], [`trace`] |
//! | the headers of a run, and a run that follows them | [`record`], [`replay`] |
//! | which stage holds up the others | [`why_slow`] |

pub mod control;
mod graph;
pub mod http;
mod preview;
pub mod process;
pub mod prometheus;
pub mod record;
pub mod replay;
mod service;
pub mod tap;
pub mod trace;
pub mod why_slow;

pub use graph::{Graph, GraphEdge, GraphStage};
pub use preview::{Encode, Preview};
pub use service::{Controls, Service};
