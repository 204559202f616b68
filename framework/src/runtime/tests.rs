//! Queues and the resequencer alone, each against a simple sequential model. They stand apart from what they test, which
//! `tests/interleavings.rs` compiles a second time.

mod queues;
mod resequencer;
