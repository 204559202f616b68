//! Neural network graphs: OpenVINO IR in and out, shape inference, and a slow, plain reference evaluator.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order. Passes over it are functions `Graph -> Graph`
//! that walk the nodes once and build a new list. What an operation means is stated once, in its module
//! under [`ops`]: attributes, shape inference and evaluation.
//!
//! [`ir::read`] and [`ir::write`](ir::write()) are the two ways between files and graphs; [`evaluate()`] runs one.
//!
//! ```
//! use flow_model::{Op, Tensor, op::BinaryKind, ops};
//!
//! let a = Tensor::from_slice(&[2, 1], &[1.0f32, 2.0])?;
//! let b = Tensor::from_slice(&[3], &[10.0f32, 20.0, 30.0])?;
//! let sums = ops::evaluate(&Op::Binary(BinaryKind::Add), &[a, b])?;
//! assert_eq!(sums[0].shape(), [2, 3]);
//! assert_eq!(sums[0].to_f32(), [11.0, 21.0, 31.0, 12.0, 22.0, 32.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

pub mod body;
pub mod error;
pub mod evaluate;
mod file;
pub mod fusing;
pub mod graph;
pub mod half;
pub mod ir;
pub mod limits;
pub mod npy;
pub mod op;
pub mod operation;
pub mod ops;
pub mod passes;
mod shapes;
pub mod storage;
pub mod tensor;
pub mod text;
pub mod unroll;

pub use error::{EvalError, ModelError, OpError};
pub use evaluate::{evaluate, evaluate_named};
pub use graph::{Dim, Graph, Node, NodeId, OutputInfo, PartialShape, Value};
pub use op::Op;
pub use operation::Operation;
pub use tensor::{ElementType, Tensor};
