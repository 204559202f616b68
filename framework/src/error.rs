//! Errors of stages, with the stable codes that `flowrun explain` knows.

use std::sync::Arc;

/// Stable error code, such as `E0107`. Ranges: E00xx reading the pipeline file, E01xx keys and values,
/// E02xx graph and ports, E03xx preparing (files, models, pins), E04xx running, E05xx decoding,
/// E06xx models and inference, E07xx outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub &'static str);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// An error of a source, stage or sink. Cheap to clone: it travels with tombstones and dead letters.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// Stable code.
    pub code: Code,
    /// What happened, where, what was expected, what was found and what to do.
    pub message: String,
    /// Whether the instance can go on with the next packet (`false`: it must be rebuilt or end).
    pub recoverable: bool,
    /// The error below, where there is one.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl StageError {
    /// An error of one packet, after which the stage goes on.
    pub fn packet(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            recoverable: true,
            source: None,
        }
    }

    /// An error after which the instance cannot go on.
    pub fn fatal(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            recoverable: false,
            source: None,
        }
    }

    /// Adds the error below.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

/// An error while a kind prepares: opening files, loading models.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// Stable code.
    pub code: Code,
    /// What is wrong and what was expected.
    pub message: String,
    /// Path of the offending key relative to the component, such as `labels` or `size[0]`; empty: the
    /// component itself.
    pub key: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Whether it comes of what consumers do not say; said only where all of them could be prepared.
    pub wants_consumers: bool,
}

impl PrepareError {
    /// An error at `key` of the component.
    pub fn new(code: Code, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            key: key.into(),
            help: None,
            wants_consumers: false,
        }
    }

    /// Marks an error that comes of what consumers do not say.
    #[must_use]
    pub fn for_want_of_consumers(mut self) -> Self {
        self.wants_consumers = true;
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
