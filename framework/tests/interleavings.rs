//! Queues, joins and the resequencer under a scheduler that tries many orders in which threads may run.
//!
//! The files of the runtime are compiled here with locks, atomics and channels of a model checker (`sync`), and small
//! stand-ins for what surrounds them. A deadlock, a lost wake-up, a packet lost, doubled or out of order fails the test,
//! which prints the order that led to it. Orders are interleavings of single steps; weaker orders of memory accesses are not
//! tried, which is why what decides whether a thread sleeps is sequentially consistent.
//!
//! `FLOW_INTERLEAVINGS=20000` tries so many orders per test, a thousand otherwise.
#![allow(dead_code, reason = "what surrounds the queues is here only in part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(
    clippy::large_enum_variant,
    reason = "types of the model checker are larger than those they stand for"
)]

#[path = "interleavings/around.rs"]
mod around;
#[path = "interleavings/sync.rs"]
mod sync;

use around::{clock, config, ledger, metrics, packet};

mod runtime {
    #[path = "../../src/runtime/bell.rs"]
    pub(crate) mod bell;
    pub(crate) use crate::around::{core, event, report};
    #[path = "../../src/runtime/edge.rs"]
    pub(crate) mod edge;
    #[path = "../../src/runtime/exit.rs"]
    pub(crate) mod exit;
    #[path = "../../src/runtime/fair.rs"]
    pub(crate) mod fair;
    #[path = "../../src/runtime/fifo.rs"]
    pub(crate) mod fifo;
    #[path = "../../src/runtime/inlet.rs"]
    pub(crate) mod inlet;
    #[path = "../../src/runtime/join.rs"]
    pub(crate) mod join;
    #[path = "../../src/runtime/resequencer.rs"]
    pub(crate) mod resequencer;
}

#[path = "interleavings/scenarios.rs"]
mod scenarios;
