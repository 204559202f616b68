//! Errors of the transformation.

/// Why a graph could not be transformed. What merely stays in floating point is no error: see
/// [`Report`](crate::Report).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LptError {
    /// `float_layers` names a layer that the model does not have.
    #[error(
        "option float_layers: expected the name of a layer of model \"{model}\", found \"{layer}\"; `flowrun \
         model inspect` lists the layers"
    )]
    UnknownLayer {
        /// Name of the model.
        model: String,
        /// The name given.
        layer: String,
    },
}

impl LptError {
    /// Stable code for `flowrun explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownLayer { .. } => "E0621",
        }
    }
}
