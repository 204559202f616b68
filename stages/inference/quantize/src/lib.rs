//! Post-training quantization: from a network in floating point and some samples to one with FakeQuantize operations.
//!
//! [`prepare`] makes a network ready, [`quantize()`](quantize()) places quantizations ([`placement`]), looks at the values of
//! the network over the samples, turns them into limits ([`ranges`]) and corrects biases. What comes out is a plain
//! OpenVINO IR that every engine reads.
//!
//! ```
//! use flow_quantize::{InMemory, Options, Silent};
//! # let xml = include_str!("../tests/data/tiny.xml");
//! # let weights = include_bytes!("../tests/data/tiny.bin").to_vec();
//! # let graph = flow_model::ir::parse("tiny.xml".as_ref(), xml.as_bytes(), flow_model::ir::Weights::Memory(std::sync::Arc::new(weights)))?;
//! let sample = flow_model::Tensor::from_slice(&[1, 2, 4, 4], &[0.5f32; 32])?;
//! let graph = flow_quantize::prepare(&graph)?;
//! let quantized = flow_quantize::quantize(&graph, &InMemory(vec![vec![sample]]), &Options::default(), &Silent)?;
//! assert!(quantized.graph.nodes.iter().any(|n| n.op.type_name() == "FakeQuantize"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod bias;
mod data;
mod error;
mod histogram;
mod ignore;
mod insert;
pub mod placement;
mod quantize;
pub mod ranges;
mod run;
mod statistics;
mod weights;

pub use bias::BiasCorrection;
pub use data::{Dataset, InMemory, Part, spread};
pub use error::QuantizeError;
pub use ignore::ignored;
pub use insert::{Scheme, WeightStorage, insert};
pub use quantize::{Options, OverflowFix, Preset, Quantized, prepare, quantize};
pub use run::{Progress, Silent};
pub use statistics::Estimator;
pub use weights::{QuantizedWeights, WeightRange};
