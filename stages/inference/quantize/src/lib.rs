//! Post-training quantization: from a network in floating point and some samples to one with FakeQuantize operations.
//!
//! [`prepare`] makes a network ready, [`quantize()`](quantize()) places quantizations ([`placement`]), looks at the values of
//! the network over the samples, turns them into limits ([`ranges`]) and corrects biases. What comes out is a plain
//! OpenVINO IR that every engine reads.
//!
//! ```no_run
//! use flow_quantize::{InMemory, Options, Silent, prepare, quantize};
//!
//! let sample = flow_model::npy::read("sample.npy")?;
//! let graph = prepare(&flow_model::ir::read("model.xml")?)?;
//! let quantized = quantize(&graph, &InMemory(vec![vec![sample]]), &Options::default(), &Silent)?;
//! flow_model::ir::write(&quantized.graph, "model-int8.xml")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod accuracy;
mod bias;
mod checkpoint;
mod compare;
mod data;
mod equalize;
mod error;
mod histogram;
mod ignore;
mod insert;
mod metric;
pub mod placement;
mod quantize;
pub mod ranges;
pub mod report;
mod rounding;
mod run;
mod search;
mod statistics;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod weights;
mod window;

pub use accuracy::{Accuracy, Revert, within};
pub use bias::BiasCorrection;
pub use checkpoint::{Checkpoint, Forgetful};
pub use compare::{Comparison, LayerComparison, OutputComparison, compare};
pub use data::{Dataset, InMemory, Part, spread, stratified};
pub use equalize::equalize;
pub use error::QuantizeError;
pub use ignore::ignored;
pub use insert::{Scheme, WeightStorage, insert};
pub use metric::{AgainstReference, KeptOutputs, Likeness, Metric, run_network};
pub use quantize::{Options, OverflowFix, Preset, Quantized, prepare, quantize, quantize_on};
pub use run::{Progress, Silent};
pub use search::{Searched, Space, Trial, search};
pub use statistics::Estimator;
pub use weights::{QuantizedWeights, WeightRange};
