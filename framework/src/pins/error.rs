//! Pins that cannot be had.

use crate::config::plan::Pipeline;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::error::Code;

/// A pin that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Fewer CPUs than the replicas need.
    #[error(
        "`{component}` needs {needed} CPUs ({replicas} replicas of {threads}), but its pin leaves {} ({left}); \
         widen the pin, lower `replicas` or `threads`, or set `oversubscribe: true`", .found
    )]
    TooFew {
        /// The component.
        component: String,
        /// Number of CPUs needed.
        needed: usize,
        /// Number of replicas.
        replicas: usize,
        /// CPUs of each.
        threads: usize,
        /// Number of CPUs left.
        found: usize,
        /// What is left after each step of the intersection.
        left: String,
    },
    /// A named CPU that the machine lacks or that the process may not use.
    #[error(
        "`{component}` is pinned to CPU {missing}, but this process may use only {allowed}; name others, or widen \
         its cpuset"
    )]
    NotAllowed {
        /// The component.
        component: String,
        /// CPUs that cannot be had, as a list.
        missing: String,
        /// CPUs the process may use, as a list.
        allowed: String,
    },
    /// Both ends of an edge on one logical CPU.
    #[error(
        "`{producer}` and `{consumer}` hand packets to each other and are both pinned to CPU {cpu} alone: each would \
         wait for the other's time slice; pin them to different CPUs, or set `oversubscribe: true` on one of them"
    )]
    SharedByEdge {
        /// Component that gives.
        producer: String,
        /// Component that takes.
        consumer: String,
        /// The CPU.
        cpu: usize,
    },
    /// The machine's topology cannot be read.
    #[error(
        "the topology of this machine cannot be read from hwloc or /sys, so that nothing can be pinned; leave out `pin`"
    )]
    NoTopology,
}

impl PinError {
    /// Stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::TooFew { .. } => Code("E0331"),
            Self::NotAllowed { .. } => Code("E0332"),
            Self::SharedByEdge { .. } => Code("E0333"),
            Self::NoTopology => Code("E0334"),
        }
    }
}

/// The errors with their places in the pipeline file.
pub fn diagnostics(pipeline: &Pipeline, errors: &[PinError]) -> Diagnostics {
    let mut found = Diagnostics::new(pipeline.sources.clone());
    for error in errors {
        let name = match error {
            PinError::TooFew { component, .. } | PinError::NotAllowed { component, .. } => component.as_str(),
            PinError::SharedByEdge { consumer, .. } => consumer.as_str(),
            PinError::NoTopology => "",
        };
        let pin = pipeline.component(name).and_then(|(_, c)| c.pin.as_ref());
        let span = pin.map(|pin| pin.span).unwrap_or_default();
        // What to do stands behind the semicolon.
        let message = error.to_string();
        let (what, help) = message.split_once("; ").unwrap_or((&message, ""));
        let mut diagnostic = Diagnostic::error(error.code(), span, what);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        found.push(diagnostic);
    }
    found.sort();
    found
}
