//! Errors of loading and running networks.

use std::path::PathBuf;

use flow::error::Code;

/// What can go wrong with a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model file cannot be read.
    #[error(transparent)]
    Model(#[from] flow_model::ModelError),
    /// The low precision transformations failed.
    #[error(transparent)]
    Lpt(#[from] flow_lpt::LptError),
    /// The network cannot be compiled.
    #[error("{}: {source}", path.display())]
    Compile {
        /// The model file.
        path: PathBuf,
        /// Why.
        #[source]
        source: flow_cpu::CompileError,
    },
    /// A run failed.
    #[error(transparent)]
    Run(#[from] flow_cpu::RunError),
    /// The reference evaluator failed.
    #[error(transparent)]
    Evaluation(#[from] flow_model::EvalError),
    /// A device that does not exist or is not built in.
    #[error(
        "device \"{0}\" is not available in this build; expected CPU (fast) or REF (the reference evaluator)"
    )]
    Device(String),
    /// An input that does not fit the network.
    #[error("input {index} (\"{name}\"): expected {expected}, found {found}")]
    Input {
        /// Index of the input, from 0.
        index: usize,
        /// Its name.
        name: String,
        /// What the network takes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An input whose shape is open and was not fixed.
    #[error("{}: input \"{name}\" has an open shape {shape}; state a batch or a shape for it", path.display())]
    OpenShape {
        /// The model file.
        path: PathBuf,
        /// Name of the input.
        name: String,
        /// The shape.
        shape: String,
    },
    /// The checksum of a model file is not the one stated.
    #[error(
        "{}: SHA-256 is {found}, expected {expected}; the file is not the one the pipeline was written for",
        path.display()
    )]
    Checksum {
        /// The model file.
        path: PathBuf,
        /// As stated.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl EngineError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> Code {
        Code(match self {
            Self::Model(e) => e.code(),
            Self::Lpt(e) => e.code(),
            Self::Compile { source, .. } => source.code(),
            Self::Run(e) => e.code(),
            Self::Evaluation(e) => e.code(),
            Self::Device(_) => "E0641",
            Self::Input { .. } => "E0642",
            Self::OpenShape { .. } => "E0643",
            Self::Checksum { .. } => "E0644",
            Self::Io { .. } => "E0645",
        })
    }
}
