//! CPU plugin: INT8 and f32 kernels, memory planner and executor.
#![deny(missing_docs)]

pub mod kernels;
