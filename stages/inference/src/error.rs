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
    /// A device that is not there.
    #[error(
        "device \"{0}\" is not there; this build has CPU (the CPU plugin) and REF (the reference evaluator, slow)"
    )]
    Device(String),
    /// A device string that makes no sense.
    #[error("device \"{request}\": {message}")]
    DeviceSyntax {
        /// The string.
        request: String,
        /// What is wrong with it, and what would do.
        message: String,
    },
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
    #[error("{}: input \"{name}\" has an open shape {shape}; state a shape for it", path.display())]
    OpenShape {
        /// The model file.
        path: PathBuf,
        /// Name of the input.
        name: String,
        /// The shape.
        shape: String,
    },
    /// An input that has no batch to set.
    #[error(
        "{}: input \"{name}\" is {shape}: its first axis is not a batch of 1, so batch {batch} cannot be set; \
         reshape the model",
        path.display()
    )]
    NoBatch {
        /// The model file.
        path: PathBuf,
        /// Name of the input.
        name: String,
        /// Its type and shape.
        shape: String,
        /// The batch that was asked for.
        batch: usize,
    },
    /// The text of a shape that cannot be read.
    #[error(
        "shape \"{0}\": expected axes in brackets such as [1,3,224,224], [?,3,32..640,32..640] or data[1,3], with the \
         name of the input in front where there are several"
    )]
    ShapeSyntax(String),
    /// A shape for an input that the model does not have.
    #[error("{}: a shape is stated for input \"{name}\", the model has {names}", path.display())]
    NoSuchInput {
        /// The model file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that there are.
        names: String,
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
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A request was started while it ran, or there is none of that number.
    #[error("request {0} is not idle")]
    Busy(usize),
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
            Self::Device(_) | Self::DeviceSyntax { .. } => "E0641",
            Self::Input { .. } => "E0642",
            Self::OpenShape { .. }
            | Self::NoBatch { .. }
            | Self::ShapeSyntax(_)
            | Self::NoSuchInput { .. } => "E0643",
            Self::Checksum { .. } => "E0644",
            Self::Io { .. } | Self::Thread(_) | Self::Busy(_) => "E0645",
        })
    }
}
