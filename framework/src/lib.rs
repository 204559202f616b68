//! The runtime of flowrun pipelines: actors, bounded channels, pins, supervision and a ledger.
//!
//! A pipeline is a directed acyclic graph of [sources](stage::Source), [stages](stage::Stage) and
//! [sinks](stage::Sink). Each replica of each of them is a worker: one OS thread that owns its
//! instance. Workers are joined by bounded channels of [packets](packet::Packet). This crate knows
//! no video and no model: what flows is any type that implements [`packet::Payload`].
//!
//! A pipeline file goes through four phases, each a function of its own:
//! parse, check (no I/O), prepare (files, models, pins) and run.
#![deny(missing_docs)]

#[cfg(test)]
extern crate self as flow; // kinds for tests are written as another crate would write them

pub mod codes;
pub mod config;
pub mod diagnostics;
pub mod error;
pub mod ledger;
pub mod metrics;
pub mod packet;
pub mod pins;
pub mod ports;
pub mod registry;
pub mod runtime;
pub mod schema;
pub mod stage;
pub mod topology;
pub mod units;
