//! The runtime of flowrun pipelines: actors, bounded channels, pins, supervision and a ledger.
//!
//! A pipeline is a directed acyclic graph of [sources](stage::Source), [stages](stage::Stage) and
//! [sinks](stage::Sink). Each replica of each of them is a worker: one OS thread that owns its
//! instance. Workers are joined by bounded channels of [packets](packet::Packet). This crate knows
//! no video and no model: what flows is any type that implements [`packet::Payload`].
//!
//! A pipeline file goes through four phases, each a function of its own:
//! parse, check (no I/O), prepare (files, models, pins) and run.
//!
//! | what | where |
//! |---|---|
//! | kinds of components and their configuration | [`registry::Registry`], [`registry::Config`] |
//! | the four phases | [`config::parse`], [`config::check()`], [`config::prepare()`], [`runtime::start`] |
//! | what a run did | [`runtime::RunReport`] with its [`ledger`] |
//! | error codes and the reference | [`codes`], [`schema`] |
//!
//! All errors of a file come out at once, each with its place, a code and advice:
//!
//! ```
//! use flow::{config, registry::Registry};
//!
//! let text = b"version: 1\nsources: {clip: {type: file}}\nsinks: {out: {type: jsonl, inputs: [clip]}}\n";
//! let document = config::parse("demo.yaml", text, &config::Options::default())?;
//! let errors = config::check(&document, &Registry::new()).err().ok_or("no kinds are registered")?;
//! assert!(errors.to_string().contains("demo.yaml:2"));
//! assert!(errors.iter().any(|e| e.code.0 == "E0201"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

#[cfg(test)]
extern crate self as flow; // kinds for tests are written as another crate would write them

pub mod chaos;
pub mod clock;
pub mod codes;
pub mod config;
pub mod diagnostics;
pub mod error;
mod layer;
pub mod ledger;
pub mod metrics;
pub mod observe;
pub mod packet;
pub mod pins;
pub mod ports;
pub mod recycle;
pub mod registry;
pub mod runtime;
pub mod schema;
pub mod soak;
pub mod stage;
mod stream_id;
mod sync;
mod times;
pub mod topology;
pub mod units;
