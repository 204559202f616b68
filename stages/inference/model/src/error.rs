//! Errors of reading, checking and evaluating models.

use std::collections::HashMap;
use std::path::PathBuf;

/// What is wrong with an operation: attributes, number, types or shapes of its inputs. Whoever knows the layer
/// adds where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpError(pub String);

impl From<crate::tensor::TensorError> for OpError {
    fn from(error: crate::tensor::TensorError) -> Self {
        Self(error.to_string())
    }
}

/// Shorthand for an `Err(OpError)` with a formatted message.
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::error::OpError(format!($($arg)*))) };
}
pub(crate) use bail;

/// An operation that a model uses and this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownOperation {
    /// Name of the layer.
    pub layer: String,
    /// Type of the operation.
    pub kind: String,
    /// Operation set, as the file spells it.
    pub opset: String,
    /// Line of the layer.
    pub line: u32,
    /// Why it is not known, and what helps.
    pub why: String,
}

impl std::fmt::Display for UnknownOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "line {}: layer \"{}\": {} ({}): {}",
            self.line, self.layer, self.kind, self.opset, self.why
        )
    }
}

/// Most kinds of operations that a message lists.
const MAX_KINDS: usize = 40;

/// Each kind of operation once, with its first layer and how many more there are.
fn list_of(operations: &[UnknownOperation]) -> String {
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut kinds: Vec<(&UnknownOperation, usize)> = Vec::new();
    for operation in operations {
        let key = (operation.kind.as_str(), operation.opset.as_str());
        match places.get(&key).and_then(|&at| kinds.get_mut(at)) {
            Some((_, more)) => *more += 1,
            None => {
                places.insert(key, kinds.len());
                kinds.push((operation, 0));
            }
        }
    }
    let mut texts: Vec<String> = kinds
        .iter()
        .take(MAX_KINDS)
        .map(|(first, more)| match more {
            0 => first.to_string(),
            _ => format!("{first} (and {more} more of these)"),
        })
        .collect();
    if kinds.len() > MAX_KINDS {
        texts.push(format!("and {} more kinds", kinds.len() - MAX_KINDS));
    }
    texts.join("; ")
}

/// An error of a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read or written.
    #[error("{}: {action}: {source}. {help}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What to do.
        help: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file is not XML, or XML that is refused (DTD, too deep, too large).
    #[error(
        "{}:{line}:{column}: not an OpenVINO IR: {message}. Expected the .xml file of an IR v10 or v11; \
         convert other formats with OpenVINO's ovc", path.display()
    )]
    Xml {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// What is wrong.
        message: String,
    },
    /// The file is an IR, but one of its elements is wrong.
    #[error("{}:{line}: {place}: {message}. {help}", path.display())]
    Structure {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u32,
        /// Layer and type, edge, or element.
        place: String,
        /// What was expected and what was found.
        message: String,
        /// What to do.
        help: String,
    },
    /// The weights file does not hold what a constant needs.
    #[error("{}: {place}: {message}. {help}", path.display())]
    Weights {
        /// The weights file.
        path: PathBuf,
        /// Layer that needs the bytes, with the model file and line.
        place: String,
        /// What was expected and what was found.
        message: String,
        /// What to do.
        help: String,
    },
    /// The model has operations that are not known.
    #[error(
        "{}: not supported: {}. Simplify the model or export it with other operations",
        path.display(),
        list_of(operations)
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Every such layer.
        operations: Vec<UnknownOperation>,
    },
    /// Types or shapes do not fit at a layer of a graph in memory.
    #[error("layer \"{layer}\" ({kind}), line {line}: {source}")]
    Layer {
        /// Name of the layer.
        layer: String,
        /// Type of its operation.
        kind: String,
        /// Line in the model file; 0 if it is not from a file.
        line: u32,
        /// What is wrong.
        #[source]
        source: OpError,
    },
    /// A graph cannot be written as IR.
    #[error("cannot be written as IR: {0}")]
    Write(String),
}

impl ModelError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "E0601",
            Self::Xml { .. } => "E0602",
            Self::Structure { .. } => "E0603",
            Self::Weights { .. } => "E0604",
            Self::Unsupported { .. } => "E0605",
            Self::Layer { .. } => "E0606",
            Self::Write(_) => "E0607",
        }
    }
}

/// An error of an evaluation.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The inputs are not what the network takes.
    #[error("input {index} (\"{name}\"): expected {expected}, found {found}")]
    Input {
        /// Index of the input, from 0.
        index: usize,
        /// Name of the parameter.
        name: String,
        /// Type and shape of the parameter, or that there is none.
        expected: String,
        /// Type and shape given, or that there is none.
        found: String,
    },
    /// An operation cannot be evaluated.
    #[error("layer \"{layer}\" ({kind}), line {line}: {source}")]
    Layer {
        /// Name of the layer.
        layer: String,
        /// Type of its operation.
        kind: String,
        /// Line in the model file; 0 if it is not from a file.
        line: u32,
        /// What is wrong.
        #[source]
        source: OpError,
    },
    /// No value of that name.
    #[error("no layer or tensor is named \"{0}\"")]
    UnknownName(String),
}

impl EvalError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Input { .. } => "E0611",
            Self::Layer { .. } => "E0612",
            Self::UnknownName(_) => "E0613",
        }
    }
}
