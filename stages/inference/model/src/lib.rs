//! Neural network graphs: OpenVINO IR in and out, shape inference, and a slow, plain reference evaluator.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order. Passes over it are functions `Graph -> Graph`
//! that walk the nodes once and build a new list. What an operation means is stated once, in its module
//! under [`ops`]: attributes, shape inference and evaluation.
#![deny(missing_docs)]

pub mod error;
pub mod evaluate;
mod file;
mod fusing;
pub mod graph;
pub mod ir;
pub mod npy;
pub mod op;
pub mod ops;
pub mod passes;
mod shapes;
pub mod tensor;
pub mod text;

pub use error::{EvalError, ModelError, OpError};
pub use evaluate::{evaluate, evaluate_named};
pub use graph::{Dim, Graph, Node, NodeId, OutputInfo, PartialShape, Value};
pub use op::Op;
pub use tensor::{ElementType, Tensor};
