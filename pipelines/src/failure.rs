//! The one error type of the command line.

use std::fmt::Display;
use std::io::IsTerminal;
use std::process::ExitCode;

use flow::diagnostics::Diagnostics;

/// Exit code of configuration and usage errors.
pub const USAGE: u8 = 2;
/// Exit code of a failed run.
pub const FAILED: u8 = 4;

/// Why a command ends without a result.
#[derive(Debug)]
pub enum Failure {
    /// Faults in a pipeline file.
    Pipeline(Box<Diagnostics>),
    /// Anything else: an exit code, a stable error code where there is one, and a message.
    Other {
        exit: u8,
        code: Option<String>,
        message: String,
    },
}

impl Failure {
    /// Faults in a pipeline file.
    pub fn pipeline(diagnostics: Diagnostics) -> Self {
        Self::Pipeline(Box::new(diagnostics))
    }

    /// Wrong arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Other {
            exit: USAGE,
            code: None,
            message: message.into(),
        }
    }

    /// An error that is shown with what caused it.
    pub fn failed(error: impl std::error::Error) -> Self {
        Self::Other {
            exit: FAILED,
            code: None,
            message: with_causes(&error),
        }
    }

    /// An error of loading or running a model.
    pub fn engine(error: flow_inference::EngineError) -> Self {
        use flow_inference::EngineError::{Device, DeviceSyntax};
        Self::Other {
            exit: match error {
                Device(_) | DeviceSyntax { .. } => USAGE,
                _ => FAILED,
            },
            code: Some(error.code().to_string()),
            message: with_causes(&error),
        }
    }

    /// A file that cannot be read or written; `doing` is a verb.
    pub fn file(doing: &str, path: &std::path::Path, error: impl Display) -> Self {
        Self::Other {
            exit: FAILED,
            code: None,
            message: format!("cannot {doing} {}: {error}", path.display()),
        }
    }

    /// Prints the failure to stderr and gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Pipeline(diagnostics) => {
                eprint!("{}", diagnostics.render(color()));
                ExitCode::from(USAGE)
            }
            Self::Other { exit, code, message } => {
                match code {
                    Some(code) => eprintln!("error[{code}]: {message}"),
                    None => eprintln!("error: {message}"),
                }
                ExitCode::from(exit)
            }
        }
    }
}

/// Whether stderr takes colours.
pub fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A message followed by the messages of its causes that it does not already contain.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let below = e.to_string();
        if !text.contains(&below) {
            text = format!("{text}: {below}");
        }
        cause = e.source();
    }
    text
}
