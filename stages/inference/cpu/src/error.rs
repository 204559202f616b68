//! Errors of compiling and running.

use flow_model::PartialShape;

/// Why a network cannot be compiled for the CPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A shape is open.
    #[error(
        "layer \"{layer}\" (line {line}): its shape {} is not fixed; fix the input shapes of the network, for \
         example by a batch size",
        shape_text(shape)
    )]
    DynamicShape {
        /// Name of the layer.
        layer: String,
        /// Its line in the model file; 0 if it is not from a file.
        line: u32,
        /// The shape.
        shape: PartialShape,
    },
    /// An element type that the CPU plugin does not store.
    #[error(
        "layer \"{layer}\" (line {line}): values of type {element_type} are not supported as activations"
    )]
    ElementType {
        /// Name of the layer.
        layer: String,
        /// Its line in the model file; 0 if it is not from a file.
        line: u32,
        /// Name of the type.
        element_type: &'static str,
    },
    /// The activations do not fit the address space.
    #[error(
        "the activations of the network take more than {} MiB, which is the limit; use smaller input shapes or raise \
         FLOW_MEMORY_LIMIT",
        flow_model::limits::memory() >> 20
    )]
    TooLarge,
    /// `FLOW_MAX_ISA` holds no instruction set.
    #[error(transparent)]
    Isa(#[from] crate::kernels::IsaError),
    /// A fault of the compiler itself.
    #[error("layer \"{layer}\": {message}; this is a fault of the compiler, please report it")]
    Internal {
        /// Name of the layer.
        layer: String,
        /// What happened.
        message: String,
    },
}

impl CompileError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DynamicShape { .. } => "E0651",
            Self::ElementType { .. } => "E0652",
            Self::TooLarge => "E0653",
            Self::Isa(_) => "E0654",
            Self::Internal { .. } => "E0659",
        }
    }
}

/// Why a request cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The number of inputs is wrong.
    #[error("the network takes {expected} inputs, found {found}")]
    InputCount {
        /// Inputs of the network.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// An input has a wrong length.
    #[error("input {index} (\"{name}\"): expected {expected} bytes, found {found}")]
    InputLength {
        /// Index of the input, from 0.
        index: usize,
        /// Its name.
        name: String,
        /// Bytes of the input.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// Codes were given for an input that is not quantized first.
    #[error("input {index} (\"{name}\") takes no codes: the network does not quantize it first")]
    NoCodes {
        /// Index of the input, from 0.
        index: usize,
        /// Its name.
        name: String,
    },
    /// An operation left to the reference evaluator failed.
    #[error(transparent)]
    Evaluation(#[from] flow_model::EvalError),
    /// A fault of the executor itself.
    #[error("step \"{step}\": {message}; this is a fault of the executor, please report it")]
    Internal {
        /// Name of the step.
        step: String,
        /// What happened.
        message: String,
    },
}

impl RunError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InputCount { .. } => "E0661",
            Self::InputLength { .. } => "E0662",
            Self::NoCodes { .. } => "E0663",
            Self::Evaluation(e) => e.code(),
            Self::Internal { .. } => "E0669",
        }
    }
}

fn shape_text(shape: &PartialShape) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| d.map_or("?".into(), |d| d.to_string()))
        .collect();
    format!("[{}]", dims.join(","))
}
