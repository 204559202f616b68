//! What threads meet at: the types of locks, atomics and channels that the queues are built of.
//!
//! `tests/interleavings.rs` compiles the same queues with types of a model checker in their place, so code that is
//! checked there names them through here.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
pub(crate) use std::thread::yield_now;

pub(crate) use crossbeam_channel::{Receiver, Sender, bounded, never, select};
