//! Pipeline files: from text to a checked plan, and from a checked plan to prepared components.
//!
//! | phase | function | does |
//! |---|---|---|
//! | parse | [`parse`], [`load`] | YAML to a tree with places; `--set` and the environment filled in |
//! | check | [`check`] | keys, values, graph and ports, without I/O; all errors at once |
//! | prepare | [`prepare`] | files found, models loaded, details of ports compared |
//!
//! The fourth phase, run, takes the [`PreparedPipeline`](plan::PreparedPipeline).

mod check;
mod document;
pub mod edit;
mod environment;
pub mod keys;
mod overrides;
pub(crate) mod path;
pub mod plan;
mod prepare;
mod streams;
pub mod suggest;
pub(crate) mod tree;
pub(crate) mod validate;
pub(crate) mod yaml;

pub use check::{Checked, check};
pub use document::{Document, Options, load, parse};
pub use prepare::{Details, prepare, prepare_again};
pub use streams::Matches;
pub use yaml::MAX_FILE_BYTES;
