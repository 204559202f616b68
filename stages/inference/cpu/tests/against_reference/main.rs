//! Compiled programs against the reference evaluator, on small graphs of every pattern.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod integer;
mod literal;
mod real;
mod requests;
mod simulated;
mod sums;
mod support;
mod ties;
