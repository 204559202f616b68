//! The `infer` stage: reads a model, applies low precision transformations and runs it on a device.
//!
//! [`Engine`] is what the stage and the command line share: a model read, transformed and compiled once. Each
//! worker runs it through a [`Session`] of its own.
//!
//! ```no_run
//! use flow_inference::{Engine, Input, Options};
//!
//! let engine = Engine::load("model.xml", &Options::default())?;
//! for layer in engine.inspect() {
//!     println!("{}: {} {}", layer.name, layer.precision, layer.reason.unwrap_or_default());
//! }
//! let mut session = engine.session(); // one per thread
//! let picture = vec![0u8; engine.inputs()[0].bytes()];
//! session.run(&[Input::Values(&picture)])?;
//! let scores: &[u8] = session.output(0);
//! # let _ = scores;
//! # Ok::<(), flow_inference::EngineError>(())
//! ```
#![deny(missing_docs)]

mod adapt;
mod benchmark;
mod counters;
mod device;
mod engine;
mod error;
mod infer;
mod inspect;
mod layers;
mod profile;
mod queue;
mod reshape;
mod runtime_graph;
mod shapes;

pub use adapt::{InputChange, adapt};
pub use benchmark::{BenchmarkOptions, Latency, Measurement, Mode, benchmark, profile};
pub use counters::{LayerCounter, constant_nodes};
pub use device::{Device, DeviceRequest};
pub use engine::{Engine, Options, Port, Session, Timing};
pub use error::EngineError;
pub use flow_cpu::{Input, StepTime};
pub use flow_lpt::Numerics;
pub use infer::{InferConfig, NumericsConfig, register};
pub use inspect::LayerRow;
pub use layers::{LayerTime, LayerTimes, layer_times};
pub use profile::Profile;
pub use queue::{Finished, InferQueue, InputSet, QueueOptions};
pub use reshape::with_batch;
pub use runtime_graph::{RuntimeNode, execution_xml};
pub use shapes::{InputShape, with_shapes};
