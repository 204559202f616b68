//! Helpers of the end-to-end tests: running the `flowrun` command, tiny networks and clips, seeded faults.
#![deny(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

pub mod allocator;
pub mod command;
pub mod corrupt;
pub mod engine;
pub mod media;
pub mod network;
pub mod pipeline;
