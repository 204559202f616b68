//! CPU plugin: INT8 and f32 kernels, memory planner and executor.
//!
//! [`compile`] lowers a graph to steps over one arena and packs its weights; the [`Program`] is immutable and
//! shared. A [`Request`] owns an arena and runs the program on one thread; throughput comes from one request
//! per core. Operations without a kernel run on the reference evaluator of `flow-model`, so that every graph it
//! can evaluate runs here too; [`Program::steps`] says which do.
//!
//! ```no_run
//! use flow_cpu::{CompileOptions, Input, compile};
//!
//! let graph = flow_model::ir::read("model.xml")?;
//! let lowered = flow_lpt::transform(&graph, &flow_lpt::Options::default())?;
//! let program = compile(&lowered.graph, &CompileOptions::default())?;
//! let mut request = program.request(); // one per thread
//! let picture = vec![0u8; program.inputs()[0].bytes()];
//! request.run(&[Input::Values(&picture)])?;
//! println!("{} bytes from {} steps", request.output(0).len(), program.steps().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod bind;
mod constants;
mod copy;
mod dense;
mod error;
pub mod kernels;
mod levels;
mod literal;
mod lower;
mod memory;
mod nest;
mod placement;
mod plan;
mod profile;
mod program;
mod recall;
mod record;
mod rows;
mod run;
mod tail;
mod team;

pub use error::{CompileError, RunError};
pub use profile::{Clock, StepTime};
pub use program::{CompileOptions, Input, InputQuantize, Port, Program, Request, compile};
pub use record::StepRecord;
